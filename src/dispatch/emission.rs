//! One emit: the walk over a table, and what it gathers on the way.
//!
//! ```text
//! load the table; for each entry, in order: call it, note what came of it; sweep the spent ones
//! ```
//!
//! [`run`] does that in one go. [`Awaited`] is the same walk as a future: it runs up to the first
//! listener that is not ready, in one poll and without any allocation of its own, and only then
//! takes an owned reference to the table. No guard of a snapshot lives from one poll to the next.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::node::{Running, log, write_line};
use super::report::{Failure, FailureCause, Report};
use super::table::{Entry, EntryKey, Table};
use crate::dispatch::listener::Payload;
use crate::sync::{Arc, SnapshotGuard, guard};

/// Calls every listener of `table`, in order.
#[inline]
pub(super) fn run<T: ?Sized + 'static>(table: &Table<T>, payload: &T, shared: Option<Arc<T>>) -> Report {
    let mut emission = Emission::new(false);
    if shared.is_some() {
        emission.rare().shared = shared;
    }
    let _ = table.try_for_each_chunk(|chunk| emission.call_each(table, chunk, payload));
    let Emission { report, rare, .. } = emission;
    if let Some(mut rare) = rare {
        rare.sweep(table);
    }
    report
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
    /// It left the cause of a failure.
    pub(super) const FAILED: Self = Self(16);

    #[inline]
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// What an emit carries from listener to listener.
pub(super) struct Emission<T: ?Sized> {
    report: Report,
    /// Behind one pointer, so that the common emit has one thing to check at its end.
    rare: Option<Box<Rare<T>>>,
    awaits: bool,
}

/// What only emits over async and once listeners carry.
struct Rare<T: ?Sized> {
    /// The payload for async listeners; made by the first of them.
    shared: Option<Arc<T>>,
    /// The async listener that the emit waits for.
    pending: Option<Running>,
    /// Why the listener that was called just now failed.
    failed: Option<FailureCause>,
    /// Listeners that this emit used up.
    spent: Vec<EntryKey>,
}

