//! What stands between a turn and a call: a filter, a limit of calls, the count of those in flight.
//!
//! A listener without any of them has `()` for its conditions, and pays nothing. The order is: is a
//! call left, enter (a waitable one counts from here), filter, claim. So a filter that says no uses up nothing.

use super::calls::{Calls, InFlight};
use super::emission::Step;
use super::failure::FailureCause;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, guard, update_from};

/// Decides about one turn of a listener.
pub(crate) trait Admit<T: ?Sized>: Send + Sync + 'static {
    /// Whether it does anything at all.
    const MAY_REFUSE: bool;

    /// Lets the payload pass, or says why not.
    fn enter(&self, payload: &T) -> Entry;

    /// Takes one call: [`Step::SPENT`] with the last one, `None` when there is none left.
    fn claim(&self) -> Option<Step>;

    /// Returns the limit of calls.
    fn limit(&self) -> Option<&Limit>;
}

pub(crate) enum Entry {
    Passed(Option<InFlight>),
    Refused,
    Failed(FailureCause),
}

impl<T: ?Sized> Admit<T> for () {
    const MAY_REFUSE: bool = false;

    #[inline]
    fn enter(&self, _payload: &T) -> Entry {
        Entry::Passed(None)
    }

    #[inline]
    fn claim(&self) -> Option<Step> {
        Some(Step::SKIPPED)
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

    fn enter(&self, payload: &T) -> Entry {
        // A spent listener is in the table until its emit is over: nothing of it is asked or reported any more.
        if self.limit.as_ref().is_some_and(|limit| limit.left() == 0) {
            return Entry::Refused;
        }
        let call = match &self.calls {
            None => None,
            Some(calls) => match calls.enter() {
                None => return Entry::Refused,
                entered => entered,
            },
        };
        let Some(filter) = &self.filter else { return Entry::Passed(call) };
        let _inside = call.as_ref().map(InFlight::inside);
        match guard(|| filter(payload)) {
            Ok(true) => Entry::Passed(call),
            Ok(false) => Entry::Refused,
            Err(panic) => Entry::Failed(FailureCause::Panic(panic)),
        }
    }

    fn claim(&self) -> Option<Step> {
        self.limit.as_ref().map_or(Some(Step::SKIPPED), Limit::claim)
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

    fn claim(&self) -> Option<Step> {
        // Relaxed everywhere: the word alone picks the winners; nothing is published through it.
        #[cfg(fault = "once_load_store")]
        let before = {
            let left = self.left.load(Ordering::Relaxed);
            self.left.store(left.saturating_sub(1), Ordering::Relaxed);
            left
        };
        #[cfg(not(fault = "once_load_store"))]
        let before = {
            let swap = |seen, next| self.left.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            update_from(1, |left: u32| left.checked_sub(1), swap).unwrap_or(0)
        };
        match before {
            0 => None,
            1 => Some(Step::SPENT),
            _ => Some(Step::SKIPPED),
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
