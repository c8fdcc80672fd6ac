//! `event.emit` beside other people's crates:
//! `cargo bench --manifest-path benches/peers/Cargo.toml --bench ratios [-- --once]`
//!
//! Everybody does the same job: one emit hands a payload of 32 bytes to each of N listeners, which
//! have run when it is over. Contenders take turns within one process, round after round. Each line is
//! one JSON object: nanoseconds of one emit are medians over the rounds, the ratio is the median of
//! the rounds' ratios to fanfare. Both are then the medians of five processes, unless there is `--once`.
//!
//! Where a crate wants more than a reference to the payload, it gets what it wants in the cheapest
//! way its API allows; the comment at its function says what that is.

#![allow(missing_docs, reason = "a program")]

use std::future::ready;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Waker};
use std::time::Instant;

use async_event_emitter::AsyncEventEmitter;
use bevy_ecs::observer::On;
use bevy_ecs::world::World;
use event_bus::{EventBus, dispatch_event, subscribe_event};
use fanfare::Dispatcher;
use fanfare_benches::{Call, Payload, call_each, in_processes, line, listener, median};
use reovim_kernel::api::v1 as reovim;
use rs_events::EventHandler;
use signals2::{Connect1, Emit1};
use tokio::sync::broadcast;

const ROUNDS: usize = 41;

/// A turn takes at least this long: short enough for many rounds, long beside the start of a thread.
const TURN_NS: f64 = 1e7;

fn main() {
    in_processes(run);
}

fn run() {
    for listeners in [1, 16, 1000] {
        one_thread(listeners);
    }
    two_threads();
}

fn one_thread(listeners: usize) {
    compare(
        &format!("N={listeners}"),
        vec![
            ("fanfare", alone(fanfare(listeners, listener))),
            ("raw", alone(raw(listeners, listener))),
            ("signals2", alone(signals2(listeners, listener))),
            ("reovim-kernel", alone(reovim_emit(listeners, listener))),
            ("reovim-kernel dispatch", alone(reovim_dispatch(listeners, listener))),
            ("rs_events", alone(rs_events(listeners, listener))),
            ("event-bus", alone(event_bus(listeners, listener))),
            ("async-event-emitter", alone(async_event_emitter(listeners, listener))),
            ("bevy_ecs", alone(bevy_ecs(listeners, listener))),
            ("tokio broadcast", alone(tokio_broadcast(listeners, listener))),
            ("crossbeam-channel", alone(crossbeam_channel(listeners, listener))),
        ],
    );
}

/// Two threads emit one event, whose listener has no cell: what they pay for each other is the crate's doing.
///
/// The figures of those who share a lock or a counter depend on which cores the threads get: compare several runs.
/// Without bevy_ecs: a trigger needs `&mut World`, so there is never a second thread.
fn two_threads() {
    let listener = || |payload: &Payload| _ = black_box(payload.amount);
    compare(
        "N=1 two threads",
        vec![
            ("fanfare", together(fanfare(1, listener))),
            ("raw", together(raw(1, listener))),
            ("signals2", together(signals2(1, listener))),
            ("reovim-kernel", together(reovim_emit(1, listener))),
            ("reovim-kernel dispatch", together(reovim_dispatch(1, listener))),
            ("rs_events", together(rs_events(1, listener))),
            ("event-bus", together(event_bus(1, listener))),
            ("async-event-emitter", together(async_event_emitter(1, listener))),
            ("tokio broadcast", together(tokio_broadcast_shared(listener))),
            ("crossbeam-channel", together(crossbeam_channel(1, listener))),
        ],
    );
}

/// Emits this many times and returns the nanoseconds of one emit.
type Turn = Box<dyn FnMut(usize) -> f64>;

/// Runs the contenders in turns; the first is what the others are compared with.
fn compare(case: &str, mut contenders: Vec<(&str, Turn)>) {
    let times: Vec<_> = contenders.iter_mut().map(|(_, turn)| enough(turn)).collect();
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..ROUNDS {
        for turn in 0..contenders.len() {
            // Another one begins each round: nobody always runs behind the same neighbour.
            let at = (turn + round) % contenders.len();
            rounds[at].push(contenders[at].1(times[at]));
        }
    }
    let against = contenders[0].0;
    for ((name, _), figures) in contenders.iter().zip(&rounds) {
        let ratio = median(figures.iter().zip(&rounds[0]).map(|(ns, base)| ns / base).collect());
        line(&format!("{case} {name}"), median(figures.clone()), ratio, against);
    }
}

