//! One emit: the walk over a table, and what it gathers on the way.
//!
//! ```text
//! load the table; for each listener, in order: call it, note what came of it; sweep the spent ones
//! ```
//!
//! [`run`] does that in one go; [`Awaited`](super::awaited::Awaited) is the same walk as a future.

use std::ops::ControlFlow;

use super::async_call::Running;
use super::depth::Depth;
use super::failure::{Failure, FailureCause};
use super::node::Listen;
use super::options::EmitOptions;
use super::origin::{Origin, drop_logged};
use super::outcome::Payload;
use super::outcome::sealed::{AnyValue, Values};
use super::report::Report;
use super::table::Table;
use super::tasks::SpawnedTask;
use crate::snapshot::Place;
use crate::sync::Arc;

/// Calls every listener of `table`, in order, at the depth that the caller entered.
#[inline(always)]
pub(crate) fn run<T: ?Sized + 'static>(
    table: &Table<T>,
    payload: &T,
    mut emission: Emission<'_, T>,
    depth: &Depth,
) -> Report {
    if depth.is_over() {
        return emission.too_deep(table);
    }
    let ran = match table.single() {
        Some([only]) => emission.call_one(only, payload),
        // A break has left its mark in the emission.
        Some(listeners) => emission.call_each(listeners, Place::default(), payload).ran,
        None => {
            let mut ran = 0;
            let _ = emission.call_from(&mut Place::default(), table, payload, &mut ran);
            ran
        }
    };
    emission.finish(table, ran)
}

/// What came of one call: a set of flags, of which [`RAN`](Self::RAN) alone is the common case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step(u8);

impl Step {
    /// The listener was not called.
    pub(crate) const SKIPPED: Self = Self(0);
    /// It ran to its end.
    pub(crate) const RAN: Self = Self(1);
    /// It stops the emit.
    pub(crate) const STOP: Self = Self(2);
    /// It will never run again and can leave the table.
    pub(crate) const SPENT: Self = Self(4);
    /// It left a [`Running`] to wait for.
    pub(crate) const PENDING: Self = Self(8);

    #[inline]
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// How far a walk over some listeners came.
struct Walked {
    ran: u32,
    /// Those that had their turn, skipped ones included.
    called: u32,
    is_broken: bool,
}

/// What an uncommon step means for the walk.
struct Settled {
    /// The listener did not run, or not yet.
    skipped: bool,
    breaks: bool,
}

/// What an emit carries from listener to listener.
///
/// The common emit carries nothing: how many listeners ran is counted in a register.
pub(crate) struct Emission<'e, T: ?Sized> {
    /// Behind one pointer, so that the common emit has one thing to check at its end.
    rare: Option<Box<Rare<T>>>,
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
pub(crate) struct Mode {
    /// Async listeners are waited for, not handed to the runtime.
    pub(crate) awaits: bool,
    pub(crate) fail_fast: bool,
}

/// What few emits carry.
pub(crate) struct Rare<T: ?Sized> {
    /// All but the listeners that ran with nothing else to tell.
    report: Report,
    /// The payload for async listeners; made by the first of them.
    shared: Option<Arc<T>>,
    /// The async listener that was called just now, to be waited for.
    pending: Option<Running>,
    /// Where the listeners that this emit used up are in its table.
    spent: Vec<Place>,
}

impl<'e, T: ?Sized + 'static> Emission<'e, T> {
    /// Makes one that hands async listeners to the runtime.
    #[inline]
    pub(crate) fn new() -> Self {
        Self::with(Mode { awaits: false, fail_fast: false })
    }

    #[inline]
    pub(crate) fn with(mode: Mode) -> Self {
        Self { rare: None, mode, asked: Asked::Nothing }
    }

