//! Groups: named sets of channels, and sends that serialise and frame a payload once for all of them.
//!
//! The [`ChannelBox`] holds the groups. A send appends one frame to the group's log and lets a
//! sweep take it to the members: it never waits for a client, and a slow or dead one delays nobody.
//!
//! **Order.** Within a group every member sees the same order, from its join on, without a gap. What
//! one caller does with a group send and then `send_to`, `send` or `close` arrives in that order.
//! Between two groups there is none. A message sent while a `join` runs may be seen or not.
//!
//! What is sent to a user instead, and has to arrive, waits in its [offline queue](offline).
//!
//! How a message travels, and what bounds it on the way, is told in `fanfare::docs::groups`; what may be
//! relied on, in [`guarantees`](crate::docs::guarantees).
//!
//! Locks: a channel's `Out` first, then a group's log; no socket is written under a log's lock. Those of presence
//! come before a log's, and are never held together with an `Out`'s.

mod builder;
mod delivery;
mod error;
mod history;
mod idle;
pub mod offline;
mod options;
mod presence;
mod request;
mod users;

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::Notify;

pub use builder::ChannelBoxBuilder;
pub use delivery::member::Membership;
pub use delivery::report::{Delivery, SendReport};
pub use delivery::send::GroupSend;
pub use error::{Denied, JoinError, JoinErrorReason};
pub use history::resume::Recovery;
pub use history::{History, HistoryLimits, HistoryMessage, Position, Since};
pub use options::GroupOptions;
pub use presence::{
    Here, MAX_PRESENCE_INFO_LEN, PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, Presence, PresenceChange,
    PresenceError, PresencePage, PresenceUser,
};
pub use request::{MAX_RECOVER_GROUPS, MAX_RECOVER_LEN, Recover, RecoverError, Request};

use self::builder::Rules;
use self::delivery::log::Log;
use self::delivery::member::{Members, Place};
use self::history::Ring;
use self::idle::IdleGroups;
use self::offline::Offline;
use self::presence::Room;
use self::users::Users;
use crate::channel::{Channel, ChannelId, Home, Out, Overflow, SendError, Sender, UserId};
use crate::frame::{EncodeError, Frame, require_close_code, tail, unix_millis};
use crate::observe::groups as observe;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, NameMap, Weak, lock, unique_number};

/// The longest group name, in bytes.
pub const MAX_NAME_LEN: usize = 255;
/// The most groups that one channel may be in.
pub const MAX_GROUPS_PER_CHANNEL: usize = 1024;

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
    shared: Arc<Shared>,
}

struct Shared {
    groups: NameMap<Arc<str>, Group>,
    /// One for each user that has a channel which is told what its offline queue gets.
    inboxes: NameMap<Arc<str>, Group>,
    /// Who is present, by the group's name: it outlives a group whose members may come back.
    rooms: NameMap<Arc<str>, Room>,
    /// Weak, since a map keeps what was removed for a while, and a channel has values of its user's.
    channels: NameMap<ChannelId, Weak<Out>>,
    users: Users,
    idle: Mutex<IdleGroups>,
    /// Told whenever a channel is forgotten.
    forgotten: Notify,
    offline: Offline,
    rules: Rules,
    /// What the next one counts: see `next_epoch`.
    epoch: AtomicU64,
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nothing is told"))]
    depths: observe::Depths,
}

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the name that it is joined by.
    Named,
    /// The channels of the user whose id is its name.
    Inbox,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Inbox => "inbox",
        }
    }
}

/// One group. It is in its map as long as it has members.
struct Group {
    name: Arc<str>,
    kind: Kind,
    /// Unique within the process: an outbox tells the groups of its messages by it.
    number: u64,
    options: GroupOptions,
    /// What its saved messages have behind their payload; `None` when it saves none.
    tail: Option<Box<[u8]>>,
    log: Mutex<Log>,
    /// Sweeps asked for since the last one looked: see `fanout`.
    requests: AtomicUsize,
    /// Who is present, once somebody is or has asked: see `presence`.
    room: Mutex<Option<Arc<Room>>>,
    open: observe::Open,
    shared: Weak<Shared>,
    me: Weak<Self>,
}

