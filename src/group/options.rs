//! [`GroupOptions`]: how a group treats its messages.

use std::time::Duration;

use super::history::HistoryLimits;
use crate::channel::Overflow;

/// How a group treats its messages: see [`ChannelBoxBuilder::groups`](super::ChannelBoxBuilder::groups).
///
/// ```
/// use std::time::Duration;
/// use fanfare::channel::Overflow;
/// use fanfare::group::{ChannelBox, GroupOptions};
///
/// let channels = ChannelBox::builder().groups(|group| match group.split_once(':') {
///     // Prices: a slow client skips to the latest one, and all prices of 50 ms share one write.
///     Some(("ticker", _)) => {
///         GroupOptions::default().overflow(Overflow::Conflate).write_delay(Duration::from_millis(50))
///     }
///     _ => GroupOptions::default(),
/// }).build();
/// # let _ = channels;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    pub(super) overflow: Option<Overflow>,
    pub(super) write_delay: Duration,
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) history: Option<HistoryLimits>,
    pub(super) presence_grace: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            overflow: None,
            write_delay: Duration::ZERO,
            max_messages: 4096,
            max_bytes: 8 << 20,
            history: None,
            presence_grace: Duration::from_secs(5),
        }
    }
}

impl GroupOptions {
    /// Sets what happens to this group's messages for a member whose outbox is full, instead of the rule of the
    /// member's channel.
    ///
    /// Messages in the kernel's buffers, the server's and the client's, are ahead of the outbox and cannot be dropped;
    /// that may be many small ones. If slow clients should skip to the latest value soon, also set a small
    /// `Upgrade::send_buffer_size`, such as 4 KiB.
    #[must_use]
    pub fn overflow(mut self, overflow: impl Into<Option<Overflow>>) -> Self {
        self.overflow = overflow.into();
        self
    }

    /// Sets how long a message waits for others to share a write with; by default it does not wait.
    ///
    /// The more messages share a write, the less a busy group costs. Each message waits up to this long, or until the
    /// program sends something to the member directly. This needs a tokio runtime with a timer: a group of in-memory
    /// channels outside of a runtime does not wait.
    #[must_use]
    pub fn write_delay(mut self, delay: Duration) -> Self {
        self.write_delay = delay;
        self
    }

    /// Sets how many messages may wait in the group before a send is refused: 4096 by default.
    ///
    /// A message waits here until a sweep has taken it to every member. This is not the bound for slow clients: each
    /// client has its own [outbox](crate::channel::OutboxLimits).
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets how many bytes, framing included, may wait in the group before a send is refused: 8 MiB by default.
    ///
    /// A message larger than this is always refused. These are the messages that
    /// [`max_messages`](Self::max_messages) counts.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps the latest messages, for clients that [reconnect](super::Group::join_since) and for
    /// [`Group::history`](super::Group::history). Off by default.
    ///
    /// Every JSON message to the group then gets an offset. To an object the group adds the fields `"group"` and
    /// `"offset"`, behind all others; if the object already has such fields, JavaScript takes the last ones. Any other
    /// JSON becomes the `"data"` of an object. A message that is not JSON, or is
    /// [ephemeral](super::GroupSend::ephemeral), is sent unchanged and not kept.
    ///
    /// Such a group outlives its members: it keeps its history while it has no members, and also messages sent before
    /// the first join. A box keeps up to 10 000 groups without members, of 256 MiB together; it drops those that were
    /// left longest ago first. If clients choose the names of groups, restrict them by
    /// [`may_join`](super::ChannelBoxBuilder::may_join).
    #[must_use]
    pub fn history(mut self, limits: impl Into<Option<HistoryLimits>>) -> Self {
        self.history = limits.into();
        self
    }

    /// Sets how long a user has to come back before its [presence](super::Membership::enter) ends: 5 s by default.
    ///
    /// If a client reloads its page or changes its network within that time, members see no leave. A user that leaves
    /// for good stays listed for that time. Without a tokio runtime there is no grace period.
    #[must_use]
    pub fn presence_grace(mut self, grace: Duration) -> Self {
        self.presence_grace = grace;
        self
    }
}
