//! The errors of a call by name.

use std::any::type_name;
use std::fmt;

use super::engine::core::AnySlot;
use crate::name::InvalidName;
use crate::sync::Arc;

/// Why a call by name failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// No event can have this name.
    InvalidName(InvalidName),
    /// The event has another payload type.
    PayloadMismatch(PayloadMismatch),
    /// The event has as many listeners as its dispatcher allows.
    TooManyListeners(TooManyListeners),
}

impl From<TooManyListeners> for EventError {
    fn from(error: TooManyListeners) -> Self {
        Self::TooManyListeners(error)
    }
}

impl From<InvalidName> for EventError {
    fn from(error: InvalidName) -> Self {
        Self::InvalidName(error)
    }
}

impl From<PayloadMismatch> for EventError {
    fn from(error: PayloadMismatch) -> Self {
        Self::PayloadMismatch(error)
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName(error) => error.fmt(f),
            Self::PayloadMismatch(error) => error.fmt(f),
            Self::TooManyListeners(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EventError {}

/// The event exists with another payload type than the call has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadMismatch {
    event: Arc<str>,
    expected: &'static str,
    found: &'static str,
}

impl PayloadMismatch {
    #[cold]
    pub(super) fn new<T: ?Sized + 'static>(slot: &dyn AnySlot) -> Self {
        Self { event: Arc::clone(slot.name()), expected: slot.payload_type(), found: type_name::<T>() }
    }

    /// Returns the name of the event, its namespaces included.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns the payload type of the event.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.expected
    }

    /// Returns the payload type of the call.
    #[must_use]
    pub fn found(&self) -> &'static str {
        self.found
    }

    /// Returns the most likely fix.
    fn fix(&self) -> String {
        let Self { expected, found, .. } = self;
        let is_string = |name: &str| name == type_name::<String>();
        if found.strip_prefix('&') == Some(expected) {
            "take one `&` off the payload".to_owned()
        } else if (is_string(expected) || is_string(found)) && found.trim_start_matches('&') == "str"
            || *expected == "str"
        {
            "use `str` on both sides: it takes `\"text\"` and `&string[..]`".to_owned()
        } else {
            format!("declare `const KEY: Key<{expected}>` once and use it on both sides")
        }
    }
}

impl fmt::Display for PayloadMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, expected, found } = self;
        write!(f, "event `{event}` carries `{expected}`, not `{found}`; {}", self.fix())
    }
}

impl std::error::Error for PayloadMismatch {}

/// The event has as many listeners as its dispatcher allows, so the listener was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooManyListeners {
    event: Arc<str>,
    limit: usize,
}

impl TooManyListeners {
    pub(super) fn new(event: Arc<str>, limit: usize) -> Self {
        Self { event, limit }
    }

    /// Returns the name of the event, its namespaces included.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns how many listeners the event may have.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for TooManyListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, limit } = self;
        write!(
            f,
            "event `{event}` has {limit} listeners, the most its dispatcher allows; take some off, or raise `listener_limit`"
        )
    }
}

impl std::error::Error for TooManyListeners {}
