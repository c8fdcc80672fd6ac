//! Guides and reference pages. Their code is compiled and run.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("performance.md")]
#[doc = include_str!("plots/emit.svg")]
#[doc = include_str!("plots/peers.svg")]
#[doc = include_str!("plots/threads.svg")]
#[doc = include_str!("plots/names.svg")]
#[doc = include_str!("plots/growth.svg")]
#[doc = include_str!("plots/churn.svg")]
#[doc = include_str!("plots/joins.svg")]
pub mod performance {}

#[doc = include_str!("orderings.md")]
pub mod orderings {}

#[doc = include_str!("limitations.md")]
pub mod limitations {}

// The code of these pages serves routes, so they need the feature `ws`.
#[cfg(feature = "ws")]
#[doc = include_str!("groups.md")]
pub mod groups {}

#[cfg(feature = "ws")]
#[doc = include_str!("promises.md")]
pub mod promises {}

#[cfg(feature = "ws")]
#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[cfg(feature = "ws")]
#[doc = include_str!("observability.md")]
pub mod observability {}

#[cfg(feature = "ws")]
#[doc = include_str!("tutorial.md")]
pub mod tutorial {}
