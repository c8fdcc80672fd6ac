//! ws
pub mod decoder;
pub mod handshake;
