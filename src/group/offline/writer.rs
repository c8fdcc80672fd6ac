//! The writer: one thread per box that carries out all commands on the offline queues, in one order.
//!
//! It takes a batch of waiting commands, lets the queues decide the changes, and commits these once. Only then, in the
//! same order, it delivers the sent notifications and answers the callers:
//!
//! ```text
//! commands --> decide (queues) --> commit (store) --> deliver (inbox groups), answer --> commands
//!                    |                   |
//!                    v                   +-- error: the queues are thrown away, nothing is delivered, every caller
//!              steps, plan                          that wanted a change gets the error, and reads are done again
//! ```
//!
//! So there is nothing to lock here, and no race to model: queues and store belong to the thread, and no other thread
//! appends to an inbox group. A channel is attached between two deliveries: it gets all earlier notifications as a
//! replay, and all later ones live. The shared parts (groups, links, the queue of commands) have their models
//! elsewhere.
//!
//! The thread starts with the first command. It ends when the box and all its handles are dropped and all earlier
//! commands are done.

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

/// The most commands received at a time.
const BATCH: usize = 1024;
/// The number of changes after which a batch is committed; the last command may exceed it.
const BATCH_CHANGES: usize = 4096;
/// The room for waiting commands: each takes one unit, and one more for every [`UNIT`] bytes.
const ROOM: u32 = 4096;
const UNIT: usize = 4096;
/// The most users whose queues are kept in memory, and the most that these queues take together.
const KEPT_USERS: usize = 10_000;
const KEPT_SIZE: u64 = 32 << 20;
/// The most expired records removed at a time.
const PURGED: usize = 64;
/// The time between two searches for expired records.
const PURGE_EVERY: Duration = Duration::from_secs(10);

/// Carries the answer to the caller; it is dropped if the caller is gone.
pub(super) type Answer<T, E = OfflineError> = oneshot::Sender<Result<T, E>>;

pub(super) enum Command {
    Send { user: UserId, draft: Draft, answer: Answer<Stored, NotifyError> },
    Ack { user: UserId, id: u64, answer: Answer<Acked> },
    Clear { user: UserId, answer: Answer<usize> },
    Read { user: UserId, read: Read },
    Stop { answer: oneshot::Sender<()> },
}

/// A command that changes nothing.
pub(super) enum Read {
    Unread { answer: Answer<usize> },
    Pending { answer: Answer<Vec<Notification>> },
    Attach { link: Arc<Link>, answer: Answer<Seat, AttachError> },
}

/// A committed notification.
pub(super) struct Stored {
    pub(super) sent: Sent,
    /// The report of the delivery, if the user had attached channels.
    pub(super) report: Option<SendReport>,
}

/// A waiting command and the room that it takes.
struct Waiting {
    command: Command,
    room: OwnedSemaphorePermit,
}

/// The queue of commands to the writer.
pub(super) struct Commands {
    sender: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
}

/// The writer has ended.
pub(super) struct Stopped;

/// The highest id to begin at, whatever the clock says: half of what JavaScript counts exactly, in the year 2112.
const LATEST_BEGIN: u64 = 1 << 52;

impl Commands {
    /// Starts a writer. If its thread cannot be started, every command returns [`Stopped`].
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
        // The thread ends by itself, so its handle is not kept.
        _ = thread::Builder::new().name(name).spawn(move || writer.run());
        Self { sender, room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// Waits for room, then queues a command with a payload of `len` bytes.
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
    /// The limit for the size of all records.
    max_size: u64,
    receiver: mpsc::UnboundedReceiver<Waiting>,
    /// Commands received but not yet carried out.
    waiting: VecDeque<Waiting>,
    /// The queues in memory: as the store has them, plus the changes of the current batch.
    queues: HashMap<UserId, Kept>,
    queues_size: u64,
    /// The number of the current batch.
    batch: u64,
    /// The highest id given out, even if its notification was not committed.
    last_id: u64,
    /// The size of all records; `None` until it is read from the store.
    size: Option<u64>,
    /// When to search for expired records, by the clock.
    next_purge: u64,
    /// The last search may have left expired records.
    purge_goes_on: bool,
    registry: Weak<Registry>,
    counters: Arc<Counters>,
}

struct Kept {
    queue: Queue,
    /// The last batch that used the queue.
    used: u64,
}

/// The rest of a command, to be done once its batch is committed.
enum Step {
    Sent { user: UserId, record: Record, answer: Answer<Stored, NotifyError> },
    NotSent { outcome: Result<Sent, NotifyError>, answer: Answer<Stored, NotifyError> },
    Acked { user: UserId, id: u64, acked: Acked, answer: Answer<Acked> },
    Cleared { user: UserId, count: usize, answer: Answer<usize> },
    Read { user: UserId, read: Read, view: View },
    Failed { command: Command, error: OfflineError },
    Stop { answer: oneshot::Sender<()> },
}

/// The result of a read.
struct View {
    unread: usize,
    /// Empty when only the number was asked for.
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
        // The store is dropped first, since the caller of `close` may open it again. Dropping the waiting commands
        // refuses them.
        drop(self);
        if let Some(answer) = stop {
            _ = guard(|| answer.send(()));
        }
    }

