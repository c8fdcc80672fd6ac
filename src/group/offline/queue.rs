//! [`Queue`]: what waits for one user, and what changes it. A plain value; the writer owns all of them.
//!
//! Every operation says by a [`Plan`] what the store is to do: the queue is ahead of the store until that is
//! committed, and is thrown away should that fail.
//!
//! ```text
//! (nothing) -- send --> waiting -- ack --> tombstone (if it has a key) --> (nothing)
//!                          |                  by its end, or pushed out by later ones
//!                          +-- its end, or evicted --> (nothing)
//! ```
//!
//! Always: no more is waiting than the bounds allow, ids rise with time, and no two records have the same key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::notification::{DropReason, Dropped};
use super::record::{Record, Urgency};
use super::store::Change;
use crate::channel::UserId;
use crate::sync::Arc;

/// The bounds of each user's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_messages: usize,
    /// Of payloads.
    pub(super) max_bytes: usize,
    /// In milliseconds.
    pub(super) max_age: u64,
}

/// A notification that has no id yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) payload: Bytes,
    pub(super) urgency: Urgency,
    pub(super) key: Option<Arc<str>>,
    /// In milliseconds.
    pub(super) expires_in: Option<u64>,
}

/// What is to be done once the queue has decided.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) dropped: Vec<Dropped>,
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Taken(Record),
    /// One of this key is there, or was.
    Duplicate {
        id: u64,
        waits: bool,
    },
}

/// Why a draft was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is larger than the whole queue may be.
    TooLarge,
    /// All that waits matters more.
    Full,
    /// The store has no room.
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Queue {
    user: UserId,
    waiting: BTreeMap<u64, Record>,
    /// What waits, by what is evicted first.
    ranks: BTreeSet<(Urgency, u64)>,
    /// What waits, by its end.
    ends: BTreeSet<(u64, u64)>,
    tombstones: BTreeMap<u64, Record>,
    /// Of both.
    keys: HashMap<Arc<str>, u64>,
    /// Of the payloads that wait.
    bytes: usize,
    /// Of all records.
    size: u64,
}

impl Queue {
    pub(super) fn new(user: UserId, records: Vec<Record>) -> Self {
        let mut queue = Self {
            user,
            waiting: BTreeMap::new(),
            ranks: BTreeSet::new(),
            ends: BTreeSet::new(),
            tombstones: BTreeMap::new(),
            keys: HashMap::new(),
            bytes: 0,
            size: 0,
        };
        records.into_iter().for_each(|record| queue.insert(record));
        queue
    }

    /// Returns the size of all records together, as the store counts it.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns how much waits.
    pub(super) fn unread(&self, now: u64) -> usize {
        self.waiting.len() - self.ends.range(..=(now, u64::MAX)).count()
    }

    /// Returns what waits, by rising ids.
    pub(super) fn pending(&self, now: u64) -> impl Iterator<Item = &Record> {
        self.waiting.values().filter(move |record| record.expires > now)
    }

    /// Takes a draft as a record of this id, if there is room or room can be made; `room` is what the store has left
    /// for everybody.
    pub(super) fn send(
        &mut self,
        draft: &Draft,
        id: u64,
        now: u64,
        limits: &Limits,
        room: u64,
        plan: &mut Plan,
    ) -> Result<Admission, Refusal> {
        let before = self.size;
        self.expire(now, plan);
        let room = room + (before - self.size);
        if let Some(id) = draft.key.as_ref().and_then(|key| self.keys.get(key).copied()) {
            return Ok(Admission::Duplicate { id, waits: self.waiting.contains_key(&id) });
        }
        let record = Record {
            id,
            time: now,
            expires: now.saturating_add(draft.expires_in.unwrap_or(u64::MAX).min(limits.max_age)),
            urgency: draft.urgency,
            key: draft.key.clone(),
            payload: Some(draft.payload.clone()),
        };
        for victim in self.victims(&record, limits, room)? {
            self.drop_for(victim, DropReason::Evicted, plan);
        }
        self.put(record.clone(), plan);
        Ok(Admission::Taken(record))
    }

