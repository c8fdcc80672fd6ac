//! What can be asked: names, listeners and where they come from, and the counts of emits.

use std::pin::pin;
use std::sync::Arc;
use std::thread;

use fanfare::dispatch::{ListenerKind, StreamOverflow};
use fanfare::{Dispatcher, Listener, Priority};
use futures_executor::block_on;

use crate::calls::{Log, TICK, closed_gate, fall, gated, poll_once, tick};

#[test]
fn names_are_those_with_a_listener_or_a_handle_in_full_and_sorted() {
    let events = Dispatcher::new();
    let handle = events.event::<u32>("b").unwrap();
    let subscription = events.namespace("ui").on("a", |_: &u32| {}).unwrap();
    events.on("a", |_: &str| {}).unwrap();
    events.emit("never", &1u32).unwrap();
    let names = || events.names().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names(), events.event_count()), (vec!["a".to_owned(), "b".to_owned(), "ui:a".to_owned()], 3));
    assert_eq!(events.namespace("ui").names(), events.names(), "whatever namespace it is asked of");
    drop(handle);
    subscription.off();
    assert_eq!((names(), events.event_count()), (vec!["a".to_owned()], 1));
}

#[test]
fn listeners_are_counted_when_they_may_be_called() {
    let events = Dispatcher::new();
    let event = events.namespace("ui").event::<u32>("tick").unwrap();
    assert_eq!((events.listener_count("ui:tick"), events.listener_count("unknown")), (0, 0));
    let subscription = event.on(|_| {});
    event.once(|_| {});
    let _next = event.next();
    assert_eq!((event.listener_count(), events.namespace("ui").listener_count("tick")), (3, 3));
    event.emit(&1);
    assert_eq!(event.listener_count(), 1);
    subscription.off();
    let inner = event.clone();
    event
        .once(move |_| assert_eq!((inner.listener_count(), inner.listeners().len()), (0, 0), "this was its last call"));
    assert!(event.emit(&1).is_ok());
    assert_eq!(event.listener_count(), 0);
}

#[test]
fn listeners_are_described_in_the_order_of_calls() {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    let paused = event.on(|_| {});
    event.listen().priority(-5).times(3).on(|_| {});
    event.listen().priority(Priority::HIGH).on_async(|_| async {});
    let _stream = event.stream(1, StreamOverflow::Close);
    event.on_listener(&Listener::new(|_| {}));
    let _paused = paused.pause();
    event.emit(&1);
    let seen: Vec<_> = event
        .listeners()
        .iter()
        .map(|listener| (i32::from(listener.priority()), listener.kind(), listener.is_paused(), listener.calls_left()))
        .collect();
    let expected = [
        (100, ListenerKind::Async, false, None),
        (0, ListenerKind::Sync, true, None),
        (0, ListenerKind::Stream, false, None),
        (0, ListenerKind::Sync, false, None),
        (-5, ListenerKind::Sync, false, Some(2)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(events.listeners("tick").len(), 5);
    assert!(events.listeners("unknown").is_empty());
}

#[test]
fn every_way_to_register_notes_the_line_of_its_caller() {
    let events = Dispatcher::new();
    let (event, listener) = (events.event(TICK).unwrap(), Listener::new(|_| {}));
    let first = line!() + 1;
    events.on(TICK, |_| {}).unwrap();
    events.once(TICK, |_| {}).unwrap();
    events.on_async(TICK, |_| async {}).unwrap();
    events.once_async(TICK, |_| async {}).unwrap();
    events.on_async_with(TICK, (), |(), _| async {}).unwrap();
    events.on_listener(TICK, &listener).unwrap();
    events.listen(TICK).unwrap().on(|_| {});
    event.on(|_| {});
    event.once(|_| {});
    event.on_async(|_| async {});
    event.once_async(|_| async {});
    event.on_async_with((), |(), _| async {});
    event.on_listener(&listener);
    event.listen().on(|_| {});
    event.listen().waitable().on(|_| {});
    let _next = event.next();
    let _stream = event.stream(1, StreamOverflow::Close);
    let places: Vec<_> = event.listeners().iter().map(|listener| listener.registered_at()).collect();
    assert!(places.iter().all(|place| place.file() == file!()));
    assert!(places.iter().map(|place| place.line()).eq(first..first + 17), "{places:?}");
}

#[test]
fn counts_are_complete_under_threads() {
    let event = tick();
    event.enable_counts();
    event.on(|_| {});
    event.on(|n| if n % 2 == 0 { Err("even") } else { Ok(()) });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|n| drop(event.emit(&n))));
        }
    });
    let counts = event.counts().unwrap();
    assert_eq!((counts.emits, counts.calls, counts.failures), (4000, 8000, 2000));
}

