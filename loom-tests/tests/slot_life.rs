//! Claim: a registration that races with the end of its event's last listener is reached by name, and an event without
//! listeners and handles is forgotten.
//!
//! Planted fault: `split_free` checks for the last user and frees the slot in two steps.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::Dispatcher;
use loom::thread;

#[test]
fn a_new_listener_is_not_lost_with_the_old_slot() {
    loom::model(|| {
        let events = Dispatcher::new();
        let last = events.on("x", |_: &u32| {}).expect("the name is good");
        let remover = thread::spawn(move || assert!(last.off(), "nobody else takes it off"));
        let new = events.on("x", |_: &u32| {}).expect("the payload is the same");
        remover.join().expect("`off` does not panic");
        assert_eq!(events.emit("x", &1u32).expect("as before").ran(), 1, "a registration was lost");
        assert_eq!(events.event_count(), 1);
        assert!(new.off());
        assert_eq!(events.event_count(), 0, "an event without users stayed");
    });
}
