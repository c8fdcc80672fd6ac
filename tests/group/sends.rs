//! Sends to a group: whom they reach, when, and what becomes of those that find no room.

use std::sync::Arc;
use std::task::Context;

use fanfare::channel::{Channel, CloseCode, FarMessage, OutboxLimits, RecvError};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, Delivery, GroupOptions};
use futures_util::FutureExt;
use tokio::time::{Duration, Instant};

fn text(text: &str) -> Option<FarMessage> {
    Some(FarMessage::Text(text.into()))
}

#[tokio::test]
async fn a_group_send_reaches_all_but_the_excepted() {
    let channels = ChannelBox::new();
    let mut clients: Vec<_> = (0..3).map(|_| Channel::in_memory()).collect();
    let _memberships: Vec<_> = clients.iter().map(|(near, _)| channels.join(near, "room").unwrap()).collect();
    let report = channels.group("room").except(clients[1].0.id()).send_frame(&Frame::text("hi"));
    assert_eq!(report.settled().await, Delivery { written: 2, queued: 0, dropped: 0 });
    let heard: Vec<_> = clients.iter_mut().map(|(_, far)| far.try_recv()).collect();
    assert_eq!(heard, [text("hi"), None, text("hi")]);
}

#[test]
fn a_client_that_does_not_read_delays_nobody_and_is_closed_with_1013() {
    let channels = ChannelBox::new();
    let limits = OutboxLimits::default().max_bytes(100_000).max_messages(1000);
    let (slow, mut slow_far) = Channel::in_memory_with(limits);
    let (quick, mut quick_far) = Channel::in_memory();
    let _memberships = (channels.join(&slow, "room").unwrap(), channels.join(&quick, "room").unwrap());
    let frame = Frame::text("x".repeat(10_000));
    let mut dropped = 0;
    for _ in 0..100 {
        let report = channels.group("room").send_frame(&frame);
        assert!(report.is_accepted());
        let delivery = futures_executor::block_on(report.settled());
        assert_eq!(delivery.written + delivery.queued + delivery.dropped, 2);
        dropped += delivery.dropped;
        assert!(quick_far.try_recv().is_some(), "the quick one has it at once");
    }
    assert!(!slow.sender().is_active());
    assert!(dropped > 0);
    let mut whole = 0;
    loop {
        match slow_far.try_recv() {
            Some(FarMessage::Text(text)) => {
                assert_eq!(text.len(), 10_000, "no frame is torn by the overflow");
                whole += 1;
            }
            Some(FarMessage::Close { code, .. }) => break assert_eq!(code, CloseCode::TRY_AGAIN_LATER),
            other => panic!("{other:?}"),
        }
    }
    // What was dropped is what was counted: in the sends, and from the outbox by the overflow.
    assert_eq!(whole + usize::try_from(slow.sender().counts().dropped).unwrap(), 100);
}

#[tokio::test]
async fn a_dead_client_ends_its_recv_and_no_send_fails() {
    let channels = ChannelBox::new();
    let (mut dead, far) = Channel::in_memory();
    let (alive, mut alive_far) = Channel::in_memory();
    let _memberships = (channels.join(&dead, "room").unwrap(), channels.join(&alive, "room").unwrap());
    drop(far);
    let report = channels.group_send("room", "hi").unwrap();
    assert_eq!(report.settled().await, Delivery { written: 1, queued: 0, dropped: 1 });
    assert_eq!(alive_far.recv().await, text("\"hi\""));
    assert!(matches!(dead.recv::<String>().await, Some(Err(RecvError::Lost(_)))));
    assert!(dead.recv::<String>().await.is_none());
}

