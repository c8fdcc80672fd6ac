//! [`Publisher`]: a handle with a snapshot of its own, the cheapest way to emit.

use std::fmt;

use super::emit_async::EmitAsync;
use super::engine::depth::Depth;
use super::engine::emission::Emission;
use super::engine::report::Report;
use super::engine::slot::{Hears, Slot};
use super::engine::table::Table;
use super::engine::walk::run;
use super::event::Event;
use crate::sync::SnapshotCache;

/// An owned handle to one event that keeps the snapshot of its last emit: the cheapest way to emit.
///
/// While no listener is registered or taken off, an emit finds its listeners by one comparison and need not
/// acquire the current snapshot. The guarantees are those of [`Event::emit`]. Two things to know:
///
/// - An idle publisher keeps the listeners of its snapshot alive, also those taken off since (which it
///   does not call): what they captured is dropped at its next emit, [`refresh`](Self::refresh) or drop.
///   Use a publisher in a loop that emits all the time, and an [`Event`] elsewhere.
/// - `emit` takes `&mut self`, so each thread or task needs its own clone. A listener is shared and so
///   emits through an [`Event`]: a [downgraded](Event::downgrade) one, if it emits its own event.
///
/// ```
/// use fanfare::Dispatcher;
///
/// let events = Dispatcher::new();
/// let tick = events.event::<u32>("tick")?;
/// let mut publisher = tick.publisher();
/// let subscription = tick.on(|_| {});
/// assert_eq!(publisher.emit(&1).ran(), 1);
/// subscription.off();
/// assert_eq!(publisher.emit(&2).ran(), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub struct Publisher<T: ?Sized + 'static> {
    event: Event<T>,
    snapshot: SnapshotCache<Slot<T>, Table<T>>,
}

impl<T: ?Sized + 'static> Event<T> {
    /// Returns a handle with a snapshot of its own: see [`Publisher`].
    #[must_use]
    pub fn publisher(&self) -> Publisher<T> {
        Publisher::new(self.clone())
    }
}

impl<T: ?Sized + 'static> Publisher<T> {
    fn new(event: Event<T>) -> Self {
        let snapshot = SnapshotCache::new(event.slot().arc());
        Self { event, snapshot }
    }

    /// Returns the handle to the event.
    #[must_use]
    pub fn event(&self) -> &Event<T> {
        &self.event
    }

    /// Calls the listeners: see [`Event::emit`].
    #[inline]
    pub fn emit(&mut self, payload: &T) -> Report {
        let audience = self.event.slot().audience();
        // Also without listeners: the snapshot may still hold the last ones, which are gone since.
        let table = self.snapshot.load();
        match audience.hears() {
            Hears::Plain => run(table, payload, Emission::new(), &Depth::enter()),
            Hears::Nobody => Report::default(),
            Hears::Watched => self.event.slot().emit_watched(payload, Emission::new()),
        }
    }

    /// Calls the listeners and waits for the async ones: see [`Event::emit_async`].
    ///
    /// # Cancel safety
    ///
    /// As [`Event::emit_async`].
    pub fn emit_async<'a>(&'a mut self, payload: &'a T) -> EmitAsync<'a, T> {
        self.refresh();
        self.event.emit_async(payload)
    }

    /// Drops the hold on listeners that were taken off since the last emit.
    pub fn refresh(&mut self) {
        self.snapshot.load();
    }
}

impl<T: ?Sized + 'static> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self { event: self.event.clone(), snapshot: self.snapshot.clone() }
    }
}

impl<T: ?Sized + 'static> From<Event<T>> for Publisher<T> {
    fn from(event: Event<T>) -> Self {
        Self::new(event)
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.event).finish()
    }
}
