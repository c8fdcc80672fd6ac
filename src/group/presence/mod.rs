//! Presence: the users in a group, listed to its members.
//!
//! A member enters with an info, [`Here`] is its presence, [`Presence`] a look at all of them. `room` has the presence
//! of one group name and the ticker that sends frames; `roster` is the plain value behind it; `frames` and `budget` make
//! the JSON.

mod budget;
mod entry;
mod frames;
mod room;
mod roster;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use entry::{
    MAX_PRESENCE_INFO_LEN, PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, PresenceChange, PresenceError,
    PresencePage, PresenceUser,
};

pub(crate) use self::room::Rooms;
use self::room::{Room, grace};
use self::roster::{Roster, is_reserved};
use super::delivery::state::Member;
use super::membership::Membership;
use crate::channel::{Link, UserId};
use crate::sync::Arc;

/// A member's presence: it leaves when this is dropped.
///
/// The end of the membership, the channel or its connection ends it too. In each case the user has
/// [a while](super::GroupOptions::presence_grace) to come back before anybody is told.
///
/// ```
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
/// let membership = channels.join(&channel, "doc")?;
/// let here = membership.enter(&"reading")?;
/// here.update(&"writing")?;
/// assert_eq!(channels.group("doc").presence().users()[0].info::<String>()?, "writing");
///
/// drop(here);
/// assert_eq!((channels.group("doc").presence().count(), channels.group("doc").member_count()), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the user leaves when this is dropped"]
pub struct Here {
    member: Arc<Member>,
    room: Arc<Room>,
}

impl Here {
    /// Sets the connection's info, which becomes that of its user: a cursor, a status.
    ///
    /// Members are told within 100 ms, of the last of several.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or has more than 4096 bytes of JSON, or this has left.
    pub fn update<T: Serialize + ?Sized>(&self, info: &T) -> Result<(), PresenceError> {
        if self.room.update(&self.member, encode(info)?) { Ok(()) } else { Err(PresenceError::NotHere) }
    }

    /// Leaves now: nobody waits for the user to come back. False when it was left before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let membership = channels.join(&channel, "doc")?;
    /// let here = membership.enter(&())?;
    /// assert!(here.leave());
    /// far_end.recv().await; // what is told, it comes with the next frame
    /// assert_eq!(channels.group("doc").presence().count(), 0);
    /// # Ok(()) }
    /// ```
    pub fn leave(self) -> bool {
        self.room.leave(&self.member, Duration::ZERO)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.room.leave(&self.member, grace(&self.member));
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("group", &self.room.name()).field("channel", &self.member.channel).finish()
    }
}

impl Membership {
    /// Makes the member's user present in the group, with an info of up to 4096 bytes of JSON: a name, a colour,
    /// where its cursor is.
    ///
    /// The channel gets the state: who is here. All members get what changes, at most ten times a second. Several
    /// connections of one user are one entry, with the info that was set last. Who does not enter is a member that
    /// nobody sees, and gets the changes too; it may [ask](super::Request::Presence) for the state.
    ///
    /// This costs its caller some microseconds, however many are here: the frames are made by a task, on a runtime
    /// of a member or the caller's. Without any it is done here, at once, and a user that leaves is not waited for.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or is too long, the membership is over or has entered already, or the
    /// user's id is `#` and a number, which is how a channel without a user is listed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
    /// use fanfare::group::ChannelBox;
    /// use serde_json::{Value, json};
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
    /// let membership = channels.join(&channel, "doc")?;
    /// let _here = membership.enter(&json!({ "colour": "red" }))?;
    ///
    /// let state = loop {
    ///     let Some(FarMessage::Text(text)) = far_end.recv().await else { panic!("the channel is open") };
    ///     let frame: Value = serde_json::from_str(&text)?;
    ///     if frame["type"] == "presence" {
    ///         break frame;
    ///     }
    /// };
    /// assert_eq!((&state["count"], &state["users"][0]["user"]), (&json!(1), &json!("ada")));
    /// assert_eq!(state["users"][0]["info"]["colour"], "red");
    /// # Ok(()) }
    /// ```
    pub fn enter<T: Serialize + ?Sized>(&self, info: &T) -> Result<Here, PresenceError> {
        let member = self.member();
        let info = encode(info)?;
        let link = member.link.upgrade().ok_or(PresenceError::NotHere)?;
        let user = user_id(&link)?;
        let room = self.rooms().and_then(|rooms| rooms.room_of(member)).ok_or(PresenceError::NotHere)?;
        room.enter(member, &user, info)?;
        Ok(Here { member: Arc::clone(member), room })
    }
}

