//! The history of a group: its latest messages, their positions, and the limits.
//!
//! `ring` keeps the frames, `recover` parses the positions that a client brings, and `resume` replays what it has
//! missed.

pub(crate) mod recover;
pub(crate) mod resume;
pub(crate) mod ring;

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::clock::unix_millis;
use crate::frame::Frame;

pub(crate) use ring::{Gone, Ring};

/// A position in a group's history: the last message that a client has seen.
///
/// It is serialised as a pair, `[epoch, offset]`. A client gets the epoch when it joins and an offset with each
/// message, and sends the pair when it reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Position {
    /// The number of the history, below 2⁵³. A group that is made again, for example after a restart, begins a new one.
    pub epoch: u64,
    /// The number of the message in the history, from 1.
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

/// The part of a history that a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// The last messages, at most this many.
    Last(usize),
    /// All messages after this position, if the history has all of them; otherwise none.
    Position(Position),
    /// All messages after this position, if the history has all of them; otherwise the last ones, at most this many.
    PositionOrLast(Position, usize),
}

impl Since {
    /// Asks for the messages after a client's position. Without a position, or if some are gone, asks for the last
    /// ones.
    #[must_use]
    pub fn missed(position: Option<Position>, last: usize) -> Self {
        position.map_or(Self::Last(last), |position| Self::PositionOrLast(position, last))
    }
}

/// How many messages a group keeps, and for how long: by default 1000 messages, 1 MiB, and a day.
///
/// The oldest messages are removed first, one by one. The bytes are those of the frames, including their headers. The
/// compressed frames for clients that take them are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    max_messages: usize,
    max_bytes: usize,
    max_age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { max_messages: 1000, max_bytes: 1 << 20, max_age: Duration::from_secs(24 * 60 * 60) }
    }
}

impl HistoryLimits {
    /// Sets the most messages that are kept: 1000 by default.
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets the most bytes that are kept: 1 MiB by default.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long a message is kept: a day by default.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

/// A part of a group's history: see [`Group::history`](super::Group::history).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct History {
    /// The position of the last message of the group, even if that is no longer kept.
    pub position: Position,
    /// The messages are all that followed the given position. False when none was given.
    pub recovered: bool,
    /// The messages, the oldest first.
    pub messages: Vec<HistoryMessage>,
}

/// A message of a history.
#[derive(Clone)]
#[non_exhaustive]
pub struct HistoryMessage {
    /// Its offset.
    pub offset: u64,
    /// When it was sent.
    pub time: SystemTime,
    /// The message as it was sent.
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
