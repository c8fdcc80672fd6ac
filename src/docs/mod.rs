//! Pages for the curious. The code in them is compiled and run.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

// Its steps go up to a route, so it needs them all.
#[cfg(feature = "ws")]
#[doc = include_str!("tutorial.md")]
pub mod tutorial {}
