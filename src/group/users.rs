//! Which channels a user has, and which users were revoked.
//!
//! Always: a channel that began before its user was revoked is not added after that, nor one whose user was known
//! before (a token was checked, and the connection begins a moment later). `add` and `revoke` of one user are one
//! after the other, under the lock of the user's shard.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use smallvec::SmallVec;

use crate::channel::{ChannelId, Link, UserId};
use crate::clock::Moment;
use crate::sync::{Arc, Mutex, lock};

/// The reason in the close frame of a revoked client.
pub(super) const REVOKED_REASON: &str = "user was revoked";

const SHARDS: usize = 16;
/// Revocations that a shard remembers, for channels that have begun and not joined yet: the latest.
const REMEMBERED: usize = 1024;

pub(super) struct Users {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    channels: HashMap<UserId, SmallVec<[Arc<Link>; 1]>>,
    /// The moment of each revocation. A channel whose user was identified before it is refused.
    revoked: HashMap<UserId, Moment>,
    /// The users of `revoked`, the longest ago first.
    order: VecDeque<UserId>,
}

impl Default for Users {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard::default())), hasher: RandomState::new() }
    }
}

impl Users {
    /// Adds a channel of `user`; false when that was revoked since the channel's user was known.
    pub(super) fn add(&self, user: &UserId, link: &Arc<Link>) -> bool {
        let mut shard = lock(self.shard(user));
        if shard.revoked.get(user).is_some_and(|revoked| *revoked > link.identified()) {
            return false;
        }
        let channels = shard.channels.entry(user.clone()).or_default();
        if !channels.iter().any(|known| Arc::ptr_eq(known, link)) {
            channels.push(Arc::clone(link));
        }
        true
    }

    pub(super) fn remove(&self, user: &UserId, id: ChannelId) {
        // Dropped without the lock.
        let _removed = {
            let mut shard = lock(self.shard(user));
            let Some(channels) = shard.channels.get_mut(user) else { return };
            let removed = channels.iter().position(|link| link.id() == id).map(|at| channels.remove(at));
            if channels.is_empty() {
                shard.channels.remove(user);
            }
            removed
        };
    }

    /// Remembers that `user` is revoked, and returns its channels.
    pub(super) fn revoke(&self, user: &UserId) -> SmallVec<[Arc<Link>; 1]> {
        let mut shard = lock(self.shard(user));
        let shard = &mut *shard;
        if shard.revoked.insert(user.clone(), Moment::now()).is_some() {
            shard.order.retain(|known| known != user);
        }
        shard.order.push_back(user.clone());
        if shard.order.len() > REMEMBERED
            && let Some(oldest) = shard.order.pop_front()
        {
            shard.revoked.remove(&oldest);
        }
        shard.channels.get(user).cloned().unwrap_or_default()
    }

    pub(super) fn channels(&self, user: &UserId) -> Vec<ChannelId> {
        let shard = lock(self.shard(user));
        shard.channels.get(user).map_or_else(Vec::new, |channels| channels.iter().map(|link| link.id()).collect())
    }

    fn shard(&self, user: &UserId) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }
}
