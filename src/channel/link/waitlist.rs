//! [`Waitlist`]: the wakers of waiting futures, in the order in which they began to wait. A plain value.
//!
//! Each future has one place, by its [`Ticket`], whatever waker polls it, and gives the place back when it is dropped.
//! So a list grows with the futures that wait now, not with all that ever waited.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::sync::unique_number;

/// Names a waiting future. Later tickets are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(unique_number().get())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Waitlist(BTreeMap<Ticket, Waker>);

impl Waitlist {
    /// Takes a place, or replaces the waker of a place.
    pub(crate) fn put(&mut self, ticket: Ticket, waker: &Waker) {
        self.0.entry(ticket).and_modify(|known| known.clone_from(waker)).or_insert_with(|| waker.clone());
    }

    /// Gives a place back; returns false when it was taken out before.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> bool {
        self.0.remove(&ticket).is_some()
    }

    /// Takes out the first wakers, which the caller wakes without a lock.
    pub(crate) fn take_first(&mut self, most: usize) -> Vec<Waker> {
        std::iter::from_fn(|| self.0.pop_first()).take(most).map(|(_, waker)| waker).collect()
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waker> {
        std::mem::take(&mut self.0).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_has_one_place_and_keeps_it() {
        let mut list = Waitlist::default();
        let [first, second] = [Ticket::new(), Ticket::new()];
        for ticket in [first, second, first, second] {
            list.put(ticket, Waker::noop());
        }
        assert_eq!(list.0.keys().copied().collect::<Vec<_>>(), [first, second]);
        assert_eq!(list.take_first(1).len(), 1);
        assert!(!list.remove(first) && list.remove(second));
        assert_eq!(list.take_all().count(), 0);
    }
}
