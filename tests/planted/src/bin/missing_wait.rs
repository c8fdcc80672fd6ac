//! What a listener borrows is freed when its `off` returns, while a call of it still runs.
//!
//! With the argument `waited` it is freed after `off_and_wait` instead, and the program is sound: a
//! sanitizer must have nothing to say, so what it says about the other one is about the missing wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use fanfare::Dispatcher;

struct Borrowed(*mut u64);

// SAFETY: one thread reads and writes through it, and the owner frees it when that is over: if it waited.
// Without the wait there is no safety. This is the planted fault.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl Borrowed {
    fn add(&self) {
        // SAFETY: as above.
        unsafe { *self.0 += 1 }
    }
}

fn main() {
    let waits = std::env::args().any(|argument| argument == "waited");
    let event = Dispatcher::new().event::<u64>("planted").expect("the name is good");
    let owned = Box::into_raw(Box::new(0));
    let borrowed = Borrowed(owned);
    // Relaxed, all of them: nothing but the wait may order the two threads.
    let (called, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let subscription = event.listen().waitable().on({
        let (called, over) = (Arc::clone(&called), Arc::clone(&over));
        move |_| {
            borrowed.add();
            called.store(true, Relaxed);
            while !over.load(Relaxed) {
                thread::yield_now();
            }
            borrowed.add();
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| event.emit(&1));
        while !called.load(Relaxed) {
            thread::yield_now();
        }
        if waits {
            over.store(true, Relaxed);
            subscription.off_and_wait().expect("this is not the listener");
        } else {
            subscription.off();
        }
        // SAFETY: nobody reads it any more: if it waited.
        drop(unsafe { Box::from_raw(owned) });
        over.store(true, Relaxed);
    });
}
