//! [`Queue`]: the notifications of one user. A plain value; the writer owns the queues of all users.
//!
//! Every operation adds the changes for the store to a [`Plan`]. Until the plan is committed the queue is ahead of the
//! store; when the commit fails, the writer throws the queue away and loads it again.
//!
//! ```text
//! (nothing) -- send --> waiting -- ack --> tombstone (if it has a key) --> (nothing)
//!                          |                  expired, or pushed out by later ones
//!                          +-- expired, or evicted --> (nothing)
//! ```
//!
//! Always: the waiting records keep within the bounds, ids rise with time, and no two records have the same key.

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
    /// The bytes of all waiting payloads together.
    pub(super) max_bytes: usize,
    /// In milliseconds.
    pub(super) max_age: u64,
}

/// A notification without an id.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) payload: Bytes,
    pub(super) urgency: Urgency,
    pub(super) key: Option<Arc<str>>,
    /// In milliseconds.
    pub(super) expires_in: Option<u64>,
}

/// The consequences of a queue's decisions: changes for the store, events for the program.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) dropped: Vec<Dropped>,
}

/// The outcome of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Taken(Record),
    /// A notification with this key waits, or was acknowledged.
    Duplicate {
        id: u64,
        waits: bool,
    },
}

/// Why a draft was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is larger than the byte limit of the queue.
    TooLarge,
    /// The queue is full of more urgent notifications.
    Full,
    /// The store has no room.
    NoRoom,
}

#[derive(Debug)]
pub(super) struct Queue {
    user: UserId,
    waiting: BTreeMap<u64, Record>,
    /// The waiting records in the order in which they are evicted.
    ranks: BTreeSet<(Urgency, u64)>,
    /// The waiting records in the order in which they expire.
    ends: BTreeSet<(u64, u64)>,
    tombstones: BTreeMap<u64, Record>,
    /// The idempotency keys of waiting records and tombstones.
    keys: HashMap<Arc<str>, u64>,
    /// The bytes of the waiting payloads.
    bytes: usize,
    /// The size of all records, as the store counts it.
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

    /// Returns the number of waiting notifications.
    pub(super) fn unread(&self, now: u64) -> usize {
        self.waiting.len() - self.ends.range(..=(now, u64::MAX)).count()
    }

    /// Returns the waiting notifications by rising ids.
    pub(super) fn pending(&self, now: u64) -> impl Iterator<Item = &Record> {
        self.waiting.values().filter(move |record| record.expires > now)
    }

    /// Adds a draft as the record `id`, if it fits or others can be evicted for it. `room` is the space that the store
    /// has left for all users.
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

    /// Acknowledges a notification; returns false when it does not wait.
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

    /// Acknowledges all waiting notifications, and returns how many there were.
    pub(super) fn clear(&mut self, now: u64, limits: &Limits, plan: &mut Plan) -> usize {
        let ids: Vec<_> = self.pending(now).map(|record| record.id).collect();
        ids.into_iter().filter(|id| self.ack(*id, now, limits, plan)).count()
    }

    /// Removes a record that the store has found to be expired.
    pub(super) fn end(&mut self, id: u64, plan: &mut Plan) {
        if self.waiting.contains_key(&id) {
            self.drop_for(id, DropReason::Expired, plan);
        } else {
            self.remove(id, plan);
        }
    }

    /// Removes all expired records. They are in front, so the search ends at the first that has not expired.
    fn expire(&mut self, now: u64, plan: &mut Plan) {
        while let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            self.drop_for(id, DropReason::Expired, plan);
        }
        // All tombstones live equally long, counted from their send, and ids rise with the time of the send.
        while let Some((&id, tombstone)) = self.tombstones.first_key_value()
            && tombstone.expires <= now
        {
            self.remove(id, plan);
        }
    }

    /// Returns the records to evict so that `record` fits: the least urgent, the oldest first.
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

    /// Removes a record from the queue, if it is here, and in any case from the store.
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
