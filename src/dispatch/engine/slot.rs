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
    /// What an emit reads before anything else: see [`Audience`].
    audience: AtomicU64,
    table: SnapshotCell<Table<T>>,
    /// See the table above. On a line of its own: handles come and go beside running emits.
    refs: CachePadded<AtomicUsize>,
    event: Arc<EventMeta>,
    /// Gone when the dispatcher is.
    core: Weak<Core>,
    /// Those of the dispatcher, which an event may outlive.
    tasks: Arc<Tasks>,
    bounds: Bounds,
    /// Made when somebody asks for it.
    counters: OnceLock<Box<EventCounters>>,
    /// Set by the first registration above the warning threshold.
    warned: AtomicBool,
    me: Weak<Self>,
}

/// One word: who would hear an emit. The lower half counts listeners, never less than are in the
/// table: counted up before they are published, down after they are gone.
#[derive(Clone, Copy)]
pub(crate) struct Audience(u64);

/// How often the event is muted: 31 bits.
const MUTED: u64 = 1 << 32;
/// As often as it may be, far from what would run into the next bit.
const MOST_MUTED: u64 = MUTED << 30;
/// Emits are counted.
const COUNTED: u64 = 1 << 63;

/// What an emit has to do at an event.
pub(crate) enum Hears {
    /// Nothing: it is over before it began.
    Nobody,
    /// Run the listeners of the table.
    Plain,
    /// Ask more: the event is muted or counted.
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

    /// Puts a listener into the table. The caller holds a reference, so the slot is open.
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

    /// Returns the origin of a new listener: an old one's where it is the same.
    pub(crate) fn origin(&self, registered_at: &'static Location<'static>, listener: TypeId) -> Arc<Origin> {
        let table = self.table.peek();
        match table.last().map(|last| last.origin()) {
            Some(origin) if origin.is_of(registered_at, listener) => Arc::clone(origin),
            _ => Arc::new(Origin::new(Arc::clone(&self.event), registered_at, listener)),
        }
    }

    #[cold]
    fn warn_once(&self, listeners: usize, registered_at: &Location<'_>) {
        // Relaxed: only the flag itself decides who writes.
        if !self.warned.swap(true, Ordering::Relaxed) {
            let name = &self.event.name;
            warn(&format!(
                "event `{name}` has {listeners} listeners, the last one registered at {registered_at}; \
                 if they pile up, take them off; if not, raise `Dispatcher::builder().warn_above(..)`"
            ));
        }
    }

    fn count_up(&self) {
        // Relaxed: an emit after `on` sees it by coherence; the cell's Release publishes it to whoever removes the listener.
        self.audience.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the listeners that `which` picks, and returns how many this call ended.
    fn end(&self, which: impl Fn(&dyn Listen<T>) -> bool) -> usize {
        let table = self.table.load();
        let picked: Vec<_> = table.entries().filter(|(_, listener)| which(&***listener)).collect();
        let keys: Vec<_> = picked.iter().map(|(key, _)| **key).collect();
        // Marked before they leave the table: whoever does not find one there may rely on it that no
        // emit calls it any more. A spent listener has its own mark and is not counted.
        let ended = picked.iter().filter(|(_, listener)| listener.end()).count();
        self.take_out(&keys);
        ended
    }

    pub(crate) fn off_listener(&self, id: ListenerId) -> usize {
        self.end(|listener| listener.identity() == Some(id))
    }

    fn count_down(&self, gone: usize) {
        // Relaxed: comes after the cell's Acquire of the table that held them, so never below their count.
        self.audience.fetch_sub(gone as u64, Ordering::Relaxed);
        self.release(gone);
    }

    /// Tells who would hear an emit.
    #[inline]
    pub(crate) fn audience(&self) -> Audience {
        // Relaxed: an emit after `on` returned sees the count by coherence; the table is loaded with Acquire.
        Audience(self.audience.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn table(&self) -> SnapshotGuard<Table<T>> {
        self.table.load()
    }

    /// Runs the listeners of this moment.
    #[inline(always)]
    pub(crate) fn emit(&self, payload: &T, emission: Emission<'_, T>) -> Report {
        match self.audience().hears() {
            Hears::Plain => {
                // Entered before the load: a store between the load's and the release's locked
                // instructions holds the second one up.
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
        // Relaxed: who sees the flag asks the lock for the counters.
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

/// One reference of a slot: as long as it lives, the slot is open, and a registration finds it so.
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
        // The old table is dropped here, and with it perhaps the listeners: no lock is held.
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
        // Acquire: pairs with the AcqRel of `release`; a handle that follows the last one sees what it did.
        increment_unless(&self.refs, CLOSED)
    }

    fn release(&self, count: usize) {
        // AcqRel: pairs with the Acquire of `acquire`, and orders all earlier uses before the close.
        if count == 0 || self.refs.fetch_sub(count, Ordering::AcqRel) != count {
            return;
        }
        // AcqRel: who meets CLOSED by Acquire finds the slot as its last user left it.
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
