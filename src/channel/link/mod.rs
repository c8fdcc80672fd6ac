//! [`Link`]: the sending half of a connection. Every byte to a client's socket goes through it.
//!
//! **Write rule.** A link has one short lock over the outbox and the state. It is held over a non-blocking write, never
//! over an await or user code. While the outbox is not empty every writer appends to it, so no frame overtakes another,
//! and none is torn.
//!
//! **Order rule.** Group messages wait in logs, not in outboxes ([`Feed`]). A caller that writes a frame of its own
//! first catches the connection up with all its feeds, under the same lock. So messages that one caller sends to a
//! group and then to a channel arrive in that order. Locks are taken in one order: `Link`, then a feed's log.
//!
//! **Counts.** At any time every message to this connection is exactly one of: written, waiting, dropped. Control
//! frames are not counted.

mod access;
mod life;
pub(super) mod outbox;
pub(super) mod port;
mod state;
mod waitlist;

use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

#[cfg(feature = "ws")]
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::time::Instant;

#[cfg(feature = "ws")]
use life::End;
use life::Life;
use outbox::Outbox;
use port::Flush;
use state::Inner;

use super::error::SendError;
use super::identity::ChannelId;
use super::options::ChannelOptions;
use crate::clock::Moment;
use crate::frame::Frame;
use crate::frame::close_code::CloseCode;
use crate::observe::channels::{Notes, OpenChannel, To, Why, delivered};
use crate::sync::{Arc, Mutex, Weak, lock};

pub use outbox::{OutboxCounts, OutboxLimits, Overflow};
#[cfg(feature = "ws")]
pub(crate) use port::Refresh;
pub(crate) use port::{Home, Inbox, Outcome, Route, Transport};
pub(crate) use state::{Access, Feed, Link, LinkState, Terms};
pub(crate) use waitlist::{Ticket, Waitlist};

impl Link {
    pub(crate) fn new(terms: Terms, transport: Arc<dyn Transport>) -> Arc<Self> {
        let life = Life::of(terms.options.idle_timeout, terms.options.lifetime);
        let id = ChannelId::next();
        let inner = Inner {
            state: LinkState::Open,
            mortal: life.is_some(),
            life,
            outbox: Outbox::default(),
            transport: Some(transport),
            written: 0,
            dropped: 0,
            feeds: Vec::new(),
            homes: Vec::new(),
            retired: false,
            revoked: false,
            driver: None,
            watchers: Waitlist::default(),
            open: OpenChannel::new(id, terms.peer_addr),
        };
        Arc::new(Self { inner: Mutex::new(inner), deflates: terms.deflates, id, created: SystemTime::now(), terms })
    }

    pub(crate) fn id(&self) -> ChannelId {
        self.id
    }

