//! Where failures come from, an event or the listeners of one line of code, and where their texts go.
//!
//! Each failure goes where someone looks: into the report of its emit, and to the dispatcher's
//! `on_error` hook when it happens. Without a hook the first failure of the listeners that one
//! line of code registered is written to stderr, or logged to a subscriber of the crate `tracing`. A failure
//! that happens inside the hook is written there too, and does not call it again.

use std::any::TypeId;
use std::cell::Cell;
use std::panic::Location;

use super::failure::{Failure, FailureCause};
use super::report::Report;
use crate::observe::emits::{failed, warn};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, SnapshotCell, const_thread_local, guard};

/// What the listeners and tables of one event know of it.
pub(crate) struct EventMeta {
    pub(crate) name: Arc<str>,
    /// The hook of the event's dispatcher: empty when that is gone.
    pub(crate) hook: Arc<HookCell>,
}

impl EventMeta {
    /// Makes a failure that no listener is to blame for, and tells of it.
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

    /// Tells the hook; without one, stderr, of the first failure of each place of registration.
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
        // The last reference, when the hook was replaced meanwhile.
        drop_logged("the on_error hook", hook);
    }
}

/// Whether a failure is worth a line on stderr, where there is no hook.
#[derive(Clone, Copy)]
enum Telling {
    /// No report has it, or no listener to blame.
    Always,
    /// The listener's first one.
    First,
    Again,
}

/// What a dispatcher does with failures: see [`Dispatcher::on_error`](crate::Dispatcher::on_error).
pub(crate) type Hook = Arc<dyn Fn(&Failure) + Send + Sync>;

/// The hook of one dispatcher, shared with its events.
///
/// Empty until one is set, and again when the dispatcher is gone: an event that outlives it loses the hook.
pub(crate) struct HookCell(SnapshotCell<Option<Hook>>);

impl HookCell {
    pub(crate) fn new() -> Self {
        Self(SnapshotCell::new(Arc::new(None)))
    }

    fn get(&self) -> Option<Hook> {
        Option::clone(&self.0.load())
    }

    /// Replaces the hook. The old one is user code to drop.
    pub(crate) fn set(&self, hook: Option<Hook>) {
        drop_logged("the on_error hook", self.0.update(|_| Some((hook.clone(), ()))));
    }
}

const_thread_local! {
    /// Whether this thread is inside an `on_error` hook, of any dispatcher.
    static IN_HOOK: Cell<bool> = Cell::new(false);
}

/// Where listeners come from, and whether one of them failed: shared by all that one line of code
/// registered, so that thousands of them cost no more memory than a pointer each.
pub(crate) struct Origin {
    pub(crate) event: Arc<EventMeta>,
    pub(crate) registered_at: &'static Location<'static>,
    /// The type of the closure: one place may register several, in a helper say.
    listener: TypeId,
    /// Set by the first failure.
    failed: AtomicBool,
}

impl Origin {
    pub(crate) fn new(event: Arc<EventMeta>, registered_at: &'static Location<'static>, listener: TypeId) -> Self {
        Self { event, registered_at, listener, failed: AtomicBool::new(false) }
    }

    /// Tells whether this is the origin of such a listener too.
    pub(crate) fn is_of(&self, registered_at: &'static Location<'static>, listener: TypeId) -> bool {
        std::ptr::eq(self.registered_at, registered_at) && self.listener == listener
    }

    /// Makes a failure of a listener.
    #[cold]
    pub(crate) fn failure(&self, cause: FailureCause) -> Failure {
        failed(cause.label());
        Failure::new(Arc::clone(&self.event.name), Some(self.registered_at), cause)
    }

    /// Makes a failure of a listener, and tells of it.
    #[cold]
    pub(crate) fn fail(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        // Relaxed: only the flag itself decides who is the first.
        self.event
            .tell(&failure, if self.failed.swap(true, Ordering::Relaxed) { Telling::Again } else { Telling::First });
        failure
    }

    /// Makes a failure that no report may ever have, and tells of it.
    #[cold]
    pub(crate) fn fail_unreported(&self, cause: FailureCause) -> Failure {
        let failure = self.failure(cause);
        self.event.tell(&failure, Telling::Always);
        failure
    }

    /// Drops a value of the user's, telling of a panic: nobody's report is at hand.
    pub(crate) fn drop_guarded<V>(&self, value: V) {
        if let Err(panic) = guard(|| drop(value)) {
            drop(self.fail_unreported(FailureCause::DropPanic(panic)));
        }
    }
}

/// Drops a value of the user's where nobody is left to tell of a panic.
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
