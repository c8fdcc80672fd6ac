//! [`ShutdownReport`]: what a server that has ended returns.

/// How a server's shutdown went: what a [`Server`](super::Server) returns when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended within the time, including clients that did not answer the close before their channel's
    /// own deadline.
    pub ended: usize,
    /// Connections that were cut off after the time.
    pub cut: usize,
}
