//! [`Roster`]: the users present in one group, and the state that its members know. A plain value: no locks, no clock.
//!
//! A user has *connections*, each with its own info; the user's info is the one that was set last. A connection that
//! goes is *leaving* for the grace period. If the user comes back meanwhile, the new connection takes its place, and
//! members get no change. A user whose last connection has left is gone. Only [`Roster::tick`] changes what members
//! see, and returns the frames for them; several changes of one user between two ticks become one.
//!
//! ```text
//! mode    members know                  a tick sends                        becomes
//! small   the `told` of all users       joined, updated, left               large: above 1000 users or 512 KiB
//! large   the count, the first 100      the count, changes of the first     small: below 900 users and 384 KiB
//! ```
//!
//! On a change of mode all members get the state again. Always, in small mode: members know each user as its `told`.
//! Always, in large mode: the users of `window` are the first ones, since a new user comes behind all others.
//!
//! Bounds: `places`, the infos and `leaving` are bounded by the members and by `lingering`, and these bound `users` and
//! `changed`. A tick takes up to `changes` of each kind, as far as they fit into its frame. The rest waits for the
//! next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::budget::{Budget, id_len, user_len};
use super::entry::{PresencePage, PresenceUser};
use crate::channel::UserId;
use crate::sync::Arc;

/// Names a membership: the group's number, and the member's number in the group.
pub(super) type MemberId = (u64, u64);

/// The number of connections for which a quiet group keeps memory.
const SPARE_PLACES: usize = 64;

pub(super) struct Roster {
    limits: Limits,
    /// The number of the last diff, or of the last state for all members.
    version: u64,
    /// Keyed by a number that grows with every user, so they are in the order in which they came.
    users: BTreeMap<u64, User>,
    by_id: HashMap<UserId, u64>,
    /// The user of each connection, including leaving ones.
    places: HashMap<MemberId, u64>,
    /// The leaving connections by the end of their grace periods.
    leaving: BTreeSet<(Instant, MemberId)>,
    /// Users that may differ from their `told`, each once, the longest waiting first.
    changed: VecDeque<u64>,
    next_user: u64,
    /// The bytes that the entries of all users take in frames.
    bytes: usize,
    /// The number of users that have a `told`.
    told: usize,
    mode: Mode,
}

/// The thresholds between the modes, and the bounds of a tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) large_above: usize,
    pub(super) small_below: usize,
    pub(super) large_above_bytes: usize,
    pub(super) small_below_bytes: usize,
    /// The number of users that members know in large mode.
    pub(super) window: usize,
    /// The most changes, and the most leaves, of a tick. It must be short, since an `enter` waits for it.
    pub(super) changes: usize,
    /// The most leaving connections. Past it, the grace periods that end first end early.
    pub(super) lingering: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            large_above: 1000,
            small_below: 900,
            // A state is sent at once: it takes at most half of an outbox's default limit.
            large_above_bytes: 512 << 10,
            small_below_bytes: 384 << 10,
            window: 100,
            changes: 1000,
            lingering: 10_000,
        }
    }
}

struct User {
    now: PresenceUser,
    /// The user as members know it in small mode, and as the last event reported it in either mode.
    told: Option<PresenceUser>,
    /// In the order in which their infos were set.
    connections: SmallVec<[Connection; 1]>,
    /// The user is in `changed`.
    waits: bool,
}

struct Connection {
    place: MemberId,
    info: Arc<str>,
    /// The end of the grace period, if the connection is leaving.
    until: Option<Instant>,
}

enum Mode {
    Small,
    Large(Window),
}

/// The state that members know in large mode.
struct Window {
    users: BTreeMap<u64, PresenceUser>,
    count: usize,
    /// A change did not fit into the last frame.
    owes: bool,
}

/// The results of a tick: a frame for the members, and events.
#[derive(Default)]
pub(super) struct Tick {
    pub(super) to_all: Option<ToAll>,
    pub(super) changes: Vec<Change>,
}

/// The frame that all members get.
pub(super) enum ToAll {
    Diff(Diff),
    State(Snapshot),
}

