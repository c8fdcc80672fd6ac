//! The emits of the model. A plain emit is an async one in which no listener is pending.

use fanfare::dispatch::MAX_DEPTH;

use super::{Kind, Model, pick, take};
use crate::notes::{Cause, Note, Summary, Values};
use crate::ops::{Answer, Deed, Filter, FoldEnd, Plan, bounds};

/// How an emit is to run.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    pub(crate) fail_fast: bool,
    /// The payload comes shared.
    pub(crate) is_shared: bool,
    /// It collects values.
    pub(crate) fold: Option<FoldEnd>,
    /// It awaits async listeners, up to this many at once.
    pub(crate) concurrent: Option<usize>,
}

impl Mode {
    pub(crate) const PLAIN: Self = Self { fail_fast: false, is_shared: false, fold: None, concurrent: None };
}

/// An async emit.
pub(super) struct Walk {
    name: usize,
    payload: u8,
    mode: Mode,
    /// It keeps the event known.
    has_handle: bool,
    pub(super) emission: Option<Emission>,
}

/// An emit that has begun.
pub(super) struct Emission {
    name: usize,
    payload: u8,
    mode: Mode,
    /// The listeners of its start.
    pub(super) table: Vec<usize>,
    next: usize,
    running: Vec<Running>,
    /// Listeners that it used up.
    spent: Vec<usize>,
    /// The generation of the event that counts it.
    counted_by: Option<u32>,
    values: Vec<usize>,
    fold_panicked: bool,
    report: Summary,
}

/// A future that an emit awaits.
struct Running {
    id: usize,
    ready_at: u32,
}

impl Model {
    /// Emits in one go.
    pub(crate) fn emit(&mut self, name: usize, payload: u8, mode: Mode) -> (Summary, Values) {
        let Some(mut emission) = self.begin(name, payload, mode) else { return (Summary::default(), Some(Vec::new())) };
        let ended = self.go_on(&mut emission);
        assert!(ended, "a plain emit does not wait");
        self.finish(&mut emission);
        (emission.report, (!emission.fold_panicked).then_some(emission.values))
    }

    /// Makes an async emit, which keeps a handle, or looks its name up when it is polled first.
    pub(crate) fn start(
        &mut self,
        name: usize,
        payload: u8,
        mode: Mode,
        has_handle: bool,
        poll: bool,
    ) -> Option<Summary> {
        if self.walks.len() >= bounds::WALKS {
            return None;
        }
        if has_handle {
            self.acquire(name);
        }
        let at = self.walks.len();
        self.walks.push(None);
        let walk = Walk { name, payload, mode, has_handle, emission: None };
        if poll {
            self.poll_walk(at, walk)
        } else {
            self.walks[at] = Some(walk);
            None
        }
    }

    /// Lets one tick pass and polls that async emit.
    pub(crate) fn poll(&mut self, at: u8) -> Option<Summary> {
        self.tick += 1;
        let at = pick(at, self.walks.len())?;
        let walk = self.walks[at].take()?;
        self.poll_walk(at, walk)
    }

    fn poll_walk(&mut self, at: usize, mut walk: Walk) -> Option<Summary> {
        if walk.emission.is_none() {
            walk.emission = self.begin(walk.name, walk.payload, walk.mode);
        }
        let report = match &mut walk.emission {
            None => Summary::default(),
            Some(emission) => {
                if !self.go_on(emission) {
                    self.sweep(emission);
                    self.walks[at] = Some(walk);
                    return None;
                }
                self.finish(emission);
                emission.report.clone()
            }
        };
        self.end_walk(&walk);
        Some(report)
    }

    pub(crate) fn drop_walk(&mut self, at: u8) {
        let Some(walk) = take(&mut self.walks, at) else { return };
        for running in walk.emission.iter().flat_map(|emission| &emission.running) {
            self.listeners[running.id].in_flight -= 1;
            self.dropped_futures.push(running.id);
        }
        self.end_walk(&walk);
    }

    fn end_walk(&mut self, walk: &Walk) {
        if walk.has_handle {
            self.release(walk.name);
        }
    }

    /// Takes the current table; `None` when the emit would call no listener.
    fn begin(&self, name: usize, payload: u8, mode: Mode) -> Option<Emission> {
        let event = &self.events[name];
        if event.mutes > 0 || event.table.is_empty() && event.counts.is_none() {
            return None;
        }
        Some(Emission {
            name,
            payload,
            mode,
            table: event.table.clone(),
            next: 0,
            running: Vec::new(),
            spent: Vec::new(),
            counted_by: event.counts.map(|_| event.generation),
            values: Vec::new(),
            fold_panicked: false,
            report: Summary::default(),
        })
    }

    /// Calls one listener after the other; returns false when a future is pending.
    fn go_on(&mut self, emission: &mut Emission) -> bool {
        let is_new = emission.next == 0 && emission.running.is_empty();
        if is_new && self.depth >= MAX_DEPTH && !emission.table.is_empty() {
            self.fail(emission, Cause::TooDeep);
            return true;
        }
        self.depth += 1;
        let ended = self.walk(emission);
        self.depth -= 1;
        ended
    }

