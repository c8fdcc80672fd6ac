//! Plain emits within a runtime: async listeners are handed over, counted, and waited for by whoever wants to.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use fanfare::Dispatcher;
use fanfare::dispatch::{EmitOptions, FailureCause, WaitError};
use tokio::sync::Semaphore;

use crate::calls::{Log, TICK, Woken, closed_gate, fall, gated, note, poll_once, push, taken, tick, told};

#[tokio::test]
async fn drained_waits_for_every_listener_in_flight() {
    let events = Dispatcher::new();
    let (gate, ran) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let state = (Arc::clone(&gate), Arc::clone(&ran));
    let event = events.event::<u32>("tick").unwrap();
    event.on_async_with(state, |(gate, ran), n| async move {
        gate.acquire().await.expect("nobody closes it").forget();
        ran.fetch_add(*n as usize, SeqCst);
    });
    for _ in 0..10 {
        let report = event.emit_arc(Arc::new(3));
        assert_eq!((report.ran(), report.spawned()), (0, 1));
    }
    let mut drained = std::pin::pin!(events.drained());
    assert!(poll_once(drained.as_mut()).is_pending(), "ten are waiting");
    gate.add_permits(10);
    drained.await;
    assert_eq!(ran.load(SeqCst), 30);
}

#[tokio::test]
async fn more_than_the_limit_in_flight_is_refused_and_reported() {
    let events = Dispatcher::new();
    let event = events.event::<u32>("tick").unwrap();
    event.on_async(|_| std::future::pending::<()>());
    for _ in 0..65_536 {
        assert_eq!(event.emit(&1).spawned(), 1);
    }
    let report = event.emit(&1);
    assert!(matches!(report.failures()[0].cause(), FailureCause::TooManyInFlight));
}

#[tokio::test]
async fn a_panic_of_a_listener_in_flight_gives_its_place_back() {
    let events = Dispatcher::new();
    events
        .on_async("tick", |_: Arc<u32>| async {
            if true {
                panic!("in flight")
            }
        })
        .unwrap();
    assert_eq!(events.emit("tick", &1u32).unwrap().spawned(), 1);
    events.drained().await;
}

#[tokio::test]
async fn listeners_are_handed_over_in_the_order_of_calls_between_the_sync_ones() {
    let (event, log) = (tick(), Log::default());
    for (priority, what) in [(0, "b"), (1, "a"), (-1, "c")] {
        let log = Arc::clone(&log);
        event.listen().priority(priority).on_async(move |_| {
            push(&log, what);
            let log = Arc::clone(&log);
            async move { push(&log, "later") }
        });
    }
    event.on(note(&log, "sync"));
    let emit = event.emit_spawned(&1);
    assert_eq!((emit.report().ran(), emit.report().spawned()), (1, 3));
    assert_eq!(taken(&log), ["a", "b", "sync", "c"], "none of the futures has run on this thread's runtime yet");
    let report = emit.await;
    assert_eq!((report.ran(), report.spawned()), (4, 0));
    assert_eq!(taken(&log), ["later"; 3]);
}

#[tokio::test]
async fn a_spawned_emit_waits_for_all_its_listeners_and_has_their_failures() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on(|_| Err::<(), _>("at once"));
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    event.on_async(|_| async { Err::<(), _>("an error") });
    event.on_async(|_| async { fall("a panic") });
    let mut emit = pin!(event.emit_spawned(&1));
    assert_eq!(emit.report().failures().len(), 1);
    while taken(&log).is_empty() {
        tokio::task::yield_now().await;
    }
    let woken = Arc::<Woken>::default();
    assert!(woken.poll(emit.as_mut()).is_pending() && !emit.is_finished());
    gate.add_permits(1);
    let report = emit.await;
    assert_eq!((report.ran(), report.spawned(), report.failures().len()), (4, 0, 3));
    assert_eq!(taken(&log), ["a ends"]);
}

#[tokio::test]
async fn a_spawned_emit_that_is_dropped_leaves_its_listeners_running() {
    let (events, log, gate) = (Dispatcher::new(), Log::default(), closed_gate());
    events.on_async(TICK, gated(&gate, &log, ["a", "a ends"])).unwrap();
    drop(events.event(TICK).unwrap().emit_spawned(&1));
    gate.add_permits(1);
    events.drained().await;
    assert_eq!(taken(&log), ["a", "a ends"]);
}

#[tokio::test]
async fn a_spawned_emit_that_is_aborted_says_who_was_cancelled_and_drains() {
    let events = Dispatcher::new();
    let (event, told) = (events.event(TICK).unwrap(), told(&events));
    let held = Arc::new(());
    event.on_async_with(Arc::clone(&held), |_held, _| std::future::pending::<()>());
    let emit = event.emit_spawned(&1);
    assert!(!emit.is_finished());
    emit.abort();
    while !emit.is_finished() {
        tokio::task::yield_now().await;
    }
    let report = emit.await;
    assert!(matches!(report.failures()[0].cause(), FailureCause::Cancelled), "{report:?}");
    assert_eq!(told.lock().unwrap().len(), 1);
    events.drained().await;
    assert_eq!(Arc::strong_count(&held), 2, "the future is gone");
}

