//! The engine of an emit: the slot of an event, its table, the walk over the table, and the report.
//!
//! The files beside this folder are for users: a dispatcher, handles, registrations. They use the engine,
//! and the engine uses none of them. The main files here, upper ones using lower ones:
//!
//! ```text
//! slot        one event: its published table, its life        awaited     the walk as a future
//! walk        one emit over a table                           async_call  a closure that makes futures
//! table       the listeners of one event, an immutable value  core        what the clones of a dispatcher share
//! node        one listener                                    tasks       futures handed to the runtime
//! emission    the state of one emit                           running     one such future
//! origin      where failures come from and go to              report      what an emit did
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
