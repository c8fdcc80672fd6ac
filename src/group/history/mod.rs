//! What was said in a group: a ring of the frames that were sent, for those who come late or come back.
//!
//! The ring is a plain value under the lock of the group's log: a frame takes its offset, its place in the log and
//! its place in the ring in one step. It shares the frame with the log, and with whoever it is replayed to.
//!
//! ```text
//!             first                    head
//!   (gone)      |  5  |  6  |  7  |  8  |       offsets rise by one; the oldest go first at a cap
//!                           ^ a client that has seen 6 gets 7 and 8
//! ```

pub(in crate::group) mod resume;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::frame::{Frame, unix_millis};

/// A place in a group's history: the last message that somebody has seen.
///
/// It is serialised as a pair, `[epoch, offset]`. A client gets both with the group's messages, and brings them back
/// when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Position {
    /// Which history: another one begins when a group is opened anew, after a restart too. Below 2⁵³.
    pub epoch: u64,
    /// Which message of it: the first one has 1.
    pub offset: u64,
}

impl From<(u64, u64)> for Position {
    fn from((epoch, offset): (u64, u64)) -> Self {
        Self { epoch, offset }
    }
}

impl From<Position> for (u64, u64) {
    fn from(position: Position) -> Self {
        (position.epoch, position.offset)
    }
}

/// Which part of a history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// The last so many messages, or as many as there are.
    Last(usize),
    /// All after this one, if they are all there; otherwise none.
    Position(Position),
    /// All after this one, if they are all there; otherwise the last so many.
    PositionOrLast(Position, usize),
}

impl Since {
    /// Asks for what a client has missed that may have been here before, or else for the last so many messages.
    #[must_use]
    pub fn missed(position: Option<Position>, last: usize) -> Self {
        position.map_or(Self::Last(last), |position| Self::PositionOrLast(position, last))
    }
}

/// How much of what was sent a group keeps: by default 1000 messages, 1 MiB, and a day.
///
/// The oldest go first, one by one. Bytes are those of the frames, framing included; with clients that take
/// compressed frames their compressed twins come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    messages: usize,
    bytes: usize,
    age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { messages: 1000, bytes: 1 << 20, age: Duration::from_secs(24 * 60 * 60) }
    }
}

impl HistoryLimits {
    /// Sets how many messages are kept.
    #[must_use]
    pub fn messages(mut self, messages: usize) -> Self {
        self.messages = messages;
        self
    }

    /// Sets how many bytes are kept.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how long a message is kept.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }
}

/// A part of a group's history: see [`ChannelBox::history`](super::ChannelBox::history).
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The last message of the group, whether or not it is still kept.
    pub position: Position,
    /// The messages are all there were after the position that was asked for. False without one.
    pub recovered: bool,
    /// The messages, the oldest first.
    pub messages: Vec<HistoryMessage>,
}

/// A message of a history.
#[derive(Clone)]
pub struct HistoryMessage {
    /// Its offset.
    pub offset: u64,
    /// When it was sent.
    pub time: SystemTime,
    /// The message as it went out.
    pub frame: Frame,
}

impl Serialize for HistoryMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.frame.payload()).map_err(serde::ser::Error::custom)?;
        let message: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
        let mut fields = serializer.serialize_struct("HistoryMessage", 3)?;
        fields.serialize_field("offset", &self.offset)?;
        fields.serialize_field("time", &unix_millis(self.time))?;
        fields.serialize_field("message", message)?;
        fields.end()
    }
}

impl fmt::Debug for HistoryMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryMessage").field("offset", &self.offset).field("frame", &self.frame).finish()
    }
}

/// Frames that have left a ring: the last to hold one frees it, so that is not done under a lock. One for one, mostly.
pub(in crate::group) type Gone = SmallVec<[Frame; 1]>;

/// The frames of one group that are kept.
pub(in crate::group) struct Ring {
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

/// What of a ring somebody has missed.
#[derive(Debug)]
pub(in crate::group) struct Missed {
    pub(in crate::group) recovered: bool,
    /// Where the messages begin, in the ring.
    start: usize,
}

impl Ring {
    pub(in crate::group) fn new(limits: HistoryLimits, epoch: u64) -> Self {
        Self { limits, epoch, first: 1, kept: VecDeque::new(), bytes: 0 }
    }

