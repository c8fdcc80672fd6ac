//! What plugs into a link: the traits that a transport, a connection and a box of groups implement, and what they
//! say of a message.
//!
//! [`Feed`](super::Feed) is the one that is not here: it writes, so it stands with the right to do so in `state.rs`.

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
    /// Writes what the sink takes now; `WouldBlock` when that is nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// As `try_write`, from several pieces.
    fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(pieces.first().map_or(&[], |piece| piece))
    }

    /// The sink has pushed back, and the outbox of `link` is no longer empty. The driver is woken in any case; a
    /// driver that cannot see for itself when there is room has [`Flush::flush`] called by other means.
    fn await_room(&self, _link: Weak<dyn Flush>) {}

    /// Ends the connection in both directions, so that its reader wakes.
    fn shut_down(&self);

    /// Returns who is to be told that something was written, or waits for room.
    fn far_waker(&self) -> Option<Waker> {
        None
    }
}

/// An outbox that is flushed when its transport has room again.
pub(crate) trait Flush: Send + Sync {
    /// Writes what waits, as far as the sink takes it; true when it pushed back once more.
    fn flush(self: Arc<Self>) -> bool;
}

/// Received messages, one after the other. Told of its channel's end by being dropped.
pub(crate) trait Inbox: Send + Sync {
    /// Returns the next message; `None` after the end. Dropping the caller's future loses nothing.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RecvError>>>;
}

/// Who knows a channel by its id.
pub(crate) trait Home: Send + Sync {
    fn forget(&self, id: ChannelId);
}

/// Checks a client's new token: for a floor above, which knows what tokens are.
pub(crate) trait Refresh: fmt::Debug + Send + Sync {
    /// Checks a new token for a channel of `user`, and returns the message that tells the client the result.
    ///
    /// When it accepts the token it calls `extend` with the end of that, which is false when the channel is closed.
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

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Handed to the kernel.
    Written,
    /// In the outbox, at least in part.
    Queued,
    /// Dropped: the outbox is full.
    Full,
    /// Dropped, and the channel is closed for it.
    Overflowed,
    /// Dropped: the channel is closed.
    Closed,
}

/// Where a message comes from and how it is treated when it has to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route<'a> {
    /// The number of its group; 0 when it was sent to this channel alone.
    pub(crate) source: u64,
    /// Instead of the channel's own rule.
    pub(crate) overflow: Option<Overflow>,
    /// What it is the latest value of.
    pub(crate) key: Option<&'a Arc<str>>,
}

impl Route<'_> {
    /// Returns what may become of the message while it waits.
    pub(super) fn rule(&self, overflow: Overflow) -> Rule {
        match overflow {
            Overflow::Close | Overflow::DropNewest => Rule::Keep,
            Overflow::DropOldest => Rule::Yield,
            // What is sent to one channel without a key is a value of its own.
            Overflow::Conflate if self.source == 0 && self.key.is_none() => Rule::Yield,
            Overflow::Conflate => Rule::Replace((self.source, self.key.cloned())),
        }
    }
}