impl ChannelBox {
    /// Makes a box without groups.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts a box with options of its own.
    pub fn builder() -> ChannelBoxBuilder {
        ChannelBoxBuilder::new()
    }

    fn with_rules(rules: Rules, offline: Offline) -> Self {
        let shared = Shared {
            groups: NameMap::new(),
            inboxes: NameMap::new(),
            rooms: NameMap::new(),
            channels: NameMap::new(),
            users: Users::default(),
            idle: Mutex::new(IdleGroups::default()),
            forgotten: Notify::new(),
            offline,
            rules,
            epoch: AtomicU64::new(RandomState::new().build_hasher().finish()),
            depths: observe::Depths::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a box whose groups are treated as `options` says of their names.
    ///
    /// It is asked whenever a first channel joins a group, and should say the same of a name each time.
    #[must_use]
    pub fn with_options(options: impl Fn(&str) -> GroupOptions + Send + Sync + 'static) -> Self {
        Self::builder().groups(options).build()
    }

    /// Makes a channel a member of a group, which is made when there is none.
    ///
    /// The channel gets what is sent to the group from now on, in a group that keeps a
    /// [history](GroupOptions::history) behind a message that says where that stands. It leaves when the returned
    /// [`Membership`] or the channel is dropped. Joining also lets [`send_to`](Self::send_to) find it.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 255 bytes or has control characters; when the channel is
    /// closed, is a member already, or is in 1024 groups; when [`on_join`](ChannelBoxBuilder::on_join) says no, or the
    /// channel's user was [revoked](Self::revoke) since it began.
    ///
    /// ```
    /// use fanfare::channel::Channel;
    /// use fanfare::group::{ChannelBox, JoinErrorReason};
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "room")?;
    /// let twice = channels.join(&channel, "room").expect_err("it is in it");
    /// assert_eq!(twice.reason(), JoinErrorReason::AlreadyMember);
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    pub fn join(&self, channel: &Channel, group: impl AsRef<str>) -> Result<Membership, JoinError> {
        let name = group.as_ref();
        let error = |reason| refused(channel, name, reason);
        self.check_join(channel, name).map_err(error)?;
        let (place, _) = self.admit(Kind::Named, channel.out(), name, None).map_err(error)?;
        Ok(Membership::new(place))
    }

    /// Looks whether a channel may join a group of this name, and takes it in.
    fn check_join(&self, channel: &Channel, name: &str) -> Result<(), JoinErrorReason> {
        if !is_valid(name) {
            return Err(JoinErrorReason::InvalidName);
        }
        let allowed = (self.shared.rules.may_join)(&channel.sender(), name) && self.add(channel);
        if allowed { Ok(()) } else { Err(JoinErrorReason::Denied) }
    }

    /// Makes a channel a member of a group that is there, or is made, and sends what it has missed `since`.
    fn admit(
        &self,
        kind: Kind,
        out: &Arc<Out>,
        name: &str,
        since: Option<Since>,
    ) -> Result<(Arc<Place>, Option<Recovery>), JoinErrorReason> {
        loop {
            let group = self.open(kind, name);
            let mut recovery = None;
            let added = out.add_feed(|feeds| {
                if feeds.len() >= MAX_GROUPS_PER_CHANNEL {
                    return Err(Some(JoinErrorReason::TooManyGroups));
                }
                if feeds.iter().any(|feed| group.is_source_of(&**feed)) {
                    return Err(Some(JoinErrorReason::AlreadyMember));
                }
                let (place, missed) = group.admit(out, since).ok_or(None)?;
                recovery = missed.recovery;
                Ok((place, missed.frames))
            });
            let reason = match added {
                Some(Ok(place)) => {
                    observe::joined(out.id(), group.named());
                    return Ok((place, recovery));
                }
                // Its last member left meanwhile: help it out of the map, and open a new one.
                Some(Err(None)) => {
                    group.vanish();
                    continue;
                }
                Some(Err(Some(reason))) => reason,
                None => JoinErrorReason::Closed,
            };
            // It was opened for nobody, perhaps.
            group.vanish_if_empty();
            return Err(reason);
        }
    }

    /// Lets [`send_to`](Self::send_to), [`close_all`](Self::close_all) and, by its user,
    /// [`revoke`](Self::revoke) find a channel that is in no group.
    ///
    /// False when its user was revoked since the channel began: then it is closed with code 4403.
    pub fn add(&self, channel: &Channel) -> bool {
        let out = channel.out();
        let home: Weak<dyn Home> = Arc::downgrade(&self.shared) as _;
        if out.has_home(&home) {
            return true;
        }
        #[cfg(fault = "home_first")]
        out.add_home(Weak::clone(&home));
        self.shared.channels.get_or_insert(out.id(), Arc::new(Arc::downgrade(out)));
        if channel.user().is_some_and(|user| !self.shared.users.add(user, out)) {
            out.revoke(users::REASON);
            out.retire();
            self.shared.forget(out.id());
            return false;
        }
        // Last: what ends from now on finds what it is to be forgotten from. What has ended before is forgotten here.
        if !cfg!(fault = "home_first") && !out.add_home(home) {
            self.shared.forget(out.id());
        }
        true
    }

    /// Closes all channels of a user with code 4403 and takes them out of every group, and returns how many there
    /// were. Nothing more is delivered to them, not even what was sent before.
    ///
    /// A channel of the user that has begun and not joined yet is refused when it does, and so is a connection whose
    /// request, or token, was looked at before this call. Whether the user may come back is for whoever checks its
    /// token to say, such as `JwtVerifier::check`; what waits in its offline queue stays there.
    ///
    /// ```
    /// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let mallory = UserId::new("mallory")?;
    /// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(mallory.clone()));
    /// let _membership = channels.join(&channel, "room")?;
    ///
    /// assert_eq!(channels.revoke(&mallory), 1);
    /// assert_eq!(channels.member_count("room"), 0);
    /// assert!(matches!(far_end.try_recv(), Some(FarMessage::Close { code: 4403, .. })));
    /// assert!(channels.join(&channel, "other room").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn revoke(&self, user: &UserId) -> usize {
        let revoked = self.shared.users.revoke(user);
        for out in &revoked {
            out.revoke(users::REASON);
            out.retire();
        }
        revoked.len()
    }

