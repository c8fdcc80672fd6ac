//! One emit: the walk over a table, and what it gathers on the way.
//!
//! ```text
//! load the table; for each listener, in order: call it, note what came of it; sweep the spent ones
//! ```
//!
//! [`run`] does that in one go; [`Awaited`](super::awaited::Awaited) is the same walk as a future.

use std::ops::ControlFlow;

use super::async_call::Running;
use super::counters::Counters;
use super::depth::Depth;
use super::failure::{Failure, FailureCause, Record, write_line};
use super::node::Listen;
use super::options::EmitOptions;
use super::outcome::Payload;
use super::outcome::sealed::{AnyValue, Values};
use super::report::Report;
use super::table::{EntryKey, Table};
use super::tasks::SpawnedTask;
use crate::sync::{Arc, guard};

/// Calls every listener of `table`, in order.
#[inline]
pub(super) fn run<T: ?Sized + 'static>(table: &Table<T>, payload: &T, mut emission: Emission<'_, T>) -> Report {
    let depth = Depth::enter();
    if depth.is_over() {
        return emission.too_deep(table);
    }
    let _ = table.try_for_each_chunk(|keys, listeners| emission.call_each(keys, listeners, payload));
    emission.finish(table)
}

/// What came of one call: a set of flags, of which [`RAN`](Self::RAN) alone is the common case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Step(u8);

impl Step {
    /// The listener was not called.
    pub(super) const SKIPPED: Self = Self(0);
    /// It ran to its end.
    pub(super) const RAN: Self = Self(1);
    /// It stops the emit.
    pub(super) const STOP: Self = Self(2);
    /// It will never run again and can leave the table.
    pub(super) const SPENT: Self = Self(4);
    /// It left a [`Running`] to wait for.
    pub(super) const PENDING: Self = Self(8);

    #[inline]
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// What an emit carries from listener to listener.
pub(super) struct Emission<'e, T: ?Sized> {
    pub(super) report: Report,
    /// Behind one pointer, so that the common emit has one thing to check at its end.
    pub(super) rare: Option<Box<Rare<T>>>,
    mode: Mode,
    /// Where values and tasks go; most emits ask for neither.
    asked: Asked<'e>,
}

/// What an emit hands to its caller besides the report.
enum Asked<'e> {
    Nothing,
    Values(&'e mut dyn Values),
    #[cfg(feature = "tokio")]
    Tasks(&'e mut Vec<SpawnedTask>),
}

#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Async listeners are waited for, not handed to the runtime.
    pub(super) awaits: bool,
    pub(super) fail_fast: bool,
}

/// What few emits carry.
pub(super) struct Rare<T: ?Sized> {
    /// The payload for async listeners; made by the first of them.
    shared: Option<Arc<T>>,
    /// The async listener that was called just now, to be waited for.
    pending: Option<Running>,
    /// Listeners that this emit used up.
    spent: Vec<EntryKey>,
    /// Set for an event that is counted.
    counters: Option<Arc<Counters>>,
}

