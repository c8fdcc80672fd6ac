//! Who is in a group, and how far each member has come in its log.

use std::fmt;

use smallvec::SmallVec;

use crate::channel::{Access, ChannelId, Feed, Out, Route};
use crate::group::Group;
use crate::group::delivery::log::Entry;
use crate::group::presence;
use crate::observe::groups as observe;
use crate::snapshot::{Release, Snapshot};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Weak, lock};

/// The members of one group by number, which grows with every join: they are listed as they came.
pub(in crate::group) type Members = Snapshot<u64, Arc<Place>>;

impl Release for Arc<Place> {
    fn release(self) {}
}

/// One channel's place in one group.
pub(in crate::group) struct Place {
    pub(in crate::group) number: u64,
    pub(in crate::group) group: Arc<Group>,
    /// Weak: the `Out` holds this place as one of its feeds.
    pub(in crate::group) out: Weak<Out>,
    pub(in crate::group) channel: ChannelId,
    /// The position of the next frame for this member. Written under its `Out` alone; read without it for a guess.
    pub(in crate::group) cursor: AtomicU64,
}

impl Place {
    pub(in crate::group) fn cursor(&self) -> u64 {
        // Relaxed: the lock of the `Out` orders all access.
        self.cursor.load(Ordering::Relaxed)
    }

    pub(in crate::group) fn set_cursor(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Relaxed);
    }

    /// Ends the membership.
    pub(in crate::group) fn end(self: &Arc<Self>) -> bool {
        let feed: Arc<dyn Feed> = Arc::clone(self) as _;
        self.out.upgrade().is_some_and(|out| out.end_feed(&feed))
    }

    /// Tells whether the membership is over. Exact under the lock of the `Out`, or of what is taken after it was ended.
    pub(in crate::group) fn has_ended(&self) -> bool {
        self.cursor() == u64::MAX
    }

    /// Hands the member one frame, and tells its tally.
    pub(in crate::group) fn push(&self, entry: &Entry, access: &mut Access<'_>) {
        if entry.except != Some(self.channel) {
            entry.tally.note(access.push(&entry.frame, &self.route(entry)));
        } else if let Some(skip) = &entry.skip {
            // No delivery: no tally hears of it.
            access.push(skip, &self.route(entry));
        }
    }

    pub(in crate::group) fn route<'e>(&self, entry: &'e Entry) -> Route<'e> {
        Route { source: self.group.number, overflow: self.group.options.overflow, key: entry.key.as_ref() }
    }
}

impl Feed for Place {
    fn catch_up(&self, access: &mut Access<'_>) {
        // Collected first: nothing is written to a socket under the log's lock.
        let due: SmallVec<[_; 4]> = {
            let log = lock(&self.group.log);
            let due = log.since(self.cursor()).cloned().collect();
            #[cfg(fault = "late_head")]
            let log = {
                drop(log);
                lock(&self.group.log)
            };
            self.set_cursor(log.head());
            due
        };
        due.iter().for_each(|entry| self.push(entry, access));
    }

    fn leave(&self, access: &mut Access<'_>) {
        let mut log = loop {
            // What was sent before is still delivered, as long as this is a member and is counted as one.
            self.catch_up(access);
            let log = lock(&self.group.log);
            if log.head() == self.cursor() || cfg!(fault = "leave_unseen") {
                break log;
            }
        };
        // A sweep that still has this member in its list finds it past the end.
        self.set_cursor(u64::MAX);
        #[cfg(fault = "late_unlisting")]
        let (alone, mut log) = {
            self.set_cursor(log.head());
            let alone = log.members.len() == 1;
            drop(log);
            (alone, lock(&self.group.log))
        };
        Arc::make_mut(&mut log.members).remove(&self.number);
        log.runtime = None;
        log.closed |= log.members.is_empty() && log.history.is_none();
        #[cfg(fault = "late_unlisting")]
        {
            log.closed = alone;
        }
    }

    fn left(&self) {
        let (empty, closed, owes) = {
            let log = lock(&self.group.log);
            (log.members.is_empty(), log.closed, !log.is_empty())
        };
        observe::left(self.channel, self.group.named());
        if closed {
            self.group.vanish();
        } else if empty {
            self.group.note_idle();
        }
        // Everybody had these as they left; but a sweep that went with its runtime has settled none of them,
        // and no send may ever ask for another.
        if empty && owes {
            self.group.sweep(0);
        }
        presence::left(self, closed);
    }
}

/// A channel's membership of a group: it leaves when this is dropped.
///
/// The end of the channel, or of its connection, ends it too.
///
/// ```
/// use fanfare::channel::Channel;
/// use fanfare::group::ChannelBox;
///
/// let channels = ChannelBox::new();
/// let (channel, _far_end) = Channel::in_memory();
/// let membership = channels.join(&channel, "room")?;
/// assert_eq!((membership.group(), channels.member_count("room")), ("room", 1));
///
/// drop(membership);
/// assert_eq!((channels.member_count("room"), channels.group_count()), (0, 0));
/// # Ok::<(), fanfare::group::JoinError>(())
/// ```
#[must_use = "the channel leaves the group when this is dropped"]
pub struct Membership {
    place: Arc<Place>,
}

impl Membership {
    pub(in crate::group) fn new(place: Arc<Place>) -> Self {
        Self { place }
    }

    pub(in crate::group) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.place.group.name
    }

    /// Leaves the group now; what was sent to it before is still delivered. False when it was left before.
    pub fn leave(&self) -> bool {
        self.place.end()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("group", &self.group()).field("channel", &self.place.channel).finish()
    }
}
