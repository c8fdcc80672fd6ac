//! Offline queues: what is sent to a user waits until it is acknowledged, whether or not somebody is connected.
//!
//! [`ChannelBox::user`] names the user. [`User::send`] returns when the notification is in the
//! [store](OfflineStore), and says by [`Sent::queued`] whether anybody was there to take it. It goes to every channel
//! of the user that is [attached](ChannelBox::attach); one that attaches later first gets all that still waits, in
//! order, and then what comes. Any of them acknowledges for all.
//!
//! **At least once.** A client gets a notification again at every attachment until it is acknowledged, and tells
//! copies by their id. Ids are unique in a store and rise with time, also from one process to the next whose store has
//! forgotten them, as the one in memory does. Who sends again because the answer got lost
//! gives both sends the same [`idempotency_key`](User::idempotency_key).
//!
//! **Order.** All that is done with the queues of one box has one order, in which it is stored, delivered and answered.
//! So a user's notifications arrive by rising ids. With what goes through groups there is none.
//!
//! **Bounds.** A queue is bounded by count, bytes and age: see [`OfflineOptions`]. What is dropped for others, or because
//! it is too old, is told to [`OFFLINE_DROPPED`] and [counted](ChannelBox::offline_counts).
//!
//! **On the wire** (JSON text; the client answers with the last):
//!
//! ```json
//! {"type":"unread","unread":1}
//! {"type":"notification","notification_id":17,"priority":"normal","time":1763700000000,"data":{"any":"json"}}
//! {"type":"acked","notification_id":17,"unread":0}
//! {"type":"error","error":"no such notification waits","notification_id":18}
//! ```
//! ```json
//! {"type":"ack","notification_id":17}
//! ```
//!
//! The queues have a thread of their own per box, since stores block: see `writer`.

mod error;
mod options;
mod queue;
#[cfg(feature = "redb")]
mod redb;
mod store;
mod wire;
mod writer;

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer, ser};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

pub use error::{AttachError, NotifyError, OfflineError};
pub use options::OfflineOptions;
#[cfg(feature = "redb")]
pub use redb::{RedbOpenError, RedbStore};
pub use store::{Change, InvalidRecord, MemoryStore, OfflineStore, Record, StoreState, Urgency};

use self::queue::Draft;
use self::writer::{Command, Commands, Read, Stored};
use super::delivery::member::Place;
use super::{ChannelBox, Shared};
use crate::Key;
use crate::channel::{Channel, ChannelId, UserId};
use crate::frame::Frame;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, OnceLock, Weak, lock};

/// The longest idempotency key, in bytes.
pub const MAX_KEY_LEN: usize = 128;

/// Emitted when a notification goes without having been acknowledged, where the box has
/// [`events`](super::ChannelBoxBuilder::events).
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
/// let channels = ChannelBox::builder().events(&events).offline(OfflineOptions::default().max_count(1)).build();
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
    user: UserId,
    id: u64,
    reason: DropReason,
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

/// The offline queues of one box.
pub(super) struct Offline {
    /// Until the first command.
    options: Mutex<Option<OfflineOptions>>,
    commands: OnceLock<Commands>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    stored: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    acked: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

/// Counts what became of notifications, since the box began: [`ChannelBox::offline_counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OfflineCounts {
    /// Sends that were stored.
    pub stored: u64,
    /// Sends whose idempotency key was known.
    pub duplicates: u64,
    /// Sends that were refused because something was full.
    pub refused: u64,
    /// Notifications that were acknowledged.
    pub acked: u64,
    /// Notifications that made room for others.
    pub evicted: u64,
    /// Notifications whose time was over. They are found some time after.
    pub expired: u64,
}

impl Offline {
    pub(super) fn new(options: Option<OfflineOptions>) -> Self {
        Self { options: Mutex::new(options), commands: OnceLock::new(), counters: Arc::default() }
    }

    fn commands(&self, shared: impl FnOnce() -> Weak<Shared>) -> &Commands {
        self.commands.get_or_init(|| {
            let options = lock(&self.options).take().unwrap_or_default();
            Commands::new(options, shared(), Arc::clone(&self.counters))
        })
    }
}

