//! The lives of listeners under load: emitters race with threads that register and take off, on the
//! real snapshot cell and the real name map, which loom's models have to replace.
//!
//! Every listener, and every future of an async one, has a canary, whose drop marks it dead. Every payload names
//! its event. Claims:
//!
//! - an emit calls listeners of its own event alone, also where its table is in memory that another event's table had;
//! - no call meets a dead canary, each dies once, and none outlives its dispatcher and its handles;
//! - a `times` listener runs at most that often, exactly so when nobody takes it off, and never again
//!   once an `off` returned true; every registration is ended by one call alone, or is there at the end;
//! - listeners that stay run once per emit, in the order of priorities, whatever comes and goes beside them;
//! - after `off_and_wait`, no call runs and none will; after `off`, none begins on that thread; after
//!   `pause` or `mute`, no emit that starts calls the listener;
//! - nothing waits for ever: a watchdog names the thread that does, and what it was at.
//!
//! `FANFARE_STRESS_SECONDS` says how long each test is: 2 without it, 30 before a release. `tests/sanitize.sh` runs
//! it under sanitizers. So an emit meets nothing of this test but relaxed atomics: a lock, or any
//! stronger ordering, would order the threads and hide a race from ThreadSanitizer.

#![allow(missing_docs, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::dispatch::{
    EmitOptions, Overflow, Publisher, Registration, ScopedSubscription, WaitError, WaitableSubscription,
};
use fanfare::{Dispatcher, Event, Listener, Priority, Report, Subscription};
use futures_util::FutureExt;

/// What a thread may do. A new one needs an arm in [`Player::perform`] and a place in the lists below.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    EmitByHandle,
    /// By a handle made for it, which may bring a vanished event back for a moment.
    EmitByNewHandle,
    EmitByName,
    EmitByPublisher,
    /// At the event of async listeners; some of these emits are dropped half-way.
    EmitAsync,
    On,
    Once,
    Times,
    OnListener,
    OnAsync,
    Scoped,
    Waitable,
    WaitableAsync,
    /// More listeners than one chunk of a table holds, for a moment.
    Crowd,
    /// On, an emit that must reach it, and off, at an event that vanishes each time.
    Brief,
    /// An emit that one listener, which several threads pause at once, must not hear.
    Pause,
    /// A listener whose payload is waited for.
    Next,
    Stream,
    /// Emits that nobody may hear.
    Mute,
    /// Ends one of the thread's own registrations; waits for its calls if it can.
    Off,
    OffListener,
    OffAll,
}

/// Operations, and how often each is picked.
type Mix = [(Op, usize)];

const EMITTER: &Mix = &[
    (Op::EmitByHandle, 32),
    (Op::EmitByNewHandle, 1),
    (Op::EmitByName, 32),
    (Op::EmitByPublisher, 32),
    (Op::EmitAsync, 16),
    (Op::Pause, 16),
];

const CHURNER: &Mix = &[
    (Op::On, 8),
    (Op::Once, 8),
    (Op::Times, 8),
    (Op::OnListener, 4),
    (Op::OnAsync, 4),
    (Op::Scoped, 8),
    (Op::Waitable, 12),
    (Op::WaitableAsync, 8),
    (Op::Crowd, 1),
    (Op::Brief, 4),
    (Op::Pause, 8),
    (Op::Next, 2),
    (Op::Stream, 2),
    (Op::Mute, 2),
    (Op::EmitByPublisher, 4),
    (Op::Off, 40),
    (Op::OffListener, 4),
    (Op::OffAll, 4),
];

/// Inside listeners and destructors. None of these waits: two listeners could wait for each other.
const NESTED: &Mix = &[
    (Op::EmitByHandle, 4),
    (Op::EmitByName, 4),
    (Op::EmitByPublisher, 1),
    (Op::EmitAsync, 2),
    (Op::On, 1),
    (Op::Once, 2),
    (Op::Waitable, 1),
    (Op::OnAsync, 1),
    (Op::Off, 6),
    (Op::OffAll, 1),
];

/// Events with a handle come first; the others vanish with their last listener, and come back.
const NAMES: [&str; 6] = ["awaited", "held", "held:too", "fleeting", "fleeting:too", "brief"];
const HELD: usize = 3;
/// The event of async listeners; they are waited for, as there may be no runtime to hand them to.
const AWAITED: usize = 0;
/// The event of the listener that all threads pause.
const SHARED: usize = 3;
/// The event that [`Op::Brief`] alone registers at.
const BRIEF: usize = 5;
/// Stands for the event of a listener that is registered at several.
const ANY: usize = usize::MAX;

const STRAY: &str = "a listener is called by an emit of another event";

/// Events that `off_all` and `mute` may meet; at the others, the end of a scope ends a listener for
/// sure, and an emit reaches who is there.
const CLEARED: [usize; 2] = [2, 4];

fn is_cleared(event: usize) -> bool {
    CLEARED.contains(&event)
}

/// Tells whether this event has listeners that stay: see [`World::settle_in`].
fn has_residents(event: usize) -> bool {
    event < 2
}

