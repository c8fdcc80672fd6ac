//! Where failures come from (an event, or the listeners of one line of code), and where they go.
//!
//! Each failure goes into the report of its emit, and to the dispatcher's `on_error` hook when it happens.
//! Without a hook, the first failure of the listeners that one line of code registered is logged: to a
//! subscriber of the crate `tracing`, else to stderr. A failure inside the hook is logged too, and does not
//! call the hook again.

use std::any::TypeId;
use std::cell::Cell;
use std::panic::Location;

use super::failure::{Failure, FailureCause};
use super::report::Report;
use crate::observe::emits::{failed, warn};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, SnapshotCell, const_thread_local, guard};

/// The part of an event that its listeners and tables share.
pub(crate) struct EventMeta {
    pub(crate) name: Arc<str>,
    /// The hook of the event's dispatcher: empty when the dispatcher is gone.
    pub(crate) hook: Arc<HookCell>,
}

impl EventMeta {
    /// Makes a failure that no listener caused, and passes it to the hook or the log.
    #[cold]
    pub(crate) fn fail(&self, cause: FailureCause) -> Failure {
        failed(cause.label());
        let failure = Failure::new(Arc::clone(&self.name), None, cause);
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

    /// Passes a failure to the hook; without a hook, logs it if `telling` says so.
    fn tell(&self, failure: &Failure, telling: Telling) {
        let hook = self.hook.get();
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
        // This is the last reference if the hook was replaced meanwhile.
        drop_logged("the on_error hook", hook);
    }
}

/// Whether a failure is logged when there is no hook.
#[derive(Clone, Copy)]
enum Telling {
    /// Logged: no report has it, or no listener caused it.
    Always,
    /// Logged: the first failure of its origin.
    First,
    /// Not logged.
    Again,
}

/// The closure that a dispatcher calls for failures: see [`Dispatcher::on_error`](crate::Dispatcher::on_error).
pub(crate) type Hook = Arc<dyn Fn(&Failure) + Send + Sync>;

/// The hook of one dispatcher, shared with its events.
///
/// Empty until a hook is set, and again when the dispatcher is gone: an event that outlives it loses the hook.
pub(crate) struct HookCell(SnapshotCell<Option<Hook>>);

impl HookCell {
    pub(crate) fn new() -> Self {
        Self(SnapshotCell::new(Arc::new(None)))
    }

    fn get(&self) -> Option<Hook> {
        Option::clone(&self.0.load())
    }

    /// Replaces the hook. Dropping the old one is user code.
    pub(crate) fn set(&self, hook: Option<Hook>) {
        drop_logged("the on_error hook", self.0.update(|_| Some((hook.clone(), ()))));
    }
}

const_thread_local! {
    /// Whether this thread is inside an `on_error` hook, of any dispatcher.
    static IN_HOOK: Cell<bool> = Cell::new(false);
}

/// The line of code that registered listeners, and whether one of them failed.
///
/// All listeners of that line share it, so that each of thousands costs one pointer.
pub(crate) struct Origin {
    pub(crate) event: Arc<EventMeta>,
    pub(crate) registered_at: &'static Location<'static>,
    /// The type of the closure: one place, in a helper for example, may register several types.
    listener: TypeId,
    /// Set by the first failure.
    failed: AtomicBool,
}

impl Origin {
    pub(crate) fn new(event: Arc<EventMeta>, registered_at: &'static Location<'static>, listener: TypeId) -> Self {
        Self { event, registered_at, listener, failed: AtomicBool::new(false) }
    }

    /// Returns whether listeners of this place and type have this origin.
    pub(crate) fn is_of(&self, registered_at: &'static Location<'static>, listener: TypeId) -> bool {
        std::ptr::eq(self.registered_at, registered_at) && self.listener == listener
    }

    /// Makes a failure of a listener.
    #[cold]
    pub(crate) fn failure(&self, cause: FailureCause) -> Failure {
        failed(cause.label());
        Failure::new(Arc::clone(&self.event.name), Some(self.registered_at), cause)
    }

    /// Makes a failure of a listener, and passes it to the hook or the log.
    #[cold]
    pub(crate) fn fail(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        // Relaxed: the flag alone decides which failure is the first.
        self.event
            .tell(&failure, if self.failed.swap(true, Ordering::Relaxed) { Telling::Again } else { Telling::First });
        failure
    }

    /// Makes a failure that may be in no report, and passes it to the hook or the log.
    #[cold]
    pub(crate) fn fail_unreported(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        self.event.tell(&failure, Telling::Always);
        failure
    }

    /// Drops a user's value; a panic goes to the hook or the log, because no report is at hand.
    pub(crate) fn drop_guarded<V>(&self, value: V) {
        if let Err(panic) = guard(|| drop(value)) {
            drop(self.fail_unreported(FailureCause::DropPanic(panic)));
        }
    }
}

/// Drops a user's value where neither a report nor a hook is at hand; a panic is logged.
pub(crate) fn drop_logged<V>(what: &str, value: V) {
    if let Err(panic) = guard(|| drop(value)) {
        warn(&format!("{what} panicked while it was dropped: {panic}"));
    }
}

#[cold]
fn log(failure: &Failure, note: &str) {
    // The text of an error is user code.
    let text = guard(|| failure.to_string())
        .unwrap_or_else(|_| format!("listener of `{}` failed with an error whose Display panics", failure.event()));
    match failure.registered_at() {
        Some(place) => warn(&format!("{text} (registered at {place}{note})")),
        None => warn(&text),
    }
}
