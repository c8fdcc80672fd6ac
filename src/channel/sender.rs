//! [`Sender`]: the way to a client from anywhere in the program.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::ChannelId;
use super::error::SendError;
use super::out::{Out, State};
use crate::frame::Frame;
use crate::sync::Arc;

/// Sends to one client. Cheap to clone, `Send + Sync + 'static`: it fits in an event's payload.
///
/// Nothing here waits for the client: what its socket does not take goes into the bounded outbox.
/// A sender does not keep the channel open.
#[derive(Clone)]
pub struct Sender {
    out: Arc<Out>,
}

impl Sender {
    pub(crate) fn new(out: Arc<Out>) -> Self {
        Self { out }
    }

    /// Returns the id of the channel.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.out.id()
    }

    /// Returns the client's address, if it has one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.out.peer_addr()
    }

    /// Sends a payload as JSON text, behind all that this caller sent before, to groups too.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised, the channel is closed, or its outbox is full, which
    /// closes it with code 1013.
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), SendError> {
        self.send_frame(&Frame::json(payload)?)
    }

    /// Sends a frame: see [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// When the channel is closed, or its outbox is full, which closes it with code 1013.
    pub fn send_frame(&self, frame: &Frame) -> Result<(), SendError> {
        self.out.send(frame)
    }

    /// Begins to close the channel, behind all that was sent before; false when that was begun already.
    ///
    /// The client has five seconds to answer; `recv` ends then. A reason is cut at 123 bytes.
    pub fn close(&self, code: u16, reason: &str) -> bool {
        self.out.close(code, reason)
    }

    /// Tells whether messages are still taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.out.state() == State::Open
    }

    /// Returns how many messages were refused, or dropped from the outbox, so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.out.dropped()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.id()).field("open", &self.is_open()).finish()
    }
}
