//! Groups: named sets of channels, and sends that serialise and frame a payload once for all of them.
//!
//! The [`ChannelBox`] holds the groups, [`Group`] is one of them, [`offline::User`] is one user. A send appends one
//! frame to the group's log and lets a sweep take it to the members: it never waits for a client, and a slow or dead
//! client delays no other.
//!
//! **Order.** Every member of a group sees the same order, from its join on, without a gap. What one caller does with a
//! group send and then `send_to`, `send` or `close` arrives in that order. Between two groups there is no order. A
//! message sent while a `join` runs may be seen or not.
//!
//! A message for a user, which has to arrive, waits in the user's [offline queue](offline).
//!
//! `fanfare::docs::groups` explains how a message travels and which bounds apply;
//! [`guarantees`](crate::docs::guarantees) states what a program may rely on.
//!
//! **Rooms.** `delivery` takes messages to members, `history` keeps them, `presence` lists users, `offline` has the
//! queues. `registry` has the maps; the handles ([`ChannelBox`], [`Group`], `User`) share it.
//!
//! **Locks.** In this order: presence (a group's watcher, then a room), a channel's link, the idle groups, a group's
//! state. Presence and a link are never held together. No socket is written under a group's state.

mod builder;
mod delivery;
mod error;
mod handle;
mod history;
mod idle;
mod membership;
mod name;
pub mod offline;
mod options;
mod presence;
mod registry;
mod request;
mod users;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use serde::Serialize;

pub use builder::ChannelBoxBuilder;
pub use delivery::report::{Delivery, SendReport};
pub use delivery::send::GroupSend;
pub use error::{Denied, JoinError, JoinErrorReason};
pub use handle::Group;
pub use history::recover::{MAX_RECOVER_GROUPS, MAX_RECOVER_LEN, Recover, RecoverError};
pub use history::resume::Recovery;
pub use history::{History, HistoryLimits, HistoryMessage, Position, Since};
pub use membership::Membership;
pub use name::MAX_NAME_LEN;
pub use options::GroupOptions;
pub use presence::{
    Here, MAX_PRESENCE_INFO_LEN, PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, Presence, PresenceChange,
    PresenceError, PresencePage, PresenceUser,
};
pub use registry::MAX_GROUPS_PER_CHANNEL;
pub use request::Request;

use self::offline::{OfflineCounts, OfflineOptions, OfflineQueues, User};
use self::presence::Rooms;
use self::registry::{Registry, Rules};
use crate::channel::{Channel, ChannelId, CloseCode, SendError, Sender, UserId};
use crate::frame::EncodeError;
use crate::sync::Arc;

/// Holds groups of channels, and sends to them. A clone is the same box.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::{Channel, FarMessage};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let (ada, mut at_ada) = Channel::in_memory();
/// let (bob, mut at_bob) = Channel::in_memory();
/// let _ada_in_room = channels.join(&ada, "room")?;
/// let _bob_in_room = channels.join(&bob, "room")?;
///
/// let report = channels.group("room").except(ada.id()).send("hello")?;
/// assert_eq!(report.settled().await.written, 1);
/// assert_eq!(at_bob.recv().await, Some(FarMessage::Text("\"hello\"".into())));
/// assert_eq!(at_ada.try_recv(), None);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ChannelBox {
    registry: Arc<Registry>,
    rooms: Arc<Rooms>,
    offline: OfflineQueues,
}

/// How much a box holds at one moment, and what its offline queues have counted: [`ChannelBox::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoxStats {
    /// The number of groups.
    pub groups: usize,
    /// The number of channels that have joined a group or were [added](ChannelBox::add).
    pub channels: usize,
    /// The outcomes of notifications to users.
    pub offline: OfflineCounts,
}

