//! A registered listener: its closure, and the one word that says whether it may be called.
//!
//! ```text
//! state          may be called    changes
//! 0              yes              pause: + 1, off: | REMOVED
//! n < REMOVED    paused n times   pause: + 1, resume: - 1
//! REMOVED | n    never again      REMOVED stays set
//! ```
//!
//! The word lives in the node, which all snapshots of the table share, and never in a table's entry:
//! an emit that runs an old table sees at once that a listener is gone. The calls left of a `once` or
//! `times` listener are one word too, its [`Limit`]: each call is claimed or given up.
//!
//! An emit may drop the last table that holds a node, and the values that a closure captured may panic
//! while they are dropped. So a reference to a node is given up by [`Listen::release`], which takes the
//! last one apart inside the guard. (A node that did so in its own `Drop` would have to check, in every
//! call, that it still has its closure.)

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::ops::{ControlFlow, Deref};

use super::calls::InFlight;
use super::conditions::{Admit, Claim, Limit, Verdict};
use super::emission::{Emission, Step};
use super::failure::FailureCause;
use super::origin::Origin;
use super::outcome::{Outcome, Payload};
use crate::snapshot::Release;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, guard, unique_number};

/// A listener as the table sees it, with the type of its closure erased.
pub(crate) trait Listen<T: ?Sized>: Send + Sync {
    /// Calls the listener, unless it is gone or paused. Never unwinds; a failure goes into `emission`.
    fn call(&self, payload: &T, emission: &mut Emission<'_, T>) -> Step;

    fn state(&self) -> &ListenerState;

    fn limit(&self) -> Option<&Limit>;

    fn origin(&self) -> &Arc<Origin>;

    fn kind(&self) -> ListenerKind;

    /// Returns the identity of a [`Listener`](crate::Listener); `None` for a plain closure.
    fn identity(&self) -> Option<ListenerId>;

    /// Ends the listener; true for one caller only, and for none when its last call was claimed.
    fn end(&self) -> bool;

    /// Gives up a reference; the last one drops the closure inside the guard. Never unwinds.
    fn release(self: Arc<Self>);

    /// Returns whether the listener may still be called, now or after a pause.
    fn is_active(&self) -> bool {
        !self.state().is_removed() && self.limit().is_none_or(|limit| limit.left() > 0)
    }
}

/// How a listener is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenerKind {
    /// Inside the emit.
    Sync,
    /// As a future.
    Async,
    /// By filling a [`Next`](crate::dispatch::Next) or an [`EventStream`](crate::dispatch::EventStream).
    Stream,
}

/// The identity of a [`Listener`](crate::Listener), by which it is taken off: unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(NonZeroU64);

impl ListenerId {
    pub(crate) fn new() -> Self {
        Self(unique_number())
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The state word.
pub(crate) struct ListenerState(AtomicU32);

const REMOVED: u32 = 1 << 31;
/// The most pauses allowed, far below an overflow into [`REMOVED`].
const MOST_PAUSED: u32 = 1 << 30;

impl ListenerState {
    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    fn is_open(&self) -> bool {
        // Relaxed, here and below: only the word itself decides; a finished `off` or `pause` that
        // happened before this load is seen by coherence, and nothing is published through it.
        self.0.load(Ordering::Relaxed) == 0
    }

    fn is_removed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & REMOVED != 0
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.load(Ordering::Relaxed) & !REMOVED != 0
    }

    fn remove(&self) -> bool {
        self.0.fetch_or(REMOVED, Ordering::Relaxed) & REMOVED == 0
    }

    pub(crate) fn pause(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) & !REMOVED >= MOST_PAUSED {
            self.resume();
            panic!("a listener is paused 2^30 times: its pauses are leaked");
        }
    }

