//! Plain emits within a runtime: async listeners are handed over, counted and waited for.

#![allow(missing_docs, reason = "tests")]
#![cfg(feature = "tokio")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use fanfare::Dispatcher;
use fanfare::dispatch::FailureCause;
use tokio::sync::Semaphore;

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
    assert!(futures_poll(drained.as_mut()).await.is_none(), "ten are waiting");
    gate.add_permits(10);
    drained.await;
    assert_eq!(ran.load(SeqCst), 30);
}

/// Polls once.
async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
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
