//! The slot of one event: it publishes the event's table and decides how long the event lives.
//!
//! The name map holds a slot for every event that has a listener or a handle ([`Event`]), and
//! nothing else: an emit to an unknown name makes none, and the last `off` or dropped handle frees it.
//!
//! ```text
//! refs      means                          changes
//! n > 0     n listeners and handles        acquire: n -> n + 1, refused by CLOSED
//! 0         about to close                 0 -> CLOSED, or an acquire comes first: 0 -> 1
//! CLOSED    out of the map, or soon        never: look up again, and make a new slot
//! ```
//!
//! A listener's reference is acquired before it enters the table and released after it has left, so the
//! table of a CLOSED slot is empty. The release that brings `refs` to 0 tries `0 -> CLOSED`, and on
//! success removes the slot from the map. Where it meets another thread:
//!
//! 1. The acquire comes before the release: the release leaves 1, and the slot stays open.
//! 2. The acquire comes between the release and the close: the close finds 1 instead of 0 and fails. The slot
//!    stays open, in the map, with its new listener or handle. (The checks "is the table empty?" and "is
//!    there no handle?", one after the other, would lose this registration.)
//! 3. The acquire comes after the close: CLOSED refuses it. The caller removes the slot from the map, if it is
//!    still there, and looks up again; it finds no slot and makes one, or finds one that a third thread made.
//! 4. The closing thread and a refused caller both remove the slot. Removal compares pointers: the later one
//!    finds nothing, or a new slot of the same name, and leaves that alone.
//! 5. An acquire and its release come between a release and its close: both releases brought the count to 0,
//!    and both try to close. One succeeds; the other finds CLOSED and does nothing.
//! 6. An emit acquires nothing. If it finds a CLOSED slot, that has no listener to call, and a mismatch of its
//!    payload type is not an error.
//!
//! [`Event`]: crate::dispatch::Event

use std::any::{TypeId, type_name};
use std::ops::Deref;
use std::panic::Location;

use crossbeam_utils::CachePadded;

use super::core::{AnySlot, Bounds, Core};
use super::counters::{EventCounters, EventCounts};
use super::depth::Depth;
use super::emission::Emission;
use super::info::ListenerInfo;
use super::node::{Listen, ListenerId};
use super::origin::{EventMeta, Origin};
use super::priority::Priority;
use super::report::Report;
use super::table::{EntryKey, Placement, Table, TableOwner};
use super::tasks::Tasks;
use super::walk::run;
use crate::observe::emits::warn;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, OnceLock, SnapshotCell, SnapshotGuard, Weak, increment_unless};

const CLOSED: usize = usize::MAX;

/// One event with payload `T`.
pub(crate) struct Slot<T: ?Sized> {
    /// The word that an emit reads first: see [`Audience`].
    audience: AtomicU64,
    table: SnapshotCell<Table<T>>,
    /// See the table above. On a cache line of its own: handles come and go beside running emits.
    refs: CachePadded<AtomicUsize>,
    event: Arc<EventMeta>,
    /// Gone when the dispatcher is.
    core: Weak<Core>,
    /// The tasks of the dispatcher, which an event may outlive.
    tasks: Arc<Tasks>,
    bounds: Bounds,
    /// Made by the first `enable_counts`.
    counters: OnceLock<Box<EventCounters>>,
    /// Set by the first registration above the warning threshold.
    warned: AtomicBool,
    me: Weak<Self>,
}

/// One word that says what an emit has to do. Its lower half counts listeners, and is never below the number in
/// the table: a listener is counted before the table with it is published, and discounted after it has left.
#[derive(Clone, Copy)]
pub(crate) struct Audience(u64);

/// One mute of the event; 31 bits count the mutes.
const MUTED: u64 = 1 << 32;
/// The most mutes allowed, far below an overflow into the next bit.
const MOST_MUTED: u64 = MUTED << 30;
/// Emits are counted.
const COUNTED: u64 = 1 << 63;

