//! Handshakes over real sockets: whose pages get in, what is agreed, and what a hostile head costs.
//!
//! Each holds with both servers, axum's and ours.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::serve::Listener;
use axum::{Extension, Router};
use fanfare::channel::Channel;
use fanfare::ws::{Origins, Upgrade, serve};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::sockets::{Raw, TEXT, echo, serve_ours, serve_router, soon, tells, told};

async fn both(router: Router) -> [SocketAddr; 2] {
    [serve_router(router.clone()).await, serve_ours(router, |server| server).await]
}

/// The status of the answer; empty when the connection ends without one.
async fn status(address: SocketAddr, headers: &str) -> String {
    let (_, head) = Raw::ask(address, headers).await;
    head.get(9..12).unwrap_or_default().to_owned()
}

fn origin(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

// Origins.

/// A route whose handler must not run but for those that are let in.
fn guarded(origins: Option<Origins>) -> (Router, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (tell, tells) = tells();
    let handler = move |_channel: Channel| {
        let tell = tell.clone();
        async move { Ok(tell.send(())?) }
    };
    let route = get(async move |upgrade: Upgrade| upgrade.run(handler));
    let router = Router::new().route("/", route);
    (origins.map_or(router.clone(), |origins| router.layer(Extension(origins))), tells)
}

#[tokio::test]
async fn without_a_rule_only_pages_of_the_same_host_and_programs_get_in() {
    let (router, mut tells) = guarded(None);
    for address in both(router).await {
        let port = address.port();
        let refused = [
            "null",
            "",
            "http://evil-127.0.0.1",
            &format!("http://evil-{address}"),
            &format!("http://{address}.evil.example"),
            &format!("http://{address}@evil.example"),
            &format!("http://evil.example#{address}"),
            &format!("http://evil.example/{address}"),
            &format!("http://{address}/"),
            &format!("http://localhost:{port}"),
            &format!("http://127.0.0.1:{}", port ^ 1),
            &format!("http://127.0.0.1:0{port}0"),
            "http://127.0.0.1",
            &format!("file://{address}"),
            &format!("//{address}"),
            &address.to_string(),
        ];
        for page in refused {
            assert_eq!(status(address, &origin(page)).await, "403", "{page}");
        }
        let twice = origin(&format!("http://{address}")).repeat(2);
        assert_eq!(status(address, &twice).await, "403", "which of two is meant, nobody can say");
        assert!(tells.try_recv().is_err(), "a handler ran");
        for page in [&origin(&format!("http://{address}")), &origin(&format!("HTTPS://{address}")), ""] {
            assert_eq!(status(address, page).await, "101", "{page}");
            told(&mut tells).await;
        }
    }
}

#[tokio::test]
async fn with_a_list_nothing_else_gets_in() {
    let listed = ["https://app.com", "http://localhost:5173", "https://other.app.com:8443"];
    let (router, mut tells) = guarded(Some(Origins::listed(listed).expect("they are origins")));
    for address in both(router).await {
        let refused = [
            "null",
            "",
            "*",
            "https://evil-app.com",
            "https://app.com.evil",
            "https://app.com.",
            "https://app.comm",
            "https://pp.com",
            "https://sub.app.com",
            "https://app.com:8443",
            "https://app.com:80",
            "https://app.com:443.evil",
            "https://app.com@evil.com",
            "https://app.com/",
            "https://app.com/path",
            "https://app.com#",
            "https://app.com, https://evil.com",
            "https://evil.com https://app.com",
            "http://app.com",
            "wss://app.com",
            "http://localhost",
            "http://localhost:517",
            "http://localhost:51730",
            "https://other.app.com",
            &format!("http://{address}"),
        ];
        for page in refused {
            assert_eq!(status(address, &origin(page)).await, "403", "{page}");
        }
        assert_eq!(status(address, "").await, "403", "it is not sent at all");
        assert_eq!(status(address, &origin(listed[0]).repeat(2)).await, "403", "it is sent twice");
        assert!(tells.try_recv().is_err(), "a handler ran");
        for page in listed.into_iter().chain(["https://app.com:443", "HTTPS://APP.com", "http://LOCALHOST:5173"]) {
            assert_eq!(status(address, &origin(page)).await, "101", "{page}");
            told(&mut tells).await;
        }
    }
}

#[tokio::test]
async fn with_any_origin_let_in_every_page_gets_in() {
    let (router, mut tells) = guarded(Some(Origins::any()));
    for address in both(router).await {
        for page in ["null", "https://evil.example", "not an origin", ""] {
            assert_eq!(status(address, &origin(page)).await, "101", "{page}");
            told(&mut tells).await;
        }
        assert_eq!(status(address, "").await, "101");
        told(&mut tells).await;
    }
}

// Subprotocols.

#[tokio::test]
async fn the_first_subprotocol_of_the_server_that_is_offered_is_echoed() {
    let (tell, mut tells) = tells();
    let route = async move |upgrade: Upgrade| {
        let upgrade = upgrade.protocols(&["chat.v2", "chat.v1"]);
        tell.send(upgrade.protocol().map(str::to_owned)).expect("the test lives");
        upgrade.run(echo)
    };
    let cases = [
        ("Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n", Some("chat.v2")),
        ("Sec-WebSocket-Protocol: other,chat.v1\r\n", Some("chat.v1")),
        ("Sec-WebSocket-Protocol: chat.v1\r\nSec-WebSocket-Protocol: chat.v2\r\n", Some("chat.v2")),
        ("sec-websocket-protocol: other\r\nSEC-WEBSOCKET-PROTOCOL:\t chat.v1 \t,, \r\n", Some("chat.v1")),
        ("Sec-WebSocket-Protocol: CHAT.V1, chat.v, chat.v11, chat\r\n", None),
        ("Sec-WebSocket-Protocol: \r\n", None),
        ("Sec-WebSocket-Protocol: \"chat.v1\"\r\n", None),
        ("", None),
    ];
    for address in both(Router::new().route("/", get(route))).await {
        for (offer, chosen) in cases {
            let (mut client, head) = Raw::ask(address, offer).await;
            assert!(head.starts_with("HTTP/1.1 101"), "{offer}: {head}");
            let echoed: Vec<_> =
                head.lines().filter_map(|line| line.strip_prefix("sec-websocket-protocol: ")).collect();
            assert_eq!(echoed, Vec::from_iter(chosen), "{offer}");
            assert_eq!(told(&mut tells).await.as_deref(), chosen);
            client.send(TEXT, b"it is open").await;
            assert_eq!(client.frame().await, Some((TEXT, b"it is open".into())));
        }
    }
}

// What a hostile head costs.

/// Sent at the size that just fits, these make whoever looks at each piece again take minutes.
fn hostile_headers(size: usize) -> [(&'static str, String); 9] {
    [
        ("Sec-WebSocket-Protocol", "a,".repeat(size / 2)),
        ("Sec-WebSocket-Protocol", ",".repeat(size)),
        ("Sec-WebSocket-Protocol", format!("a{}b", " ".repeat(size - 2))),
        ("Sec-WebSocket-Extensions", "permessage-deflate; x, ".repeat(size / 23)),
        ("Sec-WebSocket-Extensions", format!("permessage-deflate; x=\"{}", "\\\"".repeat((size - 23) / 2))),
        ("Sec-WebSocket-Extensions", format!("permessage-deflate{}", "; x".repeat((size - 18) / 3))),
        ("Sec-WebSocket-Extensions", format!("x{},", " ;".repeat((size - 2) / 2))),
        ("Origin", format!("http://{}", "a:".repeat((size - 7) / 2))),
        ("Connection", format!("{}upgrade", "x,".repeat((size - 7) / 2))),
    ]
}

fn offering(upgrade: Upgrade) -> Upgrade {
    #[cfg(feature = "deflate")]
    let upgrade = upgrade.deflate();
    upgrade.protocols(&["v3", "v2", "v1"])
}

#[tokio::test]
async fn a_header_of_a_megabyte_is_refused() {
    let router = Router::new().route("/", get(async |upgrade: Upgrade| offering(upgrade).run(echo)));
    for address in both(router).await {
        for (name, value) in hostile_headers(1 << 20) {
            let status = status(address, &format!("{name}: {value}\r\n")).await;
            assert!(["431", ""].contains(&&*status), "{name} got {status}");
        }
        assert_eq!(status(address, "").await, "101", "others get in");
    }
}

#[tokio::test]
async fn the_longest_header_that_a_server_takes_is_read_in_linear_time() {
    const SIZE: usize = 390 << 10;
    let router = Router::new().route("/", get(async |upgrade: Upgrade| offering(upgrade).run(echo)));
    // Axum's own cap is at 400 KB and some; ours has to be set.
    let ours = serve_ours(router.clone(), |server| server.max_head_size(400 << 10)).await;
    for address in [serve_router(router).await, ours] {
        for (name, value) in hostile_headers(SIZE) {
            let start = Instant::now();
            let status = status(address, &format!("{name}: {value}\r\n")).await;
            assert_eq!(status, if name == "Origin" { "403" } else { "101" }, "{name}: {}...", &value[..40]);
            // Linear, it takes milliseconds, and ten of them without optimisation; squared it would be 10^11 steps.
            assert!(start.elapsed() < Duration::from_secs(2), "{name} took {:?}", start.elapsed());
        }
    }
}

#[tokio::test]
async fn too_many_headers_are_refused_by_both_servers() {
    let router = Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)));
    for address in both(router).await {
        // Five are in the request already.
        assert_eq!(status(address, &"X: y\r\n".repeat(95)).await, "101");
        assert_eq!(status(address, &"X: y\r\n".repeat(96)).await, "431");
        assert!(["431", ""].contains(&&*status(address, &"X: y\r\n".repeat(100_000)).await));
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_read_to_its_end_by_either_server() {
    const SIZE: usize = 20 << 20;
    let router = Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)));
    for address in both(router).await {
        let mut stream = soon(TcpStream::connect(address)).await.expect("the port is open");
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.expect("it is sent");
        let piece = [b'x'; 64 << 10];
        let mut sent = 0;
        while sent < SIZE && soon(stream.write_all(&piece)).await.is_ok() {
            sent += piece.len();
        }
        assert!(sent < SIZE, "all of it was taken");
    }
}

/// A listener whose connections can be read a byte at a time only, as from a client that drips.
struct Dripping(TcpListener);

struct Drip(TcpStream);

impl Listener for Dripping {
    type Io = Drip;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Drip, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Drip(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for Drip {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut drop = buffer.take(1);
        let result = Pin::new(&mut self.0).poll_read(cx, &mut drop);
        let byte = drop.filled().first().copied();
        buffer.put_slice(byte.as_slice());
        result
    }
}

impl AsyncWrite for Drip {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_head_that_drips_costs_linear_time() {
    let listener = Dripping(TcpListener::bind("127.0.0.1:0").await.expect("a port is free"));
    let address = listener.local_addr().expect("it is bound");
    let router = Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)));
    tokio::spawn(serve(listener, router).max_head_size(300 << 10).into_future());
    let start = Instant::now();
    assert_eq!(status(address, &format!("X: {}\r\n", "x".repeat(256 << 10))).await, "101");
    // Linear, it takes a few tenths; were all read again for each byte, it would be 30 GB.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
