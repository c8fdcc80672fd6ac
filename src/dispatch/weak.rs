//! Handles that keep nothing alive, for listeners to capture.

use std::fmt;

use super::Dispatcher;
use super::engine::core::Core;
use super::engine::slot::{Slot, SlotRef};
use super::event::Event;
use crate::sync::{Arc, Weak};

/// A dispatcher that is not kept alive: see [`Dispatcher::downgrade`].
#[derive(Clone)]
pub struct WeakDispatcher {
    core: Weak<Core>,
    prefix: Arc<str>,
}

impl Dispatcher {
    /// Returns a handle that does not keep the dispatcher alive, for listeners to capture.
    #[must_use]
    pub fn downgrade(&self) -> WeakDispatcher {
        WeakDispatcher { core: Arc::downgrade(&self.core), prefix: Arc::clone(&self.prefix) }
    }
}

impl WeakDispatcher {
    /// Returns the dispatcher, unless it is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Dispatcher> {
        Some(Dispatcher { core: self.core.upgrade()?, prefix: Arc::clone(&self.prefix) })
    }
}

impl fmt::Debug for WeakDispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakDispatcher").field("alive", &(self.core.strong_count() > 0)).finish()
    }
}

/// An event that is not kept alive: see [`Event::downgrade`].
pub struct WeakEvent<T: ?Sized + 'static> {
    slot: Weak<Slot<T>>,
}

impl<T: ?Sized + 'static> Event<T> {
    /// Returns a handle that does not keep the event alive, for listeners to capture.
    ///
    /// Two events whose listeners hold each other's handles would live for ever, and so would one whose
    /// listener holds its own.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let countdown = events.event::<u32>("countdown")?;
    /// let weak = countdown.downgrade();
    /// countdown.on(move |n| {
    ///     if let (Some(countdown), 1..) = (weak.upgrade(), *n) {
    ///         countdown.emit(&(n - 1));
    ///     }
    /// });
    /// countdown.emit(&3);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    #[must_use]
    pub fn downgrade(&self) -> WeakEvent<T> {
        WeakEvent { slot: self.slot().downgrade() }
    }
}

impl<T: ?Sized + 'static> WeakEvent<T> {
    /// Returns the handle, unless the event was forgotten: it had neither a listener nor a handle.
    ///
    /// One that was forgotten and is there again, under the same name, is another event.
    #[must_use]
    pub fn upgrade(&self) -> Option<Event<T>> {
        SlotRef::upgrade(&self.slot).map(Event::new)
    }
}

impl<T: ?Sized + 'static> Clone for WeakEvent<T> {
    fn clone(&self) -> Self {
        Self { slot: Weak::clone(&self.slot) }
    }
}

impl<T: ?Sized + 'static> fmt::Debug for WeakEvent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakEvent").field("alive", &(self.slot.strong_count() > 0)).finish()
    }
}
