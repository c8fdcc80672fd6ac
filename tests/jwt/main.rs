//! Tests of JSON Web Tokens: who is let in, until when, and what a user may do.

#![allow(missing_docs, reason = "tests")]

#[path = "../sockets/mod.rs"]
mod sockets;

mod authorisation;
mod tokens;
