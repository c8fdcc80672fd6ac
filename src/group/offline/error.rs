//! The errors of offline queues.

use std::fmt;

use crate::frame::EncodeError;
use crate::group::error::JoinErrorReason;
use crate::sync::Arc;

/// The longest idempotency key, in bytes.
pub const MAX_KEY_LEN: usize = 128;

/// An operation on an offline queue was not carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OfflineError {
    /// The store returned this error. Operations that ran in the same commit fail with the same error.
    Store(Arc<dyn std::error::Error + Send + Sync>),
    /// The offline queues of this box were [closed](super::OfflineQueues::close), or their thread could not be started.
    Stopped,
}

impl fmt::Display for OfflineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store(_) => "the store of the offline queues failed",
            Self::Stopped => "the offline queues of this box are closed",
        })
    }
}

impl std::error::Error for OfflineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(&**error),
            Self::Stopped => None,
        }
    }
}

/// A notification was refused: it is neither stored nor delivered.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotifyError {
    /// The payload cannot be serialised.
    Encode(EncodeError),
    /// The idempotency key is empty or longer than [`MAX_KEY_LEN`] bytes.
    InvalidKey,
    /// The payload is larger than the byte limit of a user's queue.
    TooLarge,
    /// The user's queue is full of notifications of higher urgency.
    Full,
    /// The store is full: see [`OfflineOptions::max_store_bytes`](super::OfflineOptions::max_store_bytes).
    StoreFull,
    /// The store failed, or the queues are closed.
    Offline(OfflineError),
}

impl NotifyError {
    pub(super) fn of(error: OfflineError) -> Self {
        Self::Offline(error)
    }
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(error) => error.fmt(f),
            Self::InvalidKey => write!(f, "an idempotency key has 1 to {MAX_KEY_LEN} bytes"),
            Self::TooLarge => f.write_str("the payload is larger than the byte limit of an offline queue"),
            Self::Full => f.write_str("the user's offline queue is full of notifications of higher urgency"),
            Self::StoreFull => f.write_str("the store of the offline queues is full"),
            Self::Offline(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotifyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Encode(error) => error.source(),
            Self::Offline(error) => error.source(),
            _ => None,
        }
    }
}

/// A channel was not attached to its user's offline queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// The channel has no user: see [`ChannelOptions::user`](crate::channel::ChannelOptions::user).
    NoUser,
    /// The channel is attached already.
    AlreadyAttached,
    /// The channel's user was [revoked](super::User::revoke) since the channel began.
    Denied,
    /// The channel is in [`MAX_GROUPS_PER_CHANNEL`](crate::group::MAX_GROUPS_PER_CHANNEL) groups.
    TooManyGroups,
    /// The channel is closed.
    Closed,
    /// The user's queue could not be read.
    Offline(OfflineError),
}

impl AttachError {
    pub(super) fn of(reason: JoinErrorReason) -> Self {
        match reason {
            JoinErrorReason::AlreadyMember => Self::AlreadyAttached,
            JoinErrorReason::TooManyGroups => Self::TooManyGroups,
            JoinErrorReason::Denied | JoinErrorReason::InvalidName => Self::Denied,
            JoinErrorReason::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUser => "the channel has no user",
            Self::AlreadyAttached => "the channel is attached already",
            Self::Denied => "the channel's user was revoked",
            Self::TooManyGroups => "the channel is in 1024 groups, the most that are allowed",
            Self::Closed => "the channel is closed",
            Self::Offline(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Offline(error) => error.source(),
            _ => None,
        }
    }
}
