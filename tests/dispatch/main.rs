//! Tests of the dispatcher, a file for each behaviour.

#![allow(missing_docs, reason = "tests")]

#[path = "../alone/mod.rs"]
mod alone;
#[path = "../calls/mod.rs"]
mod calls;

mod awaited;
mod depth;
mod failures;
mod guarantees;
mod introspection;
mod names;
mod pause;
mod publisher;
mod registration;
mod results;
mod streams;
mod thread_exit;
#[cfg(feature = "tokio")]
mod tokio_listeners;
mod waitable;
