//! The writer: one thread per box that does what is asked of its offline queues, in one order.
//!
//! It takes up all that waits, lets the queues decide what changes, commits that once, and only then, in the same
//! order, delivers what was sent and answers who asked:
//!
//! ```text
//! commands --> decide (queues) --> commit (store) --> deliver (inbox groups), answer --> commands
//!                    |                   |
//!                    v                   +-- error: the queues are thrown away, who changed something is told,
//!              steps, plan                          nothing is delivered, and who only read is answered anew
//! ```
//!
//! So there is nothing to lock here, and no race to model: queues and store belong to the thread, and nobody else
//! appends to an inbox group. A channel is attached between two deliveries: it has all that was sent before as
//! replay, and all after that live. What is under locks (groups, outs, the channel of commands) is shared in ways
//! that have their models elsewhere.
//!
//! The thread begins with the first command and ends when the box is gone, with all handles to it, and what was
//! asked before is done.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::counters::Counters;
use super::error::{AttachError, NotifyError, OfflineError};
use super::notification::{Acked, Dropped, Notification, OFFLINE_DROPPED, Sent};
use super::options::{Clock, OfflineOptions};
use super::queue::{Admission, Draft, Plan, Queue, Refusal};
use super::record::Record;
use super::store::OfflineStore;
use super::wire;
use crate::Error;
use crate::channel::{CloseCode, Link, UserId};
use crate::clock::unix_millis;
use crate::frame::Frame;
use crate::group::delivery::member::Seat;
use crate::group::delivery::report::SendReport;
use crate::group::delivery::send::GroupSend;
use crate::group::delivery::state::{Keeper, Kind};
use crate::group::registry::Registry;
use crate::sync::{Arc, Weak, block_until, guard, lock, thread};

/// Commands that are taken up at a time.
const BATCH: usize = 1024;
/// Changes after which a batch is committed, with what those of the last command come to.
const BATCH_CHANGES: usize = 4096;
/// Commands that may wait, and their bytes in units of [`UNIT`].
const ROOM: u32 = 4096;
const UNIT: usize = 4096;
/// Users whose queues are kept at hand, and the size of those together.
const KEPT_USERS: usize = 10_000;
const KEPT_SIZE: u64 = 32 << 20;
/// Records that are removed at a time because their end has come.
const PURGED: usize = 64;
/// Time between two looks for such.
const PURGE_EVERY: Duration = Duration::from_secs(10);

/// Answers who asked, unless that has gone.
pub(super) type Answer<T, E = OfflineError> = oneshot::Sender<Result<T, E>>;

pub(super) enum Command {
    Send { user: UserId, draft: Draft, answer: Answer<Stored, NotifyError> },
    Ack { user: UserId, id: u64, answer: Answer<Acked> },
    Clear { user: UserId, answer: Answer<usize> },
    Read { user: UserId, read: Read },
    Stop { answer: oneshot::Sender<()> },
}

/// What changes nothing.
pub(super) enum Read {
    Unread { answer: Answer<usize> },
    Pending { answer: Answer<Vec<Notification>> },
    Attach { link: Arc<Link>, answer: Answer<Seat, AttachError> },
}

/// A notification that was committed.
pub(super) struct Stored {
    pub(super) sent: Sent,
    /// When somebody was there to get it.
    pub(super) report: Option<SendReport>,
}

/// A command, with the room that it takes among those that wait.
struct Waiting {
    command: Command,
    room: OwnedSemaphorePermit,
}

