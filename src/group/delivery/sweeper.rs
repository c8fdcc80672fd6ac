//! The sweeper: one caller or task at a time takes the frames in a group's log to its members.
//!
//! A sender appends to the log, then requests a sweep. The counter `requests` is the token: the sender that raises it
//! from 0 holds the token and sweeps, and later requests are left to that sweep. It gives the token back when no
//! request has come since it last looked.
//!
//! ```text
//! requests   0      -> 1      request: this sender has the token, and sweeps
//!            n > 0  -> n + 1  request while a sweep runs: the sweep goes round once more
//!            n      -> 0      the sweep read n, delivered everything, and n has not changed: the token is free
//!            n      -> 0      the sweep ended early, with its runtime or by a panic: the token is free
//! ```
//!
//! A group of one is swept by its sender, a larger one by a task. So the cost of a send does not grow with the members,
//! and messages in quick succession share a write. When the task's runtime is shut down before the sweep is done, the
//! next sender continues where it stopped, since a log forgets only frames that every member has.

use std::task::Waker;

use tokio::runtime::Handle;

use super::state::LiveGroup;
use super::sweep::{Passed, Sweep};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};

/// Up to this many members the sender itself sweeps.
///
/// Microseconds of a core per delivery of 128 bytes over sockets, on one thread, with one message in flight and with
/// eight (measured with sweeps in batches):
///
/// ```text
/// members        1     2     4     8    16    32    64   128   256
/// 1: caller   5.0   5.7   4.5   4.0   3.7   3.6   3.5   3.5   3.7
///    task     5.1   5.8   4.6   4.0   3.8   3.6   3.5   3.5   3.7
/// 8: caller   2.0   4.1   3.9   3.7   3.6   3.6   3.3   3.6   3.6
///    task     2.2   2.1   1.4   1.3   1.1   1.0   0.8   0.9   1.0
/// ```
///
/// A task costs 0.3 µs more per message, and lets other senders append before it sweeps. For the sender, writing takes
/// longer than spawning a task: about 1 µs per member against 0.6 µs.
const INLINE_MEMBERS: usize = 1;
/// The same where the first member is in memory: a test finds its message delivered when `send` returns.
const INLINE_IN_MEMORY: usize = 32;
/// The number of turns after which a sweeping sender hands over to a task, if there is a runtime: other senders may
/// never stop.
const TURNS_FOR_OTHERS: usize = 64;
/// How often a sweeping task yields to other senders before it begins.
const GATHERING_TURNS: usize = 16;
/// The number of members visited between two yields of a task: a write that succeeds spends no coop budget. A frame
/// that comes during a sweep waits for at most that many visits until it is taken up.
const MEMBERS_PER_TURN: usize = 128;

impl LiveGroup {
    /// Requests a sweep: every frame in the log now will be delivered to the members.
    pub(crate) fn sweep(self: &Arc<Self>, members: usize) {
        // AcqRel: a sweep that counts a request sees the log entry of its sender.
        if self.requests.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        match self.runtime(members) {
            // The task ends by itself when the log is empty; until then it holds the group.
            Some(runtime) => drop(runtime.spawn(sweep_in_turns(Sweeping::new(self)))),
            None => self.sweep_now(),
        }
    }

    /// Returns the runtime for a sweep by a task: a member's, which lives as long as its connection, or else the
    /// caller's. `None` when the caller itself sweeps.
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

    /// Removes the frames that every member has from the log, and lets the sweep take up new ones.
    fn let_go(&self, passed: Passed, sweep: &mut Sweep) {
        let waiting = {
            let mut state = lock(&self.state);
            let count = state.log.forget_until(passed.end);
            // Each removed frame makes room for one waiting sender.
            let waiting = state.waiting.take_first(count);
            sweep.take_up(&state);
            waiting
        };
        waiting.into_iter().for_each(Waker::wake);
        passed.settle();
    }

    /// Yields as long as each yield brings more frames: a burst goes out in one write per member.
    ///
    /// A yield takes microseconds, a sweep of a large group milliseconds.
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

    /// Gives the token back, unless a request came after `seen` was read; returns whether it did.
    ///
    /// Only the holder of the token sets `requests` to 0, so the count still is `seen` if and only if no request came
    /// in between. A sender appends its frame, then adds its request:
    ///
    /// 1. The request came before `seen` was read. The sweep began after that, so it found the frame in the log.
    /// 2. The request came after `seen` was read and before this exchange. The exchange fails, and the sweep goes round
    ///    again. The sender has left it to this sweep, which may or may not have taken the frame up already.
    /// 3. The request comes after the exchange. It finds 0, so its sender has the token and sweeps.
    ///
    /// A task that ends with its runtime does not get here: [`Sweeping`] stores 0 whatever was requested. The frames of
    /// the requests that this discards stay in the log. The next request sweeps them; until then a member gets them
    /// when its own connection catches up, by a direct send or a leave.
    fn has_ended(&self, seen: usize) -> bool {
        // AcqRel: a request after this one finds 0 and sweeps by itself; one before it made this fail.
        self.requests.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The token of one group. A sweep may end early, a task with its runtime and a sender by a panic of a waker: then the
/// drop frees the token.
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
            // Release: pairs with the AcqRel of `sweep`; the next sender finds the log as this sweep left it.
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
        // With a delay, frames that come from now on wait for the next sweep.
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
