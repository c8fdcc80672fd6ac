//! Groups: named sets of channels, and sends that serialise and frame a payload once for all of them.
//!
//! The [`ChannelBox`] holds the groups. A send appends one frame to the group's log and lets a
//! sweep take it to the members: it never waits for a client, and a slow or dead one delays nobody.
//!
//! **Order.** Within a group every member sees the same order, from its join on, without a gap. What
//! one caller does with a group send and then `send_to`, `send` or `close` arrives in that order.
//! Between two groups there is none. A message sent while a `join` runs may be seen or not.
//!
//! How a message travels, and what bounds it on the way, is told in `fanfare::docs::groups`; what may be
//! relied on, in [`guarantees`](crate::docs::guarantees).
//!
//! Locks: a channel's `Out` first, then a group's log; no socket is written under a log's lock.

mod fanout;
mod log;
mod members;
mod options;
mod report;
mod sweep;

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use serde::Serialize;
use tokio::sync::Notify;

pub use members::Membership;
pub use options::GroupOptions;
pub use report::{Delivery, SendReport};

use self::log::{Entry, Log};
use self::members::{Members, Place};
use crate::channel::{Channel, ChannelId, Feed, Home, Out, SendError, Ticket};
use crate::frame::{EncodeError, Frame, require_close_code};
use crate::sync::atomic::{AtomicU64, AtomicUsize};
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
    channels: NameMap<ChannelId, Out>,
    /// Told whenever a channel is forgotten.
    forgotten: Notify,
    options: Box<OptionsOf>,
}

type OptionsOf = dyn Fn(&str) -> GroupOptions + Send + Sync;

/// One group. It is in the map as long as it has members.
struct Group {
    name: Arc<str>,
    /// Unique within the process: an outbox tells the groups of its messages by it.
    number: u64,
    options: GroupOptions,
    log: Mutex<Log>,
    /// Sweeps asked for since the last one looked: see `fanout`.
    requests: AtomicUsize,
    shared: Weak<Shared>,
    me: Weak<Self>,
}

