//! Who is in a group, told to its members.

mod entry;
mod frames;
mod room;
mod roster;

pub use entry::{
    MAX_PRESENCE_INFO_LEN, PRESENCE_JOINED, PRESENCE_LEFT, PRESENCE_UPDATED, PresenceChange, PresenceError,
    PresencePage, PresenceUser,
};
pub use room::{Here, Presence};
pub(super) use room::{Room, left};
