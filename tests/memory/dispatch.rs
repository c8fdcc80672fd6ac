//! What the dispatcher costs in memory: nothing for an emit, nothing for what is gone, a bound for a slow reader.
//!
//! Allocations are counted for the thread that measures, so that tests may run beside one another.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use fanfare::dispatch::{StreamOverflow, WaitError};
use fanfare::{Dispatcher, Event};
use futures_executor::block_on;

use crate::calls::{TICK, poll_once};

/// A dispatcher whose event has 16 sync listeners, and was emitted to once on this thread.
fn sixteen() -> (Dispatcher, Event<u32>) {
    let events = Dispatcher::new();
    let event = events.event(TICK).expect("the key is good");
    for _ in 0..16 {
        event.on(|n| assert_ne!(*n, 0));
    }
    assert_eq!(event.emit(&1).ran(), 16);
    (events, event)
}

fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[test]
fn an_emit_over_sync_listeners_allocates_nothing() {
    let (_events, event) = sixteen();
    assert_eq!(allocations(|| assert_eq!(event.emit(&1).ran(), 16)), 0);
}

#[test]
fn an_emit_of_a_publisher_allocates_nothing() {
    let (_events, event) = sixteen();
    let mut publisher = event.publisher();
    assert_eq!(allocations(|| assert_eq!(publisher.emit(&1).ran(), 16)), 0);
}

#[test]
fn an_emit_by_name_allocates_nothing() {
    let (events, _event) = sixteen();
    let emits = || {
        assert_eq!(events.emit(TICK, &1).map(|report| report.ran()), Ok(16));
        assert_eq!(events.emit("tick", &1u32).map(|report| report.ran()), Ok(16));
        assert_eq!(events.emit("unknown", &1u32).map(|report| report.ran()), Ok(0));
    };
    emits(); // the map gives each thread a record of its own
    assert_eq!(allocations(emits), 0);
}

#[test]
fn an_async_emit_over_sync_listeners_allocates_nothing() {
    let (_events, event) = sixteen();
    let emit = || assert_eq!(block_on(event.emit_async(&1)).ran(), 16);
    emit(); // the executor gives each thread a waker of its own
    assert_eq!(allocations(emit), 0);
}

#[test]
fn names_that_come_and_go_leave_less_than_two_percent_of_their_peak() {
    // Half of them where nothing is optimised: there a name takes ten microseconds.
    const NAMES: usize = if cfg!(debug_assertions) { 500_000 } else { 1_000_000 };
    let names: Vec<_> = (0..NAMES).map(|n| format!("name.{n}")).collect();
    let events = Dispatcher::new();
    let AllocationInfo { bytes_max: peak, bytes_current: left, .. } = measure(|| {
        for name in &names {
            events.on(&**name, |_: &u32| {}).expect("the name is good");
        }
        assert_eq!(events.event_count(), NAMES);
        for name in &names {
            assert_eq!(events.emit(&**name, &1u32).map(|report| report.ran()), Ok(1));
        }
        for name in &names {
            assert_eq!(events.off_all(name), 1);
        }
        assert_eq!(events.event_count(), 0);
    });
    println!("peak {peak} bytes, {} for each name; {left} left", peak / NAMES as u64);
    assert!(left * 50 <= peak as i64, "{left} bytes are left of {peak}");
}

#[test]
fn listeners_that_come_and_go_do_not_grow_the_memory_of_their_event() {
    let (_events, event) = sixteen();
    let churn = |times| (0..times).for_each(|_| assert!(event.on(|_| {}).off()));
    churn(1000);
    let info = measure(|| churn(100_000));
    assert_eq!(info.bytes_current, 0);
    assert!(info.bytes_max < 16 << 10, "{} bytes at once", info.bytes_max);
}

#[test]
fn a_stream_whose_reader_is_slow_holds_no_more_than_its_capacity() {
    const PAYLOAD: usize = 1000;
    let event = Dispatcher::new().event::<[u8]>("bytes").expect("the name is good");
    let mut kept = Vec::new();
    for overflow in [StreamOverflow::DropOldest, StreamOverflow::DropNewest, StreamOverflow::Close] {
        let stream = event.stream(10, overflow);
        let info = measure(|| (0..10_000).for_each(|_| drop(event.emit(&[1; PAYLOAD]))));
        // Beside the ten that wait there are, for a moment, the one that comes and the one that goes.
        assert!(info.bytes_max < 13 * (PAYLOAD as u64 + 100), "{} bytes at once", info.bytes_max);
        // The one that closes is taken off with the first that does not fit.
        assert_eq!(stream.dropped(), if overflow == StreamOverflow::Close { 1 } else { 9990 });
        kept.push(stream);
        kept.last().unwrap().subscription().off();
    }
    let waiting: Vec<Arc<[u8]>> = kept.iter_mut().flat_map(|stream| std::iter::from_fn(|| stream.try_next())).collect();
    assert_eq!(waiting.len(), 30);
}

#[test]
fn waits_that_were_given_up_leave_nothing_behind() {
    let (_events, event) = sixteen();
    let subscription = event.listen().waitable().on_async(|_| std::future::pending::<()>());
    let mut emit = Box::pin(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending(), "a call is in flight");
    let give_up = || {
        for _ in 0..1000 {
            let mut wait = std::pin::pin!(subscription.off_and_wait_async());
            assert!(poll_once(wait.as_mut()).is_pending());
            assert_eq!(subscription.off_and_wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
        }
    };
    give_up();
    assert_eq!(measure(give_up).bytes_current, 0);
    drop(emit);
    assert_eq!(subscription.off_and_wait(), Ok(false), "the dropped emit has ended the call");
}
