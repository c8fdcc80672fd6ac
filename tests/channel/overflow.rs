//! Clients that stall and read on, by every rule of what is to be dropped: what arrives, what is counted, what waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare::channel::{CloseCode, OutboxLimits, Overflow, SendError, Sender};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, Delivery, GroupOptions};
use fanfare::ws::Upgrade;

use crate::sockets::{BINARY, CLOSE, PING, PONG, Raw, TEXT, assert_adds_up, serve_router, soon, tells, told, until};

/// What may wait for a client in these tests.
const BYTES: usize = 100_000;
/// The size of the messages.
const SIZE: usize = 1000;
/// So many do not fit in the sockets' buffers and the outbox together.
const MANY: u64 = 3000;

/// A stalled client of a server whose channels have `rule` and whose groups have what `options` say.
async fn stalled(rule: Overflow, options: fn(&str) -> GroupOptions) -> (Raw, Sender, ChannelBox) {
    let channels = ChannelBox::builder().groups(options).build();
    let (tell, mut tells) = tells();
    let in_box = channels.clone();
    let route = async move |upgrade: Upgrade| {
        upgrade
            .send_buffer_size(4096)
            .outbox(OutboxLimits::default().max_bytes(BYTES).max_messages(80).overflow(rule))
            .run(async move |mut channel| {
                let _memberships = (in_box.join(&channel, "room")?, in_box.join(&channel, "other")?);
                tell.send(channel.sender())?;
                channel.discard().await;
                Ok(())
            })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    let client = Raw::connect_small(address).await;
    (client, told(&mut tells).await, channels)
}

fn numbered(n: u64) -> Frame {
    let mut payload = vec![0; SIZE];
    payload[..8].copy_from_slice(&n.to_be_bytes());
    Frame::binary(payload)
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().expect("a number is in front"))
}

/// Reads on until the server closes: the numbers of the messages, and its code.
async fn read_on(client: &mut Raw) -> (Vec<u64>, Option<u16>) {
    let mut numbers = Vec::new();
    while let Some((opcode, payload)) = client.frame().await {
        match opcode {
            BINARY => numbers.push(number(&payload)),
            CLOSE => return (numbers, Some(u16::from_be_bytes([payload[0], payload[1]]))),
            _ => {}
        }
    }
    (numbers, None)
}

/// Checks that what arrived came in order, once, and is all that was not dropped.
fn assert_exact(numbers: &[u64], sender: &Sender, sent: u64) {
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice: {numbers:?}");
    let counts = sender.counts();
    assert_eq!((counts.waiting, counts.waiting_bytes), (0, 0));
    assert_eq!((counts.written, counts.dropped), (numbers.len() as u64, sent - numbers.len() as u64));
}

/// Sends many to the stalled client, and checks at each that it adds up and stays in its bounds.
fn send_many(sender: &Sender, send: impl Fn(&Frame)) {
    for n in 0..MANY {
        send(&numbered(n));
        assert_adds_up(sender, n + 1);
        let counts = sender.counts();
        assert!(counts.waiting_bytes <= BYTES && counts.waiting <= 80, "{counts:?}");
    }
}

/// Sends numbered messages until `waiting` of them wait, and go on waiting: how many that took.
async fn fill(sender: &Sender, waiting: usize) -> u64 {
    let mut sent = 0;
    loop {
        while sender.counts().waiting < waiting {
            sender.send_frame(&numbered(sent)).expect("there is room");
            sent += 1;
        }
        // The kernel moves some on to the client's side, until that is full too.
        let moves = until(|| sender.counts().waiting < waiting);
        if tokio::time::timeout(Duration::from_millis(300), moves).await.is_err() {
            return sent;
        }
    }
}

/// What arrived: how many from the first on without a gap, and how many up to the last without one.
fn head_and_tail(numbers: &[u64]) -> (usize, usize) {
    let head = numbers.iter().zip(0..).take_while(|(n, expected)| *n == expected).count();
    let tail = numbers.iter().rev().zip((0..MANY).rev()).take_while(|(n, expected)| *n == expected).count();
    (head, tail)
}

