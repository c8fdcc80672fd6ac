//! The log of one group: frames on their way to its members. A plain value under the group's lock.
//!
//! Positions are numbers that only grow:
//!
//! ```text
//!            first                          head
//!   (swept)    | frame | frame | frame | ...  |
//!                 ^ a member's cursor: the next frame for it
//! ```
//!
//! Always: no member's cursor is below `first`. A frame leaves the log only after a sweep has taken every member past
//! it, and a new member's cursor begins at the head.

use std::collections::VecDeque;

use super::report::Tally;
use crate::channel::ChannelId;
use crate::frame::Frame;
use crate::group::options::GroupOptions;
use crate::sync::Arc;

/// Entries that an idle log keeps room for.
const SPARE_ENTRIES: usize = 16;

pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// The position of the front entry.
    first: u64,
    bytes: usize,
}

/// One frame in a log, and how it is to be delivered.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) frame: Frame,
    /// The channel that does not get the frame.
    pub(crate) except: Option<ChannelId>,
    /// What that channel gets instead: the offset of the saved message, so that it sees no gap.
    pub(crate) skip: Option<Frame>,
    /// What the frame is the latest value of.
    pub(crate) key: Option<Arc<str>>,
    pub(crate) tally: Arc<Tally>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0 }
    }

    /// Returns the position of the front frame.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the position of the next frame.
    pub(super) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    #[cfg(feature = "metrics")]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(feature = "metrics")]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether a frame of `len` bytes has room.
    pub(crate) fn has_room(&self, len: usize, options: &GroupOptions) -> bool {
        self.entries.len() < options.max_messages && self.bytes + len <= options.max_bytes
    }

    /// Appends a frame that has room.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.bytes += entry.frame.bytes().len();
        self.entries.push_back(entry);
    }

    /// Returns the entries from `cursor` to the head.
    pub(super) fn since(&self, cursor: u64) -> impl Iterator<Item = &Entry> {
        // The cursor lies between first and head, so the difference fits.
        self.entries.iter().skip((cursor - self.first) as usize)
    }

    /// Drops the frames before `end`, and returns how many they were.
    pub(super) fn forget_until(&mut self, end: u64) -> usize {
        let count = (end - self.first) as usize;
        self.bytes -= self.entries.drain(..count).map(|entry| entry.frame.bytes().len()).sum::<usize>();
        self.first = end;
        if self.entries.is_empty() {
            // An idle group keeps no memory for the busiest moment it had.
            self.entries.shrink_to(SPARE_ENTRIES);
        }
        count
    }
}

impl Entry {
    /// Makes an entry for all members, kept in no history.
    pub(crate) fn new(frame: Frame) -> Self {
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
        let options = GroupOptions::default().max_messages(10).max_bytes(1000);
        let has_room = log.has_room(entry(len).frame.bytes().len(), &options);
        if has_room {
            log.append(entry(len));
        }
        has_room
    }

    #[test]
    fn refuses_what_exceeds_its_bounds_and_takes_more_after_a_sweep() {
        let mut log = Log::new();
        assert!((0..10).all(|_| append(&mut log, 1)));
        assert!(!append(&mut log, 1));
        assert!(log.forget_until(log.head()) == 10);
        assert!(!append(&mut log, 1000), "a frame above the bound never fits");
        assert!(append(&mut log, 900));
        assert!(!append(&mut log, 100));
        assert_eq!(log.head(), 11);
    }

    #[test]
    fn since_begins_at_the_cursor() {
        let mut log = Log::new();
        assert!((1..=5).all(|len| append(&mut log, len)));
        assert_eq!(log.forget_until(2), 2);
        let lens: Vec<_> = log.since(3).map(|entry| entry.frame.payload().len()).collect();
        assert_eq!(lens, [4, 5]);
    }
}
