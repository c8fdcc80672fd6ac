//! Handles that keep nothing alive, for listeners to capture.

use std::fmt;

use super::Dispatcher;
use super::engine::core::{AnySlot, Core};
use super::engine::slot::Slot;
use super::event::Event;
use crate::sync::{Arc, Weak};

/// A dispatcher that is not kept alive: see [`Dispatcher::downgrade`].
#[derive(Clone)]
pub struct WeakDispatcher {
    core: Weak<Core>,
    prefix: Arc<str>,
}

impl WeakDispatcher {
    pub(super) fn new(dispatcher: &Dispatcher) -> Self {
        Self { core: Arc::downgrade(&dispatcher.core), prefix: Arc::clone(&dispatcher.prefix) }
    }

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

impl<T: ?Sized + 'static> WeakEvent<T> {
    pub(super) fn new(slot: &Arc<Slot<T>>) -> Self {
        Self { slot: Arc::downgrade(slot) }
    }

    /// Returns the handle, unless the event was forgotten: it had neither a listener nor a handle.
    ///
    /// One that was forgotten and is there again, under the same name, is another event.
    #[must_use]
    pub fn upgrade(&self) -> Option<Event<T>> {
        let slot = self.slot.upgrade()?;
        slot.acquire().then(|| Event::new(slot))
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
