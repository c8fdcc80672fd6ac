//! Decides about a request to open a WebSocket (RFC 6455, section 4.2) from its head alone.
//!
//! [`check_upgrade`], [`Origins::check`] and [`choose_protocol`] are pure: nothing is read and nothing
//! is sent. A refusal is a [`HandshakeError`], which is also the response to give. Each takes time
//! linear in the headers it looks at; how many headers there may be is for the HTTP server to limit.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE},
    request::Parts,
};
use sha1::{Digest, Sha1};

use super::headers::{has_token, is_token, only};

pub use super::origins::{NotAnOrigin, Origins, check_origin};
pub use super::refusal::HandshakeError;

/// What RFC 6455 appends to every key before hashing it.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The subprotocol that a client offers right before a token: see [`choose_protocol`].
pub(in crate::ws) const BEARER: &str = "bearer";

/// The last six bits of a key are unused, and some clients do not clear them: the RFC's own example
/// of a key, `AQIDBAUGBwgJCgsMDQ4PEC==`, has them set.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Checks that `request` asks for a WebSocket, and returns the value of `Sec-WebSocket-Accept`.
///
/// The origin is not looked at; see [`Origins`].
///
/// # Errors
///
/// The first rule that the request breaks; [`HandshakeError`] lists them in this order.
///
/// # Examples
///
/// ```
/// use fanfare::ws::handshake::check_upgrade;
///
/// let (request, ()) = http::Request::get("/chat")
///     .header("host", "example.com")
///     .header("upgrade", "websocket")
///     .header("connection", "keep-alive, Upgrade")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())?
///     .into_parts();
///
/// assert_eq!(check_upgrade(&request)?, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_upgrade(request: &Parts) -> Result<HeaderValue, HandshakeError> {
    let headers = &request.headers;
    if request.version != Version::HTTP_11 {
        return Err(HandshakeError::NotHttp11);
    }
    if request.method != Method::GET {
        return Err(HandshakeError::NotGet);
    }
    if !has_token(headers, UPGRADE, "websocket") {
        return Err(HandshakeError::NoUpgrade);
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return Err(HandshakeError::NoConnectionUpgrade);
    }
    if only(headers, SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(HandshakeError::UnsupportedVersion);
    }
    match only(headers, SEC_WEBSOCKET_KEY) {
        Some(key) if is_key(key) => Ok(accept_key(key)),
        _ => Err(HandshakeError::BadKey),
    }
}

/// Returns the value of `Sec-WebSocket-Accept` that answers `key`.
///
/// # Examples
///
/// ```
/// use fanfare::ws::handshake::accept_key;
///
/// // The sample of RFC 6455, section 1.3.
/// assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept_key(key: &str) -> HeaderValue {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(hash)).expect("base64 is visible ascii")
}

/// Returns the subprotocol to answer with: of those that the client offers, the first in `supported`.
///
/// The server's order decides, because it is the server that knows which of its protocols is the newer one. The
/// choice is always one that the client offered, in the same letters; otherwise a browser would close the connection.
/// `None` means to answer without `Sec-WebSocket-Protocol`; the RFC lets the caller accept or refuse the request then.
///
/// A browser can send a token only as an offered subprotocol, right after the name `bearer`. So the offer right after
/// `bearer`, in any case, is never chosen, even if `supported` lists it: the answer would leak the token.
///
/// Reads the headers once, and `supported` once for each offered name.
///
/// # Examples
///
/// ```
/// use fanfare::ws::handshake::choose_protocol;
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat.v1, chat.v2, other"));
///
/// assert_eq!(choose_protocol(&headers, &["chat.v3", "chat.v2", "chat.v1"]), Some("chat.v2"));
/// assert_eq!(choose_protocol(&headers, &["chat"]), None);
/// ```
#[must_use]
pub fn choose_protocol<'a>(headers: &HeaderMap, supported: &[&'a str]) -> Option<&'a str> {
    let mut behind_bearer = false;
    let named = offered_protocols(headers).filter(|name| {
        let is_secret = behind_bearer;
        behind_bearer = name.eq_ignore_ascii_case(BEARER);
        !is_secret
    });
    let known = named.filter_map(|name| supported.iter().position(|known| *known == name && is_token(name.as_bytes())));
    known.min().map(|first| supported[first])
}

/// Returns the subprotocols that the client offers, in its order.
pub(in crate::ws) fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    let items = lists.flat_map(|list| list.split(',')).map(|item| item.trim_matches([' ', '\t']));
    // An empty element of a list does not count (RFC 9110, section 5.6.1).
    items.filter(|item| !item.is_empty())
}

