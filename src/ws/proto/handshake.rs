//! Decides about a request to open a WebSocket (RFC 6455, section 4.2) from its head alone.
//!
//! [`check_upgrade`], [`Origins::check`] and [`choose_protocol`] are pure: nothing is read and nothing
//! is sent. A refusal is a [`HandshakeError`], which is also the response to give. Each takes time
//! linear in the headers it looks at; how many headers there may be is for the HTTP server to limit.

use std::{error::Error, fmt};

use axum::response::{IntoResponse, Response};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
    request::Parts,
};
use sha1::{Digest, Sha1};

use crate::sync::Arc;

/// What RFC 6455 appends to every key before hashing it.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client offers right before a token: see [`choose_protocol`].
pub(in crate::ws) const BEARER: &str = "bearer";

/// The last six bits of a key say nothing, and some clients do not clear them: the RFC's own example
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

/// Checks that a request sent by a browser comes from a page of this very host.
///
/// A browser lets any page open a WebSocket to any server, cookies included, and names the page's
/// origin in `Origin`. It has to be `http` or `https` and to name the host and the port of `Host`; a
/// port left out, on either side, is the default of the origin's scheme. A request without `Origin`
/// is not sent by a browser, and passes.
///
/// Not checked is whether the page was loaded by TLS: behind a proxy, a server cannot know whether
/// it was reached by TLS itself.
///
/// # Errors
///
/// [`HandshakeError::ForeignOrigin`], for `null` and for whatever cannot be compared as well.
///
/// # Examples
///
/// ```
/// use fanfare::ws::handshake::check_origin;
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("host", HeaderValue::from_static("example.com"));
/// assert!(check_origin(&headers).is_ok());
///
/// headers.insert("origin", HeaderValue::from_static("https://example.com"));
/// assert!(check_origin(&headers).is_ok());
///
/// headers.insert("origin", HeaderValue::from_static("https://example.com.evil.net"));
/// assert!(check_origin(&headers).is_err());
/// ```
pub fn check_origin(headers: &HeaderMap) -> Result<(), HandshakeError> {
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    match (only(headers, ORIGIN), only(headers, HOST)) {
        (Some(origin), Some(host)) if is_same_host(origin, host) => Ok(()),
        _ => Err(HandshakeError::ForeignOrigin),
    }
}

/// Returns the subprotocol to answer with: of those that the client offers, the first in `supported`.
///
/// The server's order decides, because it is the server that knows which of its protocols is the newer one. Nothing
/// is chosen that the client did not offer in just these letters; a browser would close the connection. `None` means
/// to answer without `Sec-WebSocket-Protocol`. Whether to go on then is for the caller to decide: the RFC lets it.
///
/// A browser has no other way to send a token than to offer it, behind the name `bearer`. So what is offered right
/// behind `bearer`, in any case, is never chosen, whatever `supported` says: an answer would be the place where it leaks.
///
/// The headers are read once, and for each name in them `supported` is.
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
    // An empty element of a list is none (RFC 9110, section 5.6.1).
    items.filter(|item| !item.is_empty())
}

/// Whose pages may open a WebSocket: the rule for `Origin`.
///
/// Only browsers are held back by it, and they need to be: a browser lets any page open a WebSocket to any server,
/// with the user's cookies. Anything else can send whatever origin it likes.
///
/// # Examples
///
/// ```
/// use fanfare::ws::handshake::Origins;
/// use http::{HeaderMap, HeaderValue};
///
/// let origins = Origins::listed(["https://app.example.com", "http://localhost:5173"])?;
///
/// let mut headers = HeaderMap::new();
/// assert!(origins.check(&headers).is_err());
///
/// headers.insert("origin", HeaderValue::from_static("https://app.example.com"));
/// assert!(origins.check(&headers).is_ok());
///
/// headers.insert("origin", HeaderValue::from_static("https://app.example.com.evil.net"));
/// assert!(origins.check(&headers).is_err());
/// # Ok::<(), fanfare::ws::handshake::NotAnOrigin>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Origins(Rule);

