//! Payloads as values to wait for: the next one, and streams of them all through a bounded queue.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use fanfare::dispatch::{EventStream, StreamOverflow};
use fanfare::{Dispatcher, Event};
use futures_executor::block_on;
use futures_util::StreamExt;

use crate::calls::{TICK, Woken, poll_once, tick, told};

fn emit(event: &Event<u32>, numbers: impl IntoIterator<Item = u32>) {
    numbers.into_iter().for_each(|n| drop(event.emit(&n)));
}

/// What waits in the stream.
fn waiting(stream: &mut EventStream<u32>) -> Vec<u32> {
    std::iter::from_fn(|| stream.try_next()).map(|n| *n).collect()
}

fn next(stream: &mut EventStream<u32>) -> Poll<Option<u32>> {
    poll_once(pin!(stream.next())).map(|n| n.map(|n| *n))
}

#[test]
fn next_waits_for_the_first_emit_after_its_call() {
    let event = tick();
    emit(&event, [1]);
    let (mut next, woken) = (pin!(event.next()), Arc::<Woken>::default());
    assert!(woken.poll(next.as_mut()).is_pending() && !woken.take());
    emit(&event, [2, 3]);
    assert!(woken.take());
    assert_eq!(woken.poll(next), Poll::Ready(Some(Arc::new(2))));
    assert_eq!(event.listener_count(), 0);
}

#[test]
fn next_counts_from_its_call_and_not_from_its_first_poll() {
    let event = tick();
    let (first, second) = (event.next(), event.next());
    emit(&event, [1]);
    let third = event.next();
    emit(&event, [2]);
    assert_eq!(block_on(async { [first.await, second.await, third.await] }), [1, 1, 2].map(|n| Some(Arc::new(n))));
}

#[test]
fn a_next_that_is_dropped_takes_its_listener_off_and_no_payload_from_another() {
    let event = tick();
    let (mut dropped, kept) = (Box::pin(event.next()), event.next());
    assert!(poll_once(dropped.as_mut()).is_pending());
    emit(&event, [1]);
    drop(dropped);
    assert_eq!(block_on(kept).as_deref(), Some(&1));
    drop(event.next());
    assert_eq!((event.listener_count(), event.emit(&2).ran()), (0, 0));
}

#[test]
fn next_is_none_when_its_listener_is_taken_off_before() {
    let event = tick();
    let (mut next, woken) = (pin!(event.next()), Arc::<Woken>::default());
    assert!(woken.poll(next.as_mut()).is_pending());
    assert_eq!(event.off_all(), 1);
    assert!(woken.take());
    assert_eq!(woken.poll(next), Poll::Ready(None));
    let next = event.next();
    emit(&event, [1]);
    event.off_all();
    assert_eq!(block_on(next).as_deref(), Some(&1), "it was there first");
}

#[test]
fn a_full_stream_drops_the_oldest_or_the_newest_and_counts_them() {
    let event = tick();
    let mut oldest = event.stream(3, StreamOverflow::DropOldest);
    let mut newest = event.stream(3, StreamOverflow::DropNewest);
    emit(&event, 1..=3);
    assert_eq!((oldest.dropped(), newest.dropped()), (0, 0));
    emit(&event, 4..=5);
    assert_eq!((oldest.dropped(), newest.dropped()), (2, 2));
    assert_eq!(waiting(&mut oldest), [3, 4, 5]);
    assert_eq!(waiting(&mut newest), [1, 2, 3]);
    emit(&event, [6]);
    assert_eq!((next(&mut oldest), next(&mut newest)), (Poll::Ready(Some(6)), Poll::Ready(Some(6))));
    assert_eq!((next(&mut oldest), oldest.dropped()), (Poll::Pending, 2));
}

#[test]
fn a_full_stream_that_closes_ends_behind_what_waits_in_it() {
    let event = tick();
    let mut stream = event.stream(2, StreamOverflow::Close);
    emit(&event, 1..=2);
    assert_eq!((next(&mut stream), stream.dropped()), (Poll::Ready(Some(1)), 0));
    emit(&event, 3..=4);
    assert_eq!(stream.dropped(), 1);
    assert_eq!((next(&mut stream), next(&mut stream)), (Poll::Ready(Some(2)), Poll::Ready(Some(3))));
    emit(&event, [5]);
    assert_eq!((next(&mut stream), stream.try_next()), (Poll::Ready(None), None), "nothing comes after its end");
    assert_eq!(next(&mut stream), Poll::Ready(None));
    assert_eq!(event.listener_count(), 0, "its listener has nothing left to do");
}

#[test]
fn a_reader_that_waits_is_woken_by_an_emit_by_a_close_and_by_an_off() {
    let event = tick();
    let woken = Arc::<Woken>::default();
    let mut stream = event.stream(1, StreamOverflow::Close);
    assert!(woken.poll(pin!(stream.next())).is_pending() && !woken.take());
    emit(&event, [1]);
    assert!(woken.take());
    assert_eq!(woken.poll(pin!(stream.next())), Poll::Ready(Some(Arc::new(1))));
    assert!(woken.poll(pin!(stream.next())).is_pending());
    stream.subscription().off();
    assert!(woken.take());
    assert_eq!(woken.poll(pin!(stream.next())), Poll::Ready(None));
}

