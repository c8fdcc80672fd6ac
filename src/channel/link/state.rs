//! The data of a link: its types, without its operations.
//!
//! They are in one file since each needs the others: the state holds the feeds, a feed writes by [`Access`], and an
//! access holds the state's lock. The operations under the lock are in `access.rs`, those for the rest of the crate in
//! `mod.rs`.
//!
//! ```text
//! state     takes messages   leaves it by
//! OPEN      yes              -> CLOSING  close, overflow: a close frame is the last frame queued
//!                            -> DEAD     a write failed, the peer is gone
//! CLOSING   no               -> DEAD     the peer answered, or its time to answer is over
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
/// The order of fields matters, here and in `Inner`. A sweep over many connections mostly waits for memory, so the
/// fields that it touches lie together.
#[repr(C)]
pub(crate) struct Link {
    pub(super) inner: Mutex<Inner>,
    /// Copied from the terms, to lie beside the fields that are used with it.
    pub(super) deflates: bool,
    pub(super) id: ChannelId,
    pub(super) created: SystemTime,
    pub(super) terms: Terms,
}

/// The settings of a connection before it begins.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) options: ChannelOptions,
    /// The client takes compressed frames.
    pub(crate) deflates: bool,
    /// The runtime that drives the connection, if there is one.
    pub(crate) runtime: Option<Handle>,
}

/// The mutable part, under one lock.
#[repr(C)]
pub(super) struct Inner {
    pub(super) state: LinkState,
    /// Whether there is a `life`: read at every message.
    pub(super) mortal: bool,
    /// `None` when the connection is dead.
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) written: u64,
    pub(super) outbox: Outbox,
    pub(super) dropped: u64,
    pub(super) feeds: Vec<Arc<dyn Feed>>,
    pub(super) homes: Vec<Weak<dyn Home>>,
    /// The channel has ended: it has left its feeds and homes for good.
    pub(super) retired: bool,
    /// The channel's user was revoked.
    pub(super) revoked: bool,
    /// When the channel ends by itself, if ever.
    pub(super) life: Option<Box<Life>>,
    /// The task that reads, keeps time, and flushes when there is room again.
    pub(super) driver: Option<Waker>,
    /// The futures that wait until the outbox is empty, or the connection is over.
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
    /// Bytes were written, or wait for room: the far end must be woken.
    pub(super) tell_far: bool,
    /// Metrics, recorded when the lock is released.
    pub(super) notes: Notes,
}

/// A source of messages for this connection beside the outbox: the log of a group.
pub(crate) trait Feed: Any + Send + Sync {
    /// Passes on the messages that this connection has not had.
    fn catch_up(&self, access: &mut Access<'_>);

    /// Catches up, and ends the feed.
    fn leave(&self, access: &mut Access<'_>);

    /// Cleans up after `leave`. Called without the lock.
    fn left(&self);
}

impl Link {
    /// Returns the bytes of a frame for this client, compressed if it takes that.
    pub(crate) fn wire<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        frame.wire(self.deflates)
    }
}

impl Inner {
    /// Collects the wakers of the tasks that the change from `before` concerns.
    #[cold]
    pub(super) fn note_change(&mut self, before: (LinkState, bool), wakes: &mut SmallVec<[Waker; 2]>) {
        let empty = self.outbox.is_empty();
        // The driver flushes the outbox, and at the end of a connection waits until it is empty.
        let concerns_driver = self.state != before.0 || !empty || self.state == LinkState::Closing;
        if concerns_driver {
            wakes.extend(self.driver.take());
        }
        if self.state == LinkState::Dead || empty {
            wakes.extend(self.watchers.take_all());
        }
    }
}
