//! The handle to one registration.

use std::fmt;

use super::slot::AnySlot;
use super::table::EntryKey;
use crate::sync::{Arc, Weak};

/// A handle to one registration: dropping it removes nothing.
///
/// Registrations live as long as their event unless someone takes them off. For one that ends with
/// a scope, use [`scoped`](Self::scoped).
///
/// ```
/// use fanfare::Dispatcher;
///
/// let events = Dispatcher::new();
/// let subscription = events.on("tick", |_: &u32| {})?;
/// assert_eq!(events.emit("tick", &1u32)?.ran(), 1);
/// assert!(subscription.off());
/// assert!(!subscription.off(), "it is gone already");
/// assert_eq!(events.emit("tick", &2u32)?.ran(), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone)]
pub struct Subscription {
    slot: Weak<dyn AnySlot>,
    key: EntryKey,
}

impl Subscription {
    pub(super) fn new(slot: Weak<dyn AnySlot>, key: EntryKey) -> Self {
        Self { slot, key }
    }

    /// Takes the listener off; returns whether this call did it.
    ///
    /// No emit that starts after this returns calls the listener, and an emit that is under way no
    /// longer calls it when its turn comes. A call that is running now goes on. For a once listener
    /// `true` means that it will never run, `false` that it ran, is running, or was taken off before.
    ///
    /// May be called anywhere, inside the listener too.
    pub fn off(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.off(self.key))
    }

    /// Tells whether the listener may still be called.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.is_active(self.key))
    }

    /// Ties the registration to a scope: the listener is taken off when the returned value is dropped.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// {
    ///     let _subscription = events.on("tick", |_: &u32| {})?.scoped();
    ///     assert_eq!(events.emit("tick", &1u32)?.ran(), 1);
    /// }
    /// assert_eq!(events.emit("tick", &2u32)?.ran(), 0);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn scoped(self) -> ScopedSubscription {
        ScopedSubscription { subscription: self }
    }

    pub(super) fn slot(&self) -> Option<Arc<dyn AnySlot>> {
        self.slot.upgrade()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot.upgrade();
        f.debug_struct("Subscription")
            .field("event", &slot.as_ref().map_or("(gone)", |slot| slot.name()))
            .field("active", &slot.as_ref().is_some_and(|slot| slot.is_active(self.key)))
            .finish()
    }
}

/// A registration that ends when this is dropped: see [`Subscription::scoped`].
#[derive(Debug)]
#[must_use = "the listener is taken off when this is dropped"]
pub struct ScopedSubscription {
    subscription: Subscription,
}

impl std::ops::Deref for ScopedSubscription {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        &self.subscription
    }
}

impl Drop for ScopedSubscription {
    fn drop(&mut self) {
        self.subscription.off();
    }
}
