//! Counts of allocations.
//!
//! A counting allocator serves the whole program, so the tests that need it are a program of their own.

#![allow(missing_docs, reason = "tests")]

#[path = "../calls/mod.rs"]
mod calls;
#[cfg(feature = "ws")]
#[path = "../sockets/mod.rs"]
mod sockets;

mod dispatch;
#[cfg(feature = "ws")]
mod fanout;
