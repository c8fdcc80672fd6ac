//! Pauses of a listener and mutes of an event: counted, ended by a drop, and seen by emits that are running.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::thread;

use fanfare::Dispatcher;
use fanfare::dispatch::{EmitOptions, StreamOverflow, Value};
use futures_executor::block_on;

use crate::calls::{Log, TICK, note, taken, tick};

#[test]
fn a_paused_listener_is_called_again_when_all_its_pauses_are_over() {
    let event = tick();
    let subscription = event.on(|_| {});
    let first = subscription.pause();
    let second = subscription.clone().pause();
    assert!(subscription.is_paused());
    assert_eq!(event.emit(&1).ran(), 0);
    drop(first);
    assert!(subscription.is_paused());
    assert_eq!(event.emit(&2).ran(), 0);
    drop(second);
    assert!(!subscription.is_paused());
    assert_eq!(event.emit(&3).ran(), 1);
}

#[test]
fn pauses_of_many_threads_are_all_counted() {
    let event = tick();
    let subscription = event.on(|_| {});
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1000 {
                    let _paused = subscription.pause();
                    assert_eq!(event.emit(&n).ran(), 0, "nobody else ends this pause");
                }
            });
        }
    });
    assert!(!subscription.is_paused());
    assert_eq!(event.emit(&1).ran(), 1);
}

#[test]
fn a_pause_is_of_one_listener_alone() {
    let (event, log) = (tick(), Log::default());
    let subscription = event.on(note(&log, "paused"));
    event.on(note(&log, "other"));
    let _paused = subscription.pause();
    event.emit(&1);
    assert_eq!(taken(&log), ["other"]);
}

#[test]
fn a_paused_listener_is_active_and_counted_until_it_is_off() {
    let event = tick();
    let subscription = event.on(|_| {});
    let paused = subscription.pause();
    assert!(subscription.is_active());
    assert_eq!(event.listener_count(), 1);
    assert!(event.listeners()[0].is_paused());
    assert!(subscription.off());
    assert!(!subscription.is_active() && !subscription.is_paused());
    drop(paused);
    drop(subscription.pause());
    assert!(!subscription.is_active(), "the end of a pause brings nothing back");
    assert_eq!(event.emit(&1).ran(), 0);
}

#[test]
fn a_pause_uses_up_nothing() {
    let event = tick();
    let once = event.once(|_| {});
    let twice = event.listen().times(2).on(|_| {});
    {
        let _paused = (once.pause(), twice.pause());
        assert_eq!(event.emit(&1).ran(), 0);
    }
    assert_eq!([event.emit(&2).ran(), event.emit(&3).ran(), event.emit(&4).ran()], [2, 1, 0]);
}

#[test]
fn an_emit_that_is_running_sees_pauses_begin_and_end() {
    let (event, log) = (tick(), Log::default());
    let targets = Arc::new(Mutex::new(None));
    let inner = Arc::clone(&targets);
    event.listen().priority(1).on(move |_| {
        let (begins, ends) = inner.lock().unwrap().take().expect("one emit");
        // On another thread, and finished before their turns.
        thread::spawn(move || {
            std::mem::forget(fanfare::Subscription::pause(&begins));
            drop::<fanfare::dispatch::Paused>(ends);
        })
        .join()
        .unwrap();
    });
    let begins = event.on(note(&log, "paused meanwhile"));
    let ends = event.on(note(&log, "resumed meanwhile")).pause();
    *targets.lock().unwrap() = Some((begins, ends));
    assert_eq!(event.emit(&1).ran(), 2);
    assert_eq!(taken(&log), ["resumed meanwhile"]);
}

#[test]
fn a_muted_event_is_heard_again_when_all_its_mutes_are_over() {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    event.on(|_| {});
    let first = event.mute();
    let second = events.event(TICK).unwrap().mute();
    assert!(event.is_muted());
    assert_eq!(event.emit(&1).ran(), 0);
    drop(first);
    assert!(event.is_muted());
    assert_eq!(event.emit(&2).ran(), 0);
    drop(second);
    assert!(!event.is_muted());
    assert_eq!(event.emit(&3).ran(), 1);
}

#[test]
fn a_mute_holds_for_every_way_to_emit_and_uses_up_nothing() {
    let events = Dispatcher::new();
    let (event, log) = (events.event(TICK).unwrap(), Log::default());
    let once = event.once(note(&log, "once"));
    event.on(note(&log, "sync"));
    event.on_async(|_| async { panic!("it is muted") as () });
    event.on(|_| Value(1));
    let mut stream = event.stream(10, StreamOverflow::DropNewest);
    let mut publisher = event.publisher();
    let muted = event.mute();
    let reports = [
        event.emit(&1),
        event.emit_arc(Arc::new(1)),
        event.emit_with(EmitOptions::new().fail_fast(), &1),
        event.emit_collect::<i32>(&1).1,
        event.emit_fold::<i32, _, _>(&1, (), |(), _| ControlFlow::Continue(())).1,
        block_on(event.emit_async(&1)),
        block_on(event.emit_async_with(EmitOptions::new().concurrent(4), &1)),
        publisher.emit(&1),
        block_on(publisher.emit_async(&1)),
        events.emit(TICK, &1).unwrap(),
        events.emit_arc(TICK, Arc::new(1)).unwrap(),
        block_on(events.emit_async(TICK, &1)).unwrap(),
    ];
    for report in reports {
        assert_eq!((report.ran(), report.is_ok()), (0, true));
    }
    #[cfg(feature = "tokio")]
    assert!(block_on(event.emit_spawned(&1)).is_ok());
    assert!(taken(&log).is_empty() && stream.try_next().is_none());
    assert!(once.is_active());
    drop(muted);
    assert_eq!(publisher.emit(&1).ran(), 4);
}

#[test]
fn a_mute_lets_an_emit_that_is_running_go_on() {
    let (event, log) = (tick(), Log::default());
    let inner = event.clone();
    event.on(move |_| std::mem::forget(inner.mute()));
    event.on(note(&log, "after"));
    assert_eq!(event.emit(&1).ran(), 2);
    assert_eq!((event.emit(&2).ran(), taken(&log)), (0, vec!["after"]));
}
