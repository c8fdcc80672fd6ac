//! A dispatcher in the making.

use super::Dispatcher;
use super::engine::core::Bounds;

/// The bounds of a dispatcher in the making: see [`Dispatcher::builder`].
///
/// ```
/// use fanfare::{Dispatcher, EventError};
///
/// let events = Dispatcher::builder().warn_above(None).listener_limit(2).build();
/// events.on("tick", |_: &u32| {})?;
/// events.on("tick", |_: &u32| {})?;
/// let error = events.on("tick", |_: &u32| {}).unwrap_err();
/// assert!(matches!(error, EventError::TooManyListeners(_)));
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is made before `build`"]
pub struct DispatcherBuilder {
    bounds: Bounds,
}

impl Dispatcher {
    /// Returns a builder, for a dispatcher with other bounds than the default.
    pub fn builder() -> DispatcherBuilder {
        DispatcherBuilder { bounds: Bounds::default() }
    }
}

impl DispatcherBuilder {
    /// Sets the number of listeners above which an event logs a warning to stderr, once per event.
    ///
    /// Such a number often comes from registrations in a loop that are never taken off; the warning names
    /// the place of registration. 100 by default; `None` for never.
    pub fn warn_above(mut self, listeners: impl Into<Option<usize>>) -> Self {
        self.bounds.warn_above = listeners.into();
        self
    }

    /// Sets how many listeners one event may have at once; further registrations are refused.
    ///
    /// `None`, the default, means no limit. A listener that has made its last call counts until the emit
    /// that called it is over.
    pub fn listener_limit(mut self, listeners: impl Into<Option<usize>>) -> Self {
        self.bounds.listener_limit = listeners.into();
        self
    }

    /// Makes the dispatcher.
    #[must_use]
    pub fn build(self) -> Dispatcher {
        Dispatcher::with_bounds(self.bounds)
    }
}
