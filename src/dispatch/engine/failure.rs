//! What went wrong with a listener, and who is told of it.
//!
//! Each failure goes where someone looks: into the report of its emit, and to the dispatcher's
//! `on_error` hook when it happens. Without a hook the first failure of the listeners that one
//! line of code registered is written to stderr, or told to a subscriber of the crate `tracing`. A failure
//! that happens inside the hook is written there too, and does not call it again.

use std::any::TypeId;
use std::cell::Cell;
use std::fmt;
use std::panic::Location;

use super::depth::MAX_DEPTH;
use super::report::Report;
use super::tasks::Tasks;
use crate::dispatch::Core;
use crate::dispatch::builder::Bounds;
use crate::observe::emits::{failed, warn};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Weak, const_thread_local, guard};

/// What user code may return as its error: anything that `?` turns into a boxed error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A listener that failed, in one emit; or an emit that failed as a whole.
#[derive(Debug)]
pub struct Failure {
    event: Arc<str>,
    registered_at: Option<&'static Location<'static>>,
    cause: FailureCause,
}

impl Failure {
    /// Returns the name of the event, its namespaces included.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns where the listener was registered; `None` when it is no listener that failed.
    #[must_use]
    pub fn registered_at(&self) -> Option<&'static Location<'static>> {
        self.registered_at
    }

    /// Returns what went wrong.
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

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// The listener returned this error.
    Error(BoxError),
    /// The listener, or its filter, panicked with this message.
    Panic(String),
    /// What the listener captured, its future, or the shared payload panicked while it was dropped.
    DropPanic(String),
    /// The listener is async and was not run: a plain emit found no tokio runtime to hand it to.
    ///
    /// Emit from within a runtime with the feature `tokio` on, or use `emit_async`, which needs none.
    NoRuntime,
    /// The listener is async and was not run: as many as the dispatcher allows are in flight.
    TooManyInFlight,
    /// The listener was handed to a runtime and did not finish: its task was aborted, or the runtime shut down.
    Cancelled,
    /// The listener returned a value of another type than the emit asked for.
    ValueMismatch {
        /// The type that the emit collects.
        expected: &'static str,
        /// The type that the listener returned.
        found: &'static str,
    },
    /// Nobody was called: the emit is nested deeper than [`MAX_DEPTH`](crate::dispatch::MAX_DEPTH).
    TooDeep,
    /// The listener was not registered: the event has as many as the dispatcher allows.
    TooManyListeners {
        /// The limit.
        limit: usize,
    },
}

impl FailureCause {
    /// Returns what it is called in a label.
    fn label(&self) -> &'static str {
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
            Self::TooDeep => write!(f, "called nobody: it is nested deeper than {MAX_DEPTH} emits"),
            Self::TooManyListeners { limit } => write!(f, "was not registered: the event has {limit} listeners, the most allowed"),
        }
    }
}

/// What all that belongs to one event can tell about it.
pub(crate) struct EventMeta {
    pub(crate) name: Arc<str>,
    pub(crate) core: Weak<Core>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) bounds: Bounds,
}

impl EventMeta {
    /// Makes a failure that no listener is to blame for, and tells of it.
    #[cold]
    pub(crate) fn fail(&self, cause: FailureCause) -> Failure {
        failed(cause.label());
        let failure = Failure { event: Arc::clone(&self.name), registered_at: None, cause };
        self.tell(&failure, Telling::Always);
        failure
    }

    /// Drops an emit's payload, perhaps the last reference to it; a panic goes into the report.
    pub(crate) fn drop_payload<P>(&self, payload: P, mut report: Report) -> Report {
        if let Err(panic) = guard(|| drop(payload)) {
            report.add_failure(self.fail(FailureCause::DropPanic(panic)));
        }
        report
    }

