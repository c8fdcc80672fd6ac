//! The opening handshake (RFC 6455, section 4.2): what a request must say, and what is answered.
//!
//! Pure functions over a request's head.

use std::fmt;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request};
use sha1::{Digest, Sha1};

/// Makes the key of a request into the answer's (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Checks a request, and returns the value of `Sec-WebSocket-Accept`.
pub(super) fn check(parts: &request::Parts) -> Result<HeaderValue, HandshakeError> {
    if parts.method != Method::GET {
        return Err(HandshakeError::NotGet);
    }
    if !has_token(&parts.headers, &CONNECTION, "upgrade") || !has_token(&parts.headers, &UPGRADE, "websocket") {
        return Err(HandshakeError::NotUpgrade);
    }
    if parts.headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeError::Version);
    }
    let key = parts.headers.get(SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    if BASE64.decode(key).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(HandshakeError::Key);
    }
    check_origin(&parts.headers)?;
    Ok(accept(key.as_bytes()))
}

fn accept(key: &[u8]) -> HeaderValue {
    let answer = BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    HeaderValue::try_from(answer).expect("base64 is ASCII without control characters")
}

/// A browser says which site its page is from: that must be this one. Others send no origin and pass.
fn check_origin(headers: &HeaderMap) -> Result<(), HandshakeError> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let site = origin.to_str().ok().and_then(authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let (Some((site, default_port)), Some(host), None) = (site, host, origins.next()) else {
        return Err(HandshakeError::Origin);
    };
    // A port that is the scheme's own may be left out on either side.
    let bare = |authority: &str| authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
    if bare(site) == bare(host) { Ok(()) } else { Err(HandshakeError::Origin) }
}

/// Returns host and port of an origin, and the port that its scheme implies.
fn authority(origin: &str) -> Option<(&str, &'static str)> {
    match origin.split_once("://")? {
        ("http", authority) => Some((authority, ":80")),
        ("https", authority) => Some((authority, ":443")),
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// Why a request does not become a WebSocket. As a response it tells the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    NotGet,
    /// `Connection: upgrade` or `Upgrade: websocket` is missing: an ordinary request came here.
    NotUpgrade,
    /// `Sec-WebSocket-Version` is not 13.
    Version,
    /// `Sec-WebSocket-Key` is missing or not 16 bytes of base64.
    Key,
    /// The page that asks is from another site: `Origin` does not match `Host`.
    Origin,
    /// The server cannot upgrade this connection, HTTP/2 for instance.
    NotUpgradable,
}

impl HandshakeError {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::NotUpgradable => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGet => "a WebSocket begins with a GET request",
            Self::NotUpgrade => "this is a WebSocket: send `Connection: upgrade` and `Upgrade: websocket`",
            Self::Version => "only WebSocket version 13 is spoken here: send `Sec-WebSocket-Version: 13`",
            Self::Key => "`Sec-WebSocket-Key` must be 16 bytes of base64",
            Self::Origin => "`Origin` does not match `Host`: pages of other sites may not connect",
            Self::NotUpgradable => "this connection cannot be upgraded: use HTTP/1.1",
        })
    }
}

impl std::error::Error for HandshakeError {}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut HeaderMap)) -> request::Parts {
        let request = http::Request::get("/")
            .header(HOST, "example.com")
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let mut parts = request.body(()).expect("the request is whole").into_parts().0;
        change(&mut parts.headers);
        parts
    }

    #[test]
    fn the_sample_of_the_rfc_is_answered_as_there() {
        assert_eq!(check(&request(|_| {})), Ok(HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |name: HeaderName| check(&request(|headers| drop(headers.remove(name))));
        assert_eq!(without(CONNECTION), Err(HandshakeError::NotUpgrade));
        assert_eq!(without(UPGRADE), Err(HandshakeError::NotUpgrade));
        assert_eq!(without(SEC_WEBSOCKET_VERSION), Err(HandshakeError::Version));
        assert_eq!(without(SEC_WEBSOCKET_KEY), Err(HandshakeError::Key));
        let short =
            check(&request(|headers| drop(headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("YQ==")))));
        assert_eq!(short, Err(HandshakeError::Key));
    }

    #[test]
    fn only_pages_of_the_same_site_may_connect() {
        let passes = |host: &'static str, origin: &'static str| {
            let change = |headers: &mut HeaderMap| {
                headers.insert(HOST, HeaderValue::from_static(host));
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            };
            check(&request(change)).is_ok()
        };
        assert!(passes("app.com", "https://app.com"));
        assert!(passes("app.com:443", "https://app.com"));
        assert!(passes("127.0.0.1:3000", "http://127.0.0.1:3000"));
        assert!(passes("App.com", "http://app.com:80"));
        for origin in [
            "null",
            "https://evil-app.com",
            "https://app.com.evil",
            "https://app.com:8080",
            "app.com",
            "file://app.com",
        ] {
            assert!(!passes("app.com", origin), "{origin}");
        }
        let twice = request(|headers| {
            headers.append(ORIGIN, HeaderValue::from_static("https://example.com"));
            headers.append(ORIGIN, HeaderValue::from_static("https://evil.com"));
        });
        assert_eq!(check(&twice), Err(HandshakeError::Origin));
    }
}
