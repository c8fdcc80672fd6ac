//! Handles of the real dispatcher that are held outside its listeners.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use fanfare::dispatch::{EmitOptions, EventStream, Next, Publisher, StreamOverflow, Value};
use fanfare::{Event, Listener, Report};

use crate::model::{pick, take};
use crate::notes::{Note, Payload, Summary, Values};
use crate::ops::{FoldEnd, Full, NAMES, Way};
use crate::world::{Handle, World, summary};

pub(crate) struct Outside {
    pub(crate) world: Arc<World>,
    handles: [Option<Event<Payload>>; NAMES.len()],
    publishers: Vec<Option<Publisher<Payload>>>,
    queues: Vec<Option<Queue>>,
    shared: [Listener<Payload>; 2],
}

enum Queue {
    Stream(EventStream<Payload>),
    Next(Next<Payload>),
}

impl Outside {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let world = World::new(limit);
        let [me, other] = [(); 2].map(|()| Arc::downgrade(&world));
        let called = |which| Note::SharedCalled { which };
        let shared = [
            Listener::new(move |_: &Payload| me.upgrade().iter().for_each(|world| world.note(called(false)))),
            Listener::new(move |_: &Payload| {
                other.upgrade().iter().for_each(|world| world.note(called(true)));
                Value(1000_usize)
            }),
        ];
        Self { world, handles: [None, None, None], publishers: Vec::new(), queues: Vec::new(), shared }
    }

    pub(crate) fn on_listener(&self, name: usize, which: bool, once: bool) -> Option<bool> {
        if !self.world.has_room() {
            return None;
        }
        let listener = &self.shared[usize::from(which)];
        let subscription = if once {
            self.world.event(name).listen().once().try_on_listener(listener).ok()
        } else {
            self.world.events.on_listener(NAMES[name], listener).ok()
        };
        let is_on = subscription.is_some();
        self.world.keep(subscription.map(Handle::Plain), Weak::new());
        Some(is_on)
    }

    pub(crate) fn off_listener(&self, name: usize, which: bool) -> usize {
        self.world.events.off_listener(NAMES[name], &self.shared[usize::from(which)]).expect("the name is good")
    }

    pub(crate) fn hold(&mut self, name: usize) {
        let event = self.world.event(name);
        self.handles[name].get_or_insert(event);
    }

    pub(crate) fn let_go(&mut self, name: usize) {
        self.handles[name] = None;
    }

    /// Returns the handle that is held, or else a temporary one.
    fn handle(&self, name: usize) -> Event<Payload> {
        self.handles[name].clone().unwrap_or_else(|| self.world.event(name))
    }

    pub(crate) fn publish(&mut self, name: usize) {
        self.publishers.push(Some(self.handle(name).publisher()));
    }

    fn publisher(&mut self, at: u8) -> Option<&mut Publisher<Payload>> {
        let at = pick(at, self.publishers.len())?;
        self.publishers[at].as_mut()
    }

    pub(crate) fn refresh(&mut self, at: u8) {
        self.publisher(at).into_iter().for_each(Publisher::refresh);
    }

    pub(crate) fn drop_publisher(&mut self, at: u8) {
        drop(take(&mut self.publishers, at));
    }

    /// Emits; the result of a fold that panics is unknown.
    pub(crate) fn emit(&mut self, name: usize, payload: u8, way: Way) -> Option<(Summary, Values)> {
        let payload = Payload(payload);
        let plain = |report: Report| Some((summary(&report), Some(Vec::new())));
        match way {
            Way::Name => plain(self.world.emit(name, &payload)),
            Way::Handle => plain(self.handle(name).emit(&payload)),
            Way::Publisher(at) => self.publisher(at).and_then(|publisher| plain(publisher.emit(&payload))),
            Way::Arc => plain(self.handle(name).emit_arc(Arc::new(payload))),
            Way::ArcByName => {
                plain(self.world.events.emit_arc(NAMES[name], Arc::new(payload)).expect("the name is good"))
            }
            Way::Options { fail_fast } => plain(self.handle(name).emit_with(options(fail_fast, 1), &payload)),
            Way::Collect => {
                let (values, report) = self.handle(name).emit_collect(&payload);
                Some((summary(&report), Some(values)))
            }
            Way::Fold(end) => {
                let event = self.handle(name);
                let emit = || event.emit_fold(&payload, Vec::new(), |values, value| fold(values, value, end));
                let (values, report) = catch_unwind(AssertUnwindSafe(emit)).ok()?;
                Some((summary(&report), Some(values)))
            }
        }
    }

    pub(crate) fn stream(&mut self, name: usize, capacity: usize, full: Full) {
        if !self.world.has_room() {
            return;
        }
        let overflow = match full {
            Full::DropOldest => StreamOverflow::DropOldest,
            Full::DropNewest => StreamOverflow::DropNewest,
            Full::Close => StreamOverflow::Close,
        };
        let stream = self.handle(name).stream(capacity, overflow);
        self.world.keep(Some(Handle::Plain(stream.subscription().clone())), Weak::new());
        self.queues.push(Some(Queue::Stream(stream)));
    }

    pub(crate) fn next(&mut self, name: usize) {
        if self.world.has_room() {
            self.queues.push(Some(Queue::Next(self.handle(name).next())));
            self.world.keep(None, Weak::new());
        }
    }

    pub(crate) fn try_next(&mut self, at: u8) -> Option<u8> {
        let at = pick(at, self.queues.len())?;
        let Some(Queue::Stream(stream)) = &mut self.queues[at] else { return None };
        stream.try_next().map(|payload| payload.0)
    }

    pub(crate) fn poll_next(&mut self, at: u8) -> Option<Poll<Option<u8>>> {
        let at = pick(at, self.queues.len())?;
        let mut cx = Context::from_waker(Waker::noop());
        let (polled, is_next) = match self.queues[at].as_mut()? {
            Queue::Stream(stream) => (pin!(stream.next()).poll(&mut cx), false),
            Queue::Next(next) => (Pin::new(next).poll(&mut cx), true),
        };
        if polled.is_ready() && is_next {
            self.queues[at] = None;
        }
        Some(polled.map(|payload| payload.map(|payload| payload.0)))
    }

    pub(crate) fn drop_queue(&mut self, at: u8) {
        drop(take(&mut self.queues, at));
    }

    pub(crate) fn dropped_payloads(&self) -> impl Iterator<Item = Option<u64>> {
        self.queues.iter().map(|queue| match queue {
            Some(Queue::Stream(stream)) => Some(stream.dropped()),
            _ => None,
        })
    }
}

pub(crate) fn options(fail_fast: bool, concurrent: usize) -> EmitOptions {
    let options = EmitOptions::new().concurrent(concurrent);
    if fail_fast { options.fail_fast() } else { options }
}

fn fold(mut values: Vec<usize>, value: usize, end: FoldEnd) -> ControlFlow<Vec<usize>, Vec<usize>> {
    let is_end = values.len() == 1;
    values.push(value);
    match end {
        FoldEnd::Panic if is_end => panic!("on purpose"),
        FoldEnd::Break if is_end => ControlFlow::Break(values),
        _ => ControlFlow::Continue(values),
    }
}
