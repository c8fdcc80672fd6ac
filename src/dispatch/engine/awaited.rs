//! The walk of an `emit_async`.
//!
//! ```text
//! first poll   walk as `emit` does; nothing is allocated unless a listener is not ready
//! a listener is not ready: keep its future; at the limit, take an owned table and wait
//! later polls  poll the kept futures; go on with the walk as far as the limit allows
//! ```
//!
//! A limit of one is the sequential walk. No guard of a snapshot lives from one poll to the next, and spent
//! listeners are swept before a wait, so a future that is dropped leaves nothing behind.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{FuturesUnordered, Stream};

use super::depth::Depth;
use super::emission::{Emission, EmitMode, Rare};
use super::failure::Failure;
use super::options::EmitOptions;
use super::report::Report;
use super::running::Running;
use super::slot::{Hears, Slot};
use super::table::{Table, TableOwner as _};
use crate::snapshot::Place;
use crate::sync::{Arc, SnapshotGuard};

/// An async emit, from its first poll to its end.
pub(crate) struct Awaited<'a, T: ?Sized> {
    payload: &'a T,
    options: EmitOptions,
    stage: Stage<T>,
}

enum Stage<T: ?Sized> {
    Start,
    Waiting(Box<Suspended<T>>),
    Done,
}

/// The state between two polls.
struct Suspended<T: ?Sized> {
    table: Arc<Table<T>>,
    progress: Progress,
    rare: Option<Box<Rare<T>>>,
    /// Whether the event counts its emits.
    is_counted: bool,
}

/// How far the walk has come.
struct Progress {
    /// The listener to call next.
    place: Place,
    /// No further listener is called; the walk waits for those that run.
    stopped: bool,
    pending: PendingCalls,
}

/// The calls that the walk waits for.
enum PendingCalls {
    /// At most one: a sequential walk.
    One(Option<Running>),
    Many {
        futures: FuturesUnordered<Running>,
        limit: usize,
    },
}

impl<'a, T: ?Sized + 'static> Awaited<'a, T> {
    pub(crate) fn new(payload: &'a T, options: EmitOptions) -> Self {
        Self { payload, options, stage: Stage::Start }
    }

    /// Returns whether the walk waits, so that [`resume`](Self::resume) goes on with it.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// Returns whether the walk has not begun yet.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.stage, Stage::Start)
    }

    fn emission(&self) -> Emission<'static, T> {
        Emission::with(EmitMode { awaits: true, fail_fast: self.options.fails_fast() })
    }

    /// Starts the walk over the listeners that the slot has now.
    #[inline]
    pub(crate) fn begin(&mut self, slot: &Slot<T>, cx: &mut Context<'_>) -> Poll<Report> {
        match slot.audience().hears() {
            Hears::Plain => self.begin_with(slot.table(), cx),
            Hears::Nobody => {
                self.stage = Stage::Done;
                Poll::Ready(Report::default())
            }
            Hears::Watched => self.begin_watched(slot, cx),
        }
    }

    /// Starts the walk at an event that is muted or counted.
    #[cold]
    #[inline(never)]
    pub(crate) fn begin_watched(&mut self, slot: &Slot<T>, cx: &mut Context<'_>) -> Poll<Report> {
        if slot.is_muted() {
            self.stage = Stage::Done;
            return Poll::Ready(Report::default());
        }
        let polled = self.begin_with(slot.table(), cx);
        match (&polled, &mut self.stage) {
            (Poll::Ready(report), _) => slot.note(report),
            (Poll::Pending, Stage::Waiting(suspended)) => suspended.is_counted = true,
            (Poll::Pending, _) => {}
        }
        polled
    }

    /// Starts the walk over a table.
    #[inline(always)]
    pub(crate) fn begin_with(&mut self, table: SnapshotGuard<Table<T>>, cx: &mut Context<'_>) -> Poll<Report> {
        self.stage = Stage::Done;
        let mut emission = self.emission();
        let depth = Depth::enter();
        if depth.is_over() {
            return Poll::Ready(emission.too_deep(&table));
        }
        // As in `run`, but the walk remembers where it stopped.
        let (mut ran, mut place) = (0, Place::default());
        match emission.call_from(&mut place, &table, self.payload, &mut ran) {
            ControlFlow::Continue(()) => Poll::Ready(emission.finish(&table, ran)),
            ControlFlow::Break(()) => {
                emission.add_ran(ran);
                self.interrupted(&table, emission, place, cx)
            }
        }
    }

    /// Goes on after the first call that stopped the walk, or made a future.
    #[cold]
    #[inline(never)]
    fn interrupted(
        &mut self,
        table: &Arc<Table<T>>,
        mut emission: Emission<'_, T>,
        place: Place,
        cx: &mut Context<'_>,
    ) -> Poll<Report> {
        let pending = match self.options.limit() {
            1 => PendingCalls::One(None),
            limit => PendingCalls::Many { futures: FuturesUnordered::new(), limit },
        };
        let mut progress = Progress { place, stopped: false, pending };
        let waits = progress.take(&mut emission, cx).is_pending();
        if !waits && progress.poll(table, self.payload, &mut emission, cx).is_ready() {
            return Poll::Ready(emission.finish(table, 0));
        }
        let rare = emission.suspend(table);
        let suspended = Suspended { table: Arc::clone(table), progress, rare, is_counted: false };
        self.stage = Stage::Waiting(Box::new(suspended));
        Poll::Pending
    }

    /// Goes on with a walk that had to wait.
    pub(crate) fn resume(&mut self, cx: &mut Context<'_>) -> Poll<Report> {
        let mut emission = self.emission();
        let Stage::Waiting(suspended) = &mut self.stage else { unreachable!("a walk that waits is resumed") };
        let Suspended { table, progress, rare, is_counted } = &mut **suspended;
        emission = emission.resume(rare.take());
        // Not refused at any depth: a walk that has begun must finish, however deep it is polled.
        let _depth = Depth::enter();
        if progress.poll(table, self.payload, &mut emission, cx).is_pending() {
            *rare = emission.suspend(table);
            return Poll::Pending;
        }
        let report = emission.finish(table, 0);
        if let (true, Some(owner)) = (*is_counted, table.owner()) {
            owner.note(&report);
        }
        self.stage = Stage::Done;
        Poll::Ready(report)
    }
}

