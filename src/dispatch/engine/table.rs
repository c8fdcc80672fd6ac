//! The listener table of one event: an immutable value, sorted by who is called first.
//!
//! Always: listeners are ordered by priority, highest first, then by registration; a key is never
//! used twice by one event. Changing a table returns the next one; the slot publishes it.

use std::cmp::Reverse;

use super::node::Listen;
use super::origin::EventMeta;
use super::priority::Priority;
use super::report::Report;
use crate::snapshot::{Place, Snapshot};
use crate::sync::{Arc, Weak};

/// The listeners of one event at one moment.
pub(crate) struct Table<T: ?Sized> {
    list: Snapshot<EntryKey, Arc<dyn Listen<T>>>,
    /// The sequence numbers of the next registration, and of the next one that goes before the others.
    next: i64,
    next_before: i64,
    /// The slot that publishes this table. An emit by name gives up its hold of the map before it calls a
    /// listener, so it has no slot; through its table it still reaches the slot, to sweep spent listeners.
    owner: Weak<dyn TableOwner>,
    event: Arc<EventMeta>,
}

/// Where a registration stands in the order of calls, and its identity within the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryKey {
    priority: Reverse<Priority>,
    sequence: i64,
}

impl EntryKey {
    pub(crate) fn priority(self) -> Priority {
        self.priority.0
    }
}

/// Where a listener goes among those of its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Last,
    First,
}

/// The slot of a table, as a walk over the table sees it.
pub(crate) trait TableOwner: Send + Sync {
    /// Takes these listeners out of the table that is published now.
    fn take_out(&self, keys: &[EntryKey]);

    /// Counts an emit that is over, if the event is counted.
    fn note(&self, report: &Report);
}

impl<T: ?Sized> Table<T> {
    pub(crate) fn new(event: Arc<EventMeta>, owner: Weak<dyn TableOwner>) -> Self {
        Self { list: Snapshot::new(), next: 0, next_before: -1, owner, event }
    }

    /// Returns the table with one more listener.
    pub(crate) fn with(
        &self,
        priority: Priority,
        position: Placement,
        listener: Arc<dyn Listen<T>>,
    ) -> (Self, EntryKey) {
        let mut table = self.holding(self.list.clone());
        let sequence = match position {
            Placement::Last => std::mem::replace(&mut table.next, self.next + 1),
            Placement::First => std::mem::replace(&mut table.next_before, self.next_before - 1),
        };
        let key = EntryKey { priority: Reverse(priority), sequence };
        let is_new = table.list.insert(key, listener);
        debug_assert!(is_new, "a sequence number is used once");
        (table, key)
    }

    /// Returns the table without these listeners, and how many of them it had; `None` for none.
    pub(crate) fn without(&self, keys: &[EntryKey]) -> Option<(Self, usize)> {
        let mut list = self.list.clone();
        let gone = keys.iter().filter(|key| list.remove(key)).count();
        (gone > 0).then(|| (self.holding(list), gone))
    }

    fn holding(&self, list: Snapshot<EntryKey, Arc<dyn Listen<T>>>) -> Self {
        Self { list, owner: self.owner.clone(), event: Arc::clone(&self.event), ..*self }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, key: EntryKey) -> Option<&Arc<dyn Listen<T>>> {
        self.list.get(&key)
    }

    /// Returns the listener that is called last.
    pub(crate) fn last(&self) -> Option<&Arc<dyn Listen<T>>> {
        self.list.last()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Listen<T>>> {
        self.list.iter()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&EntryKey, &Arc<dyn Listen<T>>)> {
        self.list.entries()
    }

    /// Returns all listeners, when they are one slice.
    #[inline(always)]
    pub(crate) fn single(&self) -> Option<&[Arc<dyn Listen<T>>]> {
        self.list.single()
    }

    /// Returns the listeners that a walk calls next, a chunk at a time by number; `None` past the last.
    #[inline(always)]
    pub(crate) fn chunk(&self, number: usize) -> Option<&[Arc<dyn Listen<T>>]> {
        self.list.values(number)
    }

    /// Ends the listener at this place and returns its key, to take it out by.
    pub(crate) fn end(&self, place: Place) -> EntryKey {
        let (key, listener) = self.list.at(place);
        listener.end();
        *key
    }

    pub(crate) fn event(&self) -> &EventMeta {
        &self.event
    }

    /// Returns the slot; `None` when the event is gone, and its published table with it.
    pub(crate) fn owner(&self) -> Option<Arc<dyn TableOwner>> {
        self.owner.upgrade()
    }
}
