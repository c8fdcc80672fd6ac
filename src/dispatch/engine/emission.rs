//! [`Emission`]: the state of one emit, passed from listener to listener.
//!
//! [`walk`](super::walk) walks over the table; each call leaves its result here.

use std::ops::{BitOr, ControlFlow};

use super::failure::{Failure, FailureCause};
use super::options::EmitOptions;
use super::origin::{Origin, drop_logged};
use super::outcome::Payload;
use super::outcome::sealed::{AnyValue, Values};
use super::report::Report;
use super::running::Running;
use super::tasks::SpawnedTask;
use crate::snapshot::Place;
use crate::sync::Arc;

/// The result of one turn: a set of flags, of which [`RAN`](Self::RAN) alone is the common case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step(u8);

impl Step {
    /// The listener was not called.
    pub(crate) const SKIPPED: Self = Self(0);
    /// The listener ran to its end.
    pub(crate) const RAN: Self = Self(1);
    /// The listener stops the emit.
    pub(crate) const STOP: Self = Self(2);
    /// The listener will never run again and can leave the table.
    pub(crate) const SPENT: Self = Self(4);
    /// The call left a [`Running`] to wait for.
    pub(crate) const PENDING: Self = Self(8);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

impl BitOr for Step {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The state that an emit carries from listener to listener.
///
/// The common emit carries nothing: a register counts the listeners that ran.
pub(crate) struct Emission<'e, T: ?Sized> {
    /// Behind one pointer, so that the common emit has one thing to check at its end.
    pub(super) rare: Option<Box<Rare<T>>>,
    mode: EmitMode,
    /// Where values and tasks go; most emits collect neither.
    asked: Asked<'e>,
}

/// What an emit collects for its caller besides the report.
enum Asked<'e> {
    Nothing,
    Values(&'e mut dyn Values),
    #[cfg(feature = "tokio")]
    Tasks(&'e mut Vec<SpawnedTask>),
}

#[derive(Clone, Copy)]
pub(crate) struct EmitMode {
    /// The emit waits for async listeners instead of handing them to the runtime.
    pub(crate) awaits: bool,
    pub(crate) fail_fast: bool,
}

/// The part of the state that few emits need.
pub(crate) struct Rare<T: ?Sized> {
    /// The report, except for the listeners that the walk counts in a register.
    pub(super) report: Report,
    /// The payload for async listeners; the first of them makes it.
    pub(super) shared: Option<Arc<T>>,
    /// The async call that interrupted the walk just now.
    pending: Option<Running>,
    /// The places, in the emit's table, of listeners that this emit used up.
    pub(super) spent: Vec<Place>,
}

impl<'e, T: ?Sized + 'static> Emission<'e, T> {
    /// Makes the state of an emit that hands async listeners to the runtime.
    #[inline]
    pub(crate) fn new() -> Self {
        Self::with(EmitMode { awaits: false, fail_fast: false })
    }

    #[inline]
    pub(crate) fn with(mode: EmitMode) -> Self {
        Self { rare: None, mode, asked: Asked::Nothing }
    }

    pub(crate) fn with_options(options: EmitOptions) -> Self {
        Self::with(EmitMode { awaits: false, fail_fast: options.fails_fast() })
    }

    pub(crate) fn sharing(payload: Arc<T>) -> Self {
        let mut emission = Self::new();
        emission.rare().shared = Some(payload);
        emission
    }

    pub(crate) fn asking(values: &'e mut dyn Values) -> Self {
        Self { asked: Asked::Values(values), ..Self::new() }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn keeping_tasks(tasks: &'e mut Vec<SpawnedTask>) -> Self {
        Self { asked: Asked::Tasks(tasks), ..Self::new() }
    }

    #[cold]
    pub(super) fn rare(&mut self) -> &mut Rare<T> {
        self.rare.get_or_insert_with(|| {
            let report = Report::default();
            Box::new(Rare { report, shared: None, pending: None, spent: Vec::new() })
        })
    }

    /// Takes over the state that an earlier poll left.
    pub(crate) fn resume(mut self, rare: Option<Box<Rare<T>>>) -> Self {
        self.rare = rare;
        self
    }

    /// Returns whether the emit waits for async listeners instead of handing them to the runtime.
    pub(crate) fn awaits(&self) -> bool {
        self.mode.awaits
    }

    /// Returns the shared payload, and makes it the first time.
    pub(crate) fn share(&mut self, payload: &T) -> Arc<T>
    where
        T: Payload,
    {
        Arc::clone(self.rare().shared.get_or_insert_with(|| payload.to_arc()))
    }

    /// Notes that the listener ran and failed.
    #[cold]
    pub(crate) fn fail(&mut self, origin: &Origin, cause: FailureCause) -> Step {
        Step::RAN | self.refuse(origin, cause)
    }

    /// Notes that the listener could not be run.
    #[cold]
    pub(crate) fn refuse(&mut self, origin: &Origin, cause: FailureCause) -> Step {
        if self.add_failure(origin.fail(cause)) { Step::STOP } else { Step::SKIPPED }
    }

    /// Puts a failure into the report, and returns whether it stops the emit.
    pub(crate) fn add_failure(&mut self, failure: Failure) -> bool {
        self.rare().report.add_failure(failure);
        self.mode.fail_fast
    }

    /// Counts listeners that ran.
    pub(crate) fn add_ran(&mut self, count: u32) {
        self.rare().report.add_ran(count);
    }

    pub(crate) fn stop(&mut self) {
        self.rare().report.stop();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.report.is_stopped())
    }

    /// Notes that the listener runs as a task, and that the caller may want to wait for it.
    pub(crate) fn spawned(&mut self, _task: SpawnedTask) -> Step {
        self.rare().report.add_spawned();
        #[cfg(feature = "tokio")]
        if let Asked::Tasks(tasks) = &mut self.asked {
            tasks.push(_task);
        }
        Step::SKIPPED
    }

    pub(crate) fn wait_for(&mut self, running: Running) -> Step {
        self.rare().pending = Some(running);
        Step::PENDING
    }

    /// Takes the call that interrupted the walk.
    pub(crate) fn take_pending(&mut self) -> Option<Running> {
        self.rare.as_mut()?.pending.take()
    }
}

impl<T: ?Sized> Values for Emission<'_, T> {
    fn accept(&mut self, value: &mut dyn AnyValue) -> Result<ControlFlow<()>, FailureCause> {
        match &mut self.asked {
            Asked::Values(values) => values.accept(value),
            _ => Ok(ControlFlow::Continue(())),
        }
    }
}

impl<T: ?Sized> Drop for Rare<T> {
    /// For an emit that was dropped half-way, which returns no report for a panic to go into.
    fn drop(&mut self) {
        drop_logged("a payload", self.shared.take());
        drop_logged("an error", std::mem::take(&mut self.report));
    }
}
