//! Waitable listeners: when `off_and_wait` has returned, no call of theirs is running, and none will.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use fanfare::Event;
use fanfare::dispatch::{WaitError, WaitableSubscription};
use futures_executor::block_on;

use crate::calls::{Log, Woken, closed_gate, fall, gated, poll_once, push, taken, tick};

/// A waitable listener that says when it is inside, and stays there until the sender is dropped.
struct Blocking {
    event: Event<u32>,
    log: Log,
    subscription: WaitableSubscription,
    inside: mpsc::Receiver<()>,
    leave: mpsc::Sender<()>,
}

fn blocking() -> Blocking {
    let (event, log) = (tick(), Log::default());
    let ((enter, inside), (leave, left)) = (mpsc::channel(), mpsc::channel());
    let (inner, left) = (Arc::clone(&log), Mutex::new(left));
    let subscription = event.listen().priority(1).waitable().on(move |_| {
        enter.send(()).unwrap();
        let _ = left.lock().unwrap().recv();
        push(&inner, "the call ends");
    });
    Blocking { event, log, subscription, inside, leave }
}

#[test]
fn off_and_wait_returns_when_the_call_on_another_thread_has_ended() {
    let Blocking { event, log, subscription, inside, leave } = blocking();
    thread::scope(|scope| {
        scope.spawn(|| event.emit(&1));
        inside.recv().unwrap();
        let waiter = scope.spawn(|| {
            assert_eq!(subscription.off_and_wait(), Ok(true));
            push(&log, "the wait ends");
        });
        // The listener is off, so the other thread is about to wait, or does already.
        while subscription.is_active() {
            thread::yield_now();
        }
        let again = Duration::from_millis(5);
        assert_eq!(subscription.off_and_wait_timeout(again), Err(WaitError::TimedOut), "the call is running");
        assert!(!waiter.is_finished());
        drop(leave);
    });
    assert_eq!(taken(&log), ["the call ends", "the wait ends"]);
    assert_eq!(subscription.off_and_wait(), Ok(false), "it was off already, and no call is running");
}

#[test]
fn a_wait_that_times_out_has_taken_the_listener_off_all_the_same() {
    let Blocking { event, subscription, inside, leave, .. } = blocking();
    thread::scope(|scope| {
        scope.spawn(|| event.emit(&1));
        inside.recv().unwrap();
        assert_eq!(subscription.off_and_wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
        assert!(!subscription.is_active());
        assert_eq!(event.emit(&2).ran(), 0);
        drop(leave);
        assert_eq!(subscription.off_and_wait_timeout(Duration::MAX), Ok(false));
    });
}

#[test]
fn all_who_wait_are_woken() {
    let Blocking { event, subscription, inside, leave, .. } = blocking();
    let mut first = pin!(subscription.off_and_wait_async());
    let mut second = pin!(subscription.clone().off_and_wait_async());
    let (one, two) = (Arc::<Woken>::default(), Arc::<Woken>::default());
    thread::scope(|scope| {
        let emitter = scope.spawn(|| event.emit(&1));
        inside.recv().unwrap();
        assert!(one.poll(first.as_mut()).is_pending());
        assert!(two.poll(second.as_mut()).is_pending());
        let waiter = scope.spawn(|| subscription.off_and_wait());
        drop(leave);
        assert_eq!(emitter.join().unwrap().ran(), 1);
        assert_eq!(waiter.join().unwrap(), Ok(false));
    });
    assert!(one.take() && two.take());
    assert_eq!(one.poll(first), Poll::Ready(Ok(true)));
    assert_eq!(two.poll(second), Poll::Ready(Ok(false)));
}

#[test]
fn no_call_begins_once_the_wait_is_over() {
    let event = tick();
    for _ in 0..300 {
        let (torn_down, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (flag, counter) = (Arc::clone(&torn_down), Arc::clone(&late));
        let subscription = event.listen().waitable().on(move |_| {
            // Twice: what it uses must not go away in the middle of a call either.
            for _ in 0..2 {
                counter.fetch_add(usize::from(flag.load(SeqCst)), SeqCst);
            }
        });
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..20).for_each(|n| drop(event.emit(&n))));
            }
            assert_eq!(subscription.off_and_wait(), Ok(true));
            torn_down.store(true, SeqCst);
        });
        assert_eq!(late.load(SeqCst), 0);
    }
}

#[test]
fn a_listener_that_waits_for_its_own_end_is_found_out_and_stays_as_it_is() {
    let event = tick();
    let me: Arc<OnceLock<WaitableSubscription>> = Arc::default();
    let (inner, nested) = (Arc::clone(&me), event.clone());
    let subscription = event.listen().waitable().on(move |n| {
        if *n == 0 {
            // Inside the second call, which is inside the first.
            nested.emit(&1);
        }
        let me = inner.get().expect("it is set before the emit");
        assert_eq!(me.off_and_wait_timeout(Duration::ZERO), Err(WaitError::WouldDeadlock));
        assert!(me.off_and_wait().is_err());
        assert!(block_on(me.off_and_wait_async()).is_err());
    });
    assert!(me.set(subscription.clone()).is_ok());
    let report = event.emit(&0);
    assert!(report.is_ok(), "{report:?}");
    assert!(subscription.is_active());
    assert_eq!(event.emit(&1).ran(), 1);
    assert_eq!(subscription.off_and_wait(), Ok(true), "outside of it");
}

