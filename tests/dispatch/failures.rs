//! Failures: each one is told to `on_error` when it happens, stands in its report, and stops nothing that was not asked to stop.

use std::error::Error as _;
use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use fanfare::dispatch::{BoxError, EmitOptions, FailureCause, Value};
use fanfare::{Dispatcher, Event};
use futures_executor::block_on;

use crate::calls::{Grenade, Log, TICK, Woken, closed_gate, fall, gated, note, poll_once, push, taken, told};

fn tick() -> (Dispatcher, Event<u32>) {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    (events, event)
}

fn texts(told: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut told.lock().unwrap())
}

#[test]
fn the_hook_is_told_of_a_failure_when_it_happens() {
    let ((events, event), log) = (tick(), Log::default());
    let inner = Arc::clone(&log);
    events.on_error(move |failure| {
        push(
            &inner,
            if matches!(failure.cause(), FailureCause::Panic(_)) { "told of a panic" } else { "told of an error" },
        );
    });
    event.on(note(&log, "first"));
    event.on(|_| Err::<(), _>("no"));
    event.on(note(&log, "second"));
    event.on(|_| fall("out"));
    event.on(note(&log, "third"));
    for _ in 0..2 {
        assert_eq!(event.emit(&1).failures().len(), 2);
        assert_eq!(taken(&log), ["first", "told of an error", "second", "told of a panic", "third"], "each time");
    }
}

#[test]
fn the_hook_is_told_of_the_failures_of_awaited_listeners_when_they_happen() {
    let (events, event) = tick();
    let (told, gate) = (told(&events), closed_gate());
    event.on_async(|_| -> Ready<()> { panic!("while it is made") });
    event.on_async(|_| ready(Err::<(), _>("made with an error")));
    event.on_async_with(Arc::clone(&gate), |gate, _| async move {
        gate.acquire().await.map(drop)?;
        Err::<(), BoxError>("after a wait".into())
    });
    event.on_async(|_| async { fall("in the future") });
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    assert_eq!(
        texts(&told),
        ["listener of `tick` panicked: while it is made", "listener of `tick` failed: made with an error"]
    );
    gate.add_permits(1);
    let report = block_on(emit);
    assert_eq!(texts(&told), ["listener of `tick` failed: after a wait", "listener of `tick` panicked: in the future"]);
    assert_eq!((report.ran(), report.failures().len()), (4, 4));
}

#[test]
fn a_failure_tells_its_event_its_place_and_its_source() {
    let events = Dispatcher::new();
    let event = events.namespace("shop").event::<u32>("paid").unwrap();
    let line = line!() + 1;
    event.on(|_| Err::<(), _>(std::fmt::Error));
    let failure = event.emit(&1).into_failures().pop().unwrap();
    assert_eq!(failure.event(), "shop:paid");
    let place = failure.registered_at().unwrap();
    assert_eq!((place.file(), place.line()), (file!(), line));
    assert!(failure.source().unwrap().is::<std::fmt::Error>());
    event.off_all();
    event.on(|_| std::panic::panic_any(7) as ());
    let failure = event.emit(&1).into_failures().pop().unwrap();
    assert_eq!(failure.to_string(), "listener of `shop:paid` panicked: a panic whose payload is not a string");
    assert!(failure.source().is_none());
}

#[test]
fn there_is_one_hook_for_clones_and_namespaces_and_a_later_one_replaces_it() {
    let (events, event) = tick();
    let first = told(&events.namespace("ui"));
    event.on(|_| Err::<(), _>("no"));
    event.emit(&1);
    assert_eq!(texts(&first).len(), 1);
    let second = told(&events.clone());
    event.emit(&1);
    assert_eq!((texts(&first).len(), texts(&second).len()), (0, 1));
    assert_eq!(Arc::strong_count(&first), 1, "the replaced hook is dropped");
}

#[test]
fn a_hook_that_emits_to_a_failing_listener_is_not_called_for_it() {
    let ((events, event), calls) = (tick(), Log::default());
    let (inner, log) = (event.clone(), Arc::clone(&calls));
    events.on_error(move |_| {
        push(&log, "told");
        assert_eq!(inner.emit(&1).failures().len(), 1, "it stands in the report");
    });
    event.on(|_| Err::<(), _>("no"));
    assert_eq!(event.emit(&1).failures().len(), 1);
    assert_eq!(taken(&calls), ["told"]);
    event.emit(&1);
    assert_eq!(taken(&calls), ["told"], "the next one is told of again");
    events.on_error(|_| {});
}

