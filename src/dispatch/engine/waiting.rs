//! Waiting for the end of what is counted: a listener's calls, the listeners in flight.
//!
//! A waiter looks at the count, then leaves its waker under the lock and looks once more. Whoever ends
//! the last one changes the count first and then takes the wakers under the same lock: it finds the
//! waker, or the waiter finds the count. A waiter that gives up takes its waker with it.

use std::task::{Context, Poll, Waker};

use crate::observe::emits::warn;
use crate::sync::{Arc, Mutex, guard, lock};

/// What can be over, once and for all or for a moment.
pub(crate) trait Ending {
    /// Tells whether it is over, by a load with Acquire.
    fn is_over(&self) -> bool;

    fn waiters(&self) -> &Waiters;
}

/// The wakers of those that wait for one end.
pub(crate) struct Waiters(Mutex<Wakers>);

struct Wakers {
    /// As many as wait at this moment.
    wakers: Vec<(u64, Waker)>,
    next: u64,
}

impl Waiters {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Wakers { wakers: Vec::new(), next: 0 }))
    }

    /// Wakes them all: to be called after the change that they wait for.
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

/// One who waits, until this is dropped.
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
        // Cloned out here, and the old one dropped out there: wakers are user code.
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
