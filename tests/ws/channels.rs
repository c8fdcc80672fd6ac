//! Channels over real sockets, with a client that is not ours.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, CloseCode, OutboxLimits, RecvError};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::Upgrade;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::sockets::{Raw, connect, echo, next, serve, serve_router, soon};

#[tokio::test]
async fn messages_of_all_sizes_come_back_and_pings_are_answered() {
    let mut client = connect(serve(echo).await).await;
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        for message in [Message::text("x".repeat(len)), Message::binary(vec![7; len])] {
            client.send(message.clone()).await.expect("the connection lives");
            assert!(next(&mut client).await == message, "{len} bytes did not come back");
        }
    }
    client.send(Message::Ping("there?".into())).await.expect("the connection lives");
    assert_eq!(next(&mut client).await, Message::Pong("there?".into()));
    client.close(None).await.expect("the connection lives");
    assert!(matches!(next(&mut client).await, Message::Close(_)));
    assert!(soon(client.next()).await.is_none());
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_or_the_limit_is_closed_and_the_handler_told() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let handler = move |mut channel: Channel| {
        let told = told.clone();
        async move {
            while let Some(received) = channel.recv_message().await {
                if let Err(RecvError::Protocol { code, .. }) = received {
                    told.send(code.get())?;
                }
            }
            Ok(())
        }
    };
    let address = serve(handler).await;
    let mut client = connect(address).await;
    client.send(Message::binary(vec![0; (1 << 20) + 1])).await.expect("it is sent");
    let Message::Close(Some(close)) = next(&mut client).await else { panic!("a close is due") };
    assert_eq!((u16::from(close.code), soon(tells.recv()).await), (1009, Some(1009)));

    let mut raw = Raw::connect(address).await;
    raw.send_bytes(&[0x81, 1, b'x']).await;
    let mut answer = Vec::new();
    soon(raw.stream.read_to_end(&mut answer)).await.expect("our end is answered with an end, not a reset");
    assert!(matches!(answer[..4], [0x88, _, 0x03, 0xea]), "not close 1002: {answer:?}");
    assert_eq!(soon(tells.recv()).await, Some(1002));
}

#[tokio::test]
async fn a_lost_connection_is_one_error_and_then_the_end() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let handler = move |mut channel: Channel| {
        let told = told.clone();
        async move {
            let lost = channel.recv_message().await;
            told.send((matches!(lost, Some(Err(RecvError::Lost(_)))), channel.recv_message().await.is_none()))?;
            Ok(())
        }
    };
    drop(Raw::connect(serve(handler).await).await);
    assert_eq!(soon(tells.recv()).await, Some((true, true)));
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_before_the_upgrade() {
    let address = serve(echo).await;
    for (origin, status) in
        [(format!("http://{address}"), "101"), ("http://evil.example".into(), "403"), ("null".into(), "403")]
    {
        let mut stream = TcpStream::connect(address).await.expect("the port is open");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut line = [0; 12];
        soon(stream.read_exact(&mut line)).await.expect("an answer comes");
        assert_eq!(line[9..], *status.as_bytes(), "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_client_on_a_real_socket_delays_nobody_and_loses_its_channel() {
    let channels = ChannelBox::new();
    let (joined, mut joins) = mpsc::unbounded_channel();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.outbox(OutboxLimits::default().max_bytes(256 << 10).max_messages(1000)).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            joined.send(channel.sender())?;
            while channel.recv_message().await.is_some_and(|received| received.is_ok()) {}
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let stalled = Raw::connect(address).await;
    let stalled_sender = soon(joins.recv()).await.expect("it joins");
    let mut reader = connect(address).await;
    soon(joins.recv()).await.expect("it joins");

    let frame = Frame::text("x".repeat(32 << 10));
    let mut sent = 0;
    while stalled_sender.is_active() {
        assert!(channels.group("room").send_frame(&frame).is_accepted());
        assert!(matches!(next(&mut reader).await, Message::Text(text) if text.len() == 32 << 10));
        sent += 1;
        assert!(sent < 2000, "the stalled client's bound is never reached");
    }
    assert!(stalled_sender.counts().dropped > 0);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_on_real_sockets_that_push_back() {
    const SENDS: usize = 2000;
    const CLIENTS: usize = 4;
    let channels = ChannelBox::new();
    let (joined, mut joins) = mpsc::unbounded_channel();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        let wide = OutboxLimits::default().max_bytes(1 << 30).max_messages(1 << 20);
        upgrade.send_buffer_size(4096).outbox(wide).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            joined.send(channel.id())?;
            while channel.recv_message().await.is_some_and(|received| received.is_ok()) {}
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = connect(address).await;
        clients.push((number, soon(joins.recv()).await.expect("it joins"), client));
    }
    let ids: Arc<[_]> = clients.iter().map(|(_, id, _)| *id).collect();
    // Two threads outside of the runtime send to the group and to single members in turns.
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let (channels, ids) = (channels.clone(), Arc::clone(&ids));
            std::thread::spawn(move || {
                for n in 0..SENDS {
                    let said = (sender, n, "x".repeat(n % 2000));
                    if n % 4 == 3 {
                        ids.iter().for_each(|id| channels.send_to(*id, &said).expect("no outbox is full"));
                    } else {
                        while !channels.group_send("room", &said).expect("it is JSON").is_accepted() {
                            std::thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = clients
        .into_iter()
        .map(|(_, _, mut client)| {
            tokio::spawn(async move {
                let mut expected = [0; 2];
                while let Message::Text(text) = next(&mut client).await {
                    let (sender, n, padding): (usize, usize, String) =
                        serde_json::from_str(&text).expect("no frame is torn");
                    assert_eq!((n, padding.len()), (expected[sender], n % 2000), "missing, doubled or overtaken");
                    expected[sender] += 1;
                }
                expected
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || senders.into_iter().for_each(|sender| sender.join().expect("no panic")))
        .await
        .expect("no panic");
    assert_eq!(channels.close_all(CloseCode::NORMAL, "done").count(), CLIENTS);
    for reader in readers {
        assert_eq!(soon(reader).await.expect("a reader does not panic"), [SENDS; 2], "all comes before the close");
    }
}