#[tokio::test]
async fn drop_newest_keeps_the_first_without_a_gap() {
    let (mut client, sender, _channels) = stalled(Overflow::DropNewest, |_| GroupOptions::default()).await;
    send_many(&sender, |frame| match sender.send_frame(frame) {
        Ok(()) | Err(SendError::Full) => {}
        Err(error) => panic!("{error}"),
    });
    assert!(sender.close(CloseCode::new(4000), "done"));
    let (numbers, code) = read_on(&mut client).await;
    assert_eq!((head_and_tail(&numbers), code), ((numbers.len(), 0), Some(4000)));
    assert_exact(&numbers, &sender, MANY);
}

#[tokio::test]
async fn drop_oldest_keeps_the_last_without_a_gap() {
    let (mut client, sender, _channels) = stalled(Overflow::DropOldest, |_| GroupOptions::default()).await;
    send_many(&sender, |frame| sender.send_frame(frame).expect("there is always room for the newest"));
    assert!(sender.close(CloseCode::new(4000), "done"));
    let (numbers, code) = read_on(&mut client).await;
    let (head, tail) = head_and_tail(&numbers);
    assert_eq!((head + tail, code), (numbers.len(), Some(4000)), "one gap, in the middle");
    assert!((78..=80).contains(&tail), "{tail}");
    assert_exact(&numbers, &sender, MANY);
}

#[tokio::test]
async fn close_drops_what_waits_and_the_client_reads_why() {
    let (mut client, sender, channels) = stalled(Overflow::Close, |_| GroupOptions::default()).await;
    let refused = (0..MANY).map(|n| sender.send_frame(&numbered(n)));
    let outcomes: Vec<_> = refused.collect();
    let taken = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!(matches!(outcomes[taken], Err(SendError::Overflow)));
    assert!(outcomes[taken + 1..].iter().all(|outcome| matches!(outcome, Err(SendError::Closed))));
    let (numbers, code) = read_on(&mut client).await;
    assert_eq!((head_and_tail(&numbers).0, code), (numbers.len(), Some(1013)));
    assert!(numbers.len() <= taken);
    assert_exact(&numbers, &sender, MANY);
    client.send(CLOSE, &1013u16.to_be_bytes()).await;
    soon(sender.closed()).await;
    until(|| channels.stats().channels == 0).await;
}

#[tokio::test]
async fn a_channel_that_conflates_keeps_the_latest_of_each_key() {
    let (mut client, sender, _channels) = stalled(Overflow::Conflate, |_| GroupOptions::default()).await;
    for n in 0..MANY {
        sender.send_latest(format!("key {}", n % 3), &numbered(n)).expect("there is always room for the newest");
        assert_adds_up(&sender, n + 1);
        assert!(sender.counts().waiting <= 4, "three keys, and one that is half out");
    }
    assert!(sender.close(CloseCode::new(4000), "done"));
    let (numbers, code) = read_on(&mut client).await;
    let (head, tail) = head_and_tail(&numbers);
    assert_eq!((head + tail, tail, code), (numbers.len(), 3, Some(4000)));
    assert_exact(&numbers, &sender, MANY);
}

#[tokio::test]
async fn without_a_key_a_channel_that_conflates_drops_the_oldest() {
    let (mut client, sender, _channels) = stalled(Overflow::Conflate, |_| GroupOptions::default()).await;
    send_many(&sender, |frame| sender.send_frame(frame).expect("there is always room for the newest"));
    assert!(sender.close(CloseCode::new(4000), "done"));
    let (numbers, _) = read_on(&mut client).await;
    let (head, tail) = head_and_tail(&numbers);
    assert_eq!(head + tail, numbers.len());
    assert_exact(&numbers, &sender, MANY);
}

