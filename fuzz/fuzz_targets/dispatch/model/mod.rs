//! The naive dispatcher: a vector of listeners for each name, copied by each emit, and a loop.

mod deed;
mod emission;
mod queue;

pub(crate) use self::emission::Mode;
use self::emission::Walk;
use self::queue::Queue;
use crate::notes::{Note, Waited};
use crate::ops::{NAMES, Plan, bounds};

/// A dispatcher, and the handles to it.
pub(crate) struct Model {
    limit: Option<usize>,
    /// All listeners that were ever registered, by id.
    listeners: Vec<Listener>,
    events: [Event; NAMES.len()],
    pauses: Vec<Option<usize>>,
    mutes: Vec<Option<usize>>,
    publishers: Vec<Option<Publisher>>,
    walks: Vec<Option<Walk>>,
    queues: Vec<Option<Queue>>,
    tick: u32,
    /// How many emits run inside one another, and inside which listeners.
    depth: usize,
    inside: Vec<usize>,
    nested_left: u32,
    endless_left: u32,
    pub(crate) notes: Vec<Note>,
    pub(crate) dropped_futures: Vec<usize>,
    pub(crate) hook_calls: usize,
    pub(crate) clones: usize,
}

#[derive(Default)]
struct Event {
    /// The listeners by id, in the order of calls. A listener that an emit used up leaves at the end of the emit.
    table: Vec<usize>,
    /// What keeps the event known besides its listeners.
    handles: usize,
    held: bool,
    mutes: usize,
    counts: Option<Counts>,
    /// Changes when the event is forgotten: an emit that runs on counts for the old one.
    generation: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) emits: u64,
    pub(crate) calls: u64,
    pub(crate) failures: u64,
}

struct Listener {
    name: usize,
    kind: Kind,
    plan: Plan,
    handle: Handle,
    is_off: bool,
    calls_left: Option<u32>,
    pauses: usize,
    /// Pending futures.
    in_flight: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Planned,
    Shared(bool),
    /// Fills the queue of that number.
    Queue(usize),
}

/// The handle to a registration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handle {
    Nothing,
    Plain,
    Waitable,
}

struct Publisher {
    name: usize,
    /// The listeners that it keeps alive.
    snapshot: Vec<usize>,
}

/// What the dispatcher reports about a listener.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) priority: i32,
    pub(crate) is_async: bool,
    pub(crate) is_stream: bool,
    pub(crate) calls_left: Option<u32>,
    pub(crate) is_paused: bool,
}

