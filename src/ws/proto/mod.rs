//! The WebSocket protocol without a socket: bytes and headers in, values out.
//!
//! Nothing here knows a route, a channel or a task: only the crates `http` and `bytes`. [`handshake`] decides about a
//! request, [`decoder`] reads what a client sends after it, and `deflate` agrees on compression.

pub mod decoder;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod handshake;
mod headers;
pub(super) mod origins;
pub(super) mod refusal;
