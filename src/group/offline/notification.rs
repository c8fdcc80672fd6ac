//! Notifications as the program sees them, and what became of them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;

use super::record::{Record, Urgency};
use crate::channel::UserId;
use crate::name::Key;

/// A notification that waits for its user: [`User::pending`](super::User::pending). Serialised, it is what a channel gets: see
/// [`offline`](super).
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

    /// Returns how much it matters.
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
        let payload: &Bytes = self.record.payload.as_ref().expect("what waits has a payload");
        std::str::from_utf8(payload).unwrap_or("null")
    }

    /// Returns the payload.
    ///
    /// # Errors
    ///
    /// When it is no `T`.
    pub fn data<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.json())
    }
}

/// As on the wire: a route that lists what waits, and a channel, tell the same.
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

/// What became of a notification that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Its id; that of the first one, of a duplicate.
    pub id: u64,
    /// How many of the user's attached channels took it: its socket, or its outbox. None, of a duplicate.
    pub delivered: usize,
    /// No connection took it: it waits. Of a duplicate: the first one still waits.
    pub queued: bool,
    /// One of the same idempotency key was sent before: this one was not stored, and nobody gets it.
    pub duplicate: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acked {
    /// It waited until now; false when there is no such, or not any more.
    pub known: bool,
    /// How many the user has still.
    pub unread: usize,
}

/// Emitted when a notification goes without having been acknowledged, where the box has
/// [`events`](crate::group::ChannelBoxBuilder::events).
///
/// The listeners run on the thread of the offline queues: one that takes long holds all of them up, and one that waits
/// for an offline queue waits for ever.
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

/// A notification that has gone without having been acknowledged: see [`OFFLINE_DROPPED`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub(super) user: UserId,
    pub(super) id: u64,
    pub(super) reason: DropReason,
}

impl Dropped {
    /// Returns whose it was.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns why it has gone.
    #[must_use]
    pub fn reason(&self) -> DropReason {
        self.reason
    }
}

/// Why a notification has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was full, and another one mattered as much or more.
    Evicted,
    /// Its time was over.
    Expired,
}