#[test]
fn a_filter_and_a_future_that_wait_for_the_end_of_their_listener_are_found_out() {
    let event = tick();
    let me: Arc<OnceLock<WaitableSubscription>> = Arc::default();
    let (asking, calling, running) = (Arc::clone(&me), Arc::clone(&me), Arc::clone(&me));
    let would_deadlock = |me: &WaitableSubscription| {
        // First as a question that cannot hang.
        me.off_and_wait_timeout(Duration::ZERO) == Err(WaitError::WouldDeadlock) && me.off_and_wait().is_err()
    };
    let filter = move |_: &u32| asking.get().is_some_and(would_deadlock);
    let subscription = event.listen().filter(filter).waitable().on_async(move |_| {
        assert!(calling.get().is_some_and(would_deadlock));
        let me = running.get().cloned().expect("it is set before the emit");
        async move {
            assert!(would_deadlock(&me));
            assert!(me.off_and_wait_async().await.is_err());
        }
    });
    assert!(me.set(subscription).is_ok());
    let report = block_on(event.emit_async(&1));
    assert_eq!((report.ran(), report.is_ok()), (1, true), "{report:?}");
}

#[test]
fn a_listener_may_wait_for_the_end_of_another() {
    let event = tick();
    let other = event.listen().waitable().on(|_| {});
    // A waitable one itself: it is inside a call, and not of the other.
    event.listen().waitable().on(move |_| assert_eq!(other.off_and_wait(), Ok(true)));
    assert!(event.emit(&1).is_ok());
}

#[test]
fn an_async_call_is_running_until_its_future_is_finished() {
    let (event, log, gate) = (tick(), Log::default(), closed_gate());
    let subscription = event.listen().waitable().on_async(gated(&gate, &log, ["start", "end"]));
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    let (mut wait, woken) = (pin!(subscription.off_and_wait_async()), Arc::<Woken>::default());
    assert!(woken.poll(wait.as_mut()).is_pending());
    assert_eq!(subscription.off_and_wait_timeout(Duration::ZERO), Err(WaitError::TimedOut));
    gate.add_permits(1);
    assert!(!woken.take());
    assert!(poll_once(emit).is_ready(), "a call that has begun goes on");
    assert!(woken.take());
    assert_eq!(woken.poll(wait), Poll::Ready(Ok(true)));
    assert_eq!(taken(&log), ["start", "end"]);
}

#[test]
fn an_async_call_is_running_until_its_future_is_dropped() {
    let event = tick();
    let subscription = event.listen().waitable().on_async(|_| std::future::pending::<()>());
    let mut emit = Box::pin(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    let (mut wait, woken) = (pin!(subscription.off_and_wait_async()), Arc::<Woken>::default());
    assert!(woken.poll(wait.as_mut()).is_pending());
    drop(emit);
    assert!(woken.take());
    assert_eq!(woken.poll(wait), Poll::Ready(Ok(true)));
}

#[test]
fn a_wait_that_is_given_up_has_taken_the_listener_off_at_its_first_poll() {
    let event = tick();
    let subscription = event.listen().waitable().on_async(|_| std::future::pending::<()>());
    drop(subscription.off_and_wait_async());
    assert!(subscription.is_active(), "it was not polled");
    let mut emit = pin!(event.emit_async(&1));
    assert!(poll_once(emit.as_mut()).is_pending());
    let mut wait = Box::pin(subscription.off_and_wait_async());
    assert!(poll_once(wait.as_mut()).is_pending());
    drop(wait);
    assert!(!subscription.is_active());
}

#[test]
fn a_wait_asks_nothing_of_the_other_listeners_of_an_emit() {
    let Blocking { event, subscription: blocked, inside, leave, .. } = blocking();
    let before = event.listen().priority(2).waitable().on(|_| {});
    let after = event.listen().waitable().on(|_| fall("it was off before its turn"));
    thread::scope(|scope| {
        let emitter = scope.spawn(|| event.emit(&1));
        inside.recv().unwrap();
        assert_eq!(before.off_and_wait(), Ok(true));
        assert_eq!(after.off_and_wait(), Ok(true));
        assert_eq!(blocked.off_and_wait_timeout(Duration::ZERO), Err(WaitError::TimedOut), "that emit is running");
        drop(leave);
        let report = emitter.join().unwrap();
        assert_eq!((report.ran(), report.is_ok()), (2, true));
    });
}

#[test]
fn a_wait_asks_nothing_of_idle_publishers() {
    let event = tick();
    let subscription = event.listen().waitable().on(|_| {});
    let mut publisher = event.publisher();
    assert_eq!(publisher.emit(&1).ran(), 1);
    assert_eq!(subscription.off_and_wait(), Ok(true));
    assert_eq!(publisher.emit(&2).ran(), 0);
}

#[test]
fn calls_that_fail_or_are_refused_are_not_running_any_more() {
    let event = tick();
    let subscription = event.listen().filter(|n| *n > 0).waitable().on(|_| fall("inside"));
    assert_eq!(event.emit(&0).ran(), 0);
    assert_eq!(event.emit(&1).failures().len(), 1);
    let unmade = event.listen().waitable().on_async(|_| -> std::future::Ready<()> { panic!("while it is made") });
    let panics = event.listen().waitable().on_async(|_| async { fall("in the future") });
    assert_eq!(block_on(event.emit_async(&1)).failures().len(), 3);
    assert_eq!(event.emit(&1).failures().len(), 3, "two of them found no runtime");
    for subscription in [subscription, unmade, panics] {
        assert_eq!(subscription.off_and_wait_timeout(Duration::ZERO), Ok(true));
    }
}

#[test]
fn the_wait_for_a_listener_that_had_its_last_call_returns_false_after_it() {
    let event = tick();
    let subscription = event.listen().once().waitable().on(|_| {});
    assert_eq!(event.emit(&1).ran(), 1);
    assert_eq!(subscription.off_and_wait(), Ok(false));
}
