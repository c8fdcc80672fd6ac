//! [`JwtVerifier`]: decides which tokens are accepted.
//!
//! Verifying is a pure function of the token, the settings and the time, and takes time linear in a token that is
//! not too long. Nothing is read from a claim before the signature is known to be right, and each part is parsed
//! once: what is checked is what is used.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{TokenClaims, time};
use super::error::JwtError;
use super::key::{JwtKey, JwtKeyError};
use crate::channel::UserId;
use crate::sync::Arc;

/// The longest token that is checked, in bytes, unless [`JwtVerifier::max_token_size`] says otherwise.
pub const MAX_TOKEN_SIZE: usize = 8 << 10;

const LEEWAY: Duration = Duration::from_secs(30);

/// Decides which JSON Web Tokens (RFC 7519) are accepted, by key, audience and time. Cheap to clone.
///
/// Routes that take a [`Jwt`](super::Jwt) find it on the router, as an [`Extension`](axum::Extension).
///
/// A token has to be signed by one of the keys, by that key's algorithm, to be for the audience, and to have an end
/// (`exp`) that is not over; a beginning (`nbf`) has to be past. Between this clock and the issuer's there may be 30 s
/// ([`leeway`](Self::leeway)). Its subject (`sub`) is the user.
///
/// ```
/// use std::time::Duration;
/// use fanfare::channel::UserId;
/// use fanfare::ws::JwtVerifier;
/// use fanfare::ws::jwt::{Jwt, JwtError, JwtSigner};
///
/// let secret = [7; 32]; // from the environment, say: random, and the same where tokens are made
/// let verifier = JwtVerifier::hs256(&secret, "chat")?.issuer("https://id.example.com");
/// let ada = UserId::new("ada")?;
///
/// let signer = JwtSigner::hs256(&secret, "chat")?.issuer("https://id.example.com");
/// let token = signer.sign(&ada, Duration::from_secs(900))?;
/// let jwt: Jwt = verifier.verify(&token)?;
/// assert_eq!(jwt.user(), &ada);
///
/// let elsewhere = JwtSigner::hs256(&secret, "shop")?.issuer("https://id.example.com");
/// let token = elsewhere.sign(&ada, Duration::from_secs(900))?;
/// assert_eq!(verifier.verify::<serde_json::Value>(&token).err(), Some(JwtError::Audience));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JwtVerifier(Arc<Settings>);

#[derive(Clone)]
struct Settings {
    /// Not empty; their ids differ.
    keys: Vec<JwtKey>,
    audience: String,
    issuer: Option<String>,
    leeway: Duration,
    max_token_size: usize,
    query_parameter: Option<String>,
    check: Option<Arc<Check>>,
    user: Option<Arc<Name>>,
}

type Check = dyn Fn(&TokenClaims) -> bool + Send + Sync;
type Name = dyn Fn(&TokenClaims) -> Option<String> + Send + Sync;

impl JwtVerifier {
    /// Accepts tokens that are signed by one of these keys, and are for `audience`: the name of this service in the
    /// claim `aud`, so that what a user got for another one does not open this.
    ///
    /// Of several keys each needs an [id](JwtKey::id), by which a token says which one is its own (`kid`); one may be
    /// without an id, for tokens that name none. A single key without an id is used for every token.
    ///
    /// # Errors
    ///
    /// When `keys` is empty, or two keys have the same id.
    pub fn new(keys: impl IntoIterator<Item = JwtKey>, audience: impl Into<String>) -> Result<Self, JwtKeyError> {
        let keys: Vec<JwtKey> = keys.into_iter().collect();
        if keys.is_empty() {
            return Err(JwtKeyError::NoKey);
        }
        if keys.iter().enumerate().any(|(at, key)| keys[..at].iter().any(|other| other.named() == key.named())) {
            return Err(JwtKeyError::SameId);
        }
        Ok(Self(Arc::new(Settings {
            keys,
            audience: audience.into(),
            issuer: None,
            leeway: LEEWAY,
            max_token_size: MAX_TOKEN_SIZE,
            query_parameter: None,
            check: None,
            user: None,
        })))
    }