impl Model {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        Self {
            limit,
            listeners: Vec::new(),
            events: Default::default(),
            pauses: Vec::new(),
            mutes: Vec::new(),
            publishers: Vec::new(),
            walks: Vec::new(),
            queues: Vec::new(),
            tick: 0,
            depth: 0,
            inside: Vec::new(),
            nested_left: 0,
            endless_left: bounds::ENDLESS,
            notes: Vec::new(),
            dropped_futures: Vec::new(),
            hook_calls: 0,
            clones: 0,
        }
    }

    pub(crate) fn begin_op(&mut self) {
        self.nested_left = bounds::NESTED;
    }

    /// Registers a listener; `None` when there are enough for this input.
    pub(crate) fn on(&mut self, name: usize, plan: Plan) -> Option<bool> {
        let handle = if plan.waitable { Handle::Waitable } else { Handle::Plain };
        self.has_room().then(|| self.register(name, Kind::Planned, plan, handle))
    }

    pub(crate) fn on_listener(&mut self, name: usize, which: bool, once: bool) -> Option<bool> {
        let plan = Plan { times: once.then_some(1), infallible: false, ..Plan::PLAIN };
        self.has_room().then(|| self.register(name, Kind::Shared(which), plan, Handle::Plain))
    }

    fn has_room(&self) -> bool {
        self.listeners.len() < bounds::LISTENERS
    }

    fn register(&mut self, name: usize, kind: Kind, plan: Plan, handle: Handle) -> bool {
        let id = self.listeners.len();
        let table = &self.events[name].table;
        let has_place = self.limit.is_none_or(|limit| table.len() < limit);
        if has_place {
            let goes_before = |other: &usize| match self.listeners[*other].plan.priority {
                same if same == plan.priority => plan.prepend,
                other => other < plan.priority,
            };
            let at = table.iter().position(goes_before).unwrap_or(table.len());
            self.events[name].table.insert(at, id);
        } else if plan.infallible {
            self.hook_calls += 1;
        }
        let handle = if has_place || plan.infallible { handle } else { Handle::Nothing };
        let (is_off, calls_left) = (!has_place, plan.times);
        self.listeners.push(Listener { name, kind, plan, handle, is_off, calls_left, pauses: 0, in_flight: 0 });
        self.forget(name);
        has_place
    }

    /// Forgets an event without listeners and handles.
    fn forget(&mut self, name: usize) {
        let event = &mut self.events[name];
        if event.table.is_empty() && event.handles == 0 {
            event.counts = None;
            event.generation += 1;
        }
    }

    fn pick(&self, id: u8) -> Option<usize> {
        pick(id, self.listeners.len())
    }

    pub(crate) fn off(&mut self, id: u8) -> bool {
        let id = self.pick(id).filter(|id| self.listeners[*id].handle != Handle::Nothing);
        id.is_some_and(|id| self.take_off(id))
    }

    fn take_off(&mut self, id: usize) -> bool {
        if self.is_gone(id) {
            return false;
        }
        self.take_out(id);
        true
    }

    fn take_out(&mut self, id: usize) {
        let name = self.listeners[id].name;
        self.listeners[id].is_off = true;
        self.events[name].table.retain(|other| *other != id);
        self.forget(name);
    }

    /// Returns whether the listener was taken off, or had its last call.
    fn is_gone(&self, id: usize) -> bool {
        self.listeners[id].is_off || self.listeners[id].calls_left == Some(0)
    }

    pub(crate) fn off_all(&mut self, name: usize) -> usize {
        self.off_where(name, |_| true)
    }

    pub(crate) fn off_listener(&mut self, name: usize, which: bool) -> usize {
        self.off_where(name, |listener| listener.kind == Kind::Shared(which))
    }

    fn off_where(&mut self, name: usize, which: impl Fn(&Listener) -> bool) -> usize {
        let mut count = 0;
        for id in self.events[name].table.clone() {
            if which(&self.listeners[id]) {
                count += usize::from(!self.is_gone(id));
                self.take_out(id);
            }
        }
        count
    }

    pub(crate) fn wait(&mut self, id: u8) -> Option<Waited> {
        self.wait_for(self.pick(id)?)
    }

    fn wait_for(&mut self, id: usize) -> Option<Waited> {
        if self.listeners[id].handle != Handle::Waitable {
            return None;
        }
        if self.inside.contains(&id) {
            return Some(Waited::WouldDeadlock);
        }
        let ended = self.take_off(id);
        let runs = self.listeners[id].in_flight > 0;
        Some(if runs { Waited::StillRunning } else { Waited::Over(ended) })
    }

    pub(crate) fn pause(&mut self, id: u8) {
        if let Some(id) = self.pick(id) {
            self.pause_one(id);
        }
    }

    fn pause_one(&mut self, id: usize) {
        if self.listeners[id].handle != Handle::Nothing {
            self.listeners[id].pauses += 1;
            self.pauses.push(Some(id));
        }
    }

    pub(crate) fn resume(&mut self, at: u8) {
        if let Some(id) = take(&mut self.pauses, at) {
            self.listeners[id].pauses -= 1;
        }
    }

    pub(crate) fn mute(&mut self, name: usize) {
        self.events[name].mutes += 1;
        self.events[name].handles += 1;
        self.mutes.push(Some(name));
    }

    pub(crate) fn unmute(&mut self, at: u8) {
        if let Some(name) = take(&mut self.mutes, at) {
            self.events[name].mutes -= 1;
            self.release(name);
        }
    }

    /// Makes a handle for as long as one operation lasts.
    pub(crate) fn acquire(&mut self, name: usize) {
        self.events[name].handles += 1;
    }

    pub(crate) fn release(&mut self, name: usize) {
        self.events[name].handles -= 1;
        self.forget(name);
    }

    pub(crate) fn hold(&mut self, name: usize) {
        if !std::mem::replace(&mut self.events[name].held, true) {
            self.acquire(name);
        }
    }

    pub(crate) fn let_go(&mut self, name: usize) {
        if std::mem::replace(&mut self.events[name].held, false) {
            self.release(name);
        }
    }

    pub(crate) fn count(&mut self, name: usize) {
        self.events[name].counts.get_or_insert_default();
        self.forget(name);
    }

    pub(crate) fn publish(&mut self, name: usize) {
        self.acquire(name);
        self.publishers.push(Some(Publisher { name, snapshot: self.events[name].table.clone() }));
    }

    /// Returns the name of the event whose publisher this is, after it looked for changes.
    pub(crate) fn refresh(&mut self, at: u8) -> Option<usize> {
        let at = pick(at, self.publishers.len())?;
        let publisher = self.publishers[at].as_mut()?;
        publisher.snapshot.clone_from(&self.events[publisher.name].table);
        Some(publisher.name)
    }

    pub(crate) fn drop_publisher(&mut self, at: u8) {
        if let Some(publisher) = take(&mut self.publishers, at) {
            self.release(publisher.name);
        }
    }

    pub(crate) fn known_events(&self) -> Vec<&'static str> {
        let known = NAMES.iter().zip(&self.events).filter(|(_, event)| !event.table.is_empty() || event.handles > 0);
        known.map(|(name, _)| *name).collect()
    }

    pub(crate) fn is_muted(&self, name: usize) -> bool {
        self.events[name].mutes > 0
    }

    pub(crate) fn counts(&self, name: usize) -> Option<Counts> {
        self.events[name].counts
    }

    pub(crate) fn listeners(&self, name: usize) -> impl Iterator<Item = Info> {
        let active = self.events[name].table.iter().filter(|id| !self.is_gone(**id));
        active.map(|id| {
            let Listener { plan, kind, calls_left, pauses, .. } = &self.listeners[*id];
            Info {
                priority: plan.priority,
                is_async: plan.is_async(),
                is_stream: matches!(kind, Kind::Queue(_)),
                calls_left: *calls_left,
                is_paused: *pauses > 0,
            }
        })
    }

    /// Returns for each registration whether it is active, and whether it is paused.
    pub(crate) fn states(&self) -> impl Iterator<Item = (bool, bool)> {
        self.listeners.iter().enumerate().map(|(id, listener)| {
            let visible = listener.handle != Handle::Nothing && !self.is_gone(id);
            (visible, visible && listener.pauses > 0)
        })
    }

    /// Returns for each planned listener whether its closure still exists.
    pub(crate) fn closures(&self) -> Vec<bool> {
        let mut there = vec![false; self.listeners.len()];
        self.tables().flatten().for_each(|id| there[*id] = self.listeners[*id].kind == Kind::Planned);
        there
    }

    /// Returns what keeps listeners alive: the tables of events, of emits that wait, and of publishers.
    fn tables(&self) -> impl Iterator<Item = &Vec<usize>> {
        let emissions = self.walks.iter().flatten().filter_map(|walk| walk.emission.as_ref());
        let events = self.events.iter().map(|event| &event.table);
        let publishers = self.publishers.iter().flatten().map(|publisher| &publisher.snapshot);
        events.chain(publishers).chain(emissions.map(|emission| &emission.table))
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

/// Takes a number from the fuzzer modulo how many things there are.
pub(crate) fn pick(at: u8, len: usize) -> Option<usize> {
    usize::from(at).checked_rem(len)
}

/// Takes a thing out of its place, if it is there still.
pub(crate) fn take<T>(things: &mut [Option<T>], at: u8) -> Option<T> {
    let at = pick(at, things.len())?;
    things[at].take()
}
