//! [`Report`]: the result of an emit.

use std::fmt;

use smallvec::SmallVec;

use super::failure::Failure;

/// The result of an emit: how many listeners ran, and which of them failed.
///
/// Reading it is optional: failures also go to the dispatcher's
/// [`on_error`](crate::Dispatcher::on_error) hook. Without a hook, the first failure of each place of
/// registration is written to stderr.
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
    /// From the lowest bit: 32 bits count listeners that ran, 31 count async listeners handed to the runtime,
    /// and one is set when the emit was stopped. One word, so that a report fits in two registers.
    counts: u64,
    failures: Option<Box<SmallVec<[Failure; 2]>>>,
}

const SPAWNED: u64 = 1 << 32;
const STOPPED: u64 = 1 << 63;

impl Report {
    #[inline]
    pub(crate) fn of(ran: u32) -> Self {
        Self { counts: u64::from(ran), failures: None }
    }

    /// Returns how many listeners ran to their end in this emit, those that failed included.
    #[must_use]
    pub fn ran(&self) -> usize {
        (self.counts % SPAWNED) as usize
    }

    /// Returns how many async listeners were handed to the runtime; they may still be running.
    #[must_use]
    pub fn spawned(&self) -> usize {
        ((self.counts & !STOPPED) / SPAWNED) as usize
    }

    /// Returns whether the emit stopped before its last listener.
    ///
    /// It stops when a listener returns [`ControlFlow::Break`](std::ops::ControlFlow::Break), or when one fails
    /// in an emit that fails fast.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.counts & STOPPED != 0
    }

    /// Returns the failures, in the order in which they happened.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        self.failures.as_deref().map_or(&[], |failures| failures)
    }

    /// Returns whether the report has no failure.
    ///
    /// Listeners that were handed to the runtime may fail later; a stopped emit can be ok.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_none()
    }

    /// Returns the failures by value, to pass them on as errors.
    #[must_use]
    pub fn into_failures(mut self) -> Vec<Failure> {
        self.failures.take().map_or_else(Vec::new, |failures| failures.into_vec())
    }

    pub(crate) fn add_ran(&mut self, count: u32) {
        self.counts += u64::from(count);
    }

    pub(crate) fn add_spawned(&mut self) {
        self.counts += SPAWNED;
    }

    /// Notes that a listener handed to the runtime has ended.
    #[cfg(feature = "tokio")]
    pub(crate) fn spawned_ended(&mut self) {
        self.counts -= SPAWNED;
    }

    pub(crate) fn stop(&mut self) {
        self.counts |= STOPPED;
    }

    #[cold]
    pub(crate) fn add_failure(&mut self, failure: Failure) {
        self.failures.get_or_insert_default().push(failure);
    }
}

impl Drop for Report {
    /// Most reports have no failures, and every emit drops one: that is one comparison, in line.
    #[inline]
    fn drop(&mut self) {
        #[cold]
        #[inline(never)]
        fn drop_failures(failures: Box<SmallVec<[Failure; 2]>>) {
            drop(failures);
        }
        if let Some(failures) = self.failures.take() {
            drop_failures(failures);
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("ran", &self.ran())
            .field("spawned", &self.spawned())
            .field("stopped", &self.is_stopped())
            .field("failures", &self.failures())
            .finish()
    }
}
