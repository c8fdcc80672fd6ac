//! The presence of one group name, and the task that tells members about it.
//!
//! A user that enters, leaves or sets an info changes the room's `Roster` under a short lock, and makes sure of a
//! *ticker*: a task, one at a time, that makes all frames of the room, at most every 100 ms. The changes in between
//! become one frame. The first change after a quiet time goes out at once.
//!
//! ```text
//! ticker    ticks run on                           becomes
//! Idle      nothing                                Task, Inline: something is due
//! Task      a task, on a runtime, until it sleeps  Idle: nothing is due, seen under the lock; or its runtime ends
//! Inline    the caller; there is no runtime        Idle: nothing is due, seen under the lock
//! ```
//!
//! **Order.** A diff goes through the group's log to all members, a state to each newcomer by its link. A state of
//! version V is what a client knows that has had all diffs up to V. Only the ticker makes frames, and it makes no diff
//! until the states are sent: the diffs above V are appended after that, and a member gets every frame that is
//! appended. So no diff is missing between the two, and none above V comes before the state. The diffs up to V come
//! before it, since a link first passes on the frames in the logs of its groups; a client ignores them, wherever they
//! come. A newcomer joined the group before it entered, so it is a member all the while; a channel that has left gets
//! no state. Frames that the log refuses stay in `outgoing`, in order, and the ticker makes neither diffs nor states
//! until the log has taken them.
//!
//! **The end of a membership** and `enter` meet in two locks: first the group's `watcher`, then the room's `inner`.
//! `left` takes each after the membership has ended, and `enter` looks in each whether it has. In each lock,
//!
//! 1. `enter` comes first: `left` finds the room, or the connection in the roster, and ends its presence;
//! 2. `left` comes first: `enter` finds that the membership has ended, and enters nothing.
//!
//! So no user stays present without a member.
//!
//! **Life.** A room is in its map as long as its group is there, or a user in it may come back. A thread that finds it
//! idle closes it and takes it out: the ticker at its end, or the last member that leaves the group.
//!
//! Locks: a group's `watcher`, then a room's `inner`, then a group's state. Frames are made and sent without a lock,
//! and events are emitted without one.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::budget::Budget;
use super::entry::{PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, PresenceChange, PresenceError};
use super::frames;
use super::roster::{Change, Due, Limits, MemberId, Roster, Tick, ToAll};
use crate::channel::{ChannelId, Feed, Link, UserId};
use crate::clock::unix_millis;
use crate::frame::Frame;
use crate::group::delivery::log::Entry;
use crate::group::delivery::state::{LiveGroup, Member, Watcher};
use crate::group::registry::Registry;
use crate::sync::{Arc, Mutex, MutexGuard, NameMap, Weak, guard, lock, unique_number};

/// The shortest time between two frames of one group.
const PACE: Duration = Duration::from_millis(100);
/// The most users on a page that a client asks for.
pub(super) const MAX_PAGE: usize = 1000;
/// Replaces a grace period that is too long for the clock.
const A_LONG_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Newcomers that get their state between two yields.
const STATES_PER_TURN: usize = 128;

/// The presence of one group name.
pub(crate) struct Room {
    name: Arc<str>,
    /// Unique among the rooms of this name: a version of another epoch belongs to another room.
    epoch: u64,
    inner: Mutex<Inner>,
    /// Notified when a frame is due before the ticker would look.
    earlier: Notify,
    rooms: Weak<Rooms>,
}

struct Inner {
    roster: Roster,
    /// The members that are to get the state, once each.
    newcomers: BTreeMap<MemberId, Weak<Member>>,
    /// Frames for all members that the log has not taken yet. Only the ticker changes it.
    outgoing: VecDeque<Frame>,
    ticker: Ticker,
    /// When the last frame was made.
    last_tick: Option<Instant>,
    /// The group whose presence this is now.
    group: Weak<LiveGroup>,
    /// The room is out of the map, or soon will be.
    closed: bool,
}

enum Ticker {
    Idle,
    Inline,
    /// Looks again at this time, unless a change wakes it earlier.
    Task(Instant),
}

/// The rooms of one box, by the name of their group.
pub(crate) struct Rooms {
    /// A room outlives its group while members may come back.
    map: NameMap<Arc<str>, Room>,
    registry: Arc<Registry>,
    me: Weak<Self>,
}