impl<'e, T: ?Sized + 'static> Emission<'e, T> {
    /// Makes one that hands async listeners to the runtime.
    #[inline]
    pub(super) fn new() -> Self {
        Self::with(Mode { awaits: false, fail_fast: false })
    }

    #[inline]
    pub(super) fn with(mode: Mode) -> Self {
        Self { report: Report::default(), rare: None, mode, asked: Asked::Nothing }
    }

    pub(super) fn with_options(options: EmitOptions) -> Self {
        Self::with(Mode { awaits: false, fail_fast: options.fails_fast() })
    }

    pub(super) fn sharing(payload: Arc<T>) -> Self {
        let mut emission = Self::new();
        emission.rare().shared = Some(payload);
        emission
    }

    pub(super) fn asking(values: &'e mut dyn Values) -> Self {
        Self { asked: Asked::Values(values), ..Self::new() }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn keeping_tasks(tasks: &'e mut Vec<SpawnedTask>) -> Self {
        Self { asked: Asked::Tasks(tasks), ..Self::new() }
    }

    pub(super) fn counted(mut self, counters: Arc<Counters>) -> Self {
        self.rare().counters = Some(counters);
        self
    }

    #[cold]
    fn rare(&mut self) -> &mut Rare<T> {
        self.rare
            .get_or_insert_with(|| Box::new(Rare { shared: None, pending: None, spent: Vec::new(), counters: None }))
    }

    /// Calls these listeners; a break tells at which of them the walk stopped or has to wait.
    #[inline]
    pub(super) fn call_each(
        &mut self,
        keys: &[EntryKey],
        listeners: &[Arc<dyn Listen<T>>],
        payload: &T,
    ) -> ControlFlow<usize> {
        let mut ran = 0;
        let mut flow = ControlFlow::Continue(());
        for (index, listener) in listeners.iter().enumerate() {
            let step = listener.call(payload, self);
            if step == Step::RAN {
                ran += 1;
            } else if self.settle(step, keys[index]).is_break() {
                flow = ControlFlow::Break(index);
                break;
            }
        }
        self.report.add_ran(ran);
        flow
    }

    /// Notes an uncommon step; a break ends the walk, or interrupts it.
    #[cold]
    fn settle(&mut self, step: Step, key: EntryKey) -> ControlFlow<()> {
        if step.has(Step::RAN) {
            self.report.add_ran(1);
        }
        if step.has(Step::SPENT) {
            self.rare().spent.push(key);
        }
        if step.has(Step::STOP) {
            self.report.stop();
        }
        if step.has(Step::STOP) || step.has(Step::PENDING) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Tells whether async listeners are waited for, not handed to the runtime.
    pub(super) fn awaits(&self) -> bool {
        self.mode.awaits
    }

    /// Returns the payload, shared.
    pub(super) fn share(&mut self, payload: &T) -> Arc<T>
    where
        T: Payload,
    {
        Arc::clone(self.rare().shared.get_or_insert_with(|| payload.to_arc()))
    }

    /// Notes that the listener ran and failed.
    #[cold]
    pub(super) fn fail(&mut self, record: &Record, cause: FailureCause) -> Step {
        Step::RAN.and(self.refuse(record, cause))
    }

    /// Notes that the listener could not be run.
    #[cold]
    pub(super) fn refuse(&mut self, record: &Record, cause: FailureCause) -> Step {
        if self.add_failure(record.fail(cause)) { Step::STOP } else { Step::SKIPPED }
    }

    /// Puts a failure into the report, and tells whether it stops the emit.
    pub(super) fn add_failure(&mut self, failure: Failure) -> bool {
        self.report.add_failure(failure);
        self.mode.fail_fast
    }

    /// Notes that the listener runs as a task, and that the caller may want to wait for it.
    pub(super) fn spawned(&mut self, _task: SpawnedTask) -> Step {
        self.report.add_spawned();
        #[cfg(feature = "tokio")]
        if let Asked::Tasks(tasks) = &mut self.asked {
            tasks.push(_task);
        }
        Step::SKIPPED
    }

    pub(super) fn wait_for(&mut self, running: Running) -> Step {
        self.rare().pending = Some(running);
        Step::PENDING
    }

    /// Takes the call that interrupted the walk.
    pub(super) fn take_pending(&mut self) -> Option<Running> {
        self.rare.as_mut()?.pending.take()
    }

    #[cold]
    pub(super) fn too_deep(mut self, table: &Table<T>) -> Report {
        self.report.add_failure(table.event().fail(FailureCause::TooDeep));
        self.report
    }

    /// Ends the walk: takes the spent listeners out of the event's table, all in one update.
    #[inline]
    pub(super) fn finish(self, table: &Table<T>) -> Report {
        let Self { report, rare, .. } = self;
        if let Some(rare) = rare { rare.finish(report, table) } else { report }
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

impl<T: ?Sized + 'static> Rare<T> {
    #[cold]
    fn finish(mut self: Box<Self>, report: Report, table: &Table<T>) -> Report {
        self.sweep(table);
        if let Some(counters) = &self.counters {
            counters.add(&report);
        }
        report
    }

    #[cold]
    pub(super) fn sweep(&mut self, table: &Table<T>) {
        let spent = std::mem::take(&mut self.spent);
        // Without a slot the event is gone, and its table with it.
        if let (false, Some(slot)) = (spent.is_empty(), table.slot()) {
            slot.take_out(&spent);
        }
    }
}

impl<T: ?Sized> Drop for Rare<T> {
    fn drop(&mut self) {
        // The payload's destructor is user code, and this may be the last reference to it.
        let shared = self.shared.take();
        if let Err(panic) = guard(|| drop(shared)) {
            write_line(&format!("a payload panicked while it was dropped: {panic}"));
        }
    }
}
