//! Presence: who is in a group, told to its members.
//!
//! A [`Room`] has the presence of one group name. Who enters, leaves or sets an info changes its `State` under a
//! short lock, and makes sure of a *ticker*: a task, one at a time, that makes all frames of the room, at most every
//! 100 ms. What happens in between becomes one frame. The first change after a quiet time is told at once.
//!
//! ```text
//! ticker    who ticks                              becomes
//! Idle      nobody                                 Task, Inline: something is due
//! Task      a task, on a runtime, until it sleeps  Idle: nothing is due, seen under the lock; or its runtime ends
//! Inline    the caller; there is no runtime        Idle: nothing is due, seen under the lock
//! ```
//!
//! **Order.** A diff goes through the group's log to all, a state to each newcomer by its `Out`. A state of version V
//! is what a client knows that has heard all diffs up to V. The ticker makes no diff until the states are sent, and
//! it is alone: the diffs above V are appended after that, and a member gets whatever is appended. So none is missing
//! between the two, nor comes before the state. Those up to V are before it, since an `Out` first passes on what waits
//! in the logs of its groups; a client ignores them, wherever they come. A newcomer joined the group before it
//! entered, so it is a member all the while; one that is none any more gets no state. Frames that the log refuses stay
//! in `outgoing`, in order, and neither diffs nor states are made until they are through.
//!
//! **The end of a membership** and `enter` meet in two locks: first the group's `room`, then the room's own. `left`
//! takes each after the place has ended, and `enter` looks in each whether it has. Whoever is second there sees what
//! the first has done, so nobody stays present without being a member.
//!
//! **Life.** A room is in its map as long as its group is there, or somebody in it may come back. It is closed, and
//! taken out, by whoever finds it idle: the ticker at its end, or the last that leaves the group.
//!
//! Locks: a group's `room`, then a room's `inner`, then a log. Frames are made, sent and told without any.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::entry::{
    MAX_PRESENCE_INFO_LEN, PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, PresenceChange, PresenceError,
    PresencePage, PresenceUser,
};
use super::frames;
use super::roster::{Change, Due, Limits, PlaceId, State, Tick, ToAll, is_reserved};
use crate::channel::{ChannelId, Feed, Out, UserId};
use crate::frame::{Frame, unix_millis};
use crate::group::delivery::log::Entry;
use crate::group::delivery::member::Place;
use crate::group::{ChannelBox, Group, Membership, Shared};
use crate::sync::{Arc, Mutex, MutexGuard, Weak, guard, lock, unique_number};

/// The least time between two frames of one group.
const PACE: Duration = Duration::from_millis(100);
/// The most users on a page that a client asks for.
const MAX_PAGE: usize = 1000;
/// Stands for a grace that no clock can tell.
const A_LONG_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Newcomers that get their state between two yields.
const STATES_PER_TURN: usize = 128;

/// The presence of one group name.
pub(in crate::group) struct Room {
    name: Arc<str>,
    /// Unique among the rooms of this name: versions of another epoch tell about another room.
    epoch: u64,
    inner: Mutex<Inner>,
    /// Told when something is due before the ticker would look.
    earlier: Notify,
    shared: Weak<Shared>,
}

struct Inner {
    state: State,
    /// Who is to get the state, once each.
    newcomers: BTreeMap<PlaceId, Weak<Place>>,
    /// Frames for all that the log has not taken yet. Of the ticker alone.
    outgoing: VecDeque<Frame>,
    ticker: Ticker,
    /// When the last frame was made.
    last_tick: Option<Instant>,
    /// The group that has this room now.
    group: Weak<Group>,
    /// It is out of the map, or soon.
    closed: bool,
}

enum Ticker {
    Idle,
    Inline,
    /// Looks again at this time, if nobody wakes it earlier.
    Task(Instant),
}

/// A member's presence: it leaves when this is dropped.
///
/// The end of the membership, the channel or its connection ends it too. In each case the user has
/// [a while](super::GroupOptions::presence_grace) to come back before anybody is told.
///
/// ```
/// use fanfare::channel::{Channel, ChannelOptions, UserId};
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
/// let membership = channels.join(&channel, "doc")?;
/// let here = membership.enter(&"reading")?;
/// here.update(&"writing")?;
/// assert_eq!(channels.presence("doc").users()[0].info::<String>()?, "writing");
///
/// drop(here);
/// assert_eq!((channels.presence("doc").count(), channels.member_count("doc")), (0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the user leaves when this is dropped"]
pub struct Here {
    place: Arc<Place>,
    room: Arc<Room>,
}