impl Rooms {
    pub(crate) fn new(registry: &Arc<Registry>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { map: NameMap::new(), registry: Arc::clone(registry), me: me.clone() })
    }

    /// Returns the room of this name, if there is one.
    pub(super) fn find(&self, group: &str) -> Option<Arc<Room>> {
        self.map.with(group, Arc::clone)
    }

    /// Returns the room of a member's group, made when there is none; `None` when the membership has ended.
    pub(super) fn room_of(&self, member: &Member) -> Option<Arc<Room>> {
        let mut watcher = lock(&member.group.watcher);
        // Under the lock: a membership that has not ended now finds this room when it ends.
        if member.has_ended() {
            return None;
        }
        if let Some(watcher) = &*watcher {
            let room: Arc<dyn Any + Send + Sync> = Arc::clone(watcher) as _;
            return Some(room.downcast().expect("a group's only watcher is its room"));
        }
        let room = self.adopt(&member.group);
        *watcher = Some(Arc::clone(&room) as _);
        Some(room)
    }

    /// Returns the room of a group's name, which belongs to the group from now on.
    ///
    /// A room may be closing on another thread:
    ///
    /// 1. It is closed when this looks, under its lock: this helps it out of the map, and looks again.
    /// 2. It is not: it has the group now, and `close_if_idle` sees that before it closes the room.
    fn adopt(&self, group: &LiveGroup) -> Arc<Room> {
        loop {
            let fresh = || Arc::new(Room::new(self, &group.name));
            let room = self.find(&group.name);
            let room = room.unwrap_or_else(|| self.map.get_or_insert(Arc::clone(&group.name), fresh()));
            let closed = {
                let mut inner = lock(&room.inner);
                inner.group = group.me.clone();
                inner.closed
            };
            if !closed {
                return room;
            }
            self.map.remove_if_same(&*group.name, &room);
        }
    }

    /// Answers a client that asks who is present; returns false when its channel is not a member of the group.
    ///
    /// Without `after` and `limit` the client gets the state, as a newcomer does, within 100 ms: a client asks for it
    /// when it finds a version missing. Otherwise it gets, at once, a page of up to `limit` users after the user
    /// `after`, at most 1000 users and 64 KiB; the page begins with the first user when `after` is gone.
    pub(crate) fn answer(&self, channel: ChannelId, group: &str, after: Option<&str>, limit: Option<usize>) -> bool {
        let Some(link) = self.registry.channel(channel) else { return false };
        let Some(group) = self.registry.group(group) else { return false };
        let Some(member) = member_of(&group, &link) else { return false };
        let Some(room) = self.room_of(&member) else { return false };
        if after.is_none() && limit.is_none() {
            let mut inner = lock(&room.inner);
            inner.newcomers.insert(member_id(&member), Arc::downgrade(&member));
            room.see_to_ticks(inner, &group);
            return true;
        }
        let limit = limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let page = lock(&room.inner).roster.page(after, limit, Some(Budget::new()));
        link.send_unless(|| member.has_ended(), &frames::page(&room.name, &page));
        true
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }
}

/// Returns the membership of a channel that is in this group.
fn member_of(group: &LiveGroup, link: &Link) -> Option<Arc<Member>> {
    let feed: Arc<dyn Feed> = link.find_feed(|feed| group.is_source_of(feed))?;
    let feed: Arc<dyn Any + Send + Sync> = feed;
    feed.downcast().ok()
}

fn member_id(member: &Member) -> MemberId {
    (member.group.number, member.number)
}

/// Returns how long the user of a member may stay away. A revoked user may not come back, so its presence ends at once,
/// whichever ends it first: the revocation, or the handler that has seen the close.
pub(super) fn grace(member: &Member) -> Duration {
    let is_revoked = member.link.upgrade().is_some_and(|link| link.is_revoked());
    if is_revoked { Duration::ZERO } else { member.group.options.presence_grace }
}

impl Watcher for Room {
    fn left(self: Arc<Self>, member: &Member, closed: bool) {
        self.leave(member, grace(member));
        if closed {
            self.close_if_idle();
        }
    }

    fn vanished(self: Arc<Self>) {
        self.close_if_idle();
    }
}

