//! The maps of one box: its groups, its channels, and the users of those.
//!
//! [`ChannelBox`](super::ChannelBox) and all handles share one registry. It makes groups when they are needed and
//! takes closed ones out; a lookup takes no lock.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::delivery::send::GroupSend;
use super::delivery::state::{Keeper, Kind, LiveGroup, Member, Members};
use super::error::{JoinError, JoinErrorReason};
use super::history::resume::Recovery;
use super::history::{History, Position, Ring, Since};
use super::idle::IdleGroups;
use super::name;
use super::options::GroupOptions;
use super::users::{REVOKED_REASON, Users};
use crate::channel::{Channel, ChannelId, Home, Link, Overflow, Sender, UserId};
use crate::clock::unix_millis;
use crate::dispatch::Dispatcher;
use crate::observe::groups as observe;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, NameMap, Weak, lock, unique_number};

/// The most groups that one channel may be in.
pub const MAX_GROUPS_PER_CHANNEL: usize = 1024;

/// The rules and options that the program has set for a box.
pub(super) struct Rules {
    pub(super) options: Box<dyn Fn(&str) -> GroupOptions + Send + Sync>,
    pub(super) may_join: Box<Gate>,
    pub(super) may_send: Box<Gate>,
    /// The dispatcher of presence events, and of what offline queues drop.
    pub(super) events: Option<Dispatcher>,
}

/// Decides whether a channel may join a group, or send to it.
pub(super) type Gate = dyn Fn(&Sender, &str) -> bool + Send + Sync;

impl Default for Rules {
    fn default() -> Self {
        Self {
            options: Box::new(|_| GroupOptions::default()),
            may_join: Box::new(|_, _| true),
            may_send: Box::new(|_, _| true),
            events: None,
        }
    }
}

pub(crate) struct Registry {
    groups: NameMap<Arc<str>, LiveGroup>,
    /// One group for each user that has attached channels.
    inboxes: NameMap<Arc<str>, LiveGroup>,
    /// Weak, since a map keeps a removed entry for a while, and a channel holds values of the program.
    channels: NameMap<ChannelId, Weak<Link>>,
    pub(super) users: Users,
    idle: Mutex<IdleGroups>,
    /// Notified whenever a channel is forgotten.
    forgotten: Notify,
    pub(super) rules: Rules,
    /// The counter of the next epoch: see `next_epoch`.
    epoch: AtomicU64,
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only a recorder reads it"))]
    depths: observe::Depths,
    me: Weak<Self>,
}

