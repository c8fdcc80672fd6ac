//! Registration options: priorities and places, limits of calls, filters, and how many listeners an event may have.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;

use fanfare::dispatch::FailureCause;
use fanfare::{Dispatcher, EventError, Listener, Priority, Subscription};
use futures_executor::block_on;

use crate::calls::{Log, TICK, fall, note, push, taken, tick, told};

#[test]
fn any_number_is_a_priority_the_least_and_the_greatest_too() {
    let (event, log) = (tick(), Log::default());
    for (priority, what) in [(0, "0"), (i32::MIN, "min"), (1, "1"), (i32::MAX, "max"), (-1, "-1"), (70_000, "70000")] {
        event.listen().priority(priority).on(note(&log, what));
    }
    event.listen().priority(Priority::HIGHEST).on(note(&log, "highest"));
    event.listen().priority(Priority::LOWEST).on(note(&log, "lowest"));
    event.emit(&1);
    assert_eq!(taken(&log), ["max", "70000", "highest", "1", "0", "-1", "lowest", "min"]);
}

#[test]
fn listeners_of_one_priority_run_in_the_order_of_registration_whatever_their_kind() {
    let (event, log) = (tick(), Log::default());
    event.on(note(&log, "sync"));
    let inner = Arc::clone(&log);
    event.on_async(move |_| {
        push(&inner, "async");
        async {}
    });
    event.on_listener(&Listener::new(note(&log, "identified")));
    event.listen().filter(|_| true).on(note(&log, "filtered"));
    event.listen().waitable().on(note(&log, "waitable"));
    event.listen().times(2).on(note(&log, "twice"));
    event.on(note(&log, "sync again"));
    block_on(event.emit_async(&1));
    assert_eq!(taken(&log), ["sync", "async", "identified", "filtered", "waitable", "twice", "sync again"]);
}

#[test]
fn a_prepended_listener_runs_before_those_of_its_priority_and_after_higher_ones() {
    let (event, log) = (tick(), Log::default());
    event.listen().priority(1).on(note(&log, "higher"));
    event.on(note(&log, "first"));
    event.listen().prepend().on(note(&log, "prepended"));
    event.listen().prepend().once().on(note(&log, "prepended later, once"));
    event.on(note(&log, "last"));
    event.emit(&1);
    assert_eq!(taken(&log), ["higher", "prepended later, once", "prepended", "first", "last"]);
    event.emit(&2);
    assert_eq!(taken(&log), ["higher", "prepended", "first", "last"]);
}

#[test]
fn a_times_listener_runs_as_often_as_it_says_with_emits_inside_it_too() {
    let (event, log) = (tick(), Log::default());
    let (inner, inner_log) = (event.clone(), Arc::clone(&log));
    let subscription = event.listen().times(3).on(move |_| {
        push(&inner_log, "run");
        // Depth first: the third call is made inside the second one, which is inside the first.
        inner.emit(&2);
    });
    assert_eq!(event.emit(&1).ran(), 1);
    assert_eq!(taken(&log), ["run", "run", "run"]);
    assert!(!subscription.is_active());
    assert_eq!(event.emit(&3).ran(), 0);
    assert_eq!(event.listener_count(), 0);
}

#[test]
fn a_times_listener_runs_as_often_as_it_says_over_many_threads() {
    let event = tick();
    for _ in 0..50 {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&runs);
        let subscription = event.listen().times(100).on(move |_| _ = counter.fetch_add(1, SeqCst));
        let barrier = Barrier::new(4);
        let reported: usize = thread::scope(|scope| {
            let emit = || {
                barrier.wait();
                (0..100).map(|_| event.emit(&1).ran()).sum::<usize>()
            };
            let emitters: Vec<_> = (0..4).map(|_| scope.spawn(emit)).collect();
            emitters.into_iter().map(|emitter| emitter.join().unwrap()).sum()
        });
        assert_eq!((runs.load(SeqCst), reported), (100, 100));
        assert!(!subscription.off(), "it had its last call");
        assert_eq!(Arc::strong_count(&runs), 1, "it is swept");
    }
}