impl ChannelBox {
    /// Names a user: what is sent to it waits in its offline queue until it is acknowledged. See [`offline`](self).
    ///
    /// The queues are in memory unless [`ChannelBoxBuilder::offline`](super::ChannelBoxBuilder::offline) says
    /// otherwise.
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
    /// let attachment = channels.attach(&channel).await?;
    /// assert_eq!(far_end.recv().await, Some(FarMessage::Text(r#"{"type":"unread","unread":1}"#.into())));
    /// let Some(FarMessage::Text(text)) = far_end.recv().await else { panic!("it waits") };
    /// assert!(text.ends_with(r#""data":"while you were out"}"#));
    ///
    /// // What the client sends to acknowledge it, as the channel receives it:
    /// let ack = format!(r#"{{"type":"ack","notification_id":{}}}"#, sent.id);
    /// assert!(channels.take_request(&channel.sender(), &ack).await?);
    /// assert_eq!(channels.user(&ada).unread().await?, 0);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn user(&self, user: &UserId) -> User {
        User { channels: self.clone(), id: user.clone() }
    }

    /// Attaches a channel to its user's offline queue: it is told the number of those that wait, gets all of them in
    /// order, and then what is sent to the user, until the [`Attachment`] or the channel is dropped.
    ///
    /// All that waits goes out at once: a client whose outbox that overflows is closed with code 1013 and comes back.
    ///
    /// # Errors
    ///
    /// When the channel has no user, is attached already, is closed, or is in 1024 groups; when its user was
    /// [revoked](Self::revoke) since it began; and when the store has an error.
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
    /// assert!(matches!(channels.attach(&stranger).await, Err(AttachError::NoUser)));
    ///
    /// let ada = UserId::new("ada")?;
    /// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
    /// let attachment = channels.attach(&channel).await?;
    /// assert!(!channels.user(&ada).send("hello").await?.queued, "the channel took it");
    /// drop(attachment);
    /// assert!(channels.user(&ada).send("hello?").await?.queued);
    /// # Ok(()) }
    /// ```
    pub async fn attach(&self, channel: &Channel) -> Result<Attachment, AttachError> {
        let user = channel.user().ok_or(AttachError::NoUser)?.clone();
        if !self.add(channel) {
            return Err(AttachError::Denied);
        }
        let out = Arc::clone(channel.out());
        self.ask(0, AttachError::Offline, |answer| Command::Read { user, read: Read::Attach { out, answer } }).await
    }

    /// Counts what became of notifications, since this box began.
    #[must_use]
    pub fn offline_counts(&self) -> OfflineCounts {
        let counters = &self.shared.offline.counters;
        // Relaxed: only the numbers themselves matter.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OfflineCounts {
            stored: count(&counters.stored),
            duplicates: count(&counters.duplicates),
            refused: count(&counters.refused),
            acked: count(&counters.acked),
            evicted: count(&counters.evicted),
            expired: count(&counters.expired),
        }
    }

    /// Ends the offline queues of this box, and resolves when what was asked of them before is done and the store is
    /// dropped. What is asked later is refused.
    ///
    /// They end by themselves when the box is dropped, some time after. This is for who has to know: to open the same
    /// store again, or before the process ends.
    ///
    /// # Cancel safety
    ///
    /// Once the future has been polled, dropping it changes nothing but, when 4096 others wait, that it may not have
    /// been heard.
    pub async fn close_offline(&self) {
        let (answer, answered) = oneshot::channel();
        if self.commands().submit(0, Command::Stop { answer }).await.is_ok() {
            // An error means that it has ended, by somebody else's wish.
            _ = answered.await;
        }
    }

    fn commands(&self) -> &Commands {
        self.shared.offline.commands(|| Arc::downgrade(&self.shared))
    }

    /// Has a command done, and returns its answer.
    async fn ask<T, E>(
        &self,
        len: usize,
        error: fn(OfflineError) -> E,
        command: impl FnOnce(writer::Answer<T, E>) -> Command,
    ) -> Result<T, E> {
        let (answer, answered) = oneshot::channel();
        let stopped = || error(OfflineError::Stopped);
        self.commands().submit(len, command(answer)).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// One user of a box, whose notifications wait until they are acknowledged: [`ChannelBox::user`]. Cheap to clone.
#[derive(Clone)]
pub struct User {
    channels: ChannelBox,
    id: UserId,
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

impl User {
    /// Returns the user's id.
    #[must_use]
    pub fn id(&self) -> &UserId {
        &self.id
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
        OfflineSend::new(self).send(payload).await
    }

    /// Starts a send that matters more or less than others.
    pub fn urgency(&self, urgency: Urgency) -> OfflineSend {
        OfflineSend::new(self).urgency(urgency)
    }

    /// Starts a send that is done once, though it may be asked for again: see [`OfflineSend::idempotency_key`].
    pub fn idempotency_key(&self, key: impl Into<Arc<str>>) -> OfflineSend {
        OfflineSend::new(self).idempotency_key(key)
    }

    /// Starts a send of what is worth nothing after a while.
    pub fn expires_in(&self, time: Duration) -> OfflineSend {
        OfflineSend::new(self).expires_in(time)
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
        self.channels.ask(0, |error| error, |answer| Command::Read { user, read: Read::Unread { answer } }).await
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
        self.channels.ask(0, |error| error, |answer| Command::Read { user, read: Read::Pending { answer } }).await
    }

    /// Takes note that the user has a notification: once this has returned `Ok`, no channel gets it any more. All
    /// attached channels are told.
    ///
    /// For what a client asks for there is [`ChannelBox::take_request`].
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
        self.channels.ask(0, |error| error, |answer| Command::Ack { user, id, answer }).await
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
        self.channels.ask(0, |error| error, |answer| Command::Clear { user, answer }).await
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A notification in the making: [`User::urgency`] and others begin one, `send` sends it.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct OfflineSend {
    user: User,
    urgency: Urgency,
    key: Option<Arc<str>>,
    expires_in: Option<Duration>,
}

impl OfflineSend {
    fn new(user: &User) -> Self {
        Self { user: user.clone(), urgency: Urgency::default(), key: None, expires_in: None }
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
    /// up to [`OfflineOptions::max_age`] from its send; of those, the latest [`OfflineOptions::max_count`].
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

    /// Sets after how long it is worth nothing any more, where that is sooner than [`OfflineOptions::max_age`].
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Sends a payload: see [`User::send`].
    ///
    /// # Errors
    ///
    /// As [`User::send`]; and when the idempotency key is empty or longer than [`MAX_KEY_LEN`].
    ///
    /// # Cancel safety
    ///
    /// As [`User::send`].
    pub async fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<Sent, NotifyError> {
        let draft = self.draft(payload)?;
        let User { channels, id: user } = self.user;
        let len = draft.payload.len();
        let stored = channels.ask(len, NotifyError::of, |answer| Command::Send { user, draft, answer }).await?;
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
        let expires_in = self.expires_in.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Ok(Draft { payload, urgency: self.urgency, key: self.key.clone(), expires_in })
    }
}

/// A notification that waits for its user: [`User::pending`]. Serialised, it is what a channel gets: see
/// [`offline`](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    record: Record,
}

impl Notification {
    fn new(record: Record) -> Self {
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

/// Keeps a channel attached to its user's offline queue: [`ChannelBox::attach`].
///
/// The end of the channel, or of its connection, ends it too.
#[must_use = "the channel gets no more notifications when this is dropped"]
pub struct Attachment {
    user: User,
    place: Arc<Place>,
}

impl Attachment {
    fn new(user: User, place: Arc<Place>) -> Self {
        Self { user, place }
    }

    /// Returns the user whose queue it is.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.place.channel
    }

    /// Detaches the channel now; false when it was before, or has ended. What was sent before is still delivered.
    pub fn detach(&self) -> bool {
        self.place.end()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.detach();
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("user", &self.user.id).field("channel", &self.channel()).finish()
    }
}
