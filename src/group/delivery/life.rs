//! The life of a group: it lets channels in, and vanishes after the last one, or after its history.
//!
//! A closed group lets no channel in; it is out of its map, or soon will be, and every thread that meets it helps to
//! take it out. Closing is decided under the group's lock, together with the list of members. A group that keeps a
//! history is not closed when the last member leaves, but when it is evicted from the idle groups.

use std::any::Any;
use std::time::SystemTime;

use super::state::{LiveGroup, Member};
use crate::channel::{Feed, Link};
use crate::group::history::Since;
use crate::group::history::resume::{Missed, joined};
use crate::sync::atomic::AtomicU64;
use crate::sync::{Arc, lock};

impl LiveGroup {
    /// Makes a channel a member, behind all others, and returns the messages that it has missed; `None` when the group
    /// is closed.
    ///
    /// The caller holds the lock of the channel's link. Replay and membership are one step under the group's lock: what
    /// was missed is taken from the ring, and the cursor is set to the log's head. A message of another thread is
    ///
    /// 1. appended before the lock was taken: it lies before the cursor, so no sweep delivers it to this member. It
    ///    arrives by the replay, once, if the group keeps it and `since` asks for it; or
    /// 2. appended after the lock is released: it is not in the replay, and lies behind the cursor. A sweep delivers it,
    ///    once.
    ///
    /// No sweep can deliver case 2 ahead of the replay: a sweep needs the lock of the link, which is held until the
    /// replay is written.
    pub(crate) fn admit(&self, link: &Arc<Link>, since: Option<Since>) -> Option<(Arc<Member>, Missed)> {
        // In a group with a history every new member gets the position, so that offsets mean something to its client.
        let since = since.or_else(|| self.tail.as_ref().map(|_| Since::Last(0)));
        let now = SystemTime::now();
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        let (mut missed, gone) =
            since.map_or_else(Default::default, |since| Missed::of(state.history.as_deref_mut(), since, now));
        let member = Arc::new(Member {
            number: state.next_member,
            group: self.me.upgrade()?,
            link: Arc::downgrade(link),
            channel: link.id(),
            // Under the log's lock: the member gets all that is appended from now on, and nothing twice.
            cursor: AtomicU64::new(state.log.head()),
        });
        state.next_member += 1;
        // Changed in place unless a sweep holds the list, so the cost of a join does not grow with the members.
        Arc::make_mut(&mut state.members).insert(member.number, Arc::clone(&member));
        drop(state);
        drop(gone);
        if let Some(recovery) = &missed.recovery {
            missed.frames.insert(0, joined(&self.name, recovery));
        }
        Some((member, missed))
    }

    pub(crate) fn is_source_of(&self, feed: &dyn Feed) -> bool {
        let member: Option<&Member> = (feed as &dyn Any).downcast_ref();
        member.is_some_and(|member| std::ptr::eq(&*member.group, self))
    }

    pub(crate) fn vanish_if_empty(&self) {
        let empty = {
            let mut state = lock(&self.state);
            state.closed |= state.members.is_empty() && state.history.is_none();
            state.closed
        };
        if empty {
            self.vanish();
        } else {
            self.note_idle();
        }
    }

    /// Lists the group among the idle ones, if it keeps a history: it has no members, and stays as long as the box has
    /// room for such groups.
    pub(crate) fn note_idle(&self) {
        if self.tail.is_none() {
            return;
        }
        if let (Some(keeper), Some(me)) = (self.keeper.upgrade(), self.me.upgrade()) {
            keeper.note_idle(&me);
        }
    }

    /// Returns the group that has this name now. If there is none and the group keeps a history, a new one is made.
    pub(super) fn successor(&self) -> Option<Arc<Self>> {
        let keeper = self.keeper.upgrade()?;
        let group = keeper.find(self.kind, &self.name);
        group.or_else(|| self.tail.as_ref().map(|_| keeper.open(self.kind, &self.name)))
    }

    /// Takes a closed group out of its map. Any thread that meets a closed group may call this; the first call counts.
    pub(crate) fn vanish(&self) {
        let (Some(keeper), Some(me)) = (self.keeper.upgrade(), self.me.upgrade()) else { return };
        if keeper.remove(&me) {
            self.open.end();
            // Presence may have outlived the last member.
            let watcher = lock(&self.watcher).clone();
            if let Some(watcher) = watcher {
                watcher.vanished();
            }
        }
    }
}