    /// Returns the offset that the next frame will have.
    pub(in crate::group) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Returns the position of the last frame.
    pub(in crate::group) fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.next() - 1 }
    }

    #[cfg(feature = "metrics")]
    pub(in crate::group) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(in crate::group) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the frame with the next offset. What goes for it is returned, to be dropped without a lock.
    #[must_use]
    pub(in crate::group) fn append(&mut self, frame: Frame, now: SystemTime) -> Gone {
        self.bytes += frame.bytes().len();
        self.kept.push_back(Kept { frame, time: now });
        self.trim(now)
    }

    /// Drops what is too much or too old.
    pub(in crate::group) fn trim(&mut self, now: SystemTime) -> Gone {
        let mut count = 0;
        let mut bytes = self.bytes;
        while let Some(oldest) = self.kept.get(count)
            && (self.kept.len() - count > self.limits.messages || bytes > self.limits.bytes || self.is_old(oldest, now))
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
        now.duration_since(kept.time).is_ok_and(|age| age > self.limits.age)
    }

    /// Forgets all frames, and returns them. The next offset stays what it is.
    pub(in crate::group) fn flush(&mut self) -> Gone {
        self.first = self.next();
        self.bytes = 0;
        self.kept.drain(..).map(|kept| kept.frame).collect()
    }

    /// Finds what is asked for.
    pub(in crate::group) fn since(&self, since: Since) -> Missed {
        let last = |count: usize| Missed { recovered: false, start: self.kept.len().saturating_sub(count) };
        match since {
            Since::Last(count) => last(count),
            Since::Position(position) => self.after(position).unwrap_or_else(|| last(0)),
            Since::PositionOrLast(position, count) => self.after(position).unwrap_or_else(|| last(count)),
        }
    }

    /// Finds what comes after a position, unless some of it is gone or it is none of this ring's.
    fn after(&self, position: Position) -> Option<Missed> {
        if position.epoch != self.epoch || position.offset >= self.next() {
            return None;
        }
        let start = (position.offset + 1).checked_sub(self.first)?;
        Some(Missed { recovered: true, start: start as usize })
    }

    pub(in crate::group) fn frames(&self, missed: &Missed) -> impl ExactSizeIterator<Item = &Frame> {
        self.kept.range(missed.start..).map(|kept| &kept.frame)
    }

    pub(in crate::group) fn history(&self, since: Since) -> History {
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

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn ring(limits: HistoryLimits) -> Ring {
        Ring::new(limits, 7)
    }

    fn offsets(history: &History) -> Vec<u64> {
        history.messages.iter().map(|message| message.offset).collect()
    }

    #[test]
    fn a_position_recovers_what_came_after_it_or_is_told_that_it_cannot() {
        let mut ring = ring(HistoryLimits::default().messages(3));
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
        assert_eq!(ring.flush().len(), 3);
        assert!(!ring.history(position(4)).recovered);
        assert!(ring.history(position(5)).recovered, "who has seen all has missed nothing");
    }

    #[test]
    fn what_is_too_old_goes_and_a_clock_set_back_makes_nothing_old() {
        let mut ring = ring(HistoryLimits::default().age(Duration::from_secs(10)));
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
    fn a_message_larger_than_the_cap_takes_its_offset_and_is_not_kept() {
        let mut ring = ring(HistoryLimits::default().bytes(100));
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
        /// The naive model keeps everything, and says of each message whether it should still be there.
        #[test]
        fn a_ring_keeps_what_its_limits_allow(steps in steps(), asked in 0..70_u64, last in 0..12_usize) {
            let (messages, bytes, age) = (8, 200, 10);
            let limits = HistoryLimits::default().messages(messages).bytes(bytes).age(Duration::from_secs(age));
            let mut ring = ring(limits);
            let mut all: Vec<(u64, usize)> = Vec::new();
            let (mut now, mut flushed) = (0, 0);
            for step in steps {
                match step {
                    Step::Append(len) => {
                        let frame = Frame::binary(vec![0; len]);
                        all.push((now, frame.bytes().len()));
                        drop(ring.append(frame, START + Duration::from_secs(now)));
                        // The oldest go first: what is behind one that had to go stays, until it has to itself.
                        while all[flushed..].iter().map(|(_, len)| len).sum::<usize>() > bytes
                            || all.len() - flushed > messages
                            || all[flushed..].first().is_some_and(|(time, _)| now - time > age)
                        {
                            flushed += 1;
                        }
                    }
                    Step::Wait(seconds) => now += seconds,
                    Step::Flush => {
                        drop(ring.flush());
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
