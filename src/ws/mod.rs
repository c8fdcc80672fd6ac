//! WebSockets on axum: an extractor that turns a route into a [`Channel`](crate::channel::Channel).
//!
//! [`Upgrade`] checks the handshake and answers it; its [`run`](Upgrade::run) hands the channel to a
//! handler in a task of its own, which also reads, keeps time, and writes what waits. Sockets that axum
//! serves over plain TCP are written directly, from whatever thread sends; anything else (TLS, Unix
//! sockets) is written by that task.
//!
//! [`serve`] runs a router that has such routes, with the bounds and the orderly end that a public
//! port needs. A [`Consumer`] is a handler as a type with a method per event.
//!
//! A token identifies the user of a connection: `Jwt`, with the feature `jwt`.
//!
//! axum's types appear only in the signatures of this module: in routes, extractors and responses. `decoder`,
//! `handshake` and `deflate` need only the crates `http` and `bytes`, for use with other servers.
//!
//! All bounds with their defaults, the close codes, and where TLS differs, are in
//! [`docs::groups`](crate::docs::groups); the [tutorial](crate::docs::tutorial) goes there step by step.

mod connection;
mod consumer;
mod handler;
#[cfg(feature = "jwt")]
pub mod jwt;
mod mailbox;
mod open;
mod proto;
mod rate;
mod recover;
mod serve;
mod times;
mod transport;
mod upgrade;

pub use consumer::{Consumer, Decode, JsonMessage, Session};
pub use handler::{HANDLER_FAILED, HandlerFailed};
#[cfg(feature = "jwt")]
pub use jwt::{Jwt, JwtVerifier};
#[cfg(feature = "deflate")]
pub use proto::deflate;
pub use proto::origins::Origins;
pub use proto::refusal::HandshakeError;
pub use proto::{decoder, handshake};
pub use rate::{Excess, RateLimit};
pub use serve::{Counters, Server, ShutdownReport, serve};
pub use upgrade::Upgrade;

/// The client for browsers, as the text of an ES module, for a route to serve.
///
/// It has no dependencies, and works under a Content-Security-Policy of `default-src 'self'`. Its own comments and
/// [`docs::protocol`](crate::docs::protocol) explain its use.
///
/// ```
/// use axum::{Router, http::header, routing::get};
/// use fanfare::ws::CLIENT_JS;
///
/// let client = get(async || ([(header::CONTENT_TYPE, "text/javascript")], CLIENT_JS));
/// let app: Router = Router::new().route("/fanfare.js", client);
/// assert!(CLIENT_JS.contains("export function connect("));
/// ```
pub const CLIENT_JS: &str = include_str!("../../client/fanfare.js");
/// The TypeScript declarations of [`CLIENT_JS`].
pub const CLIENT_DTS: &str = include_str!("../../client/fanfare.d.ts");
