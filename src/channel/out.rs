//! [`Out`]: the one way to a client's socket.
//!
//! **Write rule.** All bytes to a connection go through its `Out`: one short lock that holds the
//! outbox and the state, kept over a non-blocking write, never over an await or user code. While the
//! outbox is not empty every writer appends to it, so nothing overtakes and no frame is torn.
//!
//! **Order rule.** Group messages wait in logs, not in outboxes ([`Feed`]). Whoever writes a frame
//! of its own first catches this connection up with every feed it has, under the same lock: what one
//! caller sends to a group and then to a channel arrives in that order. Locks are taken in one
//! order: `Out`, then a feed's log.
//!
//! ```text
//! state     takes messages   leaves it by
//! OPEN      yes              -> CLOSING  close, overflow: a close frame is the last thing queued
//!                            -> DEAD     a write failed, the peer is gone
//! CLOSING   no               -> DEAD     the peer answered, or its time is up
//! DEAD      no               never
//! ```

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::ChannelId;
use super::error::SendError;
use super::outbox::{Outbox, OutboxLimits};
use crate::frame::Frame;
use crate::sync::{Arc, Mutex, MutexGuard, Weak, lock};

/// Close codes of RFC 6455, section 7.4.1, and of the registry it made.
pub(crate) const NORMAL: u16 = 1000;
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;

/// The sending half of one connection.
pub(crate) struct Out {
    id: ChannelId,
    peer_addr: Option<SocketAddr>,
    limits: OutboxLimits,
    transport: Box<dyn Transport>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    outbox: Outbox,
    /// Somebody will call [`Out::flush`] when the socket takes bytes again.
    flusher: bool,
    /// The peer is told that nothing more will come.
    #[cfg(feature = "ws")]
    finishing: bool,
    /// Messages that were refused, or dropped from the outbox.
    dropped: u64,
    feeds: Vec<Arc<dyn Feed>>,
    homes: Vec<Weak<dyn Home>>,
    /// The task in `recv`, to be told of a change of state.
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closing,
    Dead,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Handed to the kernel.
    Written,
    /// In the outbox, at least in part.
    Queued,
    /// Gone: the channel is closed.
    Dropped,
    /// Gone, and the channel is closed for it.
    Overflowed,
}

/// A non-blocking byte sink.
pub(crate) trait Transport: Send + Sync {
    /// Writes what the sink takes now; `WouldBlock` when that is nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sees to it that [`Out::flush`] is called when the sink takes bytes again. Called under the lock.
    fn await_room(&self, out: Weak<Out>);

    /// Tells the peer that nothing more will come. Called with an empty outbox.
    #[cfg(feature = "ws")]
    fn finish_writing(&self) {}

    /// Ends the connection in both directions, so that its reader wakes.
    fn shut_down(&self);

    /// Returns the runtime that drives the connection, if one does.
    fn runtime(&self) -> Option<Handle> {
        None
    }

    /// Tells the far side that something was written. Called without the lock.
    fn notify(&self) {}
}

/// Where messages for this connection wait beside the outbox: the log of a group.
pub(crate) trait Feed: Any + Send + Sync {
    /// Passes on what this connection has not had yet.
    fn catch_up(&self, push: &mut dyn FnMut(Bytes) -> Outcome);

    /// As `catch_up`, and ends the feed.
    fn leave(&self, push: &mut dyn FnMut(Bytes) -> Outcome);
}

/// Who knows a channel by its id.
pub(crate) trait Home: Send + Sync {
    fn forget(&self, id: ChannelId);
}

impl Out {
    pub(crate) fn new(
        id: ChannelId,
        peer_addr: Option<SocketAddr>,
        limits: OutboxLimits,
        transport: Box<dyn Transport>,
    ) -> Arc<Self> {
        let inner = Inner {
            state: State::Open,
            outbox: Outbox::default(),
            flusher: false,
            #[cfg(feature = "ws")]
            finishing: false,
            dropped: 0,
            feeds: Vec::new(),
            homes: Vec::new(),
            reader: None,
        };
        Arc::new(Self { id, peer_addr, limits, transport, inner: Mutex::new(inner) })
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.id
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }

