//! Why a connection was closed, as a number: RFC 6455, section 7.4, and fanfare's own from 4400 to 4499, which
//! are named after the HTTP status that says the same.

/// All is said.
pub const NORMAL: u16 = 1000;
/// The server ends, or the client was idle for too long.
pub const GOING_AWAY: u16 = 1001;
/// A message of a kind that is not taken.
pub const UNSUPPORTED: u16 = 1003;
/// A message whose content is not what was asked for.
pub const INVALID: u16 = 1007;
/// The client does what it may not.
pub const POLICY: u16 = 1008;
/// The handler of the connection has failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The client reads too slowly: it may come back.
pub const TRY_AGAIN_LATER: u16 = 1013;
/// What proved the client's identity has expired: it needs a new token.
pub const UNAUTHORIZED: u16 = 4401;
/// The user was revoked: see [`ChannelBox::revoke`](crate::group::ChannelBox::revoke).
pub const REVOKED: u16 = 4403;
/// The channel's own time is over: see [`Sender::expire_in`](super::Sender::expire_in).
pub const EXPIRED: u16 = 4408;