impl Here {
    /// Sets the connection's info, which becomes that of its user: a cursor, a status.
    ///
    /// Members are told within 100 ms, of the last of several.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or has more than 4096 bytes of JSON, or this has left.
    pub fn update<T: Serialize + ?Sized>(&self, info: &T) -> Result<(), PresenceError> {
        let info = encode(info)?;
        let mut inner = lock(&self.room.inner);
        if !inner.state.update(self.place.id(), info) {
            return Err(PresenceError::NotHere);
        }
        self.room.see_to_ticks(inner, &self.place.group);
        Ok(())
    }

    /// Leaves now: nobody waits for the user to come back. False when it was left before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let membership = channels.join(&channel, "doc")?;
    /// let here = membership.enter(&())?;
    /// assert!(here.leave());
    /// far_end.recv().await; // what is told, it comes with the next frame
    /// assert_eq!(channels.presence("doc").count(), 0);
    /// # Ok(()) }
    /// ```
    pub fn leave(self) -> bool {
        self.room.leave(&self.place, Duration::ZERO)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.room.leave(&self.place, self.place.presence_grace());
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("group", &self.room.name).field("channel", &self.place.channel).finish()
    }
}

impl Membership {
    /// Makes the member's user present in the group, with an info of up to 4096 bytes of JSON: a name, a colour,
    /// where its cursor is.
    ///
    /// The channel gets the state: who is here. All members get what changes, at most ten times a second. Several
    /// connections of one user are one entry, with the info that was set last. Who does not enter is a member that
    /// nobody sees, and gets the changes too; it may [ask](ChannelBox::answer_presence) for the state.
    ///
    /// This costs its caller some microseconds, however many are here: the frames are made by a task, on a runtime
    /// of a member or the caller's. Without any it is done here, at once, and a user that leaves is not waited for.
    ///
    /// # Errors
    ///
    /// When the info cannot be serialised or is too long, the membership is over or has entered already, or the
    /// user's id is `#` and a number, which is how a channel without a user is listed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::{Channel, ChannelOptions, FarMessage, UserId};
    /// use fanfare::group::ChannelBox;
    /// use serde_json::{Value, json};
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(UserId::new("ada")?));
    /// let membership = channels.join(&channel, "doc")?;
    /// let _here = membership.enter(&json!({ "colour": "red" }))?;
    ///
    /// let state = loop {
    ///     let Some(FarMessage::Text(text)) = far_end.recv().await else { panic!("the channel is open") };
    ///     let frame: Value = serde_json::from_str(&text)?;
    ///     if frame["type"] == "presence" {
    ///         break frame;
    ///     }
    /// };
    /// assert_eq!((&state["count"], &state["users"][0]["user"]), (&json!(1), &json!("ada")));
    /// assert_eq!(state["users"][0]["info"]["colour"], "red");
    /// # Ok(()) }
    /// ```
    pub fn enter<T: Serialize + ?Sized>(&self, info: &T) -> Result<Here, PresenceError> {
        let place = self.place();
        let info = encode(info)?;
        let out = place.out.upgrade().ok_or(PresenceError::NotHere)?;
        let id = user_id(&out)?;
        let room = place.room().ok_or(PresenceError::NotHere)?;
        let mut inner = lock(&room.inner);
        // `left` may have been here since the place gave its room away: it takes this lock when the place has ended.
        if place.has_ended() && !cfg!(fault = "enter_unlooked") {
            return Err(PresenceError::NotHere);
        }
        if !inner.state.enter(place.id(), &id, info, unix_millis(SystemTime::now())) {
            return Err(PresenceError::AlreadyHere);
        }
        inner.newcomers.insert(place.id(), Arc::downgrade(place));
        room.see_to_ticks(inner, &place.group);
        Ok(Here { place: Arc::clone(place), room })
    }
}

