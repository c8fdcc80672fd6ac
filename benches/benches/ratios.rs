//! The figures of the README: `cargo bench -p fanfare-benches --bench ratios [-- table] [--once]`
//!
//! Contenders take turns within one process, round after round, so that what the machine does
//! meanwhile hits all of them alike. Each line is one JSON object: nanoseconds are medians over the
//! rounds, the ratio is the median of the rounds' ratios to the contender named in `against`. Both are
//! then the medians of five processes, unless there is `--once`. `src/bin/plot.rs` draws a table.
//!
//! Tables: `emit`, `threads`, `names`, `growth`, `churn`, `joins`; all without an argument.

#![allow(missing_docs, reason = "a program")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use fanfare::channel::Channel;
use fanfare::dispatch::Subscription;
use fanfare::group::ChannelBox;
use fanfare::{Dispatcher, Event, Key};
use fanfare_benches::{
    Call, Locked, Payload, Random, call_each, in_processes, line, listener, median, packed, quantile, raw,
};

const ROUNDS: usize = 41;
const BENCH: Key<Payload> = Key::new("bench");

fn main() {
    in_processes(run);
}

fn run() {
    let tables: [(&str, fn()); 6] = [
        ("emit", emits),
        ("threads", threads),
        ("names", names),
        ("growth", growth),
        ("churn", churn),
        ("joins", joins),
    ];
    // cargo adds `--bench` itself.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|asked| tables.iter().all(|(table, _)| table != asked)) {
        eprintln!("no table `{unknown}`; there are {:?}", tables.map(|(name, _)| name));
        std::process::exit(2);
    }
    for (name, table) in tables {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            table();
        }
    }
}

/// One way to do the job: does it this many times.
type Contender<'a> = (&'static str, Box<dyn FnMut(usize) + 'a>);

/// Runs the contenders in turns; the first is what the others are compared with.
fn compare(case: &str, times: usize, mut contenders: Vec<Contender<'_>>) {
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..ROUNDS + 2 {
        for turn in 0..contenders.len() {
            // Another one begins each round: nobody always runs behind the same neighbour.
            let at = (turn + round) % contenders.len();
            let start = Instant::now();
            contenders[at].1(times);
            let ns = start.elapsed().as_nanos() as f64 / times as f64;
            if round >= 2 {
                rounds[at].push(ns);
            }
        }
    }
    let against = contenders[0].0;
    for (at, (name, _)) in contenders.iter().enumerate() {
        let ratio = median(rounds[at].iter().zip(&rounds[0]).map(|(ns, base)| ns / base).collect());
        line(&format!("{case} {name}"), median(rounds[at].clone()), ratio, against);
    }
}

fn event(events: &Dispatcher) -> Event<Payload> {
    events.event(BENCH).expect("the name is good")
}

/// A dispatcher that does not warn of its many listeners.
fn dispatcher() -> Dispatcher {
    Dispatcher::builder().warn_above(None).build()
}

/// What does an emit cost?
fn emits() {
    nobody_listens();
    for listeners in [1, 16, 1000] {
        emit(listeners);
    }
}

fn nobody_listens() {
    let payload = Payload::default();
    let word = AtomicUsize::new(0);
    let event = event(&dispatcher());
    let mut publisher = event.publisher();
    compare(
        "N=0",
        200_000,
        vec![
            ("load", Box::new(|n| (0..n).for_each(|_| _ = black_box(black_box(&word).load(Ordering::Relaxed))))),
            ("event", Box::new(|n| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload))))))),
            ("publisher", Box::new(|n| (0..n).for_each(|_| drop(black_box(publisher.emit(black_box(&payload))))))),
        ],
    );
}