impl Room {
    fn new(rooms: &Rooms, name: &Arc<str>) -> Self {
        let inner = Inner {
            roster: Roster::new(Limits::default()),
            newcomers: BTreeMap::new(),
            outgoing: VecDeque::new(),
            ticker: Ticker::Idle,
            last_tick: None,
            group: Weak::new(),
            closed: false,
        };
        Self {
            name: Arc::clone(name),
            epoch: rooms.registry.next_epoch(),
            inner: Mutex::new(inner),
            earlier: Notify::new(),
            rooms: Weak::clone(&rooms.me),
        }
    }

    /// Returns a look at the roster under the lock.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Roster) -> R) -> R {
        read(&lock(&self.inner).roster)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes a member present. The caller has found this room by [`Rooms::room_of`].
    pub(super) fn enter(
        self: &Arc<Self>,
        member: &Arc<Member>,
        user: &UserId,
        info: Arc<str>,
    ) -> Result<(), PresenceError> {
        let mut inner = lock(&self.inner);
        // The membership may have ended since the room was found; its `left` takes this lock after the end.
        if member.has_ended() {
            return Err(PresenceError::NotHere);
        }
        if !inner.roster.enter(member_id(member), user, info, unix_millis(SystemTime::now())) {
            return Err(PresenceError::AlreadyHere);
        }
        inner.newcomers.insert(member_id(member), Arc::downgrade(member));
        self.see_to_ticks(inner, &member.group);
        Ok(())
    }

    /// Sets the info of a member that has entered; returns false when it has left.
    pub(super) fn update(self: &Arc<Self>, member: &Member, info: Arc<str>) -> bool {
        let mut inner = lock(&self.inner);
        let is_here = inner.roster.update(member_id(member), info);
        if is_here {
            self.see_to_ticks(inner, &member.group);
        }
        is_here
    }

    /// Ends the presence of a member; returns false when it is not present. Its user may come back within `grace`.
    pub(super) fn leave(self: &Arc<Self>, member: &Member, grace: Duration) -> bool {
        let runtime = member.group.any_runtime();
        let mut inner = lock(&self.inner);
        let waits = runtime.is_some() || matches!(inner.ticker, Ticker::Task(_));
        let now = Instant::now();
        let until = if waits { now.checked_add(grace).unwrap_or_else(|| now + A_LONG_TIME) } else { now };
        let was_here = inner.roster.leave(member_id(member), now, until);
        if was_here {
            self.see_to_ticks_on(inner, || runtime);
        }
        was_here
    }

