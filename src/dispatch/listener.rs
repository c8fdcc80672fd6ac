//! [`Listener`]: a listener with an identity of its own.

use std::fmt;
use std::ops::ControlFlow;

use super::engine::failure::FailureCause;
use super::engine::node::ListenerId;
use super::engine::outcome::Outcome;
use super::engine::outcome::sealed::{self, AnyValue, Values};
use crate::sync::{Arc, guard};

/// A listener with an identity: keep it, register it anywhere, and take it off without a subscription.
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

impl<T: ?Sized + 'static> Listener<T> {
    /// Makes a listener of a closure.
    pub fn new<F, R>(listener: F) -> Self
    where
        F: Fn(&T) -> R + Send + Sync + 'static,
        R: Outcome,
    {
        let call = move |payload: &T| {
            let mut kept = KeptValue(None);
            let flow = listener(payload).settle(&mut kept);
            Erased { flow, value: kept.0 }
        };
        Self { id: ListenerId::new(), call: Arc::new(call) }
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
        write!(f, "Listener<{}>({})", std::any::type_name::<T>(), self.id)
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

/// Keeps the value until the emit's own [`Values`] are at hand.
struct KeptValue(Option<Box<dyn AnyValue>>);

impl Values for KeptValue {
    fn accept(&mut self, value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause> {
        self.0 = Some(value.take_boxed());
        Ok(ControlFlow::Continue(()))
    }
}
