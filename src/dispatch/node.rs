//! A registered listener: its closure, and the one word that says whether it may still be called.
//!
//! ```text
//! state     may be called   leaves it by
//! ACTIVE    yes             -> CLAIMED  the emit about to call a once listener
//!                           -> REMOVED  off
//! CLAIMED   no more         never: that one call is running or done
//! REMOVED   no more         never
//! ```
//!
//! The word lives in the node, which all snapshots of the table share, and never in a table's
//! entry: an emit that runs an old table sees at once that a listener is gone. Both ways out of
//! ACTIVE are one compare-and-swap, so a once listener runs or is taken off, never both.
//!
//! A node takes its closure apart inside the guard, since whoever drops the last table that holds
//! it may be an emit.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::emission::{Emission, Step};
use super::listener::sealed::Outcome as _;
use super::listener::{ListenerId, Outcome, Payload};
use super::report::{Failure, FailureCause};
use super::tasks::Tasks;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Arc, guard};

/// A listener as the table sees it: the kind of closure is behind this call.
pub(super) trait Listen<T: ?Sized>: Send + Sync {
    /// Calls the listener, unless it is gone. Never unwinds; a failure goes into `emission`.
    fn call(&self, payload: &T, emission: &mut Emission<T>) -> Step;

    fn state(&self) -> &State;

    fn origin(&self) -> Origin;
}

/// Where a listener comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) registered_at: &'static Location<'static>,
    pub(super) identity: Option<ListenerId>,
}

/// The state word, and beside it what only failures look at.
pub(super) struct State {
    word: AtomicU8,
    /// Set by the first failure, which is also written to stderr.
    logged: AtomicBool,
}

const ACTIVE: u8 = 0;
const CLAIMED: u8 = 1;
const REMOVED: u8 = 2;

impl State {
    fn new() -> Self {
        Self { word: AtomicU8::new(ACTIVE), logged: AtomicBool::new(false) }
    }

    /// Tells whether this is the first failure.
    pub(super) fn is_first_failure(&self) -> bool {
        // Relaxed: only the flag itself decides who writes.
        !self.logged.swap(true, Ordering::Relaxed)
    }

    /// Tells whether the listener may be called; a once listener is claimed by asking.
    #[inline]
    fn admit(&self, once: bool) -> bool {
        if once { self.claim() } else { self.is_active() }
    }

    #[inline]
    pub(super) fn is_active(&self) -> bool {
        // Relaxed: only the word itself decides; a finished `off` that happened before this load is
        // seen by coherence, and nothing is published through it.
        self.word.load(Ordering::Relaxed) == ACTIVE
    }

    /// Takes the only call of a once listener; true for one caller alone.
    fn claim(&self) -> bool {
        #[cfg(fault = "once_load_store")]
        {
            let active = self.is_active();
            self.word.store(CLAIMED, Ordering::Relaxed);
            return active;
        }
        #[cfg(not(fault = "once_load_store"))]
        self.leave_active(CLAIMED)
    }

    /// Ends the listener; true for one caller alone, and never after a claim.
    pub(super) fn remove(&self) -> bool {
        #[cfg(fault = "copied_flag")]
        return Self { word: AtomicU8::new(self.word.load(Ordering::Relaxed)), ..Self::new() }.leave_active(REMOVED);
        #[cfg(not(fault = "copied_flag"))]
        self.leave_active(REMOVED)
    }

