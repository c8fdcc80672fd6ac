//! The names of all metrics, with their kinds, units and labels.

use metrics::Unit;

/// One metric, as it is described to recorders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// The unit of the number.
    pub unit: MetricUnit,
    /// The names of the labels. Each has few values, except `event`, which has the names of all events that count.
    pub labels: &'static [&'static str],
    /// A description in one line.
    pub help: &'static str,
}

/// The kind of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// The unit of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricUnit {
    /// A number of items.
    Count,
    /// Bytes.
    Bytes,
}

/// All metrics.
///
/// ```
/// let names: Vec<_> = fanfare::observe::METRICS.iter().map(|metric| metric.name).collect();
/// assert!(names.contains(&"fanfare_channels_open"));
/// assert!(names.iter().all(|name| name.starts_with("fanfare_")));
/// ```
pub const METRICS: &[Metric] = &[
    counter("fanfare_emits_total", &["event"], "emits of an event with counts enabled"),
    counter("fanfare_calls_total", &["event"], "calls of its listeners that ended within the emit"),
    counter("fanfare_failures_total", &["event"], "failures in the reports of its emits"),
    counter("fanfare_listener_failures_total", &["cause"], "failures of listeners, of all events"),
    gauge("fanfare_channels_open", &[], "open channels"),
    counter("fanfare_channels_total", &[], "channels opened"),
    counter("fanfare_closes_total", &["code"], "channels closed, by either side"),
    counter("fanfare_received_total", &["type"], "messages received from clients"),
    counter("fanfare_receive_errors_total", &["reason"], "receives that ended in an error"),
    counter("fanfare_deliveries_total", &["to", "outcome"], "messages to one member of a group, or one channel"),
    counter("fanfare_messages_dropped_total", &["reason"], "messages dropped before they were written"),
    gauge("fanfare_outbox_messages", &[], "messages in outboxes"),
    bytes("fanfare_outbox_bytes", "bytes in outboxes"),
    gauge("fanfare_channels_waiting", &[], "channels with messages in their outbox"),
    gauge("fanfare_groups", &["kind"], "groups"),
    gauge("fanfare_memberships", &["kind"], "members of all groups"),
    counter("fanfare_joins_total", &["kind"], "joins"),
    counter("fanfare_joins_refused_total", &["reason"], "joins that ended in an error"),
    counter("fanfare_group_sends_total", &["outcome"], "messages sent to a group"),
    counter("fanfare_recoveries_total", &["recovered"], "joins with recovery"),
    counter("fanfare_replayed_total", &[], "messages replayed to joins with recovery"),
    gauge("fanfare_group_queue_messages", &[], "messages queued in groups for their sweep"),
    bytes("fanfare_group_queue_bytes", "bytes queued in groups for their sweep"),
    gauge("fanfare_history_messages", &[], "messages in the histories of groups"),
    bytes("fanfare_history_bytes", "bytes in the histories of groups"),
    counter("fanfare_handler_failures_total", &["cause"], "handlers that returned an error, or panicked"),
    counter("fanfare_handshakes_refused_total", &["reason"], "refused requests for a WebSocket"),
    gauge("fanfare_connections_open", &[], "connections of `ws::serve`, channels included"),
    counter("fanfare_connections_total", &[], "connections accepted"),
    counter("fanfare_connections_refused_total", &["reason"], "connections refused because of a cap"),
    counter("fanfare_connections_drained_total", &["outcome"], "connections ended by a shutdown"),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: MetricUnit::Count, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit: MetricUnit::Count, labels, help }
}

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit: MetricUnit::Bytes, labels: &[], help }
}

/// Describes all metrics to the recorder: a unit and one line for each. Call it once, after installing the recorder.
///
/// ```
/// fanfare::observe::describe();
/// ```
pub fn describe() {
    for metric in METRICS {
        let unit = match metric.unit {
            MetricUnit::Count => Unit::Count,
            MetricUnit::Bytes => Unit::Bytes,
        };
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::METRICS;

    /// Returns every metric name that follows `before` in the text.
    fn names(text: &'static str, before: &str) -> BTreeSet<&'static str> {
        let rests = text.split(before).skip(1).filter(|rest| rest.starts_with("fanfare_"));
        rests
            .map(|rest| &rest[..rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len())])
            .collect()
    }

    #[test]
    fn the_table_the_code_and_the_page_have_the_same_names() {
        let table: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(table.len(), METRICS.len());
        let files = [
            include_str!("channels.rs"),
            include_str!("connections.rs"),
            include_str!("emits.rs"),
            include_str!("groups.rs"),
        ];
        assert_eq!(files.into_iter().flat_map(|file| names(file, "\"")).collect::<BTreeSet<_>>(), table);
        let page = include_str!("../docs/observability.md");
        assert_eq!(names(page, "| `"), table);
        for metric in METRICS {
            let row = page.lines().find(|line| line.contains(&format!("| `{}`", metric.name))).expect("it is there");
            assert!(metric.labels.iter().all(|label| row.contains(&format!("`{label}`"))), "{row}");
        }
    }
}
