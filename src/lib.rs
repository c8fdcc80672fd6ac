#![doc = include_str!("../README.md")]

mod sync;

mod snapshot;

pub mod name;

pub mod dispatch;

#[cfg(feature = "groups")]
pub mod frame;

#[cfg(feature = "groups")]
pub mod channel;

#[cfg(feature = "groups")]
pub mod group;

#[cfg(feature = "ws")]
pub mod ws;

pub mod docs;

pub use dispatch::{Dispatcher, Event, EventError, Listener, Priority, Report, Subscription};
pub use name::Key;