#[test]
fn a_hook_that_panics_keeps_nobody_from_running_and_is_called_again() {
    let ((events, event), log) = (tick(), Log::default());
    let inner = Arc::clone(&log);
    events.on_error(move |_| {
        push(&inner, "told");
        fall("in the hook");
    });
    event.on(|_| Err::<(), _>("no"));
    event.on(|_| Err::<(), _>("no"));
    event.on(note(&log, "after"));
    assert_eq!(event.emit(&1).failures().len(), 2);
    assert_eq!(taken(&log), ["told", "told", "after"]);
}

#[test]
fn a_hook_that_replaces_itself_may_have_captured_what_panics_when_dropped() {
    let ((events, event), log) = (tick(), Log::default());
    let (weak, grenade, inner) = (events.downgrade(), Grenade, Arc::clone(&log));
    events.on_error(move |_| {
        let _captured = &grenade;
        push(&inner, "told");
        weak.upgrade().expect("somebody emits").on_error(|_| {});
    });
    event.on(|_| Err::<(), _>("no"));
    event.on(note(&log, "after"));
    assert_eq!(event.emit(&1).failures().len(), 1);
    assert_eq!(taken(&log), ["told", "after"]);
}

#[test]
fn the_hook_is_told_of_a_capture_that_panics_when_dropped() {
    let (events, event) = tick();
    let told = told(&events);
    let dropped = "listener of `tick` panicked while it was dropped: in a destructor";
    let register = || {
        let grenade = Grenade;
        event.listen().times(1).on(move |_| _ = &grenade)
    };
    assert!(register().off());
    assert_eq!(texts(&told), [dropped]);
    register();
    assert_eq!(event.off_all(), 1);
    assert_eq!(texts(&told), [dropped]);
    register();
    let report = event.emit(&1);
    assert!(report.is_ok(), "it is swept after its call: {report:?}");
    assert_eq!(texts(&told), [dropped]);
}

#[test]
fn the_hook_is_told_of_a_future_that_panics_when_dropped() {
    let (events, event) = tick();
    let told = told(&events);
    event.on_async(|n| {
        let grenade = Grenade;
        async move {
            if *n == 0 {
                std::future::pending::<()>().await;
            }
            drop(grenade);
        }
    });
    {
        let mut emit = pin!(event.emit_async(&0));
        assert!(poll_once(emit.as_mut()).is_pending());
    }
    assert_eq!(texts(&told), ["listener of `tick` panicked while it was dropped: in a destructor"]);
    block_on(event.emit_async(&1));
    assert_eq!(texts(&told), ["listener of `tick` panicked: in a destructor"]);
}

#[test]
fn a_value_or_an_error_that_panics_on_its_way_is_a_failure() {
    struct Fragile;
    impl From<Fragile> for BoxError {
        fn from(_: Fragile) -> Self {
            panic!("while it is converted")
        }
    }
    let ((_events, event), log) = (tick(), Log::default());
    event.on(|_| Value(Grenade));
    event.on(|_| Err::<(), _>(Fragile));
    event.on(note(&log, "after"));
    let report = event.emit(&1);
    let causes: Vec<_> = report.failures().iter().map(|failure| failure.cause().to_string()).collect();
    assert_eq!(causes, ["panicked while it was dropped: in a destructor", "panicked: while it is converted"]);
    assert_eq!((report.ran(), taken(&log)), (3, vec!["after"]));
}

#[test]
fn fail_fast_stops_one_emit_at_its_first_failure() {
    const CAREFUL: EmitOptions = EmitOptions::new().fail_fast();
    let ((_events, event), log) = (tick(), Log::default());
    event.on(note(&log, "before"));
    let failing = [
        event.on(|_| Err::<(), _>("an error")),
        event.on(|_| fall("a panic")),
        event.listen().filter(|_| panic!("a filter")).on(|_| {}),
        event.on_async(|_| async { Err::<(), _>("no runtime, or an error") }),
    ];
    event.on(note(&log, "after"));
    let report = block_on(event.emit_async(&1));
    assert_eq!((report.is_stopped(), report.failures().len()), (false, 4), "nobody asked for it");
    assert_eq!(taken(&log), ["before", "after"]);
    for subscription in failing {
        for awaits in [false, true] {
            let report =
                if awaits { block_on(event.emit_async_with(CAREFUL, &1)) } else { event.emit_with(CAREFUL, &1) };
            assert_eq!((report.is_stopped(), report.failures().len()), (true, 1), "{report:?}");
            assert_eq!(taken(&log), ["before"]);
        }
        subscription.off();
    }
    let report = event.emit_with(CAREFUL, &1);
    assert_eq!((report.is_stopped(), taken(&log)), (false, vec!["before", "after"]), "nobody fails any more");
}

