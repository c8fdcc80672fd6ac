//! A channel: one connected client.
//!
//! [`Channel`] owns the connection and receives. [`Sender`] sends from anywhere. Both write to the client through one
//! `Link`, which keeps frames whole and in order.
//!
//! A send does not wait. On the caller's thread it writes as much as the socket takes at once; the rest waits in the
//! channel's outbox, within [`OutboxLimits`]. `fanfare::docs::groups` explains how the outbox empties and how a
//! connection ends.

mod error;
mod identity;
mod in_memory;
mod link;
mod message;
mod options;
mod sender;

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::frame::close_code::CloseCode;
pub use error::{RecvError, SendError};
pub use identity::{ChannelId, InvalidUserId, MAX_USER_ID_LEN, UserId};
pub use in_memory::{FarEnd, FarMessage};
pub use link::{OutboxCounts, OutboxLimits, Overflow};
pub use message::Message;
pub use options::{ChannelOptions, PayloadType};
pub use sender::Sender;

pub(crate) use link::{Access, Feed, Home, Inbox, Link, Outcome, Route, Ticket, Waitlist};
#[cfg(feature = "ws")]
pub(crate) use link::{LinkState, Refresh, Terms, Transport};

use crate::dispatch::Dispatcher;
use crate::frame::Frame;
use crate::observe::channels as observe;
use crate::sync::Arc;

/// One connected client, owned by the handler of its connection.
///
/// Dropping it leaves all groups and closes the connection with code 1000, behind all messages sent before.
/// It is also a `Stream` of its messages.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::{Channel, FarMessage};
///
/// let (mut channel, mut far_end) = Channel::in_memory();
/// far_end.send_text(r#"{"say":"hello"}"#);
/// let heard: serde_json::Value = channel.recv().await.expect("the far end is there")?;
/// channel.send(&heard["say"])?;
/// assert_eq!(far_end.recv().await, Some(FarMessage::Text("\"hello\"".into())));
/// # Ok(()) }
/// ```
pub struct Channel {
    link: Arc<Link>,
    inbox: Box<dyn Inbox>,
    events: OnceLock<Dispatcher>,
    finished: bool,
}

impl Channel {
    pub(crate) fn new(link: Arc<Link>, inbox: Box<dyn Inbox>) -> Self {
        Self { link, inbox, events: OnceLock::new(), finished: false }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Returns the channel's id.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.link.id()
    }

