//! The traits by which a transport, a connection and a box of groups plug into a link, and the values that describe a
//! message to them.
//!
//! The trait [`Feed`](super::Feed) is in `state.rs` instead: a feed writes, so it stands beside the right to write.

use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use super::outbox::{Overflow, Rule};
use crate::channel::error::RecvError;
use crate::channel::identity::{ChannelId, UserId};
use crate::channel::message::Message;
use crate::frame::{EncodeError, Frame};
use crate::sync::{Arc, Weak};

/// A non-blocking byte sink.
pub(crate) trait Transport: Send + Sync {
    /// Writes as much as the sink takes now; `WouldBlock` when it takes nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes as `try_write` does, from several pieces.
    fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(pieces.first().map_or(&[], |piece| piece))
    }

    /// Called when the sink has pushed back and the outbox of `link` is no longer empty. The link wakes the driver in
    /// any case. A transport whose driver cannot see when there is room calls [`Flush::flush`] itself.
    fn await_room(&self, _link: Weak<dyn Flush>) {}

    /// Ends the connection in both directions, so that its reader wakes.
    fn shut_down(&self);

    /// Returns the waker of the far end, woken when bytes were written or wait for room.
    fn far_waker(&self) -> Option<Waker> {
        None
    }
}

/// An outbox that is flushed when its transport has room again.
pub(crate) trait Flush: Send + Sync {
    /// Writes the outbox, as far as the sink takes it; returns true when the sink pushed back again.
    fn flush(self: Arc<Self>) -> bool;
}

/// The source of received messages. Its drop ends the channel.
pub(crate) trait Inbox: Send + Sync {
    /// Returns the next message; `None` after the end. Dropping the caller's future loses no message.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RecvError>>>;
}

/// A registry that knows channels by their ids.
pub(crate) trait Home: Send + Sync {
    fn forget(&self, id: ChannelId);
}

/// Checks a client's new token. A higher floor implements it, since this one does not know tokens.
pub(crate) trait Refresh: fmt::Debug + Send + Sync {
    /// Checks a new token for a channel of `user`, and returns the message that tells the client the result.
    ///
    /// When it accepts the token it calls `extend` with the token's end; `extend` returns false when the channel is
    /// closed.
    ///
    /// # Errors
    ///
    /// When the message cannot be serialised.
    fn answer(
        &self,
        user: Option<&UserId>,
        token: &str,
        extend: &dyn Fn(Option<Instant>) -> bool,
    ) -> Result<Frame, EncodeError>;
}

/// The outcome of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The kernel took all of it.
    Written,
    /// At least a part of it waits in the outbox.
    Queued,
    /// Dropped: the outbox is full.
    Full,
    /// Dropped, and the channel is closed: the outbox is full.
    Overflowed,
    /// Dropped: the channel is closed.
    Closed,
}

/// Where a message comes from, and how it is treated while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route<'a> {
    /// The number of its group; 0 when it was sent to this channel directly.
    pub(crate) source: u64,
    /// The group's rule, in place of the channel's own.
    pub(crate) overflow: Option<Overflow>,
    /// The key whose latest value the message is.
    pub(crate) key: Option<&'a Arc<str>>,
}

impl Route<'_> {
    /// Returns what may happen to the message while it waits.
    pub(super) fn rule(&self, overflow: Overflow) -> Rule {
        match overflow {
            Overflow::Close | Overflow::DropNewest => Rule::Keep,
            Overflow::DropOldest => Rule::Yield,
            // A direct message without a key replaces no other.
            Overflow::Conflate if self.source == 0 && self.key.is_none() => Rule::Yield,
            Overflow::Conflate => Rule::Replace((self.source, self.key.cloned())),
        }
    }
}
