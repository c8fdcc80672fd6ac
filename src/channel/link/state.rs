//! The parts of a link, and what tells about them: no operation of it.
//!
//! They stand in one file since each needs the others: the state holds the feeds, a feed writes by [`Access`], and that
//! holds the state's lock. `access.rs` writes with them, `mod.rs` is how others use them.
//!
//! ```text
//! state     takes messages   leaves it by
//! OPEN      yes              -> CLOSING  close, overflow: a close frame is the last thing queued
//!                            -> DEAD     a write failed, the peer is gone
//! CLOSING   no               -> DEAD     the peer answered, or its time is up
//! DEAD      no               never
//! ```

use std::any::Any;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::SystemTime;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::runtime::Handle;

use super::life::Life;
use super::outbox::Outbox;
use super::port::{Home, Transport};
use super::waitlist::Waitlist;
use crate::channel::identity::ChannelId;
use crate::channel::options::ChannelOptions;
use crate::frame::Frame;
use crate::observe::channels::{Notes, OpenChannel};
use crate::sync::{Arc, Mutex, MutexGuard, Weak};

/// The sending half of one connection.
///
/// In this order, and `Inner` in its own: a sweep over many connections waits for memory more than for
/// anything else of ours, so what it touches of each lies together.
#[repr(C)]
pub(crate) struct Link {
    pub(super) inner: Mutex<Inner>,
    /// Of the terms, beside what is touched with it.
    pub(super) deflates: bool,
    pub(super) id: ChannelId,
    pub(super) created: SystemTime,
    pub(super) terms: Terms,
}

/// What is settled about a connection before it begins.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) options: ChannelOptions,
    /// The client takes compressed frames.
    pub(crate) deflates: bool,
    /// Drives the connection, if one does.
    pub(crate) runtime: Option<Handle>,
}

/// What changes, under one lock.
#[repr(C)]
pub(super) struct Inner {
    pub(super) state: LinkState,
    /// It has a `life`: asked at every message.
    pub(super) mortal: bool,
    /// `None` when the connection is dead.
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) written: u64,
    pub(super) outbox: Outbox,
    pub(super) dropped: u64,
    pub(super) feeds: Vec<Arc<dyn Feed>>,
    pub(super) homes: Vec<Weak<dyn Home>>,
    /// It has left its feeds and homes, for good.
    pub(super) retired: bool,
    /// Its user may not be here any more.
    pub(super) revoked: bool,
    /// When the channel ends by itself, if ever.
    pub(super) life: Option<Box<Life>>,
    /// The task that reads, keeps time, and flushes when there is room again.
    pub(super) driver: Option<Waker>,
    /// Who waits until nothing waits, or for the end.
    pub(super) watchers: Waitlist,
    pub(super) open: OpenChannel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Open,
    Closing,
    Dead,
}

/// The right to write, as long as the lock is held.
pub(crate) struct Access<'a> {
    pub(super) inner: MutexGuard<'a, Inner>,
    pub(super) link: &'a Arc<Link>,
    /// Something was written, or asks for room.
    pub(super) tell_far: bool,
    /// Told when the lock is released.
    pub(super) notes: Notes,
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

impl Link {
    /// Returns the bytes of a frame as this client is to get them.
    pub(crate) fn wire<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        frame.wire(self.deflates)
    }
}

impl Inner {
    /// Collects whom the change from `before` concerns.
    #[cold]
    pub(super) fn note_change(&mut self, before: (LinkState, bool), wakes: &mut SmallVec<[Waker; 2]>) {
        let empty = self.outbox.is_empty();
        // The driver flushes what waits, and at the end of a connection waits until all is out.
        let concerns_driver = self.state != before.0 || !empty || self.state == LinkState::Closing;
        if concerns_driver {
            wakes.extend(self.driver.take());
        }
        if self.state == LinkState::Dead || empty {
            wakes.extend(self.watchers.take_all());
        }
    }
}
