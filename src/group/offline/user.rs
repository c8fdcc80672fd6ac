//! [`User`]: everything that a program does with one user.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::error::{NotifyError, OfflineError};
use super::notification::{Acked, Notification, Sent};
use super::queues::OfflineQueues;
use super::record::Urgency;
use super::send::OfflineSend;
use super::writer::{Command, Read};
use crate::channel::{ChannelId, UserId};
use crate::sync::Arc;

/// One user of a box, connected or not: [`ChannelBox::user`](crate::group::ChannelBox::user). Cheap to clone.
///
/// Notifications to the user wait until they are acknowledged: see [`offline`](super).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let ada = UserId::new("ada")?;
/// let sent = channels.user(&ada).send("while you were out").await?;
/// assert!(sent.queued, "nobody was there");
///
/// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
/// let attachment = channels.offline().attach(&channel).await?;
/// assert_eq!(far_end.recv().await, Some(FarMessage::Text(r#"{"type":"unread","unread":1}"#.into())));
/// let Some(FarMessage::Text(text)) = far_end.recv().await else { panic!("it waits") };
/// assert!(text.ends_with(r#""data":"while you were out"}"#));
///
/// // What the client sends to acknowledge it, as the channel receives it:
/// let ack = format!(r#"{{"type":"ack","notification_id":{}}}"#, sent.id);
/// assert!(channels.answer(&channel.sender(), &ack).await?);
/// assert_eq!(channels.user(&ada).unread().await?, 0);
/// # Ok(()) }
/// ```

#[derive(Clone)]
pub struct User {
    queues: OfflineQueues,
    id: UserId,
}

impl User {
    pub(crate) fn new(queues: &OfflineQueues, id: &UserId) -> Self {
        Self { queues: queues.clone(), id: id.clone() }
    }

    /// Returns the user's id.
    #[must_use]
    pub fn id(&self) -> &UserId {
        &self.id
    }

    /// Returns the user's channels that the box knows, in the order in which it came to know them.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelId> {
        self.queues.registry().users.channels(&self.id)
    }

    /// Closes all channels of the user with code 4403, takes them out of every group, and returns how many there were.
    ///
    /// These channels get nothing more, not even messages that were sent before. A channel of the user that has begun
    /// and not joined yet is refused when it joins, and so is a connection whose request, or token, was checked before
    /// this call. Whether the user may come back is for the check of its token to decide, such as `JwtVerifier::check`.
    /// Notifications in its queue stay there.
    ///
    /// ```
    /// use fanfare::channel::{Channel, ChannelOptions, CloseCode, FarMessage, UserId};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let mallory = UserId::new("mallory")?;
    /// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(mallory.clone()));
    /// let _membership = channels.join(&channel, "room")?;
    /// assert_eq!(channels.user(&mallory).channels(), [channel.id()]);
    ///
    /// assert_eq!(channels.user(&mallory).revoke(), 1);
    /// assert_eq!(channels.group("room").member_count(), 0);
    /// assert!(matches!(far_end.try_recv(), Some(FarMessage::Close { code: CloseCode::REVOKED, .. })));
    /// assert!(channels.join(&channel, "other room").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn revoke(&self) -> usize {
        self.queues.registry().revoke(&self.id)
    }

    /// Stores a payload, as JSON, and hands it to the channels of the user that are attached.
    ///
    /// Resolves when the store has it for good, and every attached channel has been visited. Many that are sent at the
    /// same time, to whatever users, share a commit: who has many to send does not wait for one after the other.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised or is too large, when something is full, and when the store has an
    /// error. Then nobody gets it; after an error of the store, that is as sure as the store is.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the notification may be stored and delivered still, and will be once it has been
    /// handed in: which is at the first poll, unless 4096 others wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::UserId;
    /// use fanfare::group::ChannelBox;
    /// use futures_util::future::try_join_all;
    ///
    /// let channels = ChannelBox::new();
    /// let ada = channels.user(&UserId::new("ada")?);
    /// let sent = try_join_all([1, 2, 3].iter().map(|n| ada.send(n))).await?; // in one commit, or two
    /// assert!(sent.is_sorted_by_key(|sent| sent.id));
    /// assert_eq!(ada.unread().await?, 3);
    /// # Ok(()) }
    /// ```
    pub async fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<Sent, NotifyError> {
        OfflineSend::new(&self.queues, &self.id).send(payload).await
    }

    /// Starts a send that matters more or less than others.
    pub fn urgency(&self, urgency: Urgency) -> OfflineSend {
        OfflineSend::new(&self.queues, &self.id).urgency(urgency)
    }

    /// Starts a send that is done once, though it may be asked for again: see [`OfflineSend::idempotency_key`].
    pub fn idempotency_key(&self, key: impl Into<Arc<str>>) -> OfflineSend {
        OfflineSend::new(&self.queues, &self.id).idempotency_key(key)
    }

    /// Begins a send of a notification that is dropped at this age: see [`OfflineSend::max_age`].
    pub fn max_age(&self, age: Duration) -> OfflineSend {
        OfflineSend::new(&self.queues, &self.id).max_age(age)
    }

    /// Returns how many notifications wait for the user.
    ///
    /// # Errors
    ///
    /// When the store has an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn unread(&self) -> Result<usize, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Read { user, read: Read::Unread { answer } }).await
    }

    /// Returns the notifications that wait for the user, by rising ids.
    ///
    /// # Errors
    ///
    /// When the store has an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn pending(&self) -> Result<Vec<Notification>, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Read { user, read: Read::Pending { answer } }).await
    }

    /// Takes note that the user has a notification: once this has returned `Ok`, no channel gets it any more. All
    /// attached channels are told.
    ///
    /// For what a client asks for there is [`ChannelBox::answer`](crate::group::ChannelBox::answer).
    ///
    /// # Errors
    ///
    /// When the store has an error; then it may come again.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::UserId;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let ada = channels.user(&UserId::new("ada")?);
    /// let (first, _second) = (ada.send("one").await?, ada.send("two").await?);
    /// let acked = ada.ack(first.id).await?;
    /// assert_eq!((acked.known, acked.unread), (true, 1));
    /// assert!(!ada.ack(first.id).await?.known, "it does not wait any more");
    /// # Ok(()) }
    /// ```
    pub async fn ack(&self, id: u64) -> Result<Acked, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Ack { user, id, answer }).await
    }

    /// Acknowledges all that waits, and returns how many that were.
    ///
    /// # Errors
    ///
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn clear(&self) -> Result<usize, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Clear { user, answer }).await
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}