const PRIORITIES: [Priority; 5] =
    [Priority::HIGHEST, Priority::HIGH, Priority::NORMAL, Priority::LOW, Priority::LOWEST];
/// Two for each priority, numbered in the order of calls.
const RESIDENTS: usize = 2 * PRIORITIES.len();

const EMITTERS: usize = 3;
const CHURNERS: usize = 3;
/// Operations of each churner in a round; a round has a dispatcher and threads of its own.
const TURNS: usize = 400;
const MOST_ROUNDS: usize = 100_000;
const MOST_SUBSCRIPTIONS: usize = 24;
const MOST_TIMES: usize = 4;
const DEEPEST: usize = 3;
/// How long one operation, or a round, may take before the watchdog calls it a hang; a slow round takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

static MADE: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);
static VIOLATIONS: AtomicUsize = AtomicUsize::new(0);

/// Counts a violation: a panic would end in a report, or, from a destructor, on stderr.
fn require(holds: bool, violation: &str) {
    if !holds && VIOLATIONS.fetch_add(1, Relaxed) < 10 {
        eprintln!("violation: {violation}");
    }
}

/// What a listener captures, and each future of an async one.
struct Canary(AtomicU64);

const ALIVE: u64 = 0x0A11_FEED_CA9A_121E;
const DEAD: u64 = 0xDEAD_DEAD_DEAD_DEAD;

impl Canary {
    fn new() -> Self {
        MADE.fetch_add(1, Relaxed);
        Self(AtomicU64::new(ALIVE))
    }

    fn check(&self) {
        require(self.0.load(Relaxed) == ALIVE, "a listener is called after its drop");
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        require(self.0.swap(DEAD, Relaxed) == ALIVE, "a listener is dropped twice");
        DROPPED.fetch_add(1, Relaxed);
        Player::nest();
    }
}

/// What the threads of one round share.
struct World {
    events: Dispatcher,
    /// By the number of the event.
    held: Vec<Event<usize>>,
    listeners: [Listener<usize>; 2],
    /// The registration that all threads pause.
    shared: Subscription,
    shared_story: Arc<Story>,
    tallies: [Tally; NAMES.len()],
    over: AtomicBool,
}

/// The registrations of one event.
#[derive(Default)]
struct Tally {
    made: AtomicUsize,
    /// Ended by a call that said so.
    ended: AtomicUsize,
    /// Ended by their scope, unless an `off_all` was faster.
    perhaps: AtomicUsize,
}

/// What became of one listener.
#[derive(Default)]
struct Story {
    event: usize,
    /// How many calls it has; 0 for any number.
    times: usize,
    calls: AtomicUsize,
    /// Calls in flight.
    running: AtomicUsize,
    /// Ended by an `off` that returned true.
    taken_off: AtomicBool,
    /// The number of the thread whose `off` returned, plus one: no call begins on it from then on.
    gone: AtomicUsize,
    /// Somebody waited for the end of its calls.
    over: AtomicBool,
}

/// A registration that a thread may end.
enum Held {
    On(Subscription, Arc<Story>),
    Waitable(WaitableSubscription, Arc<Story>),
    Scoped(ScopedSubscription),
}

/// One thread: its random numbers, and what it registered.
struct Player {
    world: Arc<World>,
    /// Which of [`DOING`] is its own.
    number: usize,
    random: Cell<u64>,
    /// How many of our listeners and destructors this thread is in.
    depth: Cell<usize>,
    /// Never borrowed while the dispatcher works: it calls listeners, and they may come here.
    subscriptions: RefCell<Vec<(usize, Held)>>,
    /// Of `times` listeners. Borrowed as briefly, as are the next two.
    stories: RefCell<Vec<Arc<Story>>>,
    /// One that emits is not in here.
    publishers: RefCell<Vec<(usize, Publisher<usize>)>>,
    /// Whom each running emit called so far, of those that stay; the innermost emit last.
    called: RefCell<Vec<Vec<usize>>>,
    /// Whether this thread has the shared listener paused.
    pauses: Cell<bool>,
    ran: Cell<usize>,
}

thread_local! {
    /// Listeners find the world here, not in an `Arc` of their own: see the top.
    static PLAYER: RefCell<Option<Player>> = const { RefCell::new(None) };
}

/// What a thread is at, for the watchdog.
struct Doing {
    turns: AtomicUsize,
    /// The number of an [`Op`] plus one; 0 between turns.
    op: AtomicUsize,
}

/// By the number of the thread; the last one is the round as a whole, which counts rounds.
static DOING: [Doing; EMITTERS + CHURNERS + 1] =
    [const { Doing { turns: AtomicUsize::new(0), op: AtomicUsize::new(0) } }; EMITTERS + CHURNERS + 1];

/// One call of a listener, until it is dropped.
struct Call<S: Deref<Target = Story>>(S);

impl<S: Deref<Target = Story>> Call<S> {
    fn begin(story: S) -> Self {
        story.calls.fetch_add(1, Relaxed);
        story.running.fetch_add(1, Relaxed);
        Player::require_allowed(&story);
        Self(story)
    }
}

