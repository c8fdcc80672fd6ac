//! What a group send did: at once, and after its sweep.

use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::channel::Outcome;
use crate::group::history::Position;
use crate::observe::groups as observe;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// Tells what a group send did when it returned.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use fanfare::channel::Channel;
/// use fanfare::group::{ChannelBox, Delivery};
///
/// let channels = ChannelBox::new();
/// let (here, _far_end) = Channel::in_memory();
/// let (gone, far_end) = Channel::in_memory();
/// let _memberships = (channels.join(&here, "room")?, channels.join(&gone, "room")?);
/// drop(far_end);
///
/// let report = channels.group_send("room", "hello")?;
/// assert_eq!((report.is_accepted(), report.members()), (true, 2));
/// assert_eq!(report.settled().await, Delivery { written: 1, queued: 0, dropped: 1 });
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SendReport {
    members: usize,
    accepted: bool,
    position: Option<Position>,
    tally: Arc<Tally>,
}

impl SendReport {
    pub(crate) fn new(members: usize, accepted: bool, tally: Arc<Tally>) -> Self {
        Self { members, accepted, position: None, tally }
    }

    pub(crate) fn saved_at(self, position: Option<Position>) -> Self {
        Self { position, ..self }
    }

    /// Tells of a group without members: it is delivered to nobody.
    pub(crate) fn nobody() -> Self {
        observe::sent(None, 0, true);
        let tally = Arc::<Tally>::default();
        tally.settle();
        Self::new(0, true, tally)
    }

    /// Returns the number of members that the group had, an excepted one included.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// Tells whether the group took the frame; false when too much waits in it already: see
    /// [`GroupOptions::max_messages`](crate::group::GroupOptions::max_messages).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Returns where the message is in the group's history; `None` when it is not kept there: the group has none, the
    /// message was not accepted, is [ephemeral](crate::group::GroupSend::ephemeral), or is no JSON.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Waits until the frame was handed to every member, and tells what became of it: at once for one
    /// that was not accepted, all zero.
    ///
    /// It waits for the sweep, not for clients. Should the runtime be shut down on which that runs as a
    /// task, the next send to the group goes on with it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing about the delivery.
    pub async fn settled(&self) -> Delivery {
        if self.accepted {
            poll_fn(|cx| if self.tally.settled_or_wakes(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
        self.tally.delivery()
    }
}

/// What became of one frame of a group send. The three counts add up to its members, without an excepted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Members whose kernel took all of it. Whether the client has read it is not known.
    pub written: usize,
    /// Members in whose outbox some of it waited when the sweep passed. A later message may still take
    /// its place there, where the [`Overflow`](crate::channel::Overflow) rule says so, or the connection
    /// may break: the channel's [`counts`](crate::channel::Sender::counts) tell.
    pub queued: usize,
    /// Members that do not get it: their channel is closed, or its outbox was full.
    pub dropped: usize,
}

/// Counts what becomes of one frame.
#[derive(Default)]
pub(crate) struct Tally {
    written: AtomicUsize,
    queued: AtomicUsize,
    dropped: AtomicUsize,
    settled: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Tally {
    pub(crate) fn note(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Written => &self.written,
            Outcome::Queued => &self.queued,
            Outcome::Full | Outcome::Overflowed | Outcome::Closed => &self.dropped,
        };
        // Relaxed: the Release of `settle` publishes all counts.
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts members whose kernel took the frame, all at once.
    pub(crate) fn add_written(&self, members: usize) {
        self.written.fetch_add(members, Ordering::Relaxed);
    }

    /// The sweep has been with every member.
    pub(crate) fn settle(&self) {
        // Release: pairs with the Acquire of `settled_or_wakes`.
        self.settled.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn settled_or_wakes(&self, waker: &Waker) -> bool {
        let mut waiting = lock(&self.waiting);
        // Acquire: pairs with `settle`. Under the lock that it takes next: it comes after, or is seen here.
        let settled = self.settled.load(Ordering::Acquire);
        if !settled && !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        settled
    }

    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            written: self.written.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.delivery().fmt(f)
    }
}
