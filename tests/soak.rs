//! Everything at once for a while: a thousand clients that come, go, break off, stall and read on, while
//! groups of every overflow rule are sent to all the time.
//!
//! What must hold: what a client receives is in order and comes once; what was sent to it is what it
//! received and what was dropped, to the message; and when all have gone, nothing is left of them.
//!
//! It is a test of its own process, since it counts descriptors, tasks and memory, and one that runs for
//! five seconds wherever the others run, so that it never rots; `FANFARE_SOAK_SECONDS` makes it longer,
//! `FANFARE_SOAK_SEED` another one.

#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "tests")]

mod sockets;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::Dispatcher;
use fanfare::channel::{Channel, OutboxLimits, Overflow, Sender};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, GroupOptions};
use fanfare::ws::{HANDLER_FAILED, Upgrade};
use sockets::{BINARY, CLOSE, PING, PONG, Raw, TEXT, serve_router, soon, until};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The groups, by what happens to a slow member.
const GROUPS: [&str; 5] = ["close", "newest", "oldest", "latest", "delayed"];
const CONNECTIONS: usize = 1000;
/// The time between two sends of one task; two tasks send to each group.
const PACE: Duration = Duration::from_millis(50);
const PAYLOAD: usize = 500;
/// What may be left in memory by the allocator and what it has cut into pieces, whatever the time.
const MEMORY_LEFT: usize = 32 << 20;

fn options_of(group: &str) -> GroupOptions {
    let options = GroupOptions::default();
    match group {
        "close" => options.overflow(Overflow::Close),
        "newest" => options.overflow(Overflow::DropNewest),
        "oldest" => options.overflow(Overflow::DropOldest),
        "latest" => options.overflow(Overflow::Conflate),
        _ => options.overflow(Overflow::DropNewest).write_delay(Duration::from_millis(20)),
    }
}

/// The groups of a connection: one or two.
fn groups_of(connection: u64) -> impl Iterator<Item = usize> {
    let (first, second) = (connection % 5, connection / 5 % 5);
    [Some(first), (first != second).then_some(second)].into_iter().flatten().map(|group| group as usize)
}

/// What the server knows.
struct Server {
    channels: ChannelBox,
    /// Messages sent to each group. Locked for a send and for a join: what a member gets is known exactly.
    sent: [Mutex<u64>; GROUPS.len()],
    members: Mutex<HashMap<u64, Arc<Member>>>,
}

/// One connection, as the server sees it.
struct Member {
    sender: Sender,
    /// Its groups, and what was sent to them before it came.
    joined: Vec<(usize, u64)>,
    /// Messages to it alone.
    direct: AtomicU64,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            channels: ChannelBox::builder().groups(options_of).build(),
            sent: Default::default(),
            members: Mutex::default(),
        })
    }

    async fn serve(self: Arc<Self>) -> SocketAddr {
        let events = Dispatcher::new();
        // Clients that break off fail their handlers: that is what they are for.
        events.on(HANDLER_FAILED, |failed| assert!(!failed.is_panic(), "{failed}")).expect("the key is good");
        let route = async move |upgrade: Upgrade| {
            let limits = OutboxLimits::default().max_bytes(64 << 10).max_messages(32).overflow(Overflow::DropNewest);
            let upgrade = upgrade.events(&events).send_buffer_size(4096).outbox(limits);
            upgrade.run(async move |channel| self.handle(channel).await)
        };
        serve_router(Router::new().route("/", get(route))).await
    }

    /// Takes a client's number, joins its groups, and sends back what it says.
    async fn handle(&self, mut channel: Channel) -> Result<(), fanfare::Error> {
        let Some(number) = channel.recv::<u64>().await else { return Ok(()) };
        let number = number?;
        let (mut joined, mut memberships) = (Vec::new(), Vec::new());
        for group in groups_of(number) {
            let sent = self.sent[group].lock().expect("no panic");
            memberships.push(self.channels.join(&channel, GROUPS[group])?);
            joined.push((group, *sent));
        }
        let member = Arc::new(Member { sender: channel.sender(), joined, direct: AtomicU64::new(0) });
        self.members.lock().expect("no panic").insert(number, Arc::clone(&member));
        member.direct.fetch_add(1, SeqCst);
        channel.send_text("joined")?;
        while let Some(text) = channel.recv_text().await {
            let text = text?;
            member.direct.fetch_add(1, SeqCst);
            // It may be dropped: that is counted, too.
            let _ = channel.send_text(text);
        }
        Ok(())
    }

    /// Sends to one group until it is over.
    async fn send(self: Arc<Self>, group: usize, over: watch::Receiver<bool>) {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*over.borrow() {
            pace.tick().await;
            let report = {
                let mut sent = self.sent[group].lock().expect("no panic");
                let mut payload = vec![group as u8; PAYLOAD];
                payload[1..9].copy_from_slice(&(*sent + 1).to_be_bytes());
                let report = self.channels.group(GROUPS[group]).send_frame(&Frame::binary(payload));
                *sent += u64::from(report.is_accepted());
                report
            };
            soon(report.settled()).await;
        }
    }

    fn member(&self, number: u64) -> Arc<Member> {
        let members = self.members.lock().expect("no panic");
        Arc::clone(members.get(&number).expect("it has joined"))
    }
}