impl<S: Deref<Target = Story>> Drop for Call<S> {
    fn drop(&mut self) {
        require(!self.0.over.load(Relaxed), "a call is running after somebody waited for its end");
        self.0.running.fetch_sub(1, Relaxed);
    }
}

fn listener(story: Arc<Story>) -> impl Fn(&usize) + Send + Sync + 'static {
    let canary = Canary::new();
    move |event| {
        canary.check();
        story.require_own(*event);
        let _call = Call::begin(&*story);
        Player::nest();
        // Whatever was taken off in there: this call is still running.
        canary.check();
    }
}

fn async_listener(story: Arc<Story>) -> impl Fn(Arc<usize>) -> futures_util::future::BoxFuture<'static, ()> {
    let canary = Canary::new();
    move |event| {
        canary.check();
        story.require_own(*event);
        // Dropped with the future, wherever it has got to.
        let (call, canary) = (Call::begin(Arc::clone(&story)), Canary::new());
        Box::pin(async move {
            let _call = call;
            Player::nest();
            yield_once().await;
            canary.check();
            Player::nest();
        })
    }
}

/// Is pending once.
fn yield_once() -> impl Future<Output = ()> {
    let mut is_over = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

impl Player {
    /// Plays on this thread while `goes_on` agrees to another turn.
    fn run(world: Arc<World>, number: usize, seed: u64, mix: &Mix, goes_on: impl Fn(usize) -> bool) -> Self {
        let publishers = world.held.iter().map(Event::publisher).enumerate().collect();
        PLAYER.set(Some(Self {
            world,
            number,
            random: Cell::new(seed),
            depth: Cell::new(0),
            subscriptions: RefCell::default(),
            stories: RefCell::default(),
            publishers: RefCell::new(publishers),
            called: RefCell::default(),
            pauses: Cell::new(false),
            ran: Cell::new(0),
        }));
        PLAYER.with_borrow(|player| {
            let player = player.as_ref().expect("it was set");
            (0..).take_while(|turn| goes_on(*turn)).for_each(|_| player.play(player.pick(mix)));
        });
        let player = PLAYER.take().expect("it was set");
        for (event, held) in player.subscriptions.take() {
            if let Held::Scoped(_) = held {
                player.end(event, held);
            }
        }
        player
    }

    /// Now and then yields, or plays, inside a listener or a destructor.
    fn nest() {
        let _ = PLAYER.try_with(|player| {
            let player = player.borrow();
            let Some(player) = &*player else { return };
            let depth = player.depth.get();
            if player.random(64) == 0 {
                thread::yield_now();
            }
            if depth < DEEPEST && player.random(16) == 0 {
                player.depth.set(depth + 1);
                player.play(player.pick(NESTED));
                player.depth.set(depth);
            }
        });
    }

    /// Returns a number below `end`, by xorshift.
    fn random(&self, end: usize) -> usize {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 11) as usize % end
    }

    fn pick(&self, mix: &Mix) -> Op {
        let mut at = self.random(mix.iter().map(|(_, often)| often).sum());
        for (op, often) in mix {
            match at.checked_sub(*often) {
                Some(rest) => at = rest,
                None => return *op,
            }
        }
        unreachable!("the number is below the sum")
    }

    /// Performs one operation, and lets the watchdog know.
    fn play(&self, op: Op) {
        let doing = &DOING[self.number];
        let outer = doing.op.swap(op as usize + 1, Relaxed);
        self.perform(op);
        doing.op.store(outer, Relaxed);
        doing.turns.fetch_add(1, Relaxed);
    }

    fn perform(&self, op: Op) {
        let event = 1 + self.random(BRIEF - 1);
        let cleared = CLEARED[self.random(CLEARED.len())];
        match op {
            Op::EmitByHandle => _ = self.emit_by_handle(1 + self.random(HELD - 1)),
            Op::EmitByNewHandle => {
                let event = 1 + self.random(BRIEF);
                self.emitting(event, || self.world.event(event).emit(&event));
            }
            Op::EmitByName => _ = self.emit_by_name(1 + self.random(BRIEF)),
            Op::EmitByPublisher => self.emit_by_publisher(),
            Op::EmitAsync => self.emit_async(),
            Op::On => self.keep(event, Self::on),
            Op::Once => self.keep(event, |player, event| player.times(event, 1)),
            Op::Times => self.keep(event, |player, event| player.times(event, 1 + player.random(MOST_TIMES))),
            Op::Scoped => self.keep(event, Self::scoped),
            Op::Waitable => self.keep(event, Self::waitable),
            Op::OnAsync => self.keep(AWAITED, Self::on_async),
            Op::WaitableAsync => self.keep(AWAITED, Self::waitable_async),
            Op::OnListener => self.on_listener(event),
            Op::Crowd => {
                let crowd: Vec<_> = (0..70).map(|_| self.scoped(event)).collect();
                crowd.into_iter().for_each(|held| self.end(event, held));
            }
            Op::Brief => self.brief(),
            Op::Pause => self.pause(),
            Op::Next => {
                let next = self.world.held[1].next();
                self.emit_by_handle(1);
                // Another thread's emit may have taken its call, and be about to make it.
                require(futures_executor::block_on(next).as_deref() == Some(&1), "an emit missed who waits for it");
            }
            Op::Stream => {
                let mut stream = self.world.event(BRIEF).stream(1, Overflow::DropOldest);
                require(self.emit_by_name(BRIEF) > 0, "an emit missed a stream");
                require(stream.try_next().as_deref() == Some(&BRIEF), "a stream lost its payload");
            }
            Op::Mute => {
                let muted = self.world.event(cleared).mute();
                require(self.emit_by_name(cleared) == 0, "an emit by name was heard at a muted event");
                require(self.world.event(cleared).emit(&cleared).ran() == 0, "an emit was heard at a muted event");
                drop(muted);
            }
            Op::Off => self.off(),
            Op::OffListener => {
                let listener = &self.world.listeners[self.random(2)];
                let ended = self.world.events.off_listener(NAMES[event], listener).expect("the name is good");
                self.world.tallies[event].ended.fetch_add(ended, Relaxed);
            }
            Op::OffAll => {
                let ended = self.world.events.off_all(NAMES[cleared]);
                self.world.tallies[cleared].ended.fetch_add(ended, Relaxed);
            }
        }
    }

    fn emit_by_handle(&self, event: usize) -> usize {
        self.emitting(event, || self.world.held[event].emit(&event))
    }

    fn emit_by_name(&self, event: usize) -> usize {
        self.emitting(event, || self.world.events.emit(NAMES[event], &event).expect("the name is good"))
    }

    /// Emits by a publisher that may have been idle for long, and is renewed now and then.
    fn emit_by_publisher(&self) {
        let event = 1 + self.random(HELD - 1);
        let taken = {
            let mut publishers = self.publishers.borrow_mut();
            publishers.iter().position(|(at, _)| *at == event).map(|index| publishers.swap_remove(index).1)
        };
        let mut publisher = taken.unwrap_or_else(|| self.world.held[event].publisher());
        self.emitting(event, || publisher.emit(&event));
        match self.random(8) {
            0 => publisher.refresh(),
            1 => publisher = publisher.clone(),
            _ => {}
        }
        if self.publishers.borrow().iter().all(|(at, _)| *at != event) {
            self.publishers.borrow_mut().push((event, publisher));
        }
    }

    fn emit_async(&self) {
        let event = &self.world.held[AWAITED];
        let options = EmitOptions::new().concurrent(1 + self.random(4));
        let polls = if self.random(4) == 0 { self.random(8) } else { usize::MAX };
        self.called.borrow_mut().push(Vec::new());
        let report = match self.random(3) {
            0 => poll_up_to(polls, event.emit_async_with(options, &AWAITED)),
            1 => poll_up_to(polls, event.publisher().emit_async(&AWAITED)),
            _ => poll_up_to(polls, self.world.events.emit_async(NAMES[AWAITED], &AWAITED))
                .map(|report| report.expect("the name is good")),
        };
        let called = self.called.borrow_mut().pop().expect("it was pushed");
        require(called.iter().copied().eq(0..called.len()), "async listeners were called out of order, or twice");
        if let Some(report) = report {
            require(called.len() == RESIDENTS, "an async emit missed a listener");
            self.note(&report);
        }
    }

    /// Emits at `event`, checks who was called, and returns how many listeners ran.
    fn emitting(&self, event: usize, emit: impl FnOnce() -> Report) -> usize {
        self.called.borrow_mut().push(Vec::new());
        let report = emit();
        let called = self.called.borrow_mut().pop().expect("it was pushed");
        let residents = if has_residents(event) { RESIDENTS } else { 0 };
        require(called.into_iter().eq(0..residents), "listeners were called out of order, twice, or not at all");
        self.note(&report)
    }

    /// Returns how many listeners ran.
    fn note(&self, report: &Report) -> usize {
        require(report.is_ok(), "a listener failed");
        self.ran.set(self.ran.get() + report.ran());
        report.ran()
    }

    /// Notes that a listener that stays is called, by the innermost emit of this thread.
    fn call_resident(number: usize) {
        PLAYER.with_borrow(|player| {
            // None where the main thread emits, at the end of a round.
            let Some(player) = player else { return };
            player.called.borrow_mut().last_mut().expect("an emit is running").push(number);
        });
    }

    fn require_allowed(story: &Story) {
        let _ = PLAYER.try_with(|player| {
            let player = player.borrow();
            let Some(player) = &*player else { return };
            require(story.gone.load(Relaxed) != player.number + 1, "a listener is called after its `off`");
            let is_shared = std::ptr::eq(story, &*player.world.shared_story);
            require(!is_shared || !player.pauses.get(), "an emit called a listener that was paused before it");
        });
    }

    fn brief(&self) {
        let (on, once) = (self.on(BRIEF), self.times(BRIEF, 1));
        require(self.emit_by_name(BRIEF) > 0, "an emit missed a listener");
        self.end(BRIEF, on);
        self.emit_by_name(BRIEF);
        self.end(BRIEF, once);
    }

    /// Pauses the shared listener, as other threads may do at the same time, and emits its event.
    fn pause(&self) {
        let paused = self.world.shared.pause();
        self.pauses.set(true);
        self.emit_by_name(SHARED);
        self.pauses.set(false);
        drop(paused);
    }

    /// Registers at `event`, and remembers it.
    fn keep(&self, event: usize, register: impl Fn(&Self, usize) -> Held) {
        if self.subscriptions.borrow().len() >= MOST_SUBSCRIPTIONS {
            self.off();
        }
        let held = register(self, event);
        self.subscriptions.borrow_mut().push((event, held));
    }

    fn listen(&self, event: usize) -> Registration<usize> {
        self.world.tallies[event].made.fetch_add(1, Relaxed);
        let registration = self.world.events.listen(NAMES[event]).expect("the name is good");
        let registration = registration.priority(PRIORITIES[self.random(PRIORITIES.len())]);
        if self.random(4) == 0 { registration.prepend() } else { registration }
    }

    fn on(&self, event: usize) -> Held {
        let story = Story::new(event, 0);
        Held::On(self.listen(event).run(listener(Arc::clone(&story))), story)
    }

    fn times(&self, event: usize, times: usize) -> Held {
        let story = Story::new(event, times);
        self.stories.borrow_mut().push(Arc::clone(&story));
        let registration = self.listen(event).times(u32::try_from(times).expect("it is small"));
        Held::On(registration.run(listener(Arc::clone(&story))), story)
    }

    fn on_async(&self, event: usize) -> Held {
        let story = Story::new(event, 0);
        Held::On(self.listen(event).run_async(async_listener(Arc::clone(&story))), story)
    }

    fn scoped(&self, event: usize) -> Held {
        Held::Scoped(self.listen(event).run(listener(Story::new(event, 0))).scoped())
    }

    fn waitable(&self, event: usize) -> Held {
        let story = Story::new(event, 0);
        Held::Waitable(self.listen(event).waitable().run(listener(Arc::clone(&story))), story)
    }

    fn waitable_async(&self, event: usize) -> Held {
        let story = Story::new(event, 0);
        Held::Waitable(self.listen(event).waitable().run_async(async_listener(Arc::clone(&story))), story)
    }

    /// Nobody keeps the subscription: an `off_listener` or an `off_all` ends it.
    fn on_listener(&self, event: usize) {
        let listener = &self.world.listeners[self.random(2)];
        self.listen(event).run_listener(listener);
    }

    fn off(&self) {
        let len = self.subscriptions.borrow().len();
        if len > 0 {
            let (event, held) = self.subscriptions.borrow_mut().swap_remove(self.random(len));
            self.end(event, held);
        }
    }

    fn end(&self, event: usize, held: Held) {
        let tally = &self.world.tallies[event];
        let (subscription, ended) = match held {
            Held::On(subscription, story) => {
                let ended = if self.random(2) == 0 { subscription.off() } else { self.world.events.off(&subscription) };
                story.taken_off.store(ended, Relaxed);
                story.gone.store(self.number + 1, Relaxed);
                (subscription, ended)
            }
            Held::Waitable(waitable, story) => (Subscription::clone(&waitable), self.end_waitable(&waitable, &story)),
            Held::Scoped(scoped) => {
                let subscription = Subscription::clone(&scoped);
                drop(scoped);
                tally.perhaps.fetch_add(is_cleared(event).into(), Relaxed);
                (subscription, !is_cleared(event))
            }
        };
        tally.ended.fetch_add(ended.into(), Relaxed);
        require(!subscription.is_active(), "a listener is active after its `off`");
        require(!subscription.off(), "a listener is taken off twice");
    }

    /// Takes the listener off and waits for its calls, outside of all listeners; inside them it does not wait.
    fn end_waitable(&self, waitable: &WaitableSubscription, story: &Story) -> bool {
        if self.depth.get() > 0 {
            let ended = waitable.off();
            story.gone.store(self.number + 1, Relaxed);
            return ended;
        }
        let mut ended = false;
        if self.random(4) == 0 {
            // Waits that give up.
            ended = waitable.off();
            let waited = waitable.off_and_wait_timeout(Duration::ZERO);
            require(matches!(waited, Ok(false) | Err(WaitError::TimedOut)), "a listener is taken off twice");
            let waited = waitable.off_and_wait_async().now_or_never();
            require(matches!(waited, Some(Ok(false)) | None), "a listener is taken off twice");
        }
        let waited = match self.random(2) {
            0 => waitable.off_and_wait(),
            _ => futures_executor::block_on(waitable.off_and_wait_async()),
        };
        require(waited.is_ok(), "a wait outside of listeners would deadlock");
        require(story.running.load(Relaxed) == 0, "a call is running after somebody waited for its end");
        story.over.store(true, Relaxed);
        ended | (waited == Ok(true))
    }
}

