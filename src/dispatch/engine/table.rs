//! The listener table of one event: an immutable value, sorted by the order of calls.
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
    /// The sequence number of the next registration.
    next: i64,
    /// The sequence number of the next prepended registration.
    next_before: i64,
    /// The slot that publishes this table. An emit by name releases the map before it calls a listener, so it
    /// holds no slot; it reaches the slot through its table, to sweep spent listeners.
    owner: Weak<dyn TableOwner>,
    event: Arc<EventMeta>,
}

/// The place of a registration in the order of calls, and its identity within the event.
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

/// Where a new listener goes among the listeners of its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Last,
    First,
}

/// The slot of a table, as a walk over the table sees it.
pub(crate) trait TableOwner: Send + Sync {
    /// Takes these listeners out of the published table.
    fn take_out(&self, keys: &[EntryKey]);

    /// Counts an emit that has ended, if the event counts.
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

    /// Returns the table without these listeners, and how many of them it had; `None` if it had none.
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

    /// Returns all listeners, if they are one slice.
    #[inline(always)]
    pub(crate) fn single(&self) -> Option<&[Arc<dyn Listen<T>>]> {
        self.list.single()
    }

    /// Returns one chunk of listeners by its number, in the order of calls; `None` past the last.
    #[inline(always)]
    pub(crate) fn chunk(&self, number: usize) -> Option<&[Arc<dyn Listen<T>>]> {
        self.list.values(number)
    }

    /// Ends the listener at this place and returns its key, for taking it out.
    pub(crate) fn end(&self, place: Place) -> EntryKey {
        let (key, listener) = self.list.at(place);
        listener.end();
        *key
    }

    pub(crate) fn event(&self) -> &EventMeta {
        &self.event
    }

    /// Returns the slot; `None` when the event is gone, together with its published table.
    pub(crate) fn owner(&self) -> Option<Arc<dyn TableOwner>> {
        self.owner.upgrade()
    }
}
