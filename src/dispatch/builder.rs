//! A dispatcher in the making.

use super::Dispatcher;
use super::engine::core::Bounds;

/// What a dispatcher is to hold its users to: see [`Dispatcher::builder`].
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
    /// Starts a dispatcher with other bounds than the default.
    pub fn builder() -> DispatcherBuilder {
        DispatcherBuilder { bounds: Bounds::default() }
    }
}

impl DispatcherBuilder {
    /// Sets above how many listeners of one event a line is written to stderr, once for each event.
    ///
    /// Such a pile is often a registration in a loop that nobody takes off; the line names the place.
    /// 100 by default; `None` for never.
    pub fn warn_above(mut self, listeners: impl Into<Option<usize>>) -> Self {
        self.bounds.warn_above = listeners.into();
        self
    }

    /// Sets how many listeners one event may have at once; one more is refused.
    ///
    /// `None`, the default, for as many as there is memory. A listener that ran its last time counts
    /// until its emit is over.
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