/// Polls a future to its end, or drops it after so many polls.
fn poll_up_to<R>(polls: usize, future: impl Future<Output = R>) -> Option<R> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

impl World {
    fn new() -> Self {
        // A crowd is no reason to warn.
        let events = Dispatcher::builder().warn_above(None).build();
        let held = NAMES[..HELD].iter().map(|name| events.event(*name).expect("the name is good")).collect();
        let listeners = [(); 2].map(|()| Listener::new(listener(Story::new(ANY, 0))));
        let shared_story = Story::new(SHARED, 0);
        let shared = events.on(NAMES[SHARED], listener(Arc::clone(&shared_story))).expect("the name is good");
        let (tallies, over) = (<[Tally; NAMES.len()]>::default(), AtomicBool::new(false));
        tallies[SHARED].made.store(1, Relaxed);
        let world = Self { events, held, listeners, shared, shared_story, tallies, over };
        // Backwards, so that nothing but priority and position makes their order.
        (0..RESIDENTS).rev().for_each(|number| world.settle_in(number));
        world
    }

    /// Registers the listeners that stay for the round, and are called as the `number`th of their kind.
    fn settle_in(&self, number: usize) {
        let resident = |event: usize| {
            self.tallies[event].made.fetch_add(1, Relaxed);
            let registration = self.held[event].listen().priority(PRIORITIES[number / 2]);
            // Of each two, the first stands before whoever comes in between.
            (if number.is_multiple_of(2) { registration.prepend() } else { registration }, Canary::new())
        };
        let (registration, canary) = resident(1);
        registration.run(move |event| {
            canary.check();
            require(*event == 1, STRAY);
            Player::call_resident(number);
        });
        let (registration, canary) = resident(AWAITED);
        registration.run_async(move |event| {
            canary.check();
            require(*event == AWAITED, STRAY);
            Player::call_resident(number);
            yield_once()
        });
    }

