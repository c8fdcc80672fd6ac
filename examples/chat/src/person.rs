//! A user's identity: a random key, which the browser makes and keeps.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::channel::UserId;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A user. All tabs of a browser are one person; two persons may have the same name.
pub(crate) struct Person {
    /// A hash of the key: it is public, and does not reveal the key.
    pub(crate) id: UserId,
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Person {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let refused = |why| (StatusCode::BAD_REQUEST, why);
        let room = Path::<String>::from_request_parts(parts, state).await.map(|Path(room)| room).unwrap_or_default();
        let name = Query::<Named>::try_from_uri(&parts.uri).map(|Query(named)| named.name).unwrap_or_default();
        if !is_name(&room) {
            return Err(refused("a room has 1 to 64 characters, no control characters, and not dots alone\n"));
        }
        if !is_name(&name) {
            return Err(refused(
                "a name has 1 to 64 characters, no control characters, and not dots alone: ?name=Ada\n",
            ));
        }
        let id = key(parts).and_then(|key| UserId::new(URL_SAFE_NO_PAD.encode(&Sha256::digest(key)[..12])).ok());
        let id =
            id.ok_or_else(|| refused("offer the subprotocols bearer and a random key of 22 to 64 characters\n"))?;
        Ok(Self { id, name })
    }
}

/// The key comes as a subprotocol after `bearer`: a browser's socket cannot set headers, and addresses get logged.
fn key(parts: &Parts) -> Option<&str> {
    let (bearer, key) = parts.headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.split_once(',')?;
    let key = key.trim();
    (bearer == "bearer" && (22..=64).contains(&key.len())).then_some(key)
}

/// A name of dots alone would be lost: browsers resolve `.` and `..` in an address.
fn is_name(text: &str) -> bool {
    let length = text.chars().count();
    (1..=64).contains(&length) && !text.chars().any(char::is_control) && text.chars().any(|letter| letter != '.')
}
