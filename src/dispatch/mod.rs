//! The dispatcher: named events, their listeners, and emits that run them.
//!
//! ```text
//! Dispatcher  --- name map --->  Slot  --- cell --->  Table  --->  entries, in the order of calls
//!   by name: one look-up          one per event        immutable, replaced by `on` and `off`
//! Event ------------------------^ by handle: none
//! ```
//!
//! An emit loads the table and walks it; `on` and `off` publish a new one. No lock is held while a
//! listener runs, and an emit writes no shared cache line. [The guarantees](crate::docs::guarantees)
//! list what the dispatcher promises.

mod builder;
mod emit_async;
mod engine;
mod error;
mod event;
mod listener;
mod publisher;
mod registration;
mod stream;
mod subscription;
mod weak;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;

pub use builder::DispatcherBuilder;
pub use emit_async::EmitAsync;
pub use engine::counters::EventCounts;
pub use engine::depth::MAX_DEPTH;
pub use engine::failure::{BoxError, Failure, FailureCause};
pub use engine::info::ListenerInfo;
pub use engine::node::ListenerKind;
pub use engine::options::EmitOptions;
pub use engine::outcome::{Outcome, Payload, Value};
pub use engine::priority::Priority;
pub use engine::report::Report;
#[cfg(feature = "tokio")]
pub use engine::tasks::{Drained, SpawnedEmit};
pub use error::{EventError, PayloadMismatch, TooManyListeners};
pub use event::{Event, Muted};
pub use listener::Listener;
pub use publisher::Publisher;
pub use registration::{Registration, WaitableRegistration};
pub use stream::{EventStream, Next, StreamOverflow};
pub use subscription::{Paused, ScopedSubscription, Subscription, WaitError, WaitableSubscription, WouldDeadlock};
pub use weak::{WeakDispatcher, WeakEvent};

use self::engine::awaited::Awaited;
use self::engine::core::{AnySlot, Bounds, Core};
use self::engine::depth::Depth;
use self::engine::emission::Emission;
use self::engine::slot::{Hears, Slot, SlotRef};
use self::engine::table::Table;
use self::engine::walk::run;
use crate::name::{self, EventName, SEPARATOR};
use crate::sync::{Arc, SnapshotGuard, Weak};

/// Owns listeners by event name, and runs them.
///
/// A clone is the same dispatcher. It is `Send + Sync`; every method takes `&self` and may be called
/// from anywhere, listeners included. The first listener or handle of an event fixes its payload
/// type; another type is an error until the event is forgotten.
///
/// A dispatcher has the plain and the async emit. An [`Event`], which [`event`](Self::event) returns,
/// has the others, to collect values for example.
///
/// A listener that captures its own dispatcher keeps it alive for ever: let it capture a
/// [`downgrade`](Self::downgrade)d handle.
///
/// ```
/// use fanfare::Dispatcher;
///
/// #[derive(Clone)]
/// struct User { name: String }
///
/// let events = Dispatcher::new();
/// events.on("user.created", |user: &User| println!("{} is here", user.name))?;
/// let report = events.emit("user.created", &User { name: "Ada".into() })?;
/// assert_eq!(report.ran(), 1);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Clone)]
pub struct Dispatcher {
    core: Arc<Core>,
    /// The prefix of every name: empty, or namespaces, each with its separator.
    prefix: Arc<str>,
}

/// What a look-up by name finds for an emit.
enum Found<T: ?Sized> {
    /// The event is unknown, or has no listeners.
    Nobody,
    Table(SnapshotGuard<Table<T>>),
    /// Muted or counted.
    Watched(Arc<Slot<T>>),
}

