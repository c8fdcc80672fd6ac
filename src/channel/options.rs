//! [`ChannelOptions`]: what is settled about a channel before it begins.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use super::identity::UserId;
use super::link::outbox::OutboxLimits;
use super::link::port::Refresh;
use crate::clock::Moment;
use crate::sync::Arc;

/// What is settled about a channel before it begins: of a connection by
/// [`Upgrade::channel`](crate::ws::Upgrade::channel), of a test by [`Channel::in_memory_with`](super::Channel::in_memory_with).
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
    /// The moment when the server looked at the user, where that was before the channel began.
    pub(crate) identified: Option<Moment>,
    pub(crate) metadata: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) payload_type: PayloadType,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
    /// Checks a new proof of the client's identity.
    pub(crate) refresh: Option<Arc<dyn Refresh>>,
}

/// What a channel takes from its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadType {
    /// Text and bytes, as they come.
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
    /// Sets how much may wait for the client, and what happens past it.
    #[must_use]
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// Sets whose connection it is.
    #[must_use]
    pub fn user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Sets a value of your own that goes with the channel: see [`Channel::metadata`](super::Channel::metadata).
    #[must_use]
    pub fn metadata(mut self, metadata: impl Any + Send + Sync) -> Self {
        self.metadata = Some(Arc::new(metadata));
        self
    }

    /// Sets what the client is to send: whatever the handler receives by, a message of another type is an error
    /// for it. All is taken by default.
    #[must_use]
    pub fn payload_type(mut self, payload_type: PayloadType) -> Self {
        self.payload_type = payload_type;
        self
    }

    /// Sets how long the channel may be idle: when for so long neither its client sends a message nor the server calls
    /// [`touch`](super::Sender::touch), it is closed with code 4408. No limit by default, nor with `None`.
    ///
    /// [`Upgrade::idle_timeout`](crate::ws::Upgrade::idle_timeout) is that of the connection: it counts messages of the
    /// client alone, and closes with code 1001.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Sets how long the channel lives, whatever happens on it: see
    /// [`Sender::set_lifetime`](super::Sender::set_lifetime). No limit by default, nor with `None`.
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
