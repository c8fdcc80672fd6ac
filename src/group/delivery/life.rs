//! The life of a group: it lets channels in, and vanishes behind the last one, or behind its history.
//!
//! A group that is closed lets nobody in any more, and is out of its map, or soon: whoever meets it helps. That is
//! decided under the log's lock, together with who is a member. One that keeps a history is not closed when the last
//! member leaves, but when it gives way among the idle ones: see `idle`.

use std::any::Any;
use std::time::SystemTime;

use crate::channel::{Feed, Out};
use crate::frame::Frame;
use crate::group::delivery::log::Log;
use crate::group::delivery::member::Place;
use crate::group::history::resume::Recovery;
use crate::group::history::{Gone, Position, Since};
use crate::group::presence::Room;
use crate::group::{ChannelBox, Group, Kind};
use crate::observe::groups as observe;
use crate::sync::atomic::AtomicU64;
use crate::sync::{Arc, lock};

impl Group {
    /// Makes a channel a member, behind all others, and returns what it has missed; `None` when the last member
    /// has left for good.
    pub(in crate::group) fn admit(&self, out: &Arc<Out>, since: Option<Since>) -> Option<(Arc<Place>, Missed)> {
        // Members of a group that keeps a history are told where it stands, so that offsets mean something to them.
        let since = since.or_else(|| self.tail.as_ref().map(|_| Since::Last(0)));
        let now = SystemTime::now();
        let mut log = lock(&self.log);
        if log.closed && !cfg!(fault = "join_of_closed") {
            return None;
        }
        let (mut missed, gone) = since.map_or_else(Default::default, |since| Missed::in_log(&mut log, since, now));
        #[cfg(fault = "early_replay")]
        let mut log = {
            drop(log);
            lock(&self.log)
        };
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
        drop(log);
        drop(gone);
        if let Some(recovery) = &missed.recovery {
            missed.frames.insert(0, self.joined(recovery));
        }
        Some((place, missed))
    }

    /// Returns what may be told of it.
    pub(in crate::group) fn named(&self) -> observe::Named<'_> {
        (self.kind.label(), (self.kind == Kind::Named).then_some(&*self.name))
    }

    pub(in crate::group) fn is_source_of(&self, feed: &dyn Feed) -> bool {
        let place: Option<&Place> = (feed as &dyn Any).downcast_ref();
        place.is_some_and(|place| std::ptr::eq(&*place.group, self))
    }

    pub(in crate::group) fn vanish_if_empty(&self) {
        let empty = {
            let mut log = lock(&self.log);
            log.closed |= log.members.is_empty() && log.history.is_none() || cfg!(fault = "vanish_unlooked");
            log.closed
        };
        if empty {
            self.vanish();
        } else {
            self.note_idle();
        }
    }

    /// Nobody is in it, but what was said is kept: for as long as the box has room for that.
    pub(in crate::group) fn note_idle(&self) {
        if self.tail.is_none() {
            return;
        }
        if let (Some(shared), Some(me)) = (self.shared.upgrade(), self.me.upgrade()) {
            let closed = lock(&shared.idle).note(&me, SystemTime::now());
            closed.iter().for_each(|group| group.vanish());
        }
    }

    /// Returns the group of this name that there is now, made if it keeps a history.
    pub(in crate::group) fn successor(&self) -> Option<Arc<Self>> {
        let channels = ChannelBox { shared: self.shared.upgrade()? };
        let group = channels.shared.of(self.kind).with(&*self.name, Arc::clone);
        group.or_else(|| self.tail.as_ref().map(|_| channels.open(self.kind, &self.name)))
    }

    /// Takes a closed group out of the map. Whoever meets one may do it; the first one does.
    pub(in crate::group) fn vanish(&self) {
        if let (Some(shared), Some(me)) = (self.shared.upgrade(), self.me.upgrade()) {
            #[cfg(fault = "vanish_by_name")]
            let me = shared.of(self.kind).with(&*self.name, Arc::clone).unwrap_or(me);
            if shared.of(self.kind).remove_if_same(&*self.name, &me) {
                self.open.end();
                // Its presence may have outlived its last member.
                let room = lock(&self.room).clone();
                room.inspect(Room::close_if_idle);
            }
        }
    }
}

/// What a new member has missed.
#[derive(Default)]
pub(in crate::group) struct Missed {
    pub(in crate::group) recovery: Option<Recovery>,
    pub(in crate::group) frames: Vec<Frame>,
}

impl Missed {
    /// Takes from the history what is asked for; and returns what has become too old, to be dropped without the lock.
    fn in_log(log: &mut Log, since: Since, now: SystemTime) -> (Self, Gone) {
        let Some(ring) = &mut log.history else {
            let recovery = Recovery { recovered: false, replayed: 0, position: Position::default() };
            return (Self { recovery: Some(recovery), frames: Vec::new() }, Gone::new());
        };
        let gone = ring.trim(now);
        let missed = ring.since(since);
        let frames: Vec<_> = ring.frames(&missed).cloned().collect();
        let recovery = Recovery { recovered: missed.recovered, replayed: frames.len(), position: ring.position() };
        (Self { recovery: Some(recovery), frames }, gone)
    }
}
