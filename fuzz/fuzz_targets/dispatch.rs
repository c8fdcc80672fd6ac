//! Claims about `fanfare::Dispatcher`: any sequence of operations, nested ones in listeners included,
//! calls the same listeners in the same order, and answers the same, as a `Vec` and a loop do.
//!
//! Run it with `cargo +nightly fuzz run dispatch -- -max_total_time=60`.
#![no_main]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use arbitrary::Arbitrary;
use fanfare::{Dispatcher, Event, Listener, Priority, Subscription};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 3] = ["a", "b", "ns:c"];
const PRIORITIES: [Priority; 3] = [Priority::LOW, Priority::NORMAL, Priority::HIGH];

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    Nothing,
    Fail,
    Stop,
    /// Register a plain listener at the same event.
    On,
    /// Take off the subscription of that number.
    Off(u8),
    OffAll,
    /// Emit the same event again, unless that is nested already.
    Emit,
}

#[derive(Arbitrary, Debug)]
enum Op {
    On { name: u8, priority: u8, once: bool, act: Act },
    OnListener { name: u8, which: bool },
    OffListener { name: u8, which: bool },
    Off(u8),
    OffAll { name: u8 },
    Emit { name: u8, by_handle: bool },
    Hold { name: u8 },
    Drop { name: u8 },
}

/// One registration of the model.
#[derive(Clone)]
struct Entry {
    id: usize,
    priority: usize,
    once: bool,
    act: Act,
    shared: Option<bool>,
}

/// The naive dispatcher: a vector for each name, copied by each emit.
#[derive(Default)]
struct Model {
    entries: [Vec<Entry>; 3],
    registered: Vec<usize>,
    held: [bool; 3],
    log: Vec<usize>,
    depth: usize,
}

impl Model {
    fn on(&mut self, name: usize, priority: usize, once: bool, act: Act, shared: Option<bool>) {
        let id = self.registered.len();
        self.registered.push(name);
        let entries = &mut self.entries[name];
        let at = entries.iter().position(|entry| entry.priority < priority).unwrap_or(entries.len());
        entries.insert(at, Entry { id, priority, once, act, shared });
    }

    fn off(&mut self, id: usize) -> bool {
        let Some(&name) = self.registered.get(id) else { return false };
        let before = self.entries[name].len();
        self.entries[name].retain(|entry| entry.id != id);
        self.entries[name].len() < before
    }

    fn emit(&mut self, name: usize) -> (usize, usize, bool) {
        let (mut ran, mut failed) = (0, 0);
        for entry in self.entries[name].clone() {
            if !self.entries[name].iter().any(|now| now.id == entry.id) {
                continue;
            }
            if entry.once {
                self.off(entry.id);
            }
            self.log.push(entry.id);
            ran += 1;
            match entry.act {
                Act::Nothing => {}
                Act::Fail => failed += 1,
                Act::Stop => return (ran, failed, true),
                Act::On => self.on(name, 1, false, Act::Nothing, None),
                Act::Off(id) => drop(self.off(id.into())),
                Act::OffAll => self.entries[name].clear(),
                Act::Emit if self.depth < 2 => {
                    self.depth += 1;
                    self.emit(name);
                    self.depth -= 1;
                }
                Act::Emit => {}
            }
        }
        (ran, failed, false)
    }
}

/// What the real listeners share.
struct World {
    events: Dispatcher,
    subscriptions: Mutex<Vec<Subscription>>,
    log: Mutex<Vec<usize>>,
    depth: Mutex<usize>,
}

impl World {
    fn on(self: &Arc<Self>, name: usize, priority: usize, once: bool, act: Act) {
        let id = self.subscriptions.lock().unwrap().len();
        let world = Arc::downgrade(self);
        let listener = move |_: &u8| {
            let Some(world) = world.upgrade() else { return ControlFlow::Continue(()) };
            world.act(name, id, act)
        };
        let registration = self.events.listen(NAMES[name]).unwrap().priority(PRIORITIES[priority]);
        let subscription = if once { registration.once().run(listener) } else { registration.run(listener) };
        self.subscriptions.lock().unwrap().push(subscription);
    }

    fn off(&self, id: usize) -> bool {
        let subscription = self.subscriptions.lock().unwrap().get(id).cloned();
        subscription.is_some_and(|subscription| self.events.off(&subscription))
    }

