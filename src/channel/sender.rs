//! [`Sender`]: sends to a client from anywhere in the program.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Sink;
use serde::Serialize;
use tokio::time::Instant;

use super::error::SendError;
use super::identity::{ChannelId, UserId};
use super::link::{Link, OutboxCounts, Ticket};
use crate::frame::Frame;
use crate::frame::close_code::CloseCode;
use crate::sync::Arc;

/// Sends to one client. Cheap to clone, `Send + Sync + 'static`: it fits in an event's payload.
///
/// A send never waits for the client: bytes that the socket does not take go into the bounded outbox. A sender does not
/// keep the channel open. It works on any thread, inside and outside of a runtime.
///
/// A send takes the channel's lock, first passes on the messages of its groups, and makes a system call if the outbox
/// is empty.
///
/// ```
/// use fanfare::channel::{Channel, FarMessage, SendError};
///
/// let (channel, mut far_end) = Channel::in_memory();
/// let sender = channel.sender();
/// std::thread::spawn(move || sender.send(&("score", 3))).join().expect("no panic")?;
/// assert_eq!(far_end.try_recv(), Some(FarMessage::Text(r#"["score",3]"#.into())));
///
/// let sender = channel.sender();
/// drop(channel);
/// assert!(matches!(sender.send_text("late"), Err(SendError::Closed)));
/// # Ok::<(), SendError>(())
/// ```
pub struct Sender {
    link: Arc<Link>,
    /// Set once this was polled as a sink.
    watch: Option<Watch>,
}

/// A future's place among the watchers of a channel, given back when this is dropped.
struct Watch {
    link: Arc<Link>,
    ticket: Ticket,
}

impl Watch {
    fn new(link: &Arc<Link>) -> Self {
        Self { link: Arc::clone(link), ticket: Ticket::new() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.link.unwatch(self.ticket);
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.link))
    }
}

