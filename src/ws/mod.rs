//! WebSockets on axum: an extractor that turns a route into a [`Channel`](crate::channel::Channel).
//!
//! [`Upgrade`] checks the handshake and answers it; its [`run`](Upgrade::run) hands the channel to a
//! handler in a task of its own. Sockets that axum serves over plain TCP are written directly, from
//! whatever thread sends; anything else (TLS, Unix sockets) goes through a writer task.

mod connection;
pub mod decoder;
pub mod handshake;
mod transport;
mod upgrade;

pub use handshake::HandshakeError;
pub use upgrade::Upgrade;
