//! A channel without a socket, for tests: [`Channel::in_memory`] and its [`FarEnd`].
//!
//! The far end plays a client in the same process, behind a pipe of 64 KiB. The channel's messages go through the same
//! outbox, rules and limits as on a socket: a far end that does not read is a slow client, a dropped one is a dead
//! client.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};

use super::link::port::Flush;
use super::link::{Inbox, Link, LinkState, Terms, Transport};
use super::options::ChannelOptions;
use super::{Channel, Message, RecvError};
use crate::frame::close_code::CloseCode;
use crate::sync::{Arc, Mutex, Weak, lock};

/// Bytes that the pipe takes before it pushes back.
const CAPACITY: usize = 64 << 10;

impl Channel {
    /// Makes a channel and its far end, joined by a pipe of 64 KiB instead of a socket.
    ///
    /// Sends, groups, outbox and close work as on a real connection. There is no connection task, and so no heartbeat,
    /// no deadlines, and no limits for the client's messages. A receive or a send finds out that the far end has closed
    /// or was dropped.
    ///
    /// ```
    /// use fanfare::channel::{Channel, FarMessage};
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// channel.send(&[1, 2])?;
    /// channel.send_bytes([3])?;
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("[1,2]".into())));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Binary(vec![3].into())));
    /// assert_eq!(far_end.try_recv(), None);
    /// # Ok::<(), fanfare::channel::SendError>(())
    /// ```
    #[must_use]
    pub fn in_memory() -> (Self, FarEnd) {
        Self::in_memory_with(ChannelOptions::default())
    }

    /// Makes a channel and its far end as [`in_memory`](Self::in_memory), with options, or with
    /// [`OutboxLimits`](super::OutboxLimits) alone to test a slow client.
    ///
    /// ```
    /// use fanfare::channel::{Channel, OutboxLimits, Overflow, SendError};
    ///
    /// let limits = OutboxLimits::default().max_messages(1).overflow(Overflow::DropNewest);
    /// let (channel, _far_end) = Channel::in_memory_with(limits);
    /// channel.send_bytes(vec![0; 100_000])?; // the pipe takes 64 KiB, the rest waits
    /// assert!(matches!(channel.send_text("one more"), Err(SendError::Full)));
    /// # Ok::<(), SendError>(())
    /// ```
    #[must_use]
    pub fn in_memory_with(options: impl Into<ChannelOptions>) -> (Self, FarEnd) {
        let pipe = Arc::new(Pipe(Mutex::new(Ends::default())));
        let link = Link::new(Terms { options: options.into(), ..Terms::default() }, Arc::new(Near(Arc::clone(&pipe))));
        let inbox = NearInbox { pipe: Arc::clone(&pipe), link: Arc::clone(&link) };
        (Self::new(link, Box::new(inbox)), FarEnd { pipe, arrived: BytesMut::new(), finished: false })
    }
}

struct Pipe(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    /// Bytes on the way to the far end: frames, as on a wire.
    down: BytesMut,
    /// Messages on the way to the channel.
    up: VecDeque<Upward>,
    /// The channel's end is shut: it will send nothing more.
    shut: bool,
    /// The far end was dropped.
    gone: bool,
    /// The link whose outbox waits for room.
    blocked: Option<Weak<dyn Flush>>,
    far: Option<Waker>,
    near: Option<Waker>,
}

enum Upward {
    Message(Message),
    Close(CloseCode),
}

/// The channel's end of the pipe, for writing.
struct Near(Arc<Pipe>);

impl Transport for Near {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut ends = lock(&self.0.0);
        if ends.gone || ends.shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match CAPACITY.saturating_sub(ends.down.len()).min(bytes.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => {
                ends.down.extend_from_slice(&bytes[..n]);
                Ok(n)
            }
        }
    }

    fn await_room(&self, link: Weak<dyn Flush>) {
        lock(&self.0.0).blocked = Some(link);
    }

    fn shut_down(&self) {
        lock(&self.0.0).shut = true;
    }

    fn far_waker(&self) -> Option<Waker> {
        lock(&self.0.0).far.take()
    }
}

/// The channel's end of the pipe, for reading.
struct NearInbox {
    pipe: Arc<Pipe>,
    link: Arc<Link>,
}