    /// Tells the hook; without one, stderr, of the first failure of each place of registration.
    fn tell(&self, failure: &Failure, telling: Telling) {
        let hook = self.core.upgrade().and_then(|core| core.on_error());
        match &hook {
            Some(hook) if !IN_HOOK.with(|inside| inside.replace(true)) => {
                if let Err(panic) = guard(|| hook(failure)) {
                    log(failure, "");
                    warn(&format!("the on_error hook panicked: {panic}"));
                }
                IN_HOOK.with(|inside| inside.set(false));
            }
            Some(_) => log(failure, "; inside the on_error hook"),
            None => match telling {
                Telling::Always => log(failure, ""),
                Telling::First => log(failure, "; its later failures are in reports only"),
                Telling::Again => {}
            },
        }
        // The last reference, when the hook was replaced meanwhile.
        drop_logged("the on_error hook", hook);
    }
}

/// Whether a failure is worth a line on stderr, where there is no hook.
#[derive(Clone, Copy)]
enum Telling {
    /// No report has it, or no listener to blame.
    Always,
    /// The listener's first one.
    First,
    Again,
}

/// What a dispatcher does with failures: see [`Dispatcher::on_error`](crate::dispatch::Dispatcher::on_error).
pub(crate) type Hook = Arc<dyn Fn(&Failure) + Send + Sync>;

const_thread_local! {
    /// Whether this thread is inside an `on_error` hook, of any dispatcher.
    static IN_HOOK: Cell<bool> = Cell::new(false);
}

/// Where listeners come from, and whether one of them failed: shared by all that one line of code
/// registered, so that thousands of them cost no more memory than a pointer each.
pub(crate) struct Origin {
    pub(crate) event: Arc<EventMeta>,
    pub(crate) registered_at: &'static Location<'static>,
    /// The type of the closure: one place may register several, in a helper say.
    listener: TypeId,
    /// Set by the first failure.
    failed: AtomicBool,
}

impl Origin {
    pub(crate) fn new(event: Arc<EventMeta>, registered_at: &'static Location<'static>, listener: TypeId) -> Self {
        Self { event, registered_at, listener, failed: AtomicBool::new(false) }
    }

    /// Tells whether this is the origin of such a listener too.
    pub(crate) fn is_of(&self, registered_at: &'static Location<'static>, listener: TypeId) -> bool {
        std::ptr::eq(self.registered_at, registered_at) && self.listener == listener
    }

    /// Makes a failure of a listener.
    #[cold]
    pub(crate) fn failure(&self, cause: FailureCause) -> Failure {
        failed(cause.label());
        Failure { event: Arc::clone(&self.event.name), registered_at: Some(self.registered_at), cause }
    }

    /// Makes a failure of a listener, and tells of it.
    #[cold]
    pub(crate) fn fail(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        // Relaxed: only the flag itself decides who is the first.
        self.event
            .tell(&failure, if self.failed.swap(true, Ordering::Relaxed) { Telling::Again } else { Telling::First });
        failure
    }

    /// Makes a failure that no report may ever have, and tells of it.
    #[cold]
    pub(crate) fn fail_unreported(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        self.event.tell(&failure, Telling::Always);
        failure
    }

    /// Drops a value of the user's, telling of a panic: nobody's report is at hand.
    pub(crate) fn drop_guarded<V>(&self, value: V) {
        if let Err(panic) = guard(|| drop(value)) {
            drop(self.fail_unreported(FailureCause::DropPanic(panic)));
        }
    }
}

/// Drops a value of the user's where nobody is left to tell of a panic.
pub(crate) fn drop_logged<V>(what: &str, value: V) {
    if let Err(panic) = guard(|| drop(value)) {
        warn(&format!("{what} panicked while it was dropped: {panic}"));
    }
}

#[cold]
fn log(failure: &Failure, note: &str) {
    // The text of an error is user code.
    let text = guard(|| failure.to_string())
        .unwrap_or_else(|_| format!("listener of `{}` failed with an error whose Display panics", failure.event));
    match failure.registered_at {
        Some(place) => warn(&format!("{text} (registered at {place}{note})")),
        None => warn(&text),
    }
}
