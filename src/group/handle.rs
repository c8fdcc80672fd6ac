//! [`Group`]: everything that a program does with one group.

use std::fmt;

use serde::Serialize;

use super::delivery::report::SendReport;
use super::delivery::send::GroupSend;
use super::error::{Denied, JoinError, JoinErrorReason};
use super::history::resume::Recovery;
use super::history::{History, Since};
use super::membership::Membership;
use super::presence::{Presence, Rooms};
use super::registry::Registry;
use crate::channel::{Channel, ChannelId, Sender};
use crate::frame::{EncodeError, Frame};
use crate::observe::groups as observe;
use crate::sync::{Arc, lock};

/// One group of a box, by its name: [`ChannelBox::group`](super::ChannelBox::group).
///
/// The handle holds the name and nothing else. A group is made by a join, or by a send where it keeps a history, and
/// every call looks the group up as it is at that moment: a handle made before the first join works as well as one
/// made after. A clone names the same group.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::{Channel, FarMessage};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let room = channels.group("room");
/// let (ada, mut at_ada) = Channel::in_memory();
/// let (bob, mut at_bob) = Channel::in_memory();
/// let _memberships = (room.join(&ada)?, room.join(&bob)?);
/// assert_eq!(room.members(), [ada.id(), bob.id()]);
///
/// let report = room.except(ada.id()).send("hello")?;
/// assert_eq!(report.settled().await.written, 1);
/// assert_eq!(at_bob.recv().await, Some(FarMessage::Text("\"hello\"".into())));
/// assert_eq!(at_ada.try_recv(), None);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Group {
    registry: Arc<Registry>,
    rooms: Arc<Rooms>,
    name: Arc<str>,
}

impl Group {
    pub(super) fn new(registry: &Arc<Registry>, rooms: &Arc<Rooms>, name: &str) -> Self {
        // The name of a group that is there is shared, and not allocated again.
        let name = registry.group(name).map_or_else(|| name.into(), |group| Arc::clone(&group.name));
        Self { registry: Arc::clone(registry), rooms: Arc::clone(rooms), name }
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a channel a member of the group, which is made when there is none.
    ///
    /// From now on the channel gets every message that is sent to the group. A group that keeps a
    /// [history](super::GroupOptions::history) first sends it one message that says where the history stands. The
    /// channel leaves when the returned [`Membership`] or the channel is dropped. Joining also lets
    /// [`send_to`](super::ChannelBox::send_to) find the channel.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 255 bytes or has control characters; when the channel is closed, is a
    /// member already, or is in 1024 groups; when [`may_join`](super::ChannelBoxBuilder::may_join) refuses it, or its
    /// user was [revoked](super::offline::User::revoke) since the channel began.
    ///
    /// ```
    /// use fanfare::channel::Channel;
    /// use fanfare::group::{ChannelBox, JoinErrorReason};
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.group("room").join(&channel)?;
    /// let twice = channels.group("room").join(&channel).expect_err("the channel is a member");
    /// assert_eq!(twice.reason(), JoinErrorReason::AlreadyMember);
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    pub fn join(&self, channel: &Channel) -> Result<Membership, JoinError> {
        let (member, _) = self.registry.join(channel, &self.name, None)?;
        Ok(Membership::new(member, &self.rooms))
    }

    /// Makes a channel a member of the group, as [`join`](Self::join), and first sends what the client has missed.
    ///
    /// The client gets one message that says how the join went (`{"type":"joined",..}`, see
    /// [`docs::protocol`](crate::docs::protocol)), then the stored messages that [`Since`] asks for, then every message
    /// that is sent from now on. No message arrives twice, and none is missing in between. A replay has room of its own
    /// in the outbox, beside the outbox's limits.
    ///
    /// In a group without a [history](super::GroupOptions::history) nothing is replayed, and
    /// [`recovered`](Recovery::recovered) is false.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Since};
    ///
    /// let channels =
    ///     ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
    /// let room = channels.group("room");
    /// let seen = room.send("one")?.position().expect("the group has a history");
    /// room.send("two")?;
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let (_membership, recovery) = room.join_since(&channel, Since::Position(seen))?;
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
    pub fn join_since(&self, channel: &Channel, since: Since) -> Result<(Membership, Recovery), JoinError> {
        let (member, recovery) = self.registry.join(channel, &self.name, Some(since))?;
        let membership = Membership::new(member, &self.rooms);
        let recovery = recovery.ok_or_else(|| JoinError::new(&self.name, JoinErrorReason::Closed))?;
        observe::recovered(channel.id(), &self.name, recovery.recovered, recovery.replayed);
        Ok((membership, recovery))
    }

    /// Takes a channel out of the group; returns false when it is not a member.
    pub fn remove(&self, channel: ChannelId) -> bool {
        let (Some(link), Some(group)) = (self.registry.channel(channel), self.registry.group(&self.name)) else {
            return false;
        };
        let feed = link.find_feed(|feed| group.is_source_of(feed));
        feed.is_some_and(|feed| link.end_feed(&feed))
    }

    /// Takes all members out of the group, and returns how many there were. Their channels stay open.
    pub fn remove_all(&self) -> usize {
        let members = self.registry.members(&self.name);
        members.map_or(0, |members| members.iter().filter(|member| member.end()).count())
    }

    /// Returns the channels in the group, in the order in which they joined.
    #[must_use]
    pub fn members(&self) -> Vec<ChannelId> {
        let members = self.registry.members(&self.name);
        members.iter().flat_map(|members| members.iter()).map(|member| member.channel).collect()
    }

    /// Returns the number of members.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.registry.members(&self.name).map_or(0, |members| members.len())
    }

