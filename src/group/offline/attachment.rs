//! [`Attachment`]: a channel gets what is sent to its user as long as this value lives.

use std::fmt;

use super::error::AttachError;
use super::queues::OfflineQueues;
use super::user::User;
use super::writer::{Command, Read};
use crate::channel::{Channel, ChannelId};
use crate::group::delivery::member::Seat;
use crate::sync::Arc;

impl OfflineQueues {
    /// Attaches a channel to its user's offline queue: it is told the number of those that wait, gets all of them in
    /// order, and then what is sent to the user, until the [`Attachment`] or the channel is dropped.
    ///
    /// All that waits goes out at once: a client whose outbox that overflows is closed with code 1013 and comes back.
    ///
    /// # Errors
    ///
    /// When the channel has no user, is attached already, is closed, or is in 1024 groups; when its user was
    /// [revoked](User::revoke) since it began; and when the store has an error.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the channel is not attached. It may have got what waits.
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
/// The end of the channel, or of its connection, ends it too.
#[must_use = "the channel gets no more notifications when this is dropped"]
pub struct Attachment {
    user: User,
    seat: Seat,
}

impl Attachment {
    /// Returns the user whose queue it is.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.seat.member().channel
    }

    /// Detaches the channel now; false when it was before, or has ended. What was sent before is still delivered.
    pub fn detach(&self) -> bool {
        self.seat.end()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("user", self.user.id()).field("channel", &self.channel()).finish()
    }
}
