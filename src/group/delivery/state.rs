//! One group while it is in its map, its members, and what lies under its one lock.
//!
//! These three name each other, so they stand together: a [`LiveGroup`] has a locked [`State`], the state lists the
//! [`Member`]s, and a member leads back to its group. What they do is in the files beside this one: `life` lets
//! members in, `member` lets them out, `send` appends, `sweeper` and `sweep` deliver.
//!
//! The floor above is reached by two traits alone: a [`Keeper`] has the maps of groups, a [`Watcher`] hears of members
//! that leave.
//!
//! Locks: a channel's link first, then a group's state. No socket is written under a group's state.

use std::any::Any;

use tokio::runtime::Handle;

use super::log::Log;
use crate::channel::{ChannelId, Link, Waitlist};
use crate::group::history::Ring;
use crate::group::options::GroupOptions;
use crate::observe::groups as observe;
use crate::snapshot::{Release, Snapshot};
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use crate::sync::{Arc, Mutex, Weak};

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Channels join it by its name.
    Named,
    /// Holds the attached channels of the user whose id is its name.
    Inbox,
}

impl Kind {
    /// Returns the name of this kind in a metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Inbox => "inbox",
        }
    }
}

/// One group. It is in its map as long as it has members, or a history.
pub(crate) struct LiveGroup {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    /// Unique within the process. An outbox tells the groups of its messages apart by it.
    pub(crate) number: u64,
    pub(crate) options: GroupOptions,
    /// The fields that a saved message has behind its payload; `None` when the group keeps no history.
    pub(crate) tail: Option<Box<[u8]>>,
    pub(crate) state: Mutex<State>,
    /// Sweeps asked for since the last sweep looked: see `sweeper`.
    pub(super) requests: AtomicUsize,
    /// The presence of the group, once a member has entered.
    pub(crate) watcher: Mutex<Option<Arc<dyn Watcher>>>,
    pub(crate) open: observe::Open,
    pub(super) keeper: Weak<dyn Keeper>,
    pub(crate) me: Weak<Self>,
}

impl LiveGroup {
    pub(crate) fn new(
        name: &Arc<str>,
        kind: Kind,
        number: u64,
        options: GroupOptions,
        ring: Option<Ring>,
        keeper: Weak<dyn Keeper>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            name: Arc::clone(name),
            kind,
            number,
            options,
            tail: options.history.map(|_| crate::frame::tail(name)),
            state: Mutex::new(State::new(ring)),
            requests: AtomicUsize::new(0),
            watcher: Mutex::new(None),
            open: observe::Open::new(kind.label()),
            keeper,
            me: me.clone(),
        })
    }

    /// Returns what a span or a metric may say of the group.
    pub(crate) fn named(&self) -> observe::Named<'_> {
        (self.kind.label(), (self.kind == Kind::Named).then_some(&*self.name))
    }
}

/// What a group has under its lock.
pub(crate) struct State {
    /// Frames on their way to the members.
    pub(crate) log: Log,
    pub(crate) members: Arc<Members>,
    /// The number of the next membership.
    pub(super) next_member: u64,
    /// The group takes no more members: it is out of its map, or soon will be.
    pub(crate) closed: bool,
    /// A runtime that drives a member's connection, once one was looked up. A leave forgets it, since the leaving
    /// member may be the last one on that runtime.
    pub(super) runtime: Option<Handle>,
    /// Senders that wait for room in the log.
    pub(super) waiting: Waitlist,
    /// The messages that the group keeps, if it keeps any.
    pub(crate) history: Option<Box<Ring>>,
    /// The group's entry among the idle groups, if it has one.
    pub(crate) listed: Option<Listed>,
}

/// How a group is listed among the idle groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    /// The bytes that its history is counted with.
    pub(crate) bytes: usize,
    /// A message came since. The group then counts as left at the time of that message.
    pub(crate) again: bool,
}

impl State {
    pub(super) fn new(history: Option<Ring>) -> Self {
        Self {
            log: Log::new(),
            members: Arc::new(Members::new()),
            next_member: 0,
            closed: false,
            runtime: None,
            waiting: Waitlist::default(),
            history: history.map(Box::new),
            listed: None,
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn add_depth(&self, depth: &mut observe::Depth) {
        depth.queue_messages += self.log.len();
        depth.queue_bytes += self.log.bytes();
        if let Some(ring) = &self.history {
            depth.history_messages += ring.len();
            depth.history_bytes += ring.bytes();
        }
    }
}

/// The members of one group by number. A later join has a higher number, so they are listed in the order of joins.
pub(crate) type Members = Snapshot<u64, Arc<Member>>;

/// One channel's membership of one group.
pub(crate) struct Member {
    pub(crate) number: u64,
    pub(crate) group: Arc<LiveGroup>,
    /// Weak: the link holds this member as one of its feeds.
    pub(crate) link: Weak<Link>,
    pub(crate) channel: ChannelId,
    /// The position in the log of the next frame for this member; `u64::MAX` once the membership is over.
    ///
    /// Written under the lock of the member's link alone. A sweep also reads it without that lock, as a guess that it
    /// checks under the lock.
    pub(super) cursor: AtomicU64,
}

impl Release for Arc<Member> {
    fn release(self) {}
}

/// The maps of groups: what a live group asks of the floor above it.
pub(crate) trait Keeper: Send + Sync {
    /// Returns the group of this name that is in its map now.
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<LiveGroup>>;

    /// Returns the group of this name, and makes it if there is none.
    fn open(&self, kind: Kind, name: &str) -> Arc<LiveGroup>;

    /// Takes a closed group out of its map; returns whether this call did it.
    fn remove(&self, group: &Arc<LiveGroup>) -> bool;

    /// Lists a group that keeps a history and has no members.
    fn note_idle(&self, group: &Arc<LiveGroup>);
}

/// The presence of a group: what a live group tells the floor above it. Called without a lock.
pub(crate) trait Watcher: Any + Send + Sync {
    /// A membership is over; `closed` says that it was the last one of a group that is closed now.
    fn left(self: Arc<Self>, member: &Member, closed: bool);

    /// The group is out of its map.
    fn vanished(self: Arc<Self>);
}
