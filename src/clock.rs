//! The wall clock, as messages to clients give it.

use std::time::SystemTime;

/// Returns a time in milliseconds since 1970, as messages to clients carry it; 0 for an earlier one.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