impl Progress {
    /// Polls the running calls and calls the next listeners, by turns; ready when none of either is left.
    fn poll<T: ?Sized + 'static>(
        &mut self,
        table: &Table<T>,
        payload: &T,
        emission: &mut Emission<'_, T>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            while let Poll::Ready(Some(result)) = self.pending.poll_next(cx) {
                self.note(emission, result);
            }
            if self.stopped || table.chunk(self.place.chunk).is_none() {
                return if self.pending.is_empty() { Poll::Ready(()) } else { Poll::Pending };
            }
            if !self.pending.has_room() {
                return Poll::Pending;
            }
            let mut ran = 0;
            let flow = emission.call_from(&mut self.place, table, payload, &mut ran);
            emission.add_ran(ran);
            if flow.is_break() {
                ready!(self.take(emission, cx));
            }
        }
    }

    /// Takes on the call that interrupted the walk; pending when a sequential walk has to wait for it.
    fn take<T: ?Sized + 'static>(&mut self, emission: &mut Emission<'_, T>, cx: &mut Context<'_>) -> Poll<()> {
        self.stopped |= emission.is_stopped();
        let Some(mut running) = emission.take_pending() else { return Poll::Ready(()) };
        match &mut self.pending {
            // Polled with the others.
            PendingCalls::Many { futures, .. } => futures.push(running),
            PendingCalls::One(one) => match Pin::new(&mut running).poll(cx) {
                Poll::Ready(result) => self.note(emission, result),
                Poll::Pending => {
                    *one = Some(running);
                    return Poll::Pending;
                }
            },
        }
        Poll::Ready(())
    }

    fn note<T: ?Sized + 'static>(&mut self, emission: &mut Emission<'_, T>, result: Result<ControlFlow<()>, Failure>) {
        emission.add_ran(1);
        let stops = match result {
            Ok(flow) => flow.is_break(),
            Err(failure) => emission.add_failure(failure),
        };
        if stops {
            emission.stop();
            self.stopped = true;
        }
    }
}

impl PendingCalls {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ControlFlow<()>, Failure>>> {
        match self {
            Self::One(None) => Poll::Ready(None),
            Self::One(Some(running)) => {
                let result = ready!(Pin::new(running).poll(cx));
                *self = Self::One(None);
                Poll::Ready(Some(result))
            }
            Self::Many { futures, .. } => Pin::new(futures).poll_next(cx),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::One(one) => one.is_none(),
            Self::Many { futures, .. } => futures.is_empty(),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            Self::One(one) => one.is_none(),
            Self::Many { futures, limit } => futures.len() < *limit,
        }
    }
}
