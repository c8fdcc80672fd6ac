//! Who is connected: JSON Web Tokens on routes.
//!
//! A [`JwtVerifier`] says which tokens are accepted, and is put on the router as a layer. A route that takes a [`Jwt`]
//! is open only to requests with such a token. [`Upgrade::signed_in`](super::Upgrade::signed_in) gives the connection
//! its user, and an end: with the token, by close code 4401, unless the client sends a new one.
//! [`ChannelBox::recv`](crate::group::ChannelBox::recv) takes that, or [`JwtVerifier::take_refresh`] without a box.
//!
//! A token is looked for in the header `Authorization: Bearer <token>`. A browser's `WebSocket` cannot set headers: it
//! offers subprotocols, `new WebSocket(url, ["bearer", token])`, and is answered `bearer`. It is never taken from the
//! address, unless [`JwtVerifier::allow_query_parameter`] says so.
//!
//! Nothing here writes a token anywhere: not into an answer, an error, or what `Debug` shows; and the headers that
//! brought it are marked as sensitive.

mod claims;
mod error;
mod key;
mod refresh;
mod request;
mod signer;
mod verifier;

use std::fmt;
use std::io::{self, Write};
use std::sync::Once;
use std::time::SystemTime;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use claims::TokenClaims;
pub use error::{JwtError, JwtRejection, RefreshError};
pub use key::{JwtKey, JwtKeyError, MIN_SECRET_LEN};
pub use signer::{JwtSigner, SignError};
pub use verifier::{JwtVerifier, MAX_TOKEN_LEN};

use self::request::Source;
use crate::channel::{ChannelId, UserId};

/// A token that was accepted: an axum extractor, for WebSockets and for any other route.
///
/// `C` is what its claims are read as, all of them, with the route's own. A request without a good token gets status
/// 401 and a line that says why, and does not reach the route; `Option<Jwt>` lets those in that bring none at all.
///
/// ```
/// use axum::{Extension, Router, response::Response, routing::get};
/// use fanfare::ws::{Jwt, JwtVerifier, Upgrade};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Claims { name: String }
///
/// async fn chat(token: Jwt<Claims>, upgrade: Upgrade) -> Response {
///     let name = token.claims().name.clone();
///     upgrade.signed_in(&token).run(async move |channel| {
///         let user = channel.user().expect("it is signed in");
///         channel.send(&format!("welcome, {name} ({user})"))?;
///         Ok(())
///     })
/// }
///
/// let verifier = JwtVerifier::hs256(b"32 random bytes, from outside...", "chat")?;
/// let app: Router = Router::new().route("/chat", get(chat)).layer(Extension(verifier));
/// # Ok::<(), fanfare::ws::jwt::JwtKeyError>(())
/// ```
#[derive(Clone)]
pub struct Jwt<C = serde_json::Value> {
    claims: C,
    user: UserId,
    expires: SystemTime,
    /// An id of the time when it was checked: channels and revocations of later have higher ones.
    checked: ChannelId,
    source: Source,
    /// Who accepted it, and takes the next one.
    verifier: JwtVerifier,
}

impl<C> Jwt<C> {
    /// Returns what the token says.
    #[must_use]
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// Returns what the token says, by value.
    #[must_use]
    pub fn into_claims(self) -> C {
        self.claims
    }

    /// Returns whose token it is.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns when the token stops being accepted here: at its `exp`, and the [leeway](JwtVerifier::leeway) later.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Returns that by the clock of timers.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        ends_at(self.expires)
    }

    /// Returns an id of the time when it was checked.
    pub(super) fn checked(&self) -> ChannelId {
        self.checked
    }

    /// Returns who accepted it.
    pub(super) fn verifier(&self) -> &JwtVerifier {
        &self.verifier
    }

    /// Tells whether the answer has to name the subprotocol `bearer`.
    pub(super) fn is_from_subprotocol(&self) -> bool {
        self.source == Source::Subprotocol
    }
}

/// Returns a time by the clock of timers; `None` when that goes not so far.
fn ends_at(expires: SystemTime) -> Option<Instant> {
    Instant::now().checked_add(expires.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Shows the user and the end, and no claim: these are the user's own affair.
impl<C> fmt::Debug for Jwt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("user", &self.user).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl<C: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Jwt<C> {
    type Rejection = JwtRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, JwtRejection> {
        extract(parts)
    }
}

/// `None` is a request without a token; a token that is not accepted is refused all the same.
impl<C: DeserializeOwned, S: Send + Sync> OptionalFromRequestParts<S> for Jwt<C> {
    type Rejection = JwtRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, JwtRejection> {
        match extract(parts) {
            Err(JwtRejection::Missing) => Ok(None),
            jwt => jwt.map(Some),
        }
    }
}

fn extract<C: DeserializeOwned>(parts: &mut Parts) -> Result<Jwt<C>, JwtRejection> {
    request::hide(&mut parts.headers);
    let Some(verifier) = parts.extensions.get::<JwtVerifier>() else {
        tell_of_no_verifier();
        return Err(JwtRejection::NoVerifier);
    };
    let (token, source) = request::find(parts, verifier.query_parameter())?;
    Ok(verifier.verify_from(token, source)?)
}

/// It is the same for every request: told once.
#[cold]
fn tell_of_no_verifier() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        let line = "fanfare: a route takes a Jwt, but its router has no JwtVerifier: add .layer(Extension(verifier))\n";
        // A closed stderr is no reason to panic.
        let _ = io::stderr().write_all(line.as_bytes());
    });
}
