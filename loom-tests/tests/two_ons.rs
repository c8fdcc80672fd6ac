//! Claim: of two listeners registered at the same time neither is lost.
//!
//! Planted fault: `lost_update` stores the new table without a look whether another thread was faster.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::Dispatcher;
use loom::thread;

#[test]
fn two_concurrent_ons_are_both_there() {
    loom::model(|| {
        let event = Dispatcher::new().event::<u32>("x").expect("the name is good");
        let other = event.clone();
        let registrar = thread::spawn(move || _ = other.on(|_| {}));
        event.on(|_| {});
        registrar.join().expect("`on` does not panic");
        assert_eq!(event.emit(&1).ran(), 2, "a registration was lost");
    });
}
