//! What is seen of the dispatcher. An emit itself is not touched: what events count is pulled from them, and of
//! failures there is a word when they are made.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "what a feature that is off would say")
)]

#[cfg(feature = "metrics")]
use super::Told;
use super::count;
use super::stderr::write_line;

/// A listener failed.
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

/// What was told of an event's counts.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Emits {
    emits: Told,
    calls: Told,
    failures: Told,
}

#[cfg(feature = "metrics")]
impl Emits {
    /// Tells what has been counted since the last time.
    pub(crate) fn tell(&self, event: &crate::sync::Arc<str>, emits: u64, calls: u64, failures: u64) {
        let event = || event.to_string();
        count!("fanfare_emits_total", self.emits.rise(emits), "event" => event());
        count!("fanfare_calls_total", self.calls.rise(calls), "event" => event());
        count!("fanfare_failures_total", self.failures.rise(failures), "event" => event());
    }
}
