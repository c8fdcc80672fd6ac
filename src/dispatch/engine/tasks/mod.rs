//! Async listeners that a plain `emit` hands to the runtime: counted, bounded, and possible to wait for.
//!
//! The feature `tokio` selects one of the two files; without it a plain emit cannot run async listeners.

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