/// Where commands are handed in.
pub(super) struct Commands {
    sender: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

/// The writer has ended.
pub(super) struct Stopped;

/// Half of what JavaScript can count, whatever a clock says: the year 2112.
const LATEST_BEGIN: u64 = 1 << 52;

impl Commands {
    /// Starts a writer. Should there be no thread for it, every command is refused as by one that has ended.
    pub(super) fn new(options: OfflineOptions, registry: Weak<Registry>, counters: Arc<Counters>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let writer = Writer {
            store: options.store,
            clock: options.clock,
            limits: options.limits,
            max_size: options.max_store_bytes,
            receiver,
            waiting: VecDeque::new(),
            queues: HashMap::new(),
            queues_size: 0,
            batch: 0,
            last_id: 0,
            size: None,
            next_purge: 0,
            purge_goes_on: false,
            registry,
            counters,
        };
        let name = "fanfare-offline".to_owned();
        // It ends by itself: nobody has to join it.
        _ = thread::Builder::new().name(name).spawn(move || writer.run());
        Self { sender, room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// Hands in a command with a payload of `len` bytes, when there is room for it.
    pub(super) async fn submit(&self, len: usize, command: Command) -> Result<(), Stopped> {
        let units = u32::try_from(1 + len / UNIT).unwrap_or(ROOM).min(ROOM);
        let room = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| Stopped)?;
        self.sender.send(Waiting { command, room }).map_err(|_| Stopped)
    }
}

struct Writer {
    store: Box<dyn OfflineStore>,
    clock: Box<Clock>,
    limits: super::queue::Limits,
    /// Of all records together.
    max_size: u64,
    receiver: mpsc::UnboundedReceiver<Waiting>,
    /// Received, not yet done.
    waiting: VecDeque<Waiting>,
    /// As the store has them, but for the batch that is being decided.
    queues: HashMap<UserId, Kept>,
    queues_size: u64,
    /// The number of the one that is being done.
    batch: u64,
    /// The highest id given out, also to what was not committed.
    last_id: u64,
    /// Of all records together; `None` when the store has to be asked.
    size: Option<u64>,
    /// When to look for records whose end has come, by the clock.
    next_purge: u64,
    /// There was more of them than was removed.
    purge_goes_on: bool,
    registry: Weak<Registry>,
    counters: Arc<Counters>,
}

struct Kept {
    queue: Queue,
    /// The batch that it was last used in.
    used: u64,
}

/// What is left to do of a command once its batch is committed.
enum Step {
    Sent { user: UserId, record: Record, answer: Answer<Stored, NotifyError> },
    NotSent { outcome: Result<Sent, NotifyError>, answer: Answer<Stored, NotifyError> },
    Acked { user: UserId, id: u64, acked: Acked, answer: Answer<Acked> },
    Cleared { user: UserId, count: usize, answer: Answer<usize> },
    Read { user: UserId, read: Read, view: View },
    Failed { command: Command, error: OfflineError },
    Stop { answer: oneshot::Sender<()> },
}

/// What a read has found.
struct View {
    unread: usize,
    /// Empty for who asks for the number alone.
    pending: Vec<Record>,
}

impl Writer {
    fn run(mut self) {
        let stop = loop {
            if self.waiting.is_empty() && !self.receive() {
                break None;
            }
            if let Some(answer) = self.work() {
                break Some(answer);
            }
        };
        // First the store: who waits for the end may open it again. What still waits is refused by being dropped.
        drop(self);
        if let Some(answer) = stop {
            _ = guard(|| answer.send(()));
        }
    }

    /// Waits for commands, or until it is time to clear up; false when there will be none.
    fn receive(&mut self) -> bool {
        let mut received = Vec::new();
        let mut count = None;
        let idle = if self.purge_goes_on { Duration::ZERO } else { PURGE_EVERY };
        block_until(Some(Instant::now() + idle), |cx| {
            self.receiver.poll_recv_many(cx, &mut received, BATCH).map(|found| count = Some(found))
        });
        self.waiting.extend(received);
        count != Some(0)
    }

    /// Returns the time. The clock is the user's own, perhaps: one that panics ends nobody's queue.
    fn now(&self) -> u64 {
        unix_millis(guard(|| (self.clock)()).unwrap_or_else(|_| SystemTime::now()))
    }

    /// Does a batch of what waits; returns who is to be told that all is over, if somebody has asked for that.
    fn work(&mut self) -> Option<oneshot::Sender<()>> {
        let now = self.now();
        self.batch += 1;
        let mut plan = Plan::default();
        let (mut steps, mut rooms) = (Vec::new(), Vec::new());
        // A store that cannot say what is over keeps it for another while.
        _ = self.purge(now, &mut plan);
        while let Some(Waiting { command, room }) = self.waiting.pop_front() {
            rooms.push(room);
            let step = self.decide(command, now, &mut plan);
            let stops = matches!(step, Step::Stop { .. });
            steps.push(step);
            if stops || plan.changes.len() >= BATCH_CHANGES || self.queues_size > KEPT_SIZE {
                break;
            }
        }
        let committed = self.commit(&plan);
        let registry = self.registry.upgrade();
        if committed.is_ok() {
            self.tell_dropped(registry.as_deref(), plan.dropped);
        }
        let mut stop = None;
        for step in steps {
            let step = match &committed {
                Ok(()) => step,
                Err(error) => self.after_failure(step, error, now),
            };
            match step {
                Step::Stop { answer } => stop = Some(answer),
                // A waker of whoever waits may panic: that is no reason to end.
                step => _ = guard(|| self.finish(step, registry.as_deref())),
            }
        }
        self.trim();
        stop
    }