#[test]
fn every_way_to_emit_is_counted_when_it_ends() {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    let emits = || event.counts().map(|counts| (counts.emits, counts.calls));
    event.emit(&1);
    assert_eq!(emits(), None, "nobody asked");
    event.enable_counts();
    assert_eq!(emits(), Some((0, 0)));
    event.emit(&1);
    assert_eq!(emits(), Some((1, 0)), "one that nobody heard");
    event.on(|_| {});
    event.emit(&1);
    event.emit_arc(Arc::new(1));
    event.emit_collect::<u32>(&1);
    event.publisher().emit(&1);
    events.emit(TICK, &1).unwrap();
    block_on(event.emit_async(&1));
    block_on(events.emit_async(TICK, &1)).unwrap();
    assert_eq!(emits(), Some((8, 7)));
    event.enable_counts();
    assert_eq!(emits(), Some((8, 7)), "asking again changes nothing");
}

#[test]
fn a_muted_emit_and_one_that_is_dropped_half_way_are_not_counted() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    event.enable_counts();
    event.on_async(gated(&gate, &log, ["a", "a ends"]));
    {
        let _muted = event.mute();
        event.emit(&1);
    }
    assert!(poll_once(pin!(event.emit_async(&1))).is_pending());
    assert_eq!(event.counts().map(|counts| counts.emits), Some(0));
    gate.add_permits(1);
    event.on_async(|_| async { fall("a failure") });
    block_on(event.emit_async(&1));
    let counts = event.counts().unwrap();
    assert_eq!((counts.emits, counts.calls, counts.failures), (1, 2, 1));
}

#[test]
fn everything_can_be_shown_for_debugging() {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    let subscription = event.listen().waitable().on(|_| {});
    assert_eq!(format!("{event:?}"), r#"Event { name: "tick", payload: "u32", listeners: 1 }"#);
    assert_eq!(format!("{:?}", *subscription), r#"Subscription { event: "tick", active: true, paused: false }"#);
    assert_eq!(format!("{events:?}"), r#"Dispatcher { namespace: "", events: ["tick"] }"#);
    assert_eq!(format!("{:?}", event.emit(&1)), "Report { ran: 1, spawned: 0, stopped: false, failures: [] }");
    drop((events, event));
    assert_eq!(format!("{:?}", *subscription), r#"Subscription { event: "(gone)", active: false, paused: false }"#);
}

#[test]
fn a_weak_handle_reaches_its_event_as_long_as_somebody_keeps_that() {
    let events = Dispatcher::new();
    let event = events.event::<u32>("tick").unwrap();
    let weak = event.downgrade();
    let subscription = event.on(|_| {});
    drop(event);
    assert_eq!(weak.upgrade().map(|event| event.emit(&1).ran()), Some(1), "its listener keeps it");
    assert!(subscription.off());
    assert!(weak.upgrade().is_none(), "it was forgotten");
    let _again = events.event::<u32>("tick").unwrap();
    assert!(weak.clone().upgrade().is_none(), "it is another event");
}

#[test]
fn an_event_is_asked_about_by_key_and_by_what_names_returned() {
    let events = Dispatcher::new();
    events.on(TICK, |_| {}).unwrap();
    assert_eq!((events.listener_count(TICK), events.listeners(TICK).len()), (1, 1));
    for name in &events.names() {
        assert_eq!(events.emit(name, &1u32).map(|report| report.ran()), Ok(1));
    }
    assert_eq!(events.off_all(TICK), 1);
}
