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

use tokio::runtime::Handle;

use super::members::Members;
use super::options::GroupOptions;
use super::report::Tally;
use crate::channel::{ChannelId, Waitlist};
use crate::frame::Frame;
use crate::sync::Arc;

pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the front entry.
    first: u64,
    bytes: usize,
    pub(super) members: Arc<Members>,
    /// The number of the next membership.
    pub(super) next_member: u64,
    /// The last member has left: the group is out of the map, or soon.
    pub(super) closed: bool,
    /// A runtime that drives a member, once it was looked for; forgotten when one leaves, who may have been its last.
    pub(super) runtime: Option<Handle>,
    /// Who waits until there is room.
    pub(super) waiting: Waitlist,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) frame: Frame,
    pub(super) except: Option<ChannelId>,
    /// What the frame is the latest value of.
    pub(super) key: Option<Arc<str>>,
    pub(super) tally: Arc<Tally>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
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
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the position of the next frame.
    pub(super) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends a frame; false when the log is full.
    pub(super) fn append(&mut self, entry: Entry, options: &GroupOptions) -> bool {
        let len = entry.frame.bytes().len();
        if self.entries.len() >= options.max_frames || self.bytes + len > options.max_bytes {
            return false;
        }
        self.bytes += len;
        self.entries.push_back(entry);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns what lies from `cursor` to the head.
    pub(super) fn since(&self, cursor: u64) -> impl Iterator<Item = &Entry> {
        // The cursor lies between first and head, so the difference fits.
        self.entries.iter().skip((cursor - self.first) as usize)
    }

    /// Forgets the frames before `end`, and returns who has waited for the room they took, one for each.
    #[must_use]
    pub(super) fn forget_until(&mut self, end: u64) -> Vec<Waker> {
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

/// Entries that an idle log keeps room for.
const SPARE_ENTRIES: usize = 16;

impl Entry {
    pub(super) fn new(frame: Frame) -> Self {
        Self { frame, except: None, key: None, tally: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Entry {
        Entry::new(Frame::binary(vec![1; len]))
    }

    const OPTIONS: GroupOptions =
        GroupOptions { overflow: None, write_delay: std::time::Duration::ZERO, max_frames: 10, max_bytes: 1000 };

    fn append_all(log: &mut Log, lens: impl IntoIterator<Item = usize>) -> bool {
        lens.into_iter().all(|len| log.append(entry(len), &GroupOptions::default()))
    }

    #[test]
    fn refuses_what_exceeds_its_bounds_and_takes_more_after_a_sweep() {
        let mut log = Log::new();
        assert!((0..10).all(|_| log.append(entry(1), &OPTIONS)));
        assert!(!log.append(entry(1), &OPTIONS));
        assert!(log.forget_until(log.head()).is_empty());
        assert!(!log.append(entry(1000), &OPTIONS), "a frame above the bound never fits");
        assert!(log.append(entry(900), &OPTIONS));
        assert!(!log.append(entry(100), &OPTIONS));
        assert_eq!(log.head(), 11);
    }

    #[test]
    fn since_begins_at_the_cursor() {
        let mut log = Log::new();
        assert!(append_all(&mut log, 1..=5));
        assert!(log.forget_until(2).is_empty());
        let lens: Vec<_> = log.since(3).map(|entry| entry.frame.payload().len()).collect();
        assert_eq!(lens, [4, 5]);
    }
}
