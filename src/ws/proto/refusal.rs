//! [`HandshakeError`]: why a request to open a WebSocket is refused.

use std::{error::Error, fmt};

use http::StatusCode;

/// Why a request to open a WebSocket was refused.
///
/// As a response it is plain text that names the header and the fix, and repeats nothing from the request.
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
    /// `Origin` named none of those that are [listed](super::origins::Origins::listed), or was not sent: status 403.
    UnlistedOrigin,
}

impl HandshakeError {
    /// Returns its name in a metric's label.
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
