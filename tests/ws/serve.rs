//! The server loop over real sockets: each bound it promises, and its end.

use std::convert::Infallible;
use std::future::IntoFuture;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use fanfare::channel::{Channel, OutboxLimits};
use fanfare::ws::{Counters, Server, ShutdownReport, Upgrade, serve};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::MANY_SOCKETS;

const DEADLINE: Duration = Duration::from_secs(20);
/// For what is to happen because its time is up.
const SHORT: Duration = Duration::from_millis(200);

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future.into_future()).await.expect("it comes in time")
}

async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A server that runs.
struct Running {
    address: SocketAddr,
    counters: Counters,
    stop: oneshot::Sender<Infallible>,
    task: JoinHandle<ShutdownReport>,
}

impl Running {
    async fn start(router: Router, configure: impl FnOnce(Server<TcpListener>) -> Server<TcpListener>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let server = configure(serve(listener, router)).shutdown_on(async { drop(stopped.await) });
        let counters = server.counters();
        Self { address, counters, stop, task: tokio::spawn(server.into_future()) }
    }

    async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.address)).await.expect("the port is open")
    }

    async fn open(&self) -> WebSocketStream<TcpStream> {
        handshake(self.connect().await).await
    }

    async fn stop(self) -> ShutdownReport {
        drop(self.stop);
        soon(self.task).await.expect("the server does not panic")
    }
}

async fn handshake<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    soon(client_async("ws://localhost/", stream)).await.expect("the handshake is good").0
}

/// Returns what the server says until it closes, which it does without a reset.
async fn to_end(stream: &mut TcpStream) -> String {
    let mut said = String::new();
    soon(stream.read_to_string(&mut said)).await.expect("the connection ends in order");
    said
}

/// As `to_end`, for an end that may be a reset because the server has not read all.
async fn to_any_end(stream: &mut TcpStream) {
    let mut said = Vec::new();
    let _ = soon(stream.read_to_end(&mut said)).await;
}

async fn ask(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.expect("it is sent");
}

/// Reads the head of a response; returns its status.
async fn status(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("an answer comes"));
    }
    String::from_utf8_lossy(&head[9..12]).into_owned()
}

const PLAIN: &str = "GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn listen(mut channel: Channel) -> Result<(), fanfare::Error> {
    while let Some(received) = channel.recv_message().await {
        received?;
    }
    Ok(())
}

/// Channels at `/`, a page without a body at `/plain`.
fn router() -> Router {
    Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(listen))).route("/plain", get(async || ()))
}

fn close_code(message: Option<Result<Message, impl std::fmt::Debug>>) -> Option<u16> {
    match message {
        Some(Ok(Message::Close(Some(close)))) => Some(close.code.into()),
        _ => None,
    }
}

#[tokio::test]
async fn a_head_that_drips_ends_at_its_deadline() {
    let server = Running::start(router(), |server| server.head_timeout(SHORT)).await;
    let begun = Instant::now();
    let mut dripping = server.connect().await;
    let mut silent = server.connect().await;
    ask(&mut dripping, "GET / HTTP/1.1\r\nHost: ").await;
    // Each byte comes long before the deadline.
    soon(async {
        while dripping.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 20).await;
        }
    })
    .await;
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(to_end(&mut silent).await, "");
    until(|| server.counters.open() == 0).await;
}

#[tokio::test]
async fn a_connection_without_a_next_request_ends_at_the_deadline() {
    let server = Running::start(router(), |server| server.head_timeout(SHORT)).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        ask(&mut stream, PLAIN).await;
        assert_eq!(status(&mut stream).await, "200");
    }
    let begun = Instant::now();
    assert_eq!(to_end(&mut stream).await, "");
    assert!(begun.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn a_head_of_20_mb_is_not_read_to_its_end() {
    const SIZE: usize = 20 << 20;
    let server = Running::start(router(), |server| server).await;
    let mut stream = server.connect().await;
    ask(&mut stream, "GET / HTTP/1.1\r\nHost: ").await;
    let piece = [b'x'; 64 << 10];
    let mut sent = 0;
    while sent < SIZE && soon(stream.write_all(&piece)).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent < SIZE, "all of it was taken");
    until(|| server.counters.open() == 0).await;
}

