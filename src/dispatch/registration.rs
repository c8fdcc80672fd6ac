//! A registration in the making.

use std::any::TypeId;
use std::fmt;
use std::future::Future;
use std::panic::Location;

use super::engine::async_call::AsyncCall;
use super::engine::calls::Calls;
use super::engine::conditions::{Conditions, Filter, Limit};
use super::engine::core::AnySlot as _;
use super::engine::failure::FailureCause;
use super::engine::node::{Call, Held, IdentifiedCall, Node, SharedCall, SyncCall};
use super::engine::outcome::{Outcome, Payload};
use super::engine::priority::Priority;
use super::engine::slot::SlotRef;
use super::engine::table::Placement;
use super::error::TooManyListeners;
use super::listener::Listener;
use super::subscription::{Subscription, WaitableSubscription};
use crate::sync::Arc;

/// A registration in the making: [`Event::listen`](crate::Event::listen), then options, then `on`.
///
/// ```
/// use fanfare::{Dispatcher, Priority};
///
/// let events = Dispatcher::new();
/// let opened = events.event::<u32>("door.opened")?;
/// opened.listen().priority(Priority::HIGH).times(2).filter(|door| *door > 0).on(|door| println!("door {door}"));
/// assert_eq!(opened.emit(&0).ran(), 0);
/// assert_eq!(opened.emit(&1).ran(), 1);
/// assert_eq!(opened.emit(&2).ran(), 1);
/// assert_eq!(opened.emit(&3).ran(), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[must_use = "nothing is registered before `on`, `on_async` or `on_listener`"]
pub struct Registration<T: ?Sized + 'static> {
    slot: SlotRef<T>,
    priority: Priority,
    position: Placement,
    times: Option<u32>,
    filter: Option<Box<Filter<T>>>,
    registered_at: &'static Location<'static>,
}

impl<T: ?Sized + 'static> Registration<T> {
    #[track_caller]
    pub(super) fn new(slot: SlotRef<T>) -> Self {
        let registered_at = Location::caller();
        Self { slot, priority: Priority::NORMAL, position: Placement::Last, times: None, filter: None, registered_at }
    }

    /// Sets the priority, a [`Priority`] or any number; [`Priority::NORMAL`] without it.
    pub fn priority(mut self, priority: impl Into<Priority>) -> Self {
        self.priority = priority.into();
        self
    }

    /// Puts the listener before those of its priority instead of behind them.
    pub fn prepend(mut self) -> Self {
        self.position = Placement::First;
        self
    }

    /// Makes the listener run for one emit only: exactly once, whatever threads or nested emits race for it.
    ///
    /// The call is claimed just before it is made, so an emit that stops before the listener's turn does not use it up.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Makes the listener run for exactly `times` emits, whatever threads or nested emits race for it.
    ///
    /// Each call is claimed just before it is made; a later `times` or `once` replaces this one.
    ///
    /// # Panics
    ///
    /// When `times` is 0.
    #[track_caller]
    pub fn times(mut self, times: u32) -> Self {
        assert!(times > 0, "a listener that runs 0 times would never run: do not register it");
        self.times = Some(times);
        self
    }

    /// Calls the listener only for payloads that `filter` accepts.
    ///
    /// The filter runs in the listener's turn, before a call is claimed: a refused payload uses up no call.
    /// A filter that panics is a failure of the listener. A later filter replaces this one.
    pub fn filter(mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Counts the calls in flight, so that the subscription can wait for their end.
    ///
    /// Each call writes a cache line that all threads emitting to this listener share. No other kind of
    /// listener makes emitting threads slow each other down. Choose the other options before this one.
    pub fn waitable(self) -> WaitableRegistration<T> {
        WaitableRegistration { registration: self }
    }

    /// Registers a listener that runs inside the emit.
    ///
    /// Beyond the dispatcher's hard limit nothing is registered: the
    /// [`on_error`](crate::Dispatcher::on_error) hook gets a failure, and the subscription is not active.
    pub fn on<F, R>(self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.finish(SyncCall::new(listener), None).unwrap_or_else(Refused::into_subscription)
    }

    /// Registers a listener as [`on`](Self::on) does.
    ///
    /// # Errors
    ///
    /// When the event has as many listeners as its dispatcher allows; nothing is registered then.
    pub fn try_on<F, R>(self, listener: F) -> Result<Subscription, TooManyListeners>
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.finish(SyncCall::new(listener), None).map_err(|refused| refused.error)
    }

    /// Registers a [`Listener`], which can later be taken off without its subscription.
    ///
    /// Beyond the hard limit it behaves as [`on`](Self::on).
    pub fn on_listener(self, listener: &Listener<T>) -> Subscription {
        let call = IdentifiedCall::new(listener.closure(), listener.id());
        self.finish(call, None).unwrap_or_else(Refused::into_subscription)
    }

    /// Registers a [`Listener`] as [`on_listener`](Self::on_listener) does.
    ///
    /// # Errors
    ///
    /// As [`try_on`](Self::try_on).
    pub fn try_on_listener(self, listener: &Listener<T>) -> Result<Subscription, TooManyListeners> {
        let call = IdentifiedCall::new(listener.closure(), listener.id());
        self.finish(call, None).map_err(|refused| refused.error)
    }

    /// Registers an async listener: see [`Event::on_async`](crate::Event::on_async).
    ///
    /// Beyond the hard limit it behaves as [`on`](Self::on).
    pub fn on_async<F, Fut>(self, listener: F) -> Subscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = Arc::clone(self.slot.tasks());
        self.finish(AsyncCall::new(listener, tasks), None).unwrap_or_else(Refused::into_subscription)
    }

    /// Registers an async listener as [`on_async`](Self::on_async) does.
    ///
    /// # Errors
    ///
    /// As [`try_on`](Self::try_on).
    pub fn try_on_async<F, Fut>(self, listener: F) -> Result<Subscription, TooManyListeners>
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = Arc::clone(self.slot.tasks());
        self.finish(AsyncCall::new(listener, tasks), None).map_err(|refused| refused.error)
    }

    /// Registers a closure of ours that takes the shared payload and returns whether it wants more.
    ///
    /// `ended` runs when the listener is taken off.
    pub(super) fn on_shared(
        self,
        listener: impl Fn(Arc<T>) -> bool + Send + Sync + 'static,
        ended: impl Fn() + Send + Sync + 'static,
    ) -> Subscription
    where
        T: Payload,
    {
        self.finish(SharedCall::new(listener, ended), None).unwrap_or_else(Refused::into_subscription)
    }

    fn finish<C: Call<T> + 'static>(self, call: C, calls: Option<Arc<Calls>>) -> Result<Subscription, Refused> {
        let Self { slot, priority, position, times, filter, registered_at } = self;
        let origin = slot.origin(registered_at, TypeId::of::<C>());
        let conditions = Conditions { filter, limit: times.map(Limit::new), calls };
        let listener = Held::<T>::new(if conditions.is_empty() {
            Arc::new(Node::new(call, (), origin))
        } else {
            Arc::new(Node::new(call, conditions, origin))
        });
        match slot.add(priority, position, &listener) {
            Ok(key) => Ok(Subscription::new(slot.weak(), key)),
            Err(full) => {
                let error = TooManyListeners::new(Arc::clone(&slot.event().name), full.limit);
                Err(Refused { error, tell: Box::new(move |cause| drop(listener.origin().fail_unreported(cause))) })
            }
        }
    }
}

