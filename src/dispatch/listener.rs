//! Listeners as a user names them: their priority, and those with an identity of their own.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::ControlFlow;

use super::engine::failure::FailureCause;
use super::engine::outcome::Outcome;
use super::engine::outcome::sealed::{self, AnyValue, Values};
use crate::sync::{Arc, guard, unique_number};

/// Says who is called first: higher before lower, and within one priority first come, first called.
///
/// Any number is one; the names are the usual steps.
///
/// ```
/// use fanfare::Priority;
///
/// assert!(Priority::HIGH > Priority::from(99));
/// assert_eq!(Priority::from(0), Priority::NORMAL);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i32);

impl Priority {
    /// Before all others that have a name: 200.
    pub const HIGHEST: Self = Self(200);
    /// Before [`NORMAL`](Self::NORMAL): 100.
    pub const HIGH: Self = Self(100);
    /// The default: 0.
    pub const NORMAL: Self = Self(0);
    /// Another word for [`NORMAL`](Self::NORMAL).
    pub const MEDIUM: Self = Self::NORMAL;
    /// After [`NORMAL`](Self::NORMAL): -100.
    pub const LOW: Self = Self(-100);
    /// After all others that have a name: -200.
    pub const LOWEST: Self = Self(-200);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl From<i32> for Priority {
    fn from(priority: i32) -> Self {
        Self(priority)
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// A listener with an identity: keep it, register it where you like, and take it off again by itself.
///
/// A clone is the same listener. Registered twice, it runs twice;
/// [`Event::off_listener`](crate::Event::off_listener) removes all of its registrations at that event.
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
    call: Arc<ErasedCall<T>>,
}

type ErasedCall<T> = dyn Fn(&T) -> Erased + Send + Sync;

/// Unique within the process, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(NonZeroU64);

impl<T: ?Sized + 'static> Listener<T> {
    /// Makes a listener of a closure.
    pub fn new<F, R>(listener: F) -> Self
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        let call = move |payload: &T| {
            let mut kept = Kept(None);
            let flow = listener(payload).settle(&mut kept);
            Erased { flow, value: kept.0 }
        };
        Self { id: ListenerId(unique_number()), call: Arc::new(call) }
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    /// Returns the closure for one registration.
    pub(super) fn closure(&self) -> impl Fn(&T) -> Erased + Send + Sync + use<T> {
        let call = Arc::clone(&self.call);
        move |payload| call(payload)
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

/// What a [`Listener`] returned, its own type erased.
pub(super) struct Erased {
    flow: Result<ControlFlow<()>, FailureCause>,
    value: Option<Box<dyn AnyValue>>,
}

impl Outcome for Erased {}

impl sealed::Outcome for Erased {
    fn settle(self, values: &mut dyn Values) -> Result<ControlFlow<()>, FailureCause> {
        let Some(mut value) = self.value else { return self.flow };
        let accepted = values.accept(&mut *value);
        guard(|| drop(value)).map_err(FailureCause::DropPanic).and(accepted)
    }
}

/// Keeps the value until it is known who asks.
struct Kept(Option<Box<dyn AnyValue>>);

impl Values for Kept {
    fn accept(&mut self, value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause> {
        self.0 = Some(value.take_boxed());
        Ok(ControlFlow::Continue(()))
    }
}
