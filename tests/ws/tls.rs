//! Sockets that are not plain TCP: TLS under an axum router, and Unix sockets.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use axum::serve::Listener;
use fanfare::channel::{Channel, CloseCode, OutboxLimits, Overflow, Sender};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::{Counters, Server, ShutdownReport, Upgrade, serve};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::sockets::{assert_adds_up, echo, soon, tells, told, until};

type Client = WebSocketStream<client::TlsStream<TcpStream>>;

/// A server of TLS, and what a client has to trust.
struct Tls {
    address: SocketAddr,
    trusted: CertificateDer<'static>,
}

impl Tls {
    async fn serve(router: Router) -> Self {
        Self::serve_through(router, |stream| stream).await
    }

    /// As `serve`, with each stream put into something of one's own.
    async fn serve_through<S>(router: Router, wrap: impl Fn(server::TlsStream<TcpStream>) -> S + Send + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (listener, acceptor, trusted) = bind();
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (io, service) = (TokioIo::new(wrap(stream)), TowerToHyperService::new(router.clone()));
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(io, service).await;
                });
            }
        });
        Self { address, trusted }
    }

    async fn connect(&self) -> Client {
        soon(client_async("ws://localhost/", self.stream().await)).await.expect("the handshake is good").0
    }

    /// A client that has shaken hands by TLS, and said nothing since.
    async fn stream(&self) -> client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).expect("it is a certificate");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4096).expect("it takes a size");
        let stream = soon(socket.connect(self.address)).await.expect("the port is open");
        let name = ServerName::try_from("localhost").expect("it is a name");
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("it is trusted")
    }
}

/// A port, and what its clients are to be shown and to trust.
fn bind() -> (TcpListener, TlsAcceptor, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("there is a random source");
    let trusted = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![trusted.clone()], key)
        .expect("the key is the certificate's");
    let socket = TcpSocket::new_v4().expect("there are sockets");
    // Else the kernel would take all of these tests' messages for a client that stalls.
    socket.set_send_buffer_size(16 << 10).expect("it takes a size");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
    (socket.listen(64).expect("it is bound"), TlsAcceptor::from(Arc::new(config)), trusted)
}

/// A listener of one's own: its `accept` hands out who has shaken hands.
struct TlsListener {
    ready: mpsc::Receiver<(server::TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    fn of(listener: TcpListener, acceptor: TlsAcceptor) -> Self {
        let (tell, ready) = mpsc::channel(64);
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((stream, address)) = listener.accept().await {
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = tell.send((stream, address)).await;
                    }
                });
            }
        });
        Self { ready, address }
    }
}

impl Listener for TlsListener {
    type Io = server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        self.ready.recv().await.expect("it accepts as long as this lives")
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Our server, with TLS.
struct Ours {
    tls: Tls,
    counters: Counters,
    stop: oneshot::Sender<()>,
    task: JoinHandle<ShutdownReport>,
}

impl Ours {
    fn serve(router: Router, options: impl FnOnce(Server<TlsListener>) -> Server<TlsListener>) -> Self {
        let (listener, acceptor, trusted) = bind();
        let listener = TlsListener::of(listener, acceptor);
        let tls = Tls { address: listener.address, trusted };
        let (stop, stopped) = oneshot::channel();
        let server = options(serve(listener, router)).shutdown_on(async { drop(stopped.await) });
        Self { tls, counters: server.counters(), stop, task: tokio::spawn(server.into_future()) }
    }
}

/// Joins a room, tells of the sender, and reads until the end.
fn room(channels: &ChannelBox, limits: OutboxLimits, tell: mpsc::UnboundedSender<Sender>) -> Router {
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade.outbox(limits).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell.send(channel.sender())?;
            channel.discard().await;
            Ok(())
        })
    };
    Router::new().route("/", get(route))
}

async fn next(client: &mut Client) -> Message {
    soon(client.next()).await.expect("the connection lives").expect("the protocol is kept")
}