    /// Waits for commands, or for the next search for expired records; returns false when no command can come.
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

    /// Returns the time. The clock may be the program's: if it panics, the system's is used, and the queues live on.
    fn now(&self) -> u64 {
        unix_millis(guard(|| (self.clock)()).unwrap_or_else(|_| SystemTime::now()))
    }

    /// Carries out a batch of waiting commands; returns the answer of a `Stop`, if there was one.
    fn work(&mut self) -> Option<oneshot::Sender<()>> {
        let now = self.now();
        self.batch += 1;
        let mut plan = Plan::default();
        let (mut steps, mut rooms) = (Vec::new(), Vec::new());
        // After an error the expired records stay until the next search.
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
                // A caller's waker may panic; the thread must live on.
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

    /// Removes some expired records of any users.
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
            // Loaded, so that later commands of this batch see that the record is gone.
            self.load(&user)?;
            self.change(&user, |queue| queue.end(record.id, plan));
        }
        Ok(())
    }

    fn load_state(&mut self) -> Result<(), OfflineError> {
        if self.size.is_none() {
            let state = guarded(|| self.store.state())?;
            // A store that lost its ids, or never kept any, begins above all ids that clients have seen: ids rise by
            // one with each notification, this number by a thousand with each millisecond.
            let begin = self.now().saturating_mul(1000).min(LATEST_BEGIN);
            self.last_id = self.last_id.max(state.last_id).max(begin);
            self.size = Some(state.size);
        }
        Ok(())
    }

    /// Loads a user's queue, unless it is in memory.
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

    /// Forgets all queues in memory, so that they are loaded again from the store.
    fn forget_queues(&mut self) {
        self.queues.clear();
        (self.queues_size, self.size) = (0, None);
    }

    /// Refuses a command that was to change something; repeats a read on what the store has.
    fn after_failure(&mut self, step: Step, error: &OfflineError, now: u64) -> Step {
        let failed = |command| Step::Failed { command, error: error.clone() };
        match step {
            Step::Sent { user, record, answer } => {
                let (payload, urgency) = (record.payload.unwrap_or_default(), record.urgency);
                failed(Command::Send { user, draft: Draft { payload, urgency, key: None, expires_in: None }, answer })
            }
            // The first notification of this key may be lost with this batch.
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

    /// Delivers a committed change, and answers the caller.
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
                // The dispatcher itself reports a listener that fails.
                _ = guard(|| events.emit(OFFLINE_DROPPED, &dropped).map(drop));
            }
        }
    }

    /// Drops the least recently used queues from memory when there are too many.
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
            // The caller is gone, so nothing would hold the attachment.
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

/// Makes a channel a member of its user's inbox group, and sends it the waiting notifications.
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
        // No notification may be missing in the middle: the clients reconnect and get this one from the queue.
        let members = Arc::clone(&lock(&inbox.state).members);
        for link in members.iter().filter_map(|member| member.link.upgrade()) {
            link.close(CloseCode::TRY_AGAIN_LATER, "too much waits for this user");
        }
    }
    Some(report)
}

/// Calls the store, whose code may be the program's: a panic becomes an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, OfflineError> {
    match guard(run) {
        Ok(result) => result.map_err(|error| OfflineError::Store(Arc::from(error))),
        Err(message) => Err(OfflineError::Store(Arc::from(Error::from(format!("the store panicked: {message}"))))),
    }
}