/// Sends many to the group `room`, and checks what each send says of its one member.
async fn group_send_many(sender: &Sender, channels: &ChannelBox) -> Delivery {
    let mut all = Delivery::default();
    for n in 0..MANY {
        let report = channels.group("room").send_frame(&numbered(n));
        assert!((report.is_accepted(), report.members()) == (true, 1));
        let Delivery { written, queued, dropped } = report.settled().await;
        assert_eq!(written + queued + dropped, 1);
        all = Delivery { written: all.written + written, queued: all.queued + queued, dropped: all.dropped + dropped };
        assert_adds_up(sender, n + 1);
        assert!(sender.counts().waiting_bytes <= BYTES);
    }
    all
}

#[tokio::test]
async fn a_group_has_a_rule_of_its_own_whatever_the_channel_has() {
    type Options = fn(&str) -> GroupOptions;
    type Check = fn(&[u64], Delivery);
    let rules: [(Options, Check); 3] = [
        (
            |_| GroupOptions::default().overflow(Overflow::DropNewest),
            |numbers, delivery| {
                assert_eq!(head_and_tail(numbers), (numbers.len(), 0));
                assert_eq!(delivery.dropped as u64, MANY - numbers.len() as u64);
            },
        ),
        (
            |_| GroupOptions::default().overflow(Overflow::DropOldest),
            |numbers, delivery| {
                let (head, tail) = head_and_tail(numbers);
                assert_eq!(head + tail, numbers.len());
                assert_eq!(delivery.dropped, 0, "a later one took its place, after the sweep");
            },
        ),
        (
            |_| GroupOptions::default().overflow(Overflow::Conflate),
            |numbers, delivery| {
                let (head, tail) = head_and_tail(numbers);
                assert_eq!((head + tail, tail), (numbers.len(), 1), "the latest wins");
                assert_eq!(delivery.dropped, 0);
            },
        ),
    ];
    for (options, check) in rules {
        let (mut client, sender, channels) = stalled(Overflow::Close, options).await;
        let delivery = group_send_many(&sender, &channels).await;
        assert!(sender.close(CloseCode::new(4000), "done"));
        let (numbers, code) = read_on(&mut client).await;
        assert_eq!(code, Some(4000));
        assert_exact(&numbers, &sender, MANY);
        check(&numbers, delivery);
    }
}

#[tokio::test]
async fn what_is_sent_to_keep_is_never_dropped_for_a_group_that_conflates() {
    let options = |_: &str| GroupOptions::default().overflow(Overflow::Conflate);
    let (mut client, sender, channels) = stalled(Overflow::Close, options).await;
    let mut kept = BTreeSet::new();
    for n in 0..MANY {
        // Sixty of them, spread over the time in which nothing is read.
        if n % (MANY / 60) == 0 {
            sender.send_frame(&numbered(n)).expect("there is room for these");
            kept.insert(n);
        } else {
            let name = if n % 2 == 0 { "room" } else { "other" };
            assert!(channels.group(name).send_frame(&numbered(n)).is_accepted());
        }
        assert_adds_up(&sender, n + 1);
    }
    assert!(sender.close(CloseCode::new(4000), "done"));
    let (numbers, _) = read_on(&mut client).await;
    assert!(kept.iter().all(|n| numbers.contains(n)), "one that was to be kept is missing");
    assert!(numbers.ends_with(&[MANY - 2, MANY - 1]), "each group has a latest value: {numbers:?}");
    assert_exact(&numbers, &sender, MANY);
}

