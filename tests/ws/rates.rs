//! Clients that send faster than they may.

use std::time::{Duration, Instant};

use fanfare::channel::{Channel, CloseCode, RecvError};
use fanfare::ws::{Excess, RateLimit};
use tokio::sync::mpsc;

use crate::sockets::{PING, PONG, Raw, TEXT, masked, serve_with, tells, told};

/// Tells of every text, and of the code of a broken protocol.
async fn tell_all(
    mut channel: Channel,
    tell: mpsc::UnboundedSender<Result<String, u16>>,
) -> Result<(), fanfare::Error> {
    while let Some(received) = channel.recv_text().await {
        match received {
            Ok(text) => tell.send(Ok(text))?,
            Err(RecvError::Protocol { code, .. }) => tell.send(Err(code.get()))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_throttled_client_loses_nothing_and_is_read_no_faster_than_its_limit() {
    let (tell, mut tells) = tells();
    let limit = RateLimit::per_second(100, 1 << 20);
    let address = serve_with(move |upgrade| upgrade.rate_limit(limit), move |c| tell_all(c, tell.clone())).await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    for n in 0..250 {
        client.send(TEXT, n.to_string().as_bytes()).await;
    }
    for n in 0..250 {
        assert_eq!(told(&mut tells).await, Ok(n.to_string()));
    }
    // A hundred at once, the others at a hundred a second.
    assert!(start.elapsed() >= Duration::from_millis(1450), "{:?}", start.elapsed());
}

#[tokio::test]
async fn bytes_are_limited_too_and_large_messages_arrive_whole() {
    let (tell, mut tells) = tells();
    let limit = RateLimit::per_second(1000, 100_000);
    let address = serve_with(move |upgrade| upgrade.rate_limit(limit), move |c| tell_all(c, tell.clone())).await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    let text = "x".repeat(125_000);
    let sends = async {
        for _ in 0..2 {
            client.send(TEXT, text.as_bytes()).await;
        }
    };
    let receives = async {
        for _ in 0..2 {
            assert_eq!(told(&mut tells).await.as_deref(), Ok(&*text));
        }
    };
    tokio::join!(sends, receives);
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_in_excess_is_closed_with_1008_and_its_handler_told() {
    let (tell, mut tells) = tells();
    let limit = RateLimit::per_second(10, 1 << 20).excess(Excess::Close);
    let address = serve_with(move |upgrade| upgrade.rate_limit(limit), move |c| tell_all(c, tell.clone())).await;
    let mut client = Raw::connect(address).await;
    for _ in 0..100 {
        client.send(TEXT, b"more").await;
    }
    assert_eq!(client.close_code().await, Some(1008));
    let mut taken = 0;
    while told(&mut tells).await.map_err(|code| assert_eq!(code, 1008)).is_ok() {
        taken += 1;
    }
    assert!((10..20).contains(&taken), "{taken} were taken");
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_no_faster_than_the_limit() {
    let (tell, _tells) = tells();
    let limit = RateLimit::per_second(100, 1 << 20);
    let address = serve_with(move |upgrade| upgrade.rate_limit(limit), move |c| tell_all(c, tell.clone())).await;
    let mut client = Raw::connect(address).await;
    let start = Instant::now();
    client.send_bytes(&masked(0x80 | PING, b"?").repeat(200)).await;
    for _ in 0..200 {
        assert_eq!(client.frame().await, Some((PONG, b"?".into())));
    }
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_throttled_client_hears_what_is_sent_to_it_meanwhile() {
    let (tell, mut tells) = tells();
    let limit = RateLimit::per_second(1, 1 << 20);
    let address = serve_with(
        move |upgrade| upgrade.rate_limit(limit),
        move |mut channel| {
            let tell = tell.clone();
            async move {
                tell.send(channel.sender())?;
                channel.discard().await;
                Ok(())
            }
        },
    )
    .await;
    let mut client = Raw::connect(address).await;
    let sender = told(&mut tells).await;
    for _ in 0..1000 {
        client.send(TEXT, b"too much").await;
    }
    sender.send_text("hello").expect("it is open");
    assert_eq!(client.frame().await, Some((TEXT, b"hello".into())));
    assert!(sender.close(CloseCode::NORMAL, "that will do"));
    assert_eq!(client.close_code().await, Some(1000), "a close does not wait for the limit");
}

#[tokio::test]
async fn what_was_read_before_a_client_had_to_wait_is_gone_through_to_its_end() {
    let (tell, mut tells) = tells();
    // No heartbeat: nothing else would wake the connection.
    let limit = RateLimit::per_second(100_000, 6000);
    let configure = move |upgrade: fanfare::ws::Upgrade| upgrade.heartbeat(None).rate_limit(limit);
    let address = serve_with(configure, move |c| tell_all(c, tell.clone())).await;
    let mut client = Raw::connect(address).await;
    // More frames than a turn takes, in one read that is over the rate.
    let mut bytes = masked(0x80 | PING, b"").repeat(1200);
    bytes.extend(masked(0x80 | TEXT, b"the end"));
    client.send_bytes(&bytes).await;
    assert_eq!(told(&mut tells).await, Ok("the end".into()));
}
