//! Groups that nobody is in and that keep a history: the memory that they may take together.
//!
//! Such a group stays in its map, so that who comes back finds what was said. Those that were left longest ago go
//! first, when there are too many, when they keep too much, or when their histories have grown too old. Nothing
//! is scanned: each time one is noted, a few of the oldest are looked at.
//!
//! Locks: this list first, then the state of a group.

use std::collections::VecDeque;
use std::fmt;
use std::time::SystemTime;

use super::delivery::state::{Listed, LiveGroup};
use crate::sync::{Arc, lock};

/// How many groups without members keep their history, and how much that may be in all.
const MAX_GROUPS: usize = 10_000;
const MAX_BYTES: usize = 256 << 20;
/// How many of the oldest are looked at each time for histories that are too old.
const LOOKS: usize = 2;

#[derive(Default)]
pub(super) struct IdleGroups {
    /// Those that were left longest ago are in front. Some may have members again: seen when their turn comes.
    groups: VecDeque<Arc<LiveGroup>>,
    /// The sum of what each is `listed` with.
    bytes: usize,
}

impl IdleGroups {
    /// Takes note of a group that was left, or was sent to while it has no members.
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
            // Nothing was said: whoever makes up names for groups takes no place from those that keep something.
            state.closed = bytes == 0;
            // One that was listed before is found closed when its turn comes.
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
                    // Those behind it were left later.
                    self.groups.push_front(oldest);
                    break;
                }
            }
        }
        closed
    }

    /// Closes a group if there is a reason to.
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
        // A map keeps what was removed for a while: not with all that was said in it.
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

/// What became of a group that was looked at.
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
