//! Tests of the dispatcher, a file for each behaviour.

#![allow(missing_docs, reason = "tests")]

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
#[cfg(feature = "tokio")]
mod tokio_listeners;
mod waitable;