impl Registry {
    pub(super) fn new(rules: Rules) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            groups: NameMap::new(),
            inboxes: NameMap::new(),
            channels: NameMap::new(),
            users: Users::default(),
            idle: Mutex::new(IdleGroups::default()),
            forgotten: Notify::new(),
            rules,
            epoch: AtomicU64::new(RandomState::new().build_hasher().finish()),
            depths: observe::Depths::default(),
            me: me.clone(),
        })
    }

    fn map(&self, kind: Kind) -> &NameMap<Arc<str>, LiveGroup> {
        match kind {
            Kind::Named => &self.groups,
            Kind::Inbox => &self.inboxes,
        }
    }

    /// Returns the group of this name, if it is there.
    pub(super) fn group(&self, name: &str) -> Option<Arc<LiveGroup>> {
        self.groups.with(name, Arc::clone)
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        self.groups.values().iter().map(|group| group.name.to_string()).collect()
    }

    pub(super) fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn members(&self, group: &str) -> Option<Arc<Members>> {
        let group = self.group(group)?;
        Some(Arc::clone(&lock(&group.state).members))
    }

    /// Begins a send to the group that has this name now. A group that keeps a history is made by the send.
    pub(super) fn begin_send(&self, name: &str) -> GroupSend {
        match self.group(name) {
            Some(group) => GroupSend::to(group),
            None if self.keeps_history(name) => GroupSend::to_new(self.keeper(), name),
            None => GroupSend::to_nobody(),
        }
    }

    fn keeps_history(&self, name: &str) -> bool {
        name::is_valid(name) && (self.rules.options)(name).history.is_some()
    }

    fn keeper(&self) -> Arc<dyn Keeper> {
        self.me.upgrade().expect("a registry is only reached through an Arc")
    }

    /// Makes a channel a member of a named group, if the box's rules allow.
    pub(super) fn join(
        &self,
        channel: &Channel,
        name: &str,
        since: Option<Since>,
    ) -> Result<(Arc<Member>, Option<Recovery>), JoinError> {
        let error = |reason| refused(channel.id(), name, reason);
        self.check_join(channel, name).map_err(error)?;
        if let Some(since) = since {
            self.compress_missed(channel.link(), name, since);
        }
        self.admit(Kind::Named, channel.link(), name, since).map_err(error)
    }

    /// Compresses the messages that will be replayed to a client, unless they are compressed already. Holds no lock.
    fn compress_missed(&self, link: &Link, group: &str, since: Since) {
        if link.deflates() {
            self.history(group, since).messages.iter().for_each(|message| _ = message.frame.wire(true));
        }
    }

    /// Returns a part of a group's history.
    pub(super) fn history(&self, group: &str, since: Since) -> History {
        let none = || History { position: Position::default(), recovered: false, messages: Vec::new() };
        let Some(group) = self.group(group) else { return none() };
        let now = SystemTime::now();
        let (gone, history) = {
            let mut state = lock(&group.state);
            let Some(ring) = &mut state.history else { return none() };
            (ring.trim(now), ring.history(since))
        };
        drop(gone);
        history
    }

    fn check_join(&self, channel: &Channel, name: &str) -> Result<(), JoinErrorReason> {
        if !name::is_valid(name) {
            return Err(JoinErrorReason::InvalidName);
        }
        let allowed = (self.rules.may_join)(&channel.sender(), name) && self.add(channel);
        if allowed { Ok(()) } else { Err(JoinErrorReason::Denied) }
    }

    /// Makes a channel a member of a group, which is made if there is none, and sends the messages that it has missed
    /// `since`.
    ///
    /// Where the last member leaves meanwhile:
    ///
    /// 1. The leave comes first, under the group's lock: `admit` finds the group closed. This call helps it out of the
    ///    map and opens another group.
    /// 2. The join comes first: the group has a member again when the leave looks, and is not closed.
    pub(super) fn admit(
        &self,
        kind: Kind,
        link: &Arc<Link>,
        name: &str,
        since: Option<Since>,
    ) -> Result<(Arc<Member>, Option<Recovery>), JoinErrorReason> {
        loop {
            let group = self.open(kind, name);
            let mut recovery = None;
            let added = link.add_feed(|feeds| {
                if feeds.len() >= MAX_GROUPS_PER_CHANNEL {
                    return Err(Some(JoinErrorReason::TooManyGroups));
                }
                if feeds.iter().any(|feed| group.is_source_of(&**feed)) {
                    return Err(Some(JoinErrorReason::AlreadyMember));
                }
                let (member, missed) = group.admit(link, since).ok_or(None)?;
                recovery = missed.recovery;
                Ok((member, missed.frames))
            });
            let reason = match added {
                Some(Ok(member)) => {
                    observe::joined(link.id(), group.named());
                    return Ok((member, recovery));
                }
                Some(Err(None)) => {
                    group.vanish();
                    continue;
                }
                Some(Err(Some(reason))) => reason,
                None => JoinErrorReason::Closed,
            };
            // The group may have been made for this channel alone.
            group.vanish_if_empty();
            return Err(reason);
        }
    }

    /// Adds a channel, and its user's entry; returns false when the user was revoked since the channel began.
    ///
    /// The channel may end meanwhile, on another thread:
    ///
    /// 1. It ends before `add_home`. Then `add_home` is refused, and this call forgets the entries that it has made.
    /// 2. It ends after `add_home`. Then the end finds this registry among the channel's homes, and the entries are
    ///    there already: the end forgets them.
    pub(super) fn add(&self, channel: &Channel) -> bool {
        let link = channel.link();
        let home: Weak<dyn Home> = Weak::clone(&self.me) as _;
        if link.has_home(&home) {
            return true;
        }
        self.channels.get_or_insert(link.id(), Arc::new(Arc::downgrade(link)));
        if channel.user().is_some_and(|user| !self.users.add(user, link)) {
            link.revoke(REVOKED_REASON);
            link.retire();
            self.forget(link.id());
            return false;
        }
        if !link.add_home(home) {
            self.forget(link.id());
        }
        true
    }

    /// Closes all channels of a user, and returns how many there were.
    pub(super) fn revoke(&self, user: &UserId) -> usize {
        let revoked = self.users.revoke(user);
        for link in &revoked {
            link.revoke(REVOKED_REASON);
            link.retire();
        }
        revoked.len()
    }

    pub(super) fn channel(&self, id: ChannelId) -> Option<Arc<Link>> {
        self.channels.with(&id, |link| link.upgrade()).flatten()
    }

    pub(super) fn open_channels(&self) -> impl Iterator<Item = Arc<Link>> {
        self.channels.values().into_iter().filter_map(|link| link.upgrade())
    }

    pub(super) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Waits until the registry has no channel.
    pub(super) async fn emptied(&self) {
        loop {
            // Made before the look: a channel that goes in between is not missed.
            let forgotten = self.forgotten.notified();
            if self.channel_count() == 0 {
                return;
            }
            forgotten.await;
        }
    }

    /// Returns an epoch below 2^53: the current second, then a 21-bit counter with a random start.
    ///
    /// Unique within this box; a collision with an epoch of an earlier process is very unlikely. JavaScript counts
    /// exactly to 2^53.
    pub(super) fn next_epoch(&self) -> u64 {
        let seconds = unix_millis(SystemTime::now()) / 1000;
        // Relaxed: only the number itself matters.
        let count = self.epoch.fetch_add(1, Ordering::Relaxed);
        (seconds & ((1 << 32) - 1)) << 21 | (count & ((1 << 21) - 1))
    }

    /// Records the depth of all queues in the program's recorder.
    #[cfg(feature = "metrics")]
    pub(super) fn record_metrics(&self) {
        let mut depth = observe::Depth::default();
        for link in self.open_channels() {
            let counts = link.counts();
            depth.outbox_messages += counts.waiting;
            depth.outbox_bytes += counts.waiting_bytes;
            depth.waiting_channels += usize::from(counts.waiting_bytes > 0);
        }
        for group in [Kind::Named, Kind::Inbox].into_iter().flat_map(|kind| self.map(kind).values()) {
            lock(&group.state).add_depth(&mut depth);
        }
        self.depths.tell(&depth);
    }
}

