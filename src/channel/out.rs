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
//! **Counts.** A message that this connection is given is, at any time, exactly one of: written,
//! waiting, dropped. Control frames are none of them.
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
use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::runtime::Handle;

use super::ChannelId;
use super::error::SendError;
use super::outbox::{Outbox, OutboxLimits, Overflow, Rule};
use super::waitlist::{Ticket, Waitlist};
use crate::frame::Frame;
use crate::sync::{Arc, Mutex, MutexGuard, Weak, lock};

/// Close codes of RFC 6455, section 7.4.1, and of the registry it made.
pub(crate) const NORMAL: u16 = 1000;
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;

/// The sending half of one connection.
///
/// In this order, and `Inner` in its own: a sweep over many connections waits for memory more than for
/// anything else of ours, so what it touches of each lies together.
#[repr(C)]
pub(crate) struct Out {
    inner: Mutex<Inner>,
    /// Of the terms, beside what is touched with it.
    deflates: bool,
    id: ChannelId,
    terms: Terms,
}

/// What is settled about a connection before it begins.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) limits: OutboxLimits,
    /// The client takes compressed frames.
    pub(crate) deflates: bool,
    /// Drives the connection, if one does.
    pub(crate) runtime: Option<Handle>,
}

#[repr(C)]
struct Inner {
    state: State,
    /// `None` when the connection is dead.
    transport: Option<Arc<dyn Transport>>,
    written: u64,
    outbox: Outbox,
    dropped: u64,
    feeds: Vec<Arc<dyn Feed>>,
    homes: Vec<Weak<dyn Home>>,
    /// The task that reads, keeps time, and flushes when there is room again.
    driver: Option<Waker>,
    /// Who waits until nothing waits, or for the end.
    watchers: Waitlist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closing,
    Dead,
}

/// How far a connection has come with what had to wait.
#[cfg(feature = "ws")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Bytes that have gone out after they had to wait, since the beginning.
    pub(crate) taken: u64,
    /// Nothing waits.
    pub(crate) is_empty: bool,
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

/// Counts what became of the messages for one client. At any time their sum is what was sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Messages that the kernel has taken whole. Whether the client has read them is not known.
    pub written: u64,
    /// Messages that wait in the outbox.
    pub waiting: usize,
    /// The bytes of those, framing and control frames included.
    pub waiting_bytes: usize,
    /// Messages that were refused because the channel was closed or its outbox full, dropped from the
    /// outbox for newer ones, or lost in it with the connection.
    pub dropped: u64,
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

/// A non-blocking byte sink.
pub(crate) trait Transport: Send + Sync {
    /// Writes what the sink takes now; `WouldBlock` when that is nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// As `try_write`, from several pieces.
    fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.try_write(pieces.first().map_or(&[], |piece| piece))
    }

    /// The sink has pushed back, and the outbox is no longer empty. The driver is woken in any case; one
    /// that cannot see for itself when there is room has [`Out::flush`] called by other means.
    fn await_room(&self, _out: Weak<Out>) {}

    /// Ends the connection in both directions, so that its reader wakes.
    fn shut_down(&self);

    /// Returns who is to be told that something was written, or waits for room.
    fn far_waker(&self) -> Option<Waker> {
        None
    }
}

/// Where messages for this connection wait beside the outbox: the log of a group.
pub(crate) trait Feed: Any + Send + Sync {
    /// Passes on what this connection has not had yet.
    fn catch_up(&self, access: &mut Access<'_>);

    /// As `catch_up`, and ends the feed.
    fn leave(&self, access: &mut Access<'_>);

    /// Clears up behind `leave`. Called without the lock.
    fn left(&self);
}

/// Who knows a channel by its id.
pub(crate) trait Home: Send + Sync {
    fn forget(&self, id: ChannelId);
}

impl Out {
    pub(crate) fn new(terms: Terms, transport: Arc<dyn Transport>) -> Arc<Self> {
        let inner = Inner {
            state: State::Open,
            outbox: Outbox::default(),
            transport: Some(transport),
            written: 0,
            dropped: 0,
            feeds: Vec::new(),
            homes: Vec::new(),
            driver: None,
            watchers: Waitlist::default(),
        };
        Arc::new(Self { inner: Mutex::new(inner), deflates: terms.deflates, id: ChannelId::next(), terms })
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.id
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.terms.peer_addr
    }

    /// Tells whether the client takes compressed frames.
    pub(crate) fn deflates(&self) -> bool {
        self.deflates
    }

    /// Returns the runtime that drives the connection, if one does.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.terms.runtime.as_ref()
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.inner).state
    }