impl ChannelBox {
    /// Returns a look at who is present in a group; nobody in an unknown one.
    ///
    /// ```
    /// use fanfare::channel::{Channel, ChannelOptions, UserId};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let ada = ChannelOptions::default().user(UserId::new("ada")?);
    /// let (phone, _far_phone) = Channel::in_memory_with(ada.clone());
    /// let (laptop, _far_laptop) = Channel::in_memory_with(ada);
    /// let memberships = [channels.join(&phone, "doc")?, channels.join(&laptop, "doc")?];
    /// let _here = [memberships[0].enter("phone")?, memberships[1].enter("laptop")?];
    ///
    /// let presence = channels.presence("doc");
    /// assert_eq!(presence.count(), 1);
    /// let users = presence.users();
    /// assert_eq!((users[0].id().as_str(), users[0].connections(), users[0].info_json()), ("ada", 2, "\"laptop\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn presence(&self, group: &str) -> Presence {
        Presence { room: self.shared.rooms.with(group, Arc::clone) }
    }

    /// Answers a client that asks who is present; false when its channel is no member of the group.
    ///
    /// Without `after` and `limit` it gets the state, as a newcomer does, within 100 ms: a client asks for it when
    /// it finds a version missing. Otherwise it gets, at once, a page of up to `limit` users that came after `after`,
    /// 1000 at most and 64 KiB; from the beginning when that user is gone.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let (channel, mut far_end) = Channel::in_memory();
    /// assert!(!channels.answer_presence(channel.id(), "doc", None, Some(10)));
    ///
    /// let _membership = channels.join(&channel, "doc")?;
    /// assert!(channels.answer_presence(channel.id(), "doc", None, Some(10)));
    /// let page = r#"{"type":"presence.page","group":"doc","count":0,"users":[],"more":false}"#;
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text(page.into())));
    /// # Ok::<(), fanfare::group::JoinError>(())
    /// ```
    pub fn answer_presence(&self, channel: ChannelId, group: &str, after: Option<&str>, limit: Option<usize>) -> bool {
        let Some(out) = self.shared.channel(channel) else { return false };
        let Some(group) = self.shared.groups.with(group, Arc::clone) else { return false };
        let Some(place) = group.place_of(&out) else { return false };
        let Some(room) = place.room() else { return false };
        if after.is_none() && limit.is_none() {
            let mut inner = lock(&room.inner);
            inner.newcomers.insert(place.id(), Arc::downgrade(&place));
            room.see_to_ticks(inner, &group);
            return true;
        }
        let limit = limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let page = lock(&room.inner).state.page(after, limit, Some(frames::Room::new()));
        out.send_unless(|| place.has_ended(), &frames::page(&room.name, &page));
        true
    }
}

/// A look at who is present in a group: [`ChannelBox::presence`]. What it returns is as of the moment of the call.
///
/// A user that has gone is among the others until its time to come back is over.
#[derive(Clone)]
pub struct Presence {
    room: Option<Arc<Room>>,
}

impl Presence {
    /// Returns the number of users.
    #[must_use]
    pub fn count(&self) -> usize {
        self.room.as_ref().map_or(0, |room| lock(&room.inner).state.len())
    }

    /// Returns all users, in the order in which they came. Who enters meanwhile waits: of a large group better ask
    /// for pages.
    #[must_use]
    pub fn users(&self) -> Vec<PresenceUser> {
        self.page(None, usize::MAX).users
    }

