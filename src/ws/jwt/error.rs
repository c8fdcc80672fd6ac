//! Why a token, or the request or the refresh that carries it, is refused. No error holds any part of the token.

use std::error::Error;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

/// Why a token is refused: the first reason, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtError {
    /// It is longer than [`JwtVerifier::max_token_size`](super::JwtVerifier::max_token_size) allows.
    TooLong,
    /// It is not three parts of base64 with JSON objects in the first two.
    Malformed,
    /// Its header names a critical extension that is not supported (`crit`).
    Critical,
    /// No key has the id in its header, or the header has no id and there are several keys.
    UnknownKey,
    /// Its header names another algorithm than that of its key, or none.
    Algorithm,
    /// The signature is wrong: the token was changed, or signed with another key.
    Signature,
    /// Its expiry (`exp`) is missing, or not a number.
    NoExpiry,
    /// It has expired.
    Expired,
    /// It is not valid yet, or its start (`nbf`) is not a number.
    NotYetValid,
    /// It is for another audience, or for none.
    Audience,
    /// It is from another issuer than the required one.
    Issuer,
    /// [`JwtVerifier::check`](super::JwtVerifier::check) refuses it.
    Refused,
    /// It names no user.
    User,
    /// It lacks claims that the route requires.
    Claims,
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "token is too long",
            Self::Malformed => "token is not a json web token: three parts of base64, joined by dots",
            Self::Critical => "token has a critical header that is not known here",
            Self::UnknownKey => "token names no key that is known here",
            Self::Algorithm => "token is not signed by the algorithm of its key",
            Self::Signature => "signature of the token is wrong",
            Self::NoExpiry => "token does not say when it expires",
            Self::Expired => "token has expired",
            Self::NotYetValid => "token is not valid yet",
            Self::Audience => "token is for another audience",
            Self::Issuer => "token is from another issuer",
            Self::Refused => "token is no longer accepted",
            Self::User => "token names no user",
            Self::Claims => "token lacks a claim that is needed here",
        })
    }
}

impl Error for JwtError {}

/// Why a request has no [`Jwt`](super::Jwt); also the response.
///
/// Status 401 with one plain line, and `WWW-Authenticate: Bearer`; 500 for the server's own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtRejection {
    /// The request has no token.
    Missing,
    /// The request has several tokens: in two headers, or in a header and as a subprotocol.
    Ambiguous,
    /// The token is not accepted.
    Token(JwtError),
    /// No [`JwtVerifier`](super::JwtVerifier) is on the router: status 500, and a line on stderr, once.
    NoVerifier,
}

impl JwtRejection {
    /// Returns the status to refuse the request with.
    ///
    /// ```
    /// use fanfare::ws::jwt::JwtRejection;
    ///
    /// assert_eq!(JwtRejection::Missing.status(), 401);
    /// assert_eq!(JwtRejection::NoVerifier.status(), 500);
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Ambiguous | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::NoVerifier => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the value of `WWW-Authenticate` (RFC 6750, section 3).
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("Bearer"),
            Self::Ambiguous => Some("Bearer error=\"invalid_request\""),
            Self::Token(_) => Some("Bearer error=\"invalid_token\""),
            Self::NoVerifier => None,
        }
    }
}

impl From<JwtError> for JwtRejection {
    fn from(error: JwtError) -> Self {
        Self::Token(error)
    }
}

impl fmt::Display for JwtRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "a token is needed: send 'authorization: bearer <token>', or offer the websocket subprotocols \
                 'bearer' and the token",
            ),
            Self::Ambiguous => f.write_str("the request has several tokens, or headers for one: send one"),
            Self::Token(error) => error.fmt(f),
            Self::NoVerifier => f.write_str("this server has no verifier of tokens: put one on the router as a layer"),
        }
    }
}

impl Error for JwtRejection {}

impl IntoResponse for JwtRejection {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let challenge = self.challenge().map(HeaderValue::from_static);
        response.headers_mut().extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        response
    }
}

/// Why a connection was not extended: see [`JwtVerifier::refresh`](super::JwtVerifier::refresh).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshError {
    /// The new token is not accepted.
    Token(JwtError),
    /// The new token is of another user, or the channel has none.
    OtherUser,
    /// The channel is closed; the old token may have expired meanwhile.
    Closed,
}

impl From<JwtError> for RefreshError {
    fn from(error: JwtError) -> Self {
        Self::Token(error)
    }
}

impl fmt::Display for RefreshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::OtherUser => f.write_str("token is of another user"),
            Self::Closed => f.write_str("channel is closed"),
        }
    }
}

impl Error for RefreshError {}