    /// Accepts tokens that are signed with this secret: see [`new`](Self::new) and [`JwtKey::hs256`].
    ///
    /// # Errors
    ///
    /// When the secret has less than 32 bytes.
    pub fn hs256(secret: &[u8], audience: impl Into<String>) -> Result<Self, JwtKeyError> {
        Self::new([JwtKey::hs256(secret)?], audience)
    }

    /// Accepts only tokens of this issuer (`iss`). By default, any issuer that has the key is accepted.
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.with(|settings| settings.issuer = Some(issuer.into()))
    }

    /// Sets how far the issuer's clock may be from this one: a token is accepted this long before its start, and this
    /// long after its expiry, which is when its connections are closed, too. 30 s by default.
    #[must_use]
    pub fn leeway(self, leeway: Duration) -> Self {
        self.with(|settings| settings.leeway = leeway)
    }

    /// Sets the size of the largest token, in bytes; 8 KiB by default. A larger one is refused unread.
    #[must_use]
    pub fn max_token_size(self, bytes: usize) -> Self {
        self.with(|settings| settings.max_token_size = bytes)
    }

    /// Accepts only tokens for which `check` returns true; it is called last, and for every token.
    ///
    /// This keeps a revoked user out. [`User::revoke`](crate::group::offline::User::revoke) ends the open connections;
    /// the user's token is still valid, and would open the next one. Remember when a user was revoked, and refuse
    /// tokens issued before:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Mutex};
    /// use std::time::{Duration, SystemTime};
    /// use fanfare::channel::UserId;
    /// use fanfare::ws::JwtVerifier;
    /// use fanfare::ws::jwt::{JwtError, JwtSigner};
    ///
    /// // Keep an entry as long as tokens live; in a database, if it has to survive a restart.
    /// let revoked: Arc<Mutex<HashMap<String, SystemTime>>> = Arc::default();
    ///
    /// let look = Arc::clone(&revoked);
    /// let verifier = JwtVerifier::hs256(&[7; 32], "chat")?.check(move |claims| {
    ///     let revoked = look.lock().expect("no thread panics with the lock");
    ///     let since = claims.subject().and_then(|user| revoked.get(user));
    ///     since.is_none_or(|since| claims.issued().is_some_and(|issued| issued > *since))
    /// });
    ///
    /// let mallory = UserId::new("mallory")?;
    /// let token = JwtSigner::hs256(&[7; 32], "chat")?.sign(&mallory, Duration::from_secs(900))?;
    /// assert!(verifier.verify::<serde_json::Value>(&token).is_ok());
    ///
    /// // In this order: `revoke` ends a connection that begins in between.
    /// revoked.lock().expect("no thread panics with the lock").insert(mallory.to_string(), SystemTime::now());
    /// // channels.user(&mallory).revoke();
    /// assert_eq!(verifier.verify::<serde_json::Value>(&token).err(), Some(JwtError::Refused));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn check(self, check: impl Fn(&TokenClaims) -> bool + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.check = Some(Arc::new(check)))
    }

    /// Sets how the user is read from a token's claims; by default it is the subject (`sub`).
    ///
    /// The text has to be a [`UserId`]; otherwise the token is refused.
    #[must_use]
    pub fn user(self, user: impl Fn(&TokenClaims) -> Option<String> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.user = Some(Arc::new(user)))
    }

    /// Also takes a token from this query parameter, if the request has none in a header.
    ///
    /// **Dangerous.** Addresses are recorded: in the logs of every proxy on the way, in a browser's history, in traces.
    /// A reader of these can act as the user until the token expires. Only for clients that can send neither a header
    /// nor a subprotocol, and with tokens that live for seconds.
    #[must_use]
    pub fn allow_query_parameter(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.query_parameter = Some(name.into()))
    }

    pub(super) fn verify_at(&self, token: &[u8], now: SystemTime) -> Result<Verified, JwtError> {
        let settings = &*self.0;
        if token.len() > settings.max_token_size {
            return Err(JwtError::TooLong);
        }
        let claims = TokenClaims(settings.signed_claims(token)?);
        let expires = settings.check_time(&claims, now)?;
        if !claims.is_for(&settings.audience) {
            return Err(JwtError::Audience);
        }
        if settings.issuer.as_deref().is_some_and(|issuer| claims.get("iss").is_none_or(|claim| claim != issuer)) {
            return Err(JwtError::Issuer);
        }
        if settings.check.as_ref().is_some_and(|check| !check(&claims)) {
            return Err(JwtError::Refused);
        }
        Ok(Verified { user: settings.user_of(&claims)?, claims, expires })
    }

    pub(super) fn query_parameter(&self) -> Option<&str> {
        self.0.query_parameter.as_deref()
    }

    fn with(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(Arc::make_mut(&mut self.0));
        self
    }
}

