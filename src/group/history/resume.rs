//! Joining where a client has left off.
//!
//! Subscription and replay are one step. Under the lock of the channel's link, and one lock of the group, the missed
//! messages are taken from the ring and the member's cursor is set to the log's head; the missed messages are written
//! before any other thread can write to the channel. A message that is sent meanwhile lies behind the cursor: no gap,
//! no duplicate.

use std::time::SystemTime;

use serde::Serialize;

use super::ring::{Gone, Ring};
use super::{Position, Since};
use crate::frame::Frame;

/// What came of a join with recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The client has got exactly what it had missed. False when some of it is gone, or no position was given.
    pub recovered: bool,
    /// How many messages were replayed.
    pub replayed: usize,
    /// The last message of the group at the join. What has a higher offset comes live.
    pub position: Position,
}

/// The first that a client hears of a group that it joined with recovery.
#[derive(Serialize)]
#[serde(tag = "type", rename = "joined")]
struct Joined<'a> {
    group: &'a str,
    epoch: u64,
    offset: u64,
    recovered: bool,
    replayed: usize,
}

/// What a member gets in place of a message that left it out.
#[derive(Serialize)]
#[serde(tag = "type", rename = "skip")]
struct Skip<'a> {
    group: &'a str,
    offset: u64,
}

/// What a new member has missed.
#[derive(Default)]
pub(crate) struct Missed {
    pub(crate) recovery: Option<Recovery>,
    pub(crate) frames: Vec<Frame>,
}

impl Missed {
    /// Takes from the ring what `since` asks for. Also returns the frames that have become too old: the caller drops
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

/// Returns the message that tells a client how its join went.
pub(crate) fn joined(group: &str, recovery: &Recovery) -> Frame {
    let Recovery { recovered, replayed, position } = *recovery;
    let joined = Joined { group, epoch: position.epoch, offset: position.offset, recovered, replayed };
    Frame::json(&joined).expect("names and numbers are JSON")
}

/// Returns the message that tells a member that the message of this offset is not for it.
pub(crate) fn skip(group: &str, offset: u64) -> Frame {
    Frame::json(&Skip { group, offset }).expect("names and numbers are JSON")
}