    fn event(&self, event: usize) -> Event<usize> {
        self.events.event(NAMES[event]).expect("the name is good")
    }

    /// Checks what is left when all threads are gone.
    fn check(&self, stories: &[Arc<Story>]) {
        require(self.shared.is_active() && !self.shared.is_paused(), "pauses do not add up");
        for (event, tally) in self.tallies.iter().enumerate() {
            let left = self.events.listener_count(NAMES[event]);
            let used_up = stories.iter().filter(|story| story.event == event && story.is_used_up()).count();
            let known = tally.ended.load(Relaxed) + used_up + left;
            let (made, perhaps) = (tally.made.load(Relaxed), tally.perhaps.load(Relaxed));
            require(known <= made, "a registration ended twice");
            require(made <= known + perhaps, "a registration was lost");
        }
        // Nobody takes anything off any more: who has calls left gets them.
        for (event, name) in NAMES.iter().enumerate().skip(AWAITED + 1) {
            (0..MOST_TIMES).for_each(|_| _ = self.events.emit(*name, &event).expect("the name is good"));
        }
        for story in stories.iter().filter(|story| !is_cleared(story.event)) {
            require(
                story.is_used_up() || story.taken_off.load(Relaxed),
                "a listener was not called as often as it asked",
            );
        }
    }

