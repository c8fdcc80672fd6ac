//! [`Event`]: a name resolved once, then emitted without any look-up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::emission::{Awaited, run};
use super::listener::{Listener, Outcome, Payload, Registration};
use super::report::Report;
use super::slot::{AnySlot, Slot};
use super::subscription::Subscription;
use crate::sync::Arc;

/// A handle to one event of a [`Dispatcher`](crate::Dispatcher): the hot path.
///
/// The name was looked up and the payload's type was checked when the handle was made, so nothing
/// here can fail. A clone is the same event. Handles and listeners keep an event alive; an event
/// that has neither is forgotten.
///
/// ```
/// use fanfare::{Dispatcher, Event, Key};
///
/// const CREATED: Key<String> = Key::new("user.created");
///
/// let events = Dispatcher::new();
/// let created: Event<String> = events.event(CREATED)?;
/// created.on(|user| println!("welcome, {user}"));
/// let report = created.emit(&"Ada".to_owned());
/// assert_eq!(report.ran(), 1);
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub struct Event<T: ?Sized + 'static> {
    /// Holds one reference of the slot.
    slot: Arc<Slot<T>>,
}

impl<T: ?Sized + 'static> Event<T> {
    /// Takes over a reference that the caller acquired.
    pub(super) fn new(slot: Arc<Slot<T>>) -> Self {
        Self { slot }
    }

    pub(super) fn slot(&self) -> &Slot<T> {
        &self.slot
    }

    /// Returns the name, its namespaces included.
    #[must_use]
    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// Registers a listener at [`Priority::NORMAL`](crate::Priority::NORMAL), behind those of its priority.
    ///
    /// It runs inside each emit that starts after this returned, on the emitting thread. An emit
    /// that is under way does not see it. Dropping the [`Subscription`] removes nothing.
    #[track_caller]
    pub fn on<F, R>(&self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.listen().run(listener)
    }

    /// Registers a listener that runs for one emit only: exactly once, whatever threads race for it.
    #[track_caller]
    pub fn once<F, R>(&self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.listen().once().run(listener)
    }

    /// Registers an async listener.
    ///
    /// [`emit_async`](Self::emit_async) waits for it, in its turn. A plain [`emit`](Self::emit) hands
    /// it to the current tokio runtime (feature `tokio`) and does not wait: at most 65 536 are in
    /// flight per dispatcher, and one that cannot be run is a failure in the report.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let saved = events.event::<String>("file.saved")?;
    /// saved.on_async(|path: Arc<String>| async move { println!("{path} is saved") });
    /// let report = futures_executor::block_on(saved.emit_async(&"a.txt".to_owned()));
    /// assert_eq!(report.ran(), 1);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    #[track_caller]
    pub fn on_async<F, Fut>(&self, listener: F) -> Subscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.listen().run_async(listener)
    }

    /// Registers an async listener together with what it works on, which is cloned for each call.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let total = Arc::new(AtomicUsize::new(0));
    /// let paid = events.event::<usize>("order.paid")?;
    /// paid.on_async_with(Arc::clone(&total), |total, cents| async move {
    ///     total.fetch_add(*cents, Ordering::Relaxed);
    /// });
    /// futures_executor::block_on(paid.emit_async(&250));
    /// assert_eq!(total.load(Ordering::Relaxed), 250);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    #[track_caller]
    pub fn on_async_with<S, F, Fut>(&self, state: S, listener: F) -> Subscription
    where
        T: Payload,
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.listen().run_async(move |payload| listener(state.clone(), payload))
    }

    /// Registers an async listener that runs for one emit only.
    ///
    /// It is taken when its call begins: dropping the emit half-way does not give it back.
    #[track_caller]
    pub fn once_async<F, Fut>(&self, listener: F) -> Subscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.listen().once().run_async(listener)
    }

    /// Registers a [`Listener`], which can be taken off by itself.
    #[track_caller]
    pub fn on_listener(&self, listener: &Listener<T>) -> Subscription {
        self.listen().run_listener(listener)
    }

    /// Starts a registration with options.
    #[track_caller]
    pub fn listen(&self) -> Registration<T> {
        Registration::new(self.clone())
    }

    /// Takes off all registrations of `listener` at this event, and returns how many.
    pub fn off_listener(&self, listener: &Listener<T>) -> usize {
        self.slot.off_listener(listener.id())
    }

    /// Takes off all listeners of this event, and returns how many.
    pub fn off_all(&self) -> usize {
        self.slot.off_all()
    }

    /// Returns the number of listeners that may be called.
    #[must_use]
    pub fn listener_count(&self) -> usize {
        self.slot.listener_count()
    }

    /// Calls the listeners: highest priority first, then in the order of registration.
    ///
    /// The emit runs the listeners as they were when it started, less those taken off before their
    /// turn. A listener that fails or panics is noted in the report and keeps no other from running.
    /// Listeners may do anything here, a nested emit and `off` of themselves included: nothing is locked.
    #[inline]
    pub fn emit(&self, payload: &T) -> Report {
        if self.slot.is_heard() { run(&self.slot.table(), payload, None) } else { Report::default() }
    }

    /// Like [`emit`](Self::emit), sharing `payload` with async listeners instead of cloning it for them.
    pub fn emit_arc(&self, payload: Arc<T>) -> Report {
        if self.slot.is_heard() {
            run(&self.slot.table(), &*Arc::clone(&payload), Some(payload))
        } else {
            Report::default()
        }
    }

    /// Calls the listeners like [`emit`](Self::emit), and waits for each async one before the next.
    ///
    /// Starts at its first poll, and works on any runtime. Over sync listeners alone it is ready at
    /// that poll and allocates nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future half-way drops the listener it waits for and calls none of the rest. Those
    /// that ran have run; a once listener that was begun is used up.
    pub fn emit_async<'a>(&'a self, payload: &'a T) -> EmitAsync<'a, T> {
        EmitAsync { slot: &self.slot, walk: Awaited::new(payload) }
    }
}

impl<T: ?Sized + 'static> Clone for Event<T> {
    fn clone(&self) -> Self {
        let acquired = self.slot.acquire();
        debug_assert!(acquired, "the reference of this handle keeps the slot open");
        Self { slot: Arc::clone(&self.slot) }
    }
}

impl<T: ?Sized + 'static> Drop for Event<T> {
    fn drop(&mut self) {
        self.slot.release(1);
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Event<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name())
            .field("payload", &self.slot.payload_type())
            .field("listeners", &self.listener_count())
            .finish()
    }
}

/// The future of [`Event::emit_async`].
#[must_use = "an async emit starts when it is awaited"]
pub struct EmitAsync<'a, T: ?Sized + 'static> {
    slot: &'a Slot<T>,
    walk: Awaited<'a, T>,
}

impl<T: ?Sized + 'static> Future for EmitAsync<'_, T> {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let Self { slot, walk } = &mut *self;
        if walk.is_waiting() {
            walk.resume(cx)
        } else if slot.is_heard() {
            walk.start(slot.table(), cx)
        } else {
            Poll::Ready(Report::default())
        }
    }
}

impl<T: ?Sized + 'static> fmt::Debug for EmitAsync<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitAsync")
            .field("event", self.slot.name())
            .field("waiting", &self.walk.is_waiting())
            .finish_non_exhaustive()
    }
}
