//! [`Counters`]: a server's connections, in numbers.

use std::fmt;

use super::tracker::Tracker;
use crate::sync::Arc;

/// Counts a server's connections while it runs, and after: see [`Server::counters`](super::Server::counters).
#[derive(Clone)]
pub struct Counters(pub(super) Arc<Tracker>);

impl Counters {
    /// Returns the number of connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.counts().accepted
    }

    /// Returns the number of connections refused by a cap so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.counts().refused
    }

    /// Returns the number of open connections, channels included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.counts().open
    }

    /// Returns how many of the open connections are channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.0.counts().channels
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.counts();
        f.debug_struct("Counters")
            .field("accepted", &counts.accepted)
            .field("refused", &counts.refused)
            .field("open", &counts.open)
            .field("channels", &counts.channels)
            .finish()
    }
}