    /// Takes everything off; without it the listeners end with their dispatcher.
    fn clear(&self) {
        for name in NAMES {
            let left = self.events.listener_count(name);
            require(self.events.off_all(name) == left, "`off_all` left a listener");
        }
        require(self.events.event_count() == HELD, "an event without a listener is not forgotten");
    }
}

impl Story {
    fn new(event: usize, times: usize) -> Arc<Self> {
        Arc::new(Self { event, times, ..Self::default() })
    }

    fn require_own(&self, event: usize) {
        require(event == self.event || self.event == ANY, STRAY);
    }

    /// Tells whether it had all of its calls.
    fn is_used_up(&self) -> bool {
        self.calls.load(Relaxed) == self.times
    }

    fn check(&self) {
        let calls = self.calls.load(Relaxed);
        require(calls <= self.times, "a listener ran too often");
        require(
            calls < self.times || !self.taken_off.load(Relaxed),
            "a listener had all its calls, and an `off` ended it too",
        );
        require(self.running.load(Relaxed) == 0, "a call never ended");
    }
}

/// What a round came to, to see that there was a race.
#[derive(Debug, Default)]
struct Total {
    calls: usize,
    used_up: usize,
    taken_off: usize,
}

fn seed(round: usize, thread: usize) -> u64 {
    ((round << 8 | thread) as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn round(number: usize, total: &mut Total) {
    let world = Arc::new(World::new());
    let players: Vec<_> = thread::scope(|scope| {
        let spawn = |thread, emits| {
            let world = Arc::clone(&world);
            scope.spawn(move || {
                let (over, seed) = (Arc::clone(&world), seed(number, thread));
                let player = match emits {
                    true => Player::run(world, thread, seed, EMITTER, |_| !over.over.load(Relaxed)),
                    false => Player::run(world, thread, seed, CHURNER, |turn| turn < TURNS),
                };
                (player.stories.into_inner(), player.ran.get())
            })
        };
        let emitters: Vec<_> = (0..EMITTERS).map(|thread| spawn(thread, true)).collect();
        let churners: Vec<_> = (0..CHURNERS).map(|thread| spawn(EMITTERS + thread, false)).collect();
        let mut ends: Vec<_> = churners.into_iter().map(|churner| churner.join()).collect();
        world.over.store(true, Relaxed);
        ends.extend(emitters.into_iter().map(|emitter| emitter.join()));
        ends.into_iter().map(|end| end.expect("no thread panics")).collect()
    });
    total.calls += players.iter().map(|(_, ran)| ran).sum::<usize>();
    let stories: Vec<_> = players.into_iter().flat_map(|(stories, _)| stories).collect();
    total.used_up += stories.iter().filter(|story| story.is_used_up()).count();
    total.taken_off += stories.iter().filter(|story| story.taken_off.load(Relaxed)).count();

    world.check(&stories);
    if number.is_multiple_of(2) {
        world.clear();
    }
    drop(world);
    stories.iter().for_each(|story| story.check());
    require_all_dropped();
}

fn require_all_dropped() {
    require(MADE.load(Relaxed) == DROPPED.load(Relaxed), "a listener outlives its dispatcher and its handles");
}

/// The dispatcher goes while handles and publishers emit, and another thread registers by name.
fn farewell(number: usize) {
    /// More than the name map has room for at first.
    const EVENTS: usize = 40;
    let events = Dispatcher::new();
    let name = |event: usize| format!("farewell:{event}");
    let handles: Vec<Event<usize>> =
        (0..EVENTS).map(|event| events.event(&*name(event)).expect("the name is good")).collect();
    handles.iter().enumerate().for_each(|(event, handle)| _ = handle.on(listener(Story::new(event, 0))));
    let (over, begun) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut publishers: Vec<_> = handles.iter().map(Event::publisher).collect();
            let handles = &handles;
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    for (event, (handle, publisher)) in handles.iter().zip(&mut publishers).enumerate() {
                        require(handle.emit(&event).ran() > 0, "a handle lost its listener");
                        require(publisher.emit(&event).ran() > 0, "a publisher lost its listener");
                        begun.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let weak = events.downgrade();
        let registrar = scope.spawn(move || {
            for turn in 0.. {
                let Some(events) = weak.upgrade() else { return };
                // Some of these have handles, the others go with the dispatcher.
                let event = (number + turn) % (2 * EVENTS);
                let name = name(event);
                if turn < 4 * EVENTS {
                    events.on(&*name, listener(Story::new(event, 0))).expect("the name is good");
                }
                require(events.emit(&*name, &event).is_ok_and(|report| report.ran() > 0), "an emit missed a listener");
            }
        });
        while begun.load(Relaxed) < EVENTS {
            thread::yield_now();
        }
        drop(events);
        registrar.join().expect("no thread panics");
        over.store(true, Relaxed);
    });
    drop(handles);
    require_all_dropped();
}

/// A payload whose first field is the number of its event. The layout is fixed, so that a listener which is called
/// with a payload of another type reads that number all the same, and nothing behind it.
trait Named: Sync + 'static {
    fn event(&self) -> usize;
    /// Tells whether the rest is as it was made. Asked once the number is right: the rest may be a text elsewhere.
    fn is_whole(&self) -> bool;
}

