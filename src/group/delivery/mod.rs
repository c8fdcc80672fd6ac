//! How a message travels from its sender to the members of a group.
//!
//! ```text
//! send -- appends a frame --> log -- sweeper, one at a time: sweep --> each member's link --> socket
//! ```
//!
//! A send takes the group's lock for a moment and asks for a sweep. The sweep visits members in turn, and hands each
//! one all frames it has not had. `state` has the types, `life` lets members in, `member` lets them out, `report` says
//! what became of a message.

pub(crate) mod life;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod report;
pub(crate) mod send;
pub(crate) mod state;
pub(crate) mod sweep;
pub(crate) mod sweeper;
