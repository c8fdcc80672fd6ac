//! [`Sender`]: the way to a client from anywhere in the program.

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
/// Nothing here waits for the client: what its socket does not take goes into the bounded outbox.
/// A sender does not keep the channel open. It works on any thread, in or outside of a runtime.
///
/// A send takes the channel's lock, looks whether one of its groups has something for it, which goes
/// first, and makes a system call if nothing waits.
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
    /// Once this was polled as a sink.
    watch: Option<Watch>,
}

/// A place among those who wait for the channel, given back at the end.
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

    /// Sends a payload as JSON text, behind all that this caller sent before, to groups too.
    ///
    /// # Errors
    ///
    /// When the payload cannot be serialised, the channel is closed, or its outbox is full: then the
    /// channel's [`Overflow`](super::Overflow) rule says what happens.
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

    /// Sends a frame that is the latest value of `key`: on a channel with the rule
    /// [`Conflate`](super::Overflow::Conflate) it replaces one of that key which still waits. Under
    /// another rule it is like [`send_frame`](Self::send_frame).
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Self::send_frame).
    pub fn send_latest(&self, key: impl Into<Arc<str>>, frame: &Frame) -> Result<(), SendError> {
        self.link.send(frame, Some(&key.into()))
    }

    /// Begins to close the channel, behind all that was sent before; false when that was begun already.
    ///
    /// From now on sends are refused, and `recv` ends; what the client says meanwhile is lost. It has five
    /// seconds to answer, and five more if something still goes before the close. A reason is cut at 123
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

    /// Returns whose connection it is: see [`Channel::user`](super::Channel::user).
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.link.options().user.as_ref()
    }

    /// Returns the channel's metadata, if that is an `M`: see [`Channel::metadata`](super::Channel::metadata).
    #[must_use]
    pub fn metadata<M: Any>(&self) -> Option<&M> {
        self.link.options().metadata.as_ref()?.downcast_ref()
    }

    /// Tells whether messages are still taken.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.link.is_active()
    }

    /// Takes note that the client is active, as a message from it does; false when the channel is closed.
    ///
    /// The [idle timeout](super::ChannelOptions::idle_timeout) of a channel that has one begins anew.
    pub fn touch(&self) -> bool {
        self.link.touch()
    }

    /// Sets how long the channel lives from now on, whatever happens on it: another call replaces the time, and `None`
    /// takes it away.
    ///
    /// Then it gets nothing more, to the moment, and is closed with code
    /// [4408](super::CloseCode::EXPIRED). Its connection has a timer for this; a channel in memory has none, and
    /// is closed when somebody sends to it or receives.
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

    /// Sets how long the channel may be idle from now on, `None` for any time: see
    /// [`ChannelOptions::idle_timeout`](super::ChannelOptions::idle_timeout).
    pub fn set_idle_timeout(&self, timeout: impl Into<Option<Duration>>) {
        let timeout = timeout.into();
        self.link.change_life(|life| life.set_idle_timeout(timeout, Instant::now()));
    }

    /// Tells whether somebody takes new tokens for this channel.
    pub(crate) fn is_refreshed(&self) -> bool {
        self.link.options().refresh.is_some()
    }

    /// Answers a client's new token; false when nothing checks tokens for this channel.
    pub(crate) fn answer_refresh(&self, token: &str) -> bool {
        let Some(refresh) = &self.link.options().refresh else { return false };
        if let Ok(answer) = refresh.answer(self.user(), token, &|at| self.sign_until(at)) {
            // A client that is gone cannot be told.
            _ = self.send_frame(&answer);
        }
        true
    }

    /// Sets when what proves the client's identity ends; false when the channel is closed.
    pub(crate) fn sign_until(&self, at: Option<Instant>) -> bool {
        let active = self.is_active();
        if active {
            self.link.change_life(|life| life.sign_until(at));
        }
        active
    }

    /// Tells what became of the messages so far, all as of one moment.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        self.link.counts()
    }

    /// Waits until the kernel has taken all that was sent, to this channel or its groups, before this
    /// was polled; or until the connection is over.
    ///
    /// What is sent meanwhile is waited for too. Whether the client has read anything is not known.
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
    /// sender.send_bytes(vec![0; 100_000])?; // more than its pipe of 64 KiB takes
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

    /// Waits until the connection is over: both closes are through, or it broke.
    ///
    /// For tasks elsewhere that send to this client. A handler had better wait for
    /// [`Channel::discard`](super::Channel::discard): while a message of the client waits to be received,
    /// its close is not seen.
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

/// A sink with back pressure: it takes a frame when the kernel has taken all before it, so that a stream
/// that is forwarded to it fills no outbox. To close it is to close the channel with code 1000.
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