#[tokio::test]
async fn a_pong_waits_in_line_and_is_dropped_for_nobody() {
    let (mut client, sender, _channels) = stalled(Overflow::DropOldest, |_| GroupOptions::default()).await;
    let sent = fill(&sender, 3).await;
    let waiting = sender.counts().waiting_bytes;
    client.send(PING, b"still there?").await;
    until(|| sender.counts().waiting_bytes == waiting + 2 + 12).await;
    for n in sent..MANY {
        sender.send_frame(&numbered(n)).expect("there is always room for the newest");
    }
    assert!(sender.close(CloseCode::new(4000), "done"));
    let mut pongs = 0;
    let mut numbers = Vec::new();
    while let Some((opcode, payload)) = client.frame().await {
        match opcode {
            BINARY => numbers.push(number(&payload)),
            PONG => {
                assert_eq!(payload, b"still there?");
                assert!(numbers.last().is_none_or(|n| *n < sent), "it was overtaken");
                pongs += 1;
            }
            CLOSE => break,
            other => panic!("opcode {other}"),
        }
    }
    assert_eq!(pongs, 1);
    assert_exact(&numbers, &sender, MANY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_add_up_at_every_moment_for_every_rule() {
    for rule in [Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::Conflate] {
        let (mut client, sender, channels) = stalled(rule, |_| GroupOptions::default()).await;
        let (begun, done, over) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watcher = {
            let (begun, done, over, sender) = (begun.clone(), done.clone(), over.clone(), sender.clone());
            std::thread::spawn(move || {
                let mut looks = 0u64;
                while !over.load(SeqCst) {
                    let at_least = done.load(SeqCst);
                    let counts = sender.counts();
                    let at_most = begun.load(SeqCst);
                    let sum = counts.written + counts.waiting as u64 + counts.dropped;
                    assert!((at_least..=at_most).contains(&sum), "{counts:?} for {at_least} to {at_most}");
                    looks += 1;
                }
                looks
            })
        };
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let (begun, done, sender, channels) = (begun.clone(), done.clone(), sender.clone(), channels.clone());
                std::thread::spawn(move || {
                    for n in 0..MANY {
                        begun.fetch_add(1, SeqCst);
                        if n % 2 == 0 {
                            let _ = sender.send_frame(&numbered(n));
                            done.fetch_add(1, SeqCst);
                        } else {
                            // It may be delivered by the other thread's sweep, later.
                            channels.group("room").send_frame(&numbered(n));
                        }
                    }
                })
            })
            .collect();
        // Reads now and then, meanwhile, and on until the end.
        let received = tokio::spawn(async move {
            let mut received = 0;
            while let Some((opcode, _)) = client.frame().await {
                received += u64::from(opcode == BINARY);
                if opcode == CLOSE {
                    break;
                }
            }
            received
        });
        let joined = tokio::task::spawn_blocking(move || senders.into_iter().for_each(|s| s.join().expect("no panic")));
        soon(joined).await.expect("no panic");
        sender.close(CloseCode::new(4000), "done");
        let received = soon(received).await.expect("no panic");
        over.store(true, SeqCst);
        assert!(watcher.join().expect("it added up") > 0);
        let counts = sender.counts();
        // Those that came when the channel had left its group were for nobody.
        let sum = counts.written + counts.dropped;
        assert!(counts.waiting == 0 && sum <= 2 * MANY && sum >= done.load(SeqCst), "{rule:?}: {counts:?}");
        assert_eq!(counts.written, received, "{rule:?}");
    }
}

#[tokio::test]
async fn drained_resolves_when_all_is_out_and_not_before() {
    let (mut client, sender, _channels) = stalled(Overflow::DropNewest, |_| GroupOptions::default()).await;
    soon(sender.drained()).await;
    let sent = fill(&sender, 50).await;
    let stays = tokio::time::timeout(Duration::from_millis(100), sender.drained()).await;
    assert!(stays.is_err() && sender.counts().waiting == 50, "nobody read");
    let read_all = async {
        for n in 0..sent {
            assert_eq!(number(&client.frame().await.expect("it comes").1), n);
        }
    };
    let drained = async {
        soon(sender.drained()).await;
        assert_eq!((sender.counts().waiting, sender.counts().written), (0, sent));
    };
    tokio::join!(read_all, drained);
    // The end of the connection ends the wait too.
    for n in 0..MANY {
        let _ = sender.send_frame(&numbered(n));
    }
    let gone = async move { drop(client) };
    tokio::join!(soon(sender.drained()), gone);
    assert!(!sender.is_active());
    assert_adds_up(&sender, sent + MANY);
}

