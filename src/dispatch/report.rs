//! What an emit did.

use std::fmt;
use std::panic::Location;

use smallvec::SmallVec;

use crate::sync::Arc;

/// What user code may return as its error: anything that `?` turns into a boxed error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Tells what an emit did: how many listeners ran, and which of them failed.
///
/// Reading it is optional: the first failure of each listener is also written to stderr, with the
/// event and the place where the listener was registered.
///
/// ```
/// use fanfare::Dispatcher;
///
/// let events = Dispatcher::new();
/// events.on("order.paid", |cents: &u64| if *cents == 0 { Err("nothing was paid") } else { Ok(()) })?;
/// events.on("order.paid", |_: &u64| println!("thank you"))?;
///
/// let report = events.emit("order.paid", &0u64)?;
/// assert_eq!(report.ran(), 2);
/// assert_eq!(report.failures()[0].to_string(), "listener of `order.paid` failed: nothing was paid");
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Default)]
pub struct Report {
    /// From the lowest bit: 32 bits of listeners that ran, 31 of async ones that were handed to the
    /// runtime, one that tells that a listener stopped the emit. One word, so that a report fits in
    /// two registers.
    counts: u64,
    failures: Option<Box<SmallVec<[Failure; 2]>>>,
}

const SPAWNED: u64 = 1 << 32;
const STOPPED: u64 = 1 << 63;

impl Report {
    /// Returns how many listeners ran to their end in this emit, those that failed included.
    #[must_use]
    pub fn ran(&self) -> usize {
        (self.counts % SPAWNED) as usize
    }

    /// Returns how many async listeners were handed to the runtime; they may be running still.
    #[must_use]
    pub fn spawned(&self) -> usize {
        ((self.counts & !STOPPED) / SPAWNED) as usize
    }

    /// Tells whether a listener returned [`ControlFlow::Break`](std::ops::ControlFlow::Break), so that the rest did not run.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.counts & STOPPED != 0
    }

    /// Returns the failures, in the order in which they happened.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        self.failures.as_deref().map_or(&[], |failures| failures)
    }

    /// Tells whether every listener that was reached ran, or was handed to the runtime, without a failure.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_none()
    }

    /// Returns the failures by value, to pass them on as errors.
    #[must_use]
    pub fn into_failures(self) -> Vec<Failure> {
        self.failures.map_or_else(Vec::new, |failures| failures.into_vec())
    }

    #[inline]
    pub(super) fn add_ran(&mut self, count: u32) {
        self.counts += u64::from(count);
    }

    pub(super) fn add_spawned(&mut self) {
        self.counts += SPAWNED;
    }

    pub(super) fn stop(&mut self) {
        self.counts |= STOPPED;
    }

    #[cold]
    pub(super) fn add_failure(&mut self, failure: Failure) {
        self.failures.get_or_insert_default().push(failure);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("ran", &self.ran())
            .field("spawned", &self.spawned())
            .field("stopped", &self.stopped())
            .field("failures", &self.failures())
            .finish()
    }
}

/// A listener that failed, in one emit.
#[derive(Debug)]
pub struct Failure {
    event: Arc<str>,
    registered_at: &'static Location<'static>,
    cause: FailureCause,
}

impl Failure {
    pub(super) fn new(event: Arc<str>, registered_at: &'static Location<'static>, cause: FailureCause) -> Self {
        Self { event, registered_at, cause }
    }

    /// Returns the name of the event, its namespaces included.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns where the listener was registered.
    #[must_use]
    pub fn registered_at(&self) -> &'static Location<'static> {
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
        write!(f, "listener of `{}` {}", self.event, self.cause)
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

/// What went wrong with a listener.
#[derive(Debug)]
#[non_exhaustive]
pub enum FailureCause {
    /// It returned this error.
    Error(BoxError),
    /// It panicked with this message.
    Panic(String),
    /// It is async and was not run: a plain emit found no tokio runtime to hand it to.
    ///
    /// Emit from within a runtime with the feature `tokio` on, or use `emit_async`, which needs none.
    NoRuntime,
    /// It is async and was not run: as many listeners as the dispatcher allows are in flight.
    TooManyInFlight,
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => write!(f, "failed: {error}"),
            Self::Panic(message) => write!(f, "panicked: {message}"),
            Self::NoRuntime => f.write_str(
                "was not run: it is async, and `emit` found no tokio runtime (use `emit_async`, or the feature `tokio` within a runtime)",
            ),
            Self::TooManyInFlight => f.write_str("was not run: too many async listeners are in flight"),
        }
    }
}