/// What the clients did, together.
#[derive(Default)]
struct Totals {
    connections: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
    /// How they ended.
    closed: AtomicU64,
    reset: AtomicU64,
    overflowed: AtomicU64,
    stalls: AtomicU64,
}

/// A client that connects again and again.
struct Player {
    address: SocketAddr,
    server: Arc<Server>,
    totals: Arc<Totals>,
    over: watch::Receiver<bool>,
    random: Random,
}

/// How a connection came to its end.
enum End {
    Over,
    Again,
}

impl Player {
    async fn play(mut self) {
        while !*self.over.borrow() {
            if let End::Over = self.connect_once().await {
                return;
            }
        }
    }

    async fn connect_once(&mut self) -> End {
        let number = self.totals.connections.fetch_add(1, SeqCst);
        let mut client = Raw::connect_small(self.address).await;
        client.send(TEXT, number.to_string().as_bytes()).await;
        let mut seen = Seen::default();
        // What the groups say may come before it.
        while seen.direct == 0 {
            let (opcode, payload) = client.frame().await.expect("the connection lives");
            assert_eq!(seen.take(opcode, &payload), None, "closed at once");
        }
        let member = self.server.member(number);
        let end = self.live(&mut client, &mut seen, &member).await;
        self.server.members.lock().expect("no panic").remove(&number);
        self.totals.received.fetch_add(seen.received, SeqCst);
        self.totals.dropped.fetch_add(member.sender.counts().dropped, SeqCst);
        match end {
            Some(end) => end,
            None => {
                client.reset();
                self.totals.reset.fetch_add(1, SeqCst);
                End::Again
            }
        }
    }

    /// Reads, and now and then does something else. `None` when the connection is to be broken off.
    async fn live(&mut self, client: &mut Raw, seen: &mut Seen, member: &Member) -> Option<End> {
        let mut next = self.random.soon();
        loop {
            let frame = tokio::select! {
                frame = client.frame() => frame,
                () = told(self.over.clone()) => {
                    self.verify_all(client, seen, member).await;
                    return Some(End::Over);
                }
                () = tokio::time::sleep_until(next) => {
                    if let Some(end) = self.act(client, seen, member).await {
                        return end;
                    }
                    // Time to catch up: who stalls for longer than a close may take is cut off.
                    next = self.random.soon() + Duration::from_secs(2);
                    continue;
                }
            };
            let Some((opcode, payload)) = frame else {
                panic!("the server ended it without a close: {:?}", member.sender.counts());
            };
            if let Some(code) = seen.take(opcode, &payload) {
                assert_eq!(code, 1013);
                self.totals.overflowed.fetch_add(1, SeqCst);
                client.send(CLOSE, &payload).await;
                seen.verify_end(member).await;
                return Some(End::Again);
            }
        }
    }

