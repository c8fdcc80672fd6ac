//! [`IdleGroups`]: the groups with a history and without members, and a bound for their memory.
//!
//! Such a group stays in its map, so that clients that return find its history. When there are too many idle groups, or
//! their histories are too large or too old, the groups that were left longest ago are closed first. No list is
//! scanned: each time a group is noted, a few of the oldest are examined.
//!
//! Locks: this list first, then the state of a group.

use std::collections::VecDeque;
use std::fmt;
use std::time::SystemTime;

use super::delivery::state::{Listed, LiveGroup};
use crate::sync::{Arc, lock};

/// The most idle groups, and the most bytes of all their histories together.
const MAX_GROUPS: usize = 10_000;
const MAX_BYTES: usize = 256 << 20;
/// How many of the oldest groups are examined each time for histories that are too old.
const LOOKS: usize = 2;

#[derive(Default)]
pub(super) struct IdleGroups {
    /// The groups that were left longest ago are in front. A group may have members again; that is found at its turn.
    groups: VecDeque<Arc<LiveGroup>>,
    /// The sum of the bytes with which the groups are `listed`.
    bytes: usize,
}

impl IdleGroups {
    /// Lists a group that was left by its last member, or got a message while it has no members.
    ///
    /// Returns the groups evicted to make room; they are already closed, and the caller removes them from the map
    /// without holding a lock.
    #[must_use]
    pub(super) fn note(&mut self, group: &Arc<LiveGroup>, now: SystemTime) -> Vec<Arc<LiveGroup>> {
        let (is_listed, is_closed) = {
            let mut state = lock(&group.state);
            if state.closed || !state.members.is_empty() {
                return Vec::new();
            }
            let bytes = state.history.as_ref().map_or(0, |history| history.bytes());
            let before = state.listed;
            self.bytes = self.bytes + bytes - before.map_or(0, |before| before.bytes);
            // A group with an empty history is closed: made-up names of groups evict no group that has messages.
            state.closed = bytes == 0;
            // A group that was listed before is still in the queue: it is found closed at its turn.
            if !state.closed || before.is_some() {
                state.listed = Some(Listed { bytes, again: before.is_some() });
            }
            (before.is_some(), state.closed)
        };
        if is_closed {
            return vec![Arc::clone(group)];
        }
        if !is_listed {
            self.groups.push_back(Arc::clone(group));
        }
        let mut closed = Vec::new();
        for look in 0.. {
            let too_much = self.groups.len() > MAX_GROUPS || self.bytes > MAX_BYTES;
            if look >= LOOKS && !too_much {
                break;
            }
            let Some(oldest) = self.groups.pop_front() else { break };
            match self.look(&oldest, too_much, now) {
                Look::HasMembers => {}
                Look::Closed => closed.push(oldest),
                Look::WasSentTo => self.groups.push_back(oldest),
                Look::Stays => {
                    // The groups behind it were left later.
                    self.groups.push_front(oldest);
                    break;
                }
            }
        }
        closed
    }

    /// Examines a group, and closes it if its history is empty or must make room.
    fn look(&mut self, group: &LiveGroup, too_much: bool, now: SystemTime) -> Look {
        let mut state = lock(&group.state);
        let listed = state.listed.take();
        self.bytes -= listed.map_or(0, |listed| listed.bytes);
        if state.closed || !state.members.is_empty() {
            return Look::HasMembers;
        }
        let gone = state.history.as_mut().map(|history| history.trim(now));
        let bytes = state.history.as_ref().map_or(0, |history| history.bytes());
        let look = match listed {
            _ if bytes == 0 => Look::Closed,
            Some(Listed { again: true, .. }) => Look::WasSentTo,
            _ if too_much => Look::Closed,
            _ => Look::Stays,
        };
        state.closed = look == Look::Closed;
        // The map keeps a removed group for a while, so its history is dropped now.
        let history = if state.closed { state.history.take() } else { None };
        if !state.closed {
            state.listed = Some(Listed { bytes, again: false });
            self.bytes += bytes;
        }
        drop(state);
        drop((gone, history));
        look
    }
}

/// The outcome of examining a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    HasMembers,
    Closed,
    WasSentTo,
    Stays,
}

impl fmt::Debug for IdleGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleGroups").field("groups", &self.groups.len()).field("bytes", &self.bytes).finish()
    }
}
