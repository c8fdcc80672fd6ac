//! Who is alive: silent clients are asked, dead ones are found, idle ones are sent away.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, RecvError, SendError, Sender};
use fanfare::group::ChannelBox;
use fanfare::ws::Upgrade;
use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::sockets::{
    CLOSE, PING, PONG, Raw, TEXT, close_code, connect, next, serve_router, serve_with, soon, tells, told, until,
};

const SILENCE: Duration = Duration::from_millis(60);
/// So short that a client has to be quick, where it does not answer at all.
const SHORT: Duration = Duration::from_millis(60);
/// So long that a busy machine does not make a client late.
const LONG: Duration = Duration::from_secs(15);

/// Tells of its sender, then how the connection ends.
enum Told {
    Open(Sender),
    Message(String),
    Lost,
    Over,
}

async fn open(tells: &mut mpsc::UnboundedReceiver<Told>) -> Sender {
    let Told::Open(sender) = told(tells).await else { panic!("it opens first") };
    sender
}

async fn tell_all(mut channel: Channel, told: mpsc::UnboundedSender<Told>) -> Result<(), fanfare::Error> {
    told.send(Told::Open(channel.sender())).ok();
    while let Some(received) = channel.recv_text().await {
        let tale = match received {
            Ok(text) => Told::Message(text),
            Err(RecvError::Lost(_)) => Told::Lost,
            Err(error) => return Err(error.into()),
        };
        told.send(tale).ok();
    }
    told.send(Told::Over).ok();
    Ok(())
}

#[tokio::test]
async fn a_silent_client_is_pinged_and_lives_by_answering() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG), move |c| tell_all(c, tell.clone()))
            .await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    for beat in 1..=3 {
        let (opcode, payload) = client.frame().await.expect("the connection lives");
        assert_eq!((opcode, payload), (PING, Vec::new()));
        assert!(start.elapsed() >= SILENCE * beat, "a ping came before the silence was over");
        client.send(PONG, b"").await;
    }
    client.send(TEXT, b"still here").await;
    let sender = open(&mut tells).await;
    assert!(matches!(told(&mut tells).await, Told::Message(text) if text == "still here"));
    assert!(sender.is_active());
}

#[tokio::test]
async fn a_client_of_a_library_answers_by_itself_and_lives() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG), move |c| tell_all(c, tell.clone()))
            .await;
    let mut client = connect(address).await;
    for _ in 0..3 {
        // Its answer goes out with the next read.
        assert!(matches!(next(&mut client).await, Message::Ping(_)));
    }
    client.send(Message::text("still here")).await.expect("the connection lives");
    open(&mut tells).await;
    assert!(matches!(told(&mut tells).await, Told::Message(_)));
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_lost_though_its_handler_runs_on() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.heartbeat(SILENCE).heartbeat_timeout(SHORT).run(async move |mut channel| {
            let membership = in_box.join(&channel, "room")?;
            tell.send((channel.sender(), None))?;
            let lost = channel.recv_message().await;
            tell.send((channel.sender(), Some(matches!(lost, Some(Err(RecvError::Lost(_)))))))?;
            // Both are kept, by a handler that never ends.
            std::future::pending::<()>().await;
            drop((membership, channel));
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let start = Instant::now();
    let mut client = Raw::connect(address).await;
    let (sender, _) = told(&mut tells).await;
    assert_eq!(channels.group("room").member_count(), 1);
    assert_eq!(told(&mut tells).await.1, Some(true), "recv tells that it is lost");
    assert!(start.elapsed() >= SILENCE + SHORT);
    assert!(start.elapsed() < (SILENCE + SHORT) * 2 + Duration::from_secs(5));
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 0));
    assert!(matches!(sender.send("x"), Err(SendError::Closed)));
    soon(sender.closed()).await;
    assert_eq!(client.frame().await, Some((PING, Vec::new())));
    assert_eq!(client.frame().await, None, "its socket is gone");
}