    /// Does one thing that clients do besides reading; how that ended the connection, as `live` says.
    async fn act(&mut self, client: &mut Raw, seen: &mut Seen, member: &Member) -> Option<Option<End>> {
        match self.random.below(10) {
            0 => return Some(None),
            1 => {
                self.close(client, seen, member).await;
                return Some(Some(End::Again));
            }
            2..=4 => {
                self.totals.stalls.fetch_add(1, SeqCst);
                let until = self.random.soon() + Duration::from_secs(2);
                let _ = tokio::time::timeout_at(until, told(self.over.clone())).await;
            }
            5..=7 => client.send(PING, b"?").await,
            _ => client.send(TEXT, seen.said().to_string().as_bytes()).await,
        }
        None
    }

    /// Closes as a client does: all that was written to it before comes before the answer.
    async fn close(&self, client: &mut Raw, seen: &mut Seen, member: &Member) {
        client.send(CLOSE, &1000u16.to_be_bytes()).await;
        loop {
            let (opcode, payload) = client.frame().await.expect("a close is answered");
            if let Some(code) = seen.take(opcode, &payload) {
                assert!(code == 1000 || code == 1013, "{code}");
                break;
            }
        }
        seen.verify_end(member).await;
        self.totals.closed.fetch_add(1, SeqCst);
    }

    /// Nothing more is sent: reads all that is left, and checks it against what was.
    async fn verify_all(&self, client: &mut Raw, seen: &mut Seen, member: &Member) {
        let drained = member.sender.drained();
        tokio::pin!(drained);
        let mut is_drained = false;
        // One that is being closed for reading too slowly has its close still to come.
        while !is_drained || seen.received < member.sender.counts().written || !member.sender.is_active() {
            tokio::select! {
                () = &mut drained, if !is_drained => is_drained = true,
                frame = client.frame() => {
                    let (opcode, payload) = frame.expect("what was written comes");
                    if seen.take(opcode, &payload).is_some() {
                        self.totals.overflowed.fetch_add(1, SeqCst);
                        client.send(CLOSE, &payload).await;
                        return seen.verify_end(member).await;
                    }
                }
            }
        }
        let counts = member.sender.counts();
        let of_groups = member.joined.iter().map(|(group, before)| {
            let sent = self.server.sent[*group].lock().expect("no panic");
            *sent - before
        });
        let sent = of_groups.sum::<u64>() + member.direct.load(SeqCst);
        assert_eq!((seen.received, counts.waiting), (counts.written, 0));
        assert_eq!(seen.received + counts.dropped, sent, "of what was sent to {:?}", member.joined);
        self.close(client, seen, member).await;
    }
}

/// Waits until it is over.
async fn told(mut over: watch::Receiver<bool>) {
    over.wait_for(|over| *over).await.expect("the test holds the other end");
}

/// What one connection has received.
#[derive(Default)]
struct Seen {
    received: u64,
    direct: u64,
    /// The last number of each group.
    last: [u64; GROUPS.len()],
    said: u64,
    echoed: u64,
}

impl Seen {
    /// Takes a frame, and returns the code of a close.
    fn take(&mut self, opcode: u8, payload: &[u8]) -> Option<u16> {
        match opcode {
            BINARY => {
                let group = usize::from(payload[0]);
                let number = u64::from_be_bytes(payload[1..9].try_into().expect("a number is in front"));
                assert!(payload.len() == PAYLOAD && number > self.last[group], "out of order, or twice");
                (self.last[group], self.received) = (number, self.received + 1);
            }
            TEXT if self.direct == 0 => {
                assert_eq!(payload, b"joined");
                (self.direct, self.received) = (1, self.received + 1);
            }
            TEXT => {
                let echo: u64 = std::str::from_utf8(payload).expect("it is text").parse().expect("it is a number");
                assert!(echo > self.echoed && echo <= self.said, "out of order, or twice");
                (self.echoed, self.direct, self.received) = (echo, self.direct + 1, self.received + 1);
            }
            PING | PONG => {}
            CLOSE => return Some(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("opcode {other}"),
        }
        None
    }

    /// Returns what to say next.
    fn said(&mut self) -> u64 {
        self.said += 1;
        self.said
    }

    /// The close has come: nothing that was written is missing before it.
    async fn verify_end(&self, member: &Member) {
        soon(member.sender.closed()).await;
        let counts = member.sender.counts();
        assert_eq!((counts.waiting, counts.written), (0, self.received));
    }
}

/// Marsaglia's xorshift: the same from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Returns a time within the next two seconds.
    fn soon(&mut self) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_millis(1 + self.below(2000))
    }
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number is asked for"))
}

