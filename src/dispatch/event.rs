//! [`Event`]: a name resolved once, then emitted without any look-up.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;

use super::emit_async::EmitAsync;
use super::engine::core::AnySlot;
use super::engine::counters::EventCounts;
use super::engine::emission::Emission;
use super::engine::info::ListenerInfo;
use super::engine::options::EmitOptions;
use super::engine::outcome::{Folding, Outcome, Payload};
use super::engine::report::Report;
use super::engine::slot::SlotRef;
#[cfg(feature = "tokio")]
use super::engine::tasks::SpawnedEmit;
use super::listener::Listener;
use super::registration::Registration;
use super::stream::{EventStream, Next, StreamOverflow};
use super::subscription::Subscription;
use crate::sync::Arc;

/// A handle to one event of a [`Dispatcher`](crate::Dispatcher): the hot path.
///
/// The name was looked up and the payload type was checked when the handle was made, so no method
/// returns an error. (Beyond a hard limit of listeners, a registration is not active and a stream ends at
/// once; `listen().try_on(..)` returns an error instead.) A clone is the same event. Handles and listeners
/// keep an event alive; an event without either is forgotten.
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
    slot: SlotRef<T>,
}

impl<T: ?Sized + 'static> Event<T> {
    pub(super) fn new(slot: SlotRef<T>) -> Self {
        Self { slot }
    }

    #[inline]
    pub(super) fn slot(&self) -> &SlotRef<T> {
        &self.slot
    }

    /// Returns the name, its namespaces included.
    #[must_use]
    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// Registers a listener at [`Priority::NORMAL`](crate::Priority::NORMAL), behind those of its priority.
    ///
    /// The listener runs inside each emit that starts after this returned, on the emitting thread. An emit
    /// that is under way does not call it. Dropping the [`Subscription`] removes nothing.
    #[track_caller]
    pub fn on<F, R>(&self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.listen().on(listener)
    }

    /// Registers a listener that runs for one emit only: exactly once, whatever threads race for it.
    #[track_caller]
    pub fn once<F, R>(&self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        self.listen().once().on(listener)
    }

    /// Registers an async listener.
    ///
    /// [`emit_async`](Self::emit_async) waits for the listener in its turn. A plain [`emit`](Self::emit)
    /// hands it to the current tokio runtime (feature `tokio`) and does not wait. At most 65 536 such calls
    /// are in flight per dispatcher; a listener that cannot be run is a failure in the report.
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
        self.listen().on_async(listener)
    }

    /// Registers an async listener with state of its own, which is cloned for each call.
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
        self.listen().on_async(move |payload| listener(state.clone(), payload))
    }

    /// Registers an async listener that runs for one emit only.
    ///
    /// The call is claimed when it begins: dropping the emit half-way does not give it back.
    #[track_caller]
    pub fn once_async<F, Fut>(&self, listener: F) -> Subscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        self.listen().once().on_async(listener)
    }

    /// Registers a [`Listener`], which can later be taken off without its subscription.
    #[track_caller]
    pub fn on_listener(&self, listener: &Listener<T>) -> Subscription {
        self.listen().on_listener(listener)
    }

    /// Starts a registration with options.
    #[track_caller]
    pub fn listen(&self) -> Registration<T> {
        Registration::new(self.slot.clone())
    }

    /// Takes off all registrations of `listener` at this event, and returns how many.
    pub fn off_listener(&self, listener: &Listener<T>) -> usize {
        self.slot.off_listener(listener.id())
    }

    /// Takes off all listeners of this event, and returns how many.
    pub fn off_all(&self) -> usize {
        self.slot.off_all()
    }

    /// Returns the number of active listeners.
    #[must_use]
    pub fn listener_count(&self) -> usize {
        self.slot.listener_count()
    }

    /// Returns the active registrations, in the order of calls.
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.slot.listeners()
    }

    /// Keeps emits from calling any listener until the returned value is dropped.
    ///
    /// Mutes are counted: emits call listeners again when all mutes are over. An emit of any kind that starts
    /// after this returns calls no listener and uses up no `once`; an emit that is running goes on.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let changed = events.event::<u32>("cell.changed")?;
    /// changed.on(|_| {});
    /// {
    ///     let _muted = changed.mute(); // a bulk load, say
    ///     assert_eq!(changed.emit(&1).ran(), 0);
    /// }
    /// assert_eq!(changed.emit(&2).ran(), 1);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn mute(&self) -> Muted<T> {
        self.slot.mute();
        Muted { event: self.clone() }
    }

    /// Returns whether the event is muted.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.slot.is_muted()
    }

    /// Counts the emits of this event from now on, for as long as it lives.
    ///
    /// Events do not count by default, which costs nothing. Counting costs two or three writes per emit;
    /// threads are spread over 16 shards in turn.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let tick = events.event::<u32>("tick")?;
    /// assert!(tick.counts().is_none());
    /// tick.enable_counts();
    /// tick.on(|_| {});
    /// tick.emit(&1);
    /// let counts = tick.counts().expect("it counts now");
    /// assert_eq!((counts.emits, counts.calls, counts.failures), (1, 1, 0));
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn enable_counts(&self) {
        self.slot.enable_counts();
    }

    /// Returns the counts; `None` before [`enable_counts`](Self::enable_counts).
    #[must_use]
    pub fn counts(&self) -> Option<EventCounts> {
        self.slot.counts()
    }

    /// Calls the listeners: highest priority first, then in the order of registration.
    ///
    /// The emit runs the listeners as they were when it started, except those taken off or paused before
    /// their turn. A failure or panic of one listener goes into the report, and the others run all the same.
    /// No lock is held: a listener may do anything, such as emit again or take itself off. Past
    /// [`MAX_DEPTH`](super::MAX_DEPTH) nested emits no listener is called, and the report has a failure.
    #[inline]
    pub fn emit(&self, payload: &T) -> Report {
        self.slot.emit(payload, Emission::new())
    }

    /// Like [`emit`](Self::emit), sharing `payload` with async listeners instead of cloning it for them.
    pub fn emit_arc(&self, payload: Arc<T>) -> Report {
        let report = self.slot.emit(&payload, Emission::sharing(Arc::clone(&payload)));
        self.slot.event().drop_payload(payload, report)
    }

    /// Like [`emit`](Self::emit), with options: see [`EmitOptions`].
    pub fn emit_with(&self, options: EmitOptions, payload: &T) -> Report {
        self.slot.emit(payload, Emission::with_options(options))
    }

    /// Like [`emit`](Self::emit), and returns the values of listeners that return a [`Value<V>`](super::Value), in
    /// the order of calls.
    ///
    /// A value of another type is a failure in the report; the other listeners run all the same. The emit
    /// does not wait for the values of async listeners.
    pub fn emit_collect<V: 'static>(&self, payload: &T) -> (Vec<V>, Report) {
        self.emit_fold(payload, Vec::new(), |mut values, value| {
            values.push(value);
            ControlFlow::Continue(values)
        })
    }

    /// Like [`emit_collect`](Self::emit_collect), folding the values as they come; a `Break` stops the emit.
    ///
    /// A panic of `fold` stops the emit, and resumes in the caller when the emit is over.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use fanfare::{Dispatcher, dispatch::Value};
    ///
    /// let events = Dispatcher::new();
    /// let vote = events.event::<str>("vote")?;
    /// vote.on(|_| Value(true));
    /// vote.on(|motion| Value(motion != "war"));
    /// vote.on(|_| Value(true));
    /// let (agreed, report) = vote.emit_fold("war", true, |_, yes| {
    ///     if yes { ControlFlow::Continue(true) } else { ControlFlow::Break(false) }
    /// });
    /// assert_eq!((agreed, report.ran()), (false, 2));
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn emit_fold<V, A, F>(&self, payload: &T, initial: A, fold: F) -> (A, Report)
    where
        V: 'static,
        F: FnMut(A, V) -> ControlFlow<A, A>,
    {
        let mut values = Folding::new(initial, fold);
        let report = self.slot.emit(payload, Emission::asking(&mut values));
        (values.finish(), report)
    }

    /// Calls the listeners like [`emit`](Self::emit), and waits for each async one before the next.
    ///
    /// The emit starts at the first poll of its future, and works on any runtime. With sync listeners only, it is
    /// ready at that poll and allocates nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future half-way drops the future of the listener it waits for, and calls none of the
    /// rest. Earlier listeners have run; a `once` listener that has begun is used up.
    pub fn emit_async<'a>(&'a self, payload: &'a T) -> EmitAsync<'a, T> {
        self.emit_async_with(EmitOptions::new(), payload)
    }

    /// Like [`emit_async`](Self::emit_async), with options: for example, to wait for several listeners at once.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use fanfare::{Dispatcher, dispatch::EmitOptions};
    ///
    /// let events = Dispatcher::new();
    /// let saved = events.event::<String>("file.saved")?;
    /// saved.on_async(|path: Arc<String>| async move { println!("index {path}") });
    /// saved.on_async(|path: Arc<String>| async move { println!("back {path} up") });
    /// let path = "a.txt".to_owned();
    /// let report = futures_executor::block_on(saved.emit_async_with(EmitOptions::new().concurrent(8), &path));
    /// assert_eq!(report.ran(), 2);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`emit_async`](Self::emit_async); the futures of all listeners it waits for are dropped.
    pub fn emit_async_with<'a>(&'a self, options: EmitOptions, payload: &'a T) -> EmitAsync<'a, T> {
        EmitAsync::new(&self.slot, options, payload)
    }

    /// Calls the listeners like [`emit`](Self::emit), and returns a handle to the async ones.
    ///
    /// Async listeners run as tasks of the current tokio runtime; awaiting the handle waits for all of
    /// them and returns the whole report.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::EventError> {
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let saved = events.event::<String>("file.saved")?;
    /// saved.on_async(|_| async { Err::<(), _>("the disk is full") });
    /// let emit = saved.emit_spawned(&"a.txt".to_owned());
    /// assert_eq!(emit.report().spawned(), 1);
    /// assert_eq!(emit.await.failures().len(), 1);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn emit_spawned(&self, payload: &T) -> SpawnedEmit {
        let mut tasks = Vec::new();
        let report = self.slot.emit(payload, Emission::keeping_tasks(&mut tasks));
        SpawnedEmit::new(report, tasks)
    }

    /// Waits for the first emit after this call.
    ///
    /// The future resolves to the shared payload, or to `None` if its listener is taken off first. Emits
    /// between two such calls are missed: use [`stream`](Self::stream) to get all of them.
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let ready = events.event::<u16>("server.ready")?;
    /// let next = ready.next();
    /// ready.emit(&3000);
    /// assert_eq!(futures_executor::block_on(next).as_deref(), Some(&3000));
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes its listener off. No other listener or stream misses a payload.
    #[track_caller]
    pub fn next(&self) -> Next<T>
    where
        T: Payload,
    {
        Next::new(self.listen())
    }

    /// Returns the payloads of all emits after this call as a stream, through a queue of this capacity.
    ///
    /// ```
    /// use fanfare::{Dispatcher, dispatch::StreamOverflow};
    ///
    /// let events = Dispatcher::new();
    /// let tick = events.event::<u32>("tick")?;
    /// let mut ticks = tick.stream(2, StreamOverflow::DropOldest);
    /// (1..=3).for_each(|n| drop(tick.emit(&n)));
    /// let first = futures_executor::block_on(ticks.next());
    /// assert_eq!((first.as_deref(), ticks.dropped()), (Some(&2), 1));
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    #[track_caller]
    pub fn stream(&self, capacity: usize, overflow: StreamOverflow) -> EventStream<T>
    where
        T: Payload,
    {
        EventStream::new(self.listen(), capacity, overflow)
    }
}

impl<T: ?Sized + 'static> Clone for Event<T> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone() }
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

/// One mute of an event, until it is dropped: see [`Event::mute`].
#[must_use = "the mute ends when this is dropped"]
pub struct Muted<T: ?Sized + 'static> {
    event: Event<T>,
}

impl<T: ?Sized + 'static> Drop for Muted<T> {
    fn drop(&mut self) {
        self.event.slot.unmute();
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Muted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Muted").field(&self.event).finish()
    }
}
