//! fanfare

mod sync;

mod snapshot;

pub mod name;

#[cfg(feature = "groups")]
pub mod frame;

#[cfg(feature = "groups")]
pub mod channel;

#[cfg(feature = "groups")]
pub mod group;

#[cfg(feature = "ws")]
pub mod ws;