impl Drop for NearInbox {
    fn drop(&mut self) {
        self.link.close(CloseCode::NORMAL, "");
    }
}

impl Inbox for NearInbox {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RecvError>>> {
        self.link.expire();
        if self.link.poll_state(cx) == LinkState::Closing {
            return Poll::Ready(None);
        }
        let (next, gone) = {
            let mut ends = lock(&self.pipe.0);
            ends.near = Some(cx.waker().clone());
            (ends.up.pop_front(), ends.gone)
        };
        match next {
            Some(Upward::Message(message)) => {
                self.link.touch();
                Poll::Ready(Some(Ok(message)))
            }
            Some(Upward::Close(code)) => {
                self.link.close(code, "");
                Poll::Ready(None)
            }
            None if gone => {
                self.link.die();
                Poll::Ready(Some(Err(RecvError::Lost(io::ErrorKind::ConnectionReset.into()))))
            }
            None if self.link.poll_state(cx) == LinkState::Open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

/// A message of a channel, as its client receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// The close of the channel: no message follows.
    Close {
        /// The close code.
        code: CloseCode,
        /// The reason, perhaps empty.
        reason: String,
    },
}

/// Plays the client of an in-memory channel: a slow one if it does not read, a dead one once it is dropped.
pub struct FarEnd {
    pipe: Arc<Pipe>,
    /// Bytes read from the pipe that the test has not received yet.
    arrived: BytesMut,
    /// The close was received: no message follows.
    finished: bool,
}

impl FarEnd {
    /// Sends text to the channel.
    pub fn send_text(&self, text: impl Into<String>) {
        self.send(Upward::Message(Message::Text(text.into())));
    }

    /// Sends bytes to the channel.
    pub fn send_binary(&self, bytes: impl Into<Bytes>) {
        self.send(Upward::Message(Message::Binary(bytes.into())));
    }

    /// Closes the connection as a client does.
    pub fn close(&self, code: CloseCode) {
        self.send(Upward::Close(code));
    }

    fn send(&self, upward: Upward) {
        let near = {
            let mut ends = lock(&self.pipe.0);
            ends.up.push_back(upward);
            ends.near.take()
        };
        if let Some(near) = near {
            near.wake();
        }
    }

    /// Receives the channel's next message; `None` when no message will follow.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<FarMessage> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the next message if it is there; `None` also when none has come yet.
    pub fn try_recv(&mut self) -> Option<FarMessage> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<FarMessage>> {
        loop {
            if self.finished {
                return Poll::Ready(None);
            }
            if let Some(message) = take_frame(&mut self.arrived) {
                self.finished = matches!(message, FarMessage::Close { .. });
                return Poll::Ready(Some(message));
            }
            let blocked = {
                let mut ends = lock(&self.pipe.0);
                if ends.down.is_empty() && ends.blocked.is_none() {
                    if ends.shut {
                        return Poll::Ready(None);
                    }
                    ends.far = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                self.arrived.extend_from_slice(&ends.down.split());
                ends.blocked.take()
            };
            // The pipe has room again for the waiting messages of the outbox.
            if let Some(link) = blocked.as_ref().and_then(Weak::upgrade)
                && link.flush()
            {
                lock(&self.pipe.0).blocked = blocked;
            }
        }
    }
}

/// Takes a whole frame off the front.
fn take_frame(bytes: &mut BytesMut) -> Option<FarMessage> {
    let (header, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    if bytes.len() < header + len {
        return None;
    }
    let opcode = bytes[0] & 0x0f;
    bytes.advance(header);
    let mut payload = bytes.split_to(len).freeze();
    let text = |payload: Bytes| String::from_utf8_lossy(&payload).into_owned();
    Some(match opcode {
        1 => FarMessage::Text(text(payload)),
        8 => FarMessage::Close { code: CloseCode::new(payload.get_u16()), reason: text(payload) },
        _ => FarMessage::Binary(payload),
    })
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        let near = {
            let mut ends = lock(&self.pipe.0);
            ends.gone = true;
            ends.near.take()
        };
        if let Some(near) = near {
            near.wake();
        }
    }
}

impl fmt::Debug for FarEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarEnd").field("arrived_bytes", &self.arrived.len()).finish_non_exhaustive()
    }
}
