//! [`OfflineSend`]: one notification to a user, with its options.

use std::time::Duration;

use serde::Serialize;

use super::error::{MAX_KEY_LEN, NotifyError};
use super::notification::Sent;
use super::queue::Draft;
use super::queues::OfflineQueues;
use super::record::Urgency;
use super::writer::{Command, Stored};
use crate::channel::UserId;
use crate::frame::Frame;
use crate::sync::Arc;

/// A notification in the making: [`User::urgency`](super::User::urgency) and others begin one, `send` sends it.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct OfflineSend {
    queues: OfflineQueues,
    user: UserId,
    urgency: Urgency,
    key: Option<Arc<str>>,
    max_age: Option<Duration>,
}

impl OfflineSend {
    pub(super) fn new(queues: &OfflineQueues, user: &UserId) -> Self {
        Self { queues: queues.clone(), user: user.clone(), urgency: Urgency::default(), key: None, max_age: None }
    }

    /// Sets how much it matters when there is no room for all.
    pub fn urgency(mut self, urgency: Urgency) -> Self {
        self.urgency = urgency;
        self
    }

    /// Sets a key by which a second send is known as the same one, and not done again: for who does not know whether
    /// the first one was.
    ///
    /// Keys are each user's own. One is remembered as long as its notification waits, and after that was acknowledged
    /// up to [`OfflineOptions::max_age`](super::OfflineOptions::max_age) from its send; of those, the latest [`max_messages`](super::OfflineOptions::max_messages).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::UserId;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let ada = channels.user(&UserId::new("ada")?);
    /// let first = ada.idempotency_key("order 17").send("your order is on its way").await?;
    /// let again = ada.idempotency_key("order 17").send("your order is on its way").await?;
    /// assert_eq!((again.id, again.duplicate, ada.unread().await?), (first.id, true, 1));
    /// # Ok(()) }
    /// ```
    pub fn idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the age at which the notification is dropped, where that is less than
    /// [`OfflineOptions::max_age`](super::OfflineOptions::max_age).
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sends a payload: see [`User::send`](super::User::send).
    ///
    /// # Errors
    ///
    /// As [`User::send`](super::User::send); and when the idempotency key is empty or longer than [`MAX_KEY_LEN`].
    ///
    /// # Cancel safety
    ///
    /// As [`User::send`](super::User::send).
    pub async fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<Sent, NotifyError> {
        let draft = self.draft(payload)?;
        let Self { queues, user, .. } = self;
        let len = draft.payload.len();
        let stored = queues.ask(len, NotifyError::of, |answer| Command::Send { user, draft, answer }).await?;
        let Stored { mut sent, report } = stored;
        if let Some(report) = report {
            let delivery = report.settled().await;
            sent.delivered = delivery.written + delivery.queued;
            sent.queued = sent.delivered == 0;
        }
        Ok(sent)
    }

    fn draft<T: Serialize + ?Sized>(&self, payload: &T) -> Result<Draft, NotifyError> {
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY_LEN) {
            return Err(NotifyError::InvalidKey);
        }
        // A frame is how this crate makes JSON; its payload is a part of the same bytes.
        let frame = Frame::json(payload).map_err(NotifyError::Encode)?;
        let payload = frame.bytes().slice_ref(frame.payload());
        let expires_in = self.max_age.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Ok(Draft { payload, urgency: self.urgency, key: self.key.clone(), expires_in })
    }
}