    /// Returns up to `limit` users that came after `after`; from the beginning when that user is not here.
    ///
    /// ```
    /// use fanfare::channel::Channel;
    /// use fanfare::group::ChannelBox;
    ///
    /// let channels = ChannelBox::new();
    /// let clients: Vec<_> = (0..5).map(|_| Channel::in_memory()).collect();
    /// let memberships: Vec<_> = clients.iter().flat_map(|(near, _)| channels.join(near, "doc")).collect();
    /// let _here: Vec<_> = memberships.iter().flat_map(|membership| membership.enter(&())).collect();
    ///
    /// let first = channels.presence("doc").page(None, 3);
    /// assert_eq!((first.count, first.users.len(), first.more), (5, 3, true));
    /// let rest = channels.presence("doc").page(Some(first.users[2].id()), 3);
    /// assert_eq!((rest.count, rest.users.len(), rest.more), (5, 2, false));
    /// ```
    #[must_use]
    pub fn page(&self, after: Option<&str>, limit: usize) -> PresencePage {
        let nobody = PresencePage { count: 0, users: Vec::new(), more: false };
        self.room.as_ref().map_or(nobody, |room| lock(&room.inner).state.page(after, limit, None))
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// Ends the presence of a place that has ended; its group is `closed`, perhaps.
pub(in crate::group) fn left(place: &Place, closed: bool) {
    let Some(room) = lock(&place.group.room).clone() else { return };
    room.leave(place, place.presence_grace());
    if closed {
        room.close_if_idle();
    }
}

impl Place {
    fn id(&self) -> PlaceId {
        (self.group.number, self.number)
    }

    /// Returns how long its user may stay away. Nobody waits for one that may not come back, whoever ends this first:
    /// a revocation, or the handler that has seen the close.
    fn presence_grace(&self) -> Duration {
        let is_revoked = self.out.upgrade().is_some_and(|out| out.is_revoked());
        if is_revoked { Duration::ZERO } else { self.group.options.presence_grace }
    }

    /// Returns the room of the group, made when there is none; `None` when the place has ended.
    fn room(&self) -> Option<Arc<Room>> {
        let mut room = lock(&self.group.room);
        // Under the lock: if the place has not ended now, `left` finds the room.
        if self.has_ended() {
            return None;
        }
        if room.is_none() {
            *room = Some(self.group.shared.upgrade()?.room(&self.group));
        }
        room.clone()
    }
}

impl Group {
    /// Returns the place of a channel that is a member.
    fn place_of(&self, out: &Out) -> Option<Arc<Place>> {
        let feed: Arc<dyn Feed> = out.find_feed(|feed| self.is_source_of(feed))?;
        let feed: Arc<dyn Any + Send + Sync> = feed;
        feed.downcast().ok()
    }
}

impl Shared {
    /// Returns the room of a group's name, which is the group's from now on.
    fn room(self: &Arc<Self>, group: &Group) -> Arc<Room> {
        loop {
            let fresh = || Arc::new(Room::new(self, &group.name));
            let known = self.rooms.with(&*group.name, Arc::clone);
            let room = known.unwrap_or_else(|| self.rooms.get_or_insert(Arc::clone(&group.name), fresh()));
            let closed = {
                let mut inner = lock(&room.inner);
                inner.group = group.me.clone();
                inner.closed
            };
            if !closed {
                return room;
            }
            self.rooms.remove_if_same(&*group.name, &room);
        }
    }
}

impl Room {
    fn new(shared: &Arc<Shared>, name: &Arc<str>) -> Self {
        let inner = Inner {
            state: State::new(Limits::default()),
            newcomers: BTreeMap::new(),
            outgoing: VecDeque::new(),
            ticker: Ticker::Idle,
            last_tick: None,
            group: Weak::new(),
            closed: false,
        };
        Self {
            name: Arc::clone(name),
            epoch: shared.next_epoch(),
            inner: Mutex::new(inner),
            earlier: Notify::new(),
            shared: Arc::downgrade(shared),
        }
    }

    fn leave(self: &Arc<Self>, place: &Place, grace: Duration) -> bool {
        let runtime = place.group.any_runtime();
        let mut inner = lock(&self.inner);
        let waits = runtime.is_some() || matches!(inner.ticker, Ticker::Task(_));
        let now = Instant::now();
        let until = if waits { now.checked_add(grace).unwrap_or_else(|| now + A_LONG_TIME) } else { now };
        let was_here = inner.state.leave(place.id(), now, until);
        if was_here {
            self.see_to_ticks_on(inner, || runtime);
        }
        was_here
    }

    /// Sees to it that somebody ticks when something is due.
    fn see_to_ticks(self: &Arc<Self>, inner: MutexGuard<'_, Inner>, group: &Group) {
        self.see_to_ticks_on(inner, || group.any_runtime());
    }

    fn see_to_ticks_on(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, runtime: impl FnOnce() -> Option<Handle>) {
        let Some(due) = inner.due() else { return };
        match inner.ticker {
            Ticker::Inline => {}
            Ticker::Task(until) => {
                drop(inner);
                if due < until {
                    self.earlier.notify_one();
                }
            }
            Ticker::Idle => {
                let runtime = runtime();
                inner.ticker = if runtime.is_some() { Ticker::Task(due) } else { Ticker::Inline };
                // A runtime that is shutting down drops the task at once, and that takes the lock.
                drop(inner);
                let ticking = Ticking::new(self);
                match runtime {
                    Some(runtime) => drop(runtime.spawn(tick_in_turns(ticking))),
                    None => tick_now(ticking),
                }
            }
        }
    }

    /// Makes what is due visible, and tells members and listeners. Returns how many newcomers wait for their state.
    fn tick(&self) -> Newcomers {
        let group = self.shared.upgrade().and_then(|shared| shared.groups.with(&*self.name, Arc::clone));
        let tick = {
            let mut inner = lock(&self.inner);
            let now = Instant::now();
            inner.last_tick = Some(now);
            if group.is_none() {
                inner.outgoing.clear();
            }
            if inner.outgoing.is_empty() { inner.state.tick(now) } else { Tick::default() }
        };
        let frames = match &tick.to_all {
            None => Vec::new(),
            Some(ToAll::Diff(diff)) => vec![frames::diff(&self.name, self.epoch, diff)],
            Some(ToAll::State(state)) => frames::state(&self.name, self.epoch, state),
        };
        let next = {
            let mut inner = lock(&self.inner);
            inner.outgoing.extend(frames);
            inner.outgoing.front().cloned()
        };
        // One frame a tick: of a state for all, the other pages follow.
        let is_through = match (&group, &next) {
            (Some(group), Some(frame)) => send_unsaved(group, frame),
            _ => true,
        };
        self.tell(tick.changes);
        let mut inner = lock(&self.inner);
        if is_through && next.is_some() {
            inner.outgoing.pop_front();
        }
        if group.is_none() {
            inner.outgoing.clear();
        }
        if inner.newcomers.is_empty() || !inner.outgoing.is_empty() {
            return Newcomers { number: 0, frames: Vec::new() };
        }
        let (number, snapshot) = (inner.newcomers.len(), inner.state.snapshot());
        drop(inner);
        Newcomers { number, frames: frames::state(&self.name, self.epoch, &snapshot) }
    }

    /// Tells listeners what has happened.
    fn tell(&self, changes: Vec<Change>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let Some(events) = &shared.rules.events else { return };
        for change in changes {
            let (key, user) = match change {
                Change::Joined(user) => (PRESENCE_JOINED, user),
                Change::Updated(user) => (PRESENCE_UPDATED, user),
                Change::Left(user) => (PRESENCE_LEFT, user),
            };
            // An error is a listener of another payload type under this name: nobody was to be called.
            _ = events.emit(key, &PresenceChange { group: Arc::clone(&self.name), user });
        }
    }

    /// Sends the state to some of the newcomers; false when all have it.
    fn send_states(&self, newcomers: &mut Newcomers) -> bool {
        let most = newcomers.number.min(STATES_PER_TURN);
        newcomers.number -= most;
        let places: Vec<_> = {
            let mut inner = lock(&self.inner);
            (0..most).map_while(|_| inner.newcomers.pop_first()).collect()
        };
        for place in places.iter().filter_map(|(_, place)| place.upgrade()) {
            let Some(out) = place.out.upgrade() else { continue };
            for frame in &newcomers.frames {
                // Of the client's waker, a panic: the others are to have theirs.
                _ = guard(|| out.send_unless(|| place.has_ended(), frame));
            }
        }
        newcomers.number > 0
    }

    /// Takes the room out of the map if its group is gone and nobody is to come back.
    pub(in crate::group) fn close_if_idle(self: &Arc<Self>) {
        let group = lock(&self.inner).group.clone();
        // A closed group does not open again; another of its name may have taken the room meanwhile.
        if group.upgrade().is_some_and(|group| !lock(&group.log).closed) {
            return;
        }
        let is_closed = {
            let mut inner = lock(&self.inner);
            inner.closed |= inner.is_quiet() && Weak::ptr_eq(&inner.group, &group);
            inner.closed
        };
        if is_closed && let Some(shared) = self.shared.upgrade() {
            shared.rooms.remove_if_same(&*self.name, self);
        }
    }
}

impl Inner {
    /// Returns when a tick is due, if ever.
    fn due(&self) -> Option<Instant> {
        let soonest = self.last_tick.map(|last| last + PACE);
        let is_owed = !self.outgoing.is_empty() || !self.newcomers.is_empty();
        match self.state.due() {
            Due::At(until) if !is_owed => Some(soonest.map_or(until, |soonest| soonest.max(until))),
            Due::Never if !is_owed => None,
            _ => Some(soonest.unwrap_or_else(Instant::now)),
        }
    }

    /// Tells whether something is to be told that waits for no clock.
    fn is_due_now(&self) -> bool {
        let is_due = match self.state.due() {
            Due::Now => true,
            Due::At(until) => until <= Instant::now(),
            Due::Never => false,
        };
        is_due || !self.outgoing.is_empty() || !self.newcomers.is_empty()
    }

    /// Tells whether nobody is here or may come back. Newcomers of a group that is gone are none any more.
    fn is_quiet(&self) -> bool {
        matches!(self.ticker, Ticker::Idle) && self.state.is_over()
    }
}

/// Who is owed a state, and its frames.
struct Newcomers {
    number: usize,
    frames: Vec<Frame>,
}

/// The right to tick, until it is dropped: a task may end with its runtime, a caller by a panic.
struct Ticking {
    room: Arc<Room>,
    /// It was given back already.
    finished: bool,
}

impl Ticking {
    fn new(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), finished: false }
    }

