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
//! every member of its batch past it, and who joins begins at the head.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::members::Members;
use super::report::Tally;
use crate::channel::ChannelId;
use crate::frame::Frame;
use crate::sync::Arc;

/// Frames and bytes that may wait in a group for its sweep.
const MAX_FRAMES: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// A run of frames is joined into pieces of about this size.
const PIECE: usize = 60 << 10;

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
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) frame: Frame,
    pub(super) except: Option<ChannelId>,
    pub(super) tally: Arc<Tally>,
}

/// What one sweep takes to the members.
pub(super) struct Batch {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) entries: Vec<Entry>,
    /// The entries, joined into few pieces: what goes to a member that takes them all.
    pub(super) pieces: Vec<Bytes>,
    pub(super) members: Arc<Members>,
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
        }
    }

    /// Returns the position of the next frame.
    pub(super) fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends a frame; false when the log is full.
    pub(super) fn append(&mut self, entry: Entry) -> bool {
        let len = entry.frame.bytes().len();
        if self.entries.len() >= MAX_FRAMES || self.bytes + len > MAX_BYTES {
            return false;
        }
        self.bytes += len;
        self.entries.push_back(entry);
        true
    }

    /// Returns what lies from `cursor` to the head.
    pub(super) fn since(&self, cursor: u64) -> impl Iterator<Item = &Entry> {
        // The cursor lies between first and head, so the difference fits.
        self.entries.iter().skip((cursor - self.first) as usize)
    }

    /// Returns all that waits, with the members of this moment.
    pub(super) fn batch(&self) -> Option<Batch> {
        if self.entries.is_empty() {
            return None;
        }
        let entries: Vec<_> = self.entries.iter().cloned().collect();
        let pieces = pieces(&entries);
        Some(Batch { start: self.first, end: self.head(), entries, pieces, members: Arc::clone(&self.members) })
    }

    /// Forgets the frames before `end`.
    pub(super) fn forget_until(&mut self, end: u64) {
        let count = (end - self.first) as usize;
        self.bytes -= self.entries.drain(..count).map(|entry| entry.frame.bytes().len()).sum::<usize>();
        self.first = end;
    }
}

/// Joins frames into pieces of about [`PIECE`] bytes; a single or a large frame is not copied.
fn pieces(entries: &[Entry]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut rest = entries;
    while let [first, ..] = rest {
        let mut bytes = first.frame.bytes().len();
        let more = rest[1..].iter().take_while(|entry| {
            bytes += entry.frame.bytes().len();
            bytes <= PIECE
        });
        let (run, behind) = rest.split_at(1 + more.count());
        pieces.push(joined(run));
        rest = behind;
    }
    pieces
}

fn joined(run: &[Entry]) -> Bytes {
    if let [only] = run {
        return only.frame.bytes().clone();
    }
    let mut bytes = BytesMut::with_capacity(run.iter().map(|entry| entry.frame.bytes().len()).sum());
    run.iter().for_each(|entry| bytes.extend_from_slice(entry.frame.bytes()));
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Entry {
        Entry { frame: Frame::binary(vec![1; len]), except: None, tally: Arc::default() }
    }

    #[test]
    fn refuses_what_exceeds_its_bounds_and_takes_more_after_a_sweep() {
        let mut log = Log::new();
        assert!((0..MAX_FRAMES).all(|_| log.append(entry(1))));
        assert!(!log.append(entry(1)));
        log.forget_until(log.head());
        assert!(!log.append(entry(MAX_BYTES)), "a frame above the bound never fits");
        assert!(log.append(entry(MAX_BYTES - 100)));
        assert!(!log.append(entry(100)));
        assert_eq!(log.head(), MAX_FRAMES as u64 + 1);
    }

    #[test]
    fn a_batch_joins_small_frames_and_copies_no_large_one() {
        let mut log = Log::new();
        for len in [100, 100, PIECE, 100] {
            assert!(log.append(entry(len)));
        }
        let batch = log.batch().expect("four frames wait");
        assert_eq!(batch.pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [204, PIECE + 4, 102]);
        assert_eq!(batch.pieces[1].as_ptr(), batch.entries[2].frame.bytes().as_ptr());
    }

    #[test]
    fn since_begins_at_the_cursor() {
        let mut log = Log::new();
        for len in 1..=5 {
            assert!(log.append(entry(len)));
        }
        log.forget_until(2);
        let lens: Vec<_> = log.since(3).map(|entry| entry.frame.payload().len()).collect();
        assert_eq!(lens, [4, 5]);
    }
}
