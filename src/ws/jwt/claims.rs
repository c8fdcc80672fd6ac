//! [`TokenClaims`]: the claims of a token whose signature is valid. A plain value.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tokio::time::Instant;

/// The claims of a token whose signature is valid, as JSON.
///
/// Passed to [`JwtVerifier::check`](super::JwtVerifier::check) and [`JwtVerifier::user`](super::JwtVerifier::user).
#[derive(Clone)]
pub struct TokenClaims(pub(super) Map<String, Value>);

impl TokenClaims {
    /// Returns the subject, `sub`: by default, the user.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.get("sub")?.as_str()
    }

    /// Returns the token's own id, `jti`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.get("jti")?.as_str()
    }

    /// Returns when the token was made, `iat`.
    #[must_use]
    pub fn issued(&self) -> Option<SystemTime> {
        time(self.get("iat")?)
    }

    /// Returns any claim by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns whether `audience` is the claim `aud`, or in it.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }
}

/// Shows the names of the claims.
impl fmt::Debug for TokenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenClaims").field(&self.0.keys()).finish()
    }
}

/// Reads a `NumericDate` (RFC 7519, section 2): seconds since 1970, perhaps with a fraction.
pub(super) fn time(claim: &Value) -> Option<SystemTime> {
    let since = match claim.as_u64() {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::try_from_secs_f64(claim.as_f64()?).ok()?,
    };
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Returns a time by the timers' clock; `None` if it is beyond that clock's range.
pub(super) fn ends_at(expires: SystemTime) -> Option<Instant> {
    Instant::now().checked_add(expires.duration_since(SystemTime::now()).unwrap_or_default())
}