#[derive(Clone, Debug, Default)]
enum Rule {
    #[default]
    SameHost,
    /// Shared: a layer clones it for every request.
    Listed(Arc<[String]>),
    Any,
}

impl Origins {
    /// Lets in the pages of this very host, and requests without an origin, as [`check_origin`] does; the default.
    #[must_use]
    pub fn same_host() -> Self {
        Self(Rule::SameHost)
    }

    /// Lets in the pages of these origins and nothing else: `null` is refused, and so is a request without an origin.
    ///
    /// An origin is written `scheme://host` or `scheme://host:port`, as the browser sends it: no path, not even a
    /// slash at the end, no wildcard, a name in other letters than ASCII in its `xn--` form. Scheme and host are
    /// compared in any case, whole; a port left out is the default of `http` or `https`. This very host is let in
    /// only if it is listed.
    ///
    /// # Errors
    ///
    /// The first entry that is not an origin: it could never match, or not what it seems to say.
    pub fn listed<S: Into<String>>(origins: impl IntoIterator<Item = S>) -> Result<Self, NotAnOrigin> {
        let check = |entry: String| match parse_origin(&entry) {
            Some(origin) if !origin.host.contains('*') => Ok(entry),
            _ => Err(NotAnOrigin { entry }),
        };
        let origins = origins.into_iter().map(|entry| check(entry.into()));
        Ok(Self(Rule::Listed(origins.collect::<Result<_, _>>()?)))
    }

    /// Lets in every page there is, and requests without an origin.
    ///
    /// For servers that give a page nothing for its user's cookies or address: whatever protects them is elsewhere,
    /// such as a token that the page has to send.
    #[must_use]
    pub fn any() -> Self {
        Self(Rule::Any)
    }

    /// Checks the origin of a request.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ForeignOrigin`] when only this host's pages may connect, and
    /// [`HandshakeError::UnlistedOrigin`] when there is a list.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), HandshakeError> {
        match &self.0 {
            Rule::SameHost => check_origin(headers),
            Rule::Any => Ok(()),
            Rule::Listed(origins) => {
                let sent = only(headers, ORIGIN).and_then(parse_origin).ok_or(HandshakeError::UnlistedOrigin)?;
                let is_listed = origins.iter().filter_map(|listed| parse_origin(listed)).any(|listed| listed == sent);
                if is_listed { Ok(()) } else { Err(HandshakeError::UnlistedOrigin) }
            }
        }
    }
}

/// An entry of a list of origins that is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnOrigin {
    entry: String,
}

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry } = self;
        write!(f, "{entry:?} is not an origin, write scheme://host or scheme://host:port without path or wildcard")
    }
}

impl Error for NotAnOrigin {}

/// Why a request to open a WebSocket was refused.
///
/// As a response it is plain text that names the header and the fix, and nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The request came by HTTP/1.0 or HTTP/2: status 505.
    NotHttp11,
    /// The method was not `GET`: status 405.
    NotGet,
    /// `Upgrade` did not name `websocket`, as when a page is opened by hand: status 426.
    NoUpgrade,
    /// `Connection` did not name `upgrade`, as when a proxy drops it: status 400.
    NoConnectionUpgrade,
    /// `Sec-WebSocket-Version` was not 13: status 426, with the version to use.
    UnsupportedVersion,
    /// `Sec-WebSocket-Key` was not 16 bytes in base64: status 400.
    BadKey,
    /// `Origin` named another host than `Host` did: status 403.
    ForeignOrigin,
    /// `Origin` named none of those that are [listed](Origins::listed), or was not sent: status 403.
    UnlistedOrigin,
}

