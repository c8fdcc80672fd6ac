//! What several test files need: an event, a log of calls, values that break when dropped, polls by hand.

#![allow(dead_code, reason = "no program of tests uses all of it")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use fanfare::{Dispatcher, Event, Key};
use tokio::sync::Semaphore;

pub(crate) const TICK: Key<u32> = Key::new("tick");

pub(crate) fn tick() -> Event<u32> {
    Dispatcher::new().event(TICK).expect("the key is good")
}

/// Who was called, in order.
pub(crate) type Log = Arc<Mutex<Vec<&'static str>>>;

/// A listener that writes itself into the log.
pub(crate) fn note(log: &Log, what: &'static str) -> impl Fn(&u32) + Send + Sync + 'static {
    let log = Arc::clone(log);
    move |_| push(&log, what)
}

pub(crate) fn push(log: &Log, what: &'static str) {
    log.lock().expect("no test panics with it").push(what);
}

pub(crate) fn taken(log: &Log) -> Vec<&'static str> {
    std::mem::take(&mut log.lock().expect("no test panics with it"))
}

/// The text of every failure that the dispatcher's hook is told of.
pub(crate) fn told(events: &Dispatcher) -> Arc<Mutex<Vec<String>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let texts = Arc::clone(&told);
    events.on_error(move |failure| texts.lock().expect("no test panics with it").push(failure.to_string()));
    told
}

/// Panics when it is dropped.
pub(crate) struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

/// Panics; of a type that closures infer as `()`.
pub(crate) fn fall(message: &'static str) {
    if true {
        panic!("{message}")
    }
}

/// An async listener that writes its start and its end, and needs a permit of the gate in between.
pub(crate) fn gated(
    gate: &Arc<Semaphore>,
    log: &Log,
    [start, end]: [&'static str; 2],
) -> impl Fn(Arc<u32>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static {
    let (gate, log) = (Arc::clone(gate), Arc::clone(log));
    move |_| {
        let (gate, log) = (Arc::clone(&gate), Arc::clone(&log));
        Box::pin(async move {
            push(&log, start);
            gate.acquire().await.expect("nobody closes it").forget();
            push(&log, end);
        })
    }
}

pub(crate) fn closed_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that remembers that it was called.
#[derive(Default)]
pub(crate) struct Woken(AtomicBool);

impl Woken {
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }

    pub(crate) fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(self));
        future.poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}
