//! How a message travels from its sender to the members of a group.

pub(super) mod life;
pub(super) mod log;
pub(super) mod member;
pub(super) mod report;
pub(super) mod send;
pub(super) mod sweep;
pub(super) mod sweeper;
