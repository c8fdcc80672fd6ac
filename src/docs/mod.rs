//! Pages for the curious. The code in them is compiled and run.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("orderings.md")]
pub mod orderings {}

#[doc = include_str!("limitations.md")]
pub mod limitations {}

// Its steps go up to a route, so it needs them all.
#[cfg(feature = "ws")]
#[doc = include_str!("tutorial.md")]
pub mod tutorial {}
