//! Clients that are cut off again and again while messages flow: each ends with all of them, once and in order, or
//! was told what it lacks.
//!
//! A tenth of the size by default; the environment variable `FANFARE_RECOVERY=full` makes it 200 clients, each cut 20
//! times, and 10 000 messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Recover, Since};
use fanfare::ws::Upgrade;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::ONE_AT_A_TIME;
use crate::sockets::{serve_router, soon, until};

/// What the history keeps: less than is sent, so that who stays away for long is told so.
const KEPT: usize = 200;
const CUTS: usize = 20;

struct Size {
    clients: usize,
    messages: u64,
}

fn size() -> Size {
    match std::env::var("FANFARE_RECOVERY").as_deref() {
        Ok("full") => Size { clients: 200, messages: 10_000 },
        _ => Size { clients: 20, messages: 2_000 },
    }
}

async fn room(upgrade: Upgrade, recover: Recover, State(channels): State<ChannelBox>) -> Response {
    let since = Since::missed(recover.position("room"), 0);
    upgrade.run(async move |mut channel| {
        let (_membership, _) = channels.group("room").join_since(&channel, since)?;
        channel.discard().await;
        Ok(())
    })
}

/// A network that cuts each connection after as many bytes as it draws: in the middle of a frame, by an end or a reset.
async fn network(server: SocketAddr, most_bytes: u64) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let cuts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cuts);
    let mut random = Random(7);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (budget, resets) = (200 + random.below(most_bytes), random.below(2) == 0);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let server = TcpStream::connect(server).await.expect("it serves");
                if carry(client, server, budget, resets).await {
                    count.fetch_add(1, SeqCst);
                }
            });
        }
    });
    (address, cuts)
}

/// Carries until one side ends, or the budget for the client does: then true.
async fn carry(mut client: TcpStream, mut server: TcpStream, mut budget: u64, resets: bool) -> bool {
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(n @ 1..) if server.write_all(&up[..n]).await.is_ok() => {}
                _ => return false,
            },
            read = server.read(&mut down) => match read {
                Ok(n @ 1..) => {
                    let part = budget.min(n as u64);
                    budget -= part;
                    if client.write_all(&down[..part as usize]).await.is_err() {
                        return false;
                    }
                    if budget == 0 {
                        if resets {
                            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                        }
                        return true;
                    }
                }
                _ => return false,
            },
        }
    }
}

/// Splitmix: the same run each time, as far as threads allow.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// What one client has seen, over all its connections.
#[derive(Debug, Default)]
struct Seen {
    position: Option<Position>,
    messages: u64,
    connections: usize,
    recovered: usize,
    /// Messages that it was told it lacks.
    told_missing: u64,
}

impl Seen {
    /// Takes note of a message; panics at a gap that it was not told of, and at a duplicate.
    fn take(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().unwrap_or_else(|| panic!("{name} in {message}"));
        if message["type"] == "joined" {
            let joined = Position { epoch: number("epoch"), offset: number("offset") };
            match self.position {
                Some(before) if message["recovered"] == true => {
                    assert_eq!(before.epoch, joined.epoch);
                    assert_eq!(number("replayed"), joined.offset - before.offset);
                    self.recovered += 1;
                }
                before => {
                    assert_eq!(number("replayed"), 0);
                    self.told_missing += before.map_or(0, |before| joined.offset - before.offset);
                    self.position = Some(joined);
                }
            }
            return;
        }
        let position = self.position.as_mut().expect("the first that it hears is how its join went");
        assert_eq!(number("offset"), position.offset + 1, "a message is missing, or came twice");
        assert_eq!(number("number"), position.offset, "another message has this offset");
        position.offset += 1;
        self.messages += 1;
    }
}

/// Connects and reads until it has the last message, which it is told of when all are sent.
async fn client(network: SocketAddr, sent: watch::Receiver<u64>, last: u64, mut random: Random) -> Seen {
    let mut seen = Seen::default();
    while seen.position.is_none_or(|position| position.offset < last) {
        seen.connections += 1;
        if seen.connections.is_multiple_of(10) {
            // Away for longer than the history goes back, if so much is sent still.
            let back = (*sent.borrow() + KEPT as u64 + 100).min(last);
            soon(sent.clone().wait_for(|sent| *sent >= back)).await.expect("somebody sends");
        }
        let recover = seen.position.map_or_else(String::new, |position| {
            format!("?recover=%7B%22room%22:[{},{}]%7D", position.epoch, position.offset)
        });
        let Ok((mut socket, _)) = connect_async(format!("ws://{network}/{recover}")).await else { continue };
        // Most stay as long as they can; some go by themselves.
        let stay = if random.below(4) == 0 { random.below(500) } else { u64::MAX };
        let mut heard = 0;
        while heard < stay
            && seen.position.is_none_or(|position| position.offset < last)
            && let Some(Ok(Message::Text(text))) = soon(socket.next()).await
        {
            heard += 1;
            seen.take(&serde_json::from_str(&text).expect("json"));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_misses_nothing_or_is_told() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Size { clients, messages } = size();
    let limits = HistoryLimits::default().max_messages(KEPT);
    let channels = ChannelBox::builder().groups(move |_| GroupOptions::default().history(limits)).build();
    let router = Router::new().route("/", get(room)).with_state(channels.clone());
    let server = serve_router(router).await;
    // About as long as a cut for every twentieth of what a client receives.
    let (network, cuts) = network(server, messages * 90 / CUTS as u64).await;
    let (told, sent) = watch::channel(0);
    let finished = Arc::new(AtomicU64::new(0));
    let running: Vec<_> = (0..clients)
        .map(|number| tokio::spawn(client(network, sent.clone(), messages, Random(number as u64))))
        .collect();
    until(|| channels.group("room").member_count() == clients).await;
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    for number in 0..messages {
        if number.is_multiple_of(8) {
            tick.tick().await;
        }
        let message = serde_json::json!({"number": number, "text": "x".repeat((number % 40) as usize)});
        assert!(channels.group_send("room", &message).expect("json").is_accepted());
        told.send_replace(number + 1);
    }
    let mut all = Seen::default();
    let mut fewest = usize::MAX;
    for running in running {
        let seen = soon(running).await.expect("no client finds a gap");
        all.messages += seen.messages;
        all.connections += seen.connections;
        all.recovered += seen.recovered;
        all.told_missing += seen.told_missing;
        fewest = fewest.min(seen.connections);
        // From its first join on, each message was received, or it was told.
        assert!(seen.messages + seen.told_missing >= messages, "{seen:?}");
        finished.fetch_add(1, SeqCst);
    }
    println!(
        "{clients} clients, {messages} messages: {} connections (at least {fewest} each), {} cut by the network, \
         {} recovered, {} messages received, {} told missing, 0 missing or twice without a word",
        all.connections,
        cuts.load(SeqCst),
        all.recovered,
        all.messages,
        all.told_missing
    );
    assert_eq!(all.messages + all.told_missing, clients as u64 * messages);
    assert!(all.recovered > clients * CUTS / 2, "most come back in time");
    assert!(all.told_missing > 0, "some stay away for too long");
}
