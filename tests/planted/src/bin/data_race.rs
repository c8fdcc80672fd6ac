//! A listener that races with itself: two threads emit, and it adds without any synchronisation.
//!
//! The race is in the listener, below frames of fanfare and above those of the thread's start: a
//! suppression that hid the dispatcher from ThreadSanitizer would hide this too. It is seen only if an
//! emit orders no two threads, as the stress test needs it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use fanfare::Dispatcher;

struct Racy(UnsafeCell<u64>);

// SAFETY: there is none. This is the planted fault: nothing orders the accesses.
unsafe impl Sync for Racy {}

impl Racy {
    fn add(&self) {
        // SAFETY: as above.
        unsafe { *self.0.get() += 1 }
    }
}

fn main() {
    let event = Dispatcher::new().event::<u64>("planted").expect("the name is good");
    let racy = Racy(UnsafeCell::new(0));
    event.on(move |_| racy.add());
    let emitted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                event.emit(&1);
                // Relaxed: nothing may order the threads, nor one end before the other has begun.
                emitted.fetch_add(1, Relaxed);
                while emitted.load(Relaxed) < 2 {
                    event.emit(&1);
                    thread::yield_now();
                }
            });
        }
    });
}