impl HandshakeError {
    /// Returns what it is called in a label.
    pub(in crate::ws) fn label(self) -> &'static str {
        match self {
            Self::NotHttp11 => "not http/1.1",
            Self::NotGet => "not get",
            Self::NoUpgrade => "no upgrade",
            Self::NoConnectionUpgrade => "no connection upgrade",
            Self::UnsupportedVersion => "unsupported version",
            Self::BadKey => "bad key",
            Self::ForeignOrigin => "foreign origin",
            Self::UnlistedOrigin => "unlisted origin",
        }
    }

    /// Returns the status to refuse the request with.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::ws::handshake::HandshakeError;
    ///
    /// assert_eq!(HandshakeError::ForeignOrigin.status(), 403);
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotHttp11 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoUpgrade | Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NoConnectionUpgrade | Self::BadKey => StatusCode::BAD_REQUEST,
            Self::ForeignOrigin | Self::UnlistedOrigin => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotHttp11 => "a websocket opens over http/1.1, offer no other version here",
            Self::NotGet => "a websocket opens with a get request",
            Self::NoUpgrade => {
                "header upgrade must be 'websocket'; open this address with a websocket client, \
                 and let a proxy in between forward upgrade and connection"
            }
            Self::NoConnectionUpgrade => "header connection must contain 'upgrade'; let a proxy in between forward it",
            Self::UnsupportedVersion => "header sec-websocket-version must be '13'",
            Self::BadKey => "header sec-websocket-key must be 16 random bytes in base64",
            Self::ForeignOrigin => {
                "header origin must name the same host and port as header host; open the page \
                 from this host, and let a proxy in between forward host unchanged"
            }
            Self::UnlistedOrigin => "header origin must be one that this server lists",
        })
    }
}

impl Error for HandshakeError {}

impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        let headers = response.headers_mut();
        if self == Self::NotGet {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// Says whether one of the comma-separated lists under `name` holds `token`, in any case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that must be sent once; what a second one means, nobody can say.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

fn is_key(key: &str) -> bool {
    // Room for what 24 characters decode to; anything longer is refused without decoding it.
    let mut nonce = [0; 18];
    key.len() == 24 && LENIENT.decode_slice(key, &mut nonce) == Ok(16)
}

/// Says whether `bytes` are a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn is_same_host(origin: &str, host: &str) -> bool {
    match (parse_origin(origin), split_port(host)) {
        (Some(Origin { scheme: _, host: name, default_port: Some(default), port }), Some((host_name, host_port))) => {
            name.eq_ignore_ascii_case(host_name) && port.unwrap_or(default) == host_port.unwrap_or(default)
        }
        _ => false,
    }
}

/// An origin taken apart: `scheme://host[:port]`.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// What the scheme is served at; `None` for those that browsers do not load pages by.
    default_port: Option<u16>,
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port.or(self.default_port) == other.port.or(other.default_port)
    }
}

/// Takes `origin` apart; `None` when it is anything else, such as `null` or one with a path.
fn parse_origin(origin: &str) -> Option<Origin<'_>> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let default_port = match scheme {
        _ if !is_scheme => return None,
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    };
    let (host, port) = split_port(authority)?;
    Some(Origin { scheme, host, port, default_port })
}

