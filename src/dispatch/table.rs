//! The listener table of one event: an immutable value, sorted by who is called first.
//!
//! Always: entries are ordered by priority, highest first, then by registration; a key is never
//! used twice by one event. Changing a table returns the next one; [`Slot`] publishes it.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use super::listener::Priority;
use super::node::Listen;
use super::slot::Slot;
use crate::snapshot::{Keyed, Snapshot};
use crate::sync::{Arc, Weak};

/// The listeners of one event at one moment.
pub(super) struct Table<T: ?Sized> {
    list: Snapshot<Entry<T>>,
    /// The sequence number of the next registration.
    next: u64,
    /// The slot that this table belongs to. Whoever runs a table without its slot (an emit by name
    /// drops the map's pin before it calls anyone) still reaches it to sweep spent listeners.
    slot: Weak<Slot<T>>,
    /// The name of the event, for reports.
    event: Arc<str>,
}

/// One registration.
pub(super) struct Entry<T: ?Sized> {
    pub(super) listen: Arc<dyn Listen<T>>,
    pub(super) key: EntryKey,
}

/// Where a registration stands in the order of calls, and its identity within the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryKey {
    priority: Reverse<Priority>,
    sequence: u64,
}

impl<T: ?Sized> Table<T> {
    pub(super) fn new(event: Arc<str>, slot: Weak<Slot<T>>) -> Self {
        Self { list: Snapshot::new(), next: 0, slot, event }
    }

    /// Returns the table with one more listener, behind those of its priority.
    pub(super) fn with(&self, priority: Priority, listen: Arc<dyn Listen<T>>) -> (Self, EntryKey) {
        let key = EntryKey { priority: Reverse(priority), sequence: self.next };
        let mut list = self.list.clone();
        let is_new = list.insert(Entry { listen, key });
        debug_assert!(is_new, "a sequence number is used once");
        (Self { next: self.next + 1, ..self.holding(list) }, key)
    }

    /// Returns the table without these listeners, and how many of them it had; `None` for none.
    pub(super) fn without(&self, keys: &[EntryKey]) -> Option<(Self, usize)> {
        let mut list = self.list.clone();
        let gone = keys.iter().filter(|key| list.remove(key)).count();
        (gone > 0).then(|| (self.holding(list), gone))
    }

    /// Returns the table with the listeners that `keep` accepts, and how many are gone; `None` for none.
    pub(super) fn retain(&self, mut keep: impl FnMut(&dyn Listen<T>) -> bool) -> Option<(Self, usize)> {
        let list = self.list.retain(|entry| keep(&*entry.listen));
        let gone = self.list.len() - list.len();
        (gone > 0).then(|| (self.holding(list), gone))
    }

    fn holding(&self, list: Snapshot<Entry<T>>) -> Self {
        Self { list, next: self.next, slot: self.slot.clone(), event: Arc::clone(&self.event) }
    }

    pub(super) fn get(&self, key: EntryKey) -> Option<&Entry<T>> {
        self.list.get(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.list.iter()
    }

    /// Visits the entries in the order of calls, a slice at a time, until `visit` breaks.
    #[inline]
    pub(super) fn try_for_each_chunk(&self, visit: impl FnMut(&[Entry<T>]) -> ControlFlow<()>) -> ControlFlow<()> {
        self.list.try_for_each_chunk(visit)
    }

    /// Returns one slice by number, or `None` past the last.
    #[inline]
    pub(super) fn chunk(&self, number: usize) -> Option<&[Entry<T>]> {
        (number < self.list.chunk_count()).then(|| self.list.chunk(number))
    }

    pub(super) fn event(&self) -> &Arc<str> {
        &self.event
    }

    pub(super) fn slot(&self) -> Option<Arc<Slot<T>>> {
        self.slot.upgrade()
    }
}

impl<T: ?Sized> Keyed for Entry<T> {
    type Key = EntryKey;

    fn key(&self) -> EntryKey {
        self.key
    }
}

impl<T: ?Sized> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { listen: Arc::clone(&self.listen), key: self.key }
    }
}