fn proc_line(file: &str, name: &str) -> usize {
    let text = std::fs::read_to_string(file).expect("it is Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is listed");
    let number = line.split_whitespace().next().expect("it has a value");
    number.parse().unwrap_or(usize::MAX)
}

fn resident() -> usize {
    proc_line("/proc/self/status", "VmRSS:") << 10
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it is Linux").count()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("it starts")
}

#[test]
fn all_at_once_for_a_while_is_in_order_adds_up_and_leaves_nothing() {
    let seconds = from_environment("FANFARE_SOAK_SECONDS", 5);
    let seed = from_environment("FANFARE_SOAK_SEED", 1);
    let may_open = proc_line("/proc/self/limits", "Max open files");
    let connections = CONNECTIONS.min(may_open.saturating_sub(100) / 2);
    if connections < CONNECTIONS {
        println!("soak: {connections} connections instead of {CONNECTIONS}, since {may_open} files may be open");
    }
    // Two runtimes, so that the server's tasks are counted alone.
    let (at_server, at_clients) = (runtime(), runtime());
    let server = Server::new();
    let address = at_server.block_on(at_server.spawn(Arc::clone(&server).serve())).expect("no panic");
    let totals = Arc::new(Totals::default());
    let (tell_senders, senders_over) = watch::channel(false);
    let (tell_clients, clients_over) = watch::channel(false);
    let before = (at_server.metrics().num_alive_tasks(), descriptors(), resident());

    let mut senders = JoinSet::new();
    for group in (0..GROUPS.len()).chain(0..GROUPS.len()) {
        senders.spawn_on(Arc::clone(&server).send(group, senders_over.clone()), at_server.handle());
    }
    let mut players = JoinSet::new();
    for number in 0..connections as u64 {
        let player = Player {
            address,
            server: Arc::clone(&server),
            totals: Arc::clone(&totals),
            over: clients_over.clone(),
            random: Random(seed << 32 | (number + 1)),
        };
        players.spawn_on(player.play(), at_clients.handle());
    }
    let start = Instant::now();
    let peak = at_clients.block_on(async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut peak = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            tokio::select! {
                // None ends before it is told to, but by a panic.
                Some(ended) = players.join_next() => ended.expect("no client sees anything wrong"),
                _ = second.tick() => peak = peak.max(resident()),
            }
        }
        tell_senders.send_replace(true);
        while let Some(ended) = senders.join_next().await {
            ended.expect("no sender sees anything wrong");
        }
        tell_clients.send_replace(true);
        while let Some(ended) = players.join_next().await {
            ended.expect("no client sees anything wrong");
        }
        until(|| server.channels.stats().channels + server.channels.stats().groups == 0).await;
        until(|| at_server.metrics().num_alive_tasks() <= before.0 && descriptors() <= before.1).await;
        peak
    });

    let total = |count: &AtomicU64| count.load(SeqCst);
    println!(
        "soak: {seconds} s, seed {seed}: {} connections ({} at a time), {} closed, {} broken off, {} closed for \
         reading too slowly; {} stalls; {} messages received, {} dropped; memory {} MiB, {} at the most, {} after",
        total(&totals.connections),
        connections,
        total(&totals.closed),
        total(&totals.reset),
        total(&totals.overflowed),
        total(&totals.stalls),
        total(&totals.received),
        total(&totals.dropped),
        before.2 >> 20,
        peak >> 20,
        resident() >> 20,
    );
    assert!(server.members.lock().expect("no panic").is_empty());
    assert!(total(&totals.reset) > 0 && total(&totals.closed) > 0 && total(&totals.stalls) > 0);
    assert!(total(&totals.dropped) > 0 && total(&totals.overflowed) > 0, "nobody was slow enough");
    assert!(resident() <= before.2 + MEMORY_LEFT, "memory is kept");
}