#[tokio::test]
async fn the_size_of_a_head_is_limited_to_the_byte() {
    let server = Running::start(router(), |server| server.max_head_size(1000)).await;
    for (size, expected) in [(1000, "200"), (1001, "431")] {
        let mut stream = server.connect().await;
        let padding = size - PLAIN.len() - "X: \r\n".len();
        ask(&mut stream, &PLAIN.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(padding)))).await;
        assert_eq!(status(&mut stream).await, expected, "{size} bytes");
    }
}

#[tokio::test]
async fn too_many_headers_are_an_error_and_no_crash() {
    let by_default = Running::start(router(), |server| server).await;
    let fewer = Running::start(router(), |server| server.max_headers(10)).await;
    for (server, count, expected) in
        [(&by_default, 100, "200"), (&by_default, 101, "431"), (&fewer, 10, "200"), (&fewer, 11, "431")]
    {
        let mut stream = server.connect().await;
        ask(&mut stream, &PLAIN.replace("\r\n\r\n", &format!("{}\r\n\r\n", "\r\nX: x".repeat(count - 1)))).await;
        assert_eq!(status(&mut stream).await, expected, "{count} headers");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_a_closed_one_makes_room() {
    let server = Running::start(router(), |server| server.max_connections(2)).await;
    let mut channel = server.open().await;
    let mut plain = server.connect().await;
    ask(&mut plain, PLAIN).await;
    assert_eq!(status(&mut plain).await, "200");

    let mut refused = server.connect().await;
    // What it asks for is not read, and does not reset the answer.
    ask(&mut refused, &PLAIN.repeat(100)).await;
    let answer = to_end(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Connection: close"), "{answer}");
    assert!(answer.ends_with("as many connections as it takes\n"), "{answer}");
    let counters = &server.counters;
    assert_eq!((counters.accepted(), counters.refused(), counters.open(), counters.channels()), (2, 1, 2, 1));

    channel.close(None).await.expect("the connection lives");
    while soon(channel.next()).await.is_some() {}
    until(|| counters.open() == 1).await;
    assert_eq!(counters.channels(), 0);
    server.open().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_address_cannot_take_the_places_of_others() {
    async fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket is free");
        socket.bind((IpAddr::from(ip), 0).into()).expect("all of 127.0.0.0/8 is ours");
        soon(socket.connect(to)).await.expect("the port is open")
    }
    let server = Running::start(router(), |server| server.max_connections_per_address(2)).await;
    let _taken = [server.open().await, server.open().await];
    let answer = to_end(&mut server.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("from one address\n"), "{answer}");
    handshake(connect_from([127, 0, 0, 2], server.address).await).await;
}

#[tokio::test]
async fn a_proxy_on_this_host_is_no_single_client() {
    let _turn = MANY_SOCKETS.lock().await;
    // On a socket for both, this host's address of IPv4 arrives as one of IPv6.
    for address in ["127.0.0.1:0", "[::]:0"] {
        let Ok(listener) = TcpListener::bind(address).await else { continue };
        let port = listener.local_addr().expect("it is bound").port();
        let server = serve(listener, router());
        let counters = server.counters();
        let task = tokio::spawn(server.into_future());
        let mut connections = Vec::new();
        for _ in 0..300 {
            connections.push(soon(TcpStream::connect(("127.0.0.1", port))).await.expect("the port is open"));
        }
        until(|| counters.open() == 300).await;
        assert_eq!(counters.refused(), 0);
        task.abort();
    }
}

#[tokio::test]
async fn many_that_are_refused_at_once_are_all_closed() {
    let _turn = MANY_SOCKETS.lock().await;
    let server = Running::start(router(), |server| server.max_connections(0)).await;
    let mut refused = Vec::new();
    for _ in 0..200 {
        refused.push(server.connect().await);
    }
    let mut told = 0;
    // None of them closes first.
    for stream in &mut refused {
        told += usize::from(to_end(stream).await.starts_with("HTTP/1.1 503"));
    }
    assert!((64..200).contains(&told), "{told} were told why");
    assert_eq!((server.counters.accepted(), server.counters.refused()), (0, 200));
}

#[tokio::test]
async fn a_channel_is_on_the_socket_itself_and_its_handler_knows_the_client() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let route = async move |ConnectInfo(address): ConnectInfo<SocketAddr>, upgrade: Upgrade| {
        upgrade.run(async move |mut channel| {
            let message = channel.recv::<String>().await;
            told.send((address, channel.peer_addr(), message.and_then(Result::ok)))?;
            Ok(())
        })
    };
    let server = Running::start(Router::new().route("/", get(route)), |server| server).await;
    let mut stream = server.connect().await;
    let address = stream.local_addr().expect("it is connected");
    // The first frame comes right behind the request, in one piece with it.
    let frame = [0x81, 0x84, 0, 0, 0, 0, b'"', b'h', b'i', b'"'];
    stream.write_all(&[UPGRADE.as_bytes(), &frame].concat()).await.expect("it is sent");
    assert_eq!(soon(tells.recv()).await, Some((address, Some(address), Some("hi".to_owned()))));
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_own_connection_and_no_other() {
    async fn panics() {
        panic!("on purpose")
    }
    let server = Running::start(router().route("/panics", get(panics)), |server| server).await;
    let mut channel = server.open().await;
    let mut stream = server.connect().await;
    ask(&mut stream, &PLAIN.replace("/plain", "/panics")).await;
    to_any_end(&mut stream).await;
    until(|| server.counters.open() == 1).await;
    channel.send(Message::Ping("there?".into())).await.expect("the connection lives");
    assert!(matches!(soon(channel.next()).await, Some(Ok(Message::Pong(_)))));
    server.open().await;
}

#[tokio::test]
async fn a_shutdown_ends_requests_and_channels_in_order() {
    const WAITING: usize = 100;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let finish = Arc::new(Semaphore::new(0));
    let slow = {
        let (begun, finish) = (begun.clone(), Arc::clone(&finish));
        async move || {
            begun.send(()).expect("the test lives");
            finish.acquire().await.expect("it is not closed").forget();
            "finished"
        }
    };
    let busy = async move |upgrade: Upgrade| {
        let wide = OutboxLimits::default().max_bytes(1 << 30);
        upgrade.outbox(wide).run(async move |channel| {
            for n in 0..WAITING {
                channel.send(&(n, "x".repeat(64 << 10)))?;
            }
            begun.send(())?;
            listen(channel).await
        })
    };
    let router = router().route("/slow", get(slow)).route("/busy", get(busy));
    let server = Running::start(router, |server| server.drain_timeout(DEADLINE)).await;

    let mut idle = server.connect().await;
    ask(&mut idle, PLAIN).await;
    assert_eq!(status(&mut idle).await, "200");
    let mut quiet_client = server.open().await;
    let mut slow_client = server.connect().await;
    ask(&mut slow_client, &PLAIN.replace("/plain", "/slow")).await;
    let stream = server.connect().await;
    // It reads nothing for now: far more than the kernel takes waits for it.
    let (mut busy_client, _) = soon(client_async("ws://localhost/busy", stream)).await.expect("the handshake is good");
    for _ in 0..2 {
        soon(begins.recv()).await.expect("the server lives");
    }

    let Running { address, counters, stop, task } = server;
    drop(stop);
    assert_eq!(to_end(&mut idle).await, "", "an idle connection is closed at once");
    assert_eq!(close_code(soon(quiet_client.next()).await), Some(1001));
    assert!(TcpStream::connect(address).await.is_err(), "nothing more is accepted");
    assert!(!task.is_finished());

    finish.add_permits(1);
    let answer = to_end(&mut slow_client).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("finished"), "{answer}");
    for n in 0..WAITING {
        let Some(Ok(Message::Text(text))) = soon(busy_client.next()).await else { panic!("{n} was lost") };
        assert!(text.starts_with(&format!("[{n},")));
    }
    assert_eq!(close_code(soon(busy_client.next()).await), Some(1001));
    assert!(soon(busy_client.next()).await.is_none());
    assert!(soon(quiet_client.next()).await.is_none());
    let drained = soon(task).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut, counters.open()), (4, 0, 0));
}