#[test]
fn a_stream_ends_behind_what_waits_in_it_when_its_listener_is_taken_off() {
    let event = tick();
    let mut stream = event.stream(10, StreamOverflow::DropOldest);
    emit(&event, 1..=2);
    assert!(stream.subscription().off());
    emit(&event, [3]);
    assert_eq!([(); 3].map(|()| next(&mut stream)), [Some(1), Some(2), None].map(Poll::Ready));
}

#[test]
fn a_stream_ends_when_its_listener_is_taken_off_though_a_publisher_is_idle() {
    let event = tick();
    let (woken, mut publisher) = (Arc::<Woken>::default(), event.publisher());
    let mut stream = event.stream(10, StreamOverflow::DropOldest);
    let mut one = pin!(event.next());
    publisher.refresh();
    assert!(woken.poll(pin!(stream.next())).is_pending());
    assert!(poll_once(one.as_mut()).is_pending());
    event.off_all();
    assert!(woken.take());
    assert_eq!((next(&mut stream), poll_once(one)), (Poll::Ready(None), Poll::Ready(None)));
}

#[test]
fn a_stream_ends_with_its_dispatcher_unless_a_handle_keeps_the_event() {
    let events = Dispatcher::new();
    let (kept, forgotten) = (events.event::<u32>("kept").unwrap(), events.event::<u32>("forgotten").unwrap());
    let mut lasting = kept.stream(5, StreamOverflow::DropNewest);
    let mut ending = forgotten.stream(5, StreamOverflow::DropNewest);
    emit(&forgotten, [1]);
    drop(forgotten);
    assert_eq!(events.emit("forgotten", &2u32).unwrap().ran(), 1, "its listener keeps the event");
    drop(events);
    assert_eq!([(); 3].map(|()| next(&mut ending)), [Some(1), Some(2), None].map(Poll::Ready));
    emit(&kept, [3]);
    assert_eq!((next(&mut lasting), next(&mut lasting)), (Poll::Ready(Some(3)), Poll::Pending));
}

#[test]
fn a_stream_that_is_dropped_takes_its_listener_off() {
    let event = tick();
    let stream = event.stream(1, StreamOverflow::DropNewest);
    assert_eq!(event.listener_count(), 1);
    drop(stream);
    assert_eq!((event.listener_count(), event.emit(&1).ran()), (0, 0));
}

#[test]
fn a_read_that_is_dropped_loses_nothing() {
    let event = tick();
    let mut stream = event.stream(5, StreamOverflow::DropNewest);
    assert!(poll_once(Box::pin(stream.next()).as_mut()).is_pending());
    emit(&event, [1]);
    drop(stream.next());
    emit(&event, [2]);
    assert_eq!(waiting(&mut stream), [1, 2]);
}

#[test]
fn a_stream_is_paused_and_muted_like_any_listener() {
    let event = tick();
    let mut stream = event.stream(5, StreamOverflow::DropNewest);
    {
        let _paused = stream.subscription().pause();
        emit(&event, [1]);
    }
    emit(&event, [2]);
    {
        let _muted = event.mute();
        emit(&event, [3]);
    }
    assert_eq!(waiting(&mut stream), [2]);
}

#[test]
fn streams_share_one_payload() {
    let event = tick();
    let mut streams = [(); 3].map(|()| event.stream(1, StreamOverflow::DropNewest));
    let payload = Arc::new(1);
    event.emit_arc(Arc::clone(&payload));
    assert!(streams.iter_mut().all(|stream| stream.try_next().is_some_and(|got| Arc::ptr_eq(&got, &payload))));
    emit(&event, [2]);
    let [a, b, c] = streams.each_mut().map(|stream| stream.try_next().expect("it was emitted"));
    assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&b, &c));
}

#[test]
fn a_stream_works_with_the_adapters_of_streams_and_across_threads() {
    let event = tick();
    let stream = event.stream(10_000, StreamOverflow::Close);
    let even = stream.filter(|n| std::future::ready(**n % 2 == 0)).take(5_000).map(|n| *n).collect::<Vec<_>>();
    let got = thread::scope(|scope| {
        scope.spawn(|| emit(&event, 0..10_000));
        block_on(even)
    });
    assert!(got.into_iter().eq((0..10_000).step_by(2)), "in order, and none is missing");
    assert_eq!(event.listener_count(), 0, "it went with the stream");
}

#[test]
fn a_stream_over_the_limit_of_listeners_is_told_of_and_ends_at_once() {
    let events = Dispatcher::builder().listener_limit(1).build();
    let told = told(&events);
    let event = events.event(TICK).unwrap();
    let _first = event.stream(1, StreamOverflow::Close);
    let mut refused = event.stream(1, StreamOverflow::Close);
    assert_eq!(next(&mut refused), Poll::Ready(None));
    assert_eq!(block_on(event.next()), None);
    assert_eq!(told.lock().unwrap().len(), 2);
}

#[test]
#[should_panic(expected = "room for at least one payload")]
fn a_stream_without_room_is_refused() {
    let _ = tick().stream(0, StreamOverflow::Close);
}