impl Dispatcher {
    /// Makes a dispatcher without events.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bounds(Bounds::default())
    }

    fn with_bounds(bounds: Bounds) -> Self {
        Self { core: Arc::new(Core::new(bounds)), prefix: Arc::from("") }
    }

    /// Calls `hook` for every failure of this dispatcher when it happens, instead of writing to stderr.
    ///
    /// There is one hook for all namespaces; a later call replaces it. The hook also gets the failures of
    /// async listeners that a plain emit handed to the runtime; no report has those. It runs on the thread
    /// where the failure happened. A failure inside the hook (its own panic, or a listener that the hook
    /// emits to) is written to stderr and does not call the hook again. An event handle that outlives the
    /// dispatcher loses the hook. The process's panic hook still prints every panic of a listener.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use fanfare::Dispatcher;
    ///
    /// let failures = Arc::new(Mutex::new(Vec::new()));
    /// let events = Dispatcher::new();
    /// let seen = Arc::clone(&failures);
    /// events.on_error(move |failure| seen.lock().unwrap().push(failure.to_string()));
    /// events.on("order.paid", |_: &u64| Err::<(), _>("no printer"))?;
    /// events.emit("order.paid", &250u64)?;
    /// assert_eq!(*failures.lock().unwrap(), ["listener of `order.paid` failed: no printer"]);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn on_error(&self, hook: impl Fn(&Failure) + Send + Sync + 'static) {
        self.core.hook.set(Some(Arc::new(hook)));
    }

    /// Returns the part of this dispatcher whose names begin with `namespace` and a colon.
    ///
    /// It has every method of a dispatcher, and namespaces nest. This call creates no event and checks
    /// nothing: an invalid namespace is an error of the call that uses it, if that returns a `Result`. Each
    /// call joins the full name: in a hot path, hold an [`Event`].
    ///
    /// ```
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// let ui = events.namespace("ui");
    /// ui.on("button.click", |id: &str| println!("{id}"))?;
    /// assert_eq!(ui.emit("button.click", "ok")?.ran(), 1);
    /// assert_eq!(events.emit("ui:button.click", "ok")?.ran(), 1);
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Self {
        let prefix = format!("{}{namespace}{SEPARATOR}", self.prefix);
        Self { core: Arc::clone(&self.core), prefix: prefix.into() }
    }

    /// Returns the handle to an event, for emits without a look-up.
    ///
    /// # Errors
    ///
    /// When the name is invalid, or the event has another payload type.
    pub fn event<T: ?Sized + 'static>(&self, name: impl EventName<T>) -> Result<Event<T>, EventError> {
        self.slot(name.name()).map(Event::new)
    }

    /// Registers a listener: see [`Event::on`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn on<T, F, R>(&self, name: impl EventName<T>, listener: F) -> Result<Subscription, EventError>
    where
        T: ?Sized + 'static,
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        Ok(self.listen(name)?.try_on(listener)?)
    }

    /// Registers a listener for one emit only: see [`Event::once`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn once<T, F, R>(&self, name: impl EventName<T>, listener: F) -> Result<Subscription, EventError>
    where
        T: ?Sized + 'static,
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        Ok(self.listen(name)?.once().try_on(listener)?)
    }

    /// Registers an async listener: see [`Event::on_async`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn on_async<T, F, Fut>(&self, name: impl EventName<T>, listener: F) -> Result<Subscription, EventError>
    where
        T: Payload + ?Sized,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        Ok(self.listen(name)?.try_on_async(listener)?)
    }

    /// Registers an async listener with state of its own: see [`Event::on_async_with`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn on_async_with<T, S, F, Fut>(
        &self,
        name: impl EventName<T>,
        state: S,
        listener: F,
    ) -> Result<Subscription, EventError>
    where
        T: Payload + ?Sized,
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        Ok(self.listen(name)?.try_on_async(move |payload| listener(state.clone(), payload))?)
    }

    /// Registers an async listener for one emit only: see [`Event::once_async`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn once_async<T, F, Fut>(&self, name: impl EventName<T>, listener: F) -> Result<Subscription, EventError>
    where
        T: Payload + ?Sized,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        Ok(self.listen(name)?.once().try_on_async(listener)?)
    }

    /// Registers a [`Listener`], which can later be taken off without its subscription.
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event), or when the event has as many listeners as the dispatcher allows;
    /// nothing is registered then.
    #[track_caller]
    pub fn on_listener<T: ?Sized + 'static>(
        &self,
        name: impl EventName<T>,
        listener: &Listener<T>,
    ) -> Result<Subscription, EventError> {
        Ok(self.listen(name)?.try_on_listener(listener)?)
    }

    /// Starts a registration with options: see [`Registration`].
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event).
    #[track_caller]
    pub fn listen<T: ?Sized + 'static>(&self, name: impl EventName<T>) -> Result<Registration<T>, EventError> {
        // Not `.map`: the caller of `Registration::new` is recorded as the place of registration.
        let slot = self.slot(name.name())?;
        Ok(Registration::new(slot))
    }

    /// Takes a listener off; false when it is gone already, or belongs to another dispatcher.
    pub fn off(&self, subscription: &Subscription) -> bool {
        let ours = subscription.slot().is_some_and(|slot| Weak::ptr_eq(slot.core(), &Arc::downgrade(&self.core)));
        ours && subscription.off()
    }

    /// Takes off all registrations of `listener` at the event `name`, and returns how many.
    ///
    /// # Errors
    ///
    /// When the name is invalid, or the event has another payload type. An unknown name is not an error: 0.
    pub fn off_listener<T: ?Sized + 'static>(
        &self,
        name: impl EventName<T>,
        listener: &Listener<T>,
    ) -> Result<usize, EventError> {
        let name = self.full(name.name());
        let Some(found) = self.core.names.with(&*name, Arc::clone) else {
            name::validate(&name)?;
            return Ok(0);
        };
        match typed::<T>(&*found) {
            Ok(slot) => Ok(slot.off_listener(listener.id())),
            Err(_) if found.is_closed() => Ok(0),
            Err(mismatch) => Err(mismatch.into()),
        }
    }

    /// Takes off all listeners of the event `name`, and returns how many; 0 for an unknown name.
    pub fn off_all(&self, name: impl AsRef<str>) -> usize {
        let found = self.core.names.with(&*self.full(name.as_ref()), Arc::clone);
        found.map_or(0, |slot| slot.off_all())
    }

    /// Calls the listeners of an event: see [`Event::emit`].
    ///
    /// This costs one look-up. An emit to an unknown name creates no event.
    ///
    /// # Errors
    ///
    /// When the name is invalid, or the event has another payload type; no listener was called then.
    #[inline]
    pub fn emit<T: ?Sized + 'static>(&self, name: impl EventName<T>, payload: &T) -> Result<Report, EventError> {
        Ok(match self.find(name.name())? {
            Found::Table(table) => run(&table, payload, Emission::new(), &Depth::enter()),
            Found::Nobody => Report::default(),
            Found::Watched(slot) => slot.emit_watched(payload, Emission::new()),
        })
    }

    /// Calls the listeners of an event, sharing `payload` with async ones: see [`Event::emit_arc`].
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn emit_arc<T: ?Sized + 'static>(
        &self,
        name: impl EventName<T>,
        payload: Arc<T>,
    ) -> Result<Report, EventError> {
        let emission = Emission::sharing(Arc::clone(&payload));
        Ok(match self.find(name.name())? {
            Found::Table(table) => {
                let report = run(&table, &*payload, emission, &Depth::enter());
                table.event().drop_payload(payload, report)
            }
            Found::Nobody => Report::default(),
            Found::Watched(slot) => {
                let report = slot.emit_watched(&*payload, emission);
                slot.event().drop_payload(payload, report)
            }
        })
    }

    /// Calls the listeners of an event and waits for the async ones: see [`Event::emit_async`].
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    ///
    /// # Cancel safety
    ///
    /// As [`Event::emit_async`].
    pub async fn emit_async<T: ?Sized + 'static>(
        &self,
        name: impl EventName<T>,
        payload: &T,
    ) -> Result<Report, EventError> {
        let mut walk = Awaited::new(payload, EmitOptions::new());
        poll_fn(|cx| {
            if walk.is_waiting() {
                return walk.resume(cx).map(Ok);
            }
            match self.find(name.name()) {
                Ok(Found::Table(table)) => walk.begin_with(table, cx).map(Ok),
                Ok(Found::Nobody) => Poll::Ready(Ok(Report::default())),
                Ok(Found::Watched(slot)) => walk.begin_watched(&slot, cx).map(Ok),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Resolves when no async listener is in flight that a plain emit handed to the runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), fanfare::EventError> {
    /// use std::sync::Arc;
    /// use fanfare::Dispatcher;
    ///
    /// let events = Dispatcher::new();
    /// events.on_async("mail.queued", |to: Arc<String>| async move { println!("sent to {to}") })?;
    /// let report = events.emit("mail.queued", &"ada@example.org".to_owned())?;
    /// assert_eq!(report.spawned(), 1);
    /// events.drained().await;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn drained(&self) -> Drained {
        self.core.tasks.drained()
    }

    /// Returns the number of active listeners of an event; 0 for an unknown name.
    #[must_use]
    pub fn listener_count(&self, name: impl AsRef<str>) -> usize {
        let found = self.core.names.with(&*self.full(name.as_ref()), Arc::clone);
        found.map_or(0, |slot| slot.listener_count())
    }

    /// Returns the active registrations of an event, in the order of calls; none for an unknown name.
    #[must_use]
    pub fn listeners(&self, name: impl AsRef<str>) -> Vec<ListenerInfo> {
        let found = self.core.names.with(&*self.full(name.as_ref()), Arc::clone);
        found.map_or_else(Vec::new, |slot| slot.listeners())
    }

    /// Returns the names of the events that have a listener or a handle, sorted.
    ///
    /// Returns the full names of all namespaces, also when it is called on one of them. The list may or may not
    /// have an event that another thread adds or removes meanwhile.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.core.names.values().iter().map(|slot| Arc::clone(slot.name())).collect();
        names.sort_unstable();
        names
    }

    /// Returns the number of events that have a listener or a handle, in all namespaces.
    #[must_use]
    pub fn event_count(&self) -> usize {
        self.core.names.len()
    }

    /// Reports to the recorder of the crate `metrics` what events have [counted](Event::enable_counts) since the last
    /// call.
    ///
    /// Call this from a timer, or before the recorder is read: an emit itself reports nothing. The full names of
    /// counted events become labels, so count only a few events. When an event loses its last listener and handle,
    /// its counts since the last call are lost.
    ///
    /// ```
    /// let events = fanfare::Dispatcher::new();
    /// let tick = events.event::<u32>("tick")?;
    /// tick.enable_counts();
    /// tick.emit(&1);
    /// events.record_metrics(); // fanfare_emits_total{event="tick"} has risen by 1
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    ///
    /// With the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        self.core.names.values().iter().for_each(|slot| slot.record_metrics());
    }

    fn full<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{}{name}", self.prefix)) }
    }

    /// Returns a reference to the event's slot, and makes the slot if there is none.
    fn slot<T: ?Sized + 'static>(&self, name: &str) -> Result<SlotRef<T>, EventError> {
        let name = self.full(name);
        loop {
            let found = match self.core.names.with(&*name, Arc::clone) {
                Some(found) => found,
                None => {
                    name::validate(&name)?;
                    let name = Arc::<str>::from(&*name);
                    self.core.names.get_or_insert(Arc::clone(&name), Slot::<T>::new(name, &self.core))
                }
            };
            if !found.acquire() {
                // Closed: its last user is about to remove it from the map, and either of us may come first.
                self.core.names.remove_if_same(&*name, &found);
                continue;
            }
            let slot = typed::<T>(&*found).map(|slot| SlotRef::new(slot.arc()));
            if slot.is_err() {
                found.release(1);
            }
            return Ok(slot?);
        }
    }

    /// Looks up the listeners of an event.
    ///
    /// The map's epoch is held for the look-up alone: the table's own guard keeps the table alive while listeners run.
    #[inline]
    fn find<T: ?Sized + 'static>(&self, name: &str) -> Result<Found<T>, EventError> {
        let name = self.full(name);
        let found = self.core.names.with(&*name, |slot| match typed::<T>(&**slot) {
            Ok(slot) => Ok(match slot.audience().hears() {
                Hears::Plain => Found::Table(slot.table()),
                Hears::Nobody => Found::Nobody,
                Hears::Watched => Found::Watched(slot.arc()),
            }),
            Err(_) if slot.is_closed() => Ok(Found::Nobody),
            Err(error) => Err(error),
        });
        match found {
            Some(found) => Ok(found?),
            None => name::validate(&name).map(|()| Found::Nobody).map_err(EventError::from),
        }
    }
}

impl Default for Dispatcher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("namespace", &self.prefix).field("events", &self.names()).finish()
    }
}

#[inline]
fn typed<T: ?Sized + 'static>(slot: &dyn AnySlot) -> Result<&Slot<T>, PayloadMismatch> {
    (slot as &dyn Any).downcast_ref().ok_or_else(|| PayloadMismatch::new::<T>(slot))
}
