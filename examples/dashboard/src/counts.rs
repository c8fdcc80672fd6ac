//! The library's own figures, through a minimal recorder of the crate `metrics`. A program that uses Prometheus would
//! install its recorder instead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Totals over all channels of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Counts {
    /// Messages to channels, counted once per channel: written, or in its outbox.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Messages from channels.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Messages that a channel did not get: for slow viewers, values replaced by later ones.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn connections(&self) -> f64 {
        f64::from_bits(self.connections.load(Relaxed))
    }

    /// Messages that wait for slow viewers, as of the last `ChannelBox::record_metrics`.
    pub(crate) fn waiting(&self) -> f64 {
        f64::from_bits(self.waiting.load(Relaxed))
    }
}

/// Called for each message: compares names, and does not allocate.
impl Recorder for Counts {
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counter = match key.name() {
            // A message that a full outbox refuses is counted with the other dropped ones.
            "fanfare_deliveries_total" if key.labels().all(|label| label.value() != "dropped") => &self.sent,
            "fanfare_received_total" => &self.received,
            "fanfare_messages_dropped_total" => &self.dropped,
            _ => return Counter::noop(),
        };
        Counter::from_arc(Arc::clone(counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let gauge = match key.name() {
            "fanfare_channels_open" => &self.connections,
            "fanfare_outbox_messages" => &self.waiting,
            _ => return Gauge::noop(),
        };
        Gauge::from_arc(Arc::clone(gauge))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }

    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
}
