//! Pages for the curious. Everything in them is compiled and run as a test.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}
