//! The guarantees of the docs page of that name, one test or more for each, named after it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use fanfare::dispatch::FailureCause;
use fanfare::{Dispatcher, Event, EventError, Listener, Priority, Subscription};

use crate::calls::{Grenade, Log, TICK, note, taken, tick};

#[test]
fn g1_order_is_priority_then_registration_once_and_persistent_in_one_list() {
    let (event, log) = (tick(), Log::default());
    event.on(note(&log, "normal 1"));
    event.listen().priority(Priority::LOW).on(note(&log, "low"));
    event.once(note(&log, "normal 2, once"));
    event.listen().priority(Priority::HIGH).on(note(&log, "high 1"));
    event.listen().priority(Priority::MEDIUM).on(note(&log, "normal 3"));
    event.listen().priority(Priority::LOWEST).on(note(&log, "lowest"));
    event.listen().priority(Priority::HIGH).once().on(note(&log, "high 2, once"));
    event.listen().priority(Priority::HIGHEST).on(note(&log, "highest"));
    assert_eq!(event.emit(&1).ran(), 8);
    let all = ["highest", "high 1", "high 2, once", "normal 1", "normal 2, once", "normal 3", "low", "lowest"];
    assert_eq!(taken(&log), all);
    event.emit(&2);
    assert_eq!(taken(&log), ["highest", "high 1", "normal 1", "normal 3", "low", "lowest"]);
}

#[test]
fn g1_order_holds_over_a_thousand_listeners() {
    let event = tick();
    let log = Arc::new(Mutex::new(Vec::new()));
    for n in 0..1000u32 {
        let log = Arc::clone(&log);
        let priority = [Priority::LOW, Priority::NORMAL, Priority::HIGH][n as usize % 3];
        event.listen().priority(priority).on(move |_| log.lock().unwrap().push((priority, n)));
    }
    event.emit(&1);
    let log = log.lock().unwrap();
    assert!(log.is_sorted_by(|a, b| a.0 > b.0 || a.0 == b.0 && a.1 < b.1));
    assert_eq!(log.len(), 1000);
}

#[test]
fn g2_a_listener_added_during_an_emit_is_not_seen_by_it() {
    let (event, log) = (tick(), Log::default());
    let (inner, inner_log) = (event.clone(), Arc::clone(&log));
    event.once(move |_| drop(inner.on(note(&inner_log, "added"))));
    event.emit(&1);
    assert_eq!(taken(&log), [""; 0]);
    event.emit(&2);
    assert_eq!(taken(&log), ["added"]);
}

#[test]
fn g2_a_listener_taken_off_before_its_turn_is_not_called_across_threads_too() {
    let (event, log) = (tick(), Log::default());
    let victim: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let inner = Arc::clone(&victim);
    event.on(move |_| {
        let subscription = inner.lock().unwrap().take();
        // On another thread, and finished before the turn of the victim.
        thread::spawn(move || subscription.map(|subscription| assert!(subscription.off()))).join().unwrap();
    });
    *victim.lock().unwrap() = Some(event.on(note(&log, "victim")));
    event.on(note(&log, "last"));
    assert_eq!(event.emit(&1).ran(), 2);
    assert_eq!(taken(&log), ["last"]);
}

#[test]
fn g3_after_off_returns_no_later_emit_calls_the_listener() {
    let event = tick();
    for _ in 0..2000 {
        let (is_off, started_late) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
        let late = Arc::new(AtomicUsize::new(0));
        let (flag, counter) = (Arc::clone(&started_late), Arc::clone(&late));
        let subscription = event.on(move |_| {
            if flag.load(SeqCst) {
                counter.fetch_add(1, SeqCst);
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                // Emits race with `off` until it is done; the last one starts after it.
                while !is_off.load(SeqCst) {
                    event.emit(&1);
                }
                started_late.store(true, SeqCst);
                event.emit(&2);
            });
            subscription.off();
            is_off.store(true, SeqCst);
        });
        assert_eq!(late.load(SeqCst), 0);
    }
}

#[test]
fn g4_once_runs_exactly_once_under_concurrent_emits() {
    let event = tick();
    for _ in 0..500 {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        event.once(move |_| _ = counter.fetch_add(1, SeqCst));
        let barrier = Barrier::new(4);
        let reported: usize = thread::scope(|scope| {
            let emitters: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        event.emit(&1).ran()
                    })
                })
                .collect();
            emitters.into_iter().map(|emitter| emitter.join().unwrap()).sum()
        });
        assert_eq!((runs.load(SeqCst), reported), (1, 1));
        assert_eq!(event.listener_count(), 0);
    }
}