impl ChannelBox {
    /// Makes a box without groups, with default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_rules(Rules::default(), OfflineOptions::default())
    }

    fn with_rules(rules: Rules, offline: OfflineOptions) -> Self {
        let registry = Registry::new(rules);
        let rooms = Rooms::new(&registry);
        let offline = OfflineQueues::new(&registry, offline);
        Self { registry, rooms, offline }
    }

    /// Returns a handle to the group of this name, whether or not it has members.
    pub fn group(&self, name: impl AsRef<str>) -> Group {
        Group::new(&self.registry, &self.rooms, name.as_ref())
    }

    /// Returns the names of all groups, in no order.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.registry.group_names()
    }

    /// Returns a handle to a user, whether or not it is connected: its notifications and its channels.
    #[must_use]
    pub fn user(&self, user: &UserId) -> User {
        User::new(&self.offline, user)
    }

    /// Makes a channel a member of a group: short for [`group(name).join(&channel)`](Group::join).
    ///
    /// # Errors
    ///
    /// As [`Group::join`].
    pub fn join(&self, channel: &Channel, group: impl AsRef<str>) -> Result<Membership, JoinError> {
        let (member, _) = self.registry.join(channel, group.as_ref(), None)?;
        Ok(Membership::new(member, &self.rooms))
    }

    /// Sends a payload as JSON text to all members of a group: short for [`group(name).send(&payload)`](Group::send).
    ///
    /// # Errors
    ///
    /// As [`Group::send`].
    pub fn group_send<T: Serialize + ?Sized>(
        &self,
        group: impl AsRef<str>,
        payload: &T,
    ) -> Result<SendReport, EncodeError> {
        self.registry.begin_send(group.as_ref()).send(payload)
    }

    /// Lets [`send_to`](Self::send_to), [`sender`](Self::sender), [`close_all`](Self::close_all) and, by its user,
    /// [`revoke`](User::revoke) find a channel that is in no group. A join does this by itself.
    ///
    /// Returns false when the channel's user was revoked since the channel began: then the channel is closed with code
    /// 4403.
    pub fn add(&self, channel: &Channel) -> bool {
        self.registry.add(channel)
    }

    /// Sends a payload as JSON text to one channel, found by its id in constant time.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised, the channel is not open or not known here, or its outbox is full.
    pub fn send_to<T: Serialize + ?Sized>(&self, channel: ChannelId, payload: &T) -> Result<(), SendError> {
        self.sender(channel).ok_or(SendError::Closed)?.send(payload)
    }

    /// Returns the sender of a channel that has joined a group or was [added](Self::add); `None` when it has ended.
    #[must_use]
    pub fn sender(&self, channel: ChannelId) -> Option<Sender> {
        self.registry.channel(channel).map(Sender::new)
    }

    /// Closes all channels, each behind the messages sent to it before.
    ///
    /// The close frames are on their way when this returns. Awaiting the returned value waits until every channel has
    /// ended; bound it by a timeout, since the box may get new channels meanwhile.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::{Channel, CloseCode};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "room")?;
    /// let closing = channels.close_all(CloseCode::GOING_AWAY, "bye");
    /// assert_eq!(closing.count(), 1);
    /// drop(channel);
    /// closing.await;
    /// assert_eq!(channels.stats().channels, 0);
    /// # Ok(()) }
    /// ```
    pub fn close_all(&self, code: CloseCode, reason: &str) -> Closing {
        let count = self.registry.open_channels().filter(|link| link.close(code, reason)).count();
        Closing { registry: Arc::clone(&self.registry), count }
    }

    /// Returns the number of groups and channels, and the counts of the offline queues.
    #[must_use]
    pub fn stats(&self) -> BoxStats {
        BoxStats {
            groups: self.registry.group_count(),
            channels: self.registry.channel_count(),
            offline: self.offline.counts(),
        }
    }

    /// Returns the offline queues of all users: to attach a channel, and to close the store.
    #[must_use]
    pub fn offline(&self) -> &OfflineQueues {
        &self.offline
    }

    /// Records how much outboxes, groups and histories hold, in the metrics recorder that the program has installed.
    ///
    /// Call it before each export: see [`docs::observability`](crate::docs::observability).
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        self.registry.record_metrics();
    }
}

impl Default for ChannelBox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ChannelBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BoxStats { groups, channels, .. } = self.stats();
        f.debug_struct("ChannelBox").field("groups", &groups).field("channels", &channels).finish_non_exhaustive()
    }
}

/// The channels that [`ChannelBox::close_all`] has closed, on their way to the end.
///
/// Awaiting it resolves when the box has no channels. Dropping it changes nothing.
#[derive(Clone)]
pub struct Closing {
    registry: Arc<Registry>,
    count: usize,
}

impl Closing {
    /// Returns how many channels the call has closed. A channel that was closing already is not counted.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl IntoFuture for Closing {
    type Output = ();
    type IntoFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.registry.emptied().await })
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").field("count", &self.count).finish_non_exhaustive()
    }
}