/// Splits `host[:port]`; `None` when it is anything else, such as one with a user or a path.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_len = match authority.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at(name_len);
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%[]:".contains(&b));
    if !is_name {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((name, None)),
        Some("") => Some((name, None)),
        // `u16` would take a sign as well.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some((name, Some(digits.parse().ok()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

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

    #[test]
    fn an_origin_of_the_same_host_passes() {
        let cases = [
            ("https://app.com", "app.com"),
            ("http://app.com", "app.com"),
            ("https://APP.com", "app.COM"),
            ("HTTPS://app.com", "app.com"),
            ("https://app.com", "app.com:443"),
            ("https://app.com:443", "app.com"),
            ("http://app.com", "app.com:80"),
            ("http://localhost:3000", "localhost:3000"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[::1]:3000", "[::1]:3000"),
            ("https://[2001:db8::1]", "[2001:DB8::1]"),
        ];
        for (origin, host) in cases {
            let sent = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(check_origin(&sent), Ok(()), "{origin} at {host}");
        }
    }

    #[test]
    fn an_origin_of_another_host_is_refused() {
        let cases = [
            ("null", "app.com"),
            ("null", "null"),
            ("", "app.com"),
            ("app.com", "app.com"),
            ("https://evil-app.com", "app.com"),
            ("https://app.com.evil.net", "app.com"),
            ("https://sub.app.com", "app.com"),
            ("https://app.co", "app.com"),
            ("https://app.com.", "app.com"),
            ("https://app.com:8443", "app.com"),
            ("https://app.com", "app.com:8443"),
            ("http://app.com", "app.com:443"),
            ("http://localhost:3000", "localhost:3001"),
            ("https://app.com/", "app.com"),
            ("https://app.com@evil.net", "app.com"),
            ("https://evil.net@app.com", "app.com"),
            ("https://evil.net\\@app.com", "app.com"),
            ("https://evil.net#app.com", "app.com"),
            ("https://app.com evil.net", "app.com"),
            ("https://app.com:+443", "app.com"),
            ("https://app.com:443:443", "app.com"),
            ("https://app.com:66000", "app.com"),
            ("https://[::1", "[::1"),
            ("https://", ""),
            ("https://:443", ":443"),
            ("file://", "app.com"),
            ("file://app.com", "app.com"),
            ("ionic://localhost", "localhost"),
            ("chrome-extension://app.com", "app.com"),
        ];
        for (origin, host) in cases {
            let sent = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(check_origin(&sent), Err(HandshakeError::ForeignOrigin), "{origin} at {host}");
        }
    }

    #[test]
    fn origin_and_host_must_be_unambiguous() {
        let cases: [&[_]; 4] = [
            &[("origin", "https://app.com")],
            &[("origin", "https://app.com"), ("origin", "https://evil.net"), ("host", "app.com")],
            &[("origin", "https://app.com"), ("host", "app.com"), ("host", "evil.net")],
            &[("origin", "https://äpp.com"), ("host", "äpp.com")],
        ];
        for sent in cases {
            assert_eq!(check_origin(&headers(sent)), Err(HandshakeError::ForeignOrigin));
        }
    }

    #[test]
    fn no_origin_passes() {
        assert_eq!(check_origin(&headers(&[("host", "app.com")])), Ok(()));
    }

    fn listed(entries: &[&str]) -> Origins {
        Origins::listed(entries.iter().copied()).expect("origins")
    }

    #[test]
    fn a_listed_origin_passes_wherever_it_is_sent_to() {
        let cases = [
            ("https://app.com", "https://app.com"),
            ("https://app.com", "HTTPS://App.Com"),
            ("HTTPS://App.Com", "https://app.com"),
            ("https://app.com", "https://app.com:443"),
            ("https://app.com:443", "https://app.com"),
            ("http://app.com:80", "http://app.com"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://xn--pp-uia.com", "https://xn--pp-uia.com"),
            ("ionic://localhost", "ionic://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ];
        for (entry, origin) in cases {
            let sent = headers(&[("origin", origin), ("host", "api.com")]);
            assert_eq!(listed(&["https://other.com", entry]).check(&sent), Ok(()), "{origin} by {entry}");
        }
    }

    #[test]
    fn an_origin_that_is_not_listed_is_refused() {
        let origins = listed(&["https://app.com", "http://localhost:5173", "ionic://localhost"]);
        let cases = [
            "null",
            "",
            "app.com",
            "http://app.com",
            "https://evil-app.com",
            "https://app.com.evil",
            "https://app.com.",
            "https://sub.app.com",
            "https://app.co",
            "https://app.com:8443",
            "https://app.com:80",
            "https://app.com/",
            "https://app.com@evil.net",
            "https://evil.net#https://app.com",
            "https://evil.net, https://app.com",
            "http://localhost",
            "http://localhost:5174",
            "https://localhost:5173",
            "ionic://localhost:80",
            "https://api.com",
        ];
        for origin in cases {
            let sent = headers(&[("origin", origin), ("host", "api.com")]);
            assert_eq!(origins.check(&sent), Err(HandshakeError::UnlistedOrigin), "{origin}");
        }
        for sent in [&[][..], &[("origin", "https://app.com"), ("origin", "https://evil.net")]] {
            assert_eq!(origins.check(&headers(sent)), Err(HandshakeError::UnlistedOrigin), "{sent:?}");
        }
        assert_eq!(HandshakeError::UnlistedOrigin.status(), 403);
    }

    #[test]
    fn an_empty_list_lets_nobody_in() {
        let sent = headers(&[("origin", "https://app.com"), ("host", "app.com")]);
        assert_eq!(listed(&[]).check(&sent), Err(HandshakeError::UnlistedOrigin));
    }

    #[test]
    fn without_a_list_the_host_decides_unless_any_origin_will_do() {
        let own = headers(&[("origin", "https://app.com"), ("host", "app.com")]);
        let foreign = headers(&[("origin", "https://evil.net"), ("host", "app.com")]);
        for (origins, expected) in [
            (Origins::default(), Err(HandshakeError::ForeignOrigin)),
            (Origins::same_host(), Err(HandshakeError::ForeignOrigin)),
            (Origins::any(), Ok(())),
        ] {
            assert_eq!(origins.check(&own), Ok(()));
            assert_eq!(origins.check(&HeaderMap::new()), Ok(()));
            assert_eq!(origins.check(&foreign), expected);
        }
    }

    #[test]
    fn an_entry_that_is_not_an_origin_is_an_error_that_names_it() {
        let cases = [
            "",
            "*",
            "null",
            "app.com",
            "app.com:443",
            "https://",
            "https://app.com/",
            "https://app.com/chat",
            "https://*.app.com",
            "https://app.com:*",
            "https://app.com:66000",
            "https://user@app.com",
            "https://äpp.com",
            " https://app.com",
            "https://app.com, https://other.com",
            "://app.com",
            "1https://app.com",
        ];
        for entry in cases {
            let refused = Origins::listed(["https://good.com", entry]).expect_err(entry).to_string();
            assert!(refused.starts_with(&format!("{entry:?} is not an origin")), "{refused}");
        }
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
        // Quadratic time would be hours.
        let started = std::time::Instant::now();
        for piece in ["x,", ",", " ", "chat.v1,", "chat"] {
            let long = piece.repeat((1 << 20) / piece.len());
            let expected = (piece == "chat.v1,").then_some("chat.v1");
            assert_eq!(chosen(&[&long], &["chat.v2", "chat.v1"]), expected);
            let sent = headers(&[("origin", &format!("https://{long}")), ("host", &long)]);
            assert_eq!(listed(&["https://app.com"]).check(&sent), Err(HandshakeError::UnlistedOrigin));
            assert_eq!(check_origin(&sent).is_ok(), piece != " ");
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
    }

    #[test]
    fn a_refusal_tells_how_to_do_better() {
        let response = HandshakeError::UnsupportedVersion.into_response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()["sec-websocket-version"], "13");
        assert_eq!(response.headers()["upgrade"], "websocket");

        let response = HandshakeError::NotGet.into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET");

        let response = HandshakeError::ForeignOrigin.into_response();
        assert_eq!(response.status(), 403);
        assert!(HandshakeError::BadKey.to_string().contains("sec-websocket-key"));
        assert_eq!(HandshakeError::BadKey.status(), 400);
        assert_eq!(HandshakeError::NotHttp11.status(), 505);
    }
}