#[test]
fn g4_once_runs_exactly_once_under_nested_emits() {
    let (event, log) = (tick(), Log::default());
    let (inner, inner_log) = (event.clone(), Arc::clone(&log));
    event.once(move |n| {
        inner_log.lock().unwrap().push("once");
        inner.emit(&(n + 1));
    });
    assert_eq!(event.emit(&1).ran(), 1);
    assert_eq!(event.emit(&5).ran(), 0);
    assert_eq!(taken(&log), ["once"]);
}

#[test]
fn g4_a_once_listener_that_is_not_reached_is_not_used_up() {
    let event = tick();
    let stop = event.on(|_| ControlFlow::Break(()));
    let once = event.once(|_| {});
    let report = event.emit(&1);
    assert!(report.is_stopped());
    assert_eq!(report.ran(), 1);
    assert!(once.is_active());
    stop.off();
    assert_eq!(event.emit(&2).ran(), 1);
    assert!(!once.is_active());
}

#[test]
fn g4_off_of_a_once_listener_tells_whether_it_will_ever_run() {
    let event = tick();
    let never = event.once(|_| {});
    assert!(never.off());
    assert_eq!(event.emit(&1).ran(), 0);
    let ran = event.once(|_| {});
    event.emit(&2);
    assert!(!ran.off());
}

#[test]
fn g5_a_listener_may_do_anything_to_its_own_dispatcher() {
    let events = Dispatcher::new();
    let log = Log::default();
    let me: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let (inner, inner_me, inner_log) = (events.downgrade(), Arc::clone(&me), Arc::clone(&log));
    let subscription = events.on(TICK, move |n| {
        let events = inner.upgrade().expect("the test holds it");
        if *n < 3 {
            events.emit(TICK, &(n + 1)).unwrap();
        }
        events.on("other", |_: &u32| {}).unwrap();
        assert!(events.off_all("other") > 0);
        events.on(TICK, note(&inner_log, "added")).unwrap();
        inner_me.lock().unwrap().take().map(|me| me.off());
        drop(events.event::<str>("third").unwrap());
    });
    *me.lock().unwrap() = Some(subscription.unwrap());
    assert_eq!(
        events.emit(TICK, &1).unwrap().ran(),
        1,
        "depth first: the innermost takes it off before the outer ones return"
    );
    assert_eq!(events.listener_count("tick"), 3);
    assert_eq!(events.off_all("tick"), 3);
    assert_eq!(events.event_count(), 0);
}

#[test]
fn g5_emits_that_cross_do_not_wait_for_each_other() {
    let events = Dispatcher::new();
    let (a, b) = (events.event::<u32>("a").unwrap(), events.event::<u32>("b").unwrap());
    let barrier = Arc::new(Barrier::new(2));
    for (event, other) in [(&a, &b), (&b, &a)] {
        let (other, barrier) = (other.clone(), Arc::clone(&barrier));
        event.on(move |n| {
            if *n == 0 {
                // Both threads are inside their listener now; with a lock held this would hang.
                barrier.wait();
                other.emit(&1);
            }
        });
    }
    thread::scope(|scope| {
        scope.spawn(|| a.emit(&0));
        scope.spawn(|| b.emit(&0));
    });
    a.off_all();
    b.off_all();
}

#[test]
fn g5_a_listener_that_blocks_keeps_nobody_from_on_off_and_emit() {
    let event = tick();
    let (block, blocked) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let blocked = Mutex::new(blocked);
    event.once(move |_| {
        entered.send(()).unwrap();
        let _ = blocked.lock().unwrap().recv();
    });
    thread::scope(|scope| {
        scope.spawn(|| event.emit(&1));
        inside.recv().unwrap();
        let subscription = event.on(|_| {});
        assert_eq!(event.emit(&2).ran(), 1);
        assert!(subscription.off());
        drop(block);
    });
}

#[test]
fn g5_a_closure_is_dropped_without_a_lock_and_may_use_the_dispatcher() {
    struct OnDrop(Event<u32>, Arc<AtomicUsize>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let subscription = self.0.on(|_| {});
            self.1.fetch_add(self.0.emit(&1).ran(), SeqCst);
            subscription.off();
        }
    }
    let event = tick();
    let ran = Arc::new(AtomicUsize::new(0));
    let on_drop = OnDrop(event.clone(), Arc::clone(&ran));
    let subscription = event.on(move |_| _ = &on_drop);
    assert!(subscription.off());
    assert_eq!(ran.load(SeqCst), 1);
}