    /// Returns when the next tick is due. When none is, the right is given back under the same lock: whoever changes
    /// something after that finds no ticker.
    fn next(&mut self) -> Option<Instant> {
        let mut inner = lock(&self.room.inner);
        let due = match inner.ticker {
            Ticker::Inline => inner.is_due_now().then(Instant::now),
            Ticker::Idle | Ticker::Task(_) => inner.due(),
        };
        match (due, &mut inner.ticker) {
            (Some(due), Ticker::Task(until)) => *until = due,
            (Some(_), _) => {}
            (None, ticker) => {
                *ticker = Ticker::Idle;
                self.finished = true;
            }
        }
        due
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        if !self.finished {
            // The next one that changes something goes on.
            lock(&self.room.inner).ticker = Ticker::Idle;
        }
        self.room.close_if_idle();
    }
}

async fn tick_in_turns(mut ticking: Ticking) {
    let room = Arc::clone(&ticking.room);
    while let Some(due) = ticking.next() {
        if due > Instant::now() && timeout_at(due, room.earlier.notified()).await.is_ok() {
            continue;
        }
        let mut newcomers = room.tick();
        while room.send_states(&mut newcomers) {
            tokio::task::yield_now().await;
        }
    }
}

/// Ticks as long as something is due: there is no clock to wait for.
fn tick_now(mut ticking: Ticking) {
    let room = Arc::clone(&ticking.room);
    while ticking.next().is_some() {
        let mut newcomers = room.tick();
        while room.send_states(&mut newcomers) {}
        if !lock(&room.inner).outgoing.is_empty() {
            // The log is full: whoever changes something next tries again.
            return;
        }
    }
}

