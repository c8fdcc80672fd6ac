//! The conditions between a listener's turn and its call: a filter, a limit of calls, a count of calls in flight.
//!
//! A listener without conditions has `()` for them, and pays nothing. The order is: is a call left, enter (a
//! waitable listener counts from here), filter, claim. So a payload that the filter refuses uses up no call.

use super::calls::{Calls, InFlight};
use super::failure::FailureCause;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, guard, update_from};

/// Decides whether a listener is called in its turn.
pub(crate) trait Admit<T: ?Sized>: Send + Sync + 'static {
    /// Whether a call can be refused at all.
    const MAY_REFUSE: bool;

    /// Checks the payload, and counts the call of a waitable listener.
    fn enter(&self, payload: &T) -> Verdict;

    /// Claims one call; `None` when no call is left.
    fn claim(&self) -> Option<Claim>;

    /// Returns the limit of calls.
    fn limit(&self) -> Option<&Limit>;
}

/// The answer of [`Admit::enter`].
pub(crate) enum Verdict {
    Passed(Option<InFlight>),
    Refused,
    Failed(FailureCause),
}

/// A call that was claimed, for this turn alone.
pub(crate) enum Claim {
    /// Further calls are left, or there is no limit.
    Left,
    /// This is the last call: the listener is spent.
    Last,
}

impl<T: ?Sized> Admit<T> for () {
    const MAY_REFUSE: bool = false;

    #[inline]
    fn enter(&self, _payload: &T) -> Verdict {
        Verdict::Passed(None)
    }

    #[inline]
    fn claim(&self) -> Option<Claim> {
        Some(Claim::Left)
    }

    fn limit(&self) -> Option<&Limit> {
        None
    }
}

/// The conditions that a registration set.
pub(crate) struct Conditions<T: ?Sized> {
    pub(crate) filter: Option<Box<Filter<T>>>,
    pub(crate) limit: Option<Limit>,
    pub(crate) calls: Option<Arc<Calls>>,
}

pub(crate) type Filter<T> = dyn Fn(&T) -> bool + Send + Sync;

impl<T: ?Sized> Conditions<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.filter.is_none() && self.limit.is_none() && self.calls.is_none()
    }
}

impl<T: ?Sized + 'static> Admit<T> for Conditions<T> {
    const MAY_REFUSE: bool = true;

    fn enter(&self, payload: &T) -> Verdict {
        // A spent listener stays in the table until its last emit is over; its filter must not run, or fail, again.
        if self.limit.as_ref().is_some_and(|limit| limit.left() == 0) {
            return Verdict::Refused;
        }
        let call = match &self.calls {
            None => None,
            Some(calls) => match calls.enter() {
                None => return Verdict::Refused,
                entered => entered,
            },
        };
        let Some(filter) = &self.filter else { return Verdict::Passed(call) };
        let _inside = call.as_ref().map(InFlight::inside);
        match guard(|| filter(payload)) {
            Ok(true) => Verdict::Passed(call),
            Ok(false) => Verdict::Refused,
            Err(panic) => Verdict::Failed(FailureCause::Panic(panic)),
        }
    }

    fn claim(&self) -> Option<Claim> {
        self.limit.as_ref().map_or(Some(Claim::Left), Limit::claim)
    }

    fn limit(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }
}

/// The calls that a listener has left. `claim` and `end` change one word: each call is claimed or
/// given up, never both. Where two of them meet:
///
/// 1. Two emits claim the last call: one compare-and-swap changes 1 to 0, and its emit makes the call. The
///    other fails, finds 0, and its emit skips the listener.
/// 2. The listener emits its own event: its call was claimed before the closure ran, so the nested emit finds
///    one call fewer; of a `once` listener, none.
/// 3. The filter emits the event: filters run before the claim, so the nested emit may claim the last call.
///    The outer claim then finds 0, and the listener is skipped: one call, in the nested emit.
/// 4. The claim comes before the end: the claimed call runs, or is about to. `end` gives up the rest and returns
///    true; when the claim took the last call, it finds 0 and returns false, and so does `off`.
/// 5. The end comes before the claim: the claim finds 0 and the listener is skipped. `off` returns true, and
///    no call follows.
/// 6. Two threads end the listener: the swap gives the remaining calls to one of them, which returns true; the
///    other finds 0.
///
/// `off` marks the listener as removed before it calls `end`. An emit that passed that mark in between still
/// meets `end` at this word: case 4 or 5.
pub(crate) struct Limit {
    left: AtomicU32,
}

impl Limit {
    pub(crate) fn new(times: u32) -> Self {
        Self { left: AtomicU32::new(times) }
    }

    fn claim(&self) -> Option<Claim> {
        // Relaxed everywhere: the word alone decides which claims succeed; nothing is published through it.
        let swap = |seen, next| self.left.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        let before = update_from(1, |left: u32| left.checked_sub(1), swap).unwrap_or(0);
        match before {
            0 => None,
            1 => Some(Claim::Last),
            _ => Some(Claim::Left),
        }
    }

    /// Gives up the calls that are left; false when no call is left.
    pub(crate) fn end(&self) -> bool {
        self.left.swap(0, Ordering::Relaxed) != 0
    }

    pub(crate) fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }
}
