//! What can be seen of a running program: counts by the crate `metrics`, spans and events by the crate `tracing`.
//!
//! Each is a feature of its own. The library installs no recorder and no subscriber: with one that the program
//! installs it is seen, without it each place costs a look at an atomic. All names are in `METRICS` and on the page
//! `fanfare::docs::observability`.
//!
//! This folder alone names the two crates, one file for each floor that is observed, and one writes lines to stderr. What a feature that is off would
//! say is nothing: the functions are empty then, and what they ask for lazily is not asked.
//!
//! Always: a recorder and a subscriber are user code, so nothing here that speaks is called under a lock. What is
//! learnt under one is written down (`Notes`) and told when it is released.
//!
//! Never in a label or a field: payloads, tokens, headers, URLs, close reasons, and who the user is.

#[cfg(feature = "groups")]
pub(crate) mod channels;
#[cfg(feature = "ws")]
pub(crate) mod connections;
pub(crate) mod emits;
#[cfg(feature = "groups")]
pub(crate) mod groups;
#[cfg(feature = "metrics")]
mod names;
pub(crate) mod stderr;

#[cfg(feature = "metrics")]
pub use names::{METRICS, Metric, MetricKind, MetricUnit, describe};

/// Adds to a counter: its name, how much, its labels.
macro_rules! count {
    ($name:literal, $by:expr $(, $label:literal => $value:expr)*) => {
        #[cfg(feature = "metrics")]
        metrics::counter!($name $(, $label => $value)*).increment($by)
    };
}

/// Adds to a gauge, or takes away.
#[cfg(feature = "groups")]
macro_rules! gauge {
    ($name:literal, $by:expr $(, $label:literal => $value:expr)*) => {
        #[cfg(feature = "metrics")]
        metrics::gauge!($name $(, $label => $value)*).increment($by)
    };
}

/// Tells of something that has happened: its level, the floor, what it is, and its fields.
#[cfg(feature = "groups")]
macro_rules! event {
    ($level:ident, $floor:literal, $text:literal $(, $($fields:tt)*)?) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: concat!("fanfare::", $floor), tracing::Level::$level, $($($fields)*,)? $text)
    };
}

pub(crate) use count;
#[cfg(feature = "groups")]
pub(crate) use {event, gauge};

/// What was last told of a sum that is counted elsewhere: the next time the difference is told, so that several
/// holders of such a sum add up.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Told(crate::sync::atomic::AtomicU64);

#[cfg(feature = "metrics")]
impl Told {
    /// Takes note of the sum as it is now, and returns by how much that is more.
    fn rise(&self, now: u64) -> u64 {
        // Relaxed: only the number itself matters. One who was told of a later sum at the same time tells the rest.
        now.saturating_sub(self.0.fetch_max(now, crate::sync::atomic::Ordering::Relaxed))
    }

    /// As `rise`, for what may also be less.
    #[cfg(feature = "groups")]
    fn change(&self, now: usize) -> f64 {
        now as f64 - self.0.swap(now as u64, crate::sync::atomic::Ordering::Relaxed) as f64
    }
}
