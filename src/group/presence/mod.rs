//! Presence: the users in a group, listed to its members.
//!
//! A member enters with an info. [`Here`] is its presence, and [`Presence`] reads the presence of the whole group.
//! `room` has the presence of one group name and the ticker that sends frames; `roster` is the plain value behind it;
//! `frames` and `budget` make the JSON.

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

/// A member's presence, which ends when this is dropped.
///
/// It also ends with the membership, the channel or its connection. In each case the user has a
/// [grace period](super::GroupOptions::presence_grace) to come back, before the members get a change.
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
    /// Sets the connection's info, which becomes the user's info: a cursor, a status.
    ///
    /// Members get the change within 100 ms; of several changes they get the last.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or has more than 4096 bytes of JSON, or when the presence has ended.
    pub fn update<T: Serialize + ?Sized>(&self, info: &T) -> Result<(), PresenceError> {
        if self.room.update(&self.member, encode(info)?) { Ok(()) } else { Err(PresenceError::NotHere) }
    }

    /// Leaves now, without a grace period. Returns false when the presence had ended before.
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
    /// far_end.recv().await; // the leave counts from the next frame on
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
    /// Makes the member's user present in the group, with an info of up to 4096 bytes of JSON: a name, a colour, the
    /// position of a cursor.
    ///
    /// The channel gets the state, a list of the present users. All members get the changes, at most ten times a
    /// second. Several connections of one user are one entry, with the info that was set last. A member that does not
    /// enter is not listed. It gets the changes too, and may [ask](super::Request::Presence) for the state.
    ///
    /// The call takes some microseconds, however many users are present: a task makes the frames, on a runtime of a
    /// member or the caller's. Without a runtime the call makes them itself, and there is no grace period.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or is too long, when the membership is over or has entered already, and when
    /// the user's id is `#` and a number, the form in which a channel without a user is listed.
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

/// Reads the presence of a group: [`Group::presence`](super::Group::presence). Each call returns the users of that
/// moment.
///
/// A user that has gone is listed until its grace period ends.
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

    /// Returns all users, in the order in which they came. An `enter` waits during the call, so in a large group read
    /// [pages](Self::page).
    #[must_use]
    pub fn users(&self) -> Vec<PresenceUser> {
        self.page(None, usize::MAX).users
    }

    /// Returns up to `limit` users that came after the user `after`; the first users when that user is not present.
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

/// Returns the id of a channel's user; a channel without a user counts as a user of its own.
fn user_id(link: &Link) -> Result<UserId, PresenceError> {
    match &link.options().user {
        Some(user) if is_reserved(user) => Err(PresenceError::ReservedUser),
        Some(user) => Ok(user.clone()),
        None => Ok(UserId::new(format!("#{}", link.id())).expect("a # and a number are a valid id")),
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