#[test]
fn off_of_a_times_listener_gives_up_the_calls_that_are_left() {
    let event = tick();
    let subscription = event.listen().times(3).on(|_| {});
    event.emit(&1);
    assert!(subscription.off());
    assert_eq!(event.emit(&2).ran(), 0);
}

#[test]
fn off_that_races_with_the_last_call_is_true_or_the_call_is_made() {
    let event = tick();
    for _ in 0..1000 {
        let subscription = event.once(|_| {});
        let barrier = Barrier::new(2);
        let (ran, ended) = thread::scope(|scope| {
            let emitter = scope.spawn(|| {
                barrier.wait();
                event.emit(&1).ran()
            });
            barrier.wait();
            let ended = subscription.off();
            (emitter.join().unwrap(), ended)
        });
        assert_eq!(ran, usize::from(!ended));
    }
}

#[test]
fn the_last_of_once_and_times_counts() {
    let event = tick();
    event.listen().once().times(2).on(|_| {});
    event.listen().times(9).once().on(|_| {});
    assert_eq!([event.emit(&1).ran(), event.emit(&2).ran(), event.emit(&3).ran()], [2, 1, 0]);
}

#[test]
#[should_panic(expected = "runs 0 times would never run")]
fn a_listener_that_would_run_0_times_is_refused() {
    let _ = tick().listen().times(0);
}

#[test]
fn a_payload_that_the_filter_refuses_uses_up_nothing() {
    let (event, log) = (tick(), Log::default());
    let once = event.listen().once().filter(|n| n % 2 == 0).on(note(&log, "even"));
    let twice = event.listen().filter(|n| *n > 10).times(2).on(note(&log, "great"));
    assert_eq!(event.emit(&1).ran(), 0);
    assert!(once.is_active() && twice.is_active());
    assert_eq!(event.emit(&12).ran(), 2);
    assert_eq!((once.is_active(), twice.is_active()), (false, true));
    assert_eq!((event.emit(&2).ran(), event.emit(&13).ran(), event.emit(&15).ran()), (0, 1, 0));
    assert_eq!(taken(&log), ["even", "great", "great"]);
}

#[test]
fn the_last_filter_counts_and_is_asked_in_the_turn_of_its_listener() {
    let (event, log) = (tick(), Log::default());
    let asked = Arc::clone(&log);
    let filter = move |_: &u32| {
        push(&asked, "filter");
        false
    };
    event.listen().priority(1).on(note(&log, "before"));
    event.listen().filter(|_| unreachable!("it is replaced")).filter(filter).on(note(&log, "filtered"));
    event.on(note(&log, "after"));
    assert_eq!(event.emit(&1).ran(), 2);
    assert_eq!(taken(&log), ["before", "filter", "after"]);
}

#[test]
fn a_filter_that_panics_is_a_failure_of_its_listener_and_uses_up_nothing() {
    let (event, log) = (tick(), Log::default());
    let once = event.listen().once().filter(|n| *n != 1 || panic!("cannot tell")).on(note(&log, "filtered"));
    event.on(note(&log, "after"));
    let report = event.emit(&1);
    assert_eq!((report.ran(), report.failures().len()), (1, 1));
    assert_eq!(report.failures()[0].to_string(), "listener of `tick` panicked: cannot tell");
    assert!(report.failures()[0].registered_at().is_some());
    assert!(once.is_active());
    assert_eq!(event.emit(&2).ran(), 2);
    assert_eq!(taken(&log), ["after", "filtered", "after"]);
}

#[test]
fn a_filter_may_take_its_own_listener_off() {
    let event = tick();
    let me: Arc<OnceLock<Subscription>> = Arc::default();
    let inner = Arc::clone(&me);
    let filter = move |_: &u32| inner.get().is_some_and(Subscription::off);
    me.set(event.listen().filter(filter).on(|_| fall("it was off"))).unwrap();
    let report = event.emit(&1);
    assert_eq!((report.ran(), report.is_ok()), (0, true));
}

