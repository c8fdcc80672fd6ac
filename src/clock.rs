//! Two clocks: the wall clock in milliseconds, for messages to clients, and the order of moments in this process.

use std::time::SystemTime;

use crate::sync::unique_number;

/// A moment in this process: a later one is greater. Two moments are never equal, unlike two readings of a clock.
///
/// Moments share the counter of channel ids, so a channel's id is the moment at which it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Returns the present moment.
    pub(crate) fn now() -> Self {
        Self(unique_number().get())
    }

    /// Returns the number of the moment, which no other moment has.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Returns a time in milliseconds since 1970, for messages to clients; 0 for an earlier time.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
