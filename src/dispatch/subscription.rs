//! The handle to one registration, and its scoped and waitable forms.

use std::fmt;
use std::future::{Future, poll_fn};
use std::time::{Duration, Instant};

use super::engine::calls::Calls;
use super::engine::core::AnySlot;
use super::engine::table::EntryKey;
use super::engine::waiting::Waiter;
use crate::sync::{Arc, Weak, block_until};

/// A handle to one registration: dropping it removes nothing.
///
/// A registration lives as long as its event unless it is taken off. To end it with a scope, use
/// [`scoped`](Self::scoped).
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
    /// Empty for a registration that was refused.
    place: Option<(Weak<dyn AnySlot>, EntryKey)>,
}

impl Subscription {
    pub(super) fn new(slot: Weak<dyn AnySlot>, key: EntryKey) -> Self {
        Self { place: Some((slot, key)) }
    }

    /// Returns a handle without a registration.
    pub(super) fn inert() -> Self {
        Self { place: None }
    }

    /// Takes the listener off; returns whether this call did it.
    ///
    /// No emit that starts after this returns calls the listener, and an emit that is under way no longer
    /// calls it when its turn comes. A call that is running goes on. For a `once` or `times` listener, `true`
    /// means that no further call is claimed (a call claimed earlier may be about to begin); `false` means
    /// that the last call was claimed, or that the listener was taken off before.
    ///
    /// May be called anywhere, also inside the listener.
    pub fn off(&self) -> bool {
        self.at().is_some_and(|(slot, key)| slot.off(key))
    }

    /// Returns whether the listener may still be called, now or after a pause.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.at().is_some_and(|(slot, key)| slot.is_active(key))
    }

    /// Keeps the listener from being called until the returned value is dropped.
    ///
    /// Pauses are counted: the listener is called again when all are over. No emit that starts after this
    /// returns calls the listener; a call that is running goes on. While a `once` or `times` listener is
    /// paused, emits use up none of its calls. Pausing a listener that is gone does nothing.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let subscription = events.on("tick", |_: &u32| {})?;
    /// {
    ///     let _paused = subscription.pause();
    ///     assert!(subscription.is_paused());
    ///     assert_eq!(events.emit("tick", &1u32)?.ran(), 0);
    /// }
    /// assert_eq!(events.emit("tick", &2u32)?.ran(), 1);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn pause(&self) -> Paused {
        let paused = self.at().is_some_and(|(slot, key)| slot.pause(key));
        Paused { subscription: if paused { self.clone() } else { Self::inert() } }
    }

    /// Returns whether the listener is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.at().is_some_and(|(slot, key)| slot.is_paused(key))
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
        self.place.as_ref().and_then(|(slot, _)| slot.upgrade())
    }

    fn at(&self) -> Option<(Arc<dyn AnySlot>, EntryKey)> {
        let (slot, key) = self.place.as_ref()?;
        Some((slot.upgrade()?, *key))
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot();
        f.debug_struct("Subscription")
            .field("event", &slot.as_ref().map_or("(gone)", |slot| slot.name()))
            .field("active", &self.is_active())
            .field("paused", &self.is_paused())
            .finish()
    }
}

/// A registration that ends when this is dropped: see [`Subscription::scoped`].
#[derive(Debug)]
#[must_use = "the listener is taken off when this is dropped"]
pub struct ScopedSubscription {
    subscription: Subscription,
}

impl ScopedSubscription {
    /// Lets the registration outlive the scope after all.
    #[must_use = "it is the way to take the listener off"]
    pub fn into_subscription(mut self) -> Subscription {
        std::mem::replace(&mut self.subscription, Subscription::inert())
    }
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

/// One pause of a listener, until it is dropped: see [`Subscription::pause`].
#[derive(Debug)]
#[must_use = "the pause ends when this is dropped"]
pub struct Paused {
    subscription: Subscription,
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Some((slot, key)) = self.subscription.at() {
            slot.resume(key);
        }
    }
}

