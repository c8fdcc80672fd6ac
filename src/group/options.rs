//! How one group treats what is sent to it.

use std::time::Duration;

use super::history::HistoryLimits;
use crate::channel::Overflow;

/// How a group treats what is sent to it: see [`ChannelBox::with_options`](super::ChannelBoxBuilder::groups).
///
/// ```
/// use std::time::Duration;
/// use fanfare::channel::Overflow;
/// use fanfare::group::{ChannelBox, GroupOptions};
///
/// let channels = ChannelBox::builder().groups(|group| match group.split_once(':') {
///     // Prices: a slow client skips to the latest, and all of 50 ms goes out in one write.
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
    /// Sets what happens to this group's messages for a member whose outbox is full, instead of the
    /// rule of the member's channel.
    ///
    /// What waits in the kernels, ours and the client's, comes before the outbox and cannot be taken back:
    /// many small messages. Where a slow client is to skip to the latest value soon, set a small
    /// `Upgrade::send_buffer_size` too, of 4 KiB say.
    #[must_use]
    pub fn overflow(mut self, overflow: impl Into<Option<Overflow>>) -> Self {
        self.overflow = overflow.into();
        self
    }

    /// Lets messages wait for others to go out with, in one write per member; not at all by default.
    ///
    /// A busy group costs less the more of its messages share a write; each waits up to this long, or
    /// until its member is sent something directly. It needs a tokio runtime with its timer; a group of
    /// in-memory channels outside of any does not wait.
    #[must_use]
    pub fn write_delay(mut self, delay: Duration) -> Self {
        self.write_delay = delay;
        self
    }

    /// Sets how many messages may wait in the group before a send is refused: 4096 by default.
    ///
    /// A message waits here until a sweep has taken it to every member. This is not the bound for slow clients: each
    /// of those has an [outbox](crate::channel::OutboxLimits) of its own.
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets how many bytes, framing included, may wait in the group before a send is refused: 8 MiB by default.
    ///
    /// A message larger than this is always refused. What waits is the same as for
    /// [`max_messages`](Self::max_messages).
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Keeps what is sent to the group, for those who [come back](super::Group::join_since) or
    /// [ask](super::Group::history). Not by default.
    ///
    /// Every JSON message that is sent then has an offset, which is told to the clients: `"group"` and `"offset"` are
    /// added to the fields of an object, behind all others: one that has such fields itself has them twice, of which the
    /// last counts in JavaScript. Anything else becomes the `"data"` of an object. What is no JSON, or is
    /// [ephemeral](super::GroupSend::ephemeral), goes out as it is and is not kept.
    ///
    /// Such a group outlives its members: it keeps its history when nobody is in it, and what is sent to it is kept
    /// also when nobody was ever. Of groups without members a box keeps 10 000 and 256 MiB; those that were left
    /// longest ago go first. Where clients choose the names of groups, [`may_join`](super::ChannelBoxBuilder::may_join)
    /// says which there may be.
    #[must_use]
    pub fn history(mut self, limits: impl Into<Option<HistoryLimits>>) -> Self {
        self.history = limits.into();
        self
    }

    /// Sets how long a user has to come back before its [presence](super::Membership::enter) ends: 5 s by default.
    ///
    /// A page that is loaded anew, or a network that changes, is no leave then; nobody hears of it. Who is closed
    /// down for good is listed for that much longer. Without a tokio runtime there is no such time.
    #[must_use]
    pub fn presence_grace(mut self, grace: Duration) -> Self {
        self.presence_grace = grace;
        self
    }
}