#[tokio::test]
async fn without_a_drain_timeout_a_shutdown_waits_for_the_last_connection() {
    let route = async |upgrade: Upgrade| {
        upgrade.run(async |mut channel| {
            channel.discard().await;
            Ok(())
        })
    };
    let router = Router::new().route("/", get(route));
    let server = Running::start(router, |server| server.drain_timeout(None).head_timeout(None)).await;
    let mut silent = server.connect().await;
    ask(&mut silent, UPGRADE).await;
    assert_eq!(status(&mut silent).await, "101");

    drop(server.stop);
    let mut task = server.task;
    let early = tokio::time::timeout(SHORT, &mut task).await;
    assert!(early.is_err(), "it has ended: {early:?}");
    drop(silent);
    let drained = soon(task).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (1, 0));
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_cut_off() {
    let (told, mut tells) = mpsc::unbounded_channel();
    let stuck = {
        let told = told.clone();
        async move || {
            told.send("a request has begun").expect("the test lives");
            std::future::pending::<()>().await
        }
    };
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |mut channel| {
            while channel.recv_message().await.is_some() {}
            told.send("a channel has ended")?;
            Ok(())
        })
    };
    let router = Router::new().route("/", get(route)).route("/stuck", get(stuck));
    let server = Running::start(router, |server| server.drain_timeout(SHORT)).await;
    let mut silent = server.connect().await;
    ask(&mut silent, UPGRADE).await;
    assert_eq!(status(&mut silent).await, "101");
    let mut stuck = server.connect().await;
    ask(&mut stuck, &PLAIN.replace("/plain", "/stuck")).await;
    assert_eq!(soon(tells.recv()).await, Some("a request has begun"));

    let begun = Instant::now();
    let counters = server.counters.clone();
    let drained = server.stop().await;
    assert!(begun.elapsed() >= SHORT);
    assert_eq!((drained.ended, drained.cut), (0, 2));
    assert_eq!(soon(tells.recv()).await, Some("a channel has ended"));
    let mut close = [0; 4];
    soon(silent.read_exact(&mut close)).await.expect("it was told before");
    assert_eq!(close, [0x88, close[1], 0x03, 0xe9]);
    to_any_end(&mut silent).await;
    to_any_end(&mut stuck).await;
    until(|| counters.open() == 0).await;
}

