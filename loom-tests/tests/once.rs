//! Claim: a once listener runs exactly once when two threads emit.
//!
//! Planted fault: `once_load_store` claims it by a load and a store instead of a compare-and-swap.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare::Dispatcher;
use loom::thread;

#[test]
fn once_runs_once_under_two_emitters() {
    loom::model(|| {
        let runs = Arc::new(AtomicUsize::new(0));
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
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
