//! The real dispatcher, and listeners that act on it by their plans.

mod deed;
mod listener;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fanfare::dispatch::{EmitOptions, FailureCause, Muted, Paused, WaitError, WaitableSubscription};
use fanfare::{Dispatcher, Event, Report, Subscription};

use crate::model::{pick, take};
use crate::notes::{Cause, Note, Payload, Summary, Waited};
use crate::ops::{NAMES, bounds};

pub(crate) struct World {
    pub(crate) events: Dispatcher,
    hook_calls: Arc<AtomicUsize>,
    /// Never locked during a call of the dispatcher.
    held: Mutex<Held>,
}

/// What listeners and the outside share.
struct Held {
    /// By id; empty for a registration that was refused, or has no handle.
    handles: Vec<Option<Handle>>,
    /// By id, a value that only the listener's closure keeps alive.
    closures: Vec<Weak<()>>,
    pauses: Vec<Option<Paused>>,
    mutes: Vec<Option<Muted<Payload>>>,
    walks: Vec<Option<Walk>>,
    tick: u32,
    /// The wakers of futures that wait for the next tick.
    wakers: Vec<Waker>,
    nested_left: u32,
    endless_left: u32,
    notes: Vec<Note>,
    dropped_futures: Vec<usize>,
}

#[derive(Clone)]
pub(crate) enum Handle {
    Plain(Subscription),
    Waitable(WaitableSubscription),
}

type Walk = Pin<Box<dyn Future<Output = Summary> + Send>>;

/// How to wait for the end of a listener's calls.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Blocking,
    NotAtAll,
    OnePoll,
}

