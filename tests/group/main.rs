//! Tests of groups, histories, presence and offline queues, over the in-memory transport.

#![allow(missing_docs, reason = "tests")]

#[path = "../view/mod.rs"]
mod view;

mod crowd;
mod history;
mod membership;
mod offline;
mod order;
mod presence;
mod sends;
