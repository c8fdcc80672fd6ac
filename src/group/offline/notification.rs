//! [`Notification`], and the results of sending, acknowledging and dropping one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;

use super::record::{Record, Urgency};
use crate::channel::UserId;
use crate::name::Key;

/// A notification that waits for its user: [`User::pending`](super::User::pending).
///
/// Serialised, it is the JSON message that a channel receives: see [`offline`](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    record: Record,
}

impl Notification {
    pub(super) fn new(record: Record) -> Self {
        Self { record }
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Returns its urgency.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        self.record.urgency
    }

    /// Returns when it was sent, to the millisecond.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.record.time)
    }

    /// Returns its idempotency key.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.record.key.as_deref()
    }

    /// Returns the payload as JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        let payload: &Bytes = self.record.payload.as_ref().expect("a waiting record has a payload");
        std::str::from_utf8(payload).unwrap_or("null")
    }

    /// Returns the payload.
    ///
    /// # Errors
    ///
    /// When the payload is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.json())
    }
}

/// As on the wire: a route that lists waiting notifications returns the same JSON as a channel sends.
impl Serialize for Notification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(tag = "type", rename = "notification")]
        struct Wire<'a> {
            notification_id: u64,
            priority: Urgency,
            time: u64,
            data: &'a RawValue,
        }
        let Record { id: notification_id, time, urgency: priority, .. } = self.record;
        let data = serde_json::from_str(self.json()).map_err(ser::Error::custom)?;
        Wire { notification_id, priority, time, data }.serialize(serializer)
    }
}

/// The outcome of sending a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The notification's id; for a duplicate, the id of the first one.
    pub id: u64,
    /// How many of the user's attached channels took it, into the socket or the outbox; 0 for a duplicate.
    pub delivered: usize,
    /// No channel took the notification, so it waits. For a duplicate: the first one still waits.
    pub queued: bool,
    /// A notification with the same idempotency key was sent before. This one is neither stored nor delivered.
    pub duplicate: bool,
}

/// The outcome of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acked {
    /// The notification was waiting; false when the id is unknown, or was acknowledged or dropped before.
    pub known: bool,
    /// How many notifications still wait for the user.
    pub unread: usize,
}

/// Emitted when a notification is dropped before it was acknowledged, if the box has
/// [`events`](crate::group::ChannelBoxBuilder::events).
///
/// Listeners run on the thread of the offline queues. A slow listener delays all queues, and a listener that waits for
/// an offline queue deadlocks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::mpsc;
/// use fanfare::Dispatcher;
/// use fanfare::channel::UserId;
/// use fanfare::group::ChannelBox;
/// use fanfare::group::offline::{DropReason, OFFLINE_DROPPED, OfflineOptions};
///
/// let (tell, told) = mpsc::channel();
/// let events = Dispatcher::new();
/// events.on(OFFLINE_DROPPED, move |dropped| drop(tell.send(dropped.clone())))?;
/// let channels = ChannelBox::builder().events(&events).offline(OfflineOptions::default().max_messages(1)).build();
/// let ada = channels.user(&UserId::new("ada")?);
/// let first = ada.send("one").await?;
/// ada.send("two").await?;
/// let dropped = told.recv()?;
/// assert_eq!((dropped.id(), dropped.reason()), (first.id, DropReason::Evicted));
/// # Ok(()) }
/// ```
pub const OFFLINE_DROPPED: Key<Dropped> = Key::new("offline.dropped");

/// A notification that was dropped before it was acknowledged: see [`OFFLINE_DROPPED`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub(super) user: UserId,
    pub(super) id: u64,
    pub(super) reason: DropReason,
}

impl Dropped {
    /// Returns the user to whom it was sent.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns why it was dropped.
    #[must_use]
    pub fn reason(&self) -> DropReason {
        self.reason
    }
}

/// Why a notification was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was full, and a notification of the same or higher urgency took its place.
    Evicted,
    /// It was too old.
    Expired,
}
