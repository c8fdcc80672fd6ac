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

    fn meta(&self) -> &Meta;
}

/// The state word.
pub(super) struct State(AtomicU8);

const ACTIVE: u8 = 0;
const CLAIMED: u8 = 1;
const REMOVED: u8 = 2;

impl State {
    fn new() -> Self {
        Self(AtomicU8::new(ACTIVE))
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
        self.0.load(Ordering::Relaxed) == ACTIVE
    }

    /// Takes the only call of a once listener; true for one caller alone.
    fn claim(&self) -> bool {
        #[cfg(fault = "once_load_store")]
        {
            let active = self.is_active();
            self.0.store(CLAIMED, Ordering::Relaxed);
            return active;
        }
        #[cfg(not(fault = "once_load_store"))]
        self.leave_active(CLAIMED)
    }

    /// Ends the listener; true for one caller alone, and never after a claim.
    pub(super) fn remove(&self) -> bool {
        #[cfg(fault = "copied_flag")]
        return Self(AtomicU8::new(self.0.load(Ordering::Relaxed))).leave_active(REMOVED);
        #[cfg(not(fault = "copied_flag"))]
        self.leave_active(REMOVED)
    }

    fn leave_active(&self, to: u8) -> bool {
        // Relaxed: the compare-and-swap alone picks the winner; nothing is published through it.
        self.0.compare_exchange(ACTIVE, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// What is read about a listener only when something is unusual.
pub(super) struct Meta {
    event: Arc<str>,
    registered_at: &'static Location<'static>,
    identity: Option<ListenerId>,
    /// Set by the first failure, which is also written to stderr.
    logged: AtomicBool,
}

impl Meta {
    pub(super) fn new(
        event: Arc<str>,
        registered_at: &'static Location<'static>,
        identity: Option<ListenerId>,
    ) -> Self {
        Self { event, registered_at, identity, logged: AtomicBool::new(false) }
    }

    pub(super) fn identity(&self) -> Option<ListenerId> {
        self.identity
    }

    /// Makes a failure of this listener, and writes it to stderr when it is the first one.
    #[cold]
    pub(super) fn failure(&self, cause: FailureCause) -> Failure {
        let failure = Failure::new(Arc::clone(&self.event), self.registered_at, cause);
        // Relaxed: only the flag itself decides who writes.
        if !self.logged.swap(true, Ordering::Relaxed) {
            // The text of an error is user code.
            let text = guard(|| failure.to_string())
                .unwrap_or_else(|_| format!("listener of `{}` failed with an error whose Display panics", self.event));
            let registered_at = self.registered_at;
            let line =
                format!("fanfare: {text} (registered at {registered_at}; its later failures are in reports only)\n");
            // A closed stderr must not turn into a panic; the report still has the failure.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
        failure
    }
}

/// A sync listener.
pub(super) struct Node<F, R, const ONCE: bool> {
    state: State,
    /// Empty only while the node is dropped.
    listener: Option<F>,
    /// Apart, so that a long table's nodes stay small: an emit reads it only for a failure.
    meta: Box<Meta>,
    outcome: PhantomData<fn() -> R>,
}

impl<F, R, const ONCE: bool> Node<F, R, ONCE> {
    pub(super) fn new(listener: F, meta: Meta) -> Self {
        Self { state: State::new(), listener: Some(listener), meta: Box::new(meta), outcome: PhantomData }
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
            Err(cause) => emission.failed(&self.meta, cause),
        };
        if ONCE { step.and(Step::SPENT) } else { step }
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl<F, R, const ONCE: bool> Drop for Node<F, R, ONCE> {
    fn drop(&mut self) {
        drop_listener(self.listener.take(), &self.meta);
    }
}

/// An async listener: `F` makes a future from the shared payload.
pub(super) struct AsyncNode<F, T: ?Sized, const ONCE: bool> {
    state: State,
    /// Empty only while the node is dropped.
    listener: Option<F>,
    meta: Arc<Meta>,
    tasks: Arc<Tasks>,
    payload: PhantomData<fn(&T)>,
}

impl<F, T: ?Sized, const ONCE: bool> AsyncNode<F, T, ONCE> {
    pub(super) fn new(listener: F, meta: Meta, tasks: Arc<Tasks>) -> Self {
        Self { state: State::new(), listener: Some(listener), meta: Arc::new(meta), tasks, payload: PhantomData }
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
                Err(cause) => return emission.refused(&self.meta, cause),
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
            (Ok(future), None) => emission.wait_for(Running::new(future, Arc::clone(&self.meta))),
            (Ok(future), Some(admission)) => {
                admission.spawn(Running::new(future, Arc::clone(&self.meta)));
                emission.spawned()
            }
            (Err(panic), _) => emission.failed(&self.meta, FailureCause::Panic(panic)),
        };
        if ONCE { step.and(Step::SPENT) } else { step }
    }

    fn state(&self) -> &State {
        &self.state
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl<F, T: ?Sized, const ONCE: bool> Drop for AsyncNode<F, T, ONCE> {
    fn drop(&mut self) {
        drop_listener(self.listener.take(), &self.meta);
    }
}

fn drop_listener<F>(listener: Option<F>, meta: &Meta) {
    if let Err(panic) = guard(|| drop(listener)) {
        drop(meta.failure(FailureCause::Panic(format!("while it was dropped: {panic}"))));
    }
}

/// A call of an async listener: polled and dropped inside the guard.
pub(super) struct Running {
    /// Empty once the future is finished.
    future: Option<BoxFuture>,
    meta: Arc<Meta>,
}

type BoxFuture = Pin<Box<dyn Future<Output = Result<ControlFlow<()>, FailureCause>> + Send>>;

impl Running {
    fn new(future: BoxFuture, meta: Arc<Meta>) -> Self {
        Self { future: Some(future), meta }
    }

    pub(super) fn meta(&self) -> &Meta {
        &self.meta
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
        drop_listener(self.future.take(), &self.meta);
        Poll::Ready(result)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop_listener(self.future.take(), &self.meta);
    }
}
