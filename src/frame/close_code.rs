//! [`CloseCode`]: why a connection was closed, as a number that a close frame may carry.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why a connection was closed, as a number: a code of RFC 6455, section 7.4, or one of fanfare's own from 4400 to
/// 4499, which correspond to HTTP statuses (4403 to 403).
///
/// Every value may be sent in a close frame. An application takes its own codes from 4000 to 4399 and from 4500 to
/// 4999; the compiler checks them in constants.
///
/// ```
/// use fanfare::channel::{Channel, CloseCode, FarMessage};
///
/// const SIGNED_OUT: CloseCode = CloseCode::new(4001);
///
/// let (channel, mut far_end) = Channel::in_memory();
/// channel.close(SIGNED_OUT, "signed out");
/// assert_eq!(far_end.try_recv(), Some(FarMessage::Close { code: SIGNED_OUT, reason: "signed out".into() }));
///
/// assert_eq!(CloseCode::NORMAL.get(), 1000);
/// assert_eq!(CloseCode::try_new(1006), None); // a connection that broke: no frame may say so
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the connection has served its purpose.
    pub const NORMAL: Self = Self::new(1000);
    /// 1001: the server shuts down, or the client was idle for too long.
    pub const GOING_AWAY: Self = Self::new(1001);
    /// 1002: the client broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self::new(1002);
    /// 1003: a message is of a type that the handler does not accept.
    pub const UNSUPPORTED: Self = Self::new(1003);
    /// 1007: the content of a message is not what the handler asked for.
    pub const INVALID: Self = Self::new(1007);
    /// 1008: the client violated a policy.
    pub const POLICY: Self = Self::new(1008);
    /// 1009: a message of the client is larger than the limit.
    pub const TOO_BIG: Self = Self::new(1009);
    /// 1011: the handler of the connection has failed.
    pub const INTERNAL_ERROR: Self = Self::new(1011);
    /// 1013: the client reads too slowly, and may come back.
    pub const TRY_AGAIN_LATER: Self = Self::new(1013);
    /// 4401: the client's token has expired, and it needs a new one.
    pub const UNAUTHORIZED: Self = Self::new(4401);
    /// 4403: the user was revoked, see [`User::revoke`](crate::group::offline::User::revoke).
    pub const REVOKED: Self = Self::new(4403);
    /// 4408: the channel's lifetime or idle timeout has passed, see
    /// [`ChannelOptions::lifetime`](crate::channel::ChannelOptions::lifetime).
    pub const EXPIRED: Self = Self::new(4408);

    /// Makes a close code, usually in a constant.
    ///
    /// # Panics
    ///
    /// When a close frame must not carry `code` (RFC 6455, section 7.4): the client would treat the close as a
    /// violation of the protocol. In a constant this is a compile error.
    ///
    /// ```compile_fail
    /// const LOST: fanfare::channel::CloseCode = fanfare::channel::CloseCode::new(1006);
    /// # let _ = LOST;
    /// ```
    #[must_use]
    #[track_caller]
    pub const fn new(code: u16) -> Self {
        match Self::try_new(code) {
            Some(code) => code,
            None => panic!("close code must not be sent: use CloseCode::NORMAL, or one of your own from 3000 to 4999"),
        }
    }

    /// Makes a close code of any number; returns `None` when a close frame must not carry it.
    ///
    /// The codes registered with IANA are allowed unless they are for local use only (1004 to 1006, and 1015), and so
    /// are the ranges for libraries (from 3000) and applications (from 4000).
    #[must_use]
    pub const fn try_new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl Serialize for CloseCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