impl ChannelBox {
    /// Makes a box without groups.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(|_| GroupOptions::default())
    }

    /// Makes a box whose groups are treated as `options` says of their names.
    ///
    /// It is asked whenever a first channel joins a group, and should say the same of a name each time.
    #[must_use]
    pub fn with_options(options: impl Fn(&str) -> GroupOptions + Send + Sync + 'static) -> Self {
        let (groups, channels) = (NameMap::new(), NameMap::new());
        let shared = Shared { groups, channels, forgotten: Notify::new(), options: Box::new(options) };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a channel a member of a group, which is made when there is none.
    ///
    /// The channel gets what is sent to the group from now on. It leaves when the returned
    /// [`Membership`] or the channel is dropped. Joining also lets [`send_to`](Self::send_to) find it.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 255 bytes or has control characters; when the channel is
    /// closed, is a member already, or is in 1024 groups.
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
        let error = |reason| JoinError { group: name.chars().take(MAX_NAME_LEN).collect(), reason };
        if name.is_empty() || name.len() > MAX_NAME_LEN || name.chars().any(char::is_control) {
            return Err(error(JoinErrorReason::InvalidName));
        }
        let out = channel.out();
        self.add(channel);
        loop {
            let group = self.open(name);
            let added = out.add_feed(|feeds| {
                if feeds.len() >= MAX_GROUPS_PER_CHANNEL {
                    return Err(Some(JoinErrorReason::TooManyGroups));
                }
                if feeds.iter().any(|feed| group.is_source_of(&**feed)) {
                    return Err(Some(JoinErrorReason::AlreadyMember));
                }
                group.admit(out).ok_or(None)
            });
            let reason = match added {
                Some(Ok(place)) => return Ok(Membership::new(place)),
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
            return Err(error(reason));
        }
    }

    /// Lets [`send_to`](Self::send_to) and [`close_all`](Self::close_all) find a channel that is in no group.
    pub fn add(&self, channel: &Channel) {
        let out = channel.out();
        self.shared.channels.get_or_insert(out.id(), Arc::clone(out));
        let home: Weak<dyn Home> = Arc::downgrade(&self.shared) as _;
        out.add_home(home);
    }

    /// Makes a channel leave a group; false when it is no member.
    pub fn leave(&self, channel: ChannelId, group: &str) -> bool {
        let out = self.shared.channels.with(&channel, Arc::clone);
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
    /// send will deliver nothing, whoever joins meanwhile.
    pub fn group(&self, name: impl AsRef<str>) -> GroupSend {
        GroupSend { group: self.shared.groups.with(name.as_ref(), Arc::clone), except: None, key: None }
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
        match self.shared.channels.with(&channel, Arc::clone) {
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
        self.shared.channels.values().iter().filter(|out| out.close(code, reason)).count()
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

    fn open(&self, name: &str) -> Arc<Group> {
        if let Some(group) = self.shared.groups.with(name, Arc::clone) {
            return group;
        }
        let name: Arc<str> = name.into();
        let options = (self.shared.options)(&name);
        let fresh = Arc::new_cyclic(|me| Group {
            name: Arc::clone(&name),
            number: unique_number().get(),
            options,
            log: Mutex::new(Log::new()),
            requests: AtomicUsize::new(0),
            shared: Arc::downgrade(&self.shared),
            me: me.clone(),
        });
        self.shared.groups.get_or_insert(name, fresh)
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

impl Home for Shared {
    fn forget(&self, id: ChannelId) {
        if let Some(out) = self.channels.with(&id, Arc::clone) {
            self.channels.remove_if_same(&id, &out);
            self.forgotten.notify_waiters();
        }
    }
}

impl Group {
    /// Makes a channel a member, behind all others; `None` when the last member has left for good.
    fn admit(&self, out: &Arc<Out>) -> Option<Arc<Place>> {
        let mut log = lock(&self.log);
        if log.closed && !cfg!(fault = "join_of_closed") {
            return None;
        }
        let head = log.head();
        #[cfg(fault = "early_cursor")]
        let mut log = {
            drop(log);
            lock(&self.log)
        };
        let place = Arc::new(Place {
            number: log.next_member,
            group: self.me.upgrade()?,
            out: Arc::downgrade(out),
            channel: out.id(),
            // Under the log's lock: the member gets all that is appended from now on, and nothing twice.
            cursor: AtomicU64::new(head),
        });
        log.next_member += 1;
        // In place, unless a sweep holds the list: joins cost the same however many there are.
        Arc::make_mut(&mut log.members).insert(place.number, Arc::clone(&place));
        Some(place)
    }

    fn is_source_of(&self, feed: &dyn Feed) -> bool {
        let place: Option<&Place> = (feed as &dyn Any).downcast_ref();
        place.is_some_and(|place| std::ptr::eq(&*place.group, self))
    }

    fn vanish_if_empty(&self) {
        let empty = {
            let mut log = lock(&self.log);
            log.closed |= log.members.is_empty() || cfg!(fault = "vanish_unlooked");
            log.closed
        };
        if empty {
            self.vanish();
        }
    }

    /// Returns the group of this name that there is now.
    fn successor(&self) -> Option<Arc<Self>> {
        self.shared.upgrade()?.groups.with(&*self.name, Arc::clone)
    }

    /// Takes a closed group out of the map. Whoever meets one may do it; the first one does.
    fn vanish(&self) {
        if let (Some(shared), Some(me)) = (self.shared.upgrade(), self.me.upgrade()) {
            #[cfg(fault = "vanish_by_name")]
            let me = shared.groups.with(&*self.name, Arc::clone).unwrap_or(me);
            shared.groups.remove_if_same(&*self.name, &me);
        }
    }
}

/// A group send in the making: [`ChannelBox::group`], then options, then `send`.
#[must_use = "nothing is sent before `send` or `send_frame`"]
pub struct GroupSend {
    /// `None` when there is no such group: nobody is in it.
    group: Option<Arc<Group>>,
    except: Option<ChannelId>,
    key: Option<Arc<str>>,
}

impl GroupSend {
    /// Leaves one channel out.
    pub fn except(mut self, channel: ChannelId) -> Self {
        self.except = Some(channel);
        self
    }

    /// Says what the payload is the latest value of: in a group with the rule
    /// [`Conflate`](crate::channel::Overflow::Conflate) it replaces one of that key which still waits
    /// for a slow member. A key that holds a value per user names the user too, as in `cursor:ada`.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage, Overflow};
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let channels = ChannelBox::with_options(|_| GroupOptions::default().overflow(Overflow::Conflate));
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "doc")?;
    /// channel.send_bytes(vec![0; 100_000])?; // fills the pipe: what follows has to wait
    /// for column in 0..1000 {
    ///     channels.group("doc").key("cursor:ada").send(&column)?;
    /// }
    /// assert!(matches!(far_end.try_recv(), Some(FarMessage::Binary(_))));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("999".into())));
    /// assert_eq!(channel.sender().counts().dropped, 999);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sends a payload as JSON text, serialised and framed once.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised.
    pub fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<SendReport, EncodeError> {
        Ok(self.send_frame(&Frame::json(payload)?))
    }

    /// Sends a frame: what is there already, or goes to several groups, is not framed again.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::frame::Frame;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let _memberships = [channels.join(&channel, "north")?, channels.join(&channel, "south")?];
    /// let frame = Frame::text("to both");
    /// for group in ["north", "south"] {
    ///     assert!(channels.group(group).send_frame(&frame).accepted());
    /// }
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("to both".into())));
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    pub fn send_frame(self, frame: &Frame) -> SendReport {
        let Some(group) = &self.group else { return SendReport::nobody() };
        let entry = self.entry(frame);
        let tally = Arc::clone(&entry.tally);
        let (accepted, members) = {
            let mut log = lock(&group.log);
            (log.append(entry, &group.options), log.members.len())
        };
        if accepted {
            group.sweep(members);
        }
        SendReport::new(members, accepted, tally)
    }

    /// Sends a frame as soon as there is room for it in the group: for a source that can wait, and must
    /// not lose anything. A frame larger than the group's bound is refused at once.
    ///
    /// Who waits together is served in no order.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it is ready the frame was not sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    /// use fanfare::frame::Frame;
    /// use fanfare::group::{ChannelBox, GroupOptions};
    ///
    /// let delay = std::time::Duration::from_millis(1);
    /// let channels =
    ///     ChannelBox::with_options(move |_| GroupOptions::default().max_waiting(1, 1024).write_delay(delay));
    /// let (channel, _far_end) = Channel::in_memory();
    /// let _membership = channels.join(&channel, "room")?;
    /// let frame = Frame::text("one at a time");
    /// assert!(channels.group("room").send_frame(&frame).accepted());
    /// assert!(!channels.group("room").send_frame(&frame).accepted(), "one waits, and that is the bound");
    /// assert!(channels.group("room").send_frame_when_room(&frame).await.accepted());
    /// # Ok(()) }
    /// ```
    pub async fn send_frame_when_room(mut self, frame: &Frame) -> SendReport {
        let mut place = None;
        poll_fn(|cx| {
            // A group whose last member left meanwhile may have been opened anew.
            while let Some(closed) = self.group.take_if(|group| lock(&group.log).closed) {
                closed.vanish();
                self.group = closed.successor();
            }
            let Some(group) = &self.group else { return Poll::Ready(SendReport::nobody()) };
            let place = place.get_or_insert_with(|| Waiting::new(group));
            if !Arc::ptr_eq(&place.group, group) {
                *place = Waiting::new(group);
            }
            let entry = self.entry(frame);
            let tally = Arc::clone(&entry.tally);
            let (accepted, members) = {
                let mut log = lock(&group.log);
                let accepted = log.append(entry, &group.options);
                // An empty log will not have more room than it has.
                let waits = !accepted && !log.is_empty();
                if waits {
                    log.waiting.put(place.ticket, cx.waker());
                }
                place.woken_for_nothing = waits;
                ((!waits).then_some(accepted), log.members.len())
            };
            // Asked for by who waits as well: the task of an earlier sweep may have gone with its runtime.
            if accepted != Some(false) {
                group.sweep(members);
            }
            accepted.map_or(Poll::Pending, |accepted| Poll::Ready(SendReport::new(members, accepted, tally)))
        })
        .await
    }

    fn entry(&self, frame: &Frame) -> Entry {
        Entry { except: self.except, key: self.key.clone(), ..Entry::new(frame.clone()) }
    }
}

/// A place among those who wait for room in a group, given back at the end.
struct Waiting {
    group: Arc<Group>,
    ticket: Ticket,
    /// The last look found no room: if it is woken after that and goes, the room is somebody else's.
    woken_for_nothing: bool,
}

impl Waiting {
    fn new(group: &Arc<Group>) -> Self {
        Self { group: Arc::clone(group), ticket: Ticket::new(), woken_for_nothing: false }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let next = {
            let mut log = lock(&self.group.log);
            let was_woken = !log.waiting.remove(self.ticket) && self.woken_for_nothing;
            if was_woken { log.waiting.take_first(1) } else { Vec::new() }
        };
        next.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for GroupSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSend")
            .field("group", &self.group.as_ref().map(|group| &*group.name))
            .field("except", &self.except)
            .finish()
    }
}

/// Why a channel did not become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinError {
    group: String,
    reason: JoinErrorReason,
}

impl JoinError {
    /// Returns the name of the group, cut after 255 characters.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> JoinErrorReason {
        self.reason
    }
}

/// The reasons of a [`JoinError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinErrorReason {
    /// The name is empty, longer than [`MAX_NAME_LEN`] bytes, or has control characters.
    InvalidName,
    /// The channel is a member already.
    AlreadyMember,
    /// The channel is in [`MAX_GROUPS_PER_CHANNEL`] groups.
    TooManyGroups,
    /// The channel is closed.
    Closed,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            JoinErrorReason::InvalidName => "a group name has 1 to 255 bytes and no control characters",
            JoinErrorReason::AlreadyMember => "the channel is a member already",
            JoinErrorReason::TooManyGroups => "the channel is in as many groups as are allowed (1024)",
            JoinErrorReason::Closed => "the channel is closed",
        };
        write!(f, "cannot join group {:?}: {reason}", self.group)
    }
}

impl std::error::Error for JoinError {}

impl fmt::Debug for ChannelBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBox")
            .field("groups", &self.group_count())
            .field("channels", &self.channel_count())
            .finish()
    }
}
