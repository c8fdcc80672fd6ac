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
use std::ops::Range;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::runtime::Handle;

use super::members::Members;
use super::options::GroupOptions;
use super::report::Tally;
use crate::channel::ChannelId;
use crate::frame::Frame;
use crate::sync::{Arc, OnceLock};

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
    /// A runtime that drives a member, once it was looked for; forgotten when one leaves, who may have been its last.
    pub(super) runtime: Option<Handle>,
    /// Who waits until there is room.
    pub(super) waiting: Vec<Waker>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) frame: Frame,
    pub(super) except: Option<ChannelId>,
    /// What the frame is the latest value of.
    pub(super) key: Option<Arc<str>>,
    pub(super) tally: Arc<Tally>,
}

/// What one sweep takes to the members.
pub(super) struct Batch {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) members: Arc<Members>,
    /// Who does not get all of it.
    excepted: SmallVec<[ChannelId; 4]>,
    /// The entries, joined into few pieces, once the first member needs them; and the same compressed.
    plain: OnceLock<Vec<Piece>>,
    deflated: OnceLock<Vec<Piece>>,
}

/// Some entries of a batch in a row, as they go out.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) entries: Range<usize>,
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
            waiting: Vec::new(),
        }
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

    /// Has `waker` woken when a sweep has made room.
    pub(super) fn wake_when_room(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
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
        let excepted = entries.iter().filter_map(|entry| entry.except).collect();
        let members = Arc::clone(&self.members);
        let (plain, deflated) = (OnceLock::new(), OnceLock::new());
        Some(Batch { start: self.first, end: self.head(), entries, members, excepted, plain, deflated })
    }

    /// Forgets the frames before `end`.
    pub(super) fn forget_until(&mut self, end: u64) {
        let count = (end - self.first) as usize;
        self.bytes -= self.entries.drain(..count).map(|entry| entry.frame.bytes().len()).sum::<usize>();
        self.first = end;
        if self.entries.is_empty() {
            // An idle group keeps no memory for the busiest moment it had.
            self.entries.shrink_to(SPARE_ENTRIES);
        }
    }
}

/// Entries that an idle log keeps room for.
const SPARE_ENTRIES: usize = 16;

impl Batch {
    /// Tells whether a member of this channel gets all of it.
    pub(super) fn is_for(&self, channel: ChannelId) -> bool {
        !self.excepted.contains(&channel)
    }

    /// Returns what goes to a member that gets all of it. Joined at the first call, without any lock.
    pub(super) fn pieces(&self, deflates: bool) -> &[Piece] {
        let pieces = if deflates { &self.deflated } else { &self.plain };
        pieces.get_or_init(|| join(&self.entries, deflates))
    }
}

/// Joins frames into pieces of about [`PIECE`] bytes; a single or a large frame is not copied.
fn join(entries: &[Entry], deflates: bool) -> Vec<Piece> {
    let wires: Vec<_> = entries.iter().map(|entry| entry.frame.wire(deflates)).collect();
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < wires.len() {
        let mut size = 0;
        let fitting = wires[start..].iter().take_while(|wire| {
            size += wire.len();
            size <= PIECE
        });
        let end = start + fitting.count().max(1);
        pieces.push(Piece { bytes: joined(&wires[start..end]), entries: start..end });
        start = end;
    }
    pieces
}

fn joined(run: &[&Bytes]) -> Bytes {
    if let [only] = run {
        return Bytes::clone(only);
    }
    let mut bytes = BytesMut::with_capacity(run.iter().map(|wire| wire.len()).sum());
    run.iter().for_each(|wire| bytes.extend_from_slice(wire));
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Entry {
        Entry { frame: Frame::binary(vec![1; len]), except: None, key: None, tally: Arc::default() }
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
        log.forget_until(log.head());
        assert!(!log.append(entry(1000), &OPTIONS), "a frame above the bound never fits");
        assert!(log.append(entry(900), &OPTIONS));
        assert!(!log.append(entry(100), &OPTIONS));
        assert_eq!(log.head(), 11);
    }

    #[test]
    fn a_batch_joins_small_frames_and_copies_no_large_one() {
        let mut log = Log::new();
        assert!(append_all(&mut log, [100, 100, PIECE, 100]));
        let batch = log.batch().expect("four frames wait");
        let pieces = batch.pieces(false);
        assert_eq!(pieces.iter().map(|piece| piece.bytes.len()).collect::<Vec<_>>(), [204, PIECE + 4, 102]);
        assert_eq!(pieces.iter().map(|piece| piece.entries.clone()).collect::<Vec<_>>(), [0..2, 2..3, 3..4]);
        assert_eq!(pieces[1].bytes.as_ptr(), batch.entries[2].frame.bytes().as_ptr());
    }

    #[test]
    fn since_begins_at_the_cursor() {
        let mut log = Log::new();
        assert!(append_all(&mut log, 1..=5));
        log.forget_until(2);
        let lens: Vec<_> = log.since(3).map(|entry| entry.frame.payload().len()).collect();
        assert_eq!(lens, [4, 5]);
    }
}
