//! What can go wrong with offline queues.

use std::fmt;

use crate::frame::EncodeError;
use crate::group::error::JoinErrorReason;
use crate::sync::Arc;

/// The longest idempotency key, in bytes.
pub const MAX_KEY_LEN: usize = 128;

/// What was asked of an offline queue was not done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OfflineError {
    /// The store says so. Others who asked at the same time may have the same error.
    Store(Arc<dyn std::error::Error + Send + Sync>),
    /// The offline queues of this box were [closed](super::OfflineQueues::close), or there is no thread
    /// for them.
    Stopped,
}

impl fmt::Display for OfflineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store(_) => "the store of the offline queues has an error",
            Self::Stopped => "the offline queues of this box have ended",
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

/// A notification was not taken: it is not stored, and nobody gets it.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotifyError {
    /// The payload cannot be serialised.
    Encode(EncodeError),
    /// An idempotency key has 1 to [`MAX_KEY_LEN`] bytes.
    InvalidKey,
    /// The payload is larger than a user's whole queue may be.
    TooLarge,
    /// The user's queue is full, and what would have to go matters more than this one.
    Full,
    /// The store is full: see [`OfflineOptions::max_store_bytes`](super::OfflineOptions::max_store_bytes).
    StoreFull,
    /// The queue could not be changed.
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
            Self::TooLarge => f.write_str("the payload is larger than an offline queue may be"),
            Self::Full => f.write_str("the user's offline queue is full of what matters more"),
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
    /// It is attached already.
    AlreadyAttached,
    /// The channel's user was [revoked](crate::group::offline::User::revoke) since it began.
    Denied,
    /// The channel is in as many groups as are allowed.
    TooManyGroups,
    /// The channel is closed.
    Closed,
    /// What waits for the user could not be read.
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
            Self::TooManyGroups => "the channel is in as many groups as are allowed (1024)",
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
