//! With the feature `tokio`: each listener is a task, counted until it ends.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::dispatch::engine::failure::{Failure, FailureCause};
use crate::dispatch::engine::origin::Origin;
use crate::dispatch::engine::report::Report;
use crate::dispatch::engine::running::Running;
use crate::dispatch::engine::waiting::{Ending, Waiter, Waiters};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The most listeners in flight at one dispatcher.
const MOST_IN_FLIGHT: usize = 65_536;

/// The listeners of one dispatcher that are in flight.
pub(crate) struct Tasks {
    in_flight: AtomicUsize,
    /// The tasks and threads that wait for `in_flight` to be 0.
    waiters: Waiters,
}

/// A place among the listeners in flight, and the runtime to run on.
pub(crate) struct Admission {
    runtime: Handle,
    counted: Counted,
}

/// Counts one listener until it is dropped.
struct Counted(Arc<Tasks>);

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { in_flight: AtomicUsize::new(0), waiters: Waiters::new() }
    }

    /// Finds the runtime of this thread and takes a place.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, FailureCause> {
        let runtime = Handle::try_current().map_err(|_| FailureCause::NoRuntime)?;
        // Relaxed: a count; `drained` is ordered by the Release of the last listener that ends.
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MOST_IN_FLIGHT).then_some(n + 1))
            .map_err(|_| FailureCause::TooManyInFlight)?;
        Ok(Admission { runtime, counted: Counted(Arc::clone(self)) })
    }

    pub(crate) fn in_flight(&self) -> usize {
        // Acquire: pairs with the AcqRel in `Counted::drop`; what the listeners wrote is visible.
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn drained(self: &Arc<Self>) -> Drained {
        Drained { waiting: Waiter::new(Arc::clone(self)) }
    }
}

impl Ending for Tasks {
    fn is_over(&self) -> bool {
        self.in_flight() == 0
    }

    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
}

impl Admission {
    /// Runs the call as a task. The runtime owns the task, and drops it when it shuts down.
    pub(crate) fn spawn(self, mut running: Running) -> SpawnedTask {
        let Self { runtime, counted } = self;
        let origin = Arc::clone(running.origin());
        let task = runtime.spawn(async move {
            let result = (&mut running).await;
            drop(running);
            drop(counted);
            result.err()
        });
        SpawnedTask { task, origin }
    }
}

/// The task of one listener, to wait for or to abort.
pub(crate) struct SpawnedTask {
    task: JoinHandle<Option<Failure>>,
    origin: Arc<Origin>,
}

/// An emit whose async listeners run as tasks of their own: see [`Event::emit_spawned`](crate::Event::emit_spawned).
///
/// Awaiting it waits for all of them and returns the whole report. Dropping it leaves them running.
#[must_use = "await it for the whole report, or use `emit`"]
pub struct SpawnedEmit {
    report: Report,
    /// Awaited from the last to the first: all have to end anyway.
    tasks: Vec<SpawnedTask>,
}

impl SpawnedEmit {
    pub(crate) fn new(report: Report, tasks: Vec<SpawnedTask>) -> Self {
        Self { report, tasks }
    }

    /// Returns the report so far: listeners that ran inside the emit, and how many tasks are still to be awaited.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Returns whether all tasks have ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.tasks.iter().all(|spawned| spawned.task.is_finished())
    }

    /// Aborts the tasks that are still running, each at its next `.await`; they count as cancelled.
    pub fn abort(&self) {
        self.tasks.iter().for_each(|spawned| spawned.task.abort());
    }
}

impl Future for SpawnedEmit {
    type Output = Report;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Report> {
        let Self { report, tasks } = &mut *self;
        while let Some(SpawnedTask { task, origin }) = tasks.last_mut() {
            match ready!(Pin::new(task).poll(cx)) {
                Ok(failure) => {
                    report.spawned_ended();
                    report.add_ran(1);
                    failure.into_iter().for_each(|failure| report.add_failure(failure));
                }
                // Our tasks do not panic: it was aborted, or its runtime is gone. The hook got that failure from the
                // drop of its `Running`.
                Err(_) => {
                    report.spawned_ended();
                    report.add_failure(origin.failure(FailureCause::Cancelled));
                }
            }
            tasks.pop();
        }
        Poll::Ready(std::mem::take(report))
    }
}

impl fmt::Debug for SpawnedEmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnedEmit").field("report", &self.report).field("tasks", &self.tasks.len()).finish()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // AcqRel: the last one publishes what all of them wrote to the waiters of `drained`.
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiters.wake();
        }
    }
}

/// Resolves when no async listener is in flight: see [`Dispatcher::drained`](crate::Dispatcher::drained).
#[must_use = "futures do nothing unless awaited"]
pub struct Drained {
    waiting: Waiter<Tasks>,
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.poll(cx)
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").field("in_flight", &self.waiting.ending().in_flight()).finish()
    }
}
