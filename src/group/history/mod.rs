//! What a group remembers: positions, limits, and the messages themselves.
//!
//! `ring` keeps the frames, `recover` has the positions that a client brings, and `resume` what it gets for them.

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
    /// Sets how many messages are kept.
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets how many bytes are kept.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long a message is kept.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

/// A part of a group's history: see [`ChannelBox::history`](super::Group::history).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
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
#[non_exhaustive]
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
