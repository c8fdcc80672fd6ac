//! The counters of notifications: stored, acknowledged, dropped.

use super::notification::DropReason;
use crate::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Counters {
    pub(super) stored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) acked: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

/// The outcomes of all notifications since the box began: [`ChannelBox::stats`](crate::group::ChannelBox::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OfflineCounts {
    /// Notifications that were stored.
    pub stored: u64,
    /// Sends that repeated a known idempotency key.
    pub duplicates: u64,
    /// Sends that were refused because the queue or the store was full.
    pub refused: u64,
    /// Notifications that were acknowledged.
    pub acked: u64,
    /// Notifications that were dropped to make room for others.
    pub evicted: u64,
    /// Notifications that expired. An expired notification is counted some time after its end.
    pub expired: u64,
}

impl Counters {
    pub(super) fn counts(&self) -> OfflineCounts {
        // Relaxed: only the numbers themselves matter.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OfflineCounts {
            stored: count(&self.stored),
            duplicates: count(&self.duplicates),
            refused: count(&self.refused),
            acked: count(&self.acked),
            evicted: count(&self.evicted),
            expired: count(&self.expired),
        }
    }

    pub(super) fn add_dropped(&self, reason: DropReason) {
        match reason {
            DropReason::Evicted => self.add(|counts| &counts.evicted, 1),
            DropReason::Expired => self.add(|counts| &counts.expired, 1),
        }
    }

    pub(super) fn add(&self, of: impl FnOnce(&Self) -> &AtomicU64, count: u64) {
        // Relaxed: only the number itself matters.
        of(self).fetch_add(count, Ordering::Relaxed);
    }
}
