//! [`ChannelId`] names a channel, and [`UserId`] names the user behind it.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::Moment;
use crate::sync::Arc;

/// Names a channel: unique within the process, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(
    /// The moment when the channel began.
    Moment,
);

impl ChannelId {
    /// Returns the id of a channel that begins now.
    pub(crate) fn next() -> Self {
        Self(Moment::now())
    }

    /// Returns the moment when the channel began.
    pub(crate) fn birth(self) -> Moment {
        self.0
    }
}

impl Serialize for ChannelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.number().serialize(serializer)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.number().fmt(f)
    }
}

/// The longest id of a user, in bytes.
pub const MAX_USER_ID_LEN: usize = 255;

/// Names a user, who may have many channels: one for each tab and device. Cheap to clone.
///
/// It comes from a source that the server trusts, such as the subject of a token, never from a client's message.
///
/// ```
/// use fanfare::channel::UserId;
///
/// let ada: UserId = "ada".parse()?;
/// assert_eq!(ada, UserId::new("ada")?);
/// assert!(UserId::new("").is_err());
/// # Ok::<(), fanfare::channel::InvalidUserId>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Makes an id.
    ///
    /// # Errors
    ///
    /// When the id is empty, longer than 255 bytes, or has control characters.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidUserId> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_USER_ID_LEN || id.chars().any(char::is_control) {
            return Err(InvalidUserId(id.chars().take(MAX_USER_ID_LEN).collect()));
        }
        Ok(Self(id.into()))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(id: &str) -> Result<Self, InvalidUserId> {
        Self::new(id)
    }
}

impl Deref for UserId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for UserId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A text is not a [`UserId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUserId(String);

impl fmt::Display for InvalidUserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a user id: a user id has 1 to {MAX_USER_ID_LEN} bytes and no control characters", self.0)
    }
}

impl std::error::Error for InvalidUserId {}
