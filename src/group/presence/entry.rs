//! The public values of presence: a user's entry, a page of users, a change, and the error.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::channel::UserId;
use crate::name::Key;
use crate::sync::Arc;

/// Emitted when a user comes into a group: its first connection [entered](super::super::Membership::enter).
pub const PRESENCE_JOINED: Key<PresenceChange> = Key::new("presence.joined");
/// Emitted when the info or the number of connections of a present user has changed.
pub const PRESENCE_UPDATED: Key<PresenceChange> = Key::new("presence.updated");
/// Emitted when a user has left a group: its last connection is gone, and the grace period has passed.
pub const PRESENCE_LEFT: Key<PresenceChange> = Key::new("presence.left");

/// The longest info of a connection, in bytes of JSON.
pub const MAX_PRESENCE_INFO_LEN: usize = 4096;

/// A user who is present in a group, with one or more connections.
///
/// As JSON it is `{"user":"ada","info":{..},"connections":2,"since":1763700000000}`.
#[derive(Clone, PartialEq, Eq)]
pub struct PresenceUser {
    pub(super) id: UserId,
    /// JSON.
    pub(super) info: Arc<str>,
    pub(super) connections: usize,
    /// In milliseconds since 1970.
    pub(super) since: u64,
}

impl PresenceUser {
    /// Returns the user's id. A channel without a [user](crate::channel::ChannelOptions::user) counts as a user whose
    /// id is `#` and the channel's id.
    #[must_use]
    pub fn id(&self) -> &UserId {
        &self.id
    }

    /// Returns the info that one of the user's connections set last.
    ///
    /// # Errors
    ///
    /// When the info is not a `T`.
    pub fn info<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.info)
    }

    /// Returns the info as JSON.
    #[must_use]
    pub fn info_json(&self) -> &str {
        &self.info
    }

    /// Returns the number of the user's connections. A connection that has gone counts until its grace period ends.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Returns when the user came.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.since)
    }

    /// Returns whether both look the same to clients. Cheap when neither was changed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.connections == other.connections
            && self.since == other.since
            && (Arc::ptr_eq(&self.info, &other.info) || self.info == other.info)
    }
}

impl Serialize for PresenceUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info: serde_json::Value = self.info().map_err(S::Error::custom)?;
        let mut fields = serializer.serialize_struct("PresenceUser", 4)?;
        fields.serialize_field("user", &self.id)?;
        fields.serialize_field("info", &info)?;
        fields.serialize_field("connections", &self.connections)?;
        fields.serialize_field("since", &self.since)?;
        fields.end()
    }
}

impl fmt::Debug for PresenceUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceUser")
            .field("id", &self.id.as_str())
            .field("info", &self.info)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// A part of the users in a group, at one moment: [`Presence::page`](super::Presence::page).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PresencePage {
    /// The number of all users.
    pub count: usize,
    /// The users of the page, in the order in which they came.
    pub users: Vec<PresenceUser>,
    /// More users came after these.
    pub more: bool,
}

/// A change of presence: the payload of [`PRESENCE_JOINED`], [`PRESENCE_UPDATED`] and [`PRESENCE_LEFT`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, Mutex};
/// use fanfare::Dispatcher;
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
/// use fanfare::group::{ChannelBox, PRESENCE_JOINED};
///
/// let (events, seen) = (Dispatcher::new(), Arc::new(Mutex::new(Vec::new())));
/// let here = Arc::clone(&seen);
/// events.on(PRESENCE_JOINED, move |change| {
///     here.lock().unwrap().push(format!("{} is in {}", change.user().id(), change.group()));
/// })?;
/// let channels = ChannelBox::builder().events(&events).build();
/// let (ada, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
/// let membership = channels.join(&ada, "doc")?;
/// let _here = membership.enter(&())?; // outside of a runtime the event is emitted at once
/// assert_eq!(*seen.lock().unwrap(), ["ada is in doc"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PresenceChange {
    pub(super) group: Arc<str>,
    pub(super) user: PresenceUser,
}

impl PresenceChange {
    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the user as it is now, or as it was when it left.
    #[must_use]
    pub fn user(&self) -> &PresenceUser {
        &self.user
    }
}

/// Why a member did not enter, or its info was not set.
#[derive(Debug)]
#[non_exhaustive]
pub enum PresenceError {
    /// The info cannot be serialised.
    Encode(serde_json::Error),
    /// The info is longer than [`MAX_PRESENCE_INFO_LEN`].
    TooLong {
        /// The length of the info, in bytes of JSON.
        len: usize,
        /// The limit: [`MAX_PRESENCE_INFO_LEN`].
        max: usize,
    },
    /// The channel is no longer a member of the group, or has left its presence.
    NotHere,
    /// The membership has entered already.
    AlreadyHere,
    /// The user's id is `#` and a number, the form that is reserved for channels without a user.
    ReservedUser,
}

impl fmt::Display for PresenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(_) => f.write_str("presence info is not serialisable as JSON"),
            Self::TooLong { len, max } => write!(f, "presence info has {len} bytes of JSON, {max} are allowed"),
            Self::NotHere => f.write_str("the channel is not in the group"),
            Self::AlreadyHere => f.write_str("the membership has entered already"),
            Self::ReservedUser => f.write_str("a user whose id is # and a number cannot be present"),
        }
    }
}

impl std::error::Error for PresenceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => Some(error),
            _ => None,
        }
    }
}