fn emit(listeners: usize) {
    let payload = Payload { amount: 1, ..Payload::default() };
    // Filled one after the other, as one of them alone would be.
    let calls = raw(listeners);
    let packed = packed(listeners);
    let swapped = ArcSwap::new(Arc::new(raw(listeners)));
    let locked = Locked::new(listeners);
    let events = dispatcher();
    let event = event(&events);
    for _ in 0..listeners {
        event.on(listener());
    }
    let mut publisher = event.publisher();
    compare(
        &format!("N={listeners}"),
        (200_000 / listeners.max(4)).max(100),
        vec![
            ("raw", Box::new(|n| (0..n).for_each(|_| one_by_one(black_box(&calls), black_box(&payload))))),
            ("unrolled", Box::new(|n| (0..n).for_each(|_| call_each(black_box(&calls), black_box(&payload))))),
            ("packed", Box::new(|n| (0..n).for_each(|_| call_each(black_box(&packed), black_box(&payload))))),
            (
                "arc_swap",
                Box::new(|n| (0..n).for_each(|_| call_each(&black_box(&swapped).load(), black_box(&payload)))),
            ),
            ("publisher", Box::new(|n| (0..n).for_each(|_| drop(black_box(publisher.emit(black_box(&payload))))))),
            ("event", Box::new(|n| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload))))))),
            ("name", Box::new(|n| (0..n).for_each(|_| drop(black_box(events.emit("bench", black_box(&payload))))))),
            ("emit_async", Box::new(|n| (0..n).for_each(|_| poll_once(event.emit_async(black_box(&payload)))))),
            ("rwlock", Box::new(|n| (0..n).for_each(|_| black_box(&locked).emit(black_box(&payload))))),
        ],
    );
}

/// The loop that one writes. Beside `call_each` it shows what its place in a cache line costs it.
#[inline(always)]
fn one_by_one(calls: &[Call], payload: &Payload) {
    calls.iter().for_each(|call| call(payload));
}

fn poll_once(future: impl Future) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(future).poll(&mut context).is_ready(), "sync listeners are ready at the first poll");
}

