//! What the library says about itself: a recorder of the crate `metrics`, as small as it can be. A program that has
//! Prometheus installs that one's instead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Counts all channels of the process. Its clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Counts {
    /// Messages to channels, each counted for each channel: written, or in its outbox.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Messages from channels.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Messages that a channel did not get: for slow viewers, values with a later one behind them.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn connections(&self) -> f64 {
        f64::from_bits(self.connections.load(Relaxed))
    }

    /// Messages that wait for slow viewers, as `ChannelBox::record_metrics` last saw it.
    pub(crate) fn waiting(&self) -> f64 {
        f64::from_bits(self.waiting.load(Relaxed))
    }
}

/// Called for each message: it finds its place by a comparison of names, and allocates nothing.
impl Recorder for Counts {
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let counter = match key.name() {
            // What a full outbox refuses at once is counted with all others that are dropped.
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