    /// Returns the runtime that drives the connection, if one does.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.transport.runtime()
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.inner).state
    }

    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.inner).dropped
    }

    /// Sends a frame behind all that was sent before, group messages included.
    pub(crate) fn send(self: &Arc<Self>, frame: &Frame) -> Result<(), SendError> {
        let outcome = self.locked(|access| {
            access.catch_up();
            access.push(frame.bytes().clone())
        });
        match outcome {
            Outcome::Written | Outcome::Queued => Ok(()),
            Outcome::Dropped => Err(SendError::Closed),
            Outcome::Overflowed => Err(SendError::Overflow),
        }
    }

    /// Answers a ping, ahead of what waits in groups.
    ///
    /// A client whose outbox is full gets no answer: one that pings and never reads would grow it
    /// without end, and not every ping needs a pong of its own (RFC 6455, section 5.5.3).
    #[cfg(feature = "ws")]
    pub(crate) fn send_pong(self: &Arc<Self>, payload: &[u8]) {
        let pong = Frame::pong(payload).bytes().clone();
        self.locked(|access| {
            if access.inner.outbox.is_empty() {
                access.push_control(pong);
            } else if access.inner.state == State::Open {
                access.inner.outbox.push(pong, &self.limits);
            }
        });
    }

    /// Begins the close handshake behind all that was sent before; false when it was begun already.
    pub(crate) fn close(self: &Arc<Self>, code: u16, reason: &str) -> bool {
        self.locked(|access| {
            access.catch_up();
            access.close(code, reason)
        })
    }

    /// Ends the connection now.
    pub(crate) fn die(self: &Arc<Self>) {
        self.locked(|access| access.die());
    }

    /// Writes what waits. Returns whether the sink pushed back once more; if not, nobody has to come again.
    pub(crate) fn flush(self: &Arc<Self>) -> bool {
        self.locked(|access| {
            access.flush();
            let blocked = !access.inner.outbox.is_empty();
            access.inner.flusher = blocked;
            blocked
        })
    }

    /// Tells the peer that nothing more will come, as soon as nothing waits.
    #[cfg(feature = "ws")]
    pub(crate) fn finish_when_empty(&self) {
        let finish = {
            let mut inner = lock(&self.inner);
            let finish = inner.outbox.is_empty() && !inner.finishing;
            inner.finishing |= finish;
            finish
        };
        if finish {
            self.transport.finish_writing();
        }
    }

    /// Resolves when nothing waits, or never will go out.
    #[cfg(feature = "ws")]
    pub(crate) fn poll_empty(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_state(cx);
        if lock(&self.inner).outbox.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns the front piece for a writer that waits: it stays in the outbox until it is out.
    #[cfg(feature = "ws")]
    pub(crate) fn begin_front(&self) -> Option<Bytes> {
        let mut inner = lock(&self.inner);
        let front = inner.outbox.begin_front();
        // From here on a push must call the writer again.
        inner.flusher = front.is_some();
        front
    }

    /// The front piece is out.
    #[cfg(feature = "ws")]
    pub(crate) fn wrote_front(self: &Arc<Self>, written: usize) {
        self.locked(|access| access.inner.outbox.advance(written));
    }

    /// Tells whether no more than what waits will ever be written.
    #[cfg(feature = "ws")]
    pub(crate) fn is_over(&self) -> bool {
        let inner = lock(&self.inner);
        inner.state == State::Dead || inner.finishing
    }

    #[cfg(feature = "ws")]
    pub(crate) fn is_dead(&self) -> bool {
        self.state() == State::Dead
    }

    /// Runs `deliver` with the right to push: how a sweep hands over a batch.
    pub(crate) fn deliver<R>(self: &Arc<Self>, deliver: impl FnOnce(&mut dyn FnMut(Bytes) -> Outcome) -> R) -> R {
        self.locked(|access| deliver(&mut |bytes| access.push(bytes)))
    }

    /// Adds the feed that `open` makes, given those that there are; `None` when the channel is closed.
    pub(crate) fn add_feed<F: Feed, E>(
        &self,
        open: impl FnOnce(&[Arc<dyn Feed>]) -> Result<Arc<F>, E>,
    ) -> Option<Result<Arc<F>, E>> {
        let mut inner = lock(&self.inner);
        if inner.state != State::Open {
            return None;
        }
        let feed = open(&inner.feeds);
        if let Ok(feed) = &feed {
            inner.feeds.push(Arc::clone(feed) as Arc<dyn Feed>);
        }
        Some(feed)
    }

    pub(crate) fn find_feed(&self, is_it: impl Fn(&dyn Feed) -> bool) -> Option<Arc<dyn Feed>> {
        lock(&self.inner).feeds.iter().find(|feed| is_it(&***feed)).cloned()
    }

    /// Ends a feed; false when it has ended before.
    pub(crate) fn end_feed(self: &Arc<Self>, feed: &Arc<dyn Feed>) -> bool {
        self.locked(|access| {
            let Some(at) = access.inner.feeds.iter().position(|known| Arc::ptr_eq(known, feed)) else { return false };
            let feed = access.inner.feeds.swap_remove(at);
            feed.leave(&mut |bytes| access.push(bytes));
            true
        })
    }

    /// Makes `home` forget this channel when it ends.
    pub(crate) fn add_home(&self, home: Weak<dyn Home>) {
        let mut inner = lock(&self.inner);
        if !inner.homes.iter().any(|known| Weak::ptr_eq(known, &home)) {
            inner.homes.push(home);
        }
    }

    /// Ends all feeds and leaves all homes: the channel is no more.
    pub(crate) fn retire(self: &Arc<Self>) {
        let homes = self.locked(|access| {
            for feed in std::mem::take(&mut access.inner.feeds) {
                feed.leave(&mut |bytes| access.push(bytes));
            }
            std::mem::take(&mut access.inner.homes)
        });
        homes.iter().filter_map(Weak::upgrade).for_each(|home| home.forget(self.id));
    }

    /// Returns the state, and has `cx` woken when it changes.
    pub(crate) fn poll_state(&self, cx: &Context<'_>) -> State {
        let mut inner = lock(&self.inner);
        if !inner.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        inner.state
    }

    /// Runs `act` under the lock, then wakes whom it concerns without it.
    fn locked<R>(self: &Arc<Self>, act: impl FnOnce(&mut Access<'_>) -> R) -> R {
        let inner = lock(&self.inner);
        let before = (inner.state, inner.outbox.is_empty());
        let mut access = Access { inner, out: self, wrote: false };
        let result = act(&mut access);
        let Access { mut inner, wrote, .. } = access;
        // The reader looks at the state, and at the end of a connection whether all is out.
        let is_news = inner.state != before.0 || (inner.state == State::Closing && inner.outbox.is_empty() != before.1);
        let reader = if is_news { inner.reader.take() } else { None };
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
        if wrote {
            self.transport.notify();
        }
        result
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The right to write, as long as the lock is held.
struct Access<'a> {
    inner: MutexGuard<'a, Inner>,
    out: &'a Arc<Out>,
    wrote: bool,
}

impl Access<'_> {
    /// Passes on what waits in the logs of this connection's groups.
    fn catch_up(&mut self) {
        // Taken out for the walk: a feed pushes through `self`. Nobody else can look meanwhile.
        let feeds = std::mem::take(&mut self.inner.feeds);
        for feed in &feeds {
            feed.catch_up(&mut |bytes| self.push(bytes));
        }
        self.inner.feeds = feeds;
    }

    fn push(&mut self, bytes: Bytes) -> Outcome {
        if self.inner.state != State::Open {
            self.inner.dropped += 1;
            return Outcome::Dropped;
        }
        if self.inner.outbox.is_empty() {
            return self.write_or_queue(bytes);
        }
        if self.inner.outbox.push(bytes, &self.out.limits) {
            return Outcome::Queued;
        }
        let waiting = self.inner.outbox.drop_waiting() as u64;
        self.inner.dropped += waiting + 1;
        self.close(TRY_AGAIN_LATER, "client reads too slowly");
        Outcome::Overflowed
    }

    fn push_control(&mut self, bytes: Bytes) -> Outcome {
        if self.inner.state == State::Dead {
            return Outcome::Dropped;
        }
        if self.inner.outbox.is_empty() {
            return self.write_or_queue(bytes);
        }
        self.inner.outbox.push_control(bytes);
        Outcome::Queued
    }

    fn close(&mut self, code: u16, reason: &str) -> bool {
        if self.inner.state != State::Open {
            return false;
        }
        self.push_control(Frame::close(code, reason).bytes().clone());
        if self.inner.state == State::Open {
            self.inner.state = State::Closing;
        }
        true
    }

    fn die(&mut self) {
        if self.inner.state != State::Dead {
            self.inner.state = State::Dead;
            self.inner.outbox.clear();
            self.out.transport.shut_down();
        }
    }

    /// Writes to the sink what it takes, and queues the rest. The outbox is empty.
    fn write_or_queue(&mut self, mut bytes: Bytes) -> Outcome {
        match self.write(&bytes) {
            None => Outcome::Dropped,
            Some(written) if written == bytes.len() => Outcome::Written,
            Some(written) => {
                // A slice: what waits shares the bytes with every other connection.
                self.inner.outbox.push_rest(bytes.split_off(written), written > 0);
                if !self.inner.flusher {
                    self.inner.flusher = true;
                    self.out.transport.await_room(Arc::downgrade(self.out));
                }
                Outcome::Queued
            }
        }
    }

    fn flush(&mut self) {
        while let Some(front) = self.inner.outbox.front().cloned() {
            let Some(written) = self.write(&front) else { return };
            self.inner.outbox.advance(written);
            if written < front.len() {
                return;
            }
        }
    }

    /// Writes until the sink pushes back; `None` when the connection broke.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.transport.try_write(&bytes[written..]) {
                Ok(0) => return self.broken(),
                Ok(n) => {
                    written += n;
                    self.wrote = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.broken(),
            }
        }
        Some(written)
    }

    #[cold]
    fn broken(&mut self) -> Option<usize> {
        self.die();
        None
    }
}

/// Received messages, one after the other.
pub(crate) trait Inbox: Send + Sync {
    /// Returns the next message; `None` after the end. Dropping the caller's future loses nothing.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<super::Message, super::RecvError>>>;
}

#[cfg(all(test, feature = "ws"))]
mod tests {
    use super::*;

    /// A socket whose client reads nothing.
    struct Stalled;

    impl Transport for Stalled {
        fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn await_room(&self, _out: Weak<Out>) {}

        fn shut_down(&self) {}
    }

    #[test]
    fn a_client_that_pings_and_never_reads_does_not_grow_its_outbox() {
        let limits = OutboxLimits { bytes: 1000, messages: 10 };
        let out = Out::new(ChannelId::next(), None, limits, Box::new(Stalled));
        for _ in 0..10_000 {
            out.send_pong(&[7; 125]);
        }
        assert_eq!(lock(&out.inner).outbox.len(), 1000 / 127);
        assert_eq!(out.state(), State::Open);
        assert!(out.close(NORMAL, ""), "a close goes out whatever waits");
        assert_eq!(lock(&out.inner).outbox.len(), 1000 / 127 + 1);
    }
}
