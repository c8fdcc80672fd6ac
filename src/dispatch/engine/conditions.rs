//! What stands between a turn and a call: a filter, a limit of calls, the count of those in flight.
//!
//! A listener without any of them has `()` for its conditions, and pays nothing. The order is: is a
//! call left, enter (a waitable one counts from here), filter, claim. So a filter that says no uses up nothing.

use super::calls::{Calls, InFlight};
use super::failure::FailureCause;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, guard, update_from};

/// Decides about one turn of a listener.
pub(crate) trait Admit<T: ?Sized>: Send + Sync + 'static {
    /// Whether it does anything at all.
    const MAY_REFUSE: bool;

    /// Lets the payload pass, or says why not.
    fn enter(&self, payload: &T) -> Verdict;

    /// Takes one call; `None` when there is none left.
    fn claim(&self) -> Option<Claim>;

    /// Returns the limit of calls.
    fn limit(&self) -> Option<&Limit>;
}

/// What the conditions say about a payload.
pub(crate) enum Verdict {
    Passed(Option<InFlight>),
    Refused,
    Failed(FailureCause),
}

/// A call that was taken, for this turn alone.
pub(crate) enum Claim {
    /// Others are left, or there is no limit.
    Left,
    /// It is the last one: the listener is spent.
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

/// What a registration asked for.
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
        // A spent listener is in the table until its emit is over: nothing of it is asked or reported any more.
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

/// The calls that a listener has left. `claim` and `end` share one word: each call is claimed or
/// given up, never both.
pub(crate) struct Limit {
    left: AtomicU32,
}

impl Limit {
    pub(crate) fn new(times: u32) -> Self {
        Self { left: AtomicU32::new(times) }
    }

    fn claim(&self) -> Option<Claim> {
        // Relaxed everywhere: the word alone picks the winners; nothing is published through it.
        let swap = |seen, next| self.left.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        let before = update_from(1, |left: u32| left.checked_sub(1), swap).unwrap_or(0);
        match before {
            0 => None,
            1 => Some(Claim::Last),
            _ => Some(Claim::Left),
        }
    }

    /// Gives up the calls that are left; false when there are none.
    pub(crate) fn end(&self) -> bool {
        self.left.swap(0, Ordering::Relaxed) != 0
    }

    pub(crate) fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }
}