impl World {
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        let events = Dispatcher::builder().warn_above(None).listener_limit(limit).build();
        let hook_calls = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&hook_calls);
        events.on_error(move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        let held = Held {
            handles: Vec::new(),
            closures: Vec::new(),
            pauses: Vec::new(),
            mutes: Vec::new(),
            walks: Vec::new(),
            tick: 0,
            wakers: Vec::new(),
            nested_left: 0,
            endless_left: bounds::ENDLESS,
            notes: Vec::new(),
            dropped_futures: Vec::new(),
        };
        Arc::new(Self { events, hook_calls, held: Mutex::new(held) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics under the lock")
    }

    pub(crate) fn begin_op(&self) {
        self.held().nested_left = bounds::NESTED;
    }

    pub(crate) fn hook_calls(&self) -> usize {
        self.hook_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.held().notes)
    }

    pub(crate) fn take_dropped_futures(&self) -> Vec<usize> {
        std::mem::take(&mut self.held().dropped_futures)
    }

    pub(crate) fn note(&self, note: Note) {
        self.held().notes.push(note);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.held().handles.len() < bounds::LISTENERS
    }

    /// Keeps the handle to a registration that was made; its number is its id.
    pub(crate) fn keep(&self, handle: Option<Handle>, closure: Weak<()>) {
        let mut held = self.held();
        held.handles.push(handle);
        held.closures.push(closure);
    }

    pub(crate) fn event(&self, name: usize) -> Event<Payload> {
        self.events.event(NAMES[name]).expect("the name is good")
    }

    /// Emits by name, the way through a namespace where there is one.
    pub(crate) fn emit(&self, name: usize, payload: &Payload) -> Report {
        let report = match NAMES[name].split_once(':') {
            Some((namespace, rest)) => self.events.namespace(namespace).emit(rest, payload),
            None => self.events.emit(NAMES[name], payload),
        };
        report.expect("the name is good")
    }

    fn handle(&self, id: usize) -> Option<Handle> {
        self.held().handles.get(id)?.clone()
    }

    fn pick(&self, id: u8) -> Option<Handle> {
        let id = pick(id, self.held().handles.len())?;
        self.handle(id)
    }

    pub(crate) fn off(&self, id: u8, by_dispatcher: bool) -> bool {
        let handle = self.pick(id);
        handle.is_some_and(|handle| if by_dispatcher { self.events.off(&handle) } else { handle.off() })
    }

    pub(crate) fn wait(&self, id: u8, how: Wait) -> Option<Waited> {
        self.pick(id)?.wait(how)
    }

    pub(crate) fn pause(&self, id: u8) {
        self.pause_one(self.pick(id));
    }

    fn pause_one(&self, handle: Option<Handle>) {
        if let Some(paused) = handle.map(|handle| handle.pause()) {
            self.held().pauses.push(Some(paused));
        }
    }

    pub(crate) fn resume(&self, at: u8) {
        let paused = take(&mut self.held().pauses, at);
        drop(paused);
    }

    pub(crate) fn mute(&self, name: usize) {
        let muted = self.event(name).mute();
        self.held().mutes.push(Some(muted));
    }

    pub(crate) fn unmute(&self, at: u8) {
        let muted = take(&mut self.held().mutes, at);
        drop(muted);
    }

    /// Makes an async emit, which keeps a handle, or looks its name up when it is polled first.
    pub(crate) fn start(
        &self,
        name: usize,
        payload: u8,
        by_name: bool,
        options: EmitOptions,
        poll: bool,
    ) -> Option<Summary> {
        let at = self.held().walks.len();
        if at >= bounds::WALKS {
            return None;
        }
        let payload = Payload(payload);
        let walk: Walk = if by_name {
            let events = self.events.clone();
            Box::pin(async move { summary(&events.emit_async(NAMES[name], &payload).await.expect("the name is good")) })
        } else {
            let event = self.event(name);
            Box::pin(async move { summary(&event.emit_async_with(options, &payload).await) })
        };
        self.held().walks.push(None);
        if poll {
            self.poll_walk(at, walk)
        } else {
            self.held().walks[at] = Some(walk);
            None
        }
    }

    /// Lets one tick pass and polls that async emit.
    pub(crate) fn poll(&self, at: u8) -> Option<Summary> {
        let wakers = {
            let mut held = self.held();
            held.tick += 1;
            std::mem::take(&mut held.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        let (at, walk) = {
            let mut held = self.held();
            let at = pick(at, held.walks.len())?;
            (at, held.walks[at].take()?)
        };
        self.poll_walk(at, walk)
    }

    fn poll_walk(&self, at: usize, mut walk: Walk) -> Option<Summary> {
        match walk.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(summary) => Some(summary),
            Poll::Pending => {
                self.held().walks[at] = Some(walk);
                None
            }
        }
    }

    pub(crate) fn drop_walk(&self, at: u8) {
        let walk = take(&mut self.held().walks, at);
        drop(walk);
    }

    /// Returns for each closure whether it still exists.
    pub(crate) fn closures(&self) -> Vec<bool> {
        self.held().closures.iter().map(|closure| closure.strong_count() > 0).collect()
    }

    /// Returns for each registration whether it is active, and whether it is paused.
    pub(crate) fn states(&self) -> Vec<(bool, bool)> {
        let handles = self.held().handles.clone();
        let state = |handle: Handle| (handle.is_active(), handle.is_paused());
        handles.into_iter().map(|handle| handle.map_or((false, false), state)).collect()
    }
}

impl Handle {
    fn wait(&self, how: Wait) -> Option<Waited> {
        let Self::Waitable(subscription) = self else { return None };
        let waited = match how {
            Wait::Blocking => subscription.off_and_wait().map_err(WaitError::from),
            Wait::NotAtAll => subscription.off_and_wait_timeout(Duration::ZERO),
            Wait::OnePoll => {
                let mut over = Box::pin(subscription.off_and_wait_async());
                match over.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(waited) => waited.map_err(WaitError::from),
                    Poll::Pending => Err(WaitError::TimedOut),
                }
            }
        };
        Some(match waited {
            Ok(ended) => Waited::Over(ended),
            Err(WaitError::WouldDeadlock) => Waited::WouldDeadlock,
            Err(_) => Waited::StillRunning,
        })
    }
}

impl std::ops::Deref for Handle {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        match self {
            Self::Plain(subscription) => subscription,
            Self::Waitable(subscription) => subscription,
        }
    }
}

/// Reduces a report to what the model knows of it.
pub(crate) fn summary(report: &Report) -> Summary {
    let cause = |cause: &FailureCause| match cause {
        FailureCause::Error(_) => Cause::Error,
        FailureCause::Panic(_) => Cause::Panic,
        FailureCause::NoRuntime => Cause::NoRuntime,
        FailureCause::ValueMismatch { .. } => Cause::ValueMismatch,
        FailureCause::TooDeep => Cause::TooDeep,
        _ => Cause::Other,
    };
    Summary {
        ran: report.ran(),
        spawned: report.spawned(),
        stopped: report.is_stopped(),
        failures: report.failures().iter().map(|failure| cause(failure.cause())).collect(),
    }
}
