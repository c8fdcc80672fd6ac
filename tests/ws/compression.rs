//! Compressed messages over real sockets: bombs, misuse, and that compressing is done once for all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, RecvError};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::{Excess, RateLimit, Upgrade};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::sync::mpsc;

#[cfg(target_os = "linux")]
use crate::alone::run_alone;
use crate::sockets::{
    BINARY, CLOSE, PING, PONG, Raw, TEXT, echo, masked, serve_ours, serve_router, serve_with, soon, tells, told,
};

/// The first reserved bit: the message is compressed.
const RSV1: u8 = 0x40;
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;

/// What the tests set as the largest message.
const LIMIT: usize = 100_000;

fn deflate(plain: &[u8], level: u32) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(plain.len() * 2 + 100);
    compressor.compress_vec(plain, &mut out, FlushCompress::Sync).expect("there is room");
    assert_eq!(compressor.total_in(), plain.len() as u64);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

fn inflate(wire: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(4 << 20);
    let wire = [wire, &[0, 0, 0xff, 0xff]].concat();
    Decompress::new(false).decompress_vec(&wire, &mut plain, FlushDecompress::Sync).expect("it is deflate");
    plain
}

/// Tells of the length of each message, and of the code that ends them.
async fn tell_lengths(
    mut channel: Channel,
    tell: mpsc::UnboundedSender<Result<usize, u16>>,
) -> Result<(), fanfare::Error> {
    loop {
        match channel.recv_bytes().await {
            Some(Ok(bytes)) => tell.send(Ok(bytes.len()))?,
            Some(Err(RecvError::Protocol { code, .. })) => tell.send(Err(code.get()))?,
            Some(Err(error)) => return Err(error.into()),
            None => return Ok(()),
        }
    }
}

async fn serve_limited() -> (SocketAddr, mpsc::UnboundedReceiver<Result<usize, u16>>) {
    let (tell, tells) = tells();
    let options = |upgrade: Upgrade| upgrade.deflate().max_message_size(LIMIT);
    (serve_with(options, move |channel| tell_lengths(channel, tell.clone())).await, tells)
}

async fn echo_deflating() -> SocketAddr {
    serve_with(Upgrade::deflate, echo).await
}

async fn close_code_for(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut client = Raw::connect_deflating(address).await;
    client.send_bytes(bytes).await;
    client.close_code().await
}

// Agreeing.

#[tokio::test]
async fn it_is_agreed_only_where_the_route_and_the_client_want_it() {
    const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let router = Router::new()
        .route("/", get(async |upgrade: Upgrade| upgrade.deflate().run(echo)))
        .route("/plain", get(async |upgrade: Upgrade| upgrade.run(echo)));
    let extensions = |head: &str| head.lines().find(|line| line.starts_with("sec-websocket-ext")).map(str::to_owned);
    for address in [serve_router(router.clone()).await, serve_ours(router, |server| server).await] {
        let (mut client, head) = Raw::ask(address, OFFER).await;
        let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(extensions(&head), Some(format!("sec-websocket-extensions: {agreed}")));
        let text = "said again and again ".repeat(100);
        client.send(RSV1 | TEXT, &deflate(text.as_bytes(), 6)).await;
        let (first, payload) = client.frame().await.expect("it is echoed");
        assert_eq!((first, inflate(&payload)), (RSV1 | TEXT, text.into_bytes()));
        client.send(TEXT, b"plain is fine, too").await;
        assert_eq!(client.frame().await, Some((TEXT, b"plain is fine, too".into())));

        let (_, head) = Raw::ask(address, "").await;
        assert_eq!(extensions(&head), None, "it was not offered");
        let (_, head) = Raw::ask(address, "Sec-WebSocket-Extensions: permessage-deflate; x\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101") && extensions(&head).is_none(), "{head}");
    }
}

#[tokio::test]
async fn a_compressed_frame_without_agreement_is_refused() {
    let address = echo_deflating().await;
    let mut client = Raw::connect(address).await;
    client.send(RSV1 | TEXT, &deflate(b"hello", 6)).await;
    assert_eq!(client.close_code().await, Some(1002));
}

// Bombs.