    fn leave_active(&self, to: u8) -> bool {
        // Relaxed: the compare-and-swap alone picks the winner; nothing is published through it.
        self.word.compare_exchange(ACTIVE, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Writes a failure to stderr.
#[cold]
pub(super) fn log(failure: &Failure) {
    // The text of an error is user code.
    let text = guard(|| failure.to_string())
        .unwrap_or_else(|_| format!("listener of `{}` failed with an error whose Display panics", failure.event()));
    let registered_at = failure.registered_at();
    write_line(&format!("{text} (registered at {registered_at}; its later failures are in reports only)"));
}

/// A closed stderr must not turn into a panic; reports still have what is lost here.
pub(super) fn write_line(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("fanfare: {text}\n").as_bytes());
}

/// A sync listener.
pub(super) struct Node<F, R, const ONCE: bool> {
    state: State,
    /// Empty only while the node is dropped.
    listener: Option<F>,
    // No more than this: the nodes of a long table should fit in the cache.
    origin: Origin,
    outcome: PhantomData<fn() -> R>,
}

impl<F, R, const ONCE: bool> Node<F, R, ONCE> {
    pub(super) fn new(listener: F, origin: Origin) -> Self {
        Self { state: State::new(), listener: Some(listener), origin, outcome: PhantomData }
    }
}

impl<T, F, R, const ONCE: bool> Listen<T> for Node<F, R, ONCE>
where
    T: ?Sized + 'static,
    F: Fn(&T) -> R + Send + Sync,
    R: Outcome,
{
    #[inline]
    fn call(&self, payload: &T, emission: &mut Emission<T>) -> Step {
        let Some(listener) = &self.listener else { return Step::SKIPPED };
        if !self.state.admit(ONCE) {
            return Step::SKIPPED;
        }
        let step = match guard(|| listener(payload)).map_err(FailureCause::Panic).and_then(R::into_flow) {
            Ok(ControlFlow::Continue(())) => Step::RAN,
            Ok(ControlFlow::Break(())) => Step::RAN.and(Step::STOP),
            Err(cause) => emission.fail(cause),
        };
        if ONCE { step.and(Step::SPENT) } else { step }
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn origin(&self) -> Origin {
        self.origin
    }
}

impl<F, R, const ONCE: bool> Drop for Node<F, R, ONCE> {
    fn drop(&mut self) {
        drop_guarded(self.listener.take(), self.origin);
    }
}

/// An async listener: `F` makes a future from the shared payload.
pub(super) struct AsyncNode<F, T: ?Sized, const ONCE: bool> {
    /// Shared with the calls in flight, whose failures come later.
    state: Arc<State>,
    /// Empty only while the node is dropped.
    listener: Option<F>,
    event: Arc<str>,
    origin: Origin,
    tasks: Arc<Tasks>,
    payload: PhantomData<fn(&T)>,
}

impl<F, T: ?Sized, const ONCE: bool> AsyncNode<F, T, ONCE> {
    pub(super) fn new(listener: F, event: Arc<str>, origin: Origin, tasks: Arc<Tasks>) -> Self {
        let state = Arc::new(State::new());
        Self { state, listener: Some(listener), event, origin, tasks, payload: PhantomData }
    }
}

impl<T, F, Fut, const ONCE: bool> Listen<T> for AsyncNode<F, T, ONCE>
where
    T: Payload + ?Sized,
    F: Fn(Arc<T>) -> Fut + Send + Sync,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    fn call(&self, payload: &T, emission: &mut Emission<T>) -> Step {
        let Some(listener) = &self.listener else { return Step::SKIPPED };
        // Before the claim: a once listener that cannot be run is not used up.
        let admission = match emission.awaits() {
            true => None,
            false if !self.state.is_active() => return Step::SKIPPED,
            false => match self.tasks.admit() {
                Ok(admission) => Some(admission),
                Err(cause) => return emission.refuse(cause),
            },
        };
        if !self.state.admit(ONCE) {
            return Step::SKIPPED;
        }
        let made = guard(|| {
            let future = listener(emission.share(payload));
            Box::pin(async move { future.await.into_flow() })
        });
        let step = match (made, admission) {
            (Ok(future), None) => emission.wait_for(self.running(future)),
            (Ok(future), Some(admission)) => {
                admission.spawn(self.running(future));
                emission.spawned()
            }
            (Err(panic), _) => emission.fail(FailureCause::Panic(panic)),
        };
        if ONCE { step.and(Step::SPENT) } else { step }
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn origin(&self) -> Origin {
        self.origin
    }
}

impl<F, T: ?Sized, const ONCE: bool> AsyncNode<F, T, ONCE> {
    fn running(&self, future: BoxFuture) -> Running {
        let (event, state) = (Arc::clone(&self.event), Arc::clone(&self.state));
        Running { future: Some(future), event, state, origin: self.origin }
    }
}

impl<F, T: ?Sized, const ONCE: bool> Drop for AsyncNode<F, T, ONCE> {
    fn drop(&mut self) {
        drop_guarded(self.listener.take(), self.origin);
    }
}

fn drop_guarded<F>(user_value: Option<F>, origin: Origin) {
    if let Err(panic) = guard(|| drop(user_value)) {
        let registered_at = origin.registered_at;
        write_line(&format!("listener registered at {registered_at} panicked while it was dropped: {panic}"));
    }
}

/// A call of an async listener: polled and dropped inside the guard.
pub(super) struct Running {
    /// Empty once the future is finished.
    future: Option<BoxFuture>,
    event: Arc<str>,
    state: Arc<State>,
    origin: Origin,
}

type BoxFuture = Pin<Box<dyn Future<Output = Result<ControlFlow<()>, FailureCause>> + Send>>;

impl Running {
    /// Makes a failure of this call, and writes it to stderr when it is the listener's first one.
    #[cold]
    pub(super) fn failure(&self, cause: FailureCause) -> Failure {
        let failure = Failure::new(Arc::clone(&self.event), self.origin.registered_at, cause);
        if self.state.is_first_failure() {
            log(&failure);
        }
        failure
    }
}

impl Future for Running {
    type Output = Result<ControlFlow<()>, FailureCause>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Ready(Ok(ControlFlow::Continue(()))) };
        let result = match guard(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(FailureCause::Panic(panic)),
        };
        drop_guarded(self.future.take(), self.origin);
        Poll::Ready(result)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop_guarded(self.future.take(), self.origin);
    }
}
