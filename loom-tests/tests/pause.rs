//! Claims: no emit that starts after `pause` returned calls the listener; pauses of several threads are counted, and
//! none of them undoes an `off`.
//!
//! Planted fault: `pause_load_store` counts by a load and a store.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::Dispatcher;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn a_paused_listener_is_not_called() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let subscription = event.on(|_| {});
        let is_paused = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_paused);
        let pauser = thread::spawn(move || {
            let paused = subscription.pause();
            flag.store(true, Ordering::Release);
            paused
        });
        let before = is_paused.load(Ordering::Acquire);
        let ran = event.emit(&1).ran();
        assert!(!before || ran == 0, "a paused listener was called");
        let paused = pauser.join().expect("`pause` does not panic");
        assert_eq!(event.emit(&2).ran(), 0, "a paused listener was called");
        drop(paused);
        assert_eq!(event.emit(&3).ran(), 1, "the pause did not end");
    });
}

#[test]
fn pauses_of_two_threads_are_counted() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let subscription = event.on(|_| {});
        let same = subscription.clone();
        let other = thread::spawn(move || same.pause());
        let mine = subscription.pause();
        let theirs = other.join().expect("`pause` does not panic");
        drop(mine);
        assert_eq!(event.emit(&1).ran(), 0, "a pause was lost");
        drop(theirs);
        assert_eq!(event.emit(&2).ran(), 1, "a pause did not end");
    });
}
