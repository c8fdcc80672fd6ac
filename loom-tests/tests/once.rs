//! Claims: a once listener runs exactly once, and a times(n) listener exactly n times, when threads emit at the same
//! time and when the listener itself emits.
//!
//! Planted fault: `once_load_store` claims a call by a load and a store instead of a compare-and-swap.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare::{Dispatcher, Event};
use loom::thread;

fn event() -> Event<u32> {
    Dispatcher::new().event("x").expect("the name is good")
}

#[test]
fn once_runs_once_under_two_emitters() {
    loom::model(|| {
        let runs = Arc::new(AtomicUsize::new(0));
        let event = event();
        let counter = Arc::clone(&runs);
        event.once(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
        let other = event.clone();
        let emitter = thread::spawn(move || other.emit(&1).ran());
        let ran = event.emit(&2).ran() + emitter.join().expect("an emit does not panic");
        assert_eq!(runs.load(Ordering::Relaxed), 1, "the once listener ran not once");
        assert_eq!(ran, 1, "the once listener was reported not once");
        assert_eq!(event.listener_count(), 0, "the spent listener stayed");
    });
}

#[test]
fn times_runs_that_often_under_two_emitters() {
    loom::model(|| {
        let event = event();
        event.listen().times(2).on(|_| {});
        let other = event.clone();
        let emitter = thread::spawn(move || other.emit(&1).ran() + other.emit(&2).ran());
        let ran = event.emit(&3).ran() + emitter.join().expect("an emit does not panic");
        assert_eq!(ran, 2, "the listener of two times ran not twice");
        assert_eq!(event.listener_count(), 0, "the spent listener stayed");
    });
}

#[test]
fn a_listener_that_emits_itself_runs_as_often_as_it_may() {
    loom::model(|| {
        let runs = Arc::new(AtomicUsize::new(0));
        let event = event();
        let (counter, inner) = (Arc::clone(&runs), event.clone());
        event.listen().times(2).on(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            inner.emit(&0);
        });
        let other = event.clone();
        let emitter = thread::spawn(move || drop(other.emit(&1)));
        event.emit(&2);
        emitter.join().expect("an emit does not panic");
        assert_eq!(runs.load(Ordering::Relaxed), 2, "the listener of two times ran not twice");
        // The listener holds its own event. Taken off, it no longer keeps the event alive.
        assert_eq!(event.listener_count(), 0, "the spent listener stayed");
    });
}
