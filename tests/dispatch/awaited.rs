//! Async emits: one listener after another or several at once, stopped, dropped half-way, and what they share.

use std::future::{poll_fn, ready};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use fanfare::dispatch::EmitOptions;
use fanfare::{Dispatcher, Event, Priority};
use futures_executor::block_on;
use tokio::sync::Semaphore;

use crate::calls::{Log, TICK, Woken, closed_gate, gated, note, poll_once, push, taken, tick};

/// An event with four async listeners, `a` to `d`, each at a gate of its own.
fn four() -> (Event<u32>, Log, [Arc<Semaphore>; 4]) {
    let (event, log, gates) = (tick(), Log::default(), [(); 4].map(|()| closed_gate()));
    // The order of calls is not that of registration.
    for (n, names) in [(2, ["c", "c ends"]), (0, ["a", "a ends"]), (3, ["d", "d ends"]), (1, ["b", "b ends"])] {
        event.listen().priority(-n).on_async(gated(&gates[n as usize], &log, names));
    }
    (event, log, gates)
}

#[test]
fn nothing_runs_before_the_first_poll() {
    let (event, log) = (tick(), Log::default());
    event.on(note(&log, "called"));
    drop(event.emit_async(&1));
    let emit = event.emit_async(&1);
    assert!(taken(&log).is_empty());
    event.on(note(&log, "in time"));
    assert_eq!(block_on(emit).ran(), 2);
}

#[test]
fn each_listener_is_awaited_before_the_next_is_called() {
    let (event, log, gates) = four();
    event.listen().priority(Priority::LOWEST).on(note(&log, "sync"));
    let (mut emit, woken) = (pin!(event.emit_async(&1)), Arc::<Woken>::default());
    gates[2].add_permits(1);
    assert!(woken.poll(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["a"]);
    assert!(woken.poll(emit.as_mut()).is_pending(), "a poll for nothing changes nothing");
    assert!(taken(&log).is_empty());
    gates[0].add_permits(1);
    assert!(woken.take() && woken.poll(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["a ends", "b"]);
    gates[1].add_permits(1);
    assert!(woken.take() && woken.poll(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["b ends", "c", "c ends", "d"]);
    gates[3].add_permits(1);
    let Poll::Ready(report) = woken.poll(emit) else { unreachable!("all are done") };
    assert_eq!((report.ran(), taken(&log)), (5, vec!["d ends", "sync"]));
}

#[test]
fn no_more_than_the_limit_run_at_once_and_they_start_by_priority() {
    let (event, log, gates) = four();
    let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(2), &1));
    assert!(poll_once(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["a", "b"]);
    gates[1].add_permits(1);
    assert!(poll_once(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["b ends", "c"], "whoever ends first makes room");
    gates[0].add_permits(1);
    gates[2].add_permits(1);
    assert!(poll_once(emit.as_mut()).is_pending());
    let mut both = taken(&log);
    assert_eq!(both.pop(), Some("d"));
    both.sort_unstable();
    assert_eq!(both, ["a ends", "c ends"]);
    gates[3].add_permits(1);
    assert_eq!((block_on(emit).ran(), taken(&log)), (4, vec!["d ends"]));
}

#[test]
fn of_a_hundred_listeners_as_many_run_at_once_as_the_limit_allows() {
    let (event, gate) = (tick(), closed_gate());
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..100 {
        let state = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
        event.on_async_with(state, |(gate, running, most), _| async move {
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            gate.acquire().await.expect("nobody closes it").forget();
            running.fetch_sub(1, SeqCst);
        });
    }
    for limit in [1, 3, 64, 1000] {
        let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(limit), &1));
        assert!(poll_once(emit.as_mut()).is_pending());
        assert_eq!(running.load(SeqCst), limit.min(100), "all that may run do");
        gate.add_permits(100);
        assert_eq!(block_on(emit).ran(), 100);
        assert_eq!(most.swap(0, SeqCst), limit.min(100));
    }
}

#[test]
fn sync_listeners_run_in_their_turn_between_async_ones_that_run_at_once() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    event.on(note(&log, "sync"));
    event.on_async(gated(&gate, &log, ["b", "b ends"]));
    event.once(note(&log, "sync, once"));
    let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(5), &1));
    assert!(poll_once(emit.as_mut()).is_pending());
    assert_eq!(taken(&log), ["a", "sync", "b", "sync, once"]);
    gate.add_permits(2);
    assert_eq!(block_on(emit).ran(), 4);
}