#[derive(Debug, Default)]
pub(super) struct Diff {
    pub(super) version: u64,
    pub(super) count: usize,
    pub(super) joined: Vec<PresenceUser>,
    pub(super) updated: Vec<PresenceUser>,
    pub(super) left: Vec<UserId>,
}

/// The state that a member knows after all diffs up to this version.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) count: usize,
    pub(super) users: Vec<PresenceUser>,
}

/// A change of one user.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Joined(PresenceUser),
    Updated(PresenceUser),
    Left(PresenceUser),
}

/// When a tick is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

impl Roster {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: 0,
            users: BTreeMap::new(),
            by_id: HashMap::new(),
            places: HashMap::new(),
            leaving: BTreeSet::new(),
            changed: VecDeque::new(),
            next_user: 0,
            bytes: 0,
            told: 0,
            mode: Mode::Small,
        }
    }

    /// Adds a connection, in place of one of the user's leaving connections if there is one; returns false when it is
    /// present already.
    pub(super) fn enter(&mut self, place: MemberId, id: &UserId, info: Arc<str>, since: u64) -> bool {
        let number = self.by_id.get(id).copied().unwrap_or_else(|| self.add_user(id, &info, since));
        let user = self.users.get_mut(&number).expect("`by_id` names a user");
        if self.places.contains_key(&place) && user.position(place).is_some() {
            return false;
        }
        if !self.leaving.is_empty()
            && let Some((until, gone)) = user.take_leaving(place)
        {
            self.leaving.remove(&(until, gone));
            self.places.remove(&gone);
        }
        user.connections.push(Connection { place, info, until: None });
        self.places.insert(place, number);
        self.change(number);
        true
    }

    /// Sets the info of a connection; returns false when it is not present.
    pub(super) fn update(&mut self, place: MemberId, info: Arc<str>) -> bool {
        let Some((number, user)) = self.user_of(place) else { return false };
        let Some(at) = user.position(place) else { return false };
        user.connections.remove(at);
        user.connections.push(Connection { place, info, until: None });
        self.change(number);
        true
    }

    /// Lets a connection leave: it is gone at `until`. Returns false when it is not present. A channel without a user
    /// cannot come back as the same user, so it is gone `now`.
    pub(super) fn leave(&mut self, place: MemberId, now: Instant, until: Instant) -> bool {
        let Some((_, user)) = self.user_of(place) else { return false };
        let Some(at) = user.position(place) else { return false };
        let until = if is_reserved(&user.now.id) { now } else { until };
        user.connections[at].until = Some(until);
        self.leaving.insert((until, place));
        true
    }

    /// Returns the number of users.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns whether there are no users, and no changes to send.
    pub(super) fn is_over(&self) -> bool {
        self.users.is_empty() && self.due() == Due::Never
    }

    pub(super) fn due(&self) -> Due {
        let owes = matches!(&self.mode, Mode::Large(window) if window.owes);
        if owes || !self.changed.is_empty() || self.leaving.len() > self.limits.lingering {
            return Due::Now;
        }
        self.leaving.first().map_or(Due::Never, |(until, _)| Due::At(*until))
    }

    /// Returns up to `limit` users behind `after`, or the first users if there is no such user. A `room` limits them to
    /// what fits into a frame.
    pub(super) fn page(&self, after: Option<&str>, limit: usize, mut room: Option<Budget>) -> PresencePage {
        let after = after.and_then(|id| self.by_id.get(id)).map_or(Bound::Unbounded, |number| Bound::Excluded(*number));
        let mut behind = self.users.range((after, Bound::Unbounded)).map(|(_, user)| &user.now).peekable();
        let mut users = Vec::new();
        while users.len() < limit
            && let Some(user) = behind.next_if(|user| room.as_mut().is_none_or(|room| room.take(user_len(user))))
        {
            users.push(user.clone());
        }
        PresencePage { count: self.users.len(), users, more: behind.peek().is_some() }
    }

    /// Returns the state that members know.
    pub(super) fn snapshot(&self) -> Snapshot {
        let version = self.version;
        match &self.mode {
            Mode::Small => {
                let users = self.users.values().filter_map(|user| user.told.clone()).collect();
                Snapshot { version, count: self.told, users }
            }
            Mode::Large(window) => {
                Snapshot { version, count: window.count, users: window.users.values().cloned().collect() }
            }
        }
    }

    /// Makes changes visible, and returns the frame and the events for them.
    pub(super) fn tick(&mut self, now: Instant) -> Tick {
        let mut room = Budget::new();
        let mut diff = Diff::default();
        let mut changes = Vec::new();
        self.let_go(now, &mut room, &mut diff, &mut changes);
        self.shrink();
        let to_all = if self.switch() {
            self.take_changed(None, &mut Diff::default(), &mut changes);
            self.version += 1;
            Some(ToAll::State(self.state_anew()))
        } else {
            let fit = matches!(self.mode, Mode::Small).then_some(&mut room);
            self.take_changed(fit, &mut diff, &mut changes);
            self.finish(diff).map(ToAll::Diff)
        };
        Tick { to_all, changes }
    }

    fn user_of(&mut self, place: MemberId) -> Option<(u64, &mut User)> {
        let number = *self.places.get(&place)?;
        Some((number, self.users.get_mut(&number)?))
    }

    fn add_user(&mut self, id: &UserId, info: &Arc<str>, since: u64) -> u64 {
        let number = self.next_user;
        self.next_user += 1;
        let now = PresenceUser { id: id.clone(), info: Arc::clone(info), connections: 0, since };
        self.bytes += user_len(&now);
        self.by_id.insert(id.clone(), number);
        self.users.insert(number, User { now, told: None, connections: SmallVec::new(), waits: false });
        number
    }

    /// Updates a user after a change of its connections.
    fn change(&mut self, number: u64) {
        let user = self.users.get_mut(&number).expect("the caller has just changed this user");
        self.bytes -= user_len(&user.now);
        if let Some(last) = user.connections.last() {
            user.now.info = Arc::clone(&last.info);
        }
        user.now.connections = user.connections.len();
        self.bytes += user_len(&user.now);
        if !std::mem::replace(&mut user.waits, true) {
            self.changed.push_back(number);
        }
    }

    /// Frees the memory that only the busiest moment needed.
    fn shrink(&mut self) {
        if self.places.capacity() > SPARE_PLACES + 4 * self.places.len() {
            self.places.shrink_to(2 * self.places.len());
            self.by_id.shrink_to(2 * self.by_id.len());
            self.changed.shrink_to(2 * self.changed.len());
        }
    }

    /// Removes connections whose grace period has ended, and users without connections.
    fn let_go(&mut self, now: Instant, room: &mut Budget, diff: &mut Diff, changes: &mut Vec<Change>) {
        for _ in 0..self.limits.changes {
            let Some(&(until, place)) = self.leaving.first() else { return };
            if until > now && self.leaving.len() <= self.limits.lingering {
                return;
            }
            let number = self.places[&place];
            let user = self.users.get_mut(&number).expect("`places` names a user");
            let is_last = user.connections.len() == 1;
            let is_told = is_last && user.told.is_some() && matches!(self.mode, Mode::Small);
            if is_told && !room.take(id_len(&user.now.id)) {
                return;
            }
            self.leaving.pop_first();
            self.places.remove(&place);
            if !is_last {
                user.connections.retain(|connection| connection.place != place);
                self.change(number);
                continue;
            }
            let gone = self.remove_user(number);
            if is_told {
                diff.left.push(gone.now.id.clone());
            }
            changes.extend(gone.told.map(Change::Left));
        }
    }

    fn remove_user(&mut self, number: u64) -> User {
        let gone = self.users.remove(&number).expect("it was just found");
        self.by_id.remove(&gone.now.id);
        self.bytes -= user_len(&gone.now);
        self.told -= usize::from(gone.told.is_some());
        gone
    }

    /// Changes the mode if a threshold was crossed; returns whether it did.
    fn switch(&mut self) -> bool {
        let limits = &self.limits;
        let is_small = matches!(self.mode, Mode::Small);
        if is_small && (self.users.len() > limits.large_above || self.bytes > limits.large_above_bytes) {
            self.mode = Mode::Large(Window { users: BTreeMap::new(), count: 0, owes: false });
        } else if !is_small && self.users.len() < limits.small_below && self.bytes < limits.small_below_bytes {
            self.mode = Mode::Small;
        } else {
            return false;
        }
        true
    }

    /// Returns the current state for all members, who know it from now on.
    fn state_anew(&mut self) -> Snapshot {
        let first = self.users.iter().take(self.limits.window).map(|(number, user)| (*number, user.now.clone()));
        if let Mode::Large(window) = &mut self.mode {
            *window = Window { users: first.collect(), count: self.users.len(), owes: false };
        }
        self.snapshot()
    }

    /// Takes changed users, up to the limit of a tick. With a `room`, takes only as many as fit, and adds them to the
    /// diff for the members.
    fn take_changed(&mut self, mut room: Option<&mut Budget>, diff: &mut Diff, changes: &mut Vec<Change>) {
        let mut taken = 0;
        while taken < self.limits.changes
            && let Some(number) = self.changed.front()
        {
            taken += 1;
            // The user may be gone.
            if let Some(user) = self.users.get_mut(number) {
                let is_news = user.told.as_ref().is_none_or(|told| !told.is_same(&user.now));
                if is_news && room.as_mut().is_some_and(|room| !room.take(user_len(&user.now))) {
                    return;
                }
                user.waits = false;
                if is_news {
                    let told = user.told.replace(user.now.clone()).is_some();
                    self.told += usize::from(!told);
                    let (list, change): (_, fn(_) -> _) =
                        if told { (&mut diff.updated, Change::Updated) } else { (&mut diff.joined, Change::Joined) };
                    changes.push(change(user.now.clone()));
                    if room.is_some() {
                        list.push(user.now.clone());
                    }
                }
            }
            self.changed.pop_front();
        }
    }

    /// Completes the diff for the members; returns `None` when nothing has changed for them.
    fn finish(&mut self, mut diff: Diff) -> Option<Diff> {
        let has_changed = match &mut self.mode {
            Mode::Small => {
                diff.count = self.told;
                !(diff.joined.is_empty() && diff.updated.is_empty() && diff.left.is_empty())
            }
            Mode::Large(window) => {
                diff = Diff { count: self.users.len(), ..Diff::default() };
                let had = std::mem::replace(&mut window.count, diff.count);
                window.follow(&self.users, self.limits.window, &mut diff);
                let lists = diff.joined.len() + diff.updated.len() + diff.left.len();
                lists > 0 || had != diff.count
            }
        };
        has_changed.then(|| {
            self.version += 1;
            Diff { version: self.version, ..diff }
        })
    }
}

