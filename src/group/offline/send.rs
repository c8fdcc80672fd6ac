//! [`OfflineSend`]: a notification to a user, with options.

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

/// A notification that is being built: [`User::urgency`](super::User::urgency) and others begin it, `send` sends it.
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

    /// Sets its urgency, which counts when the queue is full.
    pub fn urgency(mut self, urgency: Urgency) -> Self {
        self.urgency = urgency;
        self
    }

    /// Sets a key that identifies the notification, so that a repeated send stores it once: for a sender that does not
    /// know whether its first send arrived.
    ///
    /// Keys belong to one user. A key is remembered as long as its notification waits. After the acknowledgement it is
    /// remembered until [`OfflineOptions::max_age`](super::OfflineOptions::max_age) has passed since the send, for the
    /// latest [`max_messages`](super::OfflineOptions::max_messages) acknowledged notifications.
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

    /// Sets the age at which the notification is dropped, if that is less than
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
        // The frame serialises the payload; a slice of its bytes is the JSON.
        let frame = Frame::json(payload).map_err(NotifyError::Encode)?;
        let payload = frame.bytes().slice_ref(frame.payload());
        let expires_in = self.max_age.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Ok(Draft { payload, urgency: self.urgency, key: self.key.clone(), expires_in })
    }
}