    fn decide(&mut self, command: Command, now: u64, plan: &mut Plan) -> Step {
        let user = match &command {
            Command::Stop { .. } => None,
            Command::Send { user, .. }
            | Command::Ack { user, .. }
            | Command::Clear { user, .. }
            | Command::Read { user, .. } => Some(user.clone()),
        };
        if let Some(user) = &user
            && let Err(error) = self.load(user)
        {
            return Step::Failed { command, error };
        }
        match command {
            Command::Send { user, draft, answer } => match self.send(&user, &draft, now, plan) {
                Ok(Admission::Taken(record)) => Step::Sent { user, record, answer },
                Ok(Admission::Duplicate { id, waits }) => {
                    Step::NotSent { outcome: Ok(Sent { id, delivered: 0, queued: waits, duplicate: true }), answer }
                }
                Err(error) => Step::NotSent { outcome: Err(error), answer },
            },
            Command::Ack { user, id, answer } => {
                let limits = self.limits;
                let known = self.change(&user, |queue| queue.ack(id, now, &limits, plan));
                let unread = self.queue(&user).unread(now);
                Step::Acked { user, id, acked: Acked { known, unread }, answer }
            }
            Command::Clear { user, answer } => {
                let limits = self.limits;
                let count = self.change(&user, |queue| queue.clear(now, &limits, plan));
                Step::Cleared { user, count, answer }
            }
            Command::Read { user, read } => {
                let view = self.view(&user, &read, now);
                Step::Read { user, read, view }
            }
            Command::Stop { answer } => Step::Stop { answer },
        }
    }

    fn send(&mut self, user: &UserId, draft: &Draft, now: u64, plan: &mut Plan) -> Result<Admission, NotifyError> {
        let (limits, id) = (self.limits, self.last_id + 1);
        let room = self.max_size.saturating_sub(self.size.unwrap_or(self.max_size));
        let admission = self.change(user, |queue| queue.send(draft, id, now, &limits, room, plan));
        match admission {
            Ok(Admission::Taken(_)) => self.last_id = id,
            Ok(Admission::Duplicate { .. }) => self.counters.add(|counts| &counts.duplicates, 1),
            Err(_) => self.counters.add(|counts| &counts.refused, 1),
        }
        admission.map_err(|refusal| match refusal {
            Refusal::TooLarge => NotifyError::TooLarge,
            Refusal::Full => NotifyError::Full,
            Refusal::NoRoom => NotifyError::StoreFull,
        })
    }

    fn view(&mut self, user: &UserId, read: &Read, now: u64) -> View {
        let queue = self.queue(user);
        let pending = match read {
            Read::Unread { .. } => Vec::new(),
            Read::Pending { .. } | Read::Attach { .. } => queue.pending(now).cloned().collect(),
        };
        View { unread: queue.unread(now), pending }
    }

    /// Removes some of what is over, wherever it is.
    fn purge(&mut self, now: u64, plan: &mut Plan) -> Result<(), OfflineError> {
        if now < self.next_purge && !self.purge_goes_on {
            return Ok(());
        }
        self.purge_goes_on = false;
        self.next_purge = now.saturating_add(PURGE_EVERY.as_millis() as u64);
        self.load_state()?;
        let expired = guarded(|| self.store.expired(now, PURGED))?;
        self.purge_goes_on = expired.len() == PURGED;
        for (user, record) in expired {
            // At hand, so that what this batch asks of the same user sees that it is over.
            self.load(&user)?;
            self.change(&user, |queue| queue.end(record.id, plan));
        }
        Ok(())
    }

