//! Claim: once a caller has found that a listener was taken off by a concurrent `off_all`, no emit calls the listener,
//! not even one that runs the previous table.
//!
//! Planted fault: `late_mark` takes listeners out of the table before it marks them.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use fanfare::{Dispatcher, Subscription};
use loom::thread;

#[test]
fn a_listener_that_is_found_gone_is_not_called() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let victim = Arc::new(OnceLock::<Subscription>::new());
        // Only the emitter's thread uses them: loom has nothing to explore in them.
        let (is_off, called_after) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (target, off) = (Arc::clone(&victim), Arc::clone(&is_off));
        event.on(move |_| {
            target.get().expect("it is registered").off();
            off.store(true, Ordering::Relaxed);
        });
        let after = Arc::clone(&called_after);
        let registered = event.on(move |_| after.store(is_off.load(Ordering::Relaxed), Ordering::Relaxed));
        victim.set(registered).expect("it is set once");
        let other = event.clone();
        let remover = thread::spawn(move || other.off_all());
        event.emit(&1);
        remover.join().expect("`off_all` does not panic");
        assert!(!called_after.load(Ordering::Relaxed), "called after `off` found it gone");
        assert_eq!(event.emit(&2).ran(), 0, "an emit after `off_all` called a listener");
    });
}
