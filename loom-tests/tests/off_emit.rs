//! Claim: an emit does not call a listener whose `off` returned before its turn, even if the emit runs the previous
//! table.
//!
//! Planted fault: `copied_flag` marks a copy of the state word, as an entry with a flag of its own would.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::Dispatcher;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn a_listener_that_is_off_before_its_turn_is_not_called() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let is_off = Arc::new(AtomicBool::new(false));
        let seen_off = Arc::new(AtomicBool::new(false));
        let (flag, seen) = (Arc::clone(&is_off), Arc::clone(&seen_off));
        event.on(move |_| seen.store(flag.load(Ordering::Acquire), Ordering::Relaxed));
        let seen = Arc::clone(&seen_off);
        let victim = event.on(move |_| assert!(!seen.load(Ordering::Relaxed), "called after its `off` returned"));
        let remover = thread::spawn(move || {
            assert!(victim.off(), "nobody else takes it off");
            is_off.store(true, Ordering::Release);
        });
        event.emit(&1);
        remover.join().expect("`off` does not panic");
        assert_eq!(event.emit(&2).ran(), 1, "an emit after `off` called the listener");
    });
}