    fn load_state(&mut self) -> Result<(), OfflineError> {
        if self.size.is_none() {
            let state = guarded(|| self.store.state())?;
            // A store that has lost its ids, or never kept any, begins behind those that clients have seen: they rise by
            // one, and the clock by a thousand a millisecond.
            let begin = self.now().saturating_mul(1000).min(LATEST_BEGIN);
            self.last_id = self.last_id.max(state.last_id).max(begin);
            self.size = Some(state.size);
        }
        Ok(())
    }

    /// Sees to it that a user's queue is at hand.
    fn load(&mut self, user: &UserId) -> Result<(), OfflineError> {
        self.load_state()?;
        if !self.queues.contains_key(user) {
            let records = guarded(|| self.store.load(user))?;
            let queue = Queue::new(user.clone(), records);
            self.queues_size += queue.size();
            self.queues.insert(user.clone(), Kept { queue, used: self.batch });
        }
        Ok(())
    }

    fn queue(&mut self, user: &UserId) -> &mut Queue {
        let kept = self.queues.get_mut(user).expect("it was loaded for this command");
        kept.used = self.batch;
        &mut kept.queue
    }

    fn change<R>(&mut self, user: &UserId, change: impl FnOnce(&mut Queue) -> R) -> R {
        let queue = self.queue(user);
        let before = queue.size();
        let result = change(queue);
        let after = queue.size();
        self.queues_size = self.queues_size + after - before;
        self.size = self.size.map(|all| (all + after).saturating_sub(before));
        result
    }

    fn commit(&mut self, plan: &Plan) -> Result<(), OfflineError> {
        if plan.changes.is_empty() {
            return Ok(());
        }
        let committed = guarded(|| self.store.commit(&plan.changes));
        if committed.is_err() {
            self.forget_queues();
        }
        committed
    }

    /// The store decides again what there is.
    fn forget_queues(&mut self) {
        self.queues.clear();
        (self.queues_size, self.size) = (0, None);
    }

    /// Refuses what was to change something; who only asked is answered by what the store has.
    fn after_failure(&mut self, step: Step, error: &OfflineError, now: u64) -> Step {
        let failed = |command| Step::Failed { command, error: error.clone() };
        match step {
            Step::Sent { user, record, answer } => {
                let (payload, urgency) = (record.payload.unwrap_or_default(), record.urgency);
                failed(Command::Send { user, draft: Draft { payload, urgency, key: None, expires_in: None }, answer })
            }
            // The one that it is a duplicate of may be lost with this batch.
            Step::NotSent { outcome: Ok(_), answer } => {
                Step::NotSent { outcome: Err(NotifyError::of(error.clone())), answer }
            }
            Step::Acked { user, id, answer, .. } => failed(Command::Ack { user, id, answer }),
            Step::Cleared { user, answer, .. } => failed(Command::Clear { user, answer }),
            Step::Read { user, read, .. } => match self.load(&user) {
                Ok(()) => {
                    let view = self.view(&user, &read, now);
                    Step::Read { user, read, view }
                }
                Err(error) => Step::Failed { command: Command::Read { user, read }, error },
            },
            step @ (Step::NotSent { .. } | Step::Failed { .. } | Step::Stop { .. }) => step,
        }
    }

    /// Delivers what was committed, and answers who asked.
    fn finish(&self, step: Step, registry: Option<&Registry>) {
        match step {
            Step::Sent { user, record, answer } => {
                self.counters.add(|counts| &counts.stored, 1);
                let report = deliver(registry, &user, || wire::notification(&record));
                let sent = Sent { id: record.id, delivered: 0, queued: true, duplicate: false };
                _ = answer.send(Ok(Stored { sent, report }));
            }
            Step::NotSent { outcome, answer } => {
                _ = answer.send(outcome.map(|sent| Stored { sent, report: None }));
            }
            Step::Acked { user, id, acked, answer } => {
                if acked.known {
                    self.counters.add(|counts| &counts.acked, 1);
                    deliver(registry, &user, || wire::acked(id, acked.unread));
                }
                _ = answer.send(Ok(acked));
            }
            Step::Cleared { user, count, answer } => {
                self.counters.add(|counts| &counts.acked, count as u64);
                deliver(registry, &user, || wire::unread(0));
                _ = answer.send(Ok(count));
            }
            Step::Read { user, read, view } => read.answer(&user, view, registry),
            Step::Failed { command, error } => command.refuse(error),
            Step::Stop { .. } => {}
        }
    }