#[tokio::test]
async fn any_data_is_an_answer() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG), move |c| tell_all(c, tell.clone()))
            .await;
    let mut client = Raw::connect(address).await;
    for _ in 0..3 {
        assert_eq!(client.frame().await, Some((PING, Vec::new())));
        client.send(TEXT, b"no pong").await;
    }
    // Half of a frame will do.
    assert_eq!(client.frame().await, Some((PING, Vec::new())));
    client.send_bytes(&[0x81]).await;
    assert_eq!(client.frame().await, Some((PING, Vec::new())));
    client.send_bytes(&[0x81, 0, 0, 0, 0, b'x']).await;
    let sender = open(&mut tells).await;
    for _ in 0..3 {
        assert!(matches!(told(&mut tells).await, Told::Message(_)));
    }
    assert!(matches!(told(&mut tells).await, Told::Message(text) if text == "x"));
    assert!(sender.is_active());
}

#[tokio::test]
async fn a_client_that_says_something_all_the_time_is_never_asked() {
    let (tell, _tells) = tells();
    let address = serve_with(
        |upgrade| upgrade.heartbeat(Duration::from_secs(3)).heartbeat_timeout(LONG),
        move |channel| tell_all(channel, tell.clone()),
    )
    .await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(3500) {
        client.send(PING, b"?").await;
        assert_eq!(client.frame().await, Some((PONG, b"?".into())));
    }
}

#[tokio::test]
async fn without_a_heartbeat_nobody_is_asked() {
    let (tell, mut tells) = tells();
    let address = serve_with(
        |upgrade| upgrade.heartbeat(None).heartbeat_timeout(Duration::ZERO),
        move |channel| tell_all(channel, tell.clone()),
    )
    .await;
    let mut client = Raw::connect(address).await;
    let asked = tokio::time::timeout(SILENCE * 5, client.frame()).await;
    assert!(asked.is_err(), "{asked:?}");
    assert!(open(&mut tells).await.is_active());
}

#[tokio::test]
async fn without_a_time_for_the_answer_a_silent_client_is_pinged_again_and_kept() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(None), move |c| tell_all(c, tell.clone()))
            .await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    for beat in 1..=3 {
        assert_eq!(client.frame().await, Some((PING, Vec::new())));
        assert!(start.elapsed() >= SILENCE * beat, "a ping came before the silence was over");
    }
    assert!(open(&mut tells).await.is_active());
}

#[tokio::test]
async fn a_time_without_end_is_no_time() {
    let never = Duration::MAX;
    let (tell, mut tells) = tells();
    let address = serve_with(
        move |upgrade| upgrade.heartbeat(never).heartbeat_timeout(never).idle_timeout(never),
        move |channel| tell_all(channel, tell.clone()),
    )
    .await;
    let mut client = Raw::connect(address).await;
    client.send(TEXT, b"hello").await;
    assert!(open(&mut tells).await.is_active());
    assert!(matches!(told(&mut tells).await, Told::Message(_)));
}

/// A handler that only sends: it never receives.
async fn push_only(channel: Channel, told: mpsc::UnboundedSender<Sender>) -> Result<(), fanfare::Error> {
    told.send(channel.sender())?;
    channel.sender().closed().await;
    Ok(())
}

#[tokio::test]
async fn a_handler_that_never_receives_keeps_a_live_client() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(SHORT), move |c| push_only(c, tell.clone()))
            .await;
    let mut client = Raw::connect(address).await;
    let sender = told(&mut tells).await;
    // A message that nobody receives: the answers to later pings wait unread behind it.
    client.send(TEXT, b"one").await;
    client.send(TEXT, b"two").await;
    let beats = tokio::time::timeout((SILENCE + SHORT) * 5, async { while client.frame().await.is_some() {} }).await;
    assert!(beats.is_err(), "the connection ended");
    assert!(sender.is_active());
}

#[tokio::test]
async fn a_handler_that_never_receives_answers_pings_and_notices_a_close() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |channel| {
            let _membership = in_box.join(&channel, "room")?;
            push_only(channel, tell).await
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut client = Raw::connect(address).await;
    let sender = told(&mut tells).await;
    client.send(PING, b"there?").await;
    assert_eq!(client.frame().await, Some((PONG, b"there?".into())));
    client.send(CLOSE, &1000u16.to_be_bytes()).await;
    soon(sender.closed()).await;
    assert!(matches!(sender.send("x"), Err(SendError::Closed)));
    assert_eq!(client.close_code().await, Some(1000));
    until(|| channels.stats().groups + channels.stats().channels == 0).await;
}