#[test]
fn a_break_keeps_the_rest_from_starting_and_lets_those_that_run_finish() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    let breaks = closed_gate();
    event.on_async_with(Arc::clone(&breaks), |breaks, _| async move {
        let _ = breaks.acquire().await;
        ControlFlow::Break(())
    });
    event.on_async(gated(&gate, &log, ["c", "c ends"]));
    let unreached = event.once(note(&log, "too late"));
    let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(2), &1));
    assert!(poll_once(emit.as_mut()).is_pending());
    breaks.add_permits(1);
    assert!(poll_once(emit.as_mut()).is_pending(), "the first is running");
    assert_eq!(taken(&log), ["a"]);
    gate.add_permits(1);
    let report = block_on(emit);
    assert_eq!((report.ran(), report.is_stopped()), (2, true));
    assert_eq!(taken(&log), ["a ends"]);
    assert!(unreached.is_active());
}

#[test]
fn a_break_of_a_sync_listener_stops_an_async_emit_too() {
    let (event, log) = (tick(), Log::default());
    event.on_async(|_| tokio::task::yield_now());
    event.on(|_| ControlFlow::Break(()));
    event.on(note(&log, "too late"));
    for limit in [1, 8] {
        let report = block_on(event.emit_async_with(EmitOptions::new().concurrent(limit), &1));
        assert_eq!((report.ran(), report.is_stopped(), taken(&log).len()), (2, true, 0));
    }
}

#[test]
fn fail_fast_keeps_the_rest_from_starting_and_lets_those_that_run_finish() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    event.on_async(|_| ready(Err::<(), _>("no")));
    event.on(note(&log, "too late"));
    let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(8).fail_fast(), &1));
    assert!(poll_once(emit.as_mut()).is_pending());
    gate.add_permits(1);
    let report = block_on(emit);
    assert_eq!((report.ran(), report.is_stopped(), report.failures().len()), (2, true, 1));
    assert_eq!(taken(&log), ["a", "a ends"]);
}

#[test]
#[should_panic(expected = "0 listeners at once would never end")]
fn a_limit_of_none_at_once_is_refused() {
    let _ = EmitOptions::new().concurrent(0);
}

#[test]
fn an_emit_dropped_half_way_drops_what_it_waits_for_and_calls_none_of_the_rest() {
    for limit in [1, 2] {
        let (event, log) = (tick(), Log::default());
        let started = Arc::new(());
        let begin = |times| {
            let held = Arc::clone(&started);
            event.listen().times(times).on_async(move |_| {
                let held = Arc::clone(&held);
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            })
        };
        let (once, twice) = (begin(1), begin(2));
        event.listen().priority(1).once().on(note(&log, "before"));
        let rest = event.once(note(&log, "rest"));
        {
            let mut emit = pin!(event.emit_async_with(EmitOptions::new().concurrent(limit), &1));
            assert!(poll_once(emit.as_mut()).is_pending());
            assert_eq!(Arc::strong_count(&started), 1 + 2 + limit, "as many as may run at once");
        }
        assert_eq!(Arc::strong_count(&started), 2, "the futures are gone, and with them the once listener");
        assert_eq!(taken(&log), ["before"]);
        assert!(!once.is_active(), "it was begun");
        let left: Vec<_> = event.listeners().iter().map(|listener| listener.calls_left()).collect();
        assert_eq!(left, [Some(if limit == 1 { 2 } else { 1 }), Some(1)], "what was begun is used up, no more");
        assert!(twice.is_active() && rest.is_active());
    }
}

#[test]
fn an_emit_runs_the_table_of_its_first_poll_less_what_is_off_before_its_turn() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    let removed = event.on(note(&log, "removed"));
    let paused = event.on(note(&log, "paused"));
    event.on(note(&log, "stays"));
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    removed.off();
    let _paused = paused.pause();
    event.on(note(&log, "added"));
    event.listen().priority(Priority::HIGH).on(note(&log, "added before"));
    gate.add_permits(1);
    assert_eq!(block_on(emit).ran(), 2);
    assert_eq!(taken(&log), ["a", "a ends", "stays"]);
}