fn is_key(key: &str) -> bool {
    // Room for what 24 characters decode to; anything longer is refused without decoding it.
    let mut nonce = [0; 18];
    key.len() == 24 && LENIENT.decode_slice(key, &mut nonce) == Ok(16)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request};

    use super::*;

    /// RFC 6455, section 1.2.
    const SAMPLE: [(&str, &str); 5] = [
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |value: &str| value.parse::<HeaderValue>().expect("a header");
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), parse(value))).collect()
    }

    fn sample() -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = headers(&SAMPLE);
        parts
    }

    /// The sample with one header replaced, or dropped.
    fn sample_with(name: &'static str, value: Option<&str>) -> Parts {
        let mut parts = sample();
        parts.headers.remove(name);
        if let Some(value) = value {
            parts.headers.insert(name, value.parse().expect("a header"));
        }
        parts
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        let accept = check_upgrade(&sample()).expect("the sample");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_are_found_in_any_case_and_place() {
        for connection in ["upgrade", "keep-alive, Upgrade", "UPGRADE,close", "a ,\tupgrade"] {
            assert!(check_upgrade(&sample_with("connection", Some(connection))).is_ok());
        }
        let mut two_lines = sample_with("connection", Some("keep-alive"));
        two_lines.headers.append("connection", HeaderValue::from_static("upgrade"));
        assert!(check_upgrade(&two_lines).is_ok());
        assert!(check_upgrade(&sample_with("upgrade", Some("WebSocket"))).is_ok());
        assert!(check_upgrade(&sample_with("upgrade", Some("h2c, websocket"))).is_ok());
    }

    #[test]
    fn a_request_that_lacks_something_is_refused() {
        use HandshakeError::*;
        let cases = [
            ("upgrade", None, NoUpgrade),
            ("upgrade", Some("websockets"), NoUpgrade),
            ("connection", None, NoConnectionUpgrade),
            ("connection", Some("keep-alive, not-upgrade"), NoConnectionUpgrade),
            ("sec-websocket-version", None, UnsupportedVersion),
            ("sec-websocket-version", Some("8"), UnsupportedVersion),
            ("sec-websocket-version", Some("13, 8"), UnsupportedVersion),
            ("sec-websocket-key", None, BadKey),
            ("sec-websocket-key", Some(""), BadKey),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25j"), BadKey),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ"), BadKey),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZSEh"), BadKey),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZ!=="), BadKey),
        ];
        for (name, value, expected) in cases {
            let refused = check_upgrade(&sample_with(name, value));
            assert_eq!(refused, Err(expected), "{name}: {value:?}");
        }
    }

    #[test]
    fn a_key_sent_twice_is_refused() {
        let mut parts = sample();
        parts.headers.append("sec-websocket-key", HeaderValue::from_static(SAMPLE[3].1));
        assert_eq!(check_upgrade(&parts), Err(HandshakeError::BadKey));
    }

    #[test]
    fn a_key_with_stray_last_bits_is_accepted() {
        // The example of RFC 6455, section 4.1.
        let key = Some("AQIDBAUGBwgJCgsMDQ4PEC==");
        assert!(check_upgrade(&sample_with("sec-websocket-key", key)).is_ok());
    }

    #[test]
    fn other_methods_and_versions_are_refused() {
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let mut parts = sample();
            parts.version = version;
            assert_eq!(check_upgrade(&parts), Err(HandshakeError::NotHttp11));
        }
        let mut parts = sample();
        parts.method = Method::POST;
        assert_eq!(check_upgrade(&parts), Err(HandshakeError::NotGet));
    }

    fn chosen<'a>(offered: &[&str], supported: &[&'a str]) -> Option<&'a str> {
        let sent: Vec<_> = offered.iter().map(|list| ("sec-websocket-protocol", *list)).collect();
        choose_protocol(&headers(&sent), supported)
    }

    #[test]
    fn the_order_of_the_server_chooses_among_what_is_offered() {
        let supported = ["chat.v2", "chat.v1"];
        assert_eq!(chosen(&["chat.v1, chat.v2"], &supported), Some("chat.v2"));
        assert_eq!(chosen(&["chat.v1", "other,\tchat.v2 "], &supported), Some("chat.v2"));
        assert_eq!(chosen(&["bearer, abc.def, chat.v1"], &supported), Some("chat.v1"));
        assert_eq!(chosen(&["bearer, abc.def"], &["bearer"]), Some("bearer"));
    }

    #[test]
    fn what_is_offered_behind_bearer_is_never_chosen() {
        assert_eq!(chosen(&["bearer, abc.def, chat"], &["abc.def", "chat"]), Some("chat"));
        assert_eq!(chosen(&["chat, Bearer,, ", "abc.def"], &["abc.def"]), None);
        assert_eq!(chosen(&["bearer, bearer, abc.def"], &["abc.def", "bearer"]), Some("bearer"));
        assert_eq!(chosen(&["abc.def, bearer"], &["abc.def"]), Some("abc.def"));
    }

    #[test]
    fn nothing_is_chosen_that_is_not_offered_as_a_token() {
        let cases: [(&[&str], &[&str]); 9] = [
            (&[], &["chat"]),
            (&["chat"], &[]),
            (&[""], &[""]),
            (&[",,"], &["", ","]),
            (&["chat.v1"], &["chat", "chat.v10"]),
            (&["Chat"], &["chat"]),
            (&["chat v1"], &["chat", "chat v1"]),
            (&["\"chat\""], &["chat", "\"chat\""]),
            (&["chät"], &["chat", "chät"]),
        ];
        for (offered, supported) in cases {
            assert_eq!(chosen(offered, supported), None, "{offered:?}");
        }
    }

    #[test]
    fn a_header_of_a_megabyte_takes_linear_time() {
        // In quadratic time this would take hours.
        let started = std::time::Instant::now();
        for piece in ["x,", ",", " ", "chat.v1,", "chat"] {
            let long = piece.repeat((1 << 20) / piece.len());
            let expected = (piece == "chat.v1,").then_some("chat.v1");
            assert_eq!(chosen(&[&long], &["chat.v2", "chat.v1"]), expected);
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
    }
}
