//! Observability of a running program: metrics by the crate `metrics`, spans and log events by the crate `tracing`.
//!
//! Each is a feature. The library installs no recorder and no subscriber; the program does. Without one, each call
//! costs one load of an atomic. All metric names are in `METRICS` and on the page `fanfare::docs::observability`.
//!
//! Only this folder names the two crates. It has one file for each observed floor, and one that writes lines to
//! stderr. With a feature off, its functions are empty, and their lazy arguments are not evaluated.
//!
//! Always: a recorder and a subscriber are user code, so no function that reports to them is called under a lock.
//! Facts learnt under a lock are noted (`Notes`) and reported after its release.
//!
//! Never in a label or a field: payloads, tokens, headers, URLs, close reasons, and the identity of a user.

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

/// Adds to a gauge; a negative number subtracts.
#[cfg(feature = "groups")]
macro_rules! gauge {
    ($name:literal, $by:expr $(, $label:literal => $value:expr)*) => {
        #[cfg(feature = "metrics")]
        metrics::gauge!($name $(, $label => $value)*).increment($by)
    };
}

/// Logs an event: its level, the floor, its text, and its fields.
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

/// The last reported value of a sum that is kept elsewhere. Only the difference is reported, so that the values of
/// several holders add up in one metric.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Told(crate::sync::atomic::AtomicU64);

#[cfg(feature = "metrics")]
impl Told {
    /// Stores the present sum and returns how much it has risen.
    fn rise(&self, now: u64) -> u64 {
        // Relaxed: only the number itself matters. A concurrent call with a later sum reports the rest.
        now.saturating_sub(self.0.fetch_max(now, crate::sync::atomic::Ordering::Relaxed))
    }

    /// Like `rise`, for a number that may also fall.
    #[cfg(feature = "groups")]
    fn change(&self, now: usize) -> f64 {
        now as f64 - self.0.swap(now as u64, crate::sync::atomic::Ordering::Relaxed) as f64
    }
}
