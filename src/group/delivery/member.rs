//! What a member does: it catches up with its group's log, and leaves.

use smallvec::SmallVec;

use super::log::Entry;
use super::state::Member;
use crate::channel::{Access, Feed, Route};
use crate::observe::groups as observe;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};

impl Member {
    pub(crate) fn cursor(&self) -> u64 {
        // Relaxed: the lock of the link orders all access but a sweep's guess.
        self.cursor.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cursor(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Relaxed);
    }

    /// Ends the membership.
    pub(crate) fn end(self: &Arc<Self>) -> bool {
        let feed: Arc<dyn Feed> = Arc::clone(self) as _;
        self.link.upgrade().is_some_and(|link| link.end_feed(&feed))
    }

    /// Returns whether the membership is over.
    ///
    /// Exact under the lock of the link. A caller that holds some other lock L instead relies on one more thing: the
    /// thread that ends the membership takes L afterwards. In the order of L,
    ///
    /// 1. that thread came first: this call returns true; or
    /// 2. this call came first and may return false: that thread then finds under L what the caller has done there, and
    ///    undoes it.
    pub(crate) fn has_ended(&self) -> bool {
        self.cursor() == u64::MAX
    }

    /// Hands the member one frame, and notes the outcome in its tally.
    pub(crate) fn push(&self, entry: &Entry, access: &mut Access<'_>) {
        if entry.except != Some(self.channel) {
            entry.tally.note(access.push(&entry.frame, &self.route(entry)));
        } else if let Some(skip) = &entry.skip {
            // A skip is not a delivery, so no tally counts it.
            access.push(skip, &self.route(entry));
        }
    }

    pub(crate) fn route<'e>(&self, entry: &'e Entry) -> Route<'e> {
        Route { source: self.group.number, overflow: self.group.options.overflow, key: entry.key.as_ref() }
    }
}

impl Feed for Member {
    fn catch_up(&self, access: &mut Access<'_>) {
        // Collected first, so that no socket is written under the group's lock.
        let due: SmallVec<[_; 4]> = {
            let state = lock(&self.group.state);
            let due = state.log.since(self.cursor()).cloned().collect();
            self.set_cursor(state.log.head());
            due
        };
        due.iter().for_each(|entry| self.push(entry, access));
    }

    /// Delivers the frames sent before the leave, then takes the member off the list.
    ///
    /// The lock of the link is held, so no sweep and no send visits this member meanwhile. Where another thread works
    /// on the group:
    ///
    /// 1. A send appends after the catch-up and before the group's lock is taken. The head is past the cursor, so the
    ///    loop catches up once more: a member that was counted as one gets the frame.
    /// 2. A send appends after the lock is taken. It waits for the lock and then counts the members without this one.
    /// 3. A sweep holds an older list with this member. It waits for the link, and then finds the cursor past the end
    ///    of every log: it delivers nothing more.
    /// 4. A join meets a group whose last member is leaving here. Either it takes the group's lock first, and the group
    ///    is not closed; or it finds `closed` and opens another group of the name.
    fn leave(&self, access: &mut Access<'_>) {
        let mut state = loop {
            self.catch_up(access);
            let state = lock(&self.group.state);
            if state.log.head() == self.cursor() {
                break state;
            }
        };
        self.set_cursor(u64::MAX);
        Arc::make_mut(&mut state.members).remove(&self.number);
        state.runtime = None;
        state.closed |= state.members.is_empty() && state.history.is_none();
    }

    fn left(&self) {
        let (empty, closed, owes) = {
            let state = lock(&self.group.state);
            (state.members.is_empty(), state.closed, !state.log.is_empty())
        };
        observe::left(self.channel, self.group.named());
        if closed {
            self.group.vanish();
        } else if empty {
            self.group.note_idle();
        }
        // Every member had these frames as it left. But a sweep that ended with its runtime has settled none of them,
        // and perhaps no send will ever ask for another.
        if empty && owes {
            self.group.sweep(0);
        }
        let watcher = lock(&self.group.watcher).clone();
        if let Some(watcher) = watcher {
            watcher.left(self, closed);
        }
    }
}

/// A member that leaves its group when this is dropped.
pub(crate) struct Seat(Arc<Member>);

impl Seat {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self(member)
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.0
    }

    /// Ends the membership; returns whether this call did it.
    pub(crate) fn end(&self) -> bool {
        self.0.end()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.end();
    }
}