#[test]
fn a_once_listener_that_failed_has_run() {
    let (_events, event) = tick();
    let (failed, panicked) = (event.once(|_| Err::<(), _>("no")), event.once_async(|_| async { fall("out") }));
    assert_eq!(block_on(event.emit_async(&1)).failures().len(), 2);
    assert!(!failed.is_active() && !panicked.is_active());
    assert_eq!(block_on(event.emit_async(&1)).failures().len(), 0);
}

#[test]
fn a_listener_and_its_filter_may_both_panic_while_they_are_dropped() {
    let events = Dispatcher::new();
    let told = told(&events);
    let (in_filter, in_listener) = (Grenade, Grenade);
    let registration = events.listen(TICK).expect("the key is good").filter(move |_| {
        let _ = &in_filter;
        true
    });
    assert!(registration.on(move |_| _ = &in_listener).off());
    let text = "listener of `tick` panicked while it was dropped: in a destructor";
    assert_eq!(*told.lock().unwrap(), [text, text]);
}

/// Panics when it is woken.
struct Mine;

impl Wake for Mine {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

#[test]
fn a_waker_that_panics_does_not_unwind_out_of_an_emit_and_the_next_is_woken() {
    let (_events, event) = tick();
    let gate = closed_gate();
    let subscription = event.listen().waitable().on_async(gated(&gate, &Log::default(), ["starts", "ends"]));
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    let (mut first, mut second) = (pin!(subscription.off_and_wait_async()), pin!(subscription.off_and_wait_async()));
    assert!(first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Mine)))).is_pending());
    let woken = Arc::<Woken>::default();
    assert!(woken.poll(second.as_mut()).is_pending());
    gate.add_permits(1);
    assert!(poll_once(emit).is_ready());
    assert!(woken.take());
    assert!(woken.poll(second).is_ready());
}

#[test]
fn the_payload_of_an_emit_arc_may_panic_while_it_is_dropped() {
    let events = Dispatcher::new();
    let told = told(&events);
    let event = events.event::<Grenade>("grenade").unwrap();
    event.on(|_| {});
    let report = event.emit_arc(Arc::new(Grenade));
    assert_eq!((report.ran(), report.failures().len()), (1, 1));
    let report = events.emit_arc("grenade", Arc::new(Grenade)).unwrap();
    assert!(matches!(report.failures()[0].cause(), FailureCause::DropPanic(_)));
    assert_eq!(texts(&told), ["payload of `grenade` panicked while it was dropped: in a destructor"; 2]);
}

#[test]
fn a_hook_may_panic_while_its_dispatcher_is_dropped() {
    let events = Dispatcher::new();
    let grenade = Grenade;
    events.on_error(move |_| _ = &grenade);
    drop(events);
}

#[test]
fn a_payload_that_is_dropped_with_half_an_emit_may_panic() {
    let event = Dispatcher::new().event::<CloneGrenade>("grenade").unwrap();
    event.on_async(|payload| async move {
        drop(payload);
        std::future::pending::<()>().await;
    });
    let payload = CloneGrenade(false);
    let mut emit = Box::pin(event.emit_async(&payload));
    assert!(poll_once(emit.as_mut()).is_pending());
    drop(emit);
}

/// Whose copies panic when they are dropped.
struct CloneGrenade(bool);

impl Clone for CloneGrenade {
    fn clone(&self) -> Self {
        Self(true)
    }
}

impl Drop for CloneGrenade {
    fn drop(&mut self) {
        assert!(!self.0, "in a destructor");
    }
}

#[test]
fn a_destructor_may_panic_among_many_listeners() {
    let (events, event) = tick();
    let told = told(&events);
    for at in 0..200 {
        let grenade = (at % 100 == 0).then(|| Grenade);
        event.on(move |_| _ = &grenade);
    }
    assert_eq!(event.off_all(), 200);
    assert_eq!(texts(&told).len(), 2);
    for at in 0..200 {
        let grenade = (at == 150).then(|| Grenade);
        event.on(move |_| _ = &grenade);
    }
    drop((events, event));
}

#[test]
fn the_destructor_of_a_listener_that_was_refused_may_panic() {
    let events = Dispatcher::builder().listener_limit(0).build();
    let told = told(&events);
    let (refused, tried) = (Grenade, Grenade);
    let event = events.event(TICK).unwrap();
    assert!(!event.on(move |_| _ = &refused).is_active());
    assert!(event.listen().try_on(move |_| _ = &tried).is_err());
    let dropped = "listener of `tick` panicked while it was dropped: in a destructor";
    let refused = "listener of `tick` was not registered: the event has 0 listeners, the most allowed";
    assert_eq!(texts(&told), [refused, dropped, dropped]);
}