impl Keeper for Registry {
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<LiveGroup>> {
        self.map(kind).with(name, Arc::clone)
    }

    fn open(&self, kind: Kind, name: &str) -> Arc<LiveGroup> {
        if let Some(group) = self.find(kind, name) {
            return group;
        }
        let name: Arc<str> = name.into();
        let options = match kind {
            Kind::Named => (self.rules.options)(&name),
            // No message may be missing in the middle: a client that reads too slowly is closed, and reconnects.
            Kind::Inbox => GroupOptions::default().overflow(Overflow::Close),
        };
        let ring = options.history.map(|limits| Ring::new(limits, self.next_epoch()));
        let keeper: Weak<dyn Keeper> = Weak::clone(&self.me) as _;
        let fresh = LiveGroup::new(&name, kind, unique_number().get(), options, ring, keeper);
        let group = self.map(kind).get_or_insert(name, Arc::clone(&fresh));
        if Arc::ptr_eq(&group, &fresh) {
            group.open.begin();
        }
        group
    }

    fn remove(&self, group: &Arc<LiveGroup>) -> bool {
        self.map(group.kind).remove_if_same(&*group.name, group)
    }

    fn note_idle(&self, group: &Arc<LiveGroup>) {
        let evicted = lock(&self.idle).note(group, SystemTime::now());
        evicted.iter().for_each(|group| group.vanish());
    }
}

impl Home for Registry {
    fn forget(&self, id: ChannelId) {
        let Some(known) = self.channels.with(&id, Arc::clone) else { return };
        self.channels.remove_if_same(&id, &known);
        if let Some(link) = known.upgrade()
            && let Some(user) = &link.options().user
        {
            self.users.remove(user, id);
        }
        self.forgotten.notify_waiters();
    }
}

/// Makes the error of a join, and counts it.
fn refused(channel: ChannelId, group: &str, reason: JoinErrorReason) -> JoinError {
    observe::join_refused(channel, reason.label());
    JoinError::new(group, reason)
}
