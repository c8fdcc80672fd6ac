//! The walk of one emit over a table.
//!
//! ```text
//! load the table; for each listener, in order: call it, note the result; sweep the spent listeners
//! ```
//!
//! [`run`] is the whole walk in one call; [`Awaited`](super::awaited::Awaited) is the same walk as a future.

use std::ops::ControlFlow;

use super::depth::Depth;
use super::emission::{Emission, Rare, Step};
use super::failure::FailureCause;
use super::node::Listen;
use super::report::Report;
use super::table::Table;
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

/// How far a walk over some listeners came.
struct Walked {
    ran: u32,
    /// Listeners that had their turn, skipped ones included.
    called: u32,
    is_broken: bool,
}

/// The effect of an uncommon step on the walk.
struct Settled {
    /// The listener did not run, or not yet.
    skipped: bool,
    breaks: bool,
}

impl<T: ?Sized + 'static> Emission<'_, T> {
    /// Returns the state for a later poll, with spent listeners swept.
    pub(crate) fn suspend(self, table: &Table<T>) -> Option<Box<Rare<T>>> {
        let mut rare = self.rare;
        if let Some(rare) = &mut rare {
            rare.sweep(table);
        }
        rare
    }

    /// Calls the listeners of a table from `place` on, and adds the number that ran to `ran`.
    ///
    /// Returns a break when a listener stopped the emit or has to be waited for; `place` is then behind it.
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

    #[cold]
    #[inline(never)]
    pub(crate) fn too_deep(mut self, table: &Table<T>) -> Report {
        // An emit without listeners is not a failure, however deep.
        if table.len() > 0 && self.add_failure(table.event().fail(FailureCause::TooDeep)) {
            self.stop();
        }
        self.finish(table, 0)
    }

    /// Ends the walk: takes all spent listeners out of the event's table in one update.
    #[inline(always)]
    pub(crate) fn finish(self, table: &Table<T>, ran: u32) -> Report {
        match self.rare {
            None => Report::of(ran),
            Some(rare) => rare.finish(table, ran),
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
            // Marked as removed too: the table of an emit around this one still has them.
            let keys: Vec<_> = spent.into_iter().map(|place| table.end(place)).collect();
            owner.take_out(&keys);
        }
    }
}
