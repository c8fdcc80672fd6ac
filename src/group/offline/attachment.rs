//! [`Attachment`]: a channel receives its user's notifications as long as this value lives.

use std::fmt;

use super::error::AttachError;
use super::queues::OfflineQueues;
use super::user::User;
use super::writer::{Command, Read};
use crate::channel::{Channel, ChannelId};
use crate::group::delivery::member::Seat;
use crate::sync::Arc;

impl OfflineQueues {
    /// Attaches a channel to its user's offline queue, until the [`Attachment`] or the channel is dropped.
    ///
    /// The channel first receives the number of waiting notifications, then each of them in order, and from then on
    /// every new one. All waiting notifications are sent at once. If they overflow the channel's outbox, the channel is
    /// closed with code 1013, and the client reconnects.
    ///
    /// # Errors
    ///
    /// When the channel has no user, is attached already, is closed, or is in 1024 groups; when its user was
    /// [revoked](User::revoke) since the channel began; and when the store fails.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the channel is not attached. It may have received the waiting notifications.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::{Channel, ChannelOptions, UserId};
    /// use fanfare::group::ChannelBox;
    /// use fanfare::group::offline::AttachError;
    ///
    /// let channels = ChannelBox::new();
    /// let (stranger, _far_end) = Channel::in_memory();
    /// assert!(matches!(channels.offline().attach(&stranger).await, Err(AttachError::NoUser)));
    ///
    /// let ada = UserId::new("ada")?;
    /// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
    /// let attachment = channels.offline().attach(&channel).await?;
    /// assert!(!channels.user(&ada).send("hello").await?.queued, "the channel took it");
    /// drop(attachment);
    /// assert!(channels.user(&ada).send("hello?").await?.queued);
    /// # Ok(()) }
    /// ```
    pub async fn attach(&self, channel: &Channel) -> Result<Attachment, AttachError> {
        let user = channel.user().ok_or(AttachError::NoUser)?.clone();
        if !self.registry().add(channel) {
            return Err(AttachError::Denied);
        }
        let link = Arc::clone(channel.link());
        let attach = |answer| Command::Read { user: user.clone(), read: Read::Attach { link, answer } };
        let seat = self.ask(0, AttachError::Offline, attach).await?;
        Ok(Attachment { user: User::new(self, &user), seat })
    }
}

/// Keeps a channel attached to its user's offline queue: [`OfflineQueues::attach`].
///
/// The attachment also ends with the channel or its connection.
#[must_use = "the channel gets no more notifications when this is dropped"]
pub struct Attachment {
    user: User,
    seat: Seat,
}

impl Attachment {
    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.seat.member().channel
    }

    /// Detaches the channel now; returns false when it was detached or had ended before. Notifications sent before are
    /// still delivered.
    pub fn detach(&self) -> bool {
        self.seat.end()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("user", self.user.id()).field("channel", &self.channel()).finish()
    }
}