/// Returns how many emits fill a turn, and warms the contender up on the way.
fn enough(turn: &mut Turn) -> usize {
    let mut times = 16;
    while turn(times) * (times as f64) < TURN_NS {
        times *= 2;
    }
    times
}

fn alone(mut job: impl FnMut(usize) + 'static) -> Turn {
    Box::new(move |times| timed(times, &mut job))
}

fn timed(times: usize, mut job: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    job(times);
    start.elapsed().as_nanos() as f64 / times as f64
}

/// Two threads begin together; the slower one's figure counts.
fn together(job: impl Fn(usize) + Sync + 'static) -> Turn {
    Box::new(move |times| {
        let barrier = Barrier::new(2);
        let run = || {
            barrier.wait();
            timed(times, &job)
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(run);
            run().max(other.join().expect("a job does not panic"))
        })
    })
}

trait Listener: Fn(&Payload) + Send + Sync + 'static {}

impl<F: Fn(&Payload) + Send + Sync + 'static> Listener for F {}

fn payload() -> Payload {
    Payload { amount: 1, ..Payload::default() }
}

fn fanfare<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    // It would warn of a thousand listeners.
    let events = Dispatcher::builder().warn_above(None).build();
    let event = events.event::<Payload>("bench").expect("the name is good");
    for _ in 0..listeners {
        event.on(listener());
    }
    let payload = payload();
    move |times| (0..times).for_each(|_| drop(black_box(event.emit(black_box(&payload)))))
}

/// The floor: a vector that nobody can change, and a loop.
fn raw<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let calls = calls(listeners, listener);
    let payload = payload();
    move |times| (0..times).for_each(|_| call_each(black_box(&calls), black_box(&payload)))
}

fn calls<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> Vec<Call> {
    (0..listeners).map(|_| Arc::new(listener()) as Call).collect()
}

/// Wants a payload by value, and clones it for each listener: 32 bytes are cheaper to copy than an `Arc`.
fn signals2<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let signal = signals2::Signal::<(Payload,)>::new();
    for _ in 0..listeners {
        let call = listener();
        signal.connect(move |payload| call(&payload));
    }
    let payload = payload();
    move |times| (0..times).for_each(|_| _ = black_box(signal.emit(black_box(&payload).clone())))
}

/// The payload, for crates that want their own trait on it.
#[derive(Debug, bevy_ecs::event::Event)]
struct Event(Payload);

impl event_bus::Event for Event {}

impl reovim::Event for Event {}

/// The crate's `emit` wants the event by value, and boxes it.
fn reovim_emit<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let (bus, subscriptions) = reovim_bus(listeners, listener);
    let payload = payload();
    move |times| {
        _ = &subscriptions;
        (0..times).for_each(|_| _ = black_box(bus.emit(Event(black_box(&payload).clone()))));
    }
}

/// The same with an event that was boxed before the clock ran.
fn reovim_dispatch<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let (bus, subscriptions) = reovim_bus(listeners, listener);
    let event = reovim::DynEvent::new(Event(payload()));
    move |times| {
        _ = &subscriptions;
        (0..times).for_each(|_| _ = black_box(bus.dispatch(black_box(&event))));
    }
}

/// A listener is gone when its subscription is dropped: the caller keeps them.
fn reovim_bus<L: Listener>(
    listeners: usize,
    listener: impl Fn() -> L,
) -> (reovim::EventBus, Vec<reovim::Subscription>) {
    let bus = reovim::EventBus::new();
    let subscribe = |call: L| {
        bus.subscribe(100, move |event: &Event| {
            call(&event.0);
            reovim::EventResult::Handled
        })
    };
    let subscriptions = (0..listeners).map(|_| subscribe(listener())).collect();
    (bus, subscriptions)
}