    pub(crate) fn resume(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A closure of one kind, and how it is called.
pub(crate) trait Call<T: ?Sized>: Send + Sync {
    const KIND: ListenerKind;

    /// A resource that a call needs, and that may be refused before the call is claimed.
    type Ready;

    fn ready(&self, origin: &Origin, emission: &Emission<'_, T>) -> Result<Self::Ready, FailureCause>;

    fn call(&self, payload: &T, turn: Turn<'_, '_, T, Self::Ready>) -> Step;

    fn identity(&self) -> Option<ListenerId> {
        None
    }

    /// Runs when the listener was taken off with calls left; calls may still be running.
    fn ended(&self) {}
}

/// One call that the conditions let through.
pub(crate) struct Turn<'a, 'e, T: ?Sized, R> {
    pub(crate) emission: &'a mut Emission<'e, T>,
    pub(crate) origin: &'a Arc<Origin>,
    /// Counts the call of a waitable listener, until this is dropped.
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) ready: R,
}

impl<T: ?Sized> Release for Arc<dyn Listen<T>> {
    fn release(self) {
        Listen::release(self);
    }
}

/// A reference to a listener outside of any table.
pub(crate) struct Held<T: ?Sized>(Option<Arc<dyn Listen<T>>>);

impl<T: ?Sized> Held<T> {
    pub(crate) fn new(listener: Arc<dyn Listen<T>>) -> Self {
        Self(Some(listener))
    }
}

impl<T: ?Sized> Deref for Held<T> {
    type Target = Arc<dyn Listen<T>>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("only the drop takes the listener")
    }
}

impl<T: ?Sized> Drop for Held<T> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Listen::release);
    }
}

/// A registered listener: a closure behind its state and conditions.
pub(crate) struct Node<C, A> {
    state: ListenerState,
    call: C,
    conditions: A,
    origin: Arc<Origin>,
}

impl<C, A> Node<C, A> {
    pub(crate) fn new(call: C, conditions: A, origin: Arc<Origin>) -> Self {
        Self { state: ListenerState::new(), call, conditions, origin }
    }
}

impl<T, C, A> Listen<T> for Node<C, A>
where
    T: ?Sized + 'static,
    C: Call<T>,
    A: Admit<T>,
{
    #[inline]
    fn call(&self, payload: &T, emission: &mut Emission<'_, T>) -> Step {
        let Self { state, call, conditions, origin } = self;
        if !state.is_open() {
            return skip();
        }
        let in_flight = match conditions.enter(payload) {
            Verdict::Passed(in_flight) => in_flight,
            Verdict::Refused => return Step::SKIPPED,
            Verdict::Failed(cause) => return emission.refuse(origin, cause),
        };
        // Checked again: a filter may take its own listener off.
        if A::MAY_REFUSE && !state.is_open() {
            return Step::SKIPPED;
        }
        let ready = match call.ready(origin, emission) {
            Ok(ready) => ready,
            Err(cause) => return emission.refuse(origin, cause),
        };
        let Some(claim) = conditions.claim() else { return Step::SKIPPED };
        let step = call.call(payload, Turn { emission, origin, in_flight, ready });
        match claim {
            Claim::Left => step,
            Claim::Last => step | Step::SPENT,
        }
    }

    fn state(&self) -> &ListenerState {
        &self.state
    }

    fn limit(&self) -> Option<&Limit> {
        self.conditions.limit()
    }

    fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    fn kind(&self) -> ListenerKind {
        C::KIND
    }

    fn identity(&self) -> Option<ListenerId> {
        self.call.identity()
    }

    fn end(&self) -> bool {
        let removed = self.state.remove();
        let ended = self.conditions.limit().map_or(removed, Limit::end);
        if ended {
            self.call.ended();
        }
        ended
    }

    fn release(self: Arc<Self>) {
        // Of racing callers, exactly one gets the last reference.
        if let Some(Self { call, conditions, origin, .. }) = Arc::into_inner(self) {
            origin.drop_guarded(call);
            origin.drop_guarded(conditions);
        }
    }
}