/// One event, one listener without a shared cell: what does a thread pay for its neighbours?
fn threads() {
    let event = event(&dispatcher());
    event.on(|payload: &Payload| _ = black_box(payload.amount));
    let payload = Payload::default();
    let locked = std::sync::RwLock::new(vec![Arc::new(|payload: &Payload| _ = black_box(payload.amount)) as Call]);
    let at_event = |n: usize| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload)))));
    let at_publisher = |n: usize| {
        let mut publisher = event.publisher();
        (0..n).for_each(|_| drop(black_box(publisher.emit(black_box(&payload)))));
    };
    let at_lock = |n: usize| {
        for _ in 0..n {
            locked.read().expect("nobody panics").iter().for_each(|call| call(black_box(&payload)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [2, 16] {
        if threads > cores {
            eprintln!("SKIPPED: {threads} threads: there are {cores} cores");
            continue;
        }
        let jobs: [(&str, &(dyn Fn(usize) + Sync)); 3] =
            [("event", &at_event), ("publisher", &at_publisher), ("rwlock", &at_lock)];
        for (name, job) in jobs {
            let mut figures = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                figures[0].push(per_thread(1, 100_000, job));
                figures[1].push(per_thread(threads, 100_000, job));
            }
            let ratio = median(figures[1].iter().zip(&figures[0]).map(|(many, one)| many / one).collect());
            line(&format!("N=1 {threads} threads {name}"), median(figures[1].clone()), ratio, "one thread");
        }
    }
}

/// Returns the nanoseconds per call of the median thread.
fn per_thread(threads: usize, times: usize, job: &(dyn Fn(usize) + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let run = || {
        job(1000);
        barrier.wait();
        let start = Instant::now();
        job(times);
        start.elapsed().as_nanos() as f64 / times as f64
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut figures = vec![run()];
        figures.extend(others.into_iter().map(|thread| thread.join().expect("a job does not panic")));
        median(figures)
    })
}

/// What does a look-up cost, and a name that was not there?
fn names() {
    let payload = Payload { amount: 1, ..Payload::default() };
    let events = dispatcher();
    let mut locked = HashMap::new();
    for n in 0..100_000 {
        let name = format!("event.{n}");
        events.on(&name, listener()).expect("the name is good");
        locked.insert(name, raw(1));
    }
    let locked = Mutex::new(locked);
    events.on(BENCH, listener()).expect("the name is good");
    compare(
        "100 000 names",
        50_000,
        vec![
            (
                "mutex",
                Box::new(|n| {
                    for _ in 0..n {
                        let locked = locked.lock().expect("nobody panics");
                        locked[black_box("event.4711")].iter().for_each(|call| call(black_box(&payload)));
                    }
                }),
            ),
            (
                "name",
                Box::new(|n| {
                    (0..n).for_each(|_| drop(black_box(events.emit(black_box("event.4711"), black_box(&payload)))));
                }),
            ),
            (
                "key",
                Box::new(|n| (0..n).for_each(|_| drop(black_box(events.emit(black_box(BENCH), black_box(&payload)))))),
            ),
        ],
    );
    million();
}

/// New names, up to a million: the last ten thousand beside the first.
fn million() {
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        let events = dispatcher();
        let names: Vec<String> = (0..1_000_000).map(|n| format!("event.{n}")).collect();
        let time = |names: &[String]| {
            let start = Instant::now();
            for name in names {
                events.on(name, listener()).expect("the name is good");
            }
            start.elapsed().as_nanos() as f64 / names.len() as f64
        };
        figures[0].push(time(&names[..10_000]));
        time(&names[10_000..990_000]);
        figures[1].push(time(&names[990_000..]));
    }
    let [first, last] = figures.map(median);
    line("new name at 0", first, 1.0, "new name at 0");
    line("new name at 1 000 000", last, last / first, "new name at 0");
}

/// What do `on` and `off` of a random listener cost beside many others?
fn growth() {
    for priorities in ["equal", "random"] {
        for listeners in [100, 10_000, 100_000] {
            let event = event(&dispatcher());
            let mut random = Random::new(7);
            let on = |random: &mut Random| {
                let priority = if priorities == "equal" { 0 } else { random.below(1000) as i32 };
                event.listen().priority(priority).on(listener())
            };
            let mut subscriptions: Vec<Subscription> = (0..listeners).map(|_| on(&mut random)).collect();
            let mut figures = [Vec::new(), Vec::new()];
            for pair in 0..12_000 {
                let start = Instant::now();
                let added = on(&mut random);
                let between = Instant::now();
                let at = random.below(listeners);
                let removed = std::mem::replace(&mut subscriptions[at], added);
                let before = Instant::now();
                assert!(removed.off());
                let end = Instant::now();
                // The first ten thousand pairs wear the table in.
                if pair >= 10_000 {
                    figures[0].push((between - start).as_nanos() as f64);
                    figures[1].push((end - before).as_nanos() as f64);
                }
            }
            let [on, off] = figures.map(median);
            line(&format!("{listeners} listeners, {priorities} priorities, on"), on, 1.0, "on");
            line(&format!("{listeners} listeners, {priorities} priorities, off"), off, off / on, "on");
        }
    }
}

/// How late can an emit be while another thread registers and takes off all the time?
fn churn() {
    let payload = Payload { amount: 1, ..Payload::default() };
    let event = event(&dispatcher());
    for _ in 0..1000 {
        event.on(listener());
    }
    for quiet in [true, false] {
        let done = AtomicBool::new(false);
        let figures = std::thread::scope(|scope| {
            if !quiet {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert!(event.on(listener()).off());
                    }
                });
            }
            let figures: Vec<f64> = (0..200_000)
                .map(|_| {
                    let start = Instant::now();
                    drop(black_box(event.emit(black_box(&payload))));
                    start.elapsed().as_nanos() as f64
                })
                .collect();
            done.store(true, Ordering::Relaxed);
            figures
        });
        let beside = if quiet { "alone" } else { "beside on and off" };
        let p50 = median(figures.clone());
        line(&format!("N=1000 {beside} p50"), p50, 1.0, "p50");
        let p99 = quantile(figures, 0.99);
        line(&format!("N=1000 {beside} p99"), p99, p99 / p50, "p50");
    }
}

/// 10 000 joins to one group: the last thousand beside the first.
fn joins() {
    let mut thousands = vec![Vec::new(); 10];
    for _ in 0..7 {
        let channels = ChannelBox::new();
        let clients: Vec<_> = (0..10_000).map(|_| Channel::in_memory()).collect();
        let mut members = Vec::with_capacity(clients.len());
        for (thousand, clients) in clients.chunks(1000).enumerate() {
            let start = Instant::now();
            members
                .extend(clients.iter().map(|(channel, _)| channels.join(channel, "bench").expect("the name is good")));
            thousands[thousand].push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    let first = median(thousands[0].clone());
    for (at, figures) in thousands.into_iter().enumerate() {
        let ns = median(figures);
        line(&format!("join {}..{}", at * 1000, (at + 1) * 1000), ns, ns / first, "join 0..1000");
    }
}