    /// Sends a payload as JSON text to all members, serialised and framed once.
    ///
    /// The call never waits for a client: a task writes to the members, where there is a runtime. A group without
    /// members accepts the message and delivers it to no channel. When too many messages wait in the group already,
    /// this one is refused, and [`SendReport::is_accepted`] returns false.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised. A listener that ends in `.map(drop)` passes that error on.
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<SendReport, EncodeError> {
        self.begin_send().send(payload)
    }

    /// Sends a frame: a program that has one already, or sends one to several groups, frames it once.
    pub fn send_frame(&self, frame: &Frame) -> SendReport {
        self.begin_send().send_frame(frame)
    }

    /// Sends a frame as soon as the group has room for it: see
    /// [`GroupSend::send_frame_when_room`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future sends nothing and gives its place among the waiting senders to the next one.
    pub async fn send_frame_when_room(&self, frame: &Frame) -> SendReport {
        self.begin_send().send_frame_when_room(frame).await
    }

    /// Begins a send that leaves one channel out: see [`GroupSend::except`].
    pub fn except(&self, channel: ChannelId) -> GroupSend {
        self.begin_send().except(channel)
    }

    /// Begins a send of the latest value of `key`: see [`GroupSend::key`].
    pub fn key(&self, key: impl Into<Arc<str>>) -> GroupSend {
        self.begin_send().key(key)
    }

    /// Begins a send that the history does not keep: see [`GroupSend::ephemeral`].
    pub fn ephemeral(&self) -> GroupSend {
        self.begin_send().ephemeral()
    }

    /// Begins a send on behalf of a client, if [`may_send`](super::ChannelBoxBuilder::may_send) allows it.
    ///
    /// # Errors
    ///
    /// When the rule refuses this channel for this group.
    pub fn send_as(&self, sender: &Sender) -> Result<GroupSend, Denied> {
        if (self.registry.rules.may_send)(sender, &self.name) {
            Ok(self.begin_send())
        } else {
            Err(Denied::new(&self.name))
        }
    }

    fn begin_send(&self) -> GroupSend {
        self.registry.begin_send(&self.name)
    }

    /// Returns a part of the group's history, the oldest message first; nothing of a group that is not there, or keeps
    /// no history.
    ///
    /// A [`History`] can be serialised:
    /// `{"position":[epoch,offset],"recovered":..,"messages":[{"offset","time","message"}]}`.
    ///
    /// ```
    /// use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Since};
    ///
    /// let limits = HistoryLimits::default().max_messages(2);
    /// let channels = ChannelBox::builder().groups(move |_| GroupOptions::default().history(limits)).build();
    /// let room = channels.group("room");
    /// for text in ["one", "two", "three"] {
    ///     room.send(text)?;
    /// }
    /// let history = room.history(Since::Last(10));
    /// assert_eq!(history.messages.iter().map(|message| message.offset).collect::<Vec<_>>(), [2, 3]);
    ///
    /// assert_eq!(room.clear_history(), 2);
    /// assert!(room.history(Since::Last(10)).messages.is_empty());
    /// # Ok::<(), fanfare::frame::EncodeError>(())
    /// ```
    #[must_use]
    pub fn history(&self, since: Since) -> History {
        self.registry.history(&self.name, since)
    }

    /// Forgets the messages of the history, and returns how many there were.
    ///
    /// Offsets go on from where they are: a client that has seen the last message is still recovered.
    pub fn clear_history(&self) -> usize {
        let Some(group) = self.registry.group(&self.name) else { return 0 };
        let gone = lock(&group.state).history.as_mut().map(|ring| ring.clear());
        gone.map_or(0, |gone| gone.len())
    }

    /// Returns the presence of the group: the users who have [entered](Membership::enter) it.
    ///
    /// ```
    /// use fanfare::channel::{Channel, ChannelOptions, UserId};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let doc = channels.group("doc");
    /// let ada = ChannelOptions::default().user(UserId::new("ada")?);
    /// let (phone, _far_phone) = Channel::in_memory_with(ada.clone());
    /// let (laptop, _far_laptop) = Channel::in_memory_with(ada);
    /// let memberships = [doc.join(&phone)?, doc.join(&laptop)?];
    /// let _here = [memberships[0].enter("phone")?, memberships[1].enter("laptop")?];
    ///
    /// let presence = doc.presence();
    /// assert_eq!(presence.count(), 1);
    /// let users = presence.users();
    /// assert_eq!((users[0].id().as_str(), users[0].connections(), users[0].info_json()), ("ada", 2, "\"laptop\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence(&self) -> Presence {
        Presence::of(&self.rooms, &self.name)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).field("members", &self.member_count()).finish()
    }
}
