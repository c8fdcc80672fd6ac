//! [`Jwt`]: a token that a [`JwtVerifier`] has accepted.

use std::fmt;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::claims::ends_at;
use super::error::JwtError;
use super::request::Source;
use super::verifier::JwtVerifier;
use crate::channel::UserId;
use crate::clock::Moment;

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
    /// The moment when the token was checked. Later channels and revocations are greater.
    checked: Moment,
    source: Source,
    /// Accepted it, and accepts the one that replaces it.
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
    pub(in crate::ws) fn expires_at(&self) -> Option<Instant> {
        ends_at(self.expires)
    }

    /// Returns the moment when the token was checked.
    pub(in crate::ws) fn checked(&self) -> Moment {
        self.checked
    }

    /// Returns the verifier that accepted it.
    pub(in crate::ws) fn verifier(&self) -> &JwtVerifier {
        &self.verifier
    }

    /// Tells whether the answer has to name the subprotocol `bearer`.
    pub(in crate::ws) fn is_from_subprotocol(&self) -> bool {
        self.source == Source::Subprotocol
    }
}

/// Shows the user and the end, and no claim: these are the user's own affair.
impl<C> fmt::Debug for Jwt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("user", &self.user).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Returns what a token says, if it is accepted.
    ///
    /// For tokens that come by other ways than a request's head; routes take a [`Jwt`] as an argument.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it, in the order of [`JwtError`]. It holds nothing of the token.
    pub fn verify<C: DeserializeOwned>(&self, token: &str) -> Result<Jwt<C>, JwtError> {
        self.verify_from(token.as_bytes(), Source::Elsewhere)
    }

    pub(super) fn verify_from<C: DeserializeOwned>(&self, token: &[u8], source: Source) -> Result<Jwt<C>, JwtError> {
        // Before `check` is called: a user who is revoked after `check` returned true is revoked after this id.
        let checked = Moment::now();
        let verified = self.verify_at(token, SystemTime::now())?;
        let claims = serde_json::from_value(Value::Object(verified.claims.0)).map_err(|_| JwtError::Claims)?;
        Ok(Jwt { claims, user: verified.user, expires: verified.expires, checked, source, verifier: self.clone() })
    }
}