#[repr(C)]
struct Numbers {
    event: usize,
    numbers: [u64; 3],
}

#[repr(C)]
struct Text {
    event: usize,
    text: String,
}

impl Named for Numbers {
    fn event(&self) -> usize {
        self.event
    }

    fn is_whole(&self) -> bool {
        self.numbers == [0x4242_4242; 3]
    }
}

impl Named for Text {
    fn event(&self) -> usize {
        self.event
    }

    fn is_whole(&self) -> bool {
        self.text == "whole"
    }
}

fn listener_of<T: Named>(own: usize) -> impl Fn(&T) + Send + Sync + 'static {
    move |payload| match payload.event() == own {
        true => require(payload.is_whole(), "a payload is not whole"),
        false => require(false, STRAY),
    }
}

/// One thread emits at one of two events while another registers at both and takes off again. A table that one event
/// gives up leaves its memory to the other's next one, and an emit that is interrupted meanwhile may be handed that.
///
/// To interrupt it often, two more threads wake at short intervals and take a core away. Without them a fault of
/// this kind took minutes to show, with them seconds.
struct Strangers {
    /// Both have a listener that stays, or else an emit between two registrations would look at no table.
    numbers: Event<Numbers>,
    texts: Event<Text>,
    over: AtomicBool,
    emits: AtomicUsize,
    changes: AtomicUsize,
}

impl Strangers {
    const NUMBERS: usize = 1;
    const TEXTS: usize = 2;
    const WAKERS: usize = 2;
    /// Between two looks at whether it is over.
    const BATCH: usize = 64;

