//! [`SendReport`]: the result of a group send, at once and after its sweep.

use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::channel::Outcome;
use crate::group::history::Position;
use crate::observe::groups as observe;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// The result of a group send: whether the group took the message, and later what became of it.
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

    /// Makes the report of a send to a group that does not exist: accepted, and delivered to no member.
    pub(crate) fn nobody() -> Self {
        observe::sent(None, 0, true);
        let tally = Arc::<Tally>::default();
        tally.settle();
        Self::new(0, true, tally)
    }

    /// Returns the number of members at the send, including an excepted one.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members
    }

    /// Returns whether the group took the frame; false when the group is full: see
    /// [`GroupOptions::max_messages`](crate::group::GroupOptions::max_messages).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Returns the message's position in the group's history; `None` when the history does not keep it: the group has
    /// no history, or the message was not accepted, is [ephemeral](crate::group::GroupSend::ephemeral), or is not JSON.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Waits until the frame was handed to every member, and returns the outcomes. For a frame that was not accepted it
    /// returns zeros at once.
    ///
    /// It waits for the sweep, not for clients. If the sweep's runtime is shut down, the next send to the group
    /// continues the sweep.
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

/// The outcomes of one frame of a group send. The three counts add up to its members, without an excepted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Members for which the kernel took the whole frame. The client may not have read it yet.
    pub written: usize,
    /// Members in whose outbox the frame, or a part of it, waited when the sweep passed. It may still be dropped: a
    /// later message takes its place, by the [`Overflow`](crate::channel::Overflow) rule, or the connection breaks. The
    /// channel's [`counts`](crate::channel::Sender::counts) include it.
    pub queued: usize,
    /// Members that do not get the frame: the channel is closed, or its outbox was full.
    pub dropped: usize,
}

/// Counts the outcomes of one frame.
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

    /// Counts several members for which the kernel took the frame.
    pub(crate) fn add_written(&self, members: usize) {
        self.written.fetch_add(members, Ordering::Relaxed);
    }

    /// Marks the tally as complete, once the sweep has visited every member.
    pub(crate) fn settle(&self) {
        // Release: pairs with the Acquire of `settled_or_wakes`.
        self.settled.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn settled_or_wakes(&self, waker: &Waker) -> bool {
        let mut waiting = lock(&self.waiting);
        // Acquire: pairs with the Release of `settle`, which stores the flag before it takes this lock:
        // 1. it takes the lock after this call, and finds the waker; or
        // 2. it took the lock before, and this load sees the flag.
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