/// Wants the payload in an `Arc`: a thread clones its own. Emits through `&mut`: a thread has its own clone
/// of the emitter, which shares the listeners. They run under a write lock.
fn rs_events<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let mut emitter = rs_events::EventEmitter::new(listeners);
    for _ in 0..listeners {
        let call = listener();
        emitter.add("bench", None, Arc::new(move |payload| call(payload))).expect("there is room");
    }
    move |times| {
        let mut emitter = emitter.clone();
        let payload = Arc::new(payload());
        for _ in 0..times {
            drop(black_box(emitter.emit("bench", black_box(&payload).clone())));
        }
    }
}

/// Wants the event by `&mut`: a thread has its own. The listeners run under two read locks.
fn event_bus<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let bus = EventBus::new("bench");
    for _ in 0..listeners {
        let call = listener();
        subscribe_event("bench", move |event: &mut Event| call(&event.0), 0);
    }
    move |times| {
        // When the bus is dropped, its listeners are gone.
        _ = &bus;
        let mut event = Event(payload());
        (0..times).for_each(|_| dispatch_event("bench", black_box(&mut event)));
    }
}

/// Serialises the payload once, deserialises it for each listener, and awaits a boxed future of each.
/// A tuple, as the payload has no serde; its encoding is the same 32 bytes.
fn async_event_emitter<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let emitter = AsyncEventEmitter::new();
    for _ in 0..listeners {
        let call = listener();
        emitter.on("bench", move |(amount, rest)| {
            call(&Payload { amount, rest });
            ready(())
        });
    }
    let payload = payload();
    move |times| {
        for _ in 0..times {
            let payload = black_box(&payload);
            poll_once(emitter.emit("bench", (payload.amount, payload.rest)));
        }
    }
}

fn poll_once<T>(future: impl Future<Output = T>) {
    let mut context = Context::from_waker(Waker::noop());
    let poll = pin!(future).poll(&mut context);
    assert!(black_box(poll).is_ready(), "listeners that do not wait are ready at the first poll");
}

/// Wants the event by `&mut`, and the world too.
fn bevy_ecs<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl FnMut(usize) {
    let mut world = World::new();
    for _ in 0..listeners {
        let call = listener();
        world.add_observer(move |event: On<Event>| call(&event.0));
    }
    let mut event = Event(payload());
    move |times| (0..times).for_each(|_| world.trigger_ref(black_box(&mut event)))
}

/// Not a dispatcher: one send, then each listener takes its clone from its receiver, on the same thread.
fn tokio_broadcast<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl FnMut(usize) {
    let (sender, _) = broadcast::channel(2);
    let mut receivers: Vec<_> = calls(listeners, listener).into_iter().map(|call| (call, sender.subscribe())).collect();
    let payload = payload();
    move |times| {
        for _ in 0..times {
            sender.send(black_box(&payload).clone()).expect("receivers are there");
            for (call, receiver) in &mut receivers {
                call(&receiver.try_recv().expect("one was sent"));
            }
        }
    }
}

/// Receives through `&mut`: the threads take turns at the one receiver.
fn tokio_broadcast_shared<L: Listener>(listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let (sender, receiver) = broadcast::channel(2);
    let receiver = Mutex::new(receiver);
    let call = listener();
    let payload = payload();
    move |times| {
        for _ in 0..times {
            sender.send(black_box(&payload).clone()).expect("a receiver is there");
            let received = receiver.lock().expect("nobody panics").try_recv();
            call(&received.expect("one was sent for each thread that takes one"));
        }
    }
}

/// Not a dispatcher: one channel for each listener, which takes its copy on the same thread, right after the send.
/// Two threads share a channel, and each takes one payload for one it sent.
fn crossbeam_channel<L: Listener>(listeners: usize, listener: impl Fn() -> L) -> impl Fn(usize) + Sync {
    let channels: Vec<_> =
        calls(listeners, listener).into_iter().map(|call| (call, crossbeam_channel::bounded(2))).collect();
    let payload = payload();
    move |times| {
        for _ in 0..times {
            for (call, (sender, receiver)) in &channels {
                sender.send(black_box(&payload).clone()).expect("the receiver is there");
                call(&receiver.try_recv().expect("one was sent for each thread that takes one"));
            }
        }
    }
}
