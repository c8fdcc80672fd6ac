//! Load tests: users and clients come and go on several threads. Environment variables set the size.

#![allow(missing_docs, reason = "tests")]

#[cfg(feature = "ws")]
#[path = "../sockets/mod.rs"]
mod sockets;
#[path = "../view/mod.rs"]
mod view;

mod presence;
#[cfg(feature = "ws")]
mod recovery;

/// Held by a test while it runs: each keeps all processors busy and has deadlines.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
