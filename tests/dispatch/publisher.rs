//! Publishers: they see every change made before their emit, and what it costs to leave one idle.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use fanfare::dispatch::Publisher;
use fanfare::{Dispatcher, Event, Priority};
use futures_executor::block_on;

use crate::calls::{Log, TICK, note, taken, tick};

/// A listener that is off, in the snapshot of a publisher; and what tells whether it was dropped.
fn kept_by_a_publisher() -> (Event<u32>, Publisher<u32>, std::sync::Weak<()>) {
    let event = tick();
    let captured = Arc::new(());
    let weak = Arc::downgrade(&captured);
    let subscription = event.on(move |_| _ = &captured);
    let mut publisher = event.publisher();
    publisher.emit(&1);
    assert!(subscription.off());
    (event, publisher, weak)
}

#[test]
fn a_publisher_sees_the_changes_made_before_its_emit() {
    let (event, log) = (tick(), Log::default());
    let mut publisher = event.publisher();
    assert_eq!(publisher.emit(&1).ran(), 0);
    let first = event.on(note(&log, "first"));
    assert_eq!(publisher.emit(&2).ran(), 1);
    event.listen().priority(Priority::HIGH).once().on(note(&log, "second, once"));
    assert_eq!(publisher.emit(&3).ran(), 2);
    assert_eq!(publisher.emit(&4).ran(), 1);
    first.off();
    assert_eq!(publisher.emit(&5).ran(), 0);
    assert_eq!(taken(&log), ["first", "second, once", "first", "first"]);
}

#[test]
fn a_publisher_sees_what_another_thread_registered_before() {
    let event = tick();
    let (tell, told) = mpsc::channel();
    let (mut publisher, mut registered) = (event.publisher(), 0);
    thread::scope(|scope| {
        let event = &event;
        scope.spawn(move || (0..100).for_each(|_| tell.send(event.on(|_| {})).unwrap()));
        for _subscription in told {
            registered += 1;
            assert!(publisher.emit(&1).ran() >= registered);
        }
    });
}

#[test]
fn a_publisher_obeys_pauses_mutes_and_counters() {
    let event = tick();
    let subscription = event.on(|_| {});
    let mut publisher = event.publisher();
    assert_eq!(publisher.emit(&1).ran(), 1);
    let paused = subscription.pause();
    assert_eq!(publisher.emit(&2).ran(), 0);
    drop(paused);
    let muted = event.mute();
    assert_eq!(publisher.emit(&3).ran(), 0);
    drop(muted);
    event.enable_counts();
    assert_eq!(publisher.emit(&4).ran(), 1);
    assert_eq!(event.counts().map(|counts| (counts.emits, counts.calls)), Some((1, 1)));
}

#[test]
fn an_idle_publisher_keeps_a_listener_that_is_off_until_its_next_emit() {
    let (_event, mut publisher, captured) = kept_by_a_publisher();
    assert_eq!(captured.strong_count(), 1, "the documented cost");
    assert_eq!(publisher.emit(&2).ran(), 0);
    assert_eq!(captured.strong_count(), 0);
}

#[test]
fn an_idle_publisher_keeps_a_listener_that_is_off_until_its_next_async_emit() {
    let (_event, mut publisher, captured) = kept_by_a_publisher();
    assert_eq!(captured.strong_count(), 1);
    assert_eq!(block_on(publisher.emit_async(&2)).ran(), 0);
    assert_eq!(captured.strong_count(), 0);
}

#[test]
fn an_idle_publisher_keeps_a_listener_that_is_off_until_its_refresh() {
    let (_event, mut publisher, captured) = kept_by_a_publisher();
    publisher.refresh();
    assert_eq!(captured.strong_count(), 0);
}

#[test]
fn an_idle_publisher_keeps_a_listener_that_is_off_until_it_is_dropped() {
    let (event, publisher, captured) = kept_by_a_publisher();
    drop(event);
    assert_eq!(captured.strong_count(), 1);
    drop(publisher);
    assert_eq!(captured.strong_count(), 0);
}

#[test]
fn clones_of_a_publisher_have_a_snapshot_each() {
    let (_event, mut publisher, captured) = kept_by_a_publisher();
    let mut clone = publisher.clone();
    assert_eq!(publisher.emit(&2).ran(), 0);
    assert_eq!(captured.strong_count(), 1, "the clone is idle still");
    clone.refresh();
    assert_eq!(captured.strong_count(), 0);
}

#[test]
fn clones_of_a_publisher_emit_on_threads_of_their_own() {
    let event = tick();
    event.on(|_| {});
    let publisher = Publisher::from(event);
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut clone = publisher.clone();
            scope.spawn(move || (0..1000).for_each(|n| assert_eq!(clone.emit(&n).ran(), 1)));
        }
    });
}

#[test]
fn a_publisher_outlives_its_dispatcher() {
    let events = Dispatcher::new();
    let mut publisher = events.event(TICK).unwrap().publisher();
    assert_eq!(events.event_count(), 1, "it keeps the event, as a handle does");
    events.on(TICK, |_| {}).unwrap();
    drop(events);
    assert_eq!(publisher.emit(&1).ran(), 1);
    publisher.event().on(|_| {});
    assert_eq!(publisher.emit(&2).ran(), 2);
    assert_eq!(block_on(publisher.emit_async(&3)).ran(), 2);
}