#[tokio::test]
async fn the_limit_counts_inflated_bytes_to_the_byte() {
    let (address, mut tells) = serve_limited().await;
    for level in [0, 1, 9] {
        let mut client = Raw::connect_deflating(address).await;
        client.send(RSV1 | BINARY, &deflate(&vec![7; LIMIT], level)).await;
        assert_eq!(told(&mut tells).await, Ok(LIMIT), "level {level}");
        for more in [1, 2, LIMIT] {
            let mut client = Raw::connect_deflating(address).await;
            client.send(RSV1 | BINARY, &deflate(&vec![7; LIMIT + more], level)).await;
            // The first thing that the handler hears of it, too: no part of it is a message.
            assert_eq!((client.close_code().await, told(&mut tells).await), (Some(1009), Err(1009)), "{more} more");
        }
    }
}

/// The most memory that the process has had, in bytes; since the last reset, that is.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is listed");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("it is a number") << 10
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hundred_bombs_of_a_gigabyte_cost_what_their_limits_allow() {
    // Memory is counted for the process, and other tests share this one.
    if run_alone().is_some() {
        return;
    }
    let address = echo_deflating().await;
    // 1000 to 1: what a megabyte of zeros makes, a thousand times.
    let whole_block = [deflate(&vec![0; 1 << 20], 9), vec![0, 0, 0xff, 0xff]].concat();
    let bomb = masked(FIN | RSV1 | BINARY, &whole_block.repeat(1000));
    assert!(bomb.len() < 1_100_000, "{} bytes", bomb.len());
    assert_eq!(close_code_for(address, &bomb).await, Some(1009));
    let before = peak();
    let start = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = Raw::connect_deflating(address).await;
        // What the server does not look at may be more than it takes.
        client.send_bytes(&bomb[..100_000]).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.close_code().await, Some(1009));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // Each is refused at its first megabyte, on one thread: two of them while a payload grows.
    let grown = peak() - before;
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn a_bomb_in_many_fragments_with_pings_between_ends_at_the_limit() {
    let (address, mut tells) = serve_limited().await;
    for (size, expected) in [(LIMIT, Ok(LIMIT)), (LIMIT + 1, Err(1009)), (100 * LIMIT, Err(1009))] {
        let wire = deflate(&vec![0; size], 9);
        let mut client = Raw::connect_deflating(address).await;
        client.send_bytes(&masked(RSV1 | BINARY, b"")).await;
        for byte in wire.chunks(1) {
            client.send_bytes(&[masked(CONTINUATION, byte), masked(FIN | PING, b"?")].concat()).await;
        }
        client.send_bytes(&masked(FIN | CONTINUATION, b"")).await;
        assert_eq!(told(&mut tells).await, expected);
        let mut pongs = 0;
        while let Some((PONG, _)) = client.frame().await {
            pongs += 1;
            if expected.is_ok() && pongs == wire.len() {
                break;
            }
        }
        assert!(pongs > 0 && pongs <= wire.len());
    }
}