    fn new() -> Self {
        let events = Dispatcher::new();
        let numbers = events.event("numbers").expect("the name is good");
        let texts = events.event("texts").expect("the name is good");
        numbers.on(listener_of(Self::NUMBERS));
        texts.on(listener_of(Self::TEXTS));
        let (over, emits, changes) = <(AtomicBool, AtomicUsize, AtomicUsize)>::default();
        Self { numbers, texts, over, emits, changes }
    }

    fn run(&self, time: Duration) {
        let started = Instant::now();
        let goes_on = move || !self.over.load(Relaxed);
        thread::scope(|scope| {
            let repeat =
                |turn: fn(&Self)| scope.spawn(move || (0..).take_while(|_| goes_on()).for_each(|_| turn(self)));
            let mut threads = vec![repeat(Self::emit), repeat(Self::change)];
            threads.extend((0..Self::WAKERS).map(|_| repeat(|_| thread::sleep(Duration::from_micros(1)))));
            while started.elapsed() < time && VIOLATIONS.load(Relaxed) == 0 {
                thread::sleep(Duration::from_millis(20));
            }
            self.over.store(true, Relaxed);
            // The scope's own wait is not instrumented: ThreadSanitizer would see a race for the stack.
            threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        });
    }

    fn emit(&self) {
        let numbers = Numbers { event: Self::NUMBERS, numbers: [0x4242_4242; 3] };
        (0..Self::BATCH).for_each(|_| require(self.numbers.emit(&numbers).ran() > 0, "an emit missed a listener"));
        let text = Text { event: Self::TEXTS, text: "whole".to_owned() };
        require(self.texts.emit(&text).ran() > 0, "an emit missed a listener");
        self.emits.fetch_add(Self::BATCH + 1, Relaxed);
    }

    fn change(&self) {
        for _ in 0..Self::BATCH {
            let number = self.numbers.on(listener_of(Self::NUMBERS));
            let text = self.texts.on(listener_of(Self::TEXTS));
            require(number.off() && text.off(), "a registration was lost");
        }
        self.changes.fetch_add(4 * Self::BATCH, Relaxed);
    }
}

/// Ends the process when a thread is at one operation for too long, or all are at one round, and says at which.
fn watch(is_over: &AtomicBool) {
    let mut seen = DOING.each_ref().map(|_| (0, Instant::now()));
    while !is_over.load(Relaxed) {
        thread::park_timeout(Duration::from_secs(1));
        for ((turns, since), doing) in seen.iter_mut().zip(&DOING) {
            let now = doing.turns.load(Relaxed);
            if doing.op.load(Relaxed) == 0 || now != *turns {
                (*turns, *since) = (now, Instant::now());
            }
        }
        if seen.iter().any(|(_, since)| since.elapsed() > PATIENCE) {
            for (thread, ((_, since), doing)) in seen.iter().zip(&DOING).enumerate() {
                let op = doing.op.load(Relaxed);
                let op = [EMITTER, CHURNER, NESTED].concat().into_iter().find(|(known, _)| *known as usize + 1 == op);
                let what = op.map_or_else(|| "no operation, or the round".to_owned(), |(op, _)| format!("{op:?}"));
                eprintln!("hang: thread {thread} is at {what} for {:?}", since.elapsed());
            }
            std::process::exit(1);
        }
    }
}

/// How long each test runs.
fn time() -> Duration {
    let seconds = std::env::var("FANFARE_STRESS_SECONDS").map_or(2, |text| text.parse().expect("it is a number"));
    Duration::from_secs(seconds)
}

/// One test at a time: they count violations together, and each has use for all cores.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn an_emit_calls_listeners_of_its_own_event_alone_whose_memory_another_had() {
    let _alone = alone();
    let strangers = Strangers::new();
    strangers.run(time());
    let (emits, changes) = (strangers.emits.load(Relaxed), strangers.changes.load(Relaxed));
    println!("{emits} emits beside {changes} changes of tables");
    assert_eq!(VIOLATIONS.load(Relaxed), 0, "violations");
    assert!(emits > 0 && changes > 0, "nothing happened");
}

#[test]
fn listeners_are_alive_when_called_end_once_and_die_with_their_dispatcher() {
    let _alone = alone();
    let is_over = Arc::new(AtomicBool::new(false));
    DOING[EMITTERS + CHURNERS].op.store(usize::MAX, Relaxed);
    let watchdog = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || watch(&is_over)
    });
    let (started, mut rounds, mut total) = (Instant::now(), 0, Total::default());
    while rounds == 0 || rounds < MOST_ROUNDS && started.elapsed() < time() {
        round(rounds, &mut total);
        farewell(rounds);
        assert_eq!(VIOLATIONS.load(Relaxed), 0, "violations in round {rounds}");
        rounds += 1;
        DOING[EMITTERS + CHURNERS].turns.store(rounds, Relaxed);
    }
    is_over.store(true, Relaxed);
    watchdog.thread().unpark();
    watchdog.join().expect("the watchdog does not panic");
    println!("{rounds} rounds, {} listeners, {total:?}", MADE.load(Relaxed));
    assert!(total.calls > 0 && total.used_up > 0 && total.taken_off > 0, "nothing happened: {total:?}");
}
