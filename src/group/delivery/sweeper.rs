//! The sweep: takes what waits in a group's log to its members.
//!
//! Whoever sends appends to the log and asks for a sweep. One at a time runs; who asks while another
//! runs leaves it to that one, which goes round again until nobody has asked since it last looked.
//!
//! ```text
//! requests   0 idle    -> 1  asked: this caller sweeps
//!            n > 0     -> n + 1  asked while a sweep runs: it will see the frame
//!            n         -> 0  the sweep looked, did all, and n has not changed
//! ```
//!
//! A group of one is swept by the caller; a larger one by a task, so that what a send costs its caller
//! does not grow with the members, and messages that follow each other share a write. A task whose
//! runtime is gone before it finished gives the sweep back: the next sender goes on where it stopped,
//! since a log forgets only what was swept.

use std::task::Waker;

use tokio::runtime::Handle;

use super::state::LiveGroup;
use super::sweep::{Passed, Sweep};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};

/// Up to this many members the caller sweeps.
///
/// Microseconds of a core per delivery of 128 bytes over sockets, one thread for all, with one message
/// in flight and with eight (measured with sweeps in batches):
///
/// ```text
/// members        1     2     4     8    16    32    64   128   256
/// 1: caller   5.0   5.7   4.5   4.0   3.7   3.6   3.5   3.5   3.7
///    task     5.1   5.8   4.6   4.0   3.8   3.6   3.5   3.5   3.7
/// 8: caller   2.0   4.1   3.9   3.7   3.6   3.6   3.3   3.6   3.6
///    task     2.2   2.1   1.4   1.3   1.1   1.0   0.8   0.9   1.0
/// ```
///
/// A task is 0.3 µs more per message, and lets others append theirs before it sweeps. A write takes its
/// caller longer than to spawn one: about 1 µs a member against 0.6.
const INLINE_MEMBERS: usize = 1;
/// As many where the first member is in memory: a test finds what was sent when `send` returns.
const INLINE_IN_MEMORY: usize = 32;
/// Turns after which a caller that sweeps hands over to a task, where there is a runtime: others may go on
/// sending for ever.
const TURNS_FOR_OTHERS: usize = 64;
/// How often a sweeping task waits for messages that arrive at this moment before it begins.
const GATHERING_TURNS: usize = 16;
/// Members between two yields of a sweeping task: a write that succeeds spends no coop budget. It is also
/// how long a frame may wait, among those that come during a sweep, until it is taken up.
const MEMBERS_PER_TURN: usize = 128;

impl LiveGroup {
    /// Sees to it that all that is in the log now goes to the members.
    pub(crate) fn sweep(self: &Arc<Self>, members: usize) {
        // AcqRel: whoever sweeps sees the log entry of each request it counts.
        if self.requests.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        match self.runtime(members) {
            // Ends by itself when the log is empty; it holds the group until then.
            Some(runtime) => drop(runtime.spawn(sweep_in_turns(Sweeping::new(self)))),
            None => self.sweep_now(),
        }
    }

    /// Returns the runtime for a sweep by a task: a member's, which lives as long as its connection, or
    /// else the caller's. `None` when the caller is to sweep.
    fn runtime(&self, members: usize) -> Option<Handle> {
        let waits = !self.options.write_delay.is_zero();
        if members <= INLINE_MEMBERS && !waits {
            return None;
        }
        let callers = || if members > INLINE_IN_MEMORY || waits { Handle::try_current().ok() } else { None };
        self.members_runtime().or_else(callers)
    }

    fn members_runtime(&self) -> Option<Handle> {
        let mut state = lock(&self.state);
        if state.runtime.is_none() {
            let first = state.members.iter().next().and_then(|member| member.link.upgrade());
            state.runtime = first.and_then(|link| link.runtime().cloned());
        }
        state.runtime.clone()
    }

    /// Returns a member's runtime, or else the caller's.
    pub(crate) fn any_runtime(&self) -> Option<Handle> {
        self.members_runtime().or_else(|| Handle::try_current().ok())
    }

    fn sweep_now(self: &Arc<Self>) {
        let mut sweeping = Sweeping::new(self);
        let mut turns = 0;
        loop {
            // Acquire: pairs with the AcqRel of `sweep`.
            let seen = self.requests.load(Ordering::Acquire);
            let mut sweep = self.begin(true);
            while !sweep.is_done() {
                self.let_go(sweep.advance(MEMBERS_PER_TURN), &mut sweep);
                turns += 1;
                if turns == TURNS_FOR_OTHERS {
                    sweep.close();
                }
            }
            drop(sweep);
            if self.has_ended(seen) {
                sweeping.finished = true;
                return;
            }
            if turns >= TURNS_FOR_OTHERS
                && let Some(runtime) = self.any_runtime()
            {
                return drop(runtime.spawn(sweep_in_turns(sweeping)));
            }
        }
    }

    fn begin(&self, open: bool) -> Sweep {
        Sweep::new(&lock(&self.state), open)
    }

    /// Forgets what everybody has, and lets the sweep take up what has come meanwhile.
    fn let_go(&self, passed: Passed, sweep: &mut Sweep) {
        let waiting = {
            let mut state = lock(&self.state);
            let count = state.log.forget_until(passed.end);
            // One sender for each frame that made room.
            let waiting = state.waiting.take_first(count);
            sweep.take_up(&state);
            waiting
        };
        waiting.into_iter().for_each(Waker::wake);
        passed.settle();
    }

    /// Gives way as long as that brings more to send: a burst goes out in one write per member.
    ///
    /// A turn of the runtime takes microseconds, a sweep of a large group milliseconds.
    async fn gather(&self) {
        let mut head = lock(&self.state).log.head();
        for _ in 0..GATHERING_TURNS {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut head, lock(&self.state).log.head());
            if head == before {
                return;
            }
        }
    }

    fn has_ended(&self, seen: usize) -> bool {
        // AcqRel: a request after this one finds 0 and sweeps by itself; one before it made this fail.
        self.requests.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The sweep of one group while somebody has it. It may end early: a task by its runtime, a caller by a panic
/// of somebody's waker.
struct Sweeping {
    group: Arc<LiveGroup>,
    finished: bool,
}

impl Sweeping {
    fn new(group: &Arc<LiveGroup>) -> Self {
        Self { group: Arc::clone(group), finished: false }
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        if !self.finished {
            // Release: pairs with the AcqRel of `sweep`; the next sender finds the log as this task left it.
            self.group.requests.store(0, Ordering::Release);
        }
    }
}

async fn sweep_in_turns(mut sweeping: Sweeping) {
    let group = Arc::clone(&sweeping.group);
    let delay = group.options.write_delay;
    loop {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // Acquire: pairs with the AcqRel of `sweep`.
        let seen = group.requests.load(Ordering::Acquire);
        group.gather().await;
        // With a delay, what comes from now on waits for the next sweep.
        let mut sweep = group.begin(delay.is_zero());
        while !sweep.is_done() {
            group.let_go(sweep.advance(MEMBERS_PER_TURN), &mut sweep);
            if !sweep.is_done() {
                tokio::task::yield_now().await;
            }
        }
        drop(sweep);
        if group.has_ended(seen) {
            sweeping.finished = true;
            return;
        }
    }
}