/// A registration over the hard limit.
struct Refused {
    error: TooManyListeners,
    tell: Box<dyn FnOnce(FailureCause)>,
}

impl Refused {
    #[cold]
    fn into_subscription(self) -> Subscription {
        (self.tell)(FailureCause::TooManyListeners { limit: self.error.limit() });
        Subscription::inert()
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Registration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("event", &self.slot.name())
            .field("priority", &self.priority)
            .field("prepend", &(self.position == Placement::First))
            .field("times", &self.times)
            .field("filtered", &self.filter.is_some())
            .finish()
    }
}

/// A [`Registration`] whose calls in flight are counted: see [`Registration::waitable`].
#[must_use = "nothing is registered before `on` or `on_async`"]
pub struct WaitableRegistration<T: ?Sized + 'static> {
    registration: Registration<T>,
}

impl<T: ?Sized + 'static> WaitableRegistration<T> {
    /// Registers a listener that runs inside the emit; beyond the hard limit as [`Registration::on`].
    pub fn on<F, R>(self, listener: F) -> WaitableSubscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.finish(SyncCall::new(listener))
            .unwrap_or_else(|(refused, calls)| WaitableSubscription::new(refused.into_subscription(), calls))
    }

    /// Registers a listener as [`on`](Self::on) does.
    ///
    /// # Errors
    ///
    /// As [`Registration::try_on`].
    pub fn try_on<F, R>(self, listener: F) -> Result<WaitableSubscription, TooManyListeners>
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.finish(SyncCall::new(listener)).map_err(|(refused, _)| refused.error)
    }

    /// Registers an async listener: see [`Event::on_async`](crate::Event::on_async).
    ///
    /// A call is in flight until its future is finished or dropped. Beyond the hard limit this behaves as
    /// [`Registration::on`].
    pub fn on_async<F, Fut>(self, listener: F) -> WaitableSubscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = Arc::clone(self.registration.slot.tasks());
        self.finish(AsyncCall::new(listener, tasks))
            .unwrap_or_else(|(refused, calls)| WaitableSubscription::new(refused.into_subscription(), calls))
    }

    /// Registers an async listener as [`on_async`](Self::on_async) does.
    ///
    /// # Errors
    ///
    /// As [`Registration::try_on`].
    pub fn try_on_async<F, Fut>(self, listener: F) -> Result<WaitableSubscription, TooManyListeners>
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = Arc::clone(self.registration.slot.tasks());
        self.finish(AsyncCall::new(listener, tasks)).map_err(|(refused, _)| refused.error)
    }

    fn finish<C: Call<T> + 'static>(self, call: C) -> Result<WaitableSubscription, (Refused, Arc<Calls>)> {
        let calls = Calls::new();
        match self.registration.finish(call, Some(Arc::clone(&calls))) {
            Ok(subscription) => Ok(WaitableSubscription::new(subscription, calls)),
            Err(refused) => Err((refused, calls)),
        }
    }
}

impl<T: ?Sized + 'static> fmt::Debug for WaitableRegistration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WaitableRegistration").field(&self.registration).finish()
    }
}