impl User {
    fn position(&self, place: MemberId) -> Option<usize> {
        // The latest are last, and a user has few.
        self.connections.iter().rposition(|connection| connection.place == place && connection.until.is_none())
    }

    /// Takes out the leaving connection that a new one replaces: the one of `place`, or the one whose grace period ends
    /// first.
    fn take_leaving(&mut self, place: MemberId) -> Option<(Instant, MemberId)> {
        let leaving =
            self.connections.iter().enumerate().filter_map(|(at, known)| Some((at, known.until?, known.place)));
        let (at, until, gone) = leaving.min_by_key(|&(_, until, known)| (known != place, until))?;
        self.connections.remove(at);
        Some((until, gone))
    }
}

impl Window {
    /// Adds the changes among the first users to the diff. Changes that do not fit stay owed.
    fn follow(&mut self, users: &BTreeMap<u64, User>, most: usize, diff: &mut Diff) {
        let mut room = Budget::new();
        self.owes = false;
        self.users.retain(|number, user| {
            let stays = users.contains_key(number);
            if !stays {
                // All ids of a window always fit.
                room.take(id_len(&user.id));
                diff.left.push(user.id.clone());
            }
            stays
        });
        for (number, user) in users.iter().take(most) {
            let known = self.users.get(number);
            if known.is_some_and(|known| known.is_same(&user.now)) {
                continue;
            }
            if !room.take(user_len(&user.now)) {
                self.owes = true;
                return;
            }
            if known.is_some() { &mut diff.updated } else { &mut diff.joined }.push(user.now.clone());
            self.users.insert(*number, user.now.clone());
        }
    }
}

/// Returns whether an id has the form that is reserved for channels without a user.
pub(super) fn is_reserved(id: &str) -> bool {
    id.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
