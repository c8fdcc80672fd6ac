//! [`Users`]: the channels of each user, and the latest revocations.
//!
//! Always: a channel whose user was identified before the user's revocation is not added after it. (A token may be
//! checked a moment before the connection begins.) An `add` and a `revoke` of one user take the lock of its shard:
//!
//! 1. The `add` came first: the revocation finds the channel, and its caller closes it.
//! 2. The `revoke` came first: the `add` finds a revocation later than the identification, and refuses the channel.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use smallvec::SmallVec;

use crate::channel::{ChannelId, Link, UserId};
use crate::clock::Moment;
use crate::sync::{Arc, Mutex, lock};

/// The reason in the close frame of a revoked client.
pub(super) const REVOKED_REASON: &str = "user was revoked";

const SHARDS: usize = 16;
/// How many revocations a shard remembers, the latest ones: for channels that have begun but are not added yet.
const REMEMBERED: usize = 1024;

pub(super) struct Users {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    channels: HashMap<UserId, SmallVec<[Arc<Link>; 1]>>,
    /// The moment of each revocation. A channel whose user was identified before that moment is refused.
    revoked: HashMap<UserId, Moment>,
    /// The users of `revoked`, the oldest revocation first.
    order: VecDeque<UserId>,
}

impl Default for Users {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Shard::default())), hasher: RandomState::new() }
    }
}

impl Users {
    /// Adds a channel of `user`; returns false when the user was revoked since the channel's user was identified.
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