    /// Returns the channels of a user that this box knows, in the order in which it came to know them.
    #[must_use]
    pub fn channels_of(&self, user: &UserId) -> Vec<ChannelId> {
        self.shared.users.channels(user)
    }

    /// Makes a channel leave a group; false when it is no member.
    pub fn leave(&self, channel: ChannelId, group: &str) -> bool {
        let out = self.shared.channel(channel);
        let group = self.shared.groups.with(group, Arc::clone);
        let (Some(out), Some(group)) = (out, group) else { return false };
        let feed = out.find_feed(|feed| group.is_source_of(feed));
        feed.is_some_and(|feed| out.end_feed(&feed))
    }

    /// Sends a payload as JSON text to all members of a group, serialised and framed once.
    ///
    /// Never waits for a client: a task writes to the members, where there is a runtime. A group without
    /// members takes it and delivers to nobody. When too much waits in the group already the
    /// frame is not taken, which is no error: [`SendReport::accepted`] tells.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised. A listener that ends in `.map(drop)` passes that on.
    pub fn group_send<T: Serialize + ?Sized>(
        &self,
        group: impl AsRef<str>,
        payload: &T,
    ) -> Result<SendReport, EncodeError> {
        self.group(group).send(payload)
    }

    /// Starts a group send with options. The group is looked up now: to one that does not exist yet the
    /// send will deliver nothing, whoever joins meanwhile. One that keeps a history is made.
    pub fn group(&self, name: impl AsRef<str>) -> GroupSend {
        let name = name.as_ref();
        match self.shared.groups.with(name, Arc::clone) {
            Some(group) => GroupSend::to(group),
            None if self.keeps_history(name) => GroupSend::to_new(self, name),
            None => GroupSend::to_nobody(),
        }
    }

    /// As [`group`](Self::group), for what a client asked for: `sender` says who that is.
    ///
    /// # Errors
    ///
    /// When [`on_send`](ChannelBoxBuilder::on_send) says no.
    pub fn group_as(&self, sender: &Sender, name: impl AsRef<str>) -> Result<GroupSend, Denied> {
        let name = name.as_ref();
        if (self.shared.rules.may_send)(sender, name) { Ok(self.group(name)) } else { Err(Denied::new(name)) }
    }

