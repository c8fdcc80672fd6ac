//! [`JwtSigner`]: makes tokens, for a server that both signs users in and checks their tokens.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use serde_json::{Map, Value};

use super::key::{JwtKeyError, check_secret};
use crate::channel::UserId;

/// Makes tokens with a secret (HMAC with SHA-256), which a [`JwtVerifier`](super::JwtVerifier) of that secret accepts.
///
/// ```
/// use std::time::Duration;
/// use fanfare::channel::UserId;
/// use fanfare::ws::jwt::{Jwt, JwtSigner, JwtVerifier};
///
/// let signer = JwtSigner::hs256(&[7; 32], "chat")?;
/// let claims = serde_json::json!({ "name": "Ada Lovelace" });
/// let token = signer.sign_with(&UserId::new("ada")?, Duration::from_secs(900), &claims)?;
///
/// let jwt: Jwt = JwtVerifier::hs256(&[7; 32], "chat")?.verify(&token)?;
/// assert_eq!(jwt.claims()["name"], "Ada Lovelace");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JwtSigner {
    key: EncodingKey,
    id: Option<String>,
    audience: String,
    issuer: Option<String>,
}

impl JwtSigner {
    /// Signs with this secret, for this audience.
    ///
    /// # Errors
    ///
    /// When the secret has less than 32 bytes.
    pub fn hs256(secret: &[u8], audience: impl Into<String>) -> Result<Self, JwtKeyError> {
        check_secret(secret)?;
        Ok(Self { key: EncodingKey::from_secret(secret), id: None, audience: audience.into(), issuer: None })
    }

    /// Names the issuer (`iss`).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Names the key (`kid`).
    #[must_use]
    pub fn key_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Makes a token for `user` that lives this long, in whole seconds, rounded up.
    ///
    /// # Errors
    ///
    /// As [`sign_with`](Self::sign_with), whose errors cannot occur here.
    pub fn sign(&self, user: &UserId, lifetime: Duration) -> Result<String, SignError> {
        self.sign_with(user, lifetime, &Map::new())
    }

    /// As [`sign`](Self::sign), with more claims. The user, the audience, the issuer and the times (`sub`, `aud`,
    /// `iss`, `iat`, `exp`) are always set by the signer.
    ///
    /// # Errors
    ///
    /// When the claims are not a JSON object, or cannot be serialised.
    pub fn sign_with(
        &self,
        user: &UserId,
        lifetime: Duration,
        claims: &(impl Serialize + ?Sized),
    ) -> Result<String, SignError> {
        let Ok(Value::Object(mut claims)) = serde_json::to_value(claims) else { return Err(SignError) };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ends = now.saturating_add(lifetime);
        claims.insert("sub".into(), user.as_str().into());
        claims.insert("aud".into(), self.audience.as_str().into());
        claims.insert("iat".into(), now.as_secs().into());
        claims.insert("exp".into(), (ends.as_secs() + u64::from(ends.subsec_nanos() > 0)).into());
        claims.extend(self.issuer.as_deref().map(|issuer| ("iss".into(), issuer.into())));
        let mut header = serde_json::json!({ "typ": "JWT", "alg": "HS256" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
        // As in `JwtKey`, a backend by its name.
        let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &self.key).map_err(|_| SignError)?;
        let signature = signer.try_sign(message.as_bytes()).map_err(|_| SignError)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Does not show the key.
impl fmt::Debug for JwtSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSigner")
            .field("id", &self.id)
            .field("audience", &self.audience)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A token cannot be made of these claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignError;

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims are not a json object")
    }
}

impl std::error::Error for SignError {}
