//! Claim: an emit that starts after `on` returned calls the listener, and a concurrent registration that is taken off
//! again hides no other listener.
//!
//! Planted fault: `count_after_publish` counts a listener after its table is published; taken off in between, the
//! listener brings the count to 0 while another one is registered.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::{Dispatcher, Listener};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn an_emit_after_on_calls_the_listener() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let registered = Arc::new(AtomicBool::new(false));
        let (other, flag) = (event.clone(), Arc::clone(&registered));
        let registrar = thread::spawn(move || {
            other.on(|_| {});
            flag.store(true, Ordering::Release);
        });
        let after = registered.load(Ordering::Acquire);
        let ran = event.emit(&1).ran();
        assert!(!after || ran == 1, "an emit after `on` missed the listener");
        registrar.join().expect("`on` does not panic");
        assert_eq!(event.emit(&2).ran(), 1);
    });
}

#[test]
fn a_listener_that_comes_and_goes_hides_no_other() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        event.on(|_| {});
        let brief = Listener::new(|_: &u32| {});
        let (other, same) = (event.clone(), brief.clone());
        let registrar = thread::spawn(move || _ = other.on_listener(&same));
        let gone = event.off_listener(&brief);
        let ran = event.emit(&1).ran();
        assert!(ran >= 1, "an emit missed a listener that was there all the time");
        registrar.join().expect("`on` does not panic");
        assert_eq!(event.emit(&2).ran(), 2 - gone);
    });
}