const DELAY: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_delay_joins_what_comes_within_it_and_delivers_when_it_is_over() {
    use tokio::io::AsyncReadExt;
    let options = |_: &str| GroupOptions::default().write_delay(DELAY);
    let (mut client, sender, channels) = stalled(Overflow::Close, options).await;
    for round in 0..2 {
        let start = std::time::Instant::now();
        let reports: Vec<_> = (0..10).map(|_| channels.group("room").send_frame(&Frame::text("tick"))).collect();
        let sent_in = start.elapsed();
        let mut bytes = vec![0; 1000];
        let read = soon(client.stream.read(&mut bytes)).await.expect("the connection lives");
        if sent_in < DELAY {
            assert_eq!(read, 60, "ten frames, one write");
            assert!(start.elapsed() >= DELAY);
        }
        assert!(start.elapsed() < DELAY * 2 + Duration::from_secs(5));
        for report in reports {
            assert_eq!(soon(report.settled()).await, Delivery { written: 1, queued: 0, dropped: 0 });
        }
        assert_eq!(sender.counts().written, 10 * (round + 1));
    }
}

#[tokio::test]
async fn what_is_sent_to_a_channel_does_not_overtake_its_group_for_a_write_delay() {
    let options = |_: &str| GroupOptions::default().write_delay(Duration::from_secs(3600));
    let (mut client, sender, channels) = stalled(Overflow::Close, options).await;
    assert!(channels.group("room").send_frame(&Frame::text("first")).is_accepted());
    sender.send_text("second").expect("it is open");
    assert_eq!(client.frame().await, Some((TEXT, b"first".into())));
    assert_eq!(client.frame().await, Some((TEXT, b"second".into())));
    assert!(channels.group("room").send_frame(&Frame::text("last words")).is_accepted());
    assert!(sender.close(CloseCode::NORMAL, ""));
    assert_eq!(client.frame().await, Some((TEXT, b"last words".into())));
    assert_eq!(client.close_code().await, Some(1000));
}

#[tokio::test]
async fn a_group_refuses_what_exceeds_its_bounds_and_delivers_the_rest() {
    let options = |_: &str| GroupOptions::default().write_delay(DELAY).max_messages(3).max_bytes(1000);
    let (mut client, sender, channels) = stalled(Overflow::Close, options).await;
    let send = |text: &str| channels.group("room").send_frame(&Frame::text(text));
    let reports: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|text| send(text)).collect();
    let accepted: Vec<_> = reports.iter().map(|report| report.is_accepted()).collect();
    assert_eq!(accepted, [true, true, true, false, false]);
    let mut deliveries = Vec::new();
    for report in &reports {
        deliveries.push(soon(report.settled()).await);
    }
    let written = Delivery { written: 1, queued: 0, dropped: 0 };
    assert_eq!(deliveries, [written, written, written, Delivery::default(), Delivery::default()]);
    assert!(!send(&"x".repeat(1000)).is_accepted(), "it never fits");
    assert!(send("f").is_accepted());
    for expected in ["a", "b", "c", "f"] {
        assert_eq!(client.frame().await, Some((TEXT, expected.into())));
    }
    assert_adds_up(&sender, 4);
}

#[tokio::test]
async fn a_delivery_does_not_count_who_is_left_out() {
    let (_client, sender, channels) = stalled(Overflow::Close, |_| GroupOptions::default()).await;
    let report = channels.group("room").except(sender.id()).send_frame(&Frame::text("for the others"));
    assert_eq!((report.members(), soon(report.settled()).await), (1, Delivery::default()));
    assert_adds_up(&sender, 0);
}