    /// Returns the client's address, if it has one. Behind a proxy it is the address of the nearest proxy.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer_addr()
    }

    /// Returns the channel's user, if the server has set one: see [`ChannelOptions::user`].
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.link.options().user.as_ref()
    }

    /// Returns the channel's metadata, if it is an `M`. Mutable metadata needs interior mutability.
    #[must_use]
    pub fn metadata<M: Any>(&self) -> Option<&M> {
        self.link.options().metadata.as_ref()?.downcast_ref()
    }

    /// Returns when the channel began.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.link.created()
    }

    /// Returns the type of message that the channel accepts from its client.
    #[must_use]
    pub fn payload_type(&self) -> PayloadType {
        self.link.options().payload_type
    }

    /// Returns whether the channel is open: it still accepts messages for the client.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.link.is_active()
    }

    /// Restarts the idle timeout: see [`Sender::touch`].
    pub fn touch(&self) -> bool {
        self.link.touch()
    }

    /// Returns a handle that sends to this client from anywhere.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender::new(Arc::clone(&self.link))
    }

    /// Returns this connection's own dispatcher, which ends with the channel.
    ///
    /// A listener registered here with `once` runs once per connection. The dispatcher is made at the first call.
    ///
    /// ```
    /// use fanfare::Key;
    /// use fanfare::channel::{Channel, Sender};
    ///
    /// const INIT: Key<Sender> = Key::new("connection.init");
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// channel.events().once(INIT, |sender| sender.send_text("welcome"))?;
    /// assert_eq!(channel.events().emit(INIT, &channel.sender())?.ran(), 1);
    /// assert_eq!(channel.events().emit(INIT, &channel.sender())?.ran(), 0);
    /// assert!(far_end.try_recv().is_some());
    /// # Ok::<(), fanfare::EventError>(())
    /// ```
    pub fn events(&self) -> &Dispatcher {
        self.events.get_or_init(Dispatcher::new)
    }

    /// Receives the next message as JSON; `None` when the connection is over.
    ///
    /// After an error for which [`RecvError::is_fatal`] is false, the channel stays open. The connection answers pings
    /// and notices the client's close even if the handler does not receive. But it reads only one message ahead:
    /// whatever follows that message, also a close, is read once the message is received. So a handler that only sends
    /// calls [`discard`](Self::discard).
    ///
    /// # Errors
    ///
    /// When a message is not JSON of type `T` or is binary, the client breaks the protocol, or the connection breaks. A
    /// clean close is not an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message, nor any part of one.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Option<Result<T, RecvError>> {
        Some(match self.recv_message().await? {
            Ok(Message::Text(text)) => serde_json::from_str(&text).map_err(RecvError::Json),
            Ok(Message::Binary(_)) => Err(RecvError::Binary),
            Err(error) => Err(error),
        })
    }

    /// Receives the next message, which must be text; `None` when the connection is over.
    ///
    /// # Errors
    ///
    /// When a message is binary, the client breaks the protocol, or the connection breaks.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_text(&mut self) -> Option<Result<String, RecvError>> {
        Some(match self.recv_message().await? {
            Ok(Message::Text(text)) => Ok(text),
            Ok(Message::Binary(_)) => Err(RecvError::Binary),
            Err(error) => Err(error),
        })
    }

    /// Receives the next message, which must be binary; `None` when the connection is over.
    ///
    /// # Errors
    ///
    /// When a message is text, the client breaks the protocol, or the connection breaks.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_bytes(&mut self) -> Option<Result<Bytes, RecvError>> {
        Some(match self.recv_message().await? {
            Ok(Message::Binary(bytes)) => Ok(bytes),
            Ok(Message::Text(_)) => Err(RecvError::Text),
            Err(error) => Err(error),
        })
    }

    /// Receives the next message, text or binary; `None` when the connection is over.
    ///
    /// # Errors
    ///
    /// When the client breaks the protocol, or the connection breaks.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_message(&mut self) -> Option<Result<Message, RecvError>> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// Discards the client's messages until the connection is over: for a handler that only sends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: later messages are received as before.
    ///
    /// ```
    /// # async fn read_sensor() -> u32 { 21 }
    /// async fn push(mut channel: fanfare::channel::Channel) -> Result<(), fanfare::Error> {
    ///     let sender = channel.sender();
    ///     loop {
    ///         tokio::select! {
    ///             () = channel.discard() => return Ok(()),
    ///             value = read_sensor() => sender.send(&value)?,
    ///         }
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let (channel, mut far_end) = fanfare::channel::Channel::in_memory();
    /// # let end = async { far_end.recv().await; far_end.send_text("x"); far_end.close(fanfare::channel::CloseCode::NORMAL) };
    /// # tokio::select! { _ = push(channel) => {}, () = async { end.await; std::future::pending().await } => {} }
    /// # }
    /// ```
    pub async fn discard(&mut self) {
        while self.recv_message().await.is_some() {}
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RecvError>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        let received =
            ready!(self.inbox.poll_recv(cx)).map(|received| received.and_then(|message| self.check(message)));
        self.finished = match &received {
            None => true,
            Some(Ok(message)) => {
                observe::received(self.id(), matches!(message, Message::Text(_)), message.len());
                false
            }
            Some(Err(error)) => {
                observe::not_received(self.id(), error.label());
                error.is_fatal()
            }
        };
        Poll::Ready(received)
    }

    /// Refuses a message that is not of the channel's payload type.
    fn check(&self, message: Message) -> Result<Message, RecvError> {
        match (self.payload_type(), &message) {
            (PayloadType::Json | PayloadType::Text, Message::Binary(_)) => Err(RecvError::Binary),
            (PayloadType::Bytes, Message::Text(_)) => Err(RecvError::Text),
            (PayloadType::Json, Message::Text(text)) => match serde_json::from_str(text) {
                Ok(serde::de::IgnoredAny) => Ok(message),
                Err(error) => Err(RecvError::Json(error)),
            },
            _ => Ok(message),
        }
    }

    /// Sends a payload as JSON text: see [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), SendError> {
        self.send_frame(&Frame::json(payload)?)
    }

    /// Sends text.
    ///
    /// # Errors
    ///
    /// As [`Sender::send_frame`].
    pub fn send_text(&self, text: impl AsRef<str>) -> Result<(), SendError> {
        self.send_frame(&Frame::text(text))
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// As [`Sender::send_frame`].
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_frame(&Frame::binary(bytes))
    }

    /// Sends a frame: see [`Sender::send_frame`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send_frame`].
    pub fn send_frame(&self, frame: &Frame) -> Result<(), SendError> {
        self.link.send(frame, None)
    }

    /// Begins to close the channel: see [`Sender::close`].
    pub fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.link.close(code, reason)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // The inbox is dropped next, and begins the close.
        self.link.retire();
    }
}

/// Messages as [`Channel::recv_message`] returns them.
impl Stream for Channel {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(cx)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id())
            .field("peer_addr", &self.peer_addr())
            .field("user", &self.user())
            .field("state", &self.link.state())
            .finish_non_exhaustive()
    }
}
