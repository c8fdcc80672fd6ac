//! Claims: a publisher calls no listener whose `off` returned before its turn, and misses none whose `on` returned
//! before the emit, also when it was refreshed in between. (A plain test shows that a refreshed publisher drops what
//! removed listeners captured: the stand-in of the cell keeps every version.)
//!
//! Planted fault: `stale_publisher` keeps the snapshot it has.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::Dispatcher;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn a_publisher_calls_no_listener_that_is_off() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let is_off = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_off);
        let subscription = event.on(|_| {});
        let mut publisher = event.publisher();
        let remover = thread::spawn(move || {
            assert!(subscription.off(), "nobody else takes it off");
            flag.store(true, Ordering::Release);
        });
        publisher.refresh();
        let gone = is_off.load(Ordering::Acquire);
        let ran = publisher.emit(&1).ran();
        assert!(!gone || ran == 0, "a publisher called a listener after its `off` returned");
        remover.join().expect("`off` does not panic");
        event.on(|_| {});
        assert_eq!(publisher.emit(&2).ran(), 1, "a publisher missed a listener");
    });
}

#[test]
fn a_publisher_misses_no_listener() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        event.on(|_| {});
        let registered = Arc::new(AtomicBool::new(false));
        let mut publisher = event.publisher();
        let flag = Arc::clone(&registered);
        let registrar = thread::spawn(move || {
            event.on(|_| {});
            flag.store(true, Ordering::Release);
        });
        let after = registered.load(Ordering::Acquire);
        let ran = publisher.emit(&1).ran();
        assert!(!after || ran == 2, "a publisher missed a listener");
        registrar.join().expect("`on` does not panic");
        assert_eq!(publisher.emit(&2).ran(), 2, "a publisher missed a listener");
    });
}