/// Keeps the code for skipped listeners out of the common path.
#[cold]
#[inline(never)]
fn skip() -> Step {
    Step::SKIPPED
}

/// Calls a closure inside the emit.
pub(crate) struct SyncCall<F, R> {
    listener: F,
    outcome: PhantomData<fn() -> R>,
}

impl<F, R> SyncCall<F, R> {
    pub(crate) fn new(listener: F) -> Self {
        Self { listener, outcome: PhantomData }
    }
}

impl<T, F, R> Call<T> for SyncCall<F, R>
where
    T: ?Sized + 'static,
    F: Fn(&T) -> R + Send + Sync,
    R: Outcome,
{
    const KIND: ListenerKind = ListenerKind::Sync;

    type Ready = ();

    #[inline]
    fn ready(&self, _: &Origin, _: &Emission<'_, T>) -> Result<(), FailureCause> {
        Ok(())
    }

    #[inline]
    fn call(&self, payload: &T, turn: Turn<'_, '_, T, ()>) -> Step {
        let Turn { emission, origin, in_flight, .. } = turn;
        let _inside = in_flight.as_ref().map(InFlight::inside);
        match guard(|| (self.listener)(payload)).map_err(FailureCause::Panic).and_then(|r| r.settle(emission)) {
            Ok(ControlFlow::Continue(())) => Step::RAN,
            Ok(ControlFlow::Break(())) => Step::RAN | Step::STOP,
            Err(cause) => emission.fail(origin, cause),
        }
    }
}

/// Calls the closure of a [`Listener`](crate::Listener).
pub(crate) struct IdentifiedCall<F, R> {
    call: SyncCall<F, R>,
    identity: ListenerId,
}

impl<F, R> IdentifiedCall<F, R> {
    pub(crate) fn new(listener: F, identity: ListenerId) -> Self {
        Self { call: SyncCall::new(listener), identity }
    }
}

impl<T, F, R> Call<T> for IdentifiedCall<F, R>
where
    T: ?Sized + 'static,
    F: Fn(&T) -> R + Send + Sync,
    R: Outcome,
{
    const KIND: ListenerKind = ListenerKind::Sync;

    type Ready = ();

    fn ready(&self, _: &Origin, _: &Emission<'_, T>) -> Result<(), FailureCause> {
        Ok(())
    }

    fn call(&self, payload: &T, turn: Turn<'_, '_, T, ()>) -> Step {
        self.call.call(payload, turn)
    }

    fn identity(&self) -> Option<ListenerId> {
        Some(self.identity)
    }
}

/// Hands the shared payload to a closure of ours, which returns whether it wants more.
pub(crate) struct SharedCall<F, E> {
    listener: F,
    ended: E,
}

impl<F, E> SharedCall<F, E> {
    pub(crate) fn new(listener: F, ended: E) -> Self {
        Self { listener, ended }
    }
}

impl<T, F, E> Call<T> for SharedCall<F, E>
where
    T: Payload + ?Sized,
    F: Fn(Arc<T>) -> bool + Send + Sync,
    E: Fn() + Send + Sync,
{
    const KIND: ListenerKind = ListenerKind::Stream;

    type Ready = ();

    fn ready(&self, _: &Origin, _: &Emission<'_, T>) -> Result<(), FailureCause> {
        Ok(())
    }

    fn call(&self, payload: &T, turn: Turn<'_, '_, T, ()>) -> Step {
        // Cloning the payload is user code.
        match guard(|| (self.listener)(turn.emission.share(payload))) {
            Ok(true) => Step::RAN,
            Ok(false) => Step::RAN | Step::SPENT,
            Err(panic) => turn.emission.fail(turn.origin, FailureCause::Panic(panic)),
        }
    }

    fn ended(&self) {
        // The closure wakes a reader, and a waker is user code.
        let _ = guard(&self.ended);
    }
}