#[test]
fn a_group_goes_on_after_the_runtime_of_its_sweep_is_gone() {
    let channels = ChannelBox::new();
    let mut clients: Vec<_> = (0..40).map(|_| Channel::in_memory()).collect();
    let _memberships: Vec<_> = clients.iter().map(|(near, _)| channels.join(near, "room").unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    {
        let _entered = runtime.enter();
        // Handed to a task that this runtime never runs: once it took the group's sweeps with it.
        assert!(channels.group_send("room", "first").unwrap().is_accepted());
    }
    drop(runtime);
    assert!(channels.group_send("room", "second").unwrap().is_accepted());
    for (_, far) in &mut clients {
        assert_eq!((far.try_recv(), far.try_recv()), (text("\"first\""), text("\"second\"")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_group_refuses_and_who_waits_gets_room_in_time() {
    let delay = Duration::from_secs(60);
    let channels = ChannelBox::builder()
        .groups(move |_| GroupOptions::default().write_delay(delay).max_messages(2).max_bytes(1000))
        .build();
    let (channel, mut far) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").unwrap();
    let send = |text: &str| channels.group("room").send_frame(&Frame::text(text));
    let begun = Instant::now();
    assert!(send("a").is_accepted() && send("b").is_accepted());
    assert!(!send("lost").is_accepted(), "two frames are the bound");
    let dropped = channels.group("room").send_frame_when_room(&Frame::text("never sent")).now_or_never();
    assert!(dropped.is_none());
    let report = channels.group("room").send_frame_when_room(&Frame::text("c")).await;
    assert!(report.is_accepted() && begun.elapsed() >= delay);
    assert_eq!((far.try_recv(), far.try_recv(), far.try_recv()), (text("a"), text("b"), None));
    assert_eq!(report.settled().await, Delivery { written: 1, ..Delivery::default() });
    assert_eq!((far.try_recv(), far.try_recv()), (text("c"), None));
    let too_large = channels.group("room").send_frame_when_room(&Frame::binary([0; 1001])).await;
    assert!(!too_large.is_accepted(), "it would never fit");
}

#[tokio::test(start_paused = true)]
async fn a_write_delay_lets_messages_go_out_together() {
    let delay = Duration::from_millis(100);
    let channels = ChannelBox::builder().groups(move |_| GroupOptions::default().write_delay(delay)).build();
    let (channel, mut far) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").unwrap();
    let begun = Instant::now();
    let first = channels.group_send("room", &1).unwrap();
    tokio::time::sleep(delay / 2).await;
    let second = channels.group_send("room", &2).unwrap();
    assert_eq!(far.try_recv(), None);
    first.settled().await;
    assert_eq!((begun.elapsed(), second.settled().await.written), (delay, 1));
    assert_eq!((far.try_recv(), far.try_recv()), (text("1"), text("2")));
    channels.group_send("room", &3).unwrap();
    channel.send_text("after it").unwrap();
    assert_eq!((far.try_recv(), far.try_recv()), (text("3"), text("after it")), "the caller's order is kept");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_served_in_turn_and_who_gives_up_passes_it_on() {
    let delay = Duration::from_millis(10);
    let channels = ChannelBox::builder()
        .groups(move |_| GroupOptions::default().write_delay(delay).max_messages(1).max_bytes(1000))
        .build();
    let (channel, mut far) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").unwrap();
    assert!(channels.group("room").send_frame(&Frame::text("first")).is_accepted());
    let mut waiting: Vec<_> = (0..100)
        .map(|n| {
            let channels = channels.clone();
            Box::pin(async move { channels.group("room").send_frame_when_room(&Frame::text(n.to_string())).await })
        })
        .collect();
    for future in &mut waiting {
        assert!(future.now_or_never().is_none(), "there is no room");
    }
    // Every other one gives up: some before they are woken, some after.
    let mut sent = Vec::new();
    for (n, future) in waiting.into_iter().enumerate() {
        if n % 2 == 0 {
            tokio::time::sleep(delay * (n as u32 % 3)).await;
            drop(future);
        } else {
            assert!(future.await.is_accepted());
            sent.push(text(&n.to_string()));
        }
    }
    tokio::time::sleep(2 * delay).await;
    assert_eq!(far.try_recv(), text("first"));
    assert_eq!(std::iter::from_fn(|| Some(far.try_recv()).filter(Option::is_some)).collect::<Vec<_>>(), sent);
}

#[test]
fn a_waker_that_panics_does_not_end_a_group() {
    struct Bad;
    impl std::task::Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let channels = ChannelBox::new();
    let (channel, mut far) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").unwrap();
    let waker = Arc::new(Bad).into();
    assert!(Box::pin(far.recv()).poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    let send = |n: u32| channels.group_send("room", &n).unwrap().is_accepted();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| send(1))).is_err());
    assert!(send(2), "somebody sweeps still");
    assert_eq!((far.try_recv(), far.try_recv()), (text("1"), text("2")));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_finds_the_group_that_was_opened_anew() {
    let delay = Duration::from_millis(10);
    let channels = ChannelBox::builder()
        .groups(move |_| GroupOptions::default().write_delay(delay).max_messages(1).max_bytes(1000))
        .build();
    let (old, _far_old) = Channel::in_memory();
    let membership = channels.join(&old, "room").unwrap();
    assert!(channels.group("room").send_frame(&Frame::text("fills it")).is_accepted());
    let mut waiting = Box::pin(async { channels.group("room").send_frame_when_room(&Frame::text("waited")).await });
    assert!((&mut waiting).now_or_never().is_none(), "there is no room");
    drop(membership);
    let (new, mut far_new) = Channel::in_memory();
    let _membership = channels.join(&new, "room").unwrap();
    let report = waiting.await;
    assert_eq!((report.members(), report.settled().await.written), (1, 1));
    assert_eq!(far_new.try_recv(), text("waited"));
}

#[test]
fn a_send_is_settled_though_the_runtime_of_its_sweep_and_its_members_are_gone() {
    let channels =
        ChannelBox::builder().groups(|_| GroupOptions::default().write_delay(Duration::from_secs(3600))).build();
    let (channel, mut far) = Channel::in_memory();
    let membership = channels.join(&channel, "room").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let report = runtime.block_on(async { channels.group_send("room", &1).unwrap() });
    drop(runtime);
    assert!(report.settled().now_or_never().is_none(), "nobody has swept");
    drop(membership);
    assert_eq!(report.settled().now_or_never(), Some(Delivery { written: 1, ..Delivery::default() }));
    assert_eq!(far.try_recv(), text("1"));
}