    /// Sends a payload as JSON text to one channel, found by one look-up.
    ///
    /// A box knows the channels that were [`add`](Self::add)ed to it or joined one of its groups.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage, SendError};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let id = channel.id();
    /// assert!(matches!(channels.send_to(id, "nobody knows it"), Err(SendError::Closed)));
    ///
    /// channels.add(&channel);
    /// channels.send_to(id, "hello")?;
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("\"hello\"".into())));
    /// # Ok::<(), SendError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Sender::send`](crate::channel::Sender::send); a channel that this box does not know is `Closed`.
    pub fn send_to<T: Serialize + ?Sized>(&self, channel: ChannelId, payload: &T) -> Result<(), SendError> {
        self.send_frame_to(channel, &Frame::json(payload)?)
    }

    /// Sends a frame to one channel: see [`send_to`](Self::send_to).
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_frame_to(&self, channel: ChannelId, frame: &Frame) -> Result<(), SendError> {
        match self.shared.channel(channel) {
            Some(out) => out.send(frame, None),
            None => Err(SendError::Closed),
        }
    }

    /// Returns the names of the groups, in no order.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.shared.groups.values().iter().map(|group| group.name.to_string()).collect()
    }

    /// Returns the number of groups.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.shared.groups.len()
    }

    /// Returns the members of a group, in the order of their joins.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<ChannelId> {
        self.snapshot(group).iter().flat_map(|members| members.iter()).map(|member| member.channel).collect()
    }

    /// Returns the number of members of a group; 0 for an unknown one.
    #[must_use]
    pub fn member_count(&self, group: &str) -> usize {
        self.snapshot(group).map_or(0, |members| members.len())
    }

    /// Returns the number of channels that this box knows.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.shared.channels.len()
    }

    /// Tells the recorder of the crate `metrics` what waits in this box and what its groups keep: to be called from
    /// a timer, or before the recorder is read. Several boxes add up.
    ///
    /// Each channel that the box knows and each group is locked for a moment, one after the other; what it tells of
    /// them is as of slightly different times.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let channels = fanfare::group::ChannelBox::new();
    /// # let mut ticks = 0;
    /// let mut timer = tokio::time::interval(std::time::Duration::from_millis(10));
    /// loop {
    ///     timer.tick().await;
    ///     channels.record_metrics(); // fanfare_outbox_bytes and the like
    /// #   ticks += 1;
    /// #   if ticks == 2 { break }
    /// }
    /// # }
    /// ```
    ///
    /// With the feature `metrics`.
    #[cfg(feature = "metrics")]
    pub fn record_metrics(&self) {
        let mut depth = observe::Depth::default();
        for out in self.shared.open_channels() {
            let counts = out.counts();
            depth.outbox_messages += counts.waiting;
            depth.outbox_bytes += counts.waiting_bytes;
            depth.waiting_channels += usize::from(counts.waiting_bytes > 0);
        }
        for group in [Kind::Named, Kind::Inbox].into_iter().flat_map(|kind| self.shared.of(kind).values()) {
            lock(&group.log).add_depth(&mut depth);
        }
        self.shared.depths.tell(&depth);
    }

    /// Begins to close every channel that this box knows, and returns how many.
    ///
    /// What was sent to a channel before arrives before the close.
    ///
    /// # Panics
    ///
    /// As [`Sender::close`](crate::channel::Sender::close).
    #[track_caller]
    pub fn close_all(&self, code: u16, reason: &str) -> usize {
        require_close_code(code);
        self.shared.open_channels().filter(|out| out.close(code, reason)).count()
    }

    /// Resolves when this box knows no channel: what a shutdown waits for after [`close_all`](Self::close_all).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use fanfare::channel::Channel;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, _far_end) = Channel::in_memory();
    /// channels.add(&channel);
    /// assert_eq!(channels.close_all(1001, "the server is going away"), 1);
    /// tokio::join!(channels.emptied(), async { drop(channel) });
    /// assert_eq!(channels.channel_count(), 0);
    /// # }
    /// ```
    pub async fn emptied(&self) {
        loop {
            // Made before the look: a channel that goes in between is not missed.
            let forgotten = self.shared.forgotten.notified();
            if self.channel_count() == 0 {
                return;
            }
            forgotten.await;
        }
    }

    /// Ends every membership of every group, and returns how many groups there were. The channels stay open.
    pub fn flush_groups(&self) -> usize {
        let groups = self.shared.groups.values();
        for group in &groups {
            let members = Arc::clone(&lock(&group.log).members);
            members.iter().for_each(|member| _ = member.end());
        }
        groups.len()
    }

    /// Tells whether a group of this name keeps a history, so that a send makes it when it is not there.
    fn keeps_history(&self, name: &str) -> bool {
        is_valid(name) && (self.shared.rules.options)(name).history.is_some()
    }

    /// Returns the group of this name, made when there is none.
    fn open(&self, kind: Kind, name: &str) -> Arc<Group> {
        if let Some(group) = self.shared.of(kind).with(name, Arc::clone) {
            return group;
        }
        let name: Arc<str> = name.into();
        let options = match kind {
            Kind::Named => (self.shared.rules.options)(&name),
            // Nothing of it may be missing in the middle: who reads too slowly comes back for it.
            Kind::Inbox => GroupOptions::default().overflow(Overflow::Close),
        };
        let number = unique_number().get();
        let ring = options.history.map(|limits| Ring::new(limits, self.shared.next_epoch()));
        let fresh = Arc::new_cyclic(|me| Group {
            tail: options.history.map(|_| tail(&name)),
            name: Arc::clone(&name),
            kind,
            number,
            options,
            log: Mutex::new(Log::new(ring)),
            requests: AtomicUsize::new(0),
            room: Mutex::new(None),
            open: observe::Open::new(kind.label()),
            shared: Arc::downgrade(&self.shared),
            me: me.clone(),
        });
        let group = self.shared.of(kind).get_or_insert(name, Arc::clone(&fresh));
        if Arc::ptr_eq(&group, &fresh) {
            group.open.begin();
        }
        group
    }

    fn snapshot(&self, group: &str) -> Option<Arc<Members>> {
        let group = self.shared.groups.with(group, Arc::clone)?;
        Some(Arc::clone(&lock(&group.log).members))
    }
}

