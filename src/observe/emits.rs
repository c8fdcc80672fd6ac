//! Metrics and warnings of the dispatcher. An emit records nothing: the counts of events are pulled from them, and a
//! failure is counted when it is made.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "a feature that is off reports nothing")
)]

#[cfg(feature = "metrics")]
use super::Told;
use super::count;
use super::stderr::write_line;

/// Counts a failure of a listener.
#[inline]
pub(crate) fn failed(cause: &'static str) {
    count!("fanfare_listener_failures_total", 1, "cause" => cause);
}

/// Logs a warning: to a subscriber that takes warnings of the dispatcher, else as a line on stderr.
pub(crate) fn warn(text: &str) {
    #[cfg(feature = "tracing")]
    if tracing::event_enabled!(target: "fanfare::dispatch", tracing::Level::WARN) {
        tracing::warn!(target: "fanfare::dispatch", "{text}");
        return;
    }
    write_line(text);
}

/// The counts of an event that were last reported.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Emits {
    emits: Told,
    calls: Told,
    failures: Told,
}

#[cfg(feature = "metrics")]
impl Emits {
    /// Reports what has been counted since the last call.
    pub(crate) fn tell(&self, event: &crate::sync::Arc<str>, emits: u64, calls: u64, failures: u64) {
        let event = || event.to_string();
        count!("fanfare_emits_total", self.emits.rise(emits), "event" => event());
        count!("fanfare_calls_total", self.calls.rise(calls), "event" => event());
        count!("fanfare_failures_total", self.failures.rise(failures), "event" => event());
    }
}