    /// Returns the moment when the server identified the channel's user. The moment of a later revocation is greater.
    pub(crate) fn identified(&self) -> Moment {
        self.terms.options.identified.unwrap_or(self.id.birth())
    }

    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        self.terms.peer_addr
    }

    pub(crate) fn created(&self) -> SystemTime {
        self.created
    }

    pub(crate) fn options(&self) -> &ChannelOptions {
        &self.terms.options
    }

    /// Changes how long the channel lives, and wakes the driver to set its timer again.
    pub(crate) fn change_life(&self, change: impl FnOnce(&mut Life)) {
        let driver = {
            let mut inner = lock(&self.inner);
            change(inner.life.get_or_insert_default());
            inner.mortal = true;
            inner.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Restarts the idle timeout; returns false when the channel is closed.
    pub(crate) fn touch(self: &Arc<Self>) -> bool {
        self.locked(|access| {
            if access.inner.mortal {
                access.expire();
                if let Some(life) = &mut access.inner.life {
                    life.touch(Instant::now());
                }
            }
            access.inner.state == LinkState::Open
        })
    }

    /// Returns when and how the channel ends by itself, if it does.
    #[cfg(feature = "ws")]
    pub(crate) fn end(&self) -> Option<End> {
        lock(&self.inner).life.as_ref()?.end()
    }

    /// Closes the channel if its time is over, behind all messages sent before.
    pub(crate) fn expire(self: &Arc<Self>) {
        self.locked(|access| {
            if access.inner.mortal {
                access.catch_up();
                access.expire();
            }
        });
    }

    /// Returns whether the client takes compressed frames.
    pub(crate) fn deflates(&self) -> bool {
        self.deflates
    }

    /// Returns the runtime that drives the connection, if one does.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.terms.runtime.as_ref()
    }

    pub(crate) fn state(&self) -> LinkState {
        lock(&self.inner).state
    }

    pub(crate) fn is_active(&self) -> bool {
        let inner = lock(&self.inner);
        inner.state == LinkState::Open
            && inner.life.as_ref().and_then(|life| life.end()).is_none_or(|end| end.at > Instant::now())
    }

    pub(crate) fn counts(&self) -> OutboxCounts {
        let inner = lock(&self.inner);
        let (waiting, waiting_bytes) = (inner.outbox.messages(), inner.outbox.bytes());
        OutboxCounts { written: inner.written, waiting, waiting_bytes, dropped: inner.dropped }
    }

    /// Sends a frame behind all messages sent before, including group messages.
    pub(crate) fn send(self: &Arc<Self>, frame: &Frame, key: Option<&Arc<str>>) -> Result<(), SendError> {
        // Compresses the frame now, if it is not compressed yet, since the lock is not held.
        self.wire(frame);
        let outcome = self.locked(|access| {
            access.catch_up();
            access.push(frame, &Route { source: 0, overflow: None, key })
        });
        delivered(To::Channel, || match outcome {
            Outcome::Written => [1, 0, 0],
            Outcome::Queued => [0, 1, 0],
            Outcome::Full | Outcome::Overflowed | Outcome::Closed => [0, 0, 1],
        });
        match outcome {
            Outcome::Written | Outcome::Queued => Ok(()),
            Outcome::Closed => Err(SendError::Closed),
            Outcome::Full => Err(SendError::Full),
            Outcome::Overflowed => Err(SendError::Overflow),
        }
    }

    /// Sends a frame as `send` does, unless `is_void` returns true under the lock.
    pub(crate) fn send_unless(self: &Arc<Self>, is_void: impl FnOnce() -> bool, frame: &Frame) {
        self.wire(frame);
        self.locked(|access| {
            if !is_void() {
                access.catch_up();
                access.push(frame, &Route::default());
            }
        });
    }

    /// Answers a ping, ahead of messages that wait in the logs of groups.
    #[cfg(feature = "ws")]
    pub(crate) fn send_pong(self: &Arc<Self>, payload: &[u8]) {
        let pong = Frame::pong(payload).bytes().clone();
        self.locked(|access| match access.inner.state {
            LinkState::Open if access.inner.outbox.is_empty() => access.push_control(pong),
            LinkState::Open => access.inner.outbox.append_pong(pong),
            LinkState::Closing | LinkState::Dead => {}
        });
    }

    /// Sends a ping. The caller waits for the pong before it sends another.
    #[cfg(feature = "ws")]
    pub(crate) fn send_ping(self: &Arc<Self>) {
        self.locked(|access| {
            if access.inner.state == LinkState::Open {
                access.push_control(Frame::ping().bytes().clone());
            }
        });
    }

    /// Begins the close handshake behind all messages sent before; returns false when it had begun already.
    pub(crate) fn close(self: &Arc<Self>, code: CloseCode, reason: &str) -> bool {
        self.locked(|access| {
            access.catch_up();
            access.close(code, reason)
        })
    }

    /// Closes the channel of a revoked user, and drops all messages that wait in the outbox or in the logs of groups.
    pub(crate) fn revoke(self: &Arc<Self>, reason: &str) {
        self.locked(|access| {
            access.inner.revoked = true;
            access.drop_waiting(Why::Revoked);
            access.close(CloseCode::REVOKED, reason);
        });
    }

    pub(crate) fn is_revoked(&self) -> bool {
        lock(&self.inner).revoked
    }

    /// Ends the connection now.
    pub(crate) fn die(self: &Arc<Self>) {
        self.locked(|access| access.die());
    }

    /// Writes the outbox, as far as the sink takes it; returns true when the sink pushed back again.
    pub(crate) fn flush(self: &Arc<Self>) -> bool {
        self.locked(|access| {
            access.flush();
            access.inner.state != LinkState::Dead && !access.inner.outbox.is_empty()
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

    /// Hands about `most` bytes of the outbox to a writer that waits until they are out.
    #[cfg(feature = "ws")]
    pub(crate) fn stage(&self, most: usize) -> Option<Bytes> {
        lock(&self.inner).outbox.stage(most)
    }

    /// Counts all staged bytes as written.
    #[cfg(feature = "ws")]
    pub(crate) fn staged_out(self: &Arc<Self>) {
        self.locked(|access| access.inner.written += access.inner.outbox.staged_out() as u64);
    }

    /// Returns ready when no message waits in the outbox or in the logs of this connection's groups, or the connection
    /// is over.
    ///
    /// A future that polls this or [`poll_closed`](Self::poll_closed) calls [`unwatch`](Self::unwatch) when it is
    /// dropped. Other threads may send or write meanwhile; the lock puts them in order:
    ///
    /// 1. The outbox was emptied before this call: it is ready.
    /// 2. It is emptied after this call: the registered waker is woken, see `watch`.
    /// 3. A group message is appended after the catch-up. This call does not wait for it. If the future is polled
    ///    again, the next catch-up passes the message on.
    pub(crate) fn poll_drained(self: &Arc<Self>, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        self.locked(|access| {
            access.catch_up();
            access.watch(ticket, cx, |inner| inner.outbox.is_empty())
        })
    }

    /// Returns ready when the connection is over.
    pub(crate) fn poll_closed(self: &Arc<Self>, ticket: Ticket, cx: &Context<'_>) -> Poll<()> {
        self.locked(|access| access.watch(ticket, cx, |inner| inner.state == LinkState::Dead))
    }

    /// Takes the future of this ticket off the list of watchers.
    pub(crate) fn unwatch(&self, ticket: Ticket) {
        lock(&self.inner).watchers.remove(ticket);
    }

    /// Runs `deliver` with the right to push. A sweep hands a member its frames this way.
    pub(crate) fn deliver<R>(self: &Arc<Self>, deliver: impl FnOnce(&mut Access<'_>) -> R) -> R {
        self.locked(deliver)
    }

    /// Adds the feed that `open` makes from the list of feeds, and first sends the frames that `open` returns with it.
    /// Returns `None` when the channel is closed.
    pub(crate) fn add_feed<F: Feed, E>(
        self: &Arc<Self>,
        open: impl FnOnce(&[Arc<dyn Feed>]) -> Result<(Arc<F>, Vec<Frame>), E>,
    ) -> Option<Result<Arc<F>, E>> {
        self.locked(|access| {
            if !access.takes_messages() {
                return None;
            }
            let opened = open(&access.inner.feeds);
            Some(opened.map(|(feed, missed)| {
                if !missed.is_empty() {
                    // Messages that were sent to its other groups before come first.
                    access.catch_up();
                    access.replay(&missed);
                }
                access.inner.feeds.push(Arc::clone(&feed) as Arc<dyn Feed>);
                feed
            }))
        })
    }

    /// Sends frames that the client has missed, behind all messages sent before, in joined pieces. They have their own
    /// room in the outbox.
    pub(crate) fn replay(self: &Arc<Self>, frames: &[Frame]) {
        // Compresses the frames now, if they are not compressed yet, since the lock is not held.
        frames.iter().for_each(|frame| _ = self.wire(frame));
        self.locked(|access| {
            access.catch_up();
            access.replay(frames);
        });
    }

    pub(crate) fn find_feed(&self, is_it: impl Fn(&dyn Feed) -> bool) -> Option<Arc<dyn Feed>> {
        lock(&self.inner).feeds.iter().find(|feed| is_it(&***feed)).cloned()
    }

    /// Ends a feed; returns false when it had ended before.
    pub(crate) fn end_feed(self: &Arc<Self>, feed: &Arc<dyn Feed>) -> bool {
        let left = self.locked(|access| {
            let at = access.inner.feeds.iter().position(|known| Arc::ptr_eq(known, feed))?;
            let feed = access.inner.feeds.swap_remove(at);
            feed.leave(access);
            Some(feed)
        });
        left.inspect(|feed| feed.left()).is_some()
    }

    /// Returns whether `home` is in the list of homes, and so forgets this channel when it ends.
    pub(crate) fn has_home(&self, home: &Weak<dyn Home>) -> bool {
        lock(&self.inner).homes.iter().any(|known| Weak::ptr_eq(known, home))
    }

    /// Makes `home` forget this channel when it ends; returns false when it has ended.
    ///
    /// The caller has entered the channel in `home` already. The lock puts this call and [`retire`](Self::retire) in
    /// order:
    ///
    /// 1. This call comes first: `retire` finds `home` in the list, and calls its `forget`.
    /// 2. `retire` came first, and may have missed `home`. This call returns false, and the caller forgets the channel.
    ///
    /// In the other order, list first and entry second, a `retire` in between would forget an entry that does not exist
    /// yet, and the entry would stay.
    pub(crate) fn add_home(&self, home: Weak<dyn Home>) -> bool {
        let mut inner = lock(&self.inner);
        if !inner.retired && !inner.homes.iter().any(|known| Weak::ptr_eq(known, &home)) {
            inner.homes.push(home);
        }
        !inner.retired
    }

    /// Ends the channel: ends all feeds and leaves all homes.
    ///
    /// The lists are emptied under the lock, and `retired` is set in the same hold. The calls that take other locks
    /// follow without it. Where another thread is at work:
    ///
    /// 1. A leave, in `end_feed`: one of the two takes the feed out of the list, and only that one calls `leave` and
    ///    `left`.
    /// 2. A join, in `add_feed`: either it comes first, and this call ends its feed; or it finds the channel closed,
    ///    since every caller closes the channel first, except the drop of `Channel`. During that drop no caller has the
    ///    channel to join with it. Only the writer may still attach it, whose caller is gone: then it drops the seat at
    ///    once.
    /// 3. An `add_home`: see there.
    /// 4. A sweep with an older list of members: `leave` has set the cursor past the end, so it delivers nothing.
    pub(crate) fn retire(self: &Arc<Self>) {
        let (feeds, homes) = self.locked(|access| {
            let feeds = std::mem::take(&mut access.inner.feeds);
            feeds.iter().for_each(|feed| feed.leave(access));
            access.inner.retired = true;
            (feeds, std::mem::take(&mut access.inner.homes))
        });
        feeds.iter().for_each(|feed| feed.left());
        homes.iter().filter_map(Weak::upgrade).for_each(|home| home.forget(self.id));
    }

    /// Returns the state, and registers the driver, which is woken when the state changes or the outbox must be
    /// flushed.
    pub(crate) fn poll_state(&self, cx: &Context<'_>) -> LinkState {
        let mut inner = lock(&self.inner);
        if !inner.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            inner.driver = Some(cx.waker().clone());
        }
        inner.state
    }

    /// Runs `act` under the lock, then wakes the concerned tasks without it.
    fn locked<R>(self: &Arc<Self>, act: impl FnOnce(&mut Access<'_>) -> R) -> R {
        let inner = lock(&self.inner);
        let before = (inner.state, inner.outbox.is_empty());
        let mut access = Access { inner, link: self, tell_far: false, notes: Notes::default() };
        let result = act(&mut access);
        let Access { mut inner, tell_far, notes, .. } = access;
        let mut wakes = SmallVec::<[Waker; 2]>::new();
        if (inner.state, inner.outbox.is_empty()) != before {
            inner.note_change(before, &mut wakes);
        }
        if tell_far {
            wakes.extend(inner.transport.as_ref().and_then(|transport| transport.far_waker()));
        }
        drop(inner);
        // First the metrics, since a woken task may look at them.
        notes.tell(self.id);
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

impl Flush for Link {
    fn flush(self: Arc<Self>) -> bool {
        Link::flush(&self)
    }
}

/// How far the outbox of a connection has been written.
#[cfg(feature = "ws")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The bytes written from the outbox since the beginning.
    pub(crate) taken: u64,
    /// The outbox is empty.
    pub(crate) is_empty: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "ws"))]
mod tests {
    use std::io;

    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    /// A socket whose client reads nothing.
    struct Stalled;

    impl Transport for Stalled {
        fn try_write(&self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn shut_down(&self) {}
    }

    /// A socket that takes everything, and counts how often it is asked to.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Transport for Counting {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn shut_down(&self) {}
    }

    #[test]
    fn a_replay_of_a_thousand_messages_is_three_writes() {
        // 128 bytes of payload, and the fields that a history adds.
        let frames: Vec<_> = (0..1001).map(|_| Frame::text("x".repeat(128 + 42))).collect();
        let transport = Arc::new(Counting::default());
        let link = Link::new(Terms::default(), Arc::clone(&transport) as _);
        link.locked(|access| access.replay(&frames));
        assert_eq!(transport.0.load(Ordering::Relaxed), 3);
        assert_eq!(link.counts().written, 1001);
    }

    #[test]
    fn a_client_that_pings_and_never_reads_does_not_grow_its_outbox() {
        let link = Link::new(Terms::default(), Arc::new(Stalled));
        for _ in 0..10_000 {
            link.send_pong(&[7; 125]);
        }
        // The first pong went into an empty outbox, and later ones replaced the second.
        assert_eq!(link.counts().waiting_bytes, 2 * 127);
        assert_eq!(link.state(), LinkState::Open);
        assert!(link.close(CloseCode::NORMAL, ""), "a close is queued behind any outbox");
        assert_eq!(link.counts(), OutboxCounts { waiting_bytes: 2 * 127 + 4, ..OutboxCounts::default() });
    }
}
