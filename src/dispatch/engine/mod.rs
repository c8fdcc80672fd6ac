//! What runs when an event is emitted: the slot of an event, its table, the walk over it, and what came of it.
//!
//! The files beside this folder are what a user holds: a dispatcher, handles, registrations. They use the
//! engine, and the engine knows none of them.

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
