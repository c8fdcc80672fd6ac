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
/// `C` is the type that all its claims are read as. A request without a valid token gets status 401 and a line that
/// says why, and does not reach the route; `Option<Jwt>` also accepts requests without any token.
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
    /// Has accepted this token, and checks the one that replaces it.
    verifier: JwtVerifier,
}

impl<C> Jwt<C> {
    /// Returns the token's claims.
    #[must_use]
    pub fn claims(&self) -> &C {
        &self.claims
    }

    /// Returns the token's claims, by value.
    #[must_use]
    pub fn into_claims(self) -> C {
        self.claims
    }

    /// Returns the token's user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns when the token stops being accepted here: at its `exp`, and the [leeway](JwtVerifier::leeway) later.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Returns that time by the timers' clock.
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

    /// Returns whether the answer has to name the subprotocol `bearer`.
    pub(in crate::ws) fn is_from_subprotocol(&self) -> bool {
        self.source == Source::Subprotocol
    }
}

/// Shows the user and the expiry, but no claims, which are private.
impl<C> fmt::Debug for Jwt<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("user", &self.user).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Returns a token's user and claims, if it is accepted.
    ///
    /// For tokens that do not come in a request's head; routes take a [`Jwt`] as an argument.
    ///
    /// # Errors
    ///
    /// The first reason to refuse the token, in the order of [`JwtError`]. The error holds no part of the token.
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