/// A look at who is present in a group: [`Group::presence`](super::Group::presence). What it returns is as of the moment of the call.
///
/// A user that has gone is among the others until its time to come back is over.
#[derive(Clone)]
pub struct Presence {
    room: Option<Arc<Room>>,
}

impl Presence {
    pub(super) fn of(rooms: &Rooms, group: &str) -> Self {
        Self { room: rooms.find(group) }
    }

    /// Returns the number of users.
    #[must_use]
    pub fn count(&self) -> usize {
        self.room.as_ref().map_or(0, |room| room.read(Roster::len))
    }

    /// Returns all users, in the order in which they came. Who enters meanwhile waits: of a large group better ask
    /// for pages.
    #[must_use]
    pub fn users(&self) -> Vec<PresenceUser> {
        self.page(None, usize::MAX).users
    }

    /// Returns up to `limit` users that came after `after`; from the beginning when that user is not here.
    ///
    /// ```
    /// use fanfare::channel::Channel;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let clients: Vec<_> = (0..5).map(|_| Channel::in_memory()).collect();
    /// let memberships: Vec<_> = clients.iter().flat_map(|(near, _)| channels.join(near, "doc")).collect();
    /// let _here: Vec<_> = memberships.iter().flat_map(|membership| membership.enter(&())).collect();
    ///
    /// let first = channels.group("doc").presence().page(None, 3);
    /// assert_eq!((first.count, first.users.len(), first.more), (5, 3, true));
    /// let rest = channels.group("doc").presence().page(Some(first.users[2].id()), 3);
    /// assert_eq!((rest.count, rest.users.len(), rest.more), (5, 2, false));
    /// ```
    #[must_use]
    pub fn page(&self, after: Option<&str>, limit: usize) -> PresencePage {
        let nobody = PresencePage { count: 0, users: Vec::new(), more: false };
        self.room.as_ref().map_or(nobody, |room| room.read(|roster| roster.page(after, limit, None)))
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("count", &self.count()).finish_non_exhaustive()
    }
}

fn encode<T: Serialize + ?Sized>(info: &T) -> Result<Arc<str>, PresenceError> {
    let info = serde_json::to_string(info).map_err(PresenceError::Encode)?;
    let (len, max) = (info.len(), MAX_PRESENCE_INFO_LEN);
    if len > max { Err(PresenceError::TooLong { len, max }) } else { Ok(info.into()) }
}

/// Returns who a channel's user is; one without any is a user of its own.
fn user_id(link: &Link) -> Result<UserId, PresenceError> {
    match &link.options().user {
        Some(user) if is_reserved(user) => Err(PresenceError::ReservedUser),
        Some(user) => Ok(user.clone()),
        None => Ok(UserId::new(format!("#{}", link.id())).expect("it is short and plain")),
    }
}

#[cfg(test)]
mod tests {
    use crate::channel::Channel;
    use crate::group::{ChannelBox, GroupOptions, HistoryLimits};

    #[test]
    fn no_room_is_left_of_a_group_whose_history_went() {
        let channels =
            ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
        let (channel, mut far_end) = Channel::in_memory();
        for number in 0..11_000 {
            let membership = channels.join(&channel, format!("doc {number}")).expect("it is open");
            let here = membership.enter("here").expect("it is small");
            channels.group_send(format!("doc {number}"), "x").expect("a string is json");
            drop((here, membership));
            while far_end.try_recv().is_some() {}
        }
        assert_eq!((channels.stats().groups, channels.rooms.len()), (10_000, 10_000));
    }
}
