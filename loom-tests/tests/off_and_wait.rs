//! Claims: when `off_and_wait` returns, no call of its listener runs or will run, and what its calls wrote is visible.
//!
//! Planted faults: `late_call` lets a call in after the calls were closed; `relaxed_leave` publishes nothing at the end
//! of a call.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::Dispatcher;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn no_call_runs_after_off_and_wait() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let torn_down = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&torn_down);
        let subscription = event
            .listen()
            .waitable()
            .on(move |_| assert!(!gone.load(Ordering::Acquire), "a call ran on after the wait for it"));
        let emitter = thread::spawn(move || drop(event.emit(&1)));
        assert_eq!(subscription.off_and_wait(), Ok(true));
        torn_down.store(true, Ordering::Release);
        emitter.join().expect("an emit does not panic");
    });
}

#[test]
fn the_writes_of_a_call_are_visible_after_off_and_wait() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let done = Arc::new(AtomicBool::new(false));
        let did = Arc::clone(&done);
        // Relaxed, here and below: the wait alone makes this visible to the thread that waited.
        let subscription = event.listen().waitable().on(move |_| did.store(true, Ordering::Relaxed));
        let emitter = thread::spawn(move || event.emit(&1).ran());
        assert_eq!(subscription.off_and_wait(), Ok(true));
        let seen = done.load(Ordering::Relaxed);
        let ran = emitter.join().expect("an emit does not panic");
        assert_eq!(ran == 1, seen, "what a call did is not visible after the wait for it");
    });
}

#[test]
fn two_threads_wait_for_the_same_call() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let subscription = event.listen().waitable().on(|_| {});
        let same = subscription.clone();
        let emitter = thread::spawn(move || drop(event.emit(&1)));
        let waiter = thread::spawn(move || same.off_and_wait().expect("this is not inside the listener"));
        let mine = subscription.off_and_wait().expect("this is not inside the listener");
        let theirs = waiter.join().expect("a wait ends");
        assert!(mine != theirs, "one of them took it off");
        emitter.join().expect("an emit does not panic");
    });
}
