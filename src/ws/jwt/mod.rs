//! Signed-in users: JSON Web Tokens on routes.
//!
//! A [`JwtVerifier`] decides which tokens are accepted, and is a layer of the router. A route that takes a [`Jwt`]
//! is open only to requests with such a token. [`Upgrade::signed_in`](super::Upgrade::signed_in) gives the connection
//! its user, and an end: with the token, by close code 4401, unless the client sends a new one.
//! [`ChannelBox::recv`](crate::group::ChannelBox::recv) takes that.
//!
//! A token is looked for in the header `Authorization: Bearer <token>`. A browser's `WebSocket` cannot set headers: it
//! offers subprotocols, `new WebSocket(url, ["bearer", token])`, and is answered `bearer`. It is never taken from the
//! address, unless [`JwtVerifier::allow_query_parameter`] says so.
//!
//! No code here writes a token into an answer, an error or `Debug` output; and the headers that carried it are marked
//! as sensitive.

mod claims;
mod error;
mod extract;
mod key;
mod refresh;
mod request;
mod signer;
mod token;
mod verifier;

pub use self::claims::TokenClaims;
pub use self::error::{JwtError, JwtRejection, RefreshError};
pub use self::key::{JwtKey, JwtKeyError, MIN_SECRET_LEN};
pub use self::signer::{JwtSigner, SignError};
pub use self::token::Jwt;
pub use self::verifier::{JwtVerifier, MAX_TOKEN_SIZE};
