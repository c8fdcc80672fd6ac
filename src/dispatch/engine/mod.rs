//! What runs when an event is emitted: the slot of an event, its table, the walk over it, and what came of it.
//!
//! The files beside this folder are what a user holds: a dispatcher, handles, registrations. They use the
//! engine, and the engine uses none of them. Its main files, the upper ones using the lower:
//!
//! ```text
//! slot        one event: its published table, its life        awaited     the walk as a future
//! walk        one emit over a table                           async_call  a closure that makes futures
//! table       the listeners of one event, an immutable value  core        what the clones of a dispatcher share
//! node        one listener                                    tasks       futures handed to the runtime
//! emission    what one emit gathers                           running     one such future
//! origin      where failures come from and are logged         report      what an emit did
//! ```

pub(super) mod async_call;
pub(super) mod awaited;
pub(super) mod calls;
pub(super) mod conditions;
pub(super) mod core;
pub(super) mod counters;
pub(super) mod depth;
pub(super) mod emission;
pub(super) mod failure;
pub(super) mod info;
pub(super) mod node;
pub(super) mod options;
pub(super) mod origin;
pub(super) mod outcome;
pub(super) mod priority;
pub(super) mod report;
pub(super) mod running;
pub(super) mod slot;
pub(super) mod table;
pub(super) mod tasks;
pub(super) mod waiting;
pub(super) mod walk;