    fn act(self: &Arc<Self>, name: usize, id: usize, act: Act) -> ControlFlow<()> {
        self.log.lock().unwrap().push(id);
        match act {
            Act::Nothing => {}
            Act::Fail => panic!("on purpose"),
            Act::Stop => return ControlFlow::Break(()),
            Act::On => self.on(name, 1, false, Act::Nothing),
            Act::Off(id) => drop(self.off(id.into())),
            Act::OffAll => drop(self.events.off_all(NAMES[name])),
            Act::Emit => {
                let nested = {
                    let mut depth = self.depth.lock().unwrap();
                    *depth += 1;
                    *depth <= 2
                };
                if nested {
                    self.events.emit(NAMES[name], &0u8).unwrap();
                }
                *self.depth.lock().unwrap() -= 1;
            }
        }
        ControlFlow::Continue(())
    }
}

thread_local! {
    /// The ids of the registrations of the two shared listeners are not known to them: a mark is logged.
    static SHARED: RefCell<usize> = const { RefCell::new(0) };
}

/// libFuzzer's own hook ends the run at any panic, also at one that the dispatcher catches.
fn let_planned_panics_pass() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref() != Some(&"on purpose") {
            eprintln!("{info}");
        }
    }));
}

fuzz_target!(init: let_planned_panics_pass(), |ops: Vec<Op>| {
    let world = Arc::new(World {
        events: Dispatcher::new(),
        subscriptions: Mutex::default(),
        log: Mutex::default(),
        depth: Mutex::default(),
    });
    let shared: [Listener<u8>; 2] = [(); 2].map(|()| Listener::new(|_: &u8| SHARED.with_borrow_mut(|n| *n += 1)));
    let mut model = Model::default();
    let mut handles: [Option<Event<u8>>; 3] = [None, None, None];
    for op in ops.into_iter().take(60) {
        match op {
            Op::On { name, priority, once, act } => {
                let (name, priority) = (usize::from(name % 3), usize::from(priority % 3));
                model.on(name, priority, once, act, None);
                world.on(name, priority, once, act);
            }
            Op::OnListener { name, which } => {
                let name = usize::from(name % 3);
                model.on(name, 1, false, Act::Nothing, Some(which));
                let subscription = world.events.on_listener(NAMES[name], &shared[usize::from(which)]).unwrap();
                world.subscriptions.lock().unwrap().push(subscription);
            }
            Op::OffListener { name, which } => {
                let name = usize::from(name % 3);
                let before = model.entries[name].len();
                model.entries[name].retain(|entry| entry.shared != Some(which));
                let gone = world.events.off_listener(NAMES[name], &shared[usize::from(which)]).unwrap();
                assert_eq!(gone, before - model.entries[name].len());
            }
            Op::Off(id) => assert_eq!(world.off(id.into()), model.off(id.into())),
            Op::OffAll { name } => {
                let name = usize::from(name % 3);
                let gone = std::mem::take(&mut model.entries[name]).len();
                assert_eq!(world.events.off_all(NAMES[name]), gone);
            }
            Op::Emit { name, by_handle } => {
                let name = usize::from(name % 3);
                SHARED.with_borrow_mut(|n| *n = 0);
                let shared_ids: Vec<_> = model.entries.iter().flatten().filter(|e| e.shared.is_some()).map(|e| e.id).collect();
                let (ran, failed, stopped) = model.emit(name);
                let report = match &handles[name] {
                    Some(event) if by_handle => event.emit(&0),
                    _ => world.events.emit(NAMES[name], &0u8).unwrap(),
                };
                assert_eq!((report.ran(), report.failures().len(), report.stopped()), (ran, failed, stopped));
                let log = std::mem::take(&mut model.log);
                let (marks, calls): (Vec<usize>, Vec<usize>) = log.into_iter().partition(|id| shared_ids.contains(id));
                assert_eq!(*world.log.lock().unwrap(), calls);
                assert_eq!(SHARED.with_borrow(|n| *n), marks.len());
                world.log.lock().unwrap().clear();
            }
            Op::Hold { name } => {
                let name = usize::from(name % 3);
                handles[name].get_or_insert_with(|| world.events.event(NAMES[name]).unwrap());
                model.held[name] = true;
            }
            Op::Drop { name } => {
                let name = usize::from(name % 3);
                handles[name] = None;
                model.held[name] = false;
            }
        }
        let live = (0..3).filter(|name| model.held[*name] || !model.entries[*name].is_empty()).count();
        assert_eq!(world.events.event_count(), live);
        for (name, entries) in NAMES.iter().zip(&model.entries) {
            assert_eq!(world.events.listener_count(name), entries.len());
        }
    }
});
