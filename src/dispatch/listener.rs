//! What a user hands in: closures, what they return, their priority, and listeners with an identity.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::panic::Location;
use std::path::Path;

use super::event::Event;
use super::node::{AsyncNode, Node, Origin};
use super::report::{BoxError, FailureCause};
use super::subscription::Subscription;
use crate::sync::{Arc, guard, unique_number};

/// Says who is called first: higher before lower, and within one priority first come, first called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i32);

impl Priority {
    /// Before all others.
    pub const HIGHEST: Self = Self(200);
    /// Before [`NORMAL`](Self::NORMAL).
    pub const HIGH: Self = Self(100);
    /// The default.
    pub const NORMAL: Self = Self(0);
    /// Another word for [`NORMAL`](Self::NORMAL).
    pub const MEDIUM: Self = Self::NORMAL;
    /// After [`NORMAL`](Self::NORMAL).
    pub const LOW: Self = Self(-100);
    /// After all others.
    pub const LOWEST: Self = Self(-200);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// What a listener may return.
///
/// - `()`: it went well.
/// - `Result<(), E>`, for any `E` that converts into a boxed error: an `Err` goes into the report, the
///   other listeners run all the same.
/// - [`ControlFlow<()>`](ControlFlow): a `Break` stops the emit; listeners further down are not called.
pub trait Outcome: sealed::Outcome {}

impl Outcome for () {}
impl<E: Into<BoxError>> Outcome for Result<(), E> {}
impl Outcome for ControlFlow<()> {}

/// A payload that async listeners can share.
///
/// Given to every `T: Clone`, and to `str`, `[U]` and `Path`. An emit makes one `Arc` when it
/// reaches its first async listener, however many there are; `emit_arc` makes none.
pub trait Payload: sealed::Payload + Send + Sync + 'static {}

impl<T: ?Sized + sealed::Payload + Send + Sync + 'static> Payload for T {}

pub(super) mod sealed {
    use super::{Arc, BoxError, ControlFlow, FailureCause, Path, guard};

    pub trait Outcome {
        /// Never unwinds: the conversion of an error is user code and runs inside the guard.
        fn into_flow(self) -> Result<ControlFlow<()>, FailureCause>;
    }

    impl Outcome for () {
        #[inline]
        fn into_flow(self) -> Result<ControlFlow<()>, FailureCause> {
            Ok(ControlFlow::Continue(()))
        }
    }

    impl<E: Into<BoxError>> Outcome for Result<(), E> {
        #[inline]
        fn into_flow(self) -> Result<ControlFlow<()>, FailureCause> {
            self.map(ControlFlow::Continue).map_err(|error| match guard(|| error.into()) {
                Ok(error) => FailureCause::Error(error),
                Err(panic) => FailureCause::Panic(panic),
            })
        }
    }

    impl Outcome for ControlFlow<()> {
        #[inline]
        fn into_flow(self) -> Result<ControlFlow<()>, FailureCause> {
            Ok(self)
        }
    }

    pub trait Payload {
        fn to_arc(&self) -> Arc<Self>;
    }

    impl<T: Clone> Payload for T {
        fn to_arc(&self) -> Arc<Self> {
            Arc::new(self.clone())
        }
    }

    impl Payload for str {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }

    impl<U: Clone> Payload for [U] {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }

    impl Payload for Path {
        fn to_arc(&self) -> Arc<Self> {
            Arc::from(self)
        }
    }
}

/// A listener with an identity: keep it, register it where you like, and take it off again by itself.
///
/// A clone is the same listener. Registered twice, it runs twice; [`Event::off_listener`] removes
/// all of its registrations at that event.
///
/// ```
/// use fanfare::{Dispatcher, Listener};
///
/// let events = Dispatcher::new();
/// let log = Listener::new(|line: &str| println!("{line}"));
/// events.on_listener("data.received", &log)?;
/// events.on_listener("data.received", &log)?;
///
/// assert_eq!(events.emit("data.received", "hello")?.ran(), 2);
/// assert_eq!(events.off_listener("data.received", &log)?, 2);
/// assert_eq!(events.emit("data.received", "hello")?.ran(), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub struct Listener<T: ?Sized> {
    id: ListenerId,
    call: Arc<Call<T>>,
}

