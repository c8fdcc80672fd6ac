//! [`ShutdownReport`]: what a server that has ended returns.

/// How a server's shutdown went: what a [`Server`](super::Server) returns when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that were over within the time. Clients that never answered their close are among them
    /// when the channel gave them up before.
    pub ended: usize,
    /// Connections that were cut off when the time was up.
    pub cut: usize,
}