#[tokio::test]
async fn endless_blocks_that_hold_nothing_end() {
    let address = serve_with(|upgrade| upgrade.deflate().max_message_size(LIMIT), echo).await;
    // Of fixed codes, stored, final.
    for block in [&b"\x02\x00\x00\x00\xff\xff"[..], b"\x00\x00\x00\xff\xff", b"\x03\x00"] {
        let fragment = masked(CONTINUATION, &block.repeat(1000));
        let mut client = Raw::connect_deflating(address).await;
        client.send_bytes(&masked(RSV1 | TEXT, b"")).await;
        let mut sent = 0;
        let ends = async {
            loop {
                client.send_bytes(&fragment).await;
                sent += 1;
                if let Ok(n) = client.stream.try_read(&mut [0; 4]) {
                    break n;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(soon(ends).await, 4, "a close");
        assert!(sent * fragment.len() < 100 * LIMIT, "{sent} fragments");
    }
}

#[tokio::test]
async fn what_a_client_may_send_over_time_counts_inflated() {
    const SIZE: usize = 50_000;
    let wire = deflate(&[7; SIZE], 9);
    for (excess, ends) in [(Excess::Close, Some(1008)), (Excess::Throttle, None)] {
        let (tell, mut tells) = tells();
        let limit = RateLimit::per_second(1000, 2 * SIZE).excess(excess);
        let options = move |upgrade: Upgrade| upgrade.deflate().rate_limit(limit);
        let address = serve_with(options, move |channel| tell_lengths(channel, tell.clone())).await;
        let mut client = Raw::connect_deflating(address).await;
        let start = Instant::now();
        for _ in 0..4 {
            client.send(RSV1 | BINARY, &wire).await;
        }
        assert_eq!(told(&mut tells).await, Ok(SIZE));
        match ends {
            Some(code) => assert_eq!(client.close_code().await, Some(code)),
            None => {
                for _ in 0..3 {
                    assert_eq!(told(&mut tells).await, Ok(SIZE));
                }
                // Two at once; the third is taken on credit, and the last one waits for it.
                assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
            }
        }
    }
}

// Misuse.

#[tokio::test]
async fn a_mark_where_none_may_be_is_refused() {
    let address = echo_deflating().await;
    let hello = deflate(b"hello", 6);
    let cases = [
        ("ping", masked(FIN | RSV1 | PING, b"")),
        ("pong", masked(FIN | RSV1 | PONG, b"")),
        ("close", masked(FIN | RSV1 | CLOSE, b"")),
        ("continuation", [masked(RSV1 | TEXT, &hello[..2]), masked(FIN | RSV1, &hello[2..])].concat()),
        ("continuation of plain", [masked(TEXT, b"x"), masked(FIN | RSV1, &hello)].concat()),
        ("second bit", masked(FIN | 0x20 | TEXT, b"x")),
        ("third bit", masked(FIN | 0x10 | TEXT, b"x")),
        ("all bits", masked(FIN | 0x70 | TEXT, &hello)),
    ];
    for (name, bytes) in cases {
        assert_eq!(close_code_for(address, &bytes).await, Some(1002), "{name}");
    }
}

#[tokio::test]
async fn what_is_not_deflate_and_what_is_not_text_in_it_closes_with_1007() {
    let address = echo_deflating().await;
    let good = deflate("€".repeat(100).as_bytes(), 6);
    let mut flipped = good.clone();
    flipped[0] |= 0x06;
    let half = deflate(&"€".as_bytes()[..2], 6);
    let cases: [(&str, &[u8]); 8] = [
        ("reserved type of block", b"\x07"),
        ("stored length against its check", b"\x00\x05\x00\xfb\xffhello\x00"),
        ("reference to before the beginning", b"\xf2\x00\x11\x00\x00"),
        ("damaged first byte", &flipped),
        ("cut short", &good[..good.len() - 2]),
        ("no text", &deflate(b"fine until \xff", 6)),
        ("overlong", &deflate(b"\xc0\x80", 0)),
        ("half a character", &half),
    ];
    for (name, payload) in cases {
        assert_eq!(close_code_for(address, &masked(FIN | RSV1 | TEXT, payload)).await, Some(1007), "{name}");
    }
    let mut client = Raw::connect_deflating(address).await;
    client.send(RSV1 | BINARY, &half).await;
    assert_eq!(client.frame().await, Some((BINARY, "€".as_bytes()[..2].into())), "as bytes it is fine");
    // A character may be split over fragments, and over what is inflated of them.
    for cut in 1..good.len() {
        let bytes = [masked(RSV1 | TEXT, &good[..cut]), masked(FIN | CONTINUATION, &good[cut..])].concat();
        client.send_bytes(&bytes).await;
        let (first, payload) = client.frame().await.expect("it is echoed");
        assert_eq!((first, inflate(&payload)), (RSV1 | TEXT, "€".repeat(100).into_bytes()));
    }
}

// Sending.

#[tokio::test]
async fn compressed_and_plain_members_of_a_group_get_the_same_in_the_same_order() {
    const SENDS: usize = 200;
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.deflate().run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell.send(())?;
            channel.discard().await;
            Ok(())
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(match number % 2 {
            0 => Raw::connect(address).await,
            _ => Raw::connect_deflating(address).await,
        });
        told(&mut tells).await;
    }
    // Some below the size from which it pays, some that do not shrink.
    let payloads: Vec<Vec<u8>> = (0..SENDS)
        .map(|n| match n % 3 {
            0 => format!("message {n}").into_bytes(),
            1 => format!("message {n} ").repeat(50).into_bytes(),
            _ => (0..1000_u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(n as u32) >> 13) as u8).collect(),
        })
        .collect();
    for payload in &payloads {
        assert!(channels.group("room").send_frame(&Frame::binary(payload)).is_accepted());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut compressed = 0;
        for payload in &payloads {
            let (first, wire) = client.frame().await.expect("it lives");
            let plain = if first & RSV1 == 0 { wire } else { inflate(&wire) };
            compressed += usize::from(first & RSV1 != 0);
            assert!((first & 0x0f, &plain) == (BINARY, payload), "client {number}");
        }
        assert_eq!(compressed >= SENDS / 3, number % 2 == 1, "client {number} got {compressed} compressed");
    }
}
