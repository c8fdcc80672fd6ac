//! What ends with its thread.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use fanfare::{Dispatcher, EventError};

use crate::alone::run_alone;

static ENDED: AtomicBool = AtomicBool::new(false);

struct NotesItsEnd;

impl Drop for NotesItsEnd {
    fn drop(&mut self) {
        ENDED.store(true, Relaxed);
    }
}

thread_local! {
    static EVENTS: Dispatcher = Dispatcher::new();
}

/// The name map's epochs ended before the dispatcher, whose drop needs them: the process aborted.
#[test]
fn a_dispatcher_in_a_thread_local_ends_with_its_thread() {
    // An abort ends one process, and this test says so.
    if run_alone().is_some() {
        return;
    }
    let emitting = thread::spawn(|| {
        EVENTS.with(|events| {
            let ends = NotesItsEnd;
            events.on("tick", move |_: &u64| _ = &ends)?;
            Ok::<_, EventError>(events.emit("tick", &1u64)?.ran())
        })
    });
    assert_eq!(emitting.join().expect("nothing panics").expect("the name is good"), 1);
    assert!(ENDED.load(Relaxed), "its listeners end with it");
}
