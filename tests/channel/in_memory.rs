//! Channels in memory: what is received, how one ends, and the dispatcher of its events.

use std::time::Duration;

use fanfare::channel::{Channel, ChannelOptions, CloseCode, FarMessage, RecvError, Sender};
use futures_util::FutureExt;
use tokio::time::advance;

fn text(text: &str) -> Option<FarMessage> {
    Some(FarMessage::Text(text.into()))
}

#[tokio::test]
async fn recv_is_cancel_safe_and_tells_bad_messages_from_a_bad_connection() {
    let (mut channel, far) = Channel::in_memory();
    for n in 0..100 {
        far.send_text(n.to_string());
    }
    for n in 0..100u32 {
        // The other branch is ready too and wins half of the time: nothing may be lost by it.
        let received = loop {
            tokio::select! {
                received = channel.recv::<u32>() => break received,
                () = std::future::ready(()) => {}
            }
        };
        assert_eq!(received.unwrap().unwrap(), n);
    }
    far.send_text("no json");
    far.send_binary(vec![1]);
    far.send_text("7");
    assert!(matches!(channel.recv::<u32>().await, Some(Err(RecvError::Json(_)))));
    assert!(matches!(channel.recv::<u32>().await, Some(Err(RecvError::Binary))));
    assert!(matches!(channel.recv::<u32>().await, Some(Ok(7))));
    far.close(CloseCode::NORMAL);
    assert!(channel.recv::<u32>().await.is_none());
}

#[test]
fn a_far_end_receives_nothing_after_the_close() {
    // It went on to wait for a frame that nobody could send any more.
    let (channel, mut far) = Channel::in_memory();
    drop(channel);
    assert!(matches!(far.recv().now_or_never(), Some(Some(FarMessage::Close { code: CloseCode::NORMAL, .. }))));
    assert_eq!(far.recv().now_or_never(), Some(None));
}

#[test]
fn an_event_of_the_channel_runs_once_per_connection_and_can_answer() {
    for _ in 0..2 {
        let (channel, mut far) = Channel::in_memory();
        channel.events().once("connection.init", |sender: &Sender| sender.send("welcome")).unwrap();
        for _ in 0..2 {
            assert!(channel.events().emit("connection.init", &channel.sender()).unwrap().is_ok());
        }
        assert_eq!((far.try_recv(), far.try_recv()), (text("\"welcome\""), None));
    }
}

#[test]
fn a_close_code_that_must_not_be_sent_is_the_callers_mistake() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 2000, 5000] {
        assert_eq!(CloseCode::try_new(code), None);
        let refused = std::panic::catch_unwind(|| CloseCode::new(code));
        let says = *refused.expect_err("it may not be sent").downcast::<&str>().expect("a text");
        assert!(says.contains("use CloseCode::NORMAL, or one of your own from 3000 to 4999"), "{says}");
    }
    for code in [1000, 1003, 1007, 1014, 3000, 4999] {
        assert_eq!(CloseCode::try_new(code).map(CloseCode::get), Some(code));
    }
    let (channel, mut far) = Channel::in_memory();
    assert!(channel.close(CloseCode::new(4999), "bye"));
    let close = FarMessage::Close { code: CloseCode::new(4999), reason: "bye".into() };
    assert_eq!(far.try_recv(), Some(close));
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_and_a_lifetime_end_a_channel_unless_they_are_taken_away() {
    const SECOND: Duration = Duration::from_secs(1);
    let begin = || Channel::in_memory_with(ChannelOptions::default().idle_timeout(SECOND).lifetime(10 * SECOND));
    let closed = |reason: &str| Some(FarMessage::Close { code: CloseCode::EXPIRED, reason: reason.into() });

    let (idle, mut far) = begin();
    advance(SECOND / 2).await;
    assert!(idle.touch());
    advance(SECOND * 3 / 4).await;
    assert!(idle.is_active(), "the timeout began anew");
    advance(SECOND / 4).await;
    assert!(!idle.touch());
    assert_eq!(far.try_recv(), closed("channel was idle for too long"));

    let (kept, mut far) = begin();
    kept.sender().set_idle_timeout(None);
    advance(9 * SECOND).await;
    assert!(kept.is_active());
    kept.sender().set_lifetime(None);
    advance(100 * SECOND).await;
    assert!(kept.is_active());
    kept.sender().set_lifetime(SECOND);
    advance(SECOND).await;
    assert!(kept.send_text("late").is_err());
    assert_eq!(far.try_recv(), closed("channel has expired"));
}
