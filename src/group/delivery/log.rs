//! The log of one group: frames on their way to its members, and who the members are.
//!
//! A plain value; the group keeps it under one lock. Positions are numbers that only grow:
//!
//! ```text
//!            first                          head
//!   (swept)    | frame | frame | frame | ...  |
//!                 ^ a member's cursor: what it gets next
//! ```
//!
//! Always: no cursor of a member is below `first`, since a frame leaves only after a sweep has taken
//! every member past it, and who joins begins at the head.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::SystemTime;

use tokio::runtime::Handle;

use crate::channel::{ChannelId, Waitlist};
use crate::frame::{Draft, Frame};
use crate::group::delivery::member::Members;
use crate::group::delivery::report::Tally;
use crate::group::history::{Gone, Position, Ring};
use crate::group::idle::Listed;
use crate::group::options::GroupOptions;
use crate::sync::Arc;

pub(in crate::group) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the front entry.
    first: u64,
    bytes: usize,
    pub(in crate::group) members: Arc<Members>,
    /// The number of the next membership.
    pub(in crate::group) next_member: u64,
    /// The last member has left: the group is out of the map, or soon.
    pub(in crate::group) closed: bool,
    /// A runtime that drives a member, once it was looked for; forgotten when one leaves, who may have been its last.
    pub(in crate::group) runtime: Option<Handle>,
    /// Who waits until there is room.
    pub(in crate::group) waiting: Waitlist,
    /// What was said, where that is kept.
    pub(in crate::group) history: Option<Box<Ring>>,
    /// Its place among the idle groups, if it has one.
    pub(in crate::group) listed: Option<Listed>,
}

#[derive(Clone)]
pub(in crate::group) struct Entry {
    pub(in crate::group) frame: Frame,
    pub(in crate::group) except: Option<ChannelId>,
    /// What that one gets instead: the offset of a message that is saved, so that it sees no gap.
    pub(in crate::group) skip: Option<Frame>,
    /// What the frame is the latest value of.
    pub(in crate::group) key: Option<Arc<str>>,
    pub(in crate::group) tally: Arc<Tally>,
}

impl Log {
    pub(in crate::group) fn new(history: Option<Ring>) -> Self {
        Self {
            history: history.map(Box::new),
            listed: None,
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            members: Arc::new(Members::new()),
            next_member: 0,
            closed: false,
            runtime: None,
            waiting: Waitlist::default(),
        }
    }

    /// Returns the position of the front frame.
    pub(in crate::group) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the position of the next frame.
    pub(in crate::group) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Tells whether a frame of so many bytes has room.
    pub(in crate::group) fn has_room(&self, len: usize, options: &GroupOptions) -> bool {
        self.entries.len() < options.max_frames && self.bytes + len <= options.max_bytes
    }

    /// Appends a frame that has room.
    pub(in crate::group) fn append(&mut self, entry: Entry) {
        self.bytes += entry.frame.bytes().len();
        self.entries.push_back(entry);
    }

    /// Gives a message its offset, and its place in the history.
    pub(in crate::group) fn save(&mut self, draft: Draft, now: SystemTime) -> Saved {
        let offset = self.history.as_ref().map_or(0, |ring| ring.next());
        let frame = draft.finish(offset);
        let gone = self.history.as_mut().map(|ring| ring.append(frame.clone(), now)).unwrap_or_default();
        Saved { position: self.history.as_ref().map(|ring| ring.position()), frame, gone }
    }

    #[cfg(feature = "metrics")]
    pub(in crate::group) fn add_depth(&self, depth: &mut crate::observe::groups::Depth) {
        depth.queue_messages += self.entries.len();
        depth.queue_bytes += self.bytes;
        if let Some(ring) = &self.history {
            depth.history_messages += ring.len();
            depth.history_bytes += ring.bytes();
        }
    }

    pub(in crate::group) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns what lies from `cursor` to the head.
    pub(in crate::group) fn since(&self, cursor: u64) -> impl Iterator<Item = &Entry> {
        // The cursor lies between first and head, so the difference fits.
        self.entries.iter().skip((cursor - self.first) as usize)
    }

    /// Forgets the frames before `end`, and returns who has waited for the room they took, one for each.
    #[must_use]
    pub(in crate::group) fn forget_until(&mut self, end: u64) -> Vec<Waker> {
        let count = (end - self.first) as usize;
        self.bytes -= self.entries.drain(..count).map(|entry| entry.frame.bytes().len()).sum::<usize>();
        self.first = end;
        if self.entries.is_empty() {
            // An idle group keeps no memory for the busiest moment it had.
            self.entries.shrink_to(SPARE_ENTRIES);
        }
        self.waiting.take_first(count)
    }
}

/// A message that has its place in the history.
pub(in crate::group) struct Saved {
    pub(in crate::group) frame: Frame,
    pub(in crate::group) position: Option<Position>,
    /// What left the history for it: to be dropped without the lock.
    pub(in crate::group) gone: Gone,
}

/// Entries that an idle log keeps room for.
const SPARE_ENTRIES: usize = 16;

impl Entry {
    /// A frame for all, kept nowhere.
    pub(in crate::group) fn new(frame: Frame) -> Self {
        Self { frame, except: None, skip: None, key: None, tally: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Entry {
        Entry::new(Frame::binary(vec![1; len]))
    }

    fn append(log: &mut Log, len: usize) -> bool {
        let options = GroupOptions::default().max_waiting(10, 1000);
        let has_room = log.has_room(entry(len).frame.bytes().len(), &options);
        if has_room {
            log.append(entry(len));
        }
        has_room
    }

    #[test]
    fn refuses_what_exceeds_its_bounds_and_takes_more_after_a_sweep() {
        let mut log = Log::new(None);
        assert!((0..10).all(|_| append(&mut log, 1)));
        assert!(!append(&mut log, 1));
        assert!(log.forget_until(log.head()).is_empty());
        assert!(!append(&mut log, 1000), "a frame above the bound never fits");
        assert!(append(&mut log, 900));
        assert!(!append(&mut log, 100));
        assert_eq!(log.head(), 11);
    }

    #[test]
    fn since_begins_at_the_cursor() {
        let mut log = Log::new(None);
        assert!((1..=5).all(|len| append(&mut log, len)));
        assert!(log.forget_until(2).is_empty());
        let lens: Vec<_> = log.since(3).map(|entry| entry.frame.payload().len()).collect();
        assert_eq!(lens, [4, 5]);
    }
}
