//! [`ChannelOptions`]: the settings of a channel before it begins.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use super::identity::UserId;
use super::link::outbox::OutboxLimits;
use super::link::port::Refresh;
use crate::clock::Moment;
use crate::sync::Arc;

/// The settings of a channel before it begins: passed to [`Upgrade::channel`](crate::ws::Upgrade::channel) for a
/// connection, to [`Channel::in_memory_with`](super::Channel::in_memory_with) for a test.
///
/// ```
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
///
/// struct Plan { seats: u32 }
///
/// let options = ChannelOptions::default().user(UserId::new("ada")?).metadata(Plan { seats: 3 });
/// let (channel, _far_end) = Channel::in_memory_with(options);
/// assert_eq!(channel.user().map(UserId::as_str), Some("ada"));
/// assert_eq!(channel.metadata::<Plan>().map(|plan| plan.seats), Some(3));
/// # Ok::<(), fanfare::channel::InvalidUserId>(())
/// ```
#[derive(Clone, Default)]
pub struct ChannelOptions {
    pub(crate) outbox: OutboxLimits,
    pub(crate) user: Option<UserId>,
    /// The moment when the server identified the user, if that was before the channel began.
    pub(crate) identified: Option<Moment>,
    pub(crate) metadata: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) payload_type: PayloadType,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    /// Checks a client's new token.
    pub(crate) refresh: Option<Arc<dyn Refresh>>,
}

/// The type of message that a channel accepts from its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadType {
    /// Text and bytes.
    #[default]
    Any,
    /// Text that is JSON.
    Json,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

impl ChannelOptions {
    /// Sets the limits of the channel's outbox, and what happens past them.
    #[must_use]
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// Sets the channel's user.
    #[must_use]
    pub fn user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Attaches a value of your own to the channel: see [`Channel::metadata`](super::Channel::metadata).
    #[must_use]
    pub fn metadata(mut self, metadata: impl Any + Send + Sync) -> Self {
        self.metadata = Some(Arc::new(metadata));
        self
    }

    /// Sets the type of message that the channel accepts; by default it accepts all. Every method that receives returns
    /// an error for a message of another type.
    #[must_use]
    pub fn payload_type(mut self, payload_type: PayloadType) -> Self {
        self.payload_type = payload_type;
        self
    }

    /// Sets how long the channel may be idle. When for that time neither its client sends a message nor the server
    /// calls [`touch`](super::Sender::touch), the channel is closed with code 4408. By default, or with `None`, there
    /// is no limit.
    ///
    /// [`Upgrade::idle_timeout`](crate::ws::Upgrade::idle_timeout) is the timeout of the connection: it counts only the
    /// client's messages, and closes with code 1001.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Sets how long the channel lives, whether or not it is active: see
    /// [`Sender::set_lifetime`](super::Sender::set_lifetime). By default, or with `None`, there is no limit.
    #[must_use]
    pub fn lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetime = lifetime.into();
        self
    }
}

impl From<OutboxLimits> for ChannelOptions {
    fn from(limits: OutboxLimits) -> Self {
        Self::default().outbox(limits)
    }
}

impl fmt::Debug for ChannelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelOptions")
            .field("outbox", &self.outbox)
            .field("user", &self.user)
            .field("metadata", &self.metadata.is_some())
            .field("payload_type", &self.payload_type)
            .field("idle_timeout", &self.idle_timeout)
            .field("lifetime", &self.lifetime)
            .finish()
    }
}