    fn walk(&mut self, emission: &mut Emission) -> bool {
        for running in std::mem::take(&mut emission.running) {
            if running.ready_at <= self.tick {
                self.end_future(running.id, emission);
            } else {
                emission.running.push(running);
            }
        }
        while !emission.report.stopped && emission.next < emission.table.len() {
            if emission.running.len() >= emission.mode.concurrent.unwrap_or(1) {
                return false;
            }
            let id = emission.table[emission.next];
            emission.next += 1;
            self.turn(id, emission);
        }
        emission.running.is_empty()
    }

    fn turn(&mut self, id: usize, emission: &mut Emission) {
        let Plan { filter, delay, times, deed, answer, .. } = self.listeners[id].plan;
        if !self.may_be_called(id) || !self.passes(id, filter, emission) || !self.may_be_called(id) {
            return;
        }
        if delay.is_some() && emission.mode.concurrent.is_none() {
            self.fail(emission, Cause::NoRuntime);
            return;
        }
        if times.is_some() {
            let left = self.listeners[id].calls_left.as_mut().expect("it has a limit");
            *left -= 1;
            if *left == 0 {
                emission.spent.push(id);
            }
        }
        match (self.listeners[id].kind, delay) {
            (Kind::Shared(which), _) => {
                self.note(Note::SharedCalled { which });
                self.settle(id, if which { Answer::Value } else { Answer::Nothing }, emission);
            }
            (Kind::Queue(queue), _) => {
                self.share(emission);
                if !self.push(queue, emission.payload) {
                    emission.spent.push(id);
                }
                emission.report.ran += 1;
            }
            (Kind::Planned, None) => {
                self.note(Note::Called { id, payload: emission.payload });
                self.perform(id, deed);
                self.settle(id, answer, emission);
            }
            (Kind::Planned, Some(delay)) => {
                self.share(emission);
                self.note(Note::FutureMade { id, payload: emission.payload });
                if answer == Answer::PanicAtOnce {
                    self.settle(id, Answer::Panic, emission);
                    return;
                }
                self.listeners[id].in_flight += 1;
                if delay == 0 {
                    self.end_future(id, emission);
                } else {
                    emission.running.push(Running { id, ready_at: self.tick + delay });
                }
            }
        }
    }

    fn may_be_called(&self, id: usize) -> bool {
        !self.is_gone(id) && self.listeners[id].pauses == 0
    }

    fn passes(&mut self, id: usize, filter: Filter, emission: &mut Emission) -> bool {
        if filter == Filter::All {
            return true;
        }
        self.note(Note::FilterAsked { id, payload: emission.payload });
        match filter {
            Filter::All => {}
            Filter::Even => return emission.payload.is_multiple_of(2),
            Filter::Panic => {
                self.fail(emission, Cause::Panic);
                return false;
            }
            Filter::OffItself => self.perform(id, Deed::OffItself),
            Filter::WaitsForItself => self.perform(id, Deed::WaitForItself),
        }
        true
    }

    fn end_future(&mut self, id: usize, emission: &mut Emission) {
        let Plan { deed, answer, .. } = self.listeners[id].plan;
        self.note(Note::FutureFinished { id });
        self.perform(id, deed);
        self.listeners[id].in_flight -= 1;
        self.settle(id, answer, emission);
    }

    /// The payload is cloned for the first that shares it.
    fn share(&mut self, emission: &mut Emission) {
        if !std::mem::replace(&mut emission.mode.is_shared, true) {
            self.clones += 1;
        }
    }

    fn settle(&mut self, id: usize, answer: Answer, emission: &mut Emission) {
        emission.report.ran += 1;
        let asks = emission.mode.fold.is_some();
        match answer {
            Answer::Nothing => {}
            Answer::Panic | Answer::PanicAtOnce => self.fail(emission, Cause::Panic),
            Answer::Stop => emission.report.stopped = true,
            Answer::Error | Answer::ErrorForValue => self.fail(emission, Cause::Error),
            Answer::Value if asks => emission.fold(if self.listeners[id].kind == Kind::Planned { id } else { 1000 }),
            Answer::OddValue if asks => self.fail(emission, Cause::ValueMismatch),
            Answer::Value | Answer::OddValue => {}
        }
    }

    fn fail(&mut self, emission: &mut Emission, cause: Cause) {
        self.hook_calls += 1;
        emission.report.failures.push(cause);
        if emission.mode.fail_fast {
            emission.report.stopped = true;
        }
    }

    fn sweep(&mut self, emission: &mut Emission) {
        for id in emission.spent.drain(..) {
            self.take_out(id);
        }
    }

    fn finish(&mut self, emission: &mut Emission) {
        self.sweep(emission);
        let event = &mut self.events[emission.name];
        if let Some(counts) = &mut event.counts
            && emission.counted_by == Some(event.generation)
        {
            counts.emits += 1;
            counts.calls += emission.report.ran as u64;
            counts.failures += emission.report.failures.len() as u64;
        }
    }
}

impl Emission {
    fn fold(&mut self, value: usize) {
        let is_end = self.values.len() == 1;
        match self.mode.fold {
            Some(FoldEnd::Panic) if is_end => (self.fold_panicked, self.report.stopped) = (true, true),
            Some(FoldEnd::Break) if is_end => self.report.stopped = true,
            _ => {}
        }
        self.values.push(value);
    }
}