/// The work of an emit, as [`Audience`] says.
pub(crate) enum Hears {
    /// Nothing: the event has no listeners.
    Nobody,
    /// Run the listeners of the table.
    Plain,
    /// Look further: the event is muted or counted.
    Watched,
}

impl Audience {
    #[inline(always)]
    pub(crate) fn hears(self) -> Hears {
        if self.0.wrapping_sub(1) < MUTED - 1 {
            Hears::Plain
        } else if self.0 == 0 {
            Hears::Nobody
        } else {
            Hears::Watched
        }
    }

    fn is_muted(self) -> bool {
        self.0 & !COUNTED >= MUTED
    }
}

/// An event that has as many listeners as its dispatcher allows.
pub(crate) struct EventFull {
    pub(crate) limit: usize,
}

impl<T: ?Sized + 'static> Slot<T> {
    pub(crate) fn new(name: Arc<str>, core: &Arc<Core>) -> Arc<Self> {
        let event = Arc::new(EventMeta { name, hook: Arc::clone(&core.hook) });
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            audience: AtomicU64::new(0),
            table: SnapshotCell::new(Arc::new(Table::new(Arc::clone(&event), me.clone()))),
            refs: CachePadded::new(AtomicUsize::new(0)),
            event,
            core: Arc::downgrade(core),
            tasks: Arc::clone(&core.tasks),
            bounds: core.bounds,
            counters: OnceLock::new(),
            warned: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// Adds a listener to the table. The caller holds a reference, so the slot is open.
    pub(crate) fn add(
        &self,
        priority: Priority,
        position: Placement,
        listener: &Arc<dyn Listen<T>>,
    ) -> Result<EntryKey, EventFull> {
        let bounds = self.bounds;
        let limit = bounds.listener_limit.unwrap_or(usize::MAX);
        let acquired = self.acquire();
        debug_assert!(acquired, "the caller's reference keeps the slot open");
        self.count_up();
        let added = self.table.update(|table| {
            let room = table.len() < limit;
            room.then(|| {
                let (next, key) = table.with(priority, position, Arc::clone(listener));
                let len = next.len();
                (next, (key, len))
            })
        });
        let Some((_, (key, len))) = added else {
            self.count_down(1);
            return Err(EventFull { limit });
        };
        if bounds.warn_above.is_some_and(|threshold| len > threshold) {
            self.warn_once(len, listener.origin().registered_at);
        }
        Ok(key)
    }

    /// Returns the origin of a new listener: that of the last listener in the table, if it is the same.
    pub(crate) fn origin(&self, registered_at: &'static Location<'static>, listener: TypeId) -> Arc<Origin> {
        let table = self.table.peek();
        match table.last().map(|last| last.origin()) {
            Some(origin) if origin.is_of(registered_at, listener) => Arc::clone(origin),
            _ => Arc::new(Origin::new(Arc::clone(&self.event), registered_at, listener)),
        }
    }

    #[cold]
    fn warn_once(&self, listeners: usize, registered_at: &Location<'_>) {
        // Relaxed: the flag alone decides which thread writes the warning.
        if !self.warned.swap(true, Ordering::Relaxed) {
            let name = &self.event.name;
            warn(&format!(
                "event `{name}` has {listeners} listeners, the last one registered at {registered_at}; \
                 if they pile up, take them off; if not, raise `Dispatcher::builder().warn_above(..)`"
            ));
        }
    }

    fn count_up(&self) {
        // Relaxed: an emit after `on` sees it by coherence; the cell's Release publishes it to a removing thread.
        self.audience.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the listeners that `which` picks, and returns how many this call ended.
    fn end(&self, which: impl Fn(&dyn Listen<T>) -> bool) -> usize {
        let table = self.table.load();
        let picked: Vec<_> = table.entries().filter(|(_, listener)| which(&***listener)).collect();
        let keys: Vec<_> = picked.iter().map(|(key, _)| **key).collect();
        // Marked before they leave the table: when a thread does not find a listener there, no emit calls it
        // any more. A spent listener has its own mark and is not counted.
        let ended = picked.iter().filter(|(_, listener)| listener.end()).count();
        self.take_out(&keys);
        ended
    }

    pub(crate) fn off_listener(&self, id: ListenerId) -> usize {
        self.end(|listener| listener.identity() == Some(id))
    }

    fn count_down(&self, gone: usize) {
        // Relaxed: comes after the cell's Acquire of the table that held them, so it never drops below their count.
        self.audience.fetch_sub(gone as u64, Ordering::Relaxed);
        self.release(gone);
    }

    /// Returns the word that says what an emit has to do.
    #[inline]
    pub(crate) fn audience(&self) -> Audience {
        // Relaxed: an emit after `on` returned sees the count by coherence; the table is loaded with Acquire.
        Audience(self.audience.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn table(&self) -> SnapshotGuard<Table<T>> {
        self.table.load()
    }

    /// Runs the listeners that the slot has now.
    #[inline(always)]
    pub(crate) fn emit(&self, payload: &T, emission: Emission<'_, T>) -> Report {
        match self.audience().hears() {
            Hears::Plain => {
                // Entered before the load: a store between the locked instructions of the load and of the
                // guard's release would delay the latter.
                let depth = Depth::enter();
                run(&self.table.load(), payload, emission, &depth)
            }
            Hears::Nobody => Report::default(),
            Hears::Watched => self.emit_watched(payload, emission),
        }
    }

    /// Runs the listeners of an event that is muted or counted.
    #[cold]
    #[inline(never)]
    pub(crate) fn emit_watched(&self, payload: &T, emission: Emission<'_, T>) -> Report {
        if self.is_muted() {
            return Report::default();
        }
        let report = run(&self.table.load(), payload, emission, &Depth::enter());
        self.note(&report);
        report
    }

    pub(crate) fn mute(&self) {
        // Relaxed: an emit after this sees it by coherence.
        let before = self.audience.fetch_add(MUTED, Ordering::Relaxed);
        if before & !COUNTED >= MOST_MUTED {
            self.unmute();
            panic!("event `{}` is muted 2^30 times: its mutes are leaked", self.event.name);
        }
    }

    pub(crate) fn unmute(&self) {
        self.audience.fetch_sub(MUTED, Ordering::Relaxed);
    }

    pub(crate) fn is_muted(&self) -> bool {
        self.audience().is_muted()
    }

    /// Counts emits from now on.
    pub(crate) fn enable_counts(&self) {
        self.counters.get_or_init(|| Box::new(EventCounters::new()));
        // Relaxed: an emit that sees the flag gets the counters through the `OnceLock`.
        self.audience.fetch_or(COUNTED, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Option<EventCounts> {
        self.counters.get().map(|counters| counters.sum())
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a slot is only reached through an Arc")
    }

    pub(crate) fn weak(&self) -> Weak<dyn AnySlot> {
        self.me.clone()
    }

    pub(crate) fn event(&self) -> &Arc<EventMeta> {
        &self.event
    }

    pub(crate) fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}

/// One reference to a slot: while it lives the slot is open, and a registration cannot find it closed.
pub(crate) struct SlotRef<T: ?Sized + 'static>(Arc<Slot<T>>);

impl<T: ?Sized + 'static> SlotRef<T> {
    /// Takes over a reference that the caller acquired.
    pub(crate) fn new(acquired: Arc<Slot<T>>) -> Self {
        Self(acquired)
    }

    /// Acquires a reference; `None` when the event was forgotten.
    pub(crate) fn upgrade(slot: &Weak<Slot<T>>) -> Option<Self> {
        let slot = slot.upgrade()?;
        slot.acquire().then(|| Self(slot))
    }

    pub(crate) fn downgrade(&self) -> Weak<Slot<T>> {
        Arc::downgrade(&self.0)
    }
}

impl<T: ?Sized + 'static> Deref for SlotRef<T> {
    type Target = Slot<T>;

    #[inline]
    fn deref(&self) -> &Slot<T> {
        &self.0
    }
}

impl<T: ?Sized + 'static> Clone for SlotRef<T> {
    fn clone(&self) -> Self {
        let acquired = self.acquire();
        debug_assert!(acquired, "this reference keeps the slot open");
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized + 'static> Drop for SlotRef<T> {
    fn drop(&mut self) {
        self.release(1);
    }
}

impl<T: ?Sized> AsRef<SnapshotCell<Table<T>>> for Slot<T> {
    #[inline]
    fn as_ref(&self) -> &SnapshotCell<Table<T>> {
        &self.table
    }
}

impl<T: ?Sized + 'static> TableOwner for Slot<T> {
    fn take_out(&self, keys: &[EntryKey]) {
        // The old table is dropped here, perhaps with the last reference to a listener: no lock is held.
        if let Some((_, gone)) = self.table.update(|table| table.without(keys)) {
            self.count_down(gone);
        }
    }

    #[cold]
    fn note(&self, report: &Report) {
        if let Some(counters) = self.counters.get() {
            counters.add(report);
        }
    }
}

impl<T: ?Sized + 'static> AnySlot for Slot<T> {
    fn acquire(&self) -> bool {
        // Acquire: pairs with the AcqRel of `release`; a new handle sees what the thread of the last one did.
        increment_unless(&self.refs, CLOSED)
    }

    fn release(&self, count: usize) {
        // AcqRel: pairs with the Acquire of `acquire`, and orders all earlier uses before the close.
        if count == 0 || self.refs.fetch_sub(count, Ordering::AcqRel) != count {
            return;
        }
        // AcqRel: a caller that reads CLOSED with Acquire finds the slot as its last user left it.
        let closed = self.refs.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if closed && let (Some(core), Some(me)) = (self.core.upgrade(), self.me.upgrade()) {
            let me: Arc<dyn AnySlot> = me;
            core.names.remove_if_same(&*self.event.name, &me);
        }
    }

    fn is_closed(&self) -> bool {
        // Acquire: pairs with the AcqRel that closed it.
        self.refs.load(Ordering::Acquire) == CLOSED
    }

    fn off(&self, key: EntryKey) -> bool {
        let ended = self.table.load().get(key).is_some_and(|listener| listener.end());
        if ended {
            self.take_out(&[key]);
        }
        ended
    }

    fn off_all(&self) -> usize {
        self.end(|_| true)
    }

    fn is_active(&self, key: EntryKey) -> bool {
        self.table.load().get(key).is_some_and(|listener| listener.is_active())
    }

    fn is_paused(&self, key: EntryKey) -> bool {
        self.table.load().get(key).is_some_and(|listener| listener.state().is_paused())
    }

    fn pause(&self, key: EntryKey) -> bool {
        self.table.load().get(key).map(|listener| listener.state().pause()).is_some()
    }

    fn resume(&self, key: EntryKey) {
        if let Some(listener) = self.table.load().get(key) {
            listener.state().resume();
        }
    }

    fn listener_count(&self) -> usize {
        self.table.load().iter().filter(|listener| listener.is_active()).count()
    }

    fn listeners(&self) -> Vec<ListenerInfo> {
        let table = self.table.load();
        let active = table.entries().filter(|(_, listener)| listener.is_active());
        active.map(|(key, listener)| ListenerInfo::new(*key, &**listener)).collect()
    }

    #[cfg(feature = "metrics")]
    fn record_metrics(&self) {
        if let Some(counters) = self.counters.get() {
            counters.record_metrics(&self.event.name);
        }
    }

    fn name(&self) -> &Arc<str> {
        &self.event.name
    }

    fn payload_type(&self) -> &'static str {
        type_name::<T>()
    }

    fn core(&self) -> &Weak<Core> {
        &self.core
    }
}
