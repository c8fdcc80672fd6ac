//! [`Ring`]: the frames that a group keeps, for clients that join late or reconnect.
//!
//! A plain value under the group's lock: a frame takes its offset, its place in the log and its place in the ring in
//! one step. The ring shares the frame with the log, and with every client it is replayed to.
//!
//! ```text
//!             first                    head
//!   (gone)      |  5  |  6  |  7  |  8  |       offsets rise by one; at a limit the oldest go first
//!                           ^ a client that has seen 6 gets 7 and 8
//! ```

use std::collections::VecDeque;
use std::time::SystemTime;

use smallvec::SmallVec;

use super::{History, HistoryLimits, HistoryMessage, Position, Since};
use crate::frame::Frame;

/// Frames that have left a ring. The caller drops them without a lock, since the last reference frees a frame. Mostly
/// one frame leaves for each that comes.
pub(crate) type Gone = SmallVec<[Frame; 1]>;

/// The frames of one group that are kept.
pub(crate) struct Ring {
    limits: HistoryLimits,
    epoch: u64,
    /// The offset of the front frame.
    first: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
}

struct Kept {
    frame: Frame,
    time: SystemTime,
}

/// A part of a ring, up to its end.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) recovered: bool,
    /// The index in the ring at which the part begins.
    start: usize,
}

impl Ring {
    pub(crate) fn new(limits: HistoryLimits, epoch: u64) -> Self {
        Self { limits, epoch, first: 1, kept: VecDeque::new(), bytes: 0 }
    }

    /// Returns the offset that the next frame will have.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Returns the position of the last frame.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.next() - 1 }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame with the next offset. Returns the frames that it pushed out; the caller drops them without a
    /// lock.
    #[must_use]
    pub(crate) fn append(&mut self, frame: Frame, now: SystemTime) -> Gone {
        self.bytes += frame.bytes().len();
        self.kept.push_back(Kept { frame, time: now });
        self.trim(now)
    }

    /// Removes frames past the limits, the oldest first.
    pub(crate) fn trim(&mut self, now: SystemTime) -> Gone {
        let mut count = 0;
        let mut bytes = self.bytes;
        while let Some(oldest) = self.kept.get(count)
            && (self.kept.len() - count > self.limits.max_messages
                || bytes > self.limits.max_bytes
                || self.is_old(oldest, now))
        {
            bytes -= oldest.frame.bytes().len();
            count += 1;
        }
        self.bytes = bytes;
        self.first += count as u64;
        self.kept.drain(..count).map(|kept| kept.frame).collect()
    }

    fn is_old(&self, kept: &Kept, now: SystemTime) -> bool {
        // A clock that was set back makes nothing old.
        now.duration_since(kept.time).is_ok_and(|age| age > self.limits.max_age)
    }

    /// Forgets all frames, and returns them. The next offset does not change.
    pub(crate) fn clear(&mut self) -> Gone {
        self.first = self.next();
        self.bytes = 0;
        self.kept.drain(..).map(|kept| kept.frame).collect()
    }

    /// Finds the part that `since` asks for.
    pub(crate) fn since(&self, since: Since) -> Stretch {
        let last = |count: usize| Stretch { recovered: false, start: self.kept.len().saturating_sub(count) };
        match since {
            Since::Last(count) => last(count),
            Since::Position(position) => self.after(position).unwrap_or_else(|| last(0)),
            Since::PositionOrLast(position, count) => self.after(position).unwrap_or_else(|| last(count)),
        }
    }

    /// Finds the frames after a position; `None` when some are gone, or the position is not of this ring.
    fn after(&self, position: Position) -> Option<Stretch> {
        if position.epoch != self.epoch || position.offset >= self.next() {
            return None;
        }
        let start = (position.offset + 1).checked_sub(self.first)?;
        Some(Stretch { recovered: true, start: start as usize })
    }

    pub(crate) fn frames(&self, missed: &Stretch) -> impl ExactSizeIterator<Item = &Frame> {
        self.kept.range(missed.start..).map(|kept| &kept.frame)
    }