#[test]
fn g6_a_failing_or_panicking_listener_keeps_no_other_from_running_and_is_reported() {
    let (event, log) = (tick(), Log::default());
    event.on(|_| {
        if true {
            panic!("out of {}", "cheese")
        }
    });
    event.on(|_| Err::<(), _>("no more bread"));
    event.on(note(&log, "after"));
    for _ in 0..2 {
        let report = event.emit(&1);
        assert_eq!((report.ran(), report.is_ok(), report.failures().len()), (3, false, 2));
        let [panicked, failed] = report.failures() else { unreachable!() };
        assert!(matches!(panicked.cause(), FailureCause::Panic(message) if message == "out of cheese"));
        assert_eq!(failed.to_string(), "listener of `tick` failed: no more bread");
        assert!(failed.registered_at().unwrap().file().ends_with("guarantees.rs"));
        assert_eq!(taken(&log), ["after"]);
    }
}

#[test]
fn g6_destructors_that_panic_do_not_unwind_out_of_off_or_emit() {
    let event = tick();
    for _ in 0..2 {
        let grenade = Grenade;
        event.once(move |_| _ = &grenade);
    }
    assert_eq!(event.emit(&1).ran(), 2, "both are swept, and dropped, by this emit");
    let grenade = Grenade;
    assert!(event.on(move |_| _ = &grenade).off());
    let payload_grenade = event.on(|_| {
        if true {
            std::panic::panic_any(Grenade)
        }
    });
    assert_eq!(event.emit(&2).failures().len(), 1);
    payload_grenade.off();
}

#[test]
fn g6_a_payload_whose_destructor_panics_does_not_unwind_out_of_an_emit() {
    struct Fragile(bool);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            Self(true)
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            assert!(!self.0, "a shared payload breaks");
        }
    }
    let event = Dispatcher::new().event::<Fragile>("fragile").unwrap();
    event.on_async(|payload| async move { drop(payload) });
    let report = futures_executor::block_on(event.emit_async(&Fragile(false)));
    assert_eq!((report.ran(), report.failures().len()), (1, 1));
    assert!(matches!(report.failures()[0].cause(), FailureCause::DropPanic(_)));
}