/// A handle to a registration whose calls in flight are counted: see
/// [`Registration::waitable`](super::Registration::waitable).
///
/// It has the methods of a [`Subscription`], and waits for *this listener's* calls: never for the rest
/// of an emit, never for publishers that still hold an older snapshot. Two listeners that wait for each
/// other's end wait for ever, as two threads that join each other do; only a listener that waits for
/// itself gets an error.
///
/// ```
/// use fanfare::Dispatcher;
///
/// let events = Dispatcher::new();
/// let tick = events.event::<u32>("tick")?;
/// let subscription = tick.listen().waitable().on(|_| { /* uses what is torn down below */ });
/// tick.emit(&1);
/// assert_eq!(subscription.off_and_wait(), Ok(true));
/// // No call is running, and none will: tear down what the listener used.
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone)]
pub struct WaitableSubscription {
    subscription: Subscription,
    calls: Arc<Calls>,
}

impl WaitableSubscription {
    pub(super) fn new(subscription: Subscription, calls: Arc<Calls>) -> Self {
        Self { subscription, calls }
    }

    /// Takes the listener off and blocks until none of its calls is running.
    ///
    /// Returns whether this call took it off. A call of an async listener ends when its future is finished
    /// or dropped. Do not block a thread that such a future needs: use
    /// [`off_and_wait_async`](Self::off_and_wait_async) there.
    ///
    /// # Errors
    ///
    /// Inside the listener itself, which would wait for its own end. The listener stays registered.
    pub fn off_and_wait(&self) -> Result<bool, WouldDeadlock> {
        let ended = self.close()?;
        let mut waiter = Waiter::new(Arc::clone(&self.calls));
        block_until(None, |cx| waiter.poll(cx));
        Ok(ended)
    }

    /// Takes the listener off and blocks like [`off_and_wait`](Self::off_and_wait), for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::WouldDeadlock`] as [`off_and_wait`](Self::off_and_wait); [`WaitError::TimedOut`] when
    /// a call is still running after `timeout`: the listener is taken off all the same.
    pub fn off_and_wait_timeout(&self, timeout: Duration) -> Result<bool, WaitError> {
        let ended = self.close()?;
        let deadline = Instant::now().checked_add(timeout);
        let mut waiter = Waiter::new(Arc::clone(&self.calls));
        let over = block_until(deadline, |cx| waiter.poll(cx));
        if over { Ok(ended) } else { Err(WaitError::TimedOut) }
    }

    /// Takes the listener off at the first poll, and resolves when none of its calls is running.
    ///
    /// # Errors
    ///
    /// As [`off_and_wait`](Self::off_and_wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait only: after its first poll the listener is taken off.
    pub fn off_and_wait_async(&self) -> impl Future<Output = Result<bool, WouldDeadlock>> + Send + 'static {
        let this = self.clone();
        async move {
            let ended = this.close()?;
            let mut waiter = Waiter::new(Arc::clone(&this.calls));
            poll_fn(|cx| waiter.poll(cx)).await;
            Ok(ended)
        }
    }

    /// Ties the registration to a scope, as [`Subscription::scoped`] does: its drop does not wait for calls.
    pub fn scoped(self) -> ScopedSubscription {
        self.subscription.scoped()
    }

    fn close(&self) -> Result<bool, WouldDeadlock> {
        if self.calls.is_inside() {
            return Err(WouldDeadlock);
        }
        let ended = self.subscription.off();
        self.calls.close();
        Ok(ended)
    }
}

impl std::ops::Deref for WaitableSubscription {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        &self.subscription
    }
}

impl fmt::Debug for WaitableSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WaitableSubscription").field(&self.subscription).finish()
    }
}

/// A listener was asked to wait for its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldDeadlock;

impl fmt::Display for WouldDeadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a listener cannot wait for its own end; call `off` inside it, and wait elsewhere")
    }
}

impl std::error::Error for WouldDeadlock {}

/// Why a wait for the end of a listener's calls ended before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The wait was called inside the listener itself, which stays registered.
    WouldDeadlock,
    /// A call is still running. The listener is taken off.
    TimedOut,
}

impl From<WouldDeadlock> for WaitError {
    fn from(_: WouldDeadlock) -> Self {
        Self::WouldDeadlock
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldDeadlock => WouldDeadlock.fmt(f),
            Self::TimedOut => f.write_str("a call of the listener is still running; the listener is taken off"),
        }
    }
}

impl std::error::Error for WaitError {}