#[tokio::test]
async fn messages_of_all_sizes_come_back_over_tls_and_pings_are_answered() {
    let tls = Tls::serve(Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)))).await;
    let mut client = tls.connect().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_sends_reach_all_over_tls_in_order_while_one_stalls() {
    const SENDS: u64 = 2000;
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let limits = OutboxLimits::default().max_bytes(1 << 20).max_messages(500).overflow(Overflow::DropOldest);
    let tls = Tls::serve(room(&channels, limits, tell)).await;
    let mut stalled = tls.connect().await;
    let stalled_sender = told(&mut tells).await;
    let mut readers = [tls.connect().await, tls.connect().await];
    told(&mut tells).await;
    told(&mut tells).await;
    for n in 0..SENDS {
        let mut payload = vec![0; 1000];
        payload[..8].copy_from_slice(&n.to_be_bytes());
        assert!(channels.group("room").send_frame(&Frame::binary(payload.clone())).is_accepted());
        for reader in &mut readers {
            assert!(next(reader).await == Message::binary(payload.clone()), "message {n}");
        }
        assert_adds_up(&stalled_sender, n + 1);
        assert!(stalled_sender.counts().waiting <= 500);
    }
    // It reads on, and has what was not dropped, in order.
    assert!(stalled_sender.close(CloseCode::NORMAL, "done"));
    let mut numbers = Vec::new();
    while let Message::Binary(payload) = next(&mut stalled).await {
        numbers.push(u64::from_be_bytes(payload[..8].try_into().expect("a number is in front")));
    }
    assert!(numbers.is_sorted_by(|a, b| a < b) && numbers.last() == Some(&(SENDS - 1)));
    let counts = stalled_sender.counts();
    assert!(counts.dropped > 0, "it never stalled");
    assert_eq!((counts.written, counts.dropped), (numbers.len() as u64, SENDS - numbers.len() as u64));
}

#[tokio::test]
async fn drained_waits_for_a_tls_client_that_stalls() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let tls = Tls::serve(room(&channels, OutboxLimits::default().max_bytes(32 << 20), tell)).await;
    let mut client = tls.connect().await;
    let sender = told(&mut tells).await;
    for _ in 0..16 {
        sender.send_bytes(vec![7; 1 << 20]).expect("there is room");
    }
    let stays = tokio::time::timeout(Duration::from_millis(200), sender.drained()).await;
    assert!(stays.is_err(), "nobody read");
    let reads = async {
        for _ in 0..16 {
            assert_eq!(next(&mut client).await.len(), 1 << 20);
        }
    };
    tokio::join!(reads, soon(sender.drained()));
    assert_eq!((sender.counts().written, sender.counts().waiting), (16, 0));
}

#[tokio::test]
async fn a_tls_client_that_vanishes_leaves_nothing() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let tls = Tls::serve(room(&channels, OutboxLimits::default(), tell)).await;
    let client = tls.connect().await;
    let sender = told(&mut tells).await;
    drop(client);
    soon(sender.closed()).await;
    until(|| channels.stats().channels + channels.stats().groups == 0).await;
}

/// Counts the writes of a server.
struct Counted<S> {
    inner: S,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, SeqCst);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_is_sent_together_goes_out_over_tls_in_one_write() {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let writes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&writes);
    let router = room(&channels, OutboxLimits::default(), tell);
    let tls = Tls::serve_through(router, move |inner| Counted { inner, writes: Arc::clone(&count) }).await;
    let mut client = tls.connect().await;
    told(&mut tells).await;
    let before = writes.load(SeqCst);
    // On the one thread of this test the connection's task runs when all have been sent.
    for n in 0..100 {
        assert!(channels.group("room").send_frame(&Frame::text(n.to_string())).is_accepted());
    }
    for n in 0..100 {
        assert_eq!(next(&mut client).await, Message::text(n.to_string()));
    }
    assert_eq!(writes.load(SeqCst) - before, 1);
}

#[tokio::test]
async fn a_tls_client_that_breaks_the_protocol_is_told_why() {
    let tls = Tls::serve(Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)))).await;
    let mut client = tls.connect().await;
    client.send(Message::binary(vec![0; (1 << 20) + 1])).await.expect("it is sent");
    let Message::Close(Some(close)) = next(&mut client).await else { panic!("a close is due") };
    assert_eq!(u16::from(close.code), 1009);
}

#[tokio::test]
async fn a_tls_client_that_breaks_the_protocol_and_ends_its_side_at_once_is_told_why() {
    let tls = Tls::serve(Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)))).await;
    let mut stream = tls.connect().await.into_inner();
    stream.write_all(&[0x81, 1, b'x']).await.expect("it is sent");
    stream.shutdown().await.expect("it is sent");
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert!(matches!(answer[..], [0x88, _, 0x03, 0xea, ..]), "not close 1002: {answer:?}");
}

// Through our own server.