impl Default for ChannelBox {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn channel(&self, id: ChannelId) -> Option<Arc<Out>> {
        self.channels.with(&id, |out| out.upgrade()).flatten()
    }

    fn open_channels(&self) -> impl Iterator<Item = Arc<Out>> {
        self.channels.values().into_iter().filter_map(|out| out.upgrade())
    }

    /// Returns a number below 2^53 that no other history or presence of this box has, and, as good as certainly, none
    /// of a box before: the second, and 21 bits that count from where chance has begun.
    fn next_epoch(&self) -> u64 {
        let seconds = unix_millis(SystemTime::now()) / 1000;
        // Relaxed: only the number itself matters.
        let count = self.epoch.fetch_add(1, Ordering::Relaxed);
        (seconds & ((1 << 32) - 1)) << 21 | (count & ((1 << 21) - 1))
    }

    fn of(&self, kind: Kind) -> &NameMap<Arc<str>, Group> {
        match kind {
            Kind::Named => &self.groups,
            Kind::Inbox => &self.inboxes,
        }
    }
}

impl Home for Shared {
    fn forget(&self, id: ChannelId) {
        let Some(known) = self.channels.with(&id, Arc::clone) else { return };
        self.channels.remove_if_same(&id, &known);
        if let Some(out) = known.upgrade()
            && let Some(user) = &out.options().user
        {
            self.users.remove(user, id);
        }
        self.forgotten.notify_waiters();
    }
}

fn refused(channel: &Channel, group: &str, reason: JoinErrorReason) -> JoinError {
    observe::join_refused(channel.id(), reason.label());
    JoinError::new(group, reason)
}

fn is_valid(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_LEN && !name.chars().any(char::is_control)
}

impl fmt::Debug for ChannelBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBox")
            .field("groups", &self.group_count())
            .field("channels", &self.channel_count())
            .finish()
    }
}
