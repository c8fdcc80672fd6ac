//! Emits inside emits: past 64 nobody is called, the report says so, and the thread goes on as before.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use fanfare::dispatch::{FailureCause, MAX_DEPTH};
use fanfare::{Dispatcher, Event, Report};
use futures_executor::block_on;

use crate::calls::{TICK, fall, tick, told};

const TOO_DEEP: &str = "emit of `tick` called no listener: it is nested deeper than 64 emits";

/// Two events, each of a dispatcher of its own, whose listeners emit the other without end.
struct PingPong {
    sides: [(Dispatcher, Event<u32>); 2],
    calls: Arc<AtomicUsize>,
    /// The failures in the reports of the emits inside.
    deep: Arc<Mutex<Vec<String>>>,
}

fn ping_pong() -> PingPong {
    let sides = [(); 2].map(|()| {
        let events = Dispatcher::new();
        let event = events.event(TICK).unwrap();
        (events, event)
    });
    let (calls, deep) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    for (from, to) in [(0, 1), (1, 0)] {
        let (to, calls, deep) = (sides[to].1.clone(), Arc::clone(&calls), Arc::clone(&deep));
        sides[from].1.on(move |n| {
            calls.fetch_add(1, SeqCst);
            let failures = to.emit(&(n + 1)).into_failures();
            deep.lock().unwrap().extend(failures.iter().map(ToString::to_string));
        });
    }
    PingPong { sides, calls, deep }
}

#[test]
fn listeners_that_emit_each_other_without_end_are_stopped_over_two_dispatchers_too() {
    let PingPong { sides, calls, deep } = ping_pong();
    let told = told(&sides[0].0);
    let report = sides[0].1.emit(&1);
    assert_eq!((report.ran(), report.is_ok()), (1, true), "the outermost is an emit like any other");
    assert_eq!((calls.load(SeqCst), MAX_DEPTH), (64, 64));
    assert_eq!(*deep.lock().unwrap(), [TOO_DEEP]);
    assert_eq!(*told.lock().unwrap(), [TOO_DEEP], "the hook of the dispatcher that was emitted to is told");
}

#[test]
fn a_thread_that_was_too_deep_emits_as_before() {
    let PingPong { sides, calls, deep } = ping_pong();
    for round in 1..=3 {
        assert_eq!(sides[1].1.emit(&1).ran(), 1);
        assert_eq!((calls.load(SeqCst), deep.lock().unwrap().len()), (round * MAX_DEPTH, round));
    }
}

#[test]
fn a_panic_gives_its_depth_back() {
    let event = tick();
    let inner = event.clone();
    let subscription = event.on(move |n| {
        if *n > 0 {
            assert_eq!(inner.emit(&(n - 1)).failures().len(), 1);
        }
        fall("on the way up");
    });
    for _ in 0..MAX_DEPTH {
        let report = event.emit(&5);
        assert!(matches!(report.failures()[0].cause(), FailureCause::Panic(message) if message == "on the way up"));
    }
    subscription.off();
    let PingPong { sides, calls, .. } = ping_pong();
    sides[0].1.emit(&1);
    assert_eq!(calls.load(SeqCst), MAX_DEPTH, "not one less");
}

/// Emits `depth` times, each inside the one before, and returns the innermost report.
fn innermost(event: &Event<u32>, depth: usize, last: impl Fn() -> Report + Send + Sync + 'static) -> Report {
    let (report, inner) = (Arc::new(Mutex::new(None)), event.clone());
    let found = Arc::clone(&report);
    let subscription = event.on(move |n| {
        if *n == 1 {
            *found.lock().unwrap() = Some(last());
        } else {
            inner.emit(&(n - 1));
        }
    });
    event.emit(&u32::try_from(depth).expect("it is small"));
    subscription.off();
    report.lock().unwrap().take().expect("the last one runs")
}

#[test]
fn every_way_to_emit_stops_at_the_same_depth_and_uses_up_nothing() {
    let events = Dispatcher::new();
    let target = events.event::<u32>("target").unwrap();
    let once = target.once(|_| {});
    let event = tick();
    let ways: [fn(&Dispatcher, &Event<u32>) -> Report; 6] = [
        |_, target| target.emit(&1),
        |_, target| target.publisher().emit(&1),
        |events, _| events.emit("target", &1u32).unwrap(),
        |_, target| block_on(target.emit_async(&1)),
        |events, _| block_on(events.emit_async("target", &1u32)).unwrap(),
        |_, target| target.emit_collect::<u32>(&1).1,
    ];
    for way in ways {
        let (events, target) = (events.clone(), target.clone());
        let report = innermost(&event, MAX_DEPTH, move || way(&events, &target));
        assert_eq!(report.ran(), 0);
        let [failure] = report.failures() else { unreachable!("{report:?}") };
        assert!(matches!(failure.cause(), FailureCause::TooDeep));
        assert!(failure.registered_at().is_none(), "no listener is to blame");
    }
    assert!(once.is_active());
    let report = innermost(&event, MAX_DEPTH - 1, move || target.emit(&1));
    assert_eq!((report.ran(), report.is_ok()), (1, true), "the 64th is let through");
}

#[test]
fn async_emits_inside_async_emits_are_stopped_too() {
    fn again(event: Event<u32>, calls: Arc<AtomicUsize>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async move {
            calls.fetch_add(1, SeqCst);
            // The walk polls a new call twice before it waits: from the third poll on, the depth is that of polls.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let report = event.emit_async(&1).await;
            report.into_failures().pop().map_or(Ok(()), |failure| Err(failure.to_string()))
        })
    }
    let (event, calls) = (tick(), Arc::new(AtomicUsize::new(0)));
    event.on_async_with((event.clone(), Arc::clone(&calls)), |(event, calls), _| again(event, calls));
    let report = block_on(event.emit_async(&1));
    assert_eq!(calls.load(SeqCst), MAX_DEPTH);
    let failure = report.failures()[0].to_string();
    assert!(failure.ends_with(TOO_DEEP), "each one passed it on: {failure}");
    event.off_all();
}