    pub(crate) fn history(&self, since: Since) -> History {
        let missed = self.since(since);
        let offsets = self.first + missed.start as u64..;
        let messages = offsets.zip(self.kept.range(missed.start..));
        History {
            position: self.position(),
            recovered: missed.recovered,
            messages: messages
                .map(|(offset, kept)| HistoryMessage { offset, time: kept.time, frame: kept.frame.clone() })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn ring(limits: HistoryLimits) -> Ring {
        Ring::new(limits, 7)
    }

    fn offsets(history: &History) -> Vec<u64> {
        history.messages.iter().map(|message| message.offset).collect()
    }

    #[test]
    fn a_position_recovers_all_later_messages_or_none() {
        let mut ring = ring(HistoryLimits::default().max_messages(3));
        let position = |offset| Since::Position(Position { epoch: 7, offset });
        assert!(ring.history(position(0)).recovered, "nothing was sent, nothing was missed");
        for _ in 0..5 {
            drop(ring.append(Frame::text("x"), START));
        }
        let history = ring.history(position(2));
        assert_eq!((history.recovered, offsets(&history)), (true, vec![3, 4, 5]));
        assert_eq!(history.position, Position { epoch: 7, offset: 5 });
        let history = ring.history(position(5));
        assert_eq!((history.recovered, offsets(&history)), (true, vec![]));
        for gone in [position(1), position(6), Since::Position(Position { epoch: 8, offset: 4 })] {
            let history = ring.history(gone);
            assert_eq!((history.recovered, offsets(&history)), (false, vec![]), "{gone:?}");
        }
        let history = ring.history(Since::PositionOrLast(Position { epoch: 7, offset: 1 }, 2));
        assert_eq!((history.recovered, offsets(&history)), (false, vec![4, 5]));
        assert!(!ring.history(position(u64::MAX)).recovered);
        assert_eq!(ring.clear().len(), 3);
        assert!(!ring.history(position(4)).recovered);
        assert!(ring.history(position(5)).recovered, "a client that has seen all has missed nothing");
    }

    #[test]
    fn old_messages_go_and_a_clock_set_back_makes_nothing_old() {
        let mut ring = ring(HistoryLimits::default().max_age(Duration::from_secs(10)));
        for second in [0, 5, 8] {
            drop(ring.append(Frame::text("x"), START + Duration::from_secs(second)));
        }
        assert!(ring.trim(START + Duration::from_secs(10)).is_empty());
        drop(ring.trim(START + Duration::from_secs(11)));
        assert_eq!(offsets(&ring.history(Since::Last(9))), [2, 3]);
        assert!(ring.trim(START).is_empty());
        drop(ring.trim(START + Duration::from_secs(100)));
        assert_eq!((ring.kept.len(), ring.bytes(), ring.next()), (0, 0, 4));
    }

    #[test]
    fn a_message_larger_than_the_limit_takes_its_offset_and_is_not_kept() {
        let mut ring = ring(HistoryLimits::default().max_bytes(100));
        drop(ring.append(Frame::text("x"), START));
        drop(ring.append(Frame::text("x".repeat(101)), START));
        assert_eq!((ring.next(), ring.kept.len()), (3, 0));
        assert!(!ring.history(Since::Position(Position { epoch: 7, offset: 1 })).recovered);
    }

    #[test]
    fn a_position_is_a_pair() {
        let position = Position { epoch: 7, offset: 9 };
        assert_eq!(serde_json::to_string(&position).expect("it is plain"), "[7,9]");
        assert_eq!(serde_json::from_str::<Position>("[7,9]").expect("a pair"), position);
        assert!(serde_json::from_str::<Position>("[7]").is_err());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Wait(u64),
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..60_usize).prop_map(Step::Append),
            2 => (0..6_u64).prop_map(Step::Wait),
            1 => Just(Step::Flush),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// The naive model keeps all messages, and knows of each whether the ring should still have it.
        #[test]
        fn a_ring_keeps_what_its_limits_allow(steps in steps(), asked in 0..70_u64, last in 0..12_usize) {
            let (messages, bytes, age) = (8, 200, 10);
            let limits = HistoryLimits::default().max_messages(messages).max_bytes(bytes).max_age(Duration::from_secs(age));
            let mut ring = ring(limits);
            let mut all: Vec<(u64, usize)> = Vec::new();
            let (mut now, mut flushed) = (0, 0);
            for step in steps {
                match step {
                    Step::Append(len) => {
                        let frame = Frame::binary(vec![0; len]);
                        all.push((now, frame.bytes().len()));
                        drop(ring.append(frame, START + Duration::from_secs(now)));
                        // The oldest go first: a later message stays until it exceeds a limit itself.
                        while all[flushed..].iter().map(|(_, len)| len).sum::<usize>() > bytes
                            || all.len() - flushed > messages
                            || all[flushed..].first().is_some_and(|(time, _)| now - time > age)
                        {
                            flushed += 1;
                        }
                    }
                    Step::Wait(seconds) => now += seconds,
                    Step::Flush => {
                        drop(ring.clear());
                        flushed = all.len();
                    }
                }
            }
            let expected: Vec<u64> = (flushed as u64 + 1..=all.len() as u64).collect();
            prop_assert_eq!(offsets(&ring.history(Since::Last(usize::MAX))), &expected[..]);
            prop_assert_eq!(ring.bytes(), all[flushed..].iter().map(|(_, len)| len).sum::<usize>());
            prop_assert_eq!(
                offsets(&ring.history(Since::Last(last))),
                &expected[expected.len().saturating_sub(last)..]
            );
            let history = ring.history(Since::Position(Position { epoch: 7, offset: asked }));
            let whole = asked >= flushed as u64 && asked <= all.len() as u64;
            prop_assert_eq!(history.recovered, whole);
            let after: Vec<u64> = if whole { (asked + 1..=all.len() as u64).collect() } else { Vec::new() };
            prop_assert_eq!(offsets(&history), after);
        }
    }
}
