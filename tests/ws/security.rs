//! What a server must survive: hostile clients over real sockets, a test for each thing they may try.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, Message as Received, OutboxLimits, RecvError, Sender};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, JoinErrorReason, Since};
use fanfare::ws::{Excess, RateLimit, Upgrade};
use futures_util::SinkExt;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

#[cfg(target_os = "linux")]
use crate::MANY_SOCKETS;
use crate::alone::run_alone;
use crate::sockets::{
    CLOSE, PING, PONG, Raw, TEXT, connect, echo, masked, next, serve, serve_router, soon, tells, told, until,
};

/// The process's memory, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is listed");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("it is a number") << 10
}

/// Sends all at once on a fresh connection; what the server closes it with.
async fn close_code_for(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut client = Raw::connect(address).await;
    client.send_bytes(bytes).await;
    client.close_code().await
}

// Handshake.

#[tokio::test]
async fn a_request_that_is_no_handshake_is_refused_and_starts_no_handler() {
    let (tell, mut tells) = tells();
    let handler = move |_channel: Channel| {
        let tell = tell.clone();
        async move { Ok(tell.send(())?) }
    };
    let address = serve(handler).await;
    let good = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let bad = [("Connection", "close"), ("Upgrade", "h2c"), ("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "x")];
    for (index, (name, value)) in bad.into_iter().enumerate() {
        let mut headers = good;
        headers[index] = (name, value);
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let status = status_for(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n{head}\r\n")).await;
        assert!(status.starts_with('4'), "{name}: {value} got {status}");
    }
    assert!(tells.try_recv().is_err());
}

#[tokio::test]
async fn a_head_of_many_or_long_headers_is_refused() {
    let address = serve(echo).await;
    let many: String = (0..2000).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("Sec-WebSocket-Protocol: {}\r\n", "a,".repeat(1 << 20));
    for headers in [many, long] {
        let status = status_for(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")).await;
        assert!(status.starts_with('4') || status.is_empty(), "{status}");
    }
    connect(address).await;
}

/// The status of the answer to a request; empty when the connection ends without one.
async fn status_for(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let _ = soon(stream.write_all(request.as_bytes())).await;
    let mut line = [0; 12];
    match soon(stream.read_exact(&mut line)).await {
        Ok(_) => String::from_utf8_lossy(&line[9..]).into_owned(),
        Err(_) => String::new(),
    }
}

// Frames.

#[tokio::test]
async fn a_frame_that_breaks_a_rule_is_answered_with_its_code() {
    let address = serve(echo).await;
    let long_control = masked(0x80 | PING, &[0; 126]);
    let reason = [&1000u16.to_be_bytes()[..], b"\xff\xfe"].concat();
    let cases: [(&str, &[u8], u16); 12] = [
        ("unmasked", &[0x81, 1, b'x'], 1002),
        ("reserved bit", &masked(0xc1, b"x"), 1002),
        ("reserved opcode", &masked(0x83, b"x"), 1002),
        ("reserved control opcode", &masked(0x8b, b"x"), 1002),
        ("control of 126 bytes", &long_control, 1002),
        ("fragmented control", &masked(PING, b"x"), 1002),
        ("continuation of nothing", &masked(0x80, b"x"), 1002),
        ("message within a message", &[masked(TEXT, b"x"), masked(0x81, b"y")].concat(), 1002),
        ("length of 2^63", &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("length not minimal", &[0x82, 0xfe, 0, 5, 0, 0, 0, 0], 1002),
        ("text not UTF-8", &masked(0x81, b"\xc3\x28"), 1007),
        ("reason not UTF-8", &masked(0x88, &reason), 1007),
    ];
    for (name, bytes, code) in cases {
        assert_eq!(close_code_for(address, bytes).await, Some(code), "{name}");
    }
}

#[tokio::test]
async fn close_codes_that_must_not_be_sent_are_refused_and_others_returned() {
    let address = serve(echo).await;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        let got = close_code_for(address, &masked(0x88, &u16::to_be_bytes(code))).await;
        assert_eq!(got, Some(1002), "{code}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 3000, 4999] {
        let got = close_code_for(address, &masked(0x88, &u16::to_be_bytes(code))).await;
        assert_eq!(got, Some(code), "{code}");
    }
    assert_eq!(close_code_for(address, &masked(0x88, b"")).await, Some(1000));
    assert_eq!(close_code_for(address, &masked(0x88, b"\x03")).await, Some(1002), "half a code");
}

#[tokio::test]
async fn what_comes_after_a_close_is_not_looked_at() {
    let (tell, mut tells) = tells();
    let handler = move |mut channel: Channel| {
        let tell = tell.clone();
        async move {
            let mut texts = Vec::new();
            while let Some(Ok(text)) = channel.recv_text().await {
                texts.push(text);
            }
            Ok(tell.send(texts)?)
        }
    };
    let address = serve(handler).await;
    let after = [masked(0x81, b"before"), masked(0x88, &[0x03, 0xe8]), masked(0x81, b"after"), vec![0xff; 1000]];
    assert_eq!(close_code_for(address, &after.concat()).await, Some(1000));
    assert_eq!(told(&mut tells).await, ["before"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_declared_length_takes_no_memory() {
    // Memory is counted for the process, and other tests share this one.
    if run_alone().is_some() {
        return;
    }
    let address = serve(echo).await;
    // The largest that is let through, a MiB, by two hundred clients, who send nothing of it.
    let before = resident();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = Raw::connect(address).await;
        client.send_bytes(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, b'x']).await;
        client.send_bytes(b"y").await;
        clients.push(client);
    }
    // An echo behind it on the same thread: all of it has been read.
    let mut last = connect(address).await;
    last.send(Message::text("read?")).await.expect("the connection lives");
    assert_eq!(next(&mut last).await, Message::text("read?"));
    let grown = resident().saturating_sub(before);
    assert!(grown < 40 << 20, "{} MiB for what was only declared", grown >> 20);
}

// Sizes.

#[tokio::test]
async fn a_message_of_any_number_of_fragments_ends_at_its_limit() {
    let address = serve(echo).await;
    let fragment = masked(0, &[7; 1000]);
    let mut endless = masked(2, &[7; 1000]);
    (0..1100).for_each(|_| endless.extend(&fragment));
    assert_eq!(close_code_for(address, &endless).await, Some(1009));
    assert_eq!(close_code_for(address, &masked(0x82, &vec![0; (1 << 20) + 1])).await, Some(1009));
}

#[tokio::test]
async fn a_million_empty_fragments_are_refused_after_a_few() {
    let address = serve(echo).await;
    let start = Instant::now();
    let mut client = Raw::connect(address).await;
    client.send_bytes(&masked(TEXT, b"")).await;
    let empty = masked(0, b"").repeat(10_000);
    for _ in 0..100 {
        client.send_bytes(&empty).await;
    }
    assert_eq!(client.close_code().await, Some(1009));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

// UTF-8.

#[tokio::test]
async fn text_is_checked_across_fragments() {
    let address = serve(echo).await;
    let euro = "€".as_bytes();
    let mut client = Raw::connect(address).await;
    client.send_bytes(&[masked(TEXT, &euro[..1]), masked(0, &euro[1..2]), masked(0x80, &euro[2..])].concat()).await;
    assert_eq!(client.frame().await, Some((TEXT, euro.to_vec())), "a character may be split");
    for halves in [[&b"\xe2"[..], b"\x28\xa1"], [b"\xed\xa0", b"\x80"], [b"\xf4", b"\x90\x80\x80"], [b"x\xe2", b""]] {
        let bytes = [masked(TEXT, halves[0]), masked(0x80, halves[1])].concat();
        assert_eq!(close_code_for(address, &bytes).await, Some(1007), "{halves:?}");
    }
    // Not even when the rest never comes.
    assert_eq!(close_code_for(address, &masked(TEXT, b"\xff")).await, Some(1007));
}

// JSON.

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only read by serde")]
struct Envelope {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

#[tokio::test]
async fn json_of_any_kind_is_an_error_or_a_value_and_never_a_panic() {
    let handler = async |mut channel: Channel| {
        while let Some(received) = channel.recv::<Envelope>().await {
            match received {
                Ok(_) => channel.send_text("value")?,
                Err(error) if !error.is_fatal() => channel.send_text("error")?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    let mut client = connect(serve(handler).await).await;
    let deep = format!(r#"{{"event":"x","data":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long_number = format!(r#"{{"event":"x","data":{}}}"#, "9".repeat(100_000));
    let cases = [
        (r#"{"event":"x","data":1}"#, "value"),
        (r#"{"event":"x","data":1e308}"#, "value"),
        (r#"{"event":"x","data":-0}"#, "value"),
        (r#"{"event":"x","data":1e999999999}"#, "error"),
        (&long_number, "error"),
        (&deep, "error"),
        (r#"{"event":"x","event":"y"}"#, "error"),
        (r#"{"event":{"toString":1}}"#, "error"),
        (r#"{"event":["x"]}"#, "error"),
        (r#"{"event":null}"#, "error"),
        (r#"{"event":"\ud800"}"#, "error"),
        ("[]", "error"),
        ("null", "error"),
        ("\"x\"", "error"),
        ("1", "error"),
        ("", "error"),
        ("{", "error"),
        (r#"{"event":"x"} trailing"#, "error"),
        (r#"{"event":"x","__proto__":{}}"#, "value"),
    ];
    for (json, expected) in cases {
        client.send(Message::text(json)).await.expect("the connection lives");
        let shown: String = json.chars().take(60).collect();
        assert_eq!(next(&mut client).await, Message::text(expected), "{shown}");
    }
    client.send(Message::binary(vec![1])).await.expect("the connection lives");
    assert_eq!(next(&mut client).await, Message::text("error"));
}

// Slow consumers.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stalled_reader_among_a_hundred_delays_nobody_and_costs_its_bound() {
    let _turn = MANY_SOCKETS.lock().await;
    const BYTES: usize = 256 << 10;
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.outbox(OutboxLimits::default().max_bytes(BYTES)).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell.send(channel.sender())?;
            channel.discard().await;
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let stalled = Raw::connect_small(address).await;
    let stalled_sender: Sender = told(&mut tells).await;
    let mut readers = Vec::new();
    for _ in 0..99 {
        readers.push(Raw::connect(address).await);
        told(&mut tells).await;
    }
    let frame = Frame::binary(vec![7; 16 << 10]);
    let mut slowest = Duration::ZERO;
    let mut sends = 0;
    while stalled_sender.is_active() {
        let start = Instant::now();
        let report = channels.group("room").send_frame(&frame);
        for reader in &mut readers {
            assert_eq!(reader.frame().await.expect("it lives").1.len(), 16 << 10);
        }
        slowest = slowest.max(start.elapsed());
        let delivery = report.settled().await;
        assert_eq!(delivery.written + delivery.queued + delivery.dropped, 100);
        assert!(stalled_sender.counts().waiting_bytes <= BYTES + (16 << 10) + 200);
        sends += 1;
        assert!(sends < 1000, "the stalled client's bound is never reached");
    }
    assert!(slowest < Duration::from_secs(2), "a send to all took {slowest:?}");
    assert_eq!(channels.group("room").member_count(), 99, "it left its group when it was closed");
    drop(stalled);
}

// Floods, churn, caps.

#[tokio::test]
async fn a_flood_of_pings_without_a_read_grows_nothing() {
    let (tell, mut tells) = tells();
    let handler = move |mut channel: Channel| {
        let tell = tell.clone();
        async move {
            tell.send(channel.sender())?;
            channel.discard().await;
            Ok(())
        }
    };
    let address = serve(handler).await;
    let mut client = Raw::connect_small(address).await;
    let sender = told(&mut tells).await;
    let pings = masked(0x80 | PING, &[7; 125]).repeat(1000);
    for _ in 0..50 {
        client.send_bytes(&pings).await;
        assert!(sender.counts().waiting_bytes <= 1 << 20);
    }
    client.send(CLOSE, &1000u16.to_be_bytes()).await;
    let mut pongs = 0;
    while let Some((opcode, payload)) = client.frame().await {
        if opcode == CLOSE {
            break;
        }
        assert_eq!((opcode, payload.len()), (PONG, 125));
        pongs += 1;
    }
    assert!(pongs > 0);
    soon(sender.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_and_leaving_without_end_leaves_nothing_behind() {
    let channels = ChannelBox::new();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |mut channel| {
            while let Some(Ok(Received::Text(name))) = channel.recv_message().await {
                for n in 0..50 {
                    let membership = in_box.join(&channel, format!("{name} {n}"))?;
                    in_box.group(membership.group()).send_frame(&Frame::text("x"));
                }
                channel.send_text("done")?;
            }
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let clients: Vec<_> = (0..4)
        .map(|number| {
            tokio::spawn(async move {
                let mut client = connect(address).await;
                for round in 0..20 {
                    client.send(Message::text(format!("group {}", (round + number) % 3))).await.expect("it lives");
                    while next(&mut client).await != Message::text("done") {}
                }
            })
        })
        .collect();
    for client in clients {
        soon(client).await.expect("no panic");
    }
    until(|| channels.stats().channels == 0).await;
    assert_eq!(channels.stats().groups, 0);
}

#[tokio::test]
async fn names_and_numbers_of_groups_are_capped() {
    let channels = ChannelBox::new();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |mut channel| {
            let mut memberships = Vec::new();
            while let Some(Ok(Received::Text(name))) = channel.recv_message().await {
                match in_box.join(&channel, &name) {
                    Ok(membership) => memberships.push(membership),
                    Err(error) => channel.send_text(match error.reason() {
                        JoinErrorReason::InvalidName => "name",
                        JoinErrorReason::TooManyGroups => "number",
                        _ => "other",
                    })?,
                }
            }
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut client = connect(address).await;
    for name in ["", &"x".repeat(256), &"ä".repeat(128), "a\0b", "a\u{85}b", "a\nb"] {
        client.send(Message::text(name)).await.expect("the connection lives");
        assert_eq!(next(&mut client).await, Message::text("name"), "{name:?}");
    }
    for n in 0..1025 {
        client.send(Message::text(format!("group {n}"))).await.expect("the connection lives");
    }
    assert_eq!(next(&mut client).await, Message::text("number"));
    assert_eq!(channels.stats().groups, 1024);
}

/// A message to a large group costs the server most: what one client sets off is bounded by what it may send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_sends_to_a_large_group_is_held_to_its_rate() {
    let _turn = MANY_SOCKETS.lock().await;
    const MEMBERS: usize = 50;
    let channels = ChannelBox::new();
    let in_box = channels.clone();
    let limit = RateLimit::per_second(20, 1 << 20).excess(Excess::Close);
    let route = async move |upgrade: Upgrade| {
        upgrade.rate_limit(limit).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            while let Some(Ok(Received::Text(text))) = channel.recv_message().await {
                in_box.group_send("room", &text)?;
            }
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(connect(address).await);
    }
    until(|| channels.group("room").member_count() == MEMBERS).await;
    let mut flood = connect(address).await;
    for number in 0..1000 {
        // It is cut off on the way.
        if flood.send(Message::text(number.to_string())).await.is_err() {
            break;
        }
    }
    until(|| channels.group("room").member_count() == MEMBERS).await;
    channels.group_send("room", "the end").expect("json");
    for member in &mut members {
        let mut heard = 0;
        while next(member).await != Message::text("\"the end\"") {
            heard += 1;
        }
        assert!((1..=40).contains(&heard), "{heard} of 1000");
    }
}

/// Who comes back again and again for a long history, and reads nothing, costs what the bounds say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_replays_without_end_and_reads_nothing_is_closed() {
    let channels = ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
    for _ in 0..1000 {
        channels.group_send("room", &"x".repeat(1000)).expect("json");
    }
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let address = serve(move |mut channel| {
        let (channels, tell) = (in_box.clone(), tell.clone());
        async move {
            tell.send(channel.sender())?;
            while let Some(Ok(_)) = channel.recv_message().await {
                let (membership, _) = channels.group("room").join_since(&channel, Since::Last(1000))?;
                drop(membership);
            }
            Ok(())
        }
    })
    .await;
    let mut client = Raw::connect_small(address).await;
    let sender = told(&mut tells).await;
    for _ in 0..200 {
        client.send(TEXT, b"again").await;
    }
    until(|| !sender.is_active()).await;
}

#[tokio::test]
async fn a_panic_in_one_handler_touches_no_other_member_of_its_group() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.events(&silent()).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell.send(())?;
            match channel.recv_text().await {
                Some(Ok(text)) if text == "panic" => panic!("on purpose"),
                Some(Err(RecvError::Protocol { .. })) => panic!("on purpose, too"),
                _ => Ok(()),
            }
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut bystander = Raw::connect(address).await;
    told(&mut tells).await;
    for bytes in [masked(0x81, b"panic"), vec![0x81, 0x01]] {
        let mut client = Raw::connect(address).await;
        told(&mut tells).await;
        client.send_bytes(&bytes).await;
        assert!(client.close_code().await.is_some());
        until(|| channels.group("room").member_count() == 1).await;
        assert!(channels.group("room").send_frame(&Frame::text("still here?")).is_accepted());
        assert_eq!(bystander.frame().await, Some((TEXT, b"still here?".into())));
    }
}

/// A dispatcher that hears of failures, so that none goes to stderr.
fn silent() -> fanfare::Dispatcher {
    let events = fanfare::Dispatcher::new();
    events.on(fanfare::ws::HANDLER_FAILED, |_| {}).expect("the key is good");
    events
}