impl Sender {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link, watch: None }
    }

    /// Returns the id of the channel.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.link.id()
    }

    /// Returns the client's address, if it has one: see [`Channel::peer_addr`](super::Channel::peer_addr).
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer_addr()
    }

    /// Sends a payload as JSON text, behind everything that this caller sent before, also to groups.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised, when the channel is closed, and when its outbox is full: then the
    /// channel's [`Overflow`](super::Overflow) rule decides what happens.
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), SendError> {
        self.send_frame(&Frame::json(payload)?)
    }

    /// Sends text: see [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Self::send_frame).
    pub fn send_text(&self, text: impl AsRef<str>) -> Result<(), SendError> {
        self.send_frame(&Frame::text(text))
    }

    /// Sends bytes: see [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Self::send_frame).
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.send_frame(&Frame::binary(bytes))
    }

    /// Sends a frame: see [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// When the channel is closed, or its outbox is full.
    pub fn send_frame(&self, frame: &Frame) -> Result<(), SendError> {
        self.link.send(frame, None)
    }

    /// Sends a frame as the latest value of `key`: on a channel with the rule [`Conflate`](super::Overflow::Conflate)
    /// it replaces a waiting frame with the same key. Under any other rule this is [`send_frame`](Self::send_frame).
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Self::send_frame).
    pub fn send_latest(&self, key: impl Into<Arc<str>>, frame: &Frame) -> Result<(), SendError> {
        self.link.send(frame, Some(&key.into()))
    }

    /// Begins to close the channel, behind all messages sent before; returns false when the channel was closing
    /// already.
    ///
    /// From now on sends are refused and `recv` ends; messages that the client still sends are lost. The client has
    /// five seconds to answer, and five more while messages still go out before the close. A reason is cut at 123
    /// bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfare::channel::{Channel, CloseCode, FarMessage};
    ///
    /// const SIGNED_OUT: CloseCode = CloseCode::new(4001);
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// channel.send_text("before")?;
    /// assert!(channel.sender().close(SIGNED_OUT, "signed out"));
    /// assert!(!channel.sender().close(CloseCode::NORMAL, "a second time"));
    ///
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Text("before".into())));
    /// assert_eq!(far_end.try_recv(), Some(FarMessage::Close { code: SIGNED_OUT, reason: "signed out".into() }));
    /// # Ok::<(), fanfare::channel::SendError>(())
    /// ```
    pub fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.link.close(code, reason)
    }

    /// Returns the channel's user: see [`Channel::user`](super::Channel::user).
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.link.options().user.as_ref()
    }

    /// Returns the channel's metadata, if it is an `M`: see [`Channel::metadata`](super::Channel::metadata).
    #[must_use]
    pub fn metadata<M: Any>(&self) -> Option<&M> {
        self.link.options().metadata.as_ref()?.downcast_ref()
    }

    /// Returns whether the channel is open: it still accepts messages.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.link.is_active()
    }

    /// Restarts the [idle timeout](super::ChannelOptions::idle_timeout), as a message from the client does; returns
    /// false when the channel is closed.
    pub fn touch(&self) -> bool {
        self.link.touch()
    }

    /// Sets how long the channel lives from now on, whether or not it is active. Another call replaces the time, and
    /// `None` removes the limit.
    ///
    /// At that moment the channel stops accepting messages and is closed with code [4408](super::CloseCode::EXPIRED). A
    /// connection has a timer for this. An in-memory channel has none: it is closed at the next send or receive.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fanfare::channel::{Channel, CloseCode, FarMessage, SendError};
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// channel.sender().set_lifetime(Duration::ZERO);
    /// assert!(matches!(channel.send_text("late"), Err(SendError::Closed)));
    /// let close = FarMessage::Close { code: CloseCode::EXPIRED, reason: "channel has expired".into() };
    /// assert_eq!(far_end.try_recv(), Some(close));
    /// # Ok::<(), SendError>(())
    /// ```
    pub fn set_lifetime(&self, lifetime: impl Into<Option<Duration>>) {
        let lifetime = lifetime.into();
        self.link.change_life(|life| life.set_lifetime(lifetime, Instant::now()));
    }

    /// Sets how long the channel may be idle from now on; `None` means without limit: see
    /// [`ChannelOptions::idle_timeout`](super::ChannelOptions::idle_timeout).
    pub fn set_idle_timeout(&self, timeout: impl Into<Option<Duration>>) {
        let timeout = timeout.into();
        self.link.change_life(|life| life.set_idle_timeout(timeout, Instant::now()));
    }

    /// Returns whether the channel accepts new tokens from its client.
    pub(crate) fn is_refreshed(&self) -> bool {
        self.link.options().refresh.is_some()
    }

    /// Answers a client's new token; returns false when the channel accepts no tokens.
    pub(crate) fn answer_refresh(&self, token: &str) -> bool {
        let Some(refresh) = &self.link.options().refresh else { return false };
        if let Ok(answer) = refresh.answer(self.user(), token, &|at| self.sign_until(at)) {
            // An error means that the client is gone, and gets no answer.
            _ = self.send_frame(&answer);
        }
        true
    }

    /// Sets when the client's token expires; returns false when the channel is closed.
    pub(crate) fn sign_until(&self, at: Option<Instant>) -> bool {
        let active = self.is_active();
        if active {
            self.link.change_life(|life| life.sign_until(at));
        }
        active
    }

    /// Returns the counts of the messages so far, all at one moment.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        self.link.counts()
    }

    /// Waits until the kernel has taken all messages that were sent to this channel or its groups, or until the
    /// connection is over.
    ///
    /// It also waits for messages that are sent meanwhile. The client may not have read them yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use fanfare::channel::Channel;
    ///
    /// let (channel, mut far_end) = Channel::in_memory();
    /// let sender = channel.sender();
    /// sender.send_bytes(vec![0; 100_000])?; // more than the pipe of 64 KiB takes
    /// assert_eq!(sender.counts().waiting, 1);
    /// let (_, received) = tokio::join!(sender.drained(), far_end.recv());
    /// assert_eq!((sender.counts().waiting, sender.counts().written), (0, 1));
    /// # assert!(received.is_some());
    /// # Ok(()) }
    /// ```
    pub async fn drained(&self) {
        let watch = Watch::new(&self.link);
        poll_fn(|cx| self.link.poll_drained(watch.ticket, cx)).await;
    }

    /// Waits until the connection is over: both sides have closed, or it broke.
    ///
    /// It is for other tasks that send to this client. A handler waits for
    /// [`Channel::discard`](super::Channel::discard) instead: while a message of the client waits to be received, its
    /// close is not noticed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn closed(&self) {
        let watch = Watch::new(&self.link);
        poll_fn(|cx| self.link.poll_closed(watch.ticket, cx)).await;
    }
}

impl Sender {
    fn poll_drained(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendError>> {
        let watch = self.watch.get_or_insert_with(|| Watch::new(&self.link));
        watch.link.poll_drained(watch.ticket, cx).map(Ok)
    }
}

/// A sink with back pressure: it accepts a frame once the kernel has taken all frames before it, so a forwarded stream
/// does not fill the outbox. Closing the sink closes the channel with code 1000.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::{channel::Channel, frame::Frame};
/// use futures_util::{StreamExt, stream};
///
/// let (channel, mut far_end) = Channel::in_memory();
/// let frames = stream::iter(0..10).map(|_| Ok(Frame::binary([0; 100_000]))); // more than any pipe takes
/// let forwarded = async {
///     let result = frames.forward(channel.sender()).await;
///     drop(channel);
///     result
/// };
/// let received = async {
///     let mut count = 0;
///     while far_end.recv().await.is_some() {
///         count += 1;
///     }
///     count
/// };
/// assert_eq!(tokio::try_join!(forwarded, async { Ok(received.await) })?.1, 11); // ten, and the close
/// # Ok(()) }
/// ```
impl Sink<Frame> for Sender {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_drained(cx)
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), SendError> {
        self.send_frame(&frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_drained(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.close(CloseCode::NORMAL, "");
        self.get_mut().poll_drained(cx)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("id", &self.id()).field("active", &self.is_active()).finish()
    }
}
