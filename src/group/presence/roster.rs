//! Who is present in one group, and what of it the members have been told. A plain value: no locks, no clock.
//!
//! A user has *connections*, each with an info of its own; the user's info is that which was set last. A connection
//! that goes is *leaving* for a while: if the user comes back meanwhile the new connection takes its place, and
//! nobody hears of it. A user whose last connection has left is gone. All that is visible changes in [`Roster::tick`]
//! alone, which says what the members are to be told; between two ticks changes of one user become one.
//!
//! ```text
//! mode    members know                  a tick tells                        becomes
//! small   all users that were told      joined, updated, left               large: above 1000 users or 512 KiB
//! large   how many, and the first 100   how many; what changed in those     small: below 900 users and 384 KiB
//! ```
//!
//! On a change of mode everybody is told the state anew. Always, in small mode: what members know of a user is its
//! `told`. Always, in large mode: the users of `window` are the first ones, since who comes is behind all others.
//!
//! Bounds: `places`, the infos and `leaving` are bounded by the members and by `lingering`; `users` and `changed` by
//! those; a tick takes up to `changes` of each kind, and what fits into its frame. The rest waits for the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::budget::{Budget, id_len, user_len};
use super::entry::{PresencePage, PresenceUser};
use crate::channel::UserId;
use crate::sync::Arc;

/// Names a membership: the number of its group, and its own there.
pub(super) type MemberId = (u64, u64);

/// Connections that a quiet group keeps room for.
const SPARE_PLACES: usize = 64;

pub(super) struct Roster {
    limits: Limits,
    /// The number of the last diff, or state for all, that was made.
    version: u64,
    /// By a number that grows with every user: in the order in which they came.
    users: BTreeMap<u64, User>,
    by_id: HashMap<UserId, u64>,
    /// The user of each connection, leaving ones too.
    places: HashMap<MemberId, u64>,
    /// When each of the leaving connections is gone.
    leaving: BTreeSet<(Instant, MemberId)>,
    /// Users that are not, perhaps, as they were told; each once, the longest waiting first.
    changed: VecDeque<u64>,
    next_user: u64,
    /// What the entries of all users take in frames.
    bytes: usize,
    /// Users that were told.
    told: usize,
    mode: Mode,
}

/// Where one mode becomes the other, and what a tick may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) large_above: usize,
    pub(super) small_below: usize,
    pub(super) large_above_bytes: usize,
    pub(super) small_below_bytes: usize,
    /// Users that members know of in large mode.
    pub(super) window: usize,
    /// Changes, and leaves, that a tick takes: it is short, since who enters waits for it.
    pub(super) changes: usize,
    /// Connections that may be leaving. Past it those that have waited longest are gone early.
    pub(super) lingering: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            large_above: 1000,
            small_below: 900,
            // A state goes out in one go: half of what an outbox takes by default.
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
    /// As it was told to the members in small mode, and by an event in either.
    told: Option<PresenceUser>,
    /// The one that was set last is the last.
    connections: SmallVec<[Connection; 1]>,
    /// It is in `changed`.
    waits: bool,
}

struct Connection {
    place: MemberId,
    info: Arc<str>,
    /// When it is gone, if it is leaving.
    until: Option<Instant>,
}

enum Mode {
    Small,
    Large(Window),
}

/// What members know in large mode.
struct Window {
    users: BTreeMap<u64, PresenceUser>,
    count: usize,
    /// Something of it did not fit into the last frame.
    owes: bool,
}

/// What a tick has to tell.
#[derive(Default)]
pub(super) struct Tick {
    pub(super) to_all: Option<ToAll>,
    pub(super) changes: Vec<Change>,
}

/// What all members are to get.
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

/// What members know who have heard all until this version.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) count: usize,
    pub(super) users: Vec<PresenceUser>,
}

