//! The figures of the README: `cargo bench -p fanfare-benches --bench ratios`
//!
//! Contenders take turns within one process, round after round, so that what the machine does
//! meanwhile hits all of them alike. Each line is one JSON object: nanoseconds are medians over the
//! rounds, the ratio is the median of the rounds' ratios to the contender named in `against`.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use arc_swap::ArcSwap;
use fanfare::Dispatcher;
use fanfare::channel::Channel;
use fanfare::group::ChannelBox;
use fanfare_benches::{Call, Locked, Payload, listener, raw};

const ROUNDS: usize = 41;

fn main() {
    nobody_listens();
    for listeners in [1, 16, 1000] {
        emit(listeners);
    }
    threads();
    joins();
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

fn line(case: &str, ns: f64, ratio: f64, against: &str) {
    println!(r#"{{"case":"{case}","ns":{ns:.2},"ratio":{ratio:.3},"against":"{against}"}}"#);
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn nobody_listens() {
    let payload = Payload::default();
    let word = AtomicUsize::new(0);
    let events = Dispatcher::new();
    let event = events.event::<Payload>("bench").expect("the name is good");
    compare(
        "N=0",
        200_000,
        vec![
            ("load", Box::new(|n| (0..n).for_each(|_| _ = black_box(black_box(&word).load(Ordering::Relaxed))))),
            ("event", Box::new(|n| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload))))))),
        ],
    );
}

fn emit(listeners: usize) {
    let payload = Payload { amount: 1, ..Payload::default() };
    let events = Dispatcher::new();
    let event = events.event::<Payload>("bench").expect("the name is good");
    for _ in 0..listeners {
        event.on(listener());
    }
    let calls = raw(listeners);
    let swapped = ArcSwap::new(Arc::new(raw(listeners)));
    let locked = Locked::new(listeners);
    let run = |calls: &Vec<Call>| calls.iter().for_each(|call| call(black_box(&payload)));
    compare(
        &format!("N={listeners}"),
        (200_000 / listeners.max(4)).max(100),
        vec![
            ("raw", Box::new(|n| (0..n).for_each(|_| run(black_box(&calls))))),
            ("arc_swap", Box::new(|n| (0..n).for_each(|_| run(&black_box(&swapped).load())))),
            ("event", Box::new(|n| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload))))))),
            ("name", Box::new(|n| (0..n).for_each(|_| drop(black_box(events.emit("bench", black_box(&payload))))))),
            ("emit_async", Box::new(|n| (0..n).for_each(|_| poll_once(event.emit_async(black_box(&payload)))))),
            ("rwlock", Box::new(|n| (0..n).for_each(|_| black_box(&locked).emit(black_box(&payload))))),
        ],
    );
}

fn poll_once(future: impl Future) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(future).poll(&mut context).is_ready(), "sync listeners are ready at the first poll");
}

/// One event, one listener without a shared cell, one and two threads: what a thread pays for its neighbour.
fn threads() {
    let events = Dispatcher::new();
    let event = events.event::<Payload>("bench").expect("the name is good");
    event.on(|payload: &Payload| _ = black_box(payload.amount));
    let payload = Payload::default();
    let locked = std::sync::RwLock::new(vec![Arc::new(|payload: &Payload| _ = black_box(payload.amount)) as Call]);
    let at_event = |n: usize| (0..n).for_each(|_| drop(black_box(event.emit(black_box(&payload)))));
    let at_lock = |n: usize| {
        for _ in 0..n {
            locked.read().expect("nobody panics").iter().for_each(|call| call(black_box(&payload)));
        }
    };
    for (name, job) in [("event", &at_event as &(dyn Fn(usize) + Sync)), ("rwlock", &at_lock)] {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            figures[0].push(per_thread(1, 100_000, job));
            figures[1].push(per_thread(2, 100_000, job));
        }
        let ratio = median(figures[1].iter().zip(&figures[0]).map(|(two, one)| two / one).collect());
        line(&format!("N=1 two threads {name}"), median(figures[1].clone()), ratio, "one thread");
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