    fn tell_dropped(&self, registry: Option<&Registry>, dropped: Vec<Dropped>) {
        for dropped in dropped {
            self.counters.add_dropped(dropped.reason);
            if let Some(events) = registry.and_then(|registry| registry.rules.events.as_ref()) {
                // A listener that fails is told of by the dispatcher itself.
                _ = guard(|| events.emit(OFFLINE_DROPPED, &dropped).map(drop));
            }
        }
    }

    /// Lets go of the queues that were used longest ago, when there are too many.
    fn trim(&mut self) {
        if self.queues.len() <= KEPT_USERS && self.queues_size <= KEPT_SIZE {
            return;
        }
        let mut by_use: Vec<_> = self.queues.iter().map(|(user, kept)| (kept.used, user.clone())).collect();
        by_use.sort_unstable();
        for (_, user) in by_use {
            if self.queues.len() <= KEPT_USERS / 2 && self.queues_size <= KEPT_SIZE / 2 {
                break;
            }
            if let Some(kept) = self.queues.remove(&user) {
                self.queues_size -= kept.queue.size();
            }
        }
    }
}

impl Read {
    fn answer(self, user: &UserId, view: View, registry: Option<&Registry>) {
        match self {
            Self::Unread { answer } => _ = answer.send(Ok(view.unread)),
            Self::Pending { answer } => {
                _ = answer.send(Ok(view.pending.into_iter().map(Notification::new).collect()));
            }
            // Nobody would hold the attachment.
            Self::Attach { answer, .. } if answer.is_closed() => {}
            Self::Attach { link, answer } => _ = answer.send(attach(registry, user, &link, &view)),
        }
    }
}

impl Command {
    fn refuse(self, error: OfflineError) {
        match self {
            Self::Send { answer, .. } => _ = answer.send(Err(NotifyError::of(error))),
            Self::Ack { answer, .. } => _ = answer.send(Err(error)),
            Self::Clear { answer, .. } => _ = answer.send(Err(error)),
            Self::Read { read: Read::Unread { answer }, .. } => _ = answer.send(Err(error)),
            Self::Read { read: Read::Pending { answer }, .. } => _ = answer.send(Err(error)),
            Self::Read { read: Read::Attach { answer, .. }, .. } => _ = answer.send(Err(AttachError::Offline(error))),
            Self::Stop { .. } => {}
        }
    }
}

/// Makes a channel one of those that get what is sent to its user, and hands it what waits.
fn attach(registry: Option<&Registry>, user: &UserId, link: &Arc<Link>, view: &View) -> Result<Seat, AttachError> {
    let registry = registry.ok_or(AttachError::Offline(OfflineError::Stopped))?;
    let (member, _) = registry.admit(Kind::Inbox, link, user, None).map_err(AttachError::of)?;
    let seat = Seat::new(member);
    // Only this thread appends to the group, so no notification comes before these.
    let frames: Vec<_> =
        [wire::unread(view.unread)].into_iter().chain(view.pending.iter().map(wire::notification)).collect();
    link.replay(&frames);
    Ok(seat)
}

/// Sends a frame to all attached channels of a user; `None` when there are none.
fn deliver(registry: Option<&Registry>, user: &UserId, frame: impl FnOnce() -> Frame) -> Option<SendReport> {
    let inbox = registry?.find(Kind::Inbox, user)?;
    let report = GroupSend::to(Arc::clone(&inbox)).send_frame(&frame());
    if !report.is_accepted() {
        // They come back and get it then: nothing may be missing in the middle.
        let members = Arc::clone(&lock(&inbox.state).members);
        for link in members.iter().filter_map(|member| member.link.upgrade()) {
            link.close(CloseCode::TRY_AGAIN_LATER, "too much waits for this user");
        }
    }
    Some(report)
}

/// Runs the store, which may be somebody else's.
fn guarded<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, OfflineError> {
    match guard(run) {
        Ok(result) => result.map_err(|error| OfflineError::Store(Arc::from(error))),
        Err(message) => Err(OfflineError::Store(Arc::from(Error::from(format!("the store panicked: {message}"))))),
    }
}
