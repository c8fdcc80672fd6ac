//! The place of one event: where its table is published, and how long it lives.
//!
//! The name map holds a slot for every event that has a listener or a handle ([`Event`]), and
//! nothing else: emitting an unknown name makes none, and the last `off` or dropped handle frees it.
//!
//! ```text
//! refs      means                          changes
//! n > 0     n listeners and handles        acquire: n -> n + 1, refused by CLOSED
//! 0         about to close                 a new acquire may still come first
//! CLOSED    out of the map, or soon        never again: look up, and make a new slot
//! ```
//!
//! `refs` is acquired before the table is touched and released after. Who brings it to 0 tries
//! `0 -> CLOSED` and then removes the slot from the map; who meets a CLOSED slot helps with that
//! removal and looks up again. (Asking "is the table empty?" and "is there no handle?" one after
//! the other loses a registration that comes in between.)
//!
//! [`Event`]: super::Event

use std::any::{Any, type_name};

use crossbeam_utils::CachePadded;

use super::Core;
use super::listener::{ListenerId, Priority};
use super::node::Listen;
use super::subscription::Subscription;
use super::table::{EntryKey, Table};
use super::tasks::Tasks;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, SnapshotCell, SnapshotGuard, Weak, increment_unless};

const CLOSED: usize = usize::MAX;

/// One event with payload `T`.
pub(super) struct Slot<T: ?Sized> {
    /// Never less than the number of listeners in the table: counted up before they are published,
    /// down after they are gone. An emit that nobody hears reads this and no more.
    listeners: AtomicUsize,
    table: SnapshotCell<Table<T>>,
    /// See the table above. On a line of its own: handles come and go beside running emits.
    refs: CachePadded<AtomicUsize>,
    name: Arc<str>,
    core: Weak<Core>,
    tasks: Arc<Tasks>,
    me: Weak<Self>,
}

impl<T: ?Sized + 'static> Slot<T> {
    pub(super) fn new(name: Arc<str>, core: &Arc<Core>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            listeners: AtomicUsize::new(0),
            table: SnapshotCell::new(Arc::new(Table::new(Arc::clone(&name), me.clone()))),
            refs: CachePadded::new(AtomicUsize::new(0)),
            name,
            core: Arc::downgrade(core),
            tasks: Arc::clone(&core.tasks),
            me: me.clone(),
        })
    }

    /// Puts a listener into the table. The caller holds a reference, so the slot is open.
    pub(super) fn add(&self, priority: Priority, listen: Arc<dyn Listen<T>>) -> Subscription {
        let acquired = self.acquire();
        debug_assert!(acquired, "the caller's reference keeps the slot open");
        #[cfg(not(fault = "count_after_publish"))]
        self.count_up();
        let added = self.table.update(|table| Some(table.with(priority, Arc::clone(&listen))));
        #[cfg(fault = "count_after_publish")]
        self.count_up();
        let (_, key) = added.expect("`with` always makes a table");
        Subscription::new(self.me.clone(), key)
    }

    fn count_up(&self) {
        // Relaxed: an emit after `on` sees it by coherence; the cell's Release publishes it to whoever removes the listener.
        self.listeners.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes these listeners out of the table.
    pub(super) fn take_out(&self, keys: &[EntryKey]) {
        // The old table is dropped here, and with it perhaps the listeners: no lock is held.
        if let Some((_, gone)) = self.table.update(|table| table.without(keys)) {
            self.count_down(gone);
        }
    }

    /// Ends the listeners that `which` picks, and returns how many this call ended.
    fn end(&self, which: impl Fn(&dyn Listen<T>) -> bool) -> usize {
        let Some((old, gone)) = self.table.update(|table| table.retain(|listen| !which(listen))) else { return 0 };
        // Emits that run the old table see the mark; a spent once listener has its own and is not counted.
        let ended = old.iter().filter(|entry| which(&*entry.listen) && entry.listen.state().remove()).count();
        drop(old);
        self.count_down(gone);
        ended
    }

    pub(super) fn off_listener(&self, id: ListenerId) -> usize {
        self.end(|listen| listen.origin().identity == Some(id))
    }

    fn count_down(&self, gone: usize) {
        // Relaxed: comes after the cell's Acquire of the table that held them, so never below their count.
        self.listeners.fetch_sub(gone, Ordering::Relaxed);
        self.release(gone);
    }

    /// Tells whether an emit has anyone to call.
    #[inline]
    pub(super) fn is_heard(&self) -> bool {
        // Relaxed: an emit after `on` returned sees the count by coherence; the table is loaded with Acquire.
        self.listeners.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(super) fn table(&self) -> SnapshotGuard<Table<T>> {
        self.table.load()
    }

    pub(super) fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a slot is only reached through an Arc")
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}

/// A slot whose payload type is not known.
pub(super) trait AnySlot: Any + Send + Sync {
    /// Takes a reference; false when the slot is closed.
    fn acquire(&self) -> bool;

    /// Gives references back; the last one closes the slot.
    fn release(&self, count: usize);

    fn is_closed(&self) -> bool;

    fn off(&self, key: EntryKey) -> bool;

    fn off_all(&self) -> usize;

    fn is_active(&self, key: EntryKey) -> bool;

    fn listener_count(&self) -> usize;

    fn name(&self) -> &Arc<str>;

    fn payload_type(&self) -> &'static str;

    fn core(&self) -> &Weak<Core>;
}

impl<T: ?Sized + 'static> AnySlot for Slot<T> {
    fn acquire(&self) -> bool {
        // Acquire: pairs with the AcqRel of `release`; a handle that follows the last one sees what it did.
        increment_unless(&self.refs, CLOSED)
    }

    fn release(&self, count: usize) {
        // AcqRel: pairs with the Acquire of `acquire`, and orders all earlier uses before the close.
        if count == 0 || self.refs.fetch_sub(count, Ordering::AcqRel) != count {
            return;
        }
        #[cfg(fault = "split_free")]
        let closed = self.refs.load(Ordering::Acquire) == 0;
        // AcqRel: who meets CLOSED by Acquire finds the slot as its last user left it.
        #[cfg(not(fault = "split_free"))]
        let closed = self.refs.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if closed && let (Some(core), Some(me)) = (self.core.upgrade(), self.me.upgrade()) {
            let me: Arc<dyn AnySlot> = me;
            core.names.remove_if_same(&*self.name, &me);
        }
    }

    fn is_closed(&self) -> bool {
        // Acquire: pairs with the AcqRel that closed it.
        self.refs.load(Ordering::Acquire) == CLOSED
    }

    fn off(&self, key: EntryKey) -> bool {
        let Some(entry) = self.table.load().get(key).cloned() else { return false };
        let ended = entry.listen.state().remove();
        if ended {
            self.take_out(&[key]);
        }
        ended
    }

    fn off_all(&self) -> usize {
        self.end(|_| true)
    }

    fn is_active(&self, key: EntryKey) -> bool {
        self.table.load().get(key).is_some_and(|entry| entry.listen.state().is_active())
    }

    fn listener_count(&self) -> usize {
        self.table.load().iter().filter(|entry| entry.listen.state().is_active()).count()
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn payload_type(&self) -> &'static str {
        type_name::<T>()
    }

    fn core(&self) -> &Weak<Core> {
        &self.core
    }
}
