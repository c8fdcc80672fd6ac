//! [`Recovery`]: a join that replays the messages that the client has missed.
//!
//! Join and replay are one step. Under the lock of the channel's link and one hold of the group's lock, the join takes
//! the missed messages from the ring and sets the member's cursor to the log's head. It writes them before any other
//! thread can write to the channel. A message sent meanwhile lies behind the cursor, so there is no gap and no
//! duplicate.

use std::time::SystemTime;

use serde::Serialize;

use super::ring::{Gone, Ring};
use super::{Position, Since};
use crate::frame::Frame;

/// The outcome of a join with recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The client got exactly the messages that it had missed. False when some of them are gone, or it gave no
    /// position.
    pub recovered: bool,
    /// The number of replayed messages.
    pub replayed: usize,
    /// The position of the group's last message at the join. Messages of higher offsets arrive live.
    pub position: Position,
}

/// The first message of a group to a client that joined with recovery.
#[derive(Serialize)]
#[serde(tag = "type", rename = "joined")]
struct Joined<'a> {
    group: &'a str,
    epoch: u64,
    offset: u64,
    recovered: bool,
    replayed: usize,
}

/// The message that an excepted member gets in place of the group's message.
#[derive(Serialize)]
#[serde(tag = "type", rename = "skip")]
struct Skip<'a> {
    group: &'a str,
    offset: u64,
}

/// The messages that a new member has missed.
#[derive(Default)]
pub(crate) struct Missed {
    pub(crate) recovery: Option<Recovery>,
    pub(crate) frames: Vec<Frame>,
}

impl Missed {
    /// Takes the messages that `since` asks for from the ring. Also returns frames that are too old: the caller drops
    /// them without a lock.
    pub(crate) fn of(ring: Option<&mut Ring>, since: Since, now: SystemTime) -> (Self, Gone) {
        let Some(ring) = ring else {
            let recovery = Recovery { recovered: false, replayed: 0, position: Position::default() };
            return (Self { recovery: Some(recovery), frames: Vec::new() }, Gone::new());
        };
        let gone = ring.trim(now);
        let missed = ring.since(since);
        let frames: Vec<_> = ring.frames(&missed).cloned().collect();
        let recovery = Recovery { recovered: missed.recovered, replayed: frames.len(), position: ring.position() };
        (Self { recovery: Some(recovery), frames }, gone)
    }
}

/// Returns the message about the join for the client.
pub(crate) fn joined(group: &str, recovery: &Recovery) -> Frame {
    let Recovery { recovered, replayed, position } = *recovery;
    let joined = Joined { group, epoch: position.epoch, offset: position.offset, recovered, replayed };
    Frame::json(&joined).expect("names and numbers are JSON")
}

/// Returns the message that an excepted member gets in place of the message of this offset.
pub(crate) fn skip(group: &str, offset: u64) -> Frame {
    Frame::json(&Skip { group, offset }).expect("names and numbers are JSON")
}
