//! Waiting until a count ends: the calls of one listener, or the listeners in flight at a dispatcher.
//!
//! A waiter looks at the count, takes the lock, looks again, and leaves its waker in the list. The thread
//! that ends the count changes it first, then takes all wakers out under the same lock, and wakes them after
//! releasing it. Where the two meet:
//!
//! 1. The change comes before the waiter's second look: the waiter sees it and is ready. This includes a list
//!    that was emptied before the waiter locked it, because the change comes before that.
//! 2. The change comes after the second look: that look was made under the lock, and the waker was left before
//!    the lock was released. The ending thread locks after its change, finds the waker and wakes it.
//! 3. The count rose again before the woken waiter looks (listeners in flight may): the waiter finds its waker
//!    gone from the list and leaves a new one, for the next end.
//! 4. The waiter is dropped: it takes its waker out of the list. If the ending thread has it already, the task
//!    is woken once for nothing.

use std::task::{Context, Poll, Waker};

use crate::observe::emits::warn;
use crate::sync::{Arc, Mutex, guard, lock};

/// A count that can end, for good or until it rises again.
pub(crate) trait Ending {
    /// Returns whether the count has ended, by a load with Acquire.
    fn is_over(&self) -> bool;

    fn waiters(&self) -> &Waiters;
}

/// The wakers of all waiters for one count.
pub(crate) struct Waiters(Mutex<Wakers>);

struct Wakers {
    /// One per waiter, with the waiter's number.
    wakers: Vec<(u64, Waker)>,
    next: u64,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Wakers { wakers: Vec::new(), next: 0 }))
    }

    /// Wakes all waiters: call this after the change that they wait for.
    pub(crate) fn wake(&self) {
        let wakers = std::mem::take(&mut lock(&self.0).wakers);
        for (_, waker) in wakers {
            // A waker is user code, and this may be the end of a call inside an emit.
            if let Err(panic) = guard(|| waker.wake()) {
                warn(&format!("a waker panicked: {panic}"));
            }
        }
    }
}

/// One waiter, until this is dropped.
pub(crate) struct Waiter<E: Ending> {
    ending: Arc<E>,
    /// The number of its waker in the list, if that was not taken meanwhile.
    number: Option<u64>,
}

impl<E: Ending> Waiter<E> {
    pub(crate) fn new(ending: Arc<E>) -> Self {
        Self { ending, number: None }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn ending(&self) -> &E {
        &self.ending
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending.is_over() {
            return Poll::Ready(());
        }
        // Cloned before the lock is taken, and the old one dropped after it is released: wakers are user code.
        let waker = cx.waker().clone();
        let mut guard = lock(&self.ending.waiters().0);
        if self.ending.is_over() {
            return Poll::Ready(());
        }
        let list = &mut *guard;
        let mine = self.number.and_then(|number| list.wakers.iter_mut().find(|(found, _)| *found == number));
        let old = match mine {
            Some((_, old)) => Some(std::mem::replace(old, waker)),
            None => {
                self.number = Some(list.next);
                list.wakers.push((list.next, waker));
                list.next += 1;
                None
            }
        };
        drop(guard);
        drop(old);
        Poll::Pending
    }
}

impl<E: Ending> Drop for Waiter<E> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut list = lock(&self.ending.waiters().0);
        let at = list.wakers.iter().position(|(found, _)| *found == number);
        let mine = at.map(|at| list.wakers.swap_remove(at));
        drop(list);
        drop(mine);
    }
}
