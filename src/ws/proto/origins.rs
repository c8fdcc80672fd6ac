//! [`Origins`]: whose pages may open a WebSocket. Pure, and linear in the length of the headers.

use std::{error::Error, fmt};

use http::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

use super::headers::only;
use super::refusal::HandshakeError;
use crate::sync::Arc;

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
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |value: &str| value.parse::<HeaderValue>().expect("a header");
        pairs.iter().map(|&(name, value)| (HeaderName::from_static(name), parse(value))).collect()
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

    #[test]
    fn an_origin_of_a_megabyte_takes_linear_time() {
        // In quadratic time this would take hours.
        let started = std::time::Instant::now();
        for piece in ["x,", ",", " ", "chat.v1,", "chat"] {
            let long = piece.repeat((1 << 20) / piece.len());
            let sent = headers(&[("origin", &format!("https://{long}")), ("host", &long)]);
            assert_eq!(listed(&["https://app.com"]).check(&sent), Err(HandshakeError::UnlistedOrigin));
            assert_eq!(check_origin(&sent).is_ok(), piece != " ");
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
    }
}
