//! [`User`]: the handle to one user's channels and notifications.

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
/// Notifications to the user wait until a client acknowledges them: see [`offline`](super).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let ada = UserId::new("ada")?;
/// let sent = channels.user(&ada).send("while you were out").await?;
/// assert!(sent.queued, "no channel was attached");
///
/// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
/// let attachment = channels.offline().attach(&channel).await?;
/// assert_eq!(far_end.recv().await, Some(FarMessage::Text(r#"{"type":"unread","unread":1}"#.into())));
/// let Some(FarMessage::Text(text)) = far_end.recv().await else { panic!("it waits") };
/// assert!(text.ends_with(r#""data":"while you were out"}"#));
///
/// // The client acknowledges the notification with this message:
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
    /// These channels receive nothing more, not even messages that were sent before. A channel of the user that has not
    /// joined a group yet is refused when it joins, and so is a connection whose request or token was checked before
    /// this call. The check of its token, such as `JwtVerifier::check`, decides whether the user may reconnect.
    /// Notifications in the user's queue stay there.
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

    /// Stores a payload as JSON, and sends it to the attached channels of the user.
    ///
    /// Resolves when the store has committed the notification and a sweep has visited every attached channel.
    /// Concurrent sends share a commit, whichever users they are for: a program with many notifications starts all the
    /// sends before it awaits them.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised or is too large, when the queue or the store is full, and when the store
    /// fails. Then no channel receives the notification now. After a failure of the store it may still be delivered
    /// later, if the store kept it in spite of its error.
    ///
    /// # Cancel safety
    ///
    /// The first poll hands the notification to the writer, unless 4096 operations wait. From then on it is stored and
    /// delivered, even if the future is dropped.
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

    /// Begins a send of another urgency: see [`OfflineSend::urgency`].
    pub fn urgency(&self, urgency: Urgency) -> OfflineSend {
        OfflineSend::new(&self.queues, &self.id).urgency(urgency)
    }

    /// Begins a send that is stored once, even if it is repeated: see [`OfflineSend::idempotency_key`].
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
    /// When the store fails.
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
    /// When the store fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn pending(&self) -> Result<Vec<Notification>, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Read { user, read: Read::Pending { answer } }).await
    }

    /// Acknowledges a notification: after this has returned `Ok`, no channel receives it again.
    ///
    /// All attached channels get an `acked` message. A client's acknowledgement is served by
    /// [`ChannelBox::answer`](crate::group::ChannelBox::answer).
    ///
    /// # Errors
    ///
    /// When the store fails; then the notification may be sent again.
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
    /// assert!(!ada.ack(first.id).await?.known, "it no longer waits");
    /// # Ok(()) }
    /// ```
    pub async fn ack(&self, id: u64) -> Result<Acked, OfflineError> {
        let user = self.id.clone();
        self.queues.ask(0, |error| error, |answer| Command::Ack { user, id, answer }).await
    }

    /// Acknowledges all waiting notifications, and returns how many there were.
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
