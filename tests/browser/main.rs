//! Tests of the client for browsers, in a real browser.

#![allow(missing_docs, reason = "tests")]

mod client;
#[cfg(all(feature = "jwt", feature = "redb"))]
mod groups;