    pub(crate) fn with_options(options: EmitOptions) -> Self {
        Self::with(Mode { awaits: false, fail_fast: options.fails_fast() })
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
    fn rare(&mut self) -> &mut Rare<T> {
        self.rare.get_or_insert_with(|| {
            let report = Report::default();
            Box::new(Rare { report, shared: None, pending: None, spent: Vec::new() })
        })
    }

    /// Goes on with what an earlier poll left.
    pub(crate) fn resume(mut self, rare: Option<Box<Rare<T>>>) -> Self {
        self.rare = rare;
        self
    }

    /// Leaves what a later poll goes on with.
    pub(crate) fn suspend(self, table: &Table<T>) -> Option<Box<Rare<T>>> {
        let mut rare = self.rare;
        if let Some(rare) = &mut rare {
            rare.sweep(table);
        }
        rare
    }

    /// Calls the listeners of a table from `place` on, and adds to `ran` how many of them ran. A break
    /// says that one of them ended the walk or has to be waited for; `place` is after it then.
    pub(crate) fn call_from(
        &mut self,
        place: &mut Place,
        table: &Table<T>,
        payload: &T,
        ran: &mut u32,
    ) -> ControlFlow<()> {
        while let Some(listeners) = table.chunk(place.chunk) {
            let walk = self.call_each(&listeners[place.index..], *place, payload);
            *ran += walk.ran;
            if walk.is_broken {
                place.index += walk.called as usize;
                return ControlFlow::Break(());
            }
            *place = Place { chunk: place.chunk + 1, index: 0 };
        }
        ControlFlow::Continue(())
    }

    /// Calls the only listener of a table.
    #[inline(always)]
    fn call_one(&mut self, listener: &Arc<dyn Listen<T>>, payload: &T) -> u32 {
        match listener.call(payload, self) {
            Step::RAN => 1,
            step => u32::from(!self.settle(step, Place::default()).skipped),
        }
    }

    /// Calls these listeners, of which the first is at `place`.
    ///
    /// Four in a row: how long a shorter loop takes depends, by half as much again, on where in a
    /// cache line the compiler happens to put it.
    #[inline(never)]
    fn call_each(&mut self, listeners: &[Arc<dyn Listen<T>>], place: Place, payload: &T) -> Walked {
        let (mut called, mut skipped) = (0, 0);
        let mut turn = |listener: &Arc<dyn Listen<T>>| {
            let step = listener.call(payload, self);
            called += 1;
            if step == Step::RAN {
                return ControlFlow::Continue(());
            }
            let settled = self.settle(step, Place { index: place.index + called as usize - 1, ..place });
            skipped += u32::from(settled.skipped);
            if settled.breaks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (fours, rest) = listeners.as_chunks::<4>();
        let mut calls = || {
            for [first, second, third, fourth] in fours {
                turn(first)?;
                turn(second)?;
                turn(third)?;
                turn(fourth)?;
            }
            rest.iter().try_for_each(&mut turn)
        };
        let is_broken = calls().is_break();
        Walked { ran: called - skipped, called, is_broken }
    }

    /// Notes an uncommon step of the listener at `place`.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, step: Step, place: Place) -> Settled {
        let skipped = !step.has(Step::RAN);
        if step == Step::SKIPPED {
            return Settled { skipped, breaks: false };
        }
        let rare = self.rare();
        if step.has(Step::SPENT) {
            rare.spent.push(place);
        }
        if step.has(Step::STOP) {
            rare.report.stop();
        }
        Settled { skipped, breaks: step.has(Step::STOP) || step.has(Step::PENDING) }
    }

    /// Tells whether async listeners are waited for, not handed to the runtime.
    pub(crate) fn awaits(&self) -> bool {
        self.mode.awaits
    }

    /// Returns the payload, shared.
    pub(crate) fn share(&mut self, payload: &T) -> Arc<T>
    where
        T: Payload,
    {
        Arc::clone(self.rare().shared.get_or_insert_with(|| payload.to_arc()))
    }

    /// Notes that the listener ran and failed.
    #[cold]
    pub(crate) fn fail(&mut self, origin: &Origin, cause: FailureCause) -> Step {
        Step::RAN.and(self.refuse(origin, cause))
    }

    /// Notes that the listener could not be run.
    #[cold]
    pub(crate) fn refuse(&mut self, origin: &Origin, cause: FailureCause) -> Step {
        if self.add_failure(origin.fail(cause)) { Step::STOP } else { Step::SKIPPED }
    }

    /// Puts a failure into the report, and tells whether it stops the emit.
    pub(crate) fn add_failure(&mut self, failure: Failure) -> bool {
        self.rare().report.add_failure(failure);
        self.mode.fail_fast
    }

    /// Counts a listener that was waited for.
    pub(crate) fn add_ran(&mut self, count: u32) {
        self.rare().report.add_ran(count);
    }

    pub(crate) fn stop(&mut self) {
        self.rare().report.stop();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.report.stopped())
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

    #[cold]
    #[inline(never)]
    pub(crate) fn too_deep(mut self, table: &Table<T>) -> Report {
        // An emit that would call nobody anyway is as good as any.
        if table.len() > 0 && self.add_failure(table.event().fail(FailureCause::TooDeep)) {
            self.stop();
        }
        self.finish(table, 0)
    }

    /// Ends the walk: takes the spent listeners out of the event's table, all in one update.
    #[inline(always)]
    pub(crate) fn finish(self, table: &Table<T>, ran: u32) -> Report {
        match self.rare {
            None => Report::of(ran),
            Some(rare) => rare.finish(table, ran),
        }
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
    #[inline(never)]
    #[expect(clippy::boxed_local, reason = "moving it out of its box would be a copy")]
    fn finish(mut self: Box<Self>, table: &Table<T>, ran: u32) -> Report {
        self.report.add_ran(ran);
        self.sweep(table);
        let report = std::mem::take(&mut self.report);
        table.event().drop_payload(self.shared.take(), report)
    }

    fn sweep(&mut self, table: &Table<T>) {
        let spent = std::mem::take(&mut self.spent);
        if let (false, Some(owner)) = (spent.is_empty(), table.owner()) {
            // Marked for an emit around this one, whose table has them still.
            let keys: Vec<_> = spent.into_iter().map(|place| table.end(place)).collect();
            owner.take_out(&keys);
        }
    }
}

impl<T: ?Sized> Drop for Rare<T> {
    /// Where an emit did not end: dropped half-way, it has no report to put a panic into.
    fn drop(&mut self) {
        drop_logged("a payload", self.shared.take());
        drop_logged("an error", std::mem::take(&mut self.report));
    }
}
