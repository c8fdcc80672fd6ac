//! Tests of the WebSocket floor, over real sockets.

#![allow(missing_docs, reason = "tests")]

#[cfg(target_os = "linux")]
#[path = "../alone/mod.rs"]
mod alone;
#[path = "../sockets/mod.rs"]
mod sockets;

mod channels;
#[cfg(feature = "deflate")]
mod compression;
mod consumer;
mod drain;
mod half_open;
mod handlers;
mod handshake;
mod heartbeat;
mod protocol;
mod rates;
mod security;
mod serve;
mod tls;

/// Held by a test that opens a hundred sockets or more: these tests take turns, since a process may often have no more
/// than a thousand files.
static MANY_SOCKETS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
