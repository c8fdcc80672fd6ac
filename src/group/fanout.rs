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
//! A small group is swept by the caller; a large one by a task, so that what a send costs its caller
//! does not grow with the members. A task whose runtime is gone before it finished gives the sweep
//! back: the next sender goes on where it stopped, since a log forgets only what was swept.

use std::task::Waker;

use tokio::runtime::Handle;

use super::Group;
use super::log::Batch;
use super::members::Place;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};

/// Up to this many members the caller sweeps. Chosen, not measured: a table of sweep costs would settle it.
const INLINE_MEMBERS: usize = 32;
/// How often a sweeping task lets messages that arrive at this moment join its next batch.
const GATHERING_TURNS: usize = 16;
/// Members between two yields of a sweeping task: a write that succeeds spends no coop budget.
const MEMBERS_PER_TURN: usize = 256;

impl Group {
    /// Sees to it that all that is in the log now goes to the members.
    pub(super) fn sweep(self: &Arc<Self>, members: usize) {
        // AcqRel: whoever sweeps sees the log entry of each request it counts.
        if self.requests.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        let in_task = members > INLINE_MEMBERS || !self.options.write_delay.is_zero();
        let runtime = if in_task { self.runtime() } else { None };
        match runtime {
            // Ends by itself when the log is empty; it holds the group until then.
            Some(runtime) => drop(runtime.spawn(sweep_in_turns(Sweeping::new(self)))),
            None => self.sweep_now(),
        }
    }

    /// Returns a member's runtime, which lives as long as its connection, or else the caller's.
    fn runtime(&self) -> Option<Handle> {
        let mut log = lock(&self.log);
        if log.runtime.is_none() {
            let first = log.members.iter().next().and_then(|member| member.out.upgrade());
            log.runtime = first.and_then(|out| out.runtime().cloned());
        }
        log.runtime.clone().or_else(|| Handle::try_current().ok())
    }

    fn sweep_now(&self) {
        loop {
            // Acquire: pairs with the AcqRel of `sweep`.
            let seen = self.requests.load(Ordering::Acquire);
            while let Some(batch) = self.batch() {
                let whole = in_turn(&batch).filter(|member| member.deliver(&batch)).count();
                self.finish(&batch, whole);
            }
            if self.is_done(seen) {
                return;
            }
        }
    }

    /// Gives way as long as that brings more to send: a burst goes out in one write per member.
    ///
    /// A turn of the runtime takes microseconds, a sweep of a large group milliseconds.
    async fn gather(&self) {
        let mut head = lock(&self.log).head();
        for _ in 0..GATHERING_TURNS {
            tokio::task::yield_now().await;
            let before = std::mem::replace(&mut head, lock(&self.log).head());
            if head == before {
                return;
            }
        }
    }

    fn batch(&self) -> Option<Batch> {
        lock(&self.log).batch()
    }

    /// Forgets a batch that all members have had, `whole` of them in one go.
    fn finish(&self, batch: &Batch, whole: usize) {
        let waiting = {
            let mut log = lock(&self.log);
            log.forget_until(batch.end);
            std::mem::take(&mut log.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        batch.entries.iter().for_each(|entry| entry.tally.settle(whole));
    }

    fn is_done(&self, seen: usize) -> bool {
        // AcqRel: a request after this one finds 0 and sweeps by itself; one before it made this fail.
        self.requests.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The sweep of one group while a task has it.
struct Sweeping {
    group: Arc<Group>,
    finished: bool,
}

impl Sweeping {
    fn new(group: &Arc<Group>) -> Self {
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
    loop {
        if !group.options.write_delay.is_zero() {
            tokio::time::sleep(group.options.write_delay).await;
        }
        // Acquire: pairs with the AcqRel of `sweep`.
        let seen = group.requests.load(Ordering::Acquire);
        while let Some(batch) = {
            group.gather().await;
            group.batch()
        } {
            let mut whole = 0;
            for (number, member) in in_turn(&batch).enumerate() {
                if number % MEMBERS_PER_TURN == MEMBERS_PER_TURN - 1 {
                    tokio::task::yield_now().await;
                }
                whole += usize::from(member.deliver(&batch));
            }
            group.finish(&batch, whole);
        }
        if group.is_done(seen) {
            sweeping.finished = true;
            return;
        }
    }
}

/// Returns the members, beginning with another one each time, so that nobody is always last.
fn in_turn(batch: &Batch) -> impl Iterator<Item = &Arc<Place>> {
    let first = (batch.start % (batch.members.len() as u64).max(1)) as usize;
    batch.members.iter().skip(first).chain(batch.members.iter().take(first))
}