    /// Makes sure that a ticker runs when a tick is due.
    fn see_to_ticks(self: &Arc<Self>, inner: MutexGuard<'_, Inner>, group: &LiveGroup) {
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

    /// Makes the due changes visible, sends the frame, and emits the events. Returns the newcomers that wait for a
    /// state.
    fn tick(&self) -> Newcomers {
        let group = self.rooms.upgrade().and_then(|rooms| rooms.registry.group(&self.name));
        let tick = {
            let mut inner = lock(&self.inner);
            let now = Instant::now();
            inner.last_tick = Some(now);
            if group.is_none() {
                inner.outgoing.clear();
            }
            if inner.outgoing.is_empty() { inner.roster.tick(now) } else { Tick::default() }
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
        // One frame per tick: the other pages of a state for all follow.
        let is_through = match (&group, &next) {
            (Some(group), Some(frame)) => send_unsaved(group, frame),
            _ => true,
        };
        self.emit_changes(tick.changes);
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
        let (number, snapshot) = (inner.newcomers.len(), inner.roster.snapshot());
        drop(inner);
        Newcomers { number, frames: frames::state(&self.name, self.epoch, &snapshot) }
    }

    /// Emits an event for each change, on the dispatcher of the box.
    fn emit_changes(&self, changes: Vec<Change>) {
        let Some(rooms) = self.rooms.upgrade() else { return };
        let Some(events) = &rooms.registry.rules.events else { return };
        for change in changes {
            let (key, user) = match change {
                Change::Joined(user) => (PRESENCE_JOINED, user),
                Change::Updated(user) => (PRESENCE_UPDATED, user),
                Change::Left(user) => (PRESENCE_LEFT, user),
            };
            // An error means that the event of this name has another payload type: no listener was to be called.
            _ = events.emit(key, &PresenceChange { group: Arc::clone(&self.name), user });
        }
    }

    /// Sends the state to some of the newcomers; returns false when all have it.
    fn send_states(&self, newcomers: &mut Newcomers) -> bool {
        let most = newcomers.number.min(STATES_PER_TURN);
        newcomers.number -= most;
        let members: Vec<_> = {
            let mut inner = lock(&self.inner);
            (0..most).map_while(|_| inner.newcomers.pop_first()).collect()
        };
        for member in members.iter().filter_map(|(_, member)| member.upgrade()) {
            let Some(link) = member.link.upgrade() else { continue };
            for frame in &newcomers.frames {
                // The client's waker may panic; the other newcomers must get their state.
                _ = guard(|| link.send_unless(|| member.has_ended(), frame));
            }
        }
        newcomers.number > 0
    }

    /// Takes the room out of the map if its group is gone and no user may come back.
    fn close_if_idle(self: &Arc<Self>) {
        let group = lock(&self.inner).group.clone();
        // A closed group does not open again; another of its name may have taken the room meanwhile.
        if group.upgrade().is_some_and(|group| !lock(&group.state).closed) {
            return;
        }
        let is_closed = {
            let mut inner = lock(&self.inner);
            inner.closed |= inner.is_quiet() && Weak::ptr_eq(&inner.group, &group);
            inner.closed
        };
        if is_closed && let Some(rooms) = self.rooms.upgrade() {
            rooms.map.remove_if_same(&*self.name, self);
        }
    }
}

impl Inner {
    /// Returns when a tick is due, if ever.
    fn due(&self) -> Option<Instant> {
        let soonest = self.last_tick.map(|last| last + PACE);
        let is_owed = !self.outgoing.is_empty() || !self.newcomers.is_empty();
        match self.roster.due() {
            Due::At(until) if !is_owed => Some(soonest.map_or(until, |soonest| soonest.max(until))),
            Due::Never if !is_owed => None,
            _ => Some(soonest.unwrap_or_else(Instant::now)),
        }
    }

    /// Returns whether a tick is due now.
    fn is_due_now(&self) -> bool {
        let is_due = match self.roster.due() {
            Due::Now => true,
            Due::At(until) => until <= Instant::now(),
            Due::Never => false,
        };
        is_due || !self.outgoing.is_empty() || !self.newcomers.is_empty()
    }

    /// Returns whether no user is present or may come back. Newcomers of a group that is gone do not count.
    fn is_quiet(&self) -> bool {
        matches!(self.ticker, Ticker::Idle) && self.roster.is_over()
    }
}

/// The newcomers that still get the state, and its frames.
struct Newcomers {
    number: usize,
    frames: Vec<Frame>,
}

/// The right to tick, until it is dropped: a task may end with its runtime, a caller by a panic.
struct Ticking {
    room: Arc<Room>,
    /// The right was given back already.
    finished: bool,
}

impl Ticking {
    fn new(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), finished: false }
    }

    /// Returns when the next tick is due. When none is, it gives the right back under the same lock, so that the next
    /// change starts a new ticker.
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
            // The next change starts a new ticker, which continues.
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

/// Ticks as long as a tick is due. Without a runtime there is no timer, so it does not wait.
fn tick_now(mut ticking: Ticking) {
    let room = Arc::clone(&ticking.room);
    while ticking.next().is_some() {
        let mut newcomers = room.tick();
        while room.send_states(&mut newcomers) {}
        if !lock(&room.inner).outgoing.is_empty() {
            // The log is full: the next change tries again.
            return;
        }
    }
}

/// Appends a frame to the group's log, but not to its history. Returns false when the log is full, and the caller tries
/// again.
///
/// Under the rule `Conflate` it is a value of its own: no message replaces it, and it replaces none. When it is
/// dropped, as messages of the group may be, the client finds its version missing and asks for the state.
fn send_unsaved(group: &Arc<LiveGroup>, frame: &Frame) -> bool {
    let key: Arc<str> = format!("\0presence {}", unique_number()).into();
    let entry = Entry { key: Some(key), ..Entry::new(frame.clone()) };
    let (accepted, members) = {
        let mut state = lock(&group.state);
        let has_room = state.log.has_room(frame.bytes().len(), &group.options);
        // A frame that never fits is dropped; clients find its version missing.
        let accepted = has_room || state.log.is_empty();
        if has_room {
            state.log.append(entry);
        }
        (accepted, state.members.len())
    };
    // Requested also when the log is full: the task of an earlier sweep may have ended with its runtime.
    _ = guard(|| group.sweep(members));
    accepted
}