type Call<T> = dyn Fn(&T) -> Result<ControlFlow<()>, FailureCause> + Send + Sync;

/// Unique within the process, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerId(NonZeroU64);

impl ListenerId {
    fn next() -> Self {
        Self(unique_number())
    }
}

impl<T: ?Sized + 'static> Listener<T> {
    /// Makes a listener of a closure.
    pub fn new<F, R>(listener: F) -> Self
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        Self { id: ListenerId::next(), call: Arc::new(move |payload: &T| listener(payload).into_flow()) }
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }
}

impl<T: ?Sized> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, call: Arc::clone(&self.call) }
    }
}

impl<T: ?Sized> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener<{}>(#{})", std::any::type_name::<T>(), self.id.0)
    }
}

/// A registration in the making: [`Event::listen`], then options, then `run`.
///
/// ```
/// use fanfare::{Dispatcher, Priority};
///
/// let events = Dispatcher::new();
/// let opened = events.event::<u32>("door.opened")?;
/// opened.listen().priority(Priority::HIGH).once().run(|door| println!("the first door: {door}"));
/// assert_eq!(opened.emit(&1).ran(), 1);
/// assert_eq!(opened.emit(&2).ran(), 0);
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[must_use = "nothing is registered before `run`, `run_async` or `run_listener`"]
pub struct Registration<T: ?Sized + 'static> {
    event: Event<T>,
    priority: Priority,
    once: bool,
    registered_at: &'static Location<'static>,
}

impl<T: ?Sized + 'static> Registration<T> {
    #[track_caller]
    pub(super) fn new(event: Event<T>) -> Self {
        Self { event, priority: Priority::NORMAL, once: false, registered_at: Location::caller() }
    }

    /// Sets the priority; [`Priority::NORMAL`] without it.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Makes the listener run for one emit only: exactly once, whatever threads or nested emits race for it.
    ///
    /// It is taken just before its call, so an emit that is stopped before its turn does not use it up.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Registers a listener that runs inside the emit.
    pub fn run<F, R>(self, listener: F) -> Subscription
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        let origin = self.origin(None);
        let slot = self.event.slot();
        if self.once {
            slot.add(self.priority, Arc::new(Node::<F, R, true>::new(listener, origin)))
        } else {
            slot.add(self.priority, Arc::new(Node::<F, R, false>::new(listener, origin)))
        }
    }

    /// Registers a [`Listener`], which can be taken off by itself.
    pub fn run_listener(self, listener: &Listener<T>) -> Subscription {
        let origin = self.origin(Some(listener.id));
        let call = Arc::clone(&listener.call);
        let listener = move |payload: &T| Flow(call(payload));
        let slot = self.event.slot();
        if self.once {
            slot.add(self.priority, Arc::new(Node::<_, Flow, true>::new(listener, origin)))
        } else {
            slot.add(self.priority, Arc::new(Node::<_, Flow, false>::new(listener, origin)))
        }
    }

    /// Registers an async listener: see [`Event::on_async`].
    pub fn run_async<F, Fut>(self, listener: F) -> Subscription
    where
        T: Payload,
        F: Fn(Arc<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Outcome> + Send + 'static,
    {
        let origin = self.origin(None);
        let slot = self.event.slot();
        let tasks = Arc::clone(slot.tasks());
        if self.once {
            slot.add(self.priority, Arc::new(AsyncNode::<F, T, true>::new(listener, slot.shared_name(), origin, tasks)))
        } else {
            slot.add(
                self.priority,
                Arc::new(AsyncNode::<F, T, false>::new(listener, slot.shared_name(), origin, tasks)),
            )
        }
    }

    fn origin(&self, identity: Option<ListenerId>) -> Origin {
        Origin { registered_at: self.registered_at, identity }
    }
}

impl<T: ?Sized + 'static> fmt::Debug for Registration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("event", &self.event.name())
            .field("priority", &self.priority)
            .field("once", &self.once)
            .finish()
    }
}

/// What a [`Listener`] returned, its own type erased.
struct Flow(Result<ControlFlow<()>, FailureCause>);

impl Outcome for Flow {}

impl sealed::Outcome for Flow {
    fn into_flow(self) -> Result<ControlFlow<()>, FailureCause> {
        self.0
    }
}
