//! How our server ends while clients read slowly, or not at all, and while handlers fail.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::Dispatcher;
use fanfare::channel::{Channel, OutboxLimits, Sender};
use fanfare::frame::Frame;
use fanfare::group::ChannelBox;
use fanfare::ws::{Counters, HANDLER_FAILED, ShutdownReport, Upgrade, serve};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::sockets::{BINARY, CLOSE, Raw, TEXT, assert_adds_up, masked, soon, tells, told, until};

const PAYLOAD: usize = 32 << 10;
const WAITING: usize = 64;

struct Running {
    address: SocketAddr,
    counters: Counters,
    stop: oneshot::Sender<()>,
    task: JoinHandle<ShutdownReport>,
}

impl Running {
    async fn start(router: Router, drain_timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, router).drain_timeout(drain_timeout).shutdown_on(async { drop(stopped.await) });
        Self { address, counters: server.counters(), stop, task: tokio::spawn(server.into_future()) }
    }

    async fn drained(self) -> ShutdownReport {
        drop(self.stop);
        soon(self.task).await.expect("the server does not panic")
    }
}

/// Joins a room and reads until the end; far more may wait for it than the kernel takes.
fn room(channels: &ChannelBox, tell: mpsc::UnboundedSender<Sender>) -> Router {
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        let wide = OutboxLimits::default().max_bytes(64 << 20);
        upgrade.outbox(wide).send_buffer_size(16 << 10).run(async move |mut channel: Channel| {
            let _membership = in_box.join(&channel, "room")?;
            tell.send(channel.sender())?;
            channel.discard().await;
            Ok(())
        })
    };
    Router::new().route("/", get(route))
}

/// A room in which much waits for its one client, who has read nothing yet.
async fn waiting(drain_timeout: Duration) -> (Running, ChannelBox, Raw, Sender) {
    let channels = ChannelBox::new();
    let (tell, mut tells) = tells();
    let server = Running::start(room(&channels, tell), drain_timeout).await;
    let client = Raw::connect_small(server.address).await;
    let sender = told(&mut tells).await;
    for n in 0..WAITING {
        assert!(channels.group("room").send_frame(&Frame::binary(vec![n as u8; PAYLOAD])).is_accepted());
    }
    assert!(sender.counts().waiting > WAITING / 2, "{:?}", sender.counts());
    (server, channels, client, sender)
}

#[tokio::test]
async fn a_client_that_reads_slowly_has_all_that_waits_before_its_1001() {
    let (server, channels, mut client, sender) = waiting(Duration::from_secs(20)).await;
    drop(server.stop);
    until(|| !sender.is_active()).await;
    assert!(sender.send_text("too late").is_err());
    let mut pace = tokio::time::interval(Duration::from_micros(500));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for n in 0..WAITING {
        let (opcode, payload) = client.frame_within(&mut pace).await.expect("it lives");
        assert!((opcode, payload.len()) == (BINARY, PAYLOAD) && payload[0] == n as u8, "message {n}");
        assert!(!server.task.is_finished(), "the server did not wait for it");
    }
    assert_eq!(client.close_code().await, Some(1001));
    client.send(CLOSE, &1001_u16.to_be_bytes()).await;
    assert_eq!(client.frame().await, None);
    let drained = soon(server.task).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (1, 0));
    let counts = sender.counts();
    assert_eq!((counts.written, counts.waiting, counts.dropped), (WAITING as u64, 0, 1), "one was too late");
    until(|| channels.stats().channels == 0).await;
}

#[tokio::test]
async fn a_client_that_stalls_is_cut_off_when_the_time_is_up_and_what_waited_is_counted_as_dropped() {
    const DRAIN: Duration = Duration::from_millis(300);
    let (server, channels, mut client, sender) = waiting(DRAIN).await;
    let counters = server.counters.clone();
    let start = Instant::now();
    let drained = server.drained().await;
    let took = start.elapsed();
    assert!((DRAIN..10 * DRAIN).contains(&took), "{took:?}");
    assert_eq!((drained.ended, drained.cut), (0, 1));
    soon(sender.closed()).await;
    assert_adds_up(&sender, WAITING as u64);
    assert!(sender.counts().dropped > 0 && sender.counts().waiting == 0, "{:?}", sender.counts());
    until(|| counters.open() + channels.stats().channels + channels.stats().groups == 0).await;
    // What the kernel had is there still; no close is: it had to wait behind the rest.
    while let Some((opcode, _)) = client.frame().await {
        assert_eq!(opcode, BINARY);
    }
}

#[tokio::test]
async fn a_handler_that_fails_under_our_server_is_an_event_and_its_place_is_free_again() {
    let events = Dispatcher::new();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&failures);
    let _listening = events.on(HANDLER_FAILED, move |failed| {
        heard.lock().expect("no panic").push((failed.is_panic(), failed.peer_addr()));
    });
    let route = async move |upgrade: Upgrade| {
        upgrade.events(&events).run(async |mut channel: Channel| {
            while let Some(received) = channel.recv_text().await {
                match &*received? {
                    "panic" => panic!("on purpose"),
                    "fail" => return Err("on purpose".into()),
                    text => channel.send_text(text)?,
                }
            }
            // The shutdown has closed it: now this falls over its own feet.
            panic!("on purpose, at the end")
        })
    };
    let server = Running::start(Router::new().route("/", get(route)), Duration::from_secs(20)).await;
    let mut bystander = Raw::connect(server.address).await;
    for (word, is_panic) in [("panic", true), ("fail", false), ("panic", true)] {
        let mut client = Raw::connect(server.address).await;
        let address = client.stream.local_addr().expect("it is connected");
        client.send(TEXT, word.as_bytes()).await;
        assert_eq!(client.close_code().await, Some(1011));
        assert_eq!(failures.lock().expect("no panic").pop(), Some((is_panic, Some(address))));
        drop(client);
        until(|| server.counters.open() == 1).await;
        bystander.send(TEXT, b"still here").await;
        assert_eq!(bystander.frame().await, Some((TEXT, b"still here".into())));
    }
    let address = bystander.stream.local_addr().expect("it is connected");
    drop(server.stop);
    assert_eq!(bystander.close_code().await, Some(1001), "said before it failed");
    bystander.send_bytes(&masked(0x80 | CLOSE, &1001_u16.to_be_bytes())).await;
    let drained = soon(server.task).await.expect("the server does not panic");
    assert_eq!((drained.ended, drained.cut), (1, 0));
    assert_eq!(*failures.lock().expect("no panic"), [(true, Some(address))]);
}