impl<T: ?Sized + 'static> Emission<T> {
    #[inline]
    fn new(awaits: bool) -> Self {
        Self { report: Report::default(), rare: None, awaits }
    }

    fn rare(&mut self) -> &mut Rare<T> {
        self.rare.get_or_insert_with(|| Box::new(Rare { shared: None, pending: None, failed: None, spent: Vec::new() }))
    }

    /// Calls the listeners of one chunk; a break ends the walk.
    #[inline]
    fn call_each(&mut self, table: &Table<T>, chunk: &[Entry<T>], payload: &T) -> ControlFlow<()> {
        let mut ran = 0;
        let mut flow = ControlFlow::Continue(());
        for entry in chunk {
            let step = entry.listen.call(payload, self);
            if step == Step::RAN {
                ran += 1;
            } else {
                flow = self.settle(step, entry, table);
                if flow.is_break() {
                    break;
                }
            }
        }
        self.report.add_ran(ran);
        flow
    }

    /// Tells whether async listeners are waited for, not handed to the runtime.
    pub(super) fn awaits(&self) -> bool {
        self.awaits
    }

    /// Returns the payload, shared.
    pub(super) fn share(&mut self, payload: &T) -> Arc<T>
    where
        T: Payload,
    {
        Arc::clone(self.rare().shared.get_or_insert_with(|| payload.to_arc()))
    }

    fn pending(&mut self) -> Option<&mut Running> {
        self.rare.as_mut()?.pending.as_mut()
    }

    /// Notes that the listener ran and failed; the walk, which knows the event, reports it.
    #[cold]
    pub(super) fn fail(&mut self, cause: FailureCause) -> Step {
        self.rare().failed = Some(cause);
        Step::RAN.and(Step::FAILED)
    }

    /// Notes that the listener could not be run.
    #[cold]
    pub(super) fn refuse(&mut self, cause: FailureCause) -> Step {
        self.rare().failed = Some(cause);
        Step::FAILED
    }

    fn report_failure(&mut self, entry: &Entry<T>, table: &Table<T>) {
        let Some(cause) = self.rare().failed.take() else { return };
        let failure = Failure::new(Arc::clone(table.event()), entry.listen.origin().registered_at, cause);
        if entry.listen.state().is_first_failure() {
            log(&failure);
        }
        self.report.add_failure(failure);
    }

    pub(super) fn spawned(&mut self) -> Step {
        self.report.add_spawned();
        Step::SKIPPED
    }

    pub(super) fn wait_for(&mut self, running: Running) -> Step {
        self.rare().pending = Some(running);
        Step::PENDING
    }

    /// Notes an uncommon step; a break ends the walk.
    #[cold]
    fn settle(&mut self, step: Step, entry: &Entry<T>, table: &Table<T>) -> ControlFlow<()> {
        if step.has(Step::FAILED) {
            self.report_failure(entry, table);
        }
        if step.has(Step::RAN) {
            self.report.add_ran(1);
        }
        if step.has(Step::SPENT) {
            self.rare().spent.push(entry.key);
        }
        if step.has(Step::STOP) {
            self.report.stop();
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Takes the spent listeners out of the event's table, all in one update.
    #[inline]
    fn sweep(&mut self, table: &Table<T>) {
        if let Some(rare) = &mut self.rare {
            rare.sweep(table);
        }
    }
}

impl<T: ?Sized + 'static> Rare<T> {
    #[cold]
    fn sweep(&mut self, table: &Table<T>) {
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

/// The walk of an `emit_async`.
pub(super) struct Awaited<'a, T: ?Sized> {
    payload: &'a T,
    emission: Emission<T>,
    /// The entry to call next.
    chunk: usize,
    index: usize,
    /// The table, once the walk had to wait.
    table: Option<Arc<Table<T>>>,
}

impl<'a, T: ?Sized + 'static> Awaited<'a, T> {
    pub(super) fn new(payload: &'a T) -> Self {
        Self { payload, emission: Emission::new(true), chunk: 0, index: 0, table: None }
    }

    /// Tells whether the walk waits for a listener, so that [`resume`](Self::resume) goes on with it.
    pub(super) fn is_waiting(&self) -> bool {
        self.table.is_some()
    }

    /// Starts the walk.
    pub(super) fn start(&mut self, table: SnapshotGuard<Table<T>>, cx: &mut Context<'_>) -> Poll<Report> {
        let poll = self.walk(&table, cx);
        if poll.is_pending() {
            // The guard ends here: it must not outlive the poll.
            self.table = Some(Arc::clone(&table));
        }
        poll
    }

    /// Goes on with a walk that had to wait.
    pub(super) fn resume(&mut self, cx: &mut Context<'_>) -> Poll<Report> {
        let Some(table) = self.table.take() else { return Poll::Ready(Report::default()) };
        let poll = self.walk(&table, cx);
        if poll.is_pending() {
            self.table = Some(table);
        }
        poll
    }

    fn walk(&mut self, table: &Table<T>, cx: &mut Context<'_>) -> Poll<Report> {
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue() {
            if let Some(running) = self.emission.pending() {
                let Poll::Ready(result) = Pin::new(running).poll(cx) else {
                    // Swept before the wait: whoever drops this future leaves nothing spent behind.
                    self.emission.sweep(table);
                    return Poll::Pending;
                };
                flow = self.finish_pending(result);
                continue;
            }
            let Some(chunk) = table.chunk(self.chunk) else { break };
            let Some(entry) = chunk.get(self.index) else {
                (self.chunk, self.index) = (self.chunk + 1, 0);
                continue;
            };
            self.index += 1;
            let step = entry.listen.call(self.payload, &mut self.emission);
            if step == Step::RAN {
                self.emission.report.add_ran(1);
            } else {
                flow = self.emission.settle(step, entry, table);
            }
        }
        self.emission.sweep(table);
        Poll::Ready(std::mem::take(&mut self.emission.report))
    }

    fn finish_pending(&mut self, result: Result<ControlFlow<()>, FailureCause>) -> ControlFlow<()> {
        let Some(running) = self.emission.rare().pending.take() else { return ControlFlow::Continue(()) };
        self.emission.report.add_ran(1);
        match result {
            Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
            Ok(ControlFlow::Break(())) => {
                self.emission.report.stop();
                ControlFlow::Break(())
            }
            Err(cause) => {
                self.emission.report.add_failure(running.failure(cause));
                ControlFlow::Continue(())
            }
        }
    }
}