#[tokio::test]
async fn a_channel_that_opens_during_the_shutdown_is_closed_too() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let go_on = Arc::new(Semaphore::new(0));
    let slow = {
        let go_on = Arc::clone(&go_on);
        async move |upgrade: Upgrade| {
            begun.send(()).expect("the test lives");
            go_on.acquire().await.expect("it is not closed").forget();
            upgrade.run(listen)
        }
    };
    let server = Running::start(Router::new().route("/", get(slow)), |server| server).await;
    let mut late = server.connect().await;
    ask(&mut late, UPGRADE).await;
    soon(begins.recv()).await.expect("the server lives");
    let mut idle = server.connect().await;
    until(|| server.counters.open() == 2).await;
    let stopping = tokio::spawn(server.stop());
    // Once this one is closed the shutdown has begun.
    to_end(&mut idle).await;
    go_on.add_permits(1);
    assert_eq!(status(&mut late).await, "101");
    let mut close = [0; 4];
    soon(late.read_exact(&mut close)).await.expect("a close comes");
    assert_eq!(close, [0x88, close[1], 0x03, 0xe9]);
    late.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await.expect("it is sent");
    to_end(&mut late).await;
    let drained = soon(stopping).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_amid_handshakes_leaves_nobody_behind() {
    let _turn = MANY_SOCKETS.lock().await;
    for round in 0..10 {
        let server = Running::start(router(), |server| server.drain_timeout(DEADLINE)).await;
        let address = server.address;
        let clients: Vec<_> = (0..40)
            .map(|_| {
                tokio::spawn(async move {
                    let Ok(stream) = TcpStream::connect(address).await else { return };
                    let Ok((mut client, _)) = client_async("ws://localhost/", stream).await else { return };
                    match client.next().await {
                        Some(Ok(Message::Close(Some(close)))) => assert_eq!(u16::from(close.code), 1001),
                        other => panic!("a channel ended without a close: {other:?}"),
                    }
                    assert!(client.next().await.is_none());
                })
            })
            .collect();
        until(|| server.counters.accepted() > round * 3).await;
        let counters = server.counters.clone();
        let drained = server.stop().await;
        assert_eq!((drained.cut, counters.open(), counters.channels()), (0, 0, 0));
        for client in clients {
            soon(client).await.expect("a client does not panic");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_cuts_its_connections_off() {
    let server = Running::start(router(), |server| server).await;
    let mut channel = server.open().await;
    let mut idle = server.connect().await;
    ask(&mut idle, PLAIN).await;
    assert_eq!(status(&mut idle).await, "200");
    server.task.abort();
    assert_eq!(to_end(&mut idle).await, "");
    while soon(channel.next()).await.is_some_and(|message| message.is_ok()) {}
    until(|| server.counters.open() == 0).await;
}

/// Runs itself as a process that may open few files: that one only serves.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_without_a_free_file_waits_and_goes_on() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    const SERVES: &str = "FANFARE_TEST_SERVES";
    const WINDOW: Duration = Duration::from_millis(500);
    /// What the kernel counts CPU time in.
    const TICKS_PER_SECOND: u64 = 100;

    struct Server(Child);
    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let ticks = |server: &Server| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.0.id())).expect("it runs");
        let after_name = stat.rsplit_once(')').expect("its name is in brackets").1;
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    };
    if std::env::var_os(SERVES).is_some() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        std::io::stdout().write_all(format!("\nat={address}\n").as_bytes()).expect("the parent reads");
        soon(serve(listener, router()).head_timeout(DEADLINE)).await;
    }
    let test = std::env::current_exe().expect("it runs");
    let mut server = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 40; exec \"$0\" --exact serve::a_process_without_a_free_file_waits_and_goes_on --nocapture",
        ])
        .arg(test)
        .env(SERVES, "1")
        .stdout(Stdio::piped())
        .spawn()
        .map(Server)
        .expect("sh is there");
    let mut lines = BufReader::new(server.0.stdout.take().expect("it is piped")).lines();
    let address = lines.find_map(|line| line.expect("UTF-8").strip_prefix("at=").map(str::to_owned));
    let address: SocketAddr = address.expect("it serves").parse().expect("an address");

    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(soon(TcpStream::connect(address)).await.expect("the kernel takes it"));
    }
    ask(&mut clients[0], PLAIN).await;
    assert_eq!(status(&mut clients[0]).await, "200", "those that it has are served");
    ask(&mut clients[59], PLAIN).await;
    let before = ticks(&server);
    let waiting = tokio::time::timeout(WINDOW, clients[59].read_u8()).await;
    assert!(waiting.is_err(), "there is no file for this one");
    let used = ticks(&server) - before;
    assert!(used < TICKS_PER_SECOND * WINDOW.as_millis() as u64 / 1000 / 4, "{used} ticks of spinning");
    clients.drain(..59);
    assert_eq!(status(&mut clients[0]).await, "200", "there is one now");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_tcp_is_served_alike() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("serve-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).expect("the folder can be written");
    let (stop, stopped) = oneshot::channel::<Infallible>();
    let server = serve(listener, router()).max_connections(1).shutdown_on(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    let stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let mut channel = handshake(stream).await;
    let mut refused = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    std::fs::remove_file(&path).expect("it is ours");
    let mut answer = String::new();
    soon(refused.read_to_string(&mut answer)).await.expect("an answer comes");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(stop);
    assert_eq!(close_code(soon(channel.next()).await), Some(1001));
    assert!(soon(channel.next()).await.is_none());
    let drained = soon(server).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (1, 0));
}
