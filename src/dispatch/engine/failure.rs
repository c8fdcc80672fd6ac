//! The failure of a listener, or of an emit as a whole.

use std::fmt;
use std::panic::Location;

use super::depth::MAX_DEPTH;
use crate::sync::Arc;

/// A boxed error of user code: `?` converts any error type into it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The failure of a listener in one emit, or of an emit as a whole.
#[derive(Debug)]
pub struct Failure {
    event: Arc<str>,
    registered_at: Option<&'static Location<'static>>,
    cause: FailureCause,
}

impl Failure {
    pub(super) fn new(event: Arc<str>, registered_at: Option<&'static Location<'static>>, cause: FailureCause) -> Self {
        Self { event, registered_at, cause }
    }

    /// Returns the name of the event, its namespaces included.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns where the listener was registered; `None` when no listener failed.
    #[must_use]
    pub fn registered_at(&self) -> Option<&'static Location<'static>> {
        self.registered_at
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> &FailureCause {
        &self.cause
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match (self.registered_at, &self.cause) {
            (Some(_), _) => "listener",
            (None, FailureCause::DropPanic(_)) => "payload",
            (None, _) => "emit",
        };
        write!(f, "{subject} of `{}` {}", self.event, self.cause)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            FailureCause::Error(error) => Some(&**error),
            _ => None,
        }
    }
}

/// The cause of a [`Failure`].
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The listener returned this error.
    Error(BoxError),
    /// The listener, or its filter, panicked with this message.
    Panic(String),
    /// A value that the listener captured, its future, or the shared payload panicked while it was dropped.
    DropPanic(String),
    /// The async listener was not run: a plain emit found no tokio runtime to hand it to.
    ///
    /// Emit inside a runtime with the feature `tokio`, or use `emit_async`, which needs no runtime.
    NoRuntime,
    /// The async listener was not run: the dispatcher allows no more of them in flight.
    TooManyInFlight,
    /// The listener was handed to a runtime and did not finish: its task was aborted, or the runtime shut down.
    Cancelled,
    /// The listener returned a value of another type than the emit collects.
    ValueMismatch {
        /// The type that the emit collects.
        expected: &'static str,
        /// The type that the listener returned.
        found: &'static str,
    },
    /// No listener was called: the emit is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// The listener was not registered: the event has as many listeners as the dispatcher allows.
    TooManyListeners {
        /// The limit.
        limit: usize,
    },
}

impl FailureCause {
    /// Returns its name in the label of a metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::DropPanic(_) => "drop panic",
            Self::NoRuntime => "no runtime",
            Self::TooManyInFlight => "too many in flight",
            Self::Cancelled => "cancelled",
            Self::ValueMismatch { .. } => "value mismatch",
            Self::TooDeep => "too deep",
            Self::TooManyListeners { .. } => "too many listeners",
        }
    }
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => write!(f, "failed: {error}"),
            Self::Panic(message) => write!(f, "panicked: {message}"),
            Self::DropPanic(message) => write!(f, "panicked while it was dropped: {message}"),
            Self::NoRuntime => f.write_str(
                "was not run: it is async, and `emit` found no tokio runtime (use `emit_async`, or the feature `tokio` within a runtime)",
            ),
            Self::TooManyInFlight => f.write_str("was not run: too many async listeners are in flight"),
            Self::Cancelled => f.write_str("did not finish: its task was aborted, or its runtime was shut down"),
            Self::ValueMismatch { expected, found } => {
                write!(f, "returned a `{found}` where the emit collects `{expected}`")
            }
            Self::TooDeep => write!(f, "called no listener: it is nested deeper than {MAX_DEPTH} emits"),
            Self::TooManyListeners { limit } => write!(f, "was not registered: the event has {limit} listeners, the most allowed"),
        }
    }
}