#[test]
fn a_runtime_that_is_shut_down_drops_its_listeners_and_gives_their_places_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let events = Dispatcher::new();
    let (event, told) = (events.event(TICK).unwrap(), told(&events));
    let subscription = event.listen().waitable().on_async(|_| std::future::pending::<()>());
    let emit = {
        let _inside = runtime.enter();
        event.emit_spawned(&1)
    };
    let mut drained = pin!(events.drained());
    let woken = Arc::<Woken>::default();
    assert!(woken.poll(drained.as_mut()).is_pending());
    assert_eq!(subscription.off_and_wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
    drop(runtime);
    assert!(woken.take());
    assert_eq!(woken.poll(drained), Poll::Ready(()));
    assert_eq!(subscription.off_and_wait(), Ok(false));
    let report = futures_executor::block_on(emit);
    assert!(matches!(report.failures()[0].cause(), FailureCause::Cancelled));
    assert_eq!((report.ran(), report.spawned(), told.lock().unwrap().len()), (0, 0, 1), "told once, when it happened");
}

#[test]
fn a_listener_that_was_handed_to_a_runtime_which_is_gone_is_told_of() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let events = Dispatcher::new();
    let (event, told) = (events.event(TICK).unwrap(), told(&events));
    event.on_async(|_| async {});
    let handle = runtime.handle().clone();
    drop(runtime);
    let _inside = handle.enter();
    assert_eq!(event.emit(&1).spawned(), 1);
    let text = "listener of `tick` did not finish: its task was aborted, or its runtime was shut down";
    assert_eq!(*told.lock().unwrap(), [text]);
}

#[tokio::test]
async fn the_hook_is_told_of_what_happens_after_the_report() {
    let events = Dispatcher::new();
    let (event, told, gate) = (events.event(TICK).unwrap(), told(&events), closed_gate());
    event.on_async_with(Arc::clone(&gate), |gate, _| async move {
        gate.acquire().await.expect("nobody closes it").forget();
        Err::<(), _>("late")
    });
    assert!(event.emit(&1).is_ok());
    assert!(told.lock().unwrap().is_empty());
    gate.add_permits(1);
    events.drained().await;
    assert_eq!(*told.lock().unwrap(), ["listener of `tick` failed: late"]);
}

#[tokio::test]
async fn a_once_listener_is_handed_over_once() {
    let (events, runs) = (Dispatcher::new(), Arc::new(AtomicUsize::new(0)));
    let event = events.event(TICK).unwrap();
    let counter = Arc::clone(&runs);
    let once = event.once_async(move |_| {
        let counter = Arc::clone(&counter);
        async move { _ = counter.fetch_add(1, SeqCst) }
    });
    assert_eq!([event.emit(&1).spawned(), event.emit(&2).spawned()], [1, 0]);
    assert!(!once.is_active());
    events.drained().await;
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test]
async fn who_waits_for_a_waitable_listener_waits_for_its_tasks() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    let subscription = event.listen().waitable().on_async(gated(&gate, &log, ["a", "a ends"]));
    assert_eq!(event.emit(&1).spawned(), 1);
    let mut wait = pin!(subscription.off_and_wait_async());
    assert!(poll_once(wait.as_mut()).is_pending());
    assert_eq!(event.emit(&2).spawned(), 0, "it is off");
    gate.add_permits(1);
    assert_eq!(wait.await, Ok(true));
    assert_eq!(taken(&log), ["a", "a ends"]);
}

#[tokio::test]
async fn a_break_or_failure_in_a_task_does_not_stop_its_emit() {
    let (events, log) = (Dispatcher::new(), Log::default());
    let event = events.event(TICK).unwrap();
    event.on_async(|_| async { std::ops::ControlFlow::Break(()) });
    event.on_async(|_| async { Err::<(), _>("too late to stop it") });
    event.on(note(&log, "after"));
    let report = event.emit_with(EmitOptions::new().fail_fast(), &1);
    assert_eq!((report.is_stopped(), report.spawned(), taken(&log)), (false, 2, vec!["after"]));
    let report = event.emit_spawned(&1).await;
    assert_eq!((report.is_stopped(), report.ran(), report.failures().len()), (false, 3, 1));
}

#[tokio::test]
async fn an_async_emit_within_a_runtime_spawns_nothing() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    gate.add_permits(1);
    tokio::task::yield_now().await;
    assert_eq!(taken(&log), ["a"], "it goes on only when it is polled");
    let report = emit.await;
    assert_eq!((report.ran(), report.spawned()), (1, 0));
}