/// A verified token.
pub(super) struct Verified {
    pub(super) claims: TokenClaims,
    pub(super) user: UserId,
    pub(super) expires: SystemTime,
}

impl Settings {
    /// Returns the claims of a token whose signature is valid.
    fn signed_claims(&self, token: &[u8]) -> Result<Map<String, Value>, JwtError> {
        let malformed = JwtError::Malformed;
        let at = token.iter().rposition(|byte| *byte == b'.').ok_or(malformed)?;
        let (message, signature) = (&token[..at], &token[at + 1..]);
        let mut parts = message.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed);
        };
        let header = object(header).ok_or(malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let key = self.key(header.get("kid")).ok_or(JwtError::UnknownKey)?;
        if header.get("alg").is_none_or(|algorithm| algorithm != key.algorithm()) {
            return Err(JwtError::Algorithm);
        }
        if !key.has_signed(message, &signature) {
            return Err(JwtError::Signature);
        }
        object(claims).ok_or(malformed)
    }

    fn key(&self, id: Option<&Value>) -> Option<&JwtKey> {
        match (&self.keys[..], id) {
            ([key], _) if key.named().is_none() => Some(key),
            (keys, Some(Value::String(id))) => keys.iter().find(|key| key.named() == Some(id)),
            (keys, None) => keys.iter().find(|key| key.named().is_none()),
            (_, Some(_)) => None,
        }
    }

    /// Returns when the token ends, by this clock.
    fn check_time(&self, claims: &TokenClaims, now: SystemTime) -> Result<SystemTime, JwtError> {
        let expires = claims.get("exp").and_then(time).ok_or(JwtError::NoExpiry)?;
        let expires = expires.checked_add(self.leeway).unwrap_or(expires);
        if expires <= now {
            return Err(JwtError::Expired);
        }
        match claims.get("nbf").map(time) {
            Some(None) => Err(JwtError::NotYetValid),
            Some(Some(begins)) if begins.duration_since(now).is_ok_and(|wait| wait > self.leeway) => {
                Err(JwtError::NotYetValid)
            }
            _ => Ok(expires),
        }
    }

    fn user_of(&self, claims: &TokenClaims) -> Result<UserId, JwtError> {
        let user = match &self.user {
            Some(user) => user(claims).and_then(|user| UserId::new(user).ok()),
            None => claims.subject().and_then(|subject| UserId::new(subject).ok()),
        };
        user.ok_or(JwtError::User)
    }
}

/// Decodes a part of a token that is a JSON object.
fn object(part: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Shows the settings, and of the keys only their names.
impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier")
            .field("keys", &self.0.keys)
            .field("audience", &self.0.audience)
            .field("issuer", &self.0.issuer)
            .field("leeway", &self.0.leeway)
            .finish_non_exhaustive()
    }
}