#[tokio::test]
async fn our_server_takes_a_listener_of_tls_and_its_channels_know_their_clients() {
    let (tell, mut tells) = tells();
    let route = async move |upgrade: Upgrade| {
        upgrade.run(async move |channel: Channel| {
            tell.send(channel.peer_addr())?;
            echo(channel).await
        })
    };
    let ours = Ours::serve(Router::new().route("/", get(route)), |server| server);
    let mut client = ours.tls.connect().await;
    let address = client.get_ref().get_ref().0.local_addr().expect("it is connected");
    assert_eq!(told(&mut tells).await, Some(address));
    for len in [0, 125, 126, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; len]);
        client.send(message.clone()).await.expect("the connection lives");
        assert!(next(&mut client).await == message, "{len} bytes did not come back");
    }
    client.close(None).await.expect("the connection lives");
    assert!(matches!(next(&mut client).await, Message::Close(_)));
    assert!(soon(client.next()).await.is_none());
    until(|| ours.counters.open() == 0).await;
}

#[tokio::test]
async fn our_server_keeps_its_caps_and_deadlines_over_tls() {
    const SHORT: Duration = Duration::from_millis(200);
    let route = async |upgrade: Upgrade| upgrade.run(echo);
    let options = |server: Server<TlsListener>| server.max_connections_per_address(1).head_timeout(SHORT);
    let ours = Ours::serve(Router::new().route("/", get(route)), options);
    let start = Instant::now();
    let mut silent = ours.tls.stream().await;
    let mut refused = ours.tls.stream().await;
    let mut answer = String::new();
    soon(refused.read_to_string(&mut answer)).await.expect("it ends in order");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("from one address\n"), "{answer}");
    let _ = soon(silent.read_to_end(&mut Vec::new())).await;
    assert!(start.elapsed() >= SHORT);
    until(|| ours.counters.open() == 0).await;
    ours.tls.connect().await;
}

#[tokio::test]
async fn a_shutdown_over_tls_delivers_what_waits_then_1001_and_cuts_who_stalls() {
    const WAITING: usize = 32;
    let (tell, mut tells) = tells();
    let channels = ChannelBox::new();
    let router = room(&channels, OutboxLimits::default().max_bytes(64 << 20), tell);
    let ours = Ours::serve(router, |server| server.drain_timeout(Duration::from_secs(1)));
    let mut slow = ours.tls.connect().await;
    told(&mut tells).await;
    let _stalled = ours.tls.connect().await;
    let stalled_sender = told(&mut tells).await;
    let frame = Frame::binary(vec![7; 64 << 10]);
    for _ in 0..WAITING {
        assert!(channels.group("room").send_frame(&frame).is_accepted());
    }
    drop(ours.stop);
    for n in 0..WAITING {
        assert_eq!(next(&mut slow).await.len(), 64 << 10, "message {n}");
    }
    let Message::Close(Some(close)) = next(&mut slow).await else { panic!("a close is due") };
    assert_eq!(u16::from(close.code), 1001);
    // Without the end that TLS has of its own this would be an error.
    assert!(soon(slow.next()).await.is_none());
    let drained = soon(ours.task).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (1, 1));
    soon(stalled_sender.closed()).await;
    assert_adds_up(&stalled_sender, WAITING as u64);
    until(|| ours.counters.open() + channels.stats().channels == 0).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_goes_through_the_generic_path_alike() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("generic-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).expect("the folder can be written");
    let router = Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)));
    tokio::spawn(axum::serve(listener, router).into_future());
    let stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    std::fs::remove_file(&path).expect("it is ours");
    let (mut client, _) = soon(client_async("ws://localhost/", stream)).await.expect("the handshake is good");
    for len in [1, 70_000, 900_000] {
        client.send(Message::text("x".repeat(len))).await.expect("the connection lives");
        let echoed = soon(client.next()).await.expect("the connection lives").expect("the protocol is kept");
        assert_eq!(echoed.len(), len);
    }
    client.close(None).await.expect("the connection lives");
    assert!(matches!(soon(client.next()).await, Some(Ok(Message::Close(_)))));
    assert!(soon(client.next()).await.is_none());
}

#[tokio::test]
async fn a_burst_that_the_group_takes_closes_no_client_that_reads() {
    const SENDS: u32 = 4000;
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let tls = Tls::serve(room(&channels, OutboxLimits::default(), tell)).await;
    let mut clients = [tls.connect().await, tls.connect().await];
    let senders = [told(&mut tells).await, told(&mut tells).await];
    // Nobody else runs meanwhile: all of it is one turn's, and four times what an outbox has room for.
    for n in 0..SENDS {
        assert!(channels.group_send("room", &n).expect("it is JSON").is_accepted());
    }
    let read_all = async |client: &mut Client| {
        for n in 0..SENDS {
            assert_eq!(next(client).await, Message::text(n.to_string()));
        }
    };
    let [first, second] = &mut clients;
    tokio::join!(read_all(first), read_all(second));
    assert!(senders.iter().all(|sender| sender.counts().dropped == 0));
}