#[test]
fn g6_async_errors_and_panics_are_reported_too() {
    let event = tick();
    event.on_async(|_| async { Err::<(), _>("late failure") });
    event.on_async(|_| async {
        if true {
            panic!("late panic")
        }
    });
    event.on_async(|n| -> std::future::Ready<()> { panic!("while the future of {n} is made") });
    let (counter, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    event.on_async_with(Arc::clone(&counter), |counter, n| async move {
        counter.fetch_add(*n as usize, SeqCst);
    });
    let sync = Arc::clone(&ran);
    event.on(move |_| _ = sync.fetch_add(1, SeqCst));
    let report = futures_executor::block_on(event.emit_async(&7));
    let causes: Vec<_> = report.failures().iter().map(ToString::to_string).collect();
    assert_eq!(
        causes,
        [
            "listener of `tick` failed: late failure",
            "listener of `tick` panicked: late panic",
            "listener of `tick` panicked: while the future of 7 is made",
        ]
    );
    assert_eq!((counter.load(SeqCst), ran.load(SeqCst)), (7, 1));
}

#[test]
fn an_async_emit_waits_for_each_listener_in_its_turn() {
    let (event, log) = (tick(), Log::default());
    for what in ["first", "second"] {
        let log = Arc::clone(&log);
        event.on_async(move |_| {
            let log = Arc::clone(&log);
            async move {
                let mut yielded = false;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
                log.lock().unwrap().push(what);
            }
        });
    }
    event.on(note(&log, "third, sync"));
    assert_eq!(futures_executor::block_on(event.emit_async(&1)).ran(), 3);
    assert_eq!(taken(&log), ["first", "second", "third, sync"]);
}

#[test]
fn a_dropped_async_emit_calls_none_of_the_rest_and_leaves_no_spent_listener() {
    let (event, log) = (tick(), Log::default());
    let (held, inner) = (Arc::new(()), Arc::clone(&log));
    let captured = Arc::clone(&held);
    event.once(move |_| {
        let _captured = &captured;
        inner.lock().unwrap().push("once");
    });
    let never = event.once_async(|_| std::future::pending::<()>());
    event.on(note(&log, "rest"));
    {
        let mut emit = std::pin::pin!(event.emit_async(&1));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(emit.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(taken(&log), ["once"]);
    assert!(!never.is_active(), "it was begun");
    assert_eq!(event.listener_count(), 1);
    assert_eq!(Arc::strong_count(&held), 1, "what was used up is gone with what it captured");
}

#[test]
fn bad_input_is_an_error_that_names_it_and_changes_nothing() {
    let events = Dispatcher::new();
    for name in ["", "ui:", ":x", "a b", &"x".repeat(256)] {
        assert!(matches!(events.on(name, |_: &u32| {}), Err(EventError::InvalidName(_))), "{name:?}");
        assert!(events.emit(name, &1u32).is_err(), "{name:?}");
        assert_eq!(events.off_all(name), 0);
    }
    assert!(events.namespace("").on("x", |_: &u32| {}).is_err());
    assert_eq!(events.emit("unknown", &1u32).unwrap().ran(), 0);
    assert_eq!(events.event_count(), 0, "neither an error nor an emit makes an event");

    events.on("age", |_: &u32| {}).unwrap();
    let error = events.emit("age", "forty").unwrap_err().to_string();
    assert_eq!(
        error,
        "event `age` carries `u32`, not `str`; declare `const KEY: Key<u32>` once and use it on both sides"
    );
    let error = events.emit("age", &&1u32).unwrap_err().to_string();
    assert!(error.ends_with("take one `&` off the payload"), "{error}");
    assert!(events.on("age", |_: &str| {}).is_err());
    assert_eq!(events.listener_count("age"), 1);
}

#[test]
fn off_of_another_dispatchers_subscription_is_false() {
    let (ours, theirs) = (Dispatcher::new(), Dispatcher::new());
    let subscription = theirs.on(TICK, |_| {}).unwrap();
    assert!(!ours.off(&subscription));
    assert!(subscription.is_active());
    assert!(theirs.namespace("any").off(&subscription), "a namespace is the same dispatcher");
    assert!(!theirs.off(&subscription));
}

#[test]
fn an_event_is_forgotten_with_its_last_listener_and_handle() {
    let events = Dispatcher::new();
    let handle = events.event(TICK).unwrap();
    let subscription = handle.on(|_| {});
    drop(handle);
    assert_eq!(events.event_count(), 1);
    subscription.off();
    assert_eq!(events.event_count(), 0);
    events.on("tick", |_: &str| {}).expect("a forgotten name can have another payload");
}

#[test]
fn an_event_outlives_its_dispatcher() {
    let event = tick();
    let subscription = event.on(|_| {});
    assert_eq!(event.emit(&1).ran(), 1);
    assert!(subscription.off());
}

#[test]
fn a_listener_is_taken_off_by_identity_at_one_event_alone() {
    let events = Dispatcher::new();
    let listener = Listener::new(|_: &u32| {});
    events.on_listener("a", &listener).unwrap();
    events.on_listener("a", &listener.clone()).unwrap();
    events.on_listener("b", &listener).unwrap();
    events.on("a", |_: &u32| {}).unwrap();
    assert_eq!(events.emit("a", &1u32).unwrap().ran(), 3);
    assert_eq!(events.off_listener("a", &listener).unwrap(), 2);
    assert_eq!(events.off_listener("a", &listener).unwrap(), 0);
    assert_eq!((events.listener_count("a"), events.listener_count("b")), (1, 1));
    assert_eq!(events.off_listener("unknown", &listener).unwrap(), 0);
}

#[test]
fn namespaces_nest_and_both_forms_reach_a_listener() {
    let events = Dispatcher::new();
    let button = events.namespace("app").namespace("ui");
    button.on("click", |_: &str| {}).unwrap();
    assert_eq!(events.emit("app:ui:click", "ok").unwrap().ran(), 1);
    assert_eq!(events.namespace("app").emit("ui:click", "ok").unwrap().ran(), 1);
    assert_eq!(events.emit("click", "ok").unwrap().ran(), 0);
    assert_eq!(button.off_all("click"), 1);
}

#[test]
fn a_plain_emit_never_loses_an_async_listener_in_silence() {
    let event = tick();
    let once = event.once_async(|_| async {});
    let report = event.emit(&1);
    assert!(matches!(report.failures()[0].cause(), FailureCause::NoRuntime));
    assert!(once.is_active(), "it could not be run, so it is not used up");
}

#[test]
fn a_listener_that_its_own_filter_takes_off_is_not_reported_as_one_that_could_not_run() {
    let event = tick();
    let place: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let own = Arc::clone(&place);
    let take_off = move |_: &u32| own.lock().expect("no test panics with it").take().is_some_and(|own| own.off());
    let subscription = event.listen().filter(take_off).on_async(|_| async {});
    *place.lock().expect("no test panics with it") = Some(subscription);
    assert!(event.emit(&1).is_ok(), "it was gone before its call");
}

#[test]
fn a_spent_listener_is_neither_asked_nor_reported_while_its_emit_goes_on() {
    let event = tick();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    event.once_async(|_| async {});
    event.listen().once().filter(move |_| count.fetch_add(1, SeqCst) == 0).on_async(|_| async {});
    let again = event.clone();
    let nested = Arc::new(Mutex::new(None));
    let report = Arc::clone(&nested);
    event.once(move |n| *report.lock().expect("no test panics with it") = Some(again.emit(n)));
    futures_executor::block_on(event.emit_async(&1));
    let nested = nested.lock().expect("no test panics with it").take().expect("it emitted");
    assert!(nested.is_ok(), "an async listener without a call left is no failure of a plain emit");
    assert_eq!(asked.load(SeqCst), 1);
}
