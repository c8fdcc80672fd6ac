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
