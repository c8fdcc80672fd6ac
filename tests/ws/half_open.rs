//! Clients that vanish without a word: the network between carries nothing on, and says nothing of it.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, OutboxLimits, RecvError, Sender};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::{Counters, Upgrade, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::MANY_SOCKETS;
use crate::sockets::{PING, PONG, Raw, TEXT, echo, masked, soon, tells, told, until, upgrade};

const SILENCE: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(300);

/// A network between client and server, which can go dead: nothing is carried on, both sockets stay open.
struct Network {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
}

impl Network {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let dead = Arc::new(AtomicBool::new(false));
        let is_dead = Arc::clone(&dead);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.expect("it serves");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(carry(from_client, to_server, Arc::clone(&is_dead)));
                tokio::spawn(carry(from_server, to_client, Arc::clone(&is_dead)));
            }
        });
        Self { address, dead }
    }

    fn go_dead(&self) {
        self.dead.store(true, SeqCst);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_dead: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        if is_dead.load(SeqCst) {
            // Neither socket is closed, and nothing more is read: the sender's buffers fill.
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
    if is_dead.load(SeqCst) {
        // Not even the end of the stream gets through.
        std::future::pending::<()>().await;
    }
}

/// A server of ours whose channels join one room; it tells of their senders, and of how they were lost.
struct Room {
    channels: ChannelBox,
    counters: Counters,
    server: SocketAddr,
    network: Network,
    senders: UnboundedReceiver<Sender>,
    losses: UnboundedReceiver<bool>,
}

impl Room {
    async fn open(options: impl Fn(Upgrade) -> Upgrade + Clone + Send + Sync + 'static) -> Self {
        let channels = ChannelBox::new();
        let (tell_sender, senders) = tells();
        let (tell_loss, losses) = tells();
        let in_box = channels.clone();
        let handler = async move |mut channel: Channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell_sender.send(channel.sender())?;
            let end = loop {
                match channel.recv_message().await {
                    Some(Ok(_)) => {}
                    other => break other,
                }
            };
            tell_loss.send(matches!(end, Some(Err(RecvError::Lost(_)))))?;
            Ok(())
        };
        let route = get(async move |upgrade: Upgrade| options(upgrade).run(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let server = serve(listener, Router::new().route("/", route));
        let counters = server.counters();
        tokio::spawn(server.into_future());
        Self { channels, counters, server: address, network: Network::to(address).await, senders, losses }
    }

    async fn is_left(&self) {
        until(|| self.counters.open() == 0).await;
        assert_eq!((self.channels.stats().channels, self.channels.stats().groups), (0, 0));
    }
}

fn beating(upgrade: Upgrade) -> Upgrade {
    upgrade.heartbeat(SILENCE).heartbeat_timeout(ANSWER)
}

#[tokio::test]
async fn a_client_that_vanishes_is_lost_when_it_owes_a_pong_and_its_place_is_free_again() {
    let mut room = Room::open(beating).await;
    let mut client = Raw::connect(room.network.address).await;
    told(&mut room.senders).await;
    assert_eq!(client.frame().await, Some((PING, vec![])));
    client.send(PONG, b"").await;
    assert_eq!(client.frame().await, Some((PING, vec![])), "it has answered, and lives");
    client.send(PONG, b"").await;
    room.network.go_dead();
    let start = Instant::now();
    assert!(told(&mut room.losses).await, "it is lost");
    assert!(start.elapsed() < 10 * (2 * SILENCE + ANSWER), "{:?}", start.elapsed());
    room.is_left().await;
}

#[tokio::test]
async fn one_that_vanishes_while_it_is_sent_to_is_lost_as_well() {
    let options = |upgrade| beating(upgrade).outbox(OutboxLimits::default().max_bytes(64 << 20));
    let mut room = Room::open(options).await;
    let _client = Raw::connect(room.network.address).await;
    let sender = told(&mut room.senders).await;
    room.network.go_dead();
    // Far more than kernels take, so that no ping gets out either.
    let frame = Frame::binary(vec![7; 1 << 20]);
    for _ in 0..32 {
        assert!(room.channels.group("room").send_frame(&frame).is_accepted());
    }
    assert!(sender.counts().waiting > 0);
    assert!(told(&mut room.losses).await, "it is lost");
    let counts = sender.counts();
    assert_eq!((counts.waiting, counts.written + counts.dropped), (0, 32), "{counts:?}");
    room.is_left().await;
}

#[tokio::test]
async fn one_that_vanishes_in_the_middle_of_a_message_is_lost_as_well() {
    let mut room = Room::open(beating).await;
    let mut client = Raw::connect(room.network.address).await;
    told(&mut room.senders).await;
    let message = masked(0x80 | TEXT, &[b'x'; 1000]);
    client.send_bytes(&message[..500]).await;
    // The answer shows that the half message has come through.
    assert_eq!(client.frame().await, Some((PING, vec![])));
    room.network.go_dead();
    assert!(told(&mut room.losses).await, "it is lost");
    room.is_left().await;
}

#[tokio::test]
async fn one_that_vanishes_does_not_hold_up_its_close() {
    let mut room = Room::open(|upgrade| upgrade.heartbeat(None).idle_timeout(SILENCE)).await;
    let _client = Raw::connect(room.network.address).await;
    let sender = told(&mut room.senders).await;
    room.network.go_dead();
    let start = Instant::now();
    // The idle timeout closes it; its answer never comes.
    assert!(!told(&mut room.losses).await, "a close that we began is no loss");
    assert!(!sender.is_active());
    assert_eq!(room.channels.group("room").member_count(), 0, "it leaves its groups with the close");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn of_many_that_vanish_at_once_none_stays_and_the_others_do() {
    let _turn = MANY_SOCKETS.lock().await;
    let mut room = Room::open(beating).await;
    let mut vanishing = Vec::new();
    for _ in 0..50 {
        vanishing.push(Raw::connect(room.network.address).await);
        told(&mut room.senders).await;
    }
    let mut other = Raw::connect(room.server).await;
    told(&mut room.senders).await;
    let hears = tokio::spawn(async move {
        while let Some((opcode @ (PING | TEXT), payload)) = other.frame().await {
            if opcode == TEXT {
                return payload;
            }
            other.send(PONG, &payload).await;
        }
        panic!("it is lost, too")
    });
    room.network.go_dead();
    for _ in 0..50 {
        assert!(told(&mut room.losses).await);
    }
    until(|| room.channels.group("room").member_count() == 1).await;
    assert!(room.channels.group("room").send_frame(&Frame::text("still here")).is_accepted());
    assert_eq!(soon(hears).await.expect("no panic"), b"still here");
    room.is_left().await;
}

// Who does not even shake hands.

async fn ends(mut stream: TcpStream) -> Duration {
    let start = Instant::now();
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    start.elapsed()
}

#[tokio::test]
async fn a_handshake_has_its_deadline_at_every_point_of_it() {
    let route = get(async |upgrade: Upgrade| upgrade.run(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let server = serve(listener, Router::new().route("/", route)).head_timeout(SILENCE);
    let counters = server.counters();
    tokio::spawn(server.into_future());
    let whole = upgrade(address, "");
    let parts = [0, 1, whole.len() / 2, whole.len() - 2, whole.len() - 1];
    let mut waits = Vec::new();
    for part in parts {
        let mut stream = soon(TcpStream::connect(address)).await.expect("the port is open");
        stream.write_all(&whole.as_bytes()[..part]).await.expect("it is sent");
        waits.push(tokio::spawn(ends(stream)));
    }
    for wait in waits {
        let took = soon(wait).await.expect("no answer but a refusal");
        assert!(took < 20 * SILENCE, "{took:?}");
    }
    until(|| counters.open() == 0).await;
    assert_eq!(counters.accepted(), parts.len() as u64);
    // The deadline is over with the head: a channel lives on.
    let mut client = Raw::connect(address).await;
    tokio::time::sleep(2 * SILENCE).await;
    client.send(TEXT, b"still here").await;
    assert_eq!(client.frame().await, Some((TEXT, b"still here".into())));
}