    pub(crate) fn counts(&self) -> OutboxCounts {
        let inner = lock(&self.inner);
        let (waiting, waiting_bytes) = (inner.outbox.messages(), inner.outbox.bytes());
        #[cfg(fault = "torn_counts")]
        let inner = {
            drop(inner);
            lock(&self.inner)
        };
        OutboxCounts { written: inner.written, waiting, waiting_bytes, dropped: inner.dropped }
    }

    /// Sends a frame behind all that was sent before, group messages included.
    pub(crate) fn send(self: &Arc<Self>, frame: &Frame, key: Option<&Arc<str>>) -> Result<(), SendError> {
        // Compressed now, if nobody did: not under the lock.
        self.wire(frame);
        let outcome = self.locked(|access| {
            if !cfg!(fault = "no_catch_up") {
                access.catch_up();
            }
            access.push(frame, &Route { source: 0, overflow: None, key })
        });
        match outcome {
            Outcome::Written | Outcome::Queued => Ok(()),
            Outcome::Closed => Err(SendError::Closed),
            Outcome::Full => Err(SendError::Full),
            Outcome::Overflowed => Err(SendError::Overflow),
        }
    }

    /// Answers a ping, ahead of what waits in groups.
    #[cfg(feature = "ws")]
    pub(crate) fn send_pong(self: &Arc<Self>, payload: &[u8]) {
        let pong = Frame::pong(payload).bytes().clone();
        self.locked(|access| match access.inner.state {
            State::Open if access.inner.outbox.is_empty() => access.push_control(pong),
            State::Open => access.inner.outbox.append_pong(pong),
            State::Closing | State::Dead => {}
        });
    }

    /// Asks whether the peer is there. The caller waits for an answer before it asks again.
    #[cfg(feature = "ws")]
    pub(crate) fn send_ping(self: &Arc<Self>) {
        self.locked(|access| {
            if access.inner.state == State::Open {
                access.push_control(Frame::ping().bytes().clone());
            }
        });
    }

    /// Begins the close handshake behind all that was sent before; false when it was begun already.
    pub(crate) fn close(self: &Arc<Self>, code: u16, reason: &str) -> bool {
        self.locked(|access| {
            if !cfg!(fault = "close_no_catch_up") {
                access.catch_up();
            }
            access.close(code, reason)
        })
    }

    /// Ends the connection now.
    pub(crate) fn die(self: &Arc<Self>) {
        self.locked(|access| access.die());
    }

    /// Writes what waits, as far as the sink takes it; true when it pushed back once more.
    pub(crate) fn flush(self: &Arc<Self>) -> bool {
        self.locked(|access| {
            access.flush();
            access.inner.state != State::Dead && !access.inner.outbox.is_empty()
        })
    }

