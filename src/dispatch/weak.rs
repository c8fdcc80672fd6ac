//! Handles that keep nothing alive, for listeners to capture.

use std::fmt;

use super::Dispatcher;
use super::engine::core::Core;
use super::engine::slot::{Slot, SlotRef};
use super::event::Event;
use crate::sync::{Arc, Weak};

/// A handle that does not keep its dispatcher alive: see [`Dispatcher::downgrade`].
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
    /// Returns the dispatcher; `None` when it was dropped.
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

/// A handle that does not keep its event alive: see [`Event::downgrade`].
pub struct WeakEvent<T: ?Sized + 'static> {
    slot: Weak<Slot<T>>,
}

impl<T: ?Sized + 'static> Event<T> {
    /// Returns a handle that does not keep the event alive, for listeners to capture.
    ///
    /// An event whose listener holds a strong handle to it lives for ever, and so do two events whose
    /// listeners hold each other's handles.
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
    /// Returns a strong handle; `None` when the event was forgotten because it had no listener and no handle.
    ///
    /// An event that is made anew under the same name is another event.
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