    /// Takes note that the user has one; false when that does not wait.
    pub(super) fn ack(&mut self, id: u64, now: u64, limits: &Limits, plan: &mut Plan) -> bool {
        if self.waiting.get(&id).is_none_or(|record| record.expires <= now) {
            return false;
        }
        let Some(record) = self.take(id) else { return false };
        if record.key.is_none() {
            plan.changes.push(Change::Remove { user: self.user.clone(), id });
            return true;
        }
        let expires = record.time.saturating_add(limits.max_age);
        self.put(Record { payload: None, expires, ..record }, plan);
        while self.tombstones.len() > limits.max_messages
            && let Some((&oldest, _)) = self.tombstones.first_key_value()
        {
            self.remove(oldest, plan);
        }
        true
    }

    /// Acknowledges all, and returns how many there were.
    pub(super) fn clear(&mut self, now: u64, limits: &Limits, plan: &mut Plan) -> usize {
        let ids: Vec<_> = self.pending(now).map(|record| record.id).collect();
        ids.into_iter().filter(|id| self.ack(*id, now, limits, plan)).count()
    }

    /// Removes one whose end has come, as the store says.
    pub(super) fn end(&mut self, id: u64, plan: &mut Plan) {
        if self.waiting.contains_key(&id) {
            self.drop_for(id, DropReason::Expired, plan);
        } else {
            self.remove(id, plan);
        }
    }

    /// Removes all whose end has come: from the front, nothing else is looked at.
    fn expire(&mut self, now: u64, plan: &mut Plan) {
        while let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            self.drop_for(id, DropReason::Expired, plan);
        }
        // All tombstones live as long, counted from when they were sent, and ids rise with that.
        while let Some((&id, tombstone)) = self.tombstones.first_key_value()
            && tombstone.expires <= now
        {
            self.remove(id, plan);
        }
    }

    /// Returns what has to go so that `record` can come: what matters least, the oldest of it first.
    fn victims(&self, record: &Record, limits: &Limits, room: u64) -> Result<Vec<u64>, Refusal> {
        if record.payload_len() > limits.max_bytes {
            return Err(Refusal::TooLarge);
        }
        let (mut count, mut bytes) = (self.waiting.len() + 1, self.bytes + record.payload_len());
        let mut needed = record.size();
        let mut victims = Vec::new();
        for (urgency, id) in &self.ranks {
            if count <= limits.max_messages && bytes <= limits.max_bytes {
                break;
            }
            if *urgency > record.urgency {
                return Err(Refusal::Full);
            }
            count -= 1;
            bytes -= self.waiting[id].payload_len();
            needed = needed.saturating_sub(self.waiting[id].size());
            victims.push(*id);
        }
        if needed > room { Err(Refusal::NoRoom) } else { Ok(victims) }
    }

    fn drop_for(&mut self, id: u64, reason: DropReason, plan: &mut Plan) {
        self.remove(id, plan);
        plan.dropped.push(Dropped { user: self.user.clone(), id, reason });
    }

    fn put(&mut self, record: Record, plan: &mut Plan) {
        plan.changes.push(Change::Put { user: self.user.clone(), record: record.clone() });
        self.insert(record);
    }

    /// Removes a record here and, whether or not it was here, in the store.
    fn remove(&mut self, id: u64, plan: &mut Plan) {
        self.take(id);
        plan.changes.push(Change::Remove { user: self.user.clone(), id });
    }

    fn insert(&mut self, record: Record) {
        self.size += record.size();
        if let Some(key) = &record.key {
            self.keys.insert(Arc::clone(key), record.id);
        }
        if record.payload.is_none() {
            self.tombstones.insert(record.id, record);
            return;
        }
        self.bytes += record.payload_len();
        self.ranks.insert((record.urgency, record.id));
        self.ends.insert((record.expires, record.id));
        self.waiting.insert(record.id, record);
    }

    fn take(&mut self, id: u64) -> Option<Record> {
        let record = match self.waiting.remove(&id) {
            Some(record) => {
                self.bytes -= record.payload_len();
                self.ranks.remove(&(record.urgency, id));
                self.ends.remove(&(record.expires, id));
                record
            }
            None => self.tombstones.remove(&id)?,
        };
        self.size -= record.size();
        if let Some(key) = &record.key {
            self.keys.remove(key);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests;
