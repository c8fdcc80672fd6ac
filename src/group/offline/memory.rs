//! [`MemoryStore`]: offline queues in memory, lost when the process ends.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::record::Record;
use super::store::{Change, OfflineStore, StoreState};
use crate::Error;
use crate::channel::UserId;

/// Keeps offline queues in memory: they outlast connections, but not the process.
///
/// Ids begin at the current time, in microseconds since 1970, so a client does not mistake a new notification for one
/// that an earlier process sent.
#[derive(Debug)]
pub struct MemoryStore {
    state: StoreState,
    users: HashMap<UserId, BTreeMap<u64, Record>>,
    /// Keyed by end and id.
    ends: BTreeMap<(u64, u64), UserId>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let last_id = u64::try_from(since_1970.as_micros()).unwrap_or_default();
        Self { state: StoreState { last_id, size: 0 }, users: HashMap::new(), ends: BTreeMap::new() }
    }

    fn put(&mut self, user: &UserId, record: &Record) {
        self.remove(user, record.id);
        self.state.last_id = self.state.last_id.max(record.id);
        self.state.size += record.size();
        self.ends.insert((record.expires, record.id), user.clone());
        self.users.entry(user.clone()).or_default().insert(record.id, record.clone());
    }

    fn remove(&mut self, user: &UserId, id: u64) {
        let Some(records) = self.users.get_mut(user) else { return };
        if let Some(removed) = records.remove(&id) {
            self.state.size -= removed.size();
            self.ends.remove(&(removed.expires, id));
        }
        if records.is_empty() {
            self.users.remove(user);
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl OfflineStore for MemoryStore {
    fn state(&mut self) -> Result<StoreState, Error> {
        Ok(self.state)
    }

    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        Ok(self.users.get(user).map_or_else(Vec::new, |records| records.values().cloned().collect()))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            match change {
                Change::Put { user, record } => self.put(user, record),
                Change::Remove { user, id } => self.remove(user, *id),
            }
        }
        Ok(())
    }

    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        let due = self.ends.range(..=(now, u64::MAX)).take(most);
        let record = |user: &UserId, id| self.users.get(user)?.get(id).cloned();
        Ok(due.filter_map(|((_, id), user)| Some((user.clone(), record(user, id)?))).collect())
    }
}