#[test]
fn an_async_emit_by_name_walks_as_one_by_handle_and_can_be_spawned() {
    fn sendable<F: Future + Send>(future: F) -> F {
        future
    }
    let (events, log, gate) = (Dispatcher::new(), Log::default(), closed_gate());
    events.on_async(TICK, gated(&gate, &log, ["a", "a ends"])).unwrap();
    events.on(TICK, note(&log, "b")).unwrap();
    let mut emit = pin!(sendable(events.emit_async(TICK, &1)));
    assert!(poll_once(emit.as_mut()).is_pending());
    gate.add_permits(1);
    assert_eq!(block_on(emit).unwrap().ran(), 2);
    assert_eq!(taken(&log), ["a", "a ends", "b"]);
    assert_eq!(block_on(events.emit_async("unknown", &1)).unwrap().ran(), 0);
    assert!(block_on(events.emit_async("tick", "text")).is_err());
    let event = events.event(TICK).unwrap();
    drop(sendable(event.emit_async(&1)));
}

#[test]
fn an_emit_goes_on_when_its_event_has_lost_its_dispatcher_meanwhile() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    event.once(note(&log, "b"));
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    gate.add_permits(1);
    assert_eq!((block_on(emit).ran(), event.listener_count()), (2, 1));
}

/// Counts its clones.
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn a_payload_is_cloned_once_for_all_async_listeners_and_not_at_all_without_them() {
    let clones = Arc::new(AtomicUsize::new(0));
    let payload = Counted(Arc::clone(&clones));
    let event = Dispatcher::new().event::<Counted>("counted").unwrap();
    event.on(|_| {});
    assert_eq!((block_on(event.emit_async(&payload)).ran(), clones.load(SeqCst)), (1, 0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..3 {
        event.on_async_with(Arc::clone(&seen), |seen, payload| async move {
            tokio::task::yield_now().await;
            seen.lock().unwrap().push(payload);
        });
    }
    assert_eq!((block_on(event.emit_async(&payload)).ran(), clones.load(SeqCst)), (4, 1));
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|payload| Arc::ptr_eq(payload, &seen[0])));
}

#[test]
fn payloads_without_a_size_are_shared_too() {
    let events = Dispatcher::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    events
        .on_async_with(
            "text",
            Arc::clone(&log),
            |log, text: Arc<str>| async move { log.lock().unwrap().push(text.len()) },
        )
        .unwrap();
    events
        .on_async_with(
            "list",
            Arc::clone(&log),
            |log, list: Arc<[u32]>| async move { log.lock().unwrap().push(list.len()) },
        )
        .unwrap();
    assert_eq!(block_on(events.emit_async("text", "four")).unwrap().ran(), 1);
    assert_eq!(block_on(events.emit_async("list", &[1u32, 2][..])).unwrap().ran(), 1);
    assert_eq!(*log.lock().unwrap(), [4, 2]);
}

#[test]
fn an_async_emit_may_move_between_threads_while_it_waits() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    event.on(note(&log, "b"));
    let inner = Arc::clone(&log);
    event.on_async(move |_| {
        push(&inner, "c");
        tokio::task::yield_now()
    });
    let mut emit = Box::pin(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    gate.add_permits(1);
    std::thread::scope(|scope| scope.spawn(move || assert_eq!(block_on(emit).ran(), 3)).join()).unwrap();
    assert_eq!(taken(&log), ["a", "a ends", "b", "c"]);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn an_async_emit_that_is_polled_after_its_end_emits_no_second_time() {
    let event = tick();
    event.on(|_| {});
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_ready());
    let _ = poll_once(emit);
}

#[test]
fn a_listener_that_is_not_ready_is_polled_once_in_its_first_turn() {
    for options in [EmitOptions::new(), EmitOptions::new().concurrent(4)] {
        let (event, polls) = (tick(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&polls);
        event.on_async(move |_| {
            let counter = Arc::clone(&counter);
            poll_fn(move |_| {
                counter.fetch_add(1, SeqCst);
                Poll::<()>::Pending
            })
        });
        let mut emit = pin!(event.emit_async_with(options, &1));
        assert!(poll_once(emit.as_mut()).is_pending());
        assert_eq!(polls.load(SeqCst), 1);
    }
}
