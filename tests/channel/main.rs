//! Tests of channels: the in-memory transport, and the outbox over real sockets.

#![allow(missing_docs, reason = "tests")]

#[cfg(feature = "ws")]
#[path = "../sockets/mod.rs"]
mod sockets;

mod in_memory;
#[cfg(feature = "ws")]
mod overflow;
