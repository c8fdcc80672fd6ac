//! Async listeners that a plain `emit` handed to the runtime: counted, bounded, waited for.
//!
//! The feature `tokio` chooses one of the two files; without it a plain emit has nowhere to run them.

#[cfg(feature = "tokio")]
mod on_tokio;
#[cfg(not(feature = "tokio"))]
mod without;

#[cfg(feature = "tokio")]
pub(super) use on_tokio::{Admission, SpawnedTask, Tasks};
#[cfg(feature = "tokio")]
pub use on_tokio::{Drained, SpawnedEmit};
#[cfg(not(feature = "tokio"))]
pub(super) use without::{Admission, SpawnedTask, Tasks};
