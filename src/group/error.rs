//! The errors of joins and sends.

use std::fmt;

use super::name::MAX_NAME_LEN;

/// Why a channel did not become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinError {
    group: String,
    reason: JoinErrorReason,
}

impl JoinError {
    pub(super) fn new(group: &str, reason: JoinErrorReason) -> Self {
        Self { group: group.chars().take(MAX_NAME_LEN).collect(), reason }
    }

    /// Returns the name of the group, cut after 255 characters.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason(&self) -> JoinErrorReason {
        self.reason
    }
}

/// The reasons of a [`JoinError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinErrorReason {
    /// The name is empty, longer than [`MAX_NAME_LEN`] bytes, or has control characters.
    InvalidName,
    /// The channel is a member already.
    AlreadyMember,
    /// The channel is in [`MAX_GROUPS_PER_CHANNEL`](super::MAX_GROUPS_PER_CHANNEL) groups.
    TooManyGroups,
    /// The channel is closed.
    Closed,
    /// The rule [`may_join`](super::ChannelBoxBuilder::may_join) refuses the channel, or its user was revoked.
    Denied,
}

impl JoinErrorReason {
    /// Returns the reason's name in a label of a metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::InvalidName => "invalid name",
            Self::AlreadyMember => "already member",
            Self::TooManyGroups => "too many groups",
            Self::Closed => "closed",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            JoinErrorReason::InvalidName => "a group name has 1 to 255 bytes and no control characters",
            JoinErrorReason::AlreadyMember => "the channel is a member already",
            JoinErrorReason::TooManyGroups => "the channel is in 1024 groups, the most that are allowed",
            JoinErrorReason::Closed => "the channel is closed",
            JoinErrorReason::Denied => "not allowed",
        };
        write!(f, "cannot join group {:?}: {reason}", self.group)
    }
}

impl std::error::Error for JoinError {}

/// The rule [`may_send`](super::ChannelBoxBuilder::may_send) does not let a client send to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    group: String,
}

impl Denied {
    pub(super) fn new(group: &str) -> Self {
        Self { group: group.chars().take(MAX_NAME_LEN).collect() }
    }

    /// Returns the name of the group, cut after 255 characters.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot send to group {:?}: not allowed", self.group)
    }
}

impl std::error::Error for Denied {}