#[tokio::test]
async fn a_client_that_hung_up_while_a_message_waits_unread_is_noticed_at_the_next_beat() {
    let (tell, mut tells) = tells();
    let address =
        serve_with(|upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG), move |c| push_only(c, tell.clone()))
            .await;
    let mut client = Raw::connect(address).await;
    let sender = told(&mut tells).await;
    client.send(TEXT, b"nobody receives this").await;
    client.send(TEXT, b"nor this").await;
    drop(client);
    soon(sender.closed()).await;
}

#[tokio::test]
async fn what_waits_unread_when_the_client_is_lost_is_received_before_the_loss() {
    let (tell, mut tells) = tells();
    let route = async move |upgrade: Upgrade| {
        upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG).run(async move |channel| {
            channel.sender().closed().await;
            tell_all(channel, tell).await
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut client = Raw::connect(address).await;
    client.send(TEXT, b"last words").await;
    client.send(TEXT, b"too many").await;
    drop(client);
    open(&mut tells).await;
    assert!(matches!(told(&mut tells).await, Told::Message(text) if text == "last words"));
    assert!(matches!(told(&mut tells).await, Told::Lost));
    assert!(matches!(told(&mut tells).await, Told::Over));
}

#[tokio::test]
async fn discard_lets_a_handler_that_only_sends_notice_everything() {
    let (tell, mut tells) = tells();
    let address = serve_with(
        |upgrade| upgrade,
        move |mut channel| {
            let tell = tell.clone();
            async move {
                channel.discard().await;
                tell.send(())?;
                Ok(())
            }
        },
    )
    .await;
    let mut client = Raw::connect(address).await;
    for _ in 0..1000 {
        client.send(TEXT, b"to the wind").await;
    }
    client.send(PING, b"").await;
    assert_eq!(client.frame().await, Some((PONG, Vec::new())));
    client.send(CLOSE, b"").await;
    told(&mut tells).await;
    assert_eq!(client.close_code().await, Some(1000));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_whatever_it_pongs() {
    let (tell, mut tells) = tells();
    let idle = Duration::from_millis(300);
    let address = serve_with(
        move |upgrade| upgrade.heartbeat(SILENCE).heartbeat_timeout(LONG).idle_timeout(idle),
        move |c| tell_all(c, tell.clone()),
    )
    .await;
    let start = Instant::now();
    let mut client = connect(address).await;
    assert_eq!(close_code(&mut client).await, 1001);
    assert!(start.elapsed() >= idle);
    open(&mut tells).await;
    assert!(matches!(told(&mut tells).await, Told::Over), "recv ends, and that is no error");
}

#[tokio::test]
async fn a_client_whose_messages_nobody_receives_yet_is_not_idle() {
    let (tell, mut tells) = tells();
    let idle = Duration::from_millis(100);
    let route = async move |upgrade: Upgrade| {
        upgrade.idle_timeout(idle).run(async move |mut channel| {
            // Long at work on the first message, while others wait.
            let first = channel.recv_text().await.expect("it comes")?;
            tokio::time::sleep(idle * 4).await;
            tell.send(Told::Message(first))?;
            tell_all(channel, tell).await
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut client = Raw::connect(address).await;
    for text in ["one", "two", "three"] {
        client.send(TEXT, text.as_bytes()).await;
    }
    assert!(matches!(told(&mut tells).await, Told::Message(text) if text == "one"));
    open(&mut tells).await;
    for expected in ["two", "three"] {
        assert!(matches!(told(&mut tells).await, Told::Message(text) if text == expected));
    }
    assert_eq!(client.close_code().await, Some(1001), "now it is");
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_reads_is_not_lost() {
    let (tell, mut tells) = tells();
    let address = serve_with(
        |upgrade| {
            upgrade
                .heartbeat(Duration::from_millis(300))
                .heartbeat_timeout(Duration::from_millis(300))
                .send_buffer_size(4096)
        },
        move |channel| tell_all(channel, tell.clone()),
    )
    .await;
    let mut client = Raw::connect_small(address).await;
    let sender = open(&mut tells).await;
    for _ in 0..500 {
        sender.send_bytes([7; 2000]).expect("there is room in its outbox");
    }
    // It takes much longer than the silence and the answer may last, and its answer is behind all of it.
    let start = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..500 {
        let frame = client.frame_within(&mut pace).await;
        assert_eq!(frame.expect("it was not lost").1.len(), 2000);
    }
    assert!(start.elapsed() > Duration::from_secs(1), "it was too quick for this test");
    assert!(sender.is_active());
}
