//! The calls in flight of one waitable listener, and waiting for their end.
//!
//! ```text
//! word            means                           changes
//! n               n calls in flight               enter: n -> n + 1, leave: n -> n - 1, close: | CLOSED
//! CLOSED | n      n in flight, none may enter     leave: n -> n - 1
//! CLOSED          over                            never
//! ```
//!
//! A call enters before its filter runs, and leaves when the listener has returned, or when its future is
//! finished or dropped. A thread closes the calls before it waits for them. The count and the closing share
//! one word, so a thread that reads `CLOSED` alone knows that no call is running and none will. Where a call
//! meets the close:
//!
//! 1. The enter comes first: the close finds the call in the count, and the wait lasts until it leaves.
//! 2. The close comes first: the enter finds CLOSED, and the listener is not called.
//! 3. The last call leaves before the close: it wakes no waiter, because a waiter closes first. The waiter finds
//!    `CLOSED` at its first look. Enter and close are read-modify-writes, which continue the release sequence
//!    of that leave, so what the call did is visible.
//! 4. The last call leaves after the close: it finds `CLOSED | 1` and wakes the waiters. No later call can enter,
//!    so one wake is enough.
//! 5. The listener waits for its own end: this thread is inside the call, so the wait returns an error.

use std::cell::RefCell;

use super::waiting::{Ending, Waiters};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, const_thread_local, update_from};

const CLOSED: usize = 1 << (usize::BITS - 1);

pub(crate) struct Calls {
    word: AtomicUsize,
    /// The threads and tasks that wait for the last call to leave.
    waiters: Waiters,
}

const_thread_local! {
    /// The waitable listeners inside which this thread is, innermost last, by the address of their [`Calls`].
    static INSIDE: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

impl Calls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { word: AtomicUsize::new(0), waiters: Waiters::new() })
    }

    /// Counts a call; `None` when the calls are closed.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let next = |seen: usize| (seen & CLOSED == 0).then(|| seen + 1);
        // Relaxed: entering publishes nothing; a waiter looks at the count alone.
        let swap = |seen, next| self.word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        update_from(0, next, swap).is_ok().then(|| InFlight(Arc::clone(self)))
    }

    /// Refuses all further calls.
    pub(crate) fn close(&self) {
        // Relaxed: the word alone decides between this and `enter`.
        self.word.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Returns whether this thread is inside one of these calls.
    pub(crate) fn is_inside(&self) -> bool {
        INSIDE.try_with(|inside| inside.borrow().contains(&self.id())).unwrap_or(false)
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

/// The end: the calls are closed and none is in flight.
impl Ending for Calls {
    fn is_over(&self) -> bool {
        // Acquire: pairs with the Release of the last call to leave; what the listener did is visible.
        self.word.load(Ordering::Acquire) == CLOSED
    }

    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

/// One call, until it is dropped.
pub(crate) struct InFlight(Arc<Calls>);

impl InFlight {
    /// Records that this thread is inside the call, until the returned value is dropped.
    pub(crate) fn inside(&self) -> Inside {
        // A thread that is ending has lost its list; a deadlock is not detected there.
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().push(self.0.id()));
        Inside(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `is_over`.
        if self.0.word.fetch_sub(1, Ordering::Release) == CLOSED | 1 {
            self.0.waiters.wake();
        }
    }
}

/// This thread is inside a call, until this is dropped.
pub(crate) struct Inside(());

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.borrow_mut().pop());
    }
}