/// What has happened to a user.
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

    /// Adds a connection, in the place of one of the user's that is leaving if there is one; false when it is
    /// here already.
    pub(super) fn enter(&mut self, place: MemberId, id: &UserId, info: Arc<str>, since: u64) -> bool {
        let number = self.by_id.get(id).copied().unwrap_or_else(|| self.add_user(id, &info, since));
        let user = self.users.get_mut(&number).expect("it is known by its id");
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

    /// Sets the info of a connection; false when it is not here.
    pub(super) fn update(&mut self, place: MemberId, info: Arc<str>) -> bool {
        let Some((number, user)) = self.user_of(place) else { return false };
        let Some(at) = user.position(place) else { return false };
        user.connections.remove(at);
        user.connections.push(Connection { place, info, until: None });
        self.change(number);
        true
    }

    /// Lets a connection leave, which is gone at `until`; false when it is not here. Nobody comes back as a user
    /// without an identity: that one is gone `now`.
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

    /// Tells whether there is nobody, and nothing to tell.
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

    /// Returns up to `limit` users behind `after`, or from the beginning if there is no such user, as many as fit
    /// into a frame.
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

    /// Returns what members know.
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

    /// Makes changes visible, and says what is to be told.
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

    /// Takes note that the connections of a user have changed.
    fn change(&mut self, number: u64) {
        let user = self.users.get_mut(&number).expect("its connections have just changed");
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

    /// Keeps no memory for the busiest moment there was.
    fn shrink(&mut self) {
        if self.places.capacity() > SPARE_PLACES + 4 * self.places.len() {
            self.places.shrink_to(2 * self.places.len());
            self.by_id.shrink_to(2 * self.by_id.len());
            self.changed.shrink_to(2 * self.changed.len());
        }
    }

    /// Lets go of connections whose time is over, and of users without any.
    fn let_go(&mut self, now: Instant, room: &mut Budget, diff: &mut Diff, changes: &mut Vec<Change>) {
        for _ in 0..self.limits.changes {
            let Some(&(until, place)) = self.leaving.first() else { return };
            if until > now && self.leaving.len() <= self.limits.lingering {
                return;
            }
            let number = self.places[&place];
            let user = self.users.get_mut(&number).expect("it has this connection");
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

    /// Goes from one mode to the other if it is time; true when it did.
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

    /// Returns the state for all, as it is: from now on members know that.
    fn state_anew(&mut self) -> Snapshot {
        let first = self.users.iter().take(self.limits.window).map(|(number, user)| (*number, user.now.clone()));
        if let Mode::Large(window) = &mut self.mode {
            *window = Window { users: first.collect(), count: self.users.len(), owes: false };
        }
        self.snapshot()
    }

    /// Takes users that have changed, as many as a tick may, and as fit if there is a room: then members are told by
    /// this diff.
    fn take_changed(&mut self, mut room: Option<&mut Budget>, diff: &mut Diff, changes: &mut Vec<Change>) {
        let mut taken = 0;
        while taken < self.limits.changes
            && let Some(number) = self.changed.front()
        {
            taken += 1;
            // It is gone, perhaps.
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

    /// Makes a diff of what has changed for members; `None` when that is nothing.
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
        // The latest are last, and a user's few.
        self.connections.iter().rposition(|connection| connection.place == place && connection.until.is_none())
    }

    /// Takes the connection out whose place a new one takes: that of `place` itself, or the one that is gone first.
    fn take_leaving(&mut self, place: MemberId) -> Option<(Instant, MemberId)> {
        let leaving =
            self.connections.iter().enumerate().filter_map(|(at, known)| Some((at, known.until?, known.place)));
        let (at, until, gone) = leaving.min_by_key(|&(_, until, known)| (known != place, until))?;
        self.connections.remove(at);
        Some((until, gone))
    }
}

impl Window {
    /// Finds out what has changed among the first users since it was told; what does not fit stays owed.
    fn follow(&mut self, users: &BTreeMap<u64, User>, most: usize, diff: &mut Diff) {
        let mut room = Budget::new();
        self.owes = false;
        self.users.retain(|number, user| {
            let stays = users.contains_key(number);
            if !stays {
                // As many ids as a window has always fit.
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

/// Tells whether an id is of the form that channels without a user have.
pub(super) fn is_reserved(id: &str) -> bool {
    id.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