/// Appends a frame to the group's log and to nothing else: a history does not keep it. False when it is to be tried
/// again.
///
/// Under the rule `Conflate` it is a value of its own: no message replaces it, and it replaces none. When it is
/// dropped, as messages of the group may be, the client finds its version missing and asks for the state.
fn send_unsaved(group: &Arc<Group>, frame: &Frame) -> bool {
    let key: Arc<str> = format!("\0presence {}", unique_number()).into();
    let entry = Entry { key: Some(key), ..Entry::new(frame.clone()) };
    let (accepted, members) = {
        let mut log = lock(&group.log);
        let has_room = log.has_room(frame.bytes().len(), &group.options);
        // One that never fits is lost, and its version missing.
        let accepted = has_room || log.is_empty();
        if has_room {
            log.append(entry);
        }
        (accepted, log.members.len())
    };
    // Asked for also when it is full: the task of an earlier sweep may have gone with its runtime.
    _ = guard(|| group.sweep(members));
    accepted
}

fn encode<T: Serialize + ?Sized>(info: &T) -> Result<Arc<str>, PresenceError> {
    let info = serde_json::to_string(info).map_err(PresenceError::Encode)?;
    let (len, max) = (info.len(), MAX_PRESENCE_INFO_LEN);
    if len > max { Err(PresenceError::TooLong { len, max }) } else { Ok(info.into()) }
}

/// Returns who a channel's user is; one without any is a user of its own.
fn user_id(out: &Out) -> Result<UserId, PresenceError> {
    match &out.options().user {
        Some(user) if is_reserved(user) => Err(PresenceError::ReservedUser),
        Some(user) => Ok(user.clone()),
        None => Ok(UserId::new(format!("#{}", out.id())).expect("it is short and plain")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::group::{GroupOptions, HistoryLimits};

    #[test]
    fn no_room_is_left_of_a_group_whose_history_went() {
        let channels = ChannelBox::with_options(|_| GroupOptions::default().history(HistoryLimits::default()));
        let (channel, mut far_end) = Channel::in_memory();
        for number in 0..11_000 {
            let membership = channels.join(&channel, format!("doc {number}")).expect("it is open");
            let here = membership.enter("here").expect("it is small");
            channels.group_send(format!("doc {number}"), "x").expect("a string is json");
            drop((here, membership));
            while far_end.try_recv().is_some() {}
        }
        assert_eq!((channels.group_count(), channels.shared.rooms.len()), (10_000, 10_000));
    }
}