#[test]
fn one_listener_more_than_the_limit_is_an_error_that_says_what_to_do() {
    let events = Dispatcher::builder().listener_limit(1).build();
    let event = events.namespace("ui").event::<u32>("tick").unwrap();
    let first = event.on(|_| {});
    let error = event.listen().try_on(|_| {}).unwrap_err();
    assert_eq!((error.event(), error.limit()), ("ui:tick", 1));
    assert_eq!(
        error.to_string(),
        "event `ui:tick` has 1 listeners, the most its dispatcher allows; take some off, or raise `listener_limit`"
    );
    let (identified, name) = (Listener::new(|_: &u32| {}), "ui:tick");
    assert_eq!(event.listen().try_on_async(|_| async {}).unwrap_err(), error);
    assert_eq!(event.listen().try_on_listener(&identified).unwrap_err(), error);
    assert_eq!(event.listen().waitable().try_on(|_| {}).unwrap_err(), error);
    assert_eq!(event.listen().waitable().try_on_async(|_| async {}).unwrap_err(), error);
    let by_name = [
        events.on(name, |_: &u32| {}),
        events.once(name, |_: &u32| {}),
        events.on_async(name, |_: Arc<u32>| async {}),
        events.once_async(name, |_: Arc<u32>| async {}),
        events.on_async_with(name, (), |(), _: Arc<u32>| async {}),
        events.on_listener(name, &identified),
    ];
    for refused in by_name {
        assert_eq!(refused.unwrap_err(), EventError::TooManyListeners(error.clone()));
    }
    assert_eq!(event.emit(&1).ran(), 1, "nothing of it was registered");
    events.on("another", |_: &u32| {}).expect("the limit is one for each event");
    assert!(first.off());
    assert!(event.listen().try_on(|_| {}).is_ok(), "there is room again");
}

#[test]
fn a_run_over_the_limit_tells_the_hook_and_returns_a_subscription_of_nothing() {
    let events = Dispatcher::builder().listener_limit(1).build();
    let causes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&causes);
    events.on_error(move |failure| {
        let FailureCause::TooManyListeners { limit } = failure.cause() else { unreachable!("{failure}") };
        seen.lock().unwrap().push((*limit, failure.registered_at().unwrap().line()));
    });
    let event = events.event(TICK).unwrap();
    event.on(|_| {});
    let line = line!();
    let refused = [event.on(|_| {}), event.on_async(|_| async {}), event.on_listener(&Listener::new(|_| {}))];
    let waitable = event.listen().waitable().on(|_| {});
    assert_eq!(*causes.lock().unwrap(), [(1, line + 1), (1, line + 1), (1, line + 1), (1, line + 2)]);
    for subscription in refused {
        assert!(!subscription.is_active() && !subscription.off());
    }
    assert_eq!(waitable.off_and_wait(), Ok(false));
    assert_eq!((event.listener_count(), event.emit(&1).ran()), (1, 1));
}

#[test]
fn a_listener_that_ran_its_last_time_keeps_its_place_until_its_emit_is_over() {
    let events = Dispatcher::builder().listener_limit(1).build();
    let event = events.event(TICK).unwrap();
    let inner = event.clone();
    event.once(move |_| assert!(inner.listen().try_on(|_| {}).is_err()));
    assert!(event.emit(&1).is_ok());
    assert!(event.listen().try_on(|_| {}).is_ok());
}

#[test]
fn the_limit_holds_when_threads_race_for_the_last_places() {
    let events = Dispatcher::builder().listener_limit(10).warn_above(None).build();
    let told = told(&events);
    let event = events.event(TICK).unwrap();
    let (barrier, refused) = (Barrier::new(4), AtomicBool::new(false));
    let accepted: usize = thread::scope(|scope| {
        let register = || {
            barrier.wait();
            let accepted = (0..5).filter(|_| event.listen().try_on(|_| {}).is_ok()).count();
            refused.fetch_or(accepted < 5, SeqCst);
            accepted
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(register)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((accepted, event.listener_count(), event.emit(&1).ran()), (10, 10, 10));
    assert!(refused.into_inner());
    assert!(told.lock().unwrap().is_empty(), "who tries is told by the error alone");
}

#[test]
fn a_scoped_subscription_can_outlive_its_scope_after_all() {
    let event = tick();
    let scoped = event.on(|_| {}).scoped();
    let subscription = scoped.into_subscription();
    assert_eq!(event.emit(&1).ran(), 1);
    assert!(subscription.off());
    drop(event.listen().waitable().on(|_| {}).scoped());
    assert_eq!(event.listener_count(), 0);
}