    #[cfg(feature = "ws")]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).outbox.is_empty()
    }

    #[cfg(feature = "ws")]
    pub(crate) fn progress(&self) -> Progress {
        let inner = lock(&self.inner);
        Progress { taken: inner.outbox.taken(), is_empty: inner.outbox.is_empty() }
    }

    /// Hands what waits, about `most` bytes of it, to a writer that will wait until it is out.
    #[cfg(feature = "ws")]
    pub(crate) fn stage(&self, most: usize) -> Option<Bytes> {
        lock(&self.inner).outbox.stage(most)
    }

    /// All that was staged is out.
    #[cfg(feature = "ws")]
    pub(crate) fn staged_out(self: &Arc<Self>) {
        self.locked(|access| access.inner.written += access.inner.outbox.staged_out() as u64);
    }

    /// Resolves when nothing waits here or in the logs of this connection's groups, or never will go out.
    ///
    /// Whoever drops the future that polls this, or the next, calls [`unwatch`](Self::unwatch).
    pub(crate) fn poll_drained(self: &Arc<Self>, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        #[cfg(fault = "late_watcher")]
        if !lock(&self.inner).outbox.is_empty() {
            return self.locked(|access| access.watch(ticket, cx, |_| false));
        }
        self.locked(|access| {
            access.catch_up();
            access.watch(ticket, cx, |inner| inner.outbox.is_empty())
        })
    }

    /// Resolves when the connection is over.
    pub(crate) fn poll_closed(self: &Arc<Self>, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        self.locked(|access| access.watch(ticket, cx, |inner| inner.state == State::Dead))
    }

    /// Forgets who polled with this ticket.
    pub(crate) fn unwatch(&self, ticket: Ticket) {
        lock(&self.inner).watchers.remove(ticket);
    }

    /// Runs `deliver` with the right to push: how a sweep hands over what a member has not had.
    pub(crate) fn deliver<R>(self: &Arc<Self>, deliver: impl FnOnce(&mut Access<'_>) -> R) -> R {
        self.locked(deliver)
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
        let left = self.locked(|access| {
            let at = access.inner.feeds.iter().position(|known| Arc::ptr_eq(known, feed))?;
            let feed = access.inner.feeds.swap_remove(at);
            feed.leave(access);
            Some(feed)
        });
        left.inspect(|feed| feed.left()).is_some()
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
        let (feeds, homes) = self.locked(|access| {
            let feeds = std::mem::take(&mut access.inner.feeds);
            feeds.iter().for_each(|feed| feed.leave(access));
            (feeds, std::mem::take(&mut access.inner.homes))
        });
        feeds.iter().for_each(|feed| feed.left());
        homes.iter().filter_map(Weak::upgrade).for_each(|home| home.forget(self.id));
    }

    /// Returns the state, and has the driver woken when it changes or the sink is to be flushed.
    pub(crate) fn poll_state(&self, cx: &Context<'_>) -> State {
        let mut inner = lock(&self.inner);
        if !inner.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            inner.driver = Some(cx.waker().clone());
        }
        inner.state
    }

    /// Returns the bytes of a frame as this client is to get them.
    pub(crate) fn wire<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        frame.wire(self.deflates)
    }

    /// Runs `act` under the lock, then wakes whom it concerns without it.
    fn locked<R>(self: &Arc<Self>, act: impl FnOnce(&mut Access<'_>) -> R) -> R {
        let inner = lock(&self.inner);
        let before = (inner.state, inner.outbox.is_empty());
        let mut access = Access { inner, out: self, tell_far: false };
        let result = act(&mut access);
        let Access { mut inner, tell_far, .. } = access;
        let mut wakes = SmallVec::<[Waker; 2]>::new();
        if (inner.state, inner.outbox.is_empty()) != before {
            inner.note_change(before, &mut wakes);
        }
        if tell_far {
            wakes.extend(inner.transport.as_ref().and_then(|transport| transport.far_waker()));
        }
        drop(inner);
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

impl Inner {
    /// Collects whom the change from `before` concerns.
    #[cold]
    fn note_change(&mut self, before: (State, bool), wakes: &mut SmallVec<[Waker; 2]>) {
        let empty = self.outbox.is_empty();
        // The driver flushes what waits, and at the end of a connection waits until all is out.
        let concerns_driver = self.state != before.0 || !empty || self.state == State::Closing;
        if concerns_driver && !cfg!(fault = "driver_not_told") {
            wakes.extend(self.driver.take());
        }
        if self.state == State::Dead || empty {
            wakes.extend(self.watchers.take_all());
        }
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The right to write, as long as the lock is held.
pub(crate) struct Access<'a> {
    inner: MutexGuard<'a, Inner>,
    out: &'a Arc<Out>,
    /// Something was written, or asks for room.
    tell_far: bool,
}

impl Access<'_> {
    /// Sends a message.
    pub(crate) fn push(&mut self, frame: &Frame, route: &Route<'_>) -> Outcome {
        if self.inner.state != State::Open {
            self.inner.dropped += 1;
            return Outcome::Closed;
        }
        let bytes = self.out.wire(frame);
        if !self.inner.outbox.is_empty() && !cfg!(fault = "overtake") {
            return self.queue(bytes.clone(), route);
        }
        match self.write(bytes) {
            None => self.lose(),
            Some(written) if written == bytes.len() => {
                self.inner.written += 1;
                Outcome::Written
            }
            Some(written) => self.queue_rest(bytes, written, route),
        }
    }

    /// Sends many frames that were joined into one piece; true when all of it was written, which is
    /// the common case. Otherwise `note` hears of each frame, in order.
    pub(crate) fn push_joined<'f>(
        &mut self,
        joined: &[u8],
        frames: impl ExactSizeIterator<Item = (&'f Frame, Route<'f>)>,
        mut note: impl FnMut(Outcome),
    ) -> bool {
        let mut written = 0;
        if self.inner.state == State::Open && self.inner.outbox.is_empty() {
            written = self.write(joined).unwrap_or(0);
            if written == joined.len() {
                self.inner.written += frames.len() as u64;
                return true;
            }
        }
        for (frame, route) in frames {
            let bytes = self.out.wire(frame);
            let part = written.min(bytes.len());
            written -= part;
            note(match part {
                0 => self.push_behind(bytes, &route),
                _ if part == bytes.len() => {
                    self.inner.written += 1;
                    Outcome::Written
                }
                _ => self.queue_rest(bytes, part, &route),
            });
        }
        false
    }

    /// Queues a message of a run whose writing has come to an end before it.
    fn push_behind(&mut self, bytes: &Bytes, route: &Route<'_>) -> Outcome {
        if self.inner.state != State::Open { self.lose() } else { self.queue(bytes.clone(), route) }
    }

    /// Passes on what waits in the logs of this connection's groups.
    fn catch_up(&mut self) {
        // Taken out for the walk: a feed pushes through `self`. Nobody else can look meanwhile.
        let feeds = std::mem::take(&mut self.inner.feeds);
        feeds.iter().for_each(|feed| feed.catch_up(self));
        self.inner.feeds = feeds;
    }

    #[cold]
    fn lose(&mut self) -> Outcome {
        self.inner.dropped += 1;
        Outcome::Closed
    }

    /// Puts a message behind what waits, as its rule allows.
    #[cold]
    fn queue(&mut self, bytes: Bytes, route: &Route<'_>) -> Outcome {
        let overflow = route.overflow.unwrap_or(self.out.terms.limits.overflow);
        let was_empty = self.inner.outbox.is_empty();
        let offered = self.inner.outbox.offer(bytes, route.rule(overflow), &self.out.terms.limits);
        self.inner.dropped += offered.evicted as u64;
        if offered.taken {
            if was_empty {
                self.await_room();
            }
            return Outcome::Queued;
        }
        self.inner.dropped += 1;
        if overflow != Overflow::Close {
            return Outcome::Full;
        }
        self.inner.dropped += self.inner.outbox.drop_waiting() as u64;
        self.close(TRY_AGAIN_LATER, "client reads too slowly");
        Outcome::Overflowed
    }

    /// Queues a message whose first `written` bytes the sink has taken; the outbox is empty.
    #[cold]
    fn queue_rest(&mut self, bytes: &Bytes, written: usize, route: &Route<'_>) -> Outcome {
        if written == 0 {
            return self.queue(bytes.clone(), route);
        }
        let overflow = route.overflow.unwrap_or(self.out.terms.limits.overflow);
        // A slice: what waits shares the bytes with every other connection.
        self.inner.outbox.append_rest(bytes.slice(written..), route.rule(overflow));
        self.await_room();
        Outcome::Queued
    }

    fn push_control(&mut self, mut bytes: Bytes) {
        if self.inner.state == State::Dead {
            return;
        }
        if !self.inner.outbox.is_empty() {
            return self.inner.outbox.append(bytes, Rule::Control);
        }
        let Some(written) = self.write(&bytes) else { return };
        if written < bytes.len() {
            match written {
                0 => self.inner.outbox.append(bytes, Rule::Control),
                _ => self.inner.outbox.append_rest(bytes.split_off(written), Rule::Control),
            }
            self.await_room();
        }
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
        self.inner.state = State::Dead;
        self.inner.dropped += self.inner.outbox.clear() as u64;
        if let Some(transport) = self.inner.transport.take() {
            transport.shut_down();
        }
    }

    /// Ready when `is_so` or the connection is over; otherwise `cx` is woken when either may have changed.
    fn watch(&mut self, ticket: Ticket, cx: &Context<'_>, is_so: impl Fn(&Inner) -> bool) -> Poll<()> {
        if self.inner.state == State::Dead || is_so(&self.inner) {
            return Poll::Ready(());
        }
        self.inner.watchers.put(ticket, cx.waker());
        Poll::Pending
    }

    fn await_room(&mut self) {
        // Also when nothing was written: who makes room may have looked after the sink pushed back and before this.
        self.tell_far |= !cfg!(fault = "flusher_not_told");
        if let Some(transport) = &self.inner.transport
            && !cfg!(fault = "lost_flusher")
        {
            transport.await_room(Arc::downgrade(self.out));
        }
    }

    fn flush(&mut self) {
        while !self.inner.outbox.is_empty() {
            match self.write_front() {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return self.await_room(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.await_room(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.die(),
            }
        }
    }

    /// Writes the front of the outbox, many frames in one call; breaks when the sink took only a part.
    fn write_front(&mut self) -> io::Result<ControlFlow<()>> {
        let Inner { outbox, transport, .. } = &mut *self.inner;
        let Some(transport) = transport else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let slices = outbox.slices();
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = transport.try_write_vectored(&slices)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        drop(slices);
        self.tell_far = true;
        self.inner.written += self.inner.outbox.advance(written) as u64;
        Ok(if written < offered { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Writes until the sink pushes back, and returns how much that was; `None` when the connection broke.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.inner.transport.as_ref()?.try_write(&bytes[written..]) {
                Ok(0) => return self.broken(),
                Ok(n) => {
                    written += n;
                    self.tell_far = true;
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

impl Route<'_> {
    fn rule(&self, overflow: Overflow) -> Rule {
        match overflow {
            Overflow::Close | Overflow::DropNewest => Rule::Keep,
            Overflow::DropOldest => Rule::Yield,
            // What is sent to one channel without a key is a value of its own.
            Overflow::Conflate if self.source == 0 && self.key.is_none() => Rule::Yield,
            Overflow::Conflate => Rule::Replace((self.source, self.key.cloned())),
        }
    }
}

/// Received messages, one after the other. Told of its channel's end by being dropped.
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

        fn shut_down(&self) {}
    }

    #[test]
    fn a_client_that_pings_and_never_reads_does_not_grow_its_outbox() {
        let out = Out::new(Terms::default(), Arc::new(Stalled));
        for _ in 0..10_000 {
            out.send_pong(&[7; 125]);
        }
        // The first one went where there was nothing else to go before.
        assert_eq!(out.counts().waiting_bytes, 2 * 127);
        assert_eq!(out.state(), State::Open);
        assert!(out.close(NORMAL, ""), "a close goes out whatever waits");
        assert_eq!(out.counts(), OutboxCounts { waiting_bytes: 2 * 127 + 4, ..OutboxCounts::default() });
    }
}
