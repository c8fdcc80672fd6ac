//! The counters of an event, made when counting is enabled.
//!
//! Threads are spread over 16 shards in turn, so that few threads that emit one event write the same cache
//! line. An event that does not count has no shards.

use crossbeam_utils::CachePadded;

use super::report::Report;
#[cfg(feature = "metrics")]
use crate::observe::emits::Emits;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread_number;

const SHARDS: usize = 16;

pub(crate) struct EventCounters {
    shards: [CachePadded<Shard>; SHARDS],
    #[cfg(feature = "metrics")]
    told: Emits,
}

#[derive(Default)]
struct Shard {
    emits: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// The counts of an event since [`Event::enable_counts`](crate::Event::enable_counts).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventCounts {
    /// Emits that ended, including those without listeners, except while the event was muted.
    pub emits: u64,
    /// Calls that ended within these emits. A listener that was handed to the runtime is not counted.
    pub calls: u64,
    /// Failures in the reports of these emits.
    pub failures: u64,
}

impl EventCounters {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| CachePadded::new(Shard::default())),
            #[cfg(feature = "metrics")]
            told: Emits::default(),
        }
    }

    pub(crate) fn add(&self, report: &Report) {
        let shard = &self.shards[thread_number() % SHARDS];
        // Relaxed: counts, which publish nothing.
        shard.emits.fetch_add(1, Ordering::Relaxed);
        shard.calls.fetch_add(report.ran() as u64, Ordering::Relaxed);
        if !report.is_ok() {
            shard.failures.fetch_add(report.failures().len() as u64, Ordering::Relaxed);
        }
    }

    /// Reports to the recorder what was counted since the last call.
    #[cfg(feature = "metrics")]
    pub(crate) fn record_metrics(&self, event: &crate::sync::Arc<str>) {
        let EventCounts { emits, calls, failures } = self.sum();
        self.told.tell(event, emits, calls, failures);
    }

    pub(crate) fn sum(&self) -> EventCounts {
        self.shards.iter().fold(EventCounts::default(), |sum, shard| EventCounts {
            emits: sum.emits + shard.emits.load(Ordering::Relaxed),
            calls: sum.calls + shard.calls.load(Ordering::Relaxed),
            failures: sum.failures + shard.failures.load(Ordering::Relaxed),
        })
    }
}
