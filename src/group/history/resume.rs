//! Joining where one has left off, and reading what was said.
//!
//! Subscribe and replay are one step: under the channel's lock, what was missed is taken from the ring and the
//! member's cursor is set to the log's head under one lock of the log; then the missed frames are written, before
//! anybody else can write to the channel. What is sent meanwhile lies behind the cursor: no gap, no duplicate.

use std::time::SystemTime;

use serde::Serialize;

use crate::channel::{Channel, Out};
use crate::frame::Frame;
use crate::group::history::{History, Position, Since};
use crate::group::{ChannelBox, Group, JoinError, JoinErrorReason, Kind, Membership, refused};
use crate::observe::groups as observe;
use crate::sync::{Arc, lock};

/// What came of a join with recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl ChannelBox {
    /// Makes a channel a member of a group, as [`join`](Self::join), and first sends what it has missed.
    ///
    /// The client is told how it went (`{"type":"joined",..}`, see [`docs::protocol`](crate::docs::protocol)), then
    /// gets the messages that [`Since`] asks for, the stored frames themselves, then what is sent from now on: nothing
    /// twice, and nothing is missing in between. A replay has room in the outbox of its own, beside its limits.
    ///
    /// In a group without [history](crate::group::GroupOptions::history) nothing is replayed, and nothing recovered.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Since};
    ///
    /// let channels = ChannelBox::with_options(|_| GroupOptions::default().history(HistoryLimits::default()));
    /// let seen = channels.group_send("room", "one")?.position().expect("the group has a history");
    /// channels.group_send("room", "two")?;
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let (_membership, recovery) = channels.join_since(&channel, "room", Since::Position(seen))?;
    /// assert!(recovery.recovered);
    /// assert_eq!((recovery.replayed, recovery.position.offset), (1, 2));
    ///
    /// let mut next = || match far_end.try_recv() {
    ///     Some(FarMessage::Text(text)) => serde_json::from_str(&text),
    ///     other => panic!("{other:?}"),
    /// };
    /// let joined: serde_json::Value = next()?;
    /// assert_eq!((&joined["type"], &joined["recovered"]), (&"joined".into(), &true.into()));
    /// let missed: serde_json::Value = next()?;
    /// assert_eq!((&missed["data"], &missed["offset"]), (&"two".into(), &2.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_since(
        &self,
        channel: &Channel,
        group: impl AsRef<str>,
        since: Since,
    ) -> Result<(Membership, Recovery), JoinError> {
        let name = group.as_ref();
        let error = |reason| refused(channel, name, reason);
        self.check_join(channel, name).map_err(error)?;
        self.compress_missed(channel.out(), name, since);
        let (place, recovery) = self.admit(Kind::Named, channel.out(), name, Some(since)).map_err(error)?;
        let membership = Membership::new(place);
        let recovery = recovery.ok_or(JoinErrorReason::Closed).map_err(error)?;
        observe::recovered(channel.id(), name, recovery.recovered, recovery.replayed);
        Ok((membership, recovery))
    }

    /// Compresses what the client will be sent, if nobody has: not under a lock.
    fn compress_missed(&self, out: &Out, group: &str, since: Since) {
        if out.deflates() {
            self.history(group, since).messages.iter().for_each(|message| _ = message.frame.wire(true));
        }
    }

    /// Returns a part of what was said in a group, the oldest first. Nothing of a group that is not there, or keeps
    /// no history.
    ///
    /// It can be serialised: `{"position":[epoch,offset],"recovered":..,"messages":[{"offset","time","message"}]}`.
    ///
    /// ```
    /// use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Since};
    ///
    /// let limits = HistoryLimits::default().messages(2);
    /// let channels = ChannelBox::with_options(move |_| GroupOptions::default().history(limits));
    /// for text in ["one", "two", "three"] {
    ///     channels.group_send("room", text)?;
    /// }
    /// let history = channels.history("room", Since::Last(10));
    /// assert_eq!(history.messages.iter().map(|message| message.offset).collect::<Vec<_>>(), [2, 3]);
    ///
    /// assert_eq!(channels.flush_history("room"), 2);
    /// assert!(channels.history("room", Since::Last(10)).messages.is_empty());
    /// # Ok::<(), fanfare::frame::EncodeError>(())
    /// ```
    #[must_use]
    pub fn history(&self, group: &str, since: Since) -> History {
        let none = || History { position: Position::default(), recovered: false, messages: Vec::new() };
        let Some(group) = self.shared.groups.with(group, Arc::clone) else { return none() };
        let now = SystemTime::now();
        let (gone, history) = {
            let mut log = lock(&group.log);
            let Some(ring) = &mut log.history else { return none() };
            (ring.trim(now), ring.history(since))
        };
        drop(gone);
        history
    }

    /// Forgets what was said in a group, and returns how many messages that were. Offsets go on from where they are:
    /// a client that has seen all is still told that it has missed nothing.
    pub fn flush_history(&self, group: &str) -> usize {
        self.shared.groups.with(group, Arc::clone).map_or(0, |group| group.flush_history())
    }

    /// Forgets what was said in all groups, and returns how many messages that were.
    pub fn flush_histories(&self) -> usize {
        self.shared.groups.values().iter().map(|group| group.flush_history()).sum()
    }
}

impl Group {
    fn flush_history(&self) -> usize {
        let gone = lock(&self.log).history.as_mut().map(|ring| ring.flush());
        gone.map_or(0, |gone| gone.len())
    }

    /// Returns what tells a member that a message of this offset is not for it.
    pub(in crate::group) fn skip(&self, offset: u64) -> Frame {
        Frame::json(&Skip { group: &self.name, offset }).expect("names and numbers are json")
    }

    /// Returns what tells a client how its join went.
    pub(in crate::group) fn joined(&self, recovery: &Recovery) -> Frame {
        let Recovery { recovered, replayed, position } = *recovery;
        let joined = Joined { group: &self.name, epoch: position.epoch, offset: position.offset, recovered, replayed };
        Frame::json(&joined).expect("names and numbers are json")
    }
}
