//! What the library counts, by a recorder that keeps it: each metric moves as its page says, and no label says more.

#![allow(missing_docs, reason = "tests")]

mod recorder;
#[path = "../sockets/mod.rs"]
mod sockets;

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare::channel::{
    Channel, ChannelOptions, CloseCode, FarEnd, FarMessage, OutboxLimits, Overflow, PayloadType, Sender, UserId,
};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Since};
use fanfare::observe::METRICS;
use fanfare::ws::{Excess, RateLimit, Upgrade};
use fanfare::{Dispatcher, Key};
use recorder::Kept;
use sockets::{Raw, TEXT, echo, serve_ours, serve_router, soon, tells, told, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TICK: Key<u32> = Key::new("tick");
/// More than the pipe of a channel in memory takes.
const MUCH: usize = 100_000;

/// A channel in memory for whose far end `waiting` messages wait, at the most so many as fit.
fn stalled(messages: usize, overflow: Overflow) -> (Channel, FarEnd) {
    let (channel, far_end) = Channel::in_memory_with(OutboxLimits::default().max_messages(messages).overflow(overflow));
    channel.send_bytes(vec![0; MUCH]).expect("the first one passes");
    (channel, far_end)
}

fn drain(far_end: &mut FarEnd) -> usize {
    std::iter::from_fn(|| far_end.try_recv()).filter(|message| !matches!(message, FarMessage::Close { .. })).count()
}

#[test]
fn a_channel_is_open_until_it_is_closed_by_whoever() {
    let kept = Kept::default();
    let _recording = kept.install();
    let begin = || {
        let ends = Channel::in_memory();
        assert_eq!(kept.get("fanfare_channels_open"), 1.0);
        ends
    };
    // The server closes, twice; the handler ends; the client is gone; the user is revoked.
    let (channel, _far_end) = begin();
    assert!(channel.close(CloseCode::POLICY, "no"));
    assert!(!channel.close(CloseCode::new(4000), "no"));
    drop(channel);
    assert_eq!(kept.get("fanfare_channels_open"), 0.0);
    drop(begin());
    let (channel, far_end) = begin();
    drop(far_end);
    channel.send("nobody is there").expect_err("it is gone");
    drop(channel);
    let channels = ChannelBox::new();
    let ada = UserId::new("ada").expect("a good id");
    let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
    channels.add(&channel);
    channels.user(&ada).revoke();
    // What a client chooses makes no label of its own.
    for code in [3333, 4999] {
        let (channel, _far_end) = begin();
        assert!(channel.close(CloseCode::new(code), ""));
    }
    assert_eq!(kept.get("fanfare_channels_open"), 0.0);
    assert_eq!(kept.get("fanfare_channels_total"), 6.0);
    for code in ["1008", "1000", "1006", "4403", "3xxx", "other 4xxx"] {
        assert_eq!(kept.get(&format!("fanfare_closes_total{{code={code}}}")), 1.0, "{code}");
    }
    assert_eq!(kept.sum("fanfare_closes_total"), 6.0);
}

#[test]
fn a_connection_whose_task_goes_with_its_runtime_is_open_no_more() {
    let kept = Kept::default();
    let _recording = kept.install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = runtime.block_on(async {
        let (tell, mut tells) = tells();
        let address = sockets::serve(move |channel| {
            tell.send(()).expect("the test waits");
            async move {
                let _channel = channel;
                std::future::pending().await
            }
        })
        .await;
        let client = Raw::connect(address).await;
        told(&mut tells).await;
        client
    });
    assert_eq!(kept.get("fanfare_channels_open"), 1.0);
    drop(runtime);
    assert_eq!(kept.get("fanfare_channels_open"), 0.0);
    assert_eq!(kept.get("fanfare_closes_total{code=1006}"), 1.0);
    drop(client);
}

#[tokio::test]
async fn deliveries_add_up_to_what_was_sent() {
    let kept = Kept::default();
    let _recording = kept.install();
    let channels = ChannelBox::new();
    let limits = OutboxLimits::default().max_messages(20).overflow(Overflow::DropNewest);
    let mut ends: Vec<_> = (0..40).map(|_| Channel::in_memory_with(limits)).collect();
    let memberships: Vec<_> = ends.iter().map(|(channel, _)| channels.join(channel, "room").expect("it may")).collect();
    assert_eq!(kept.get("fanfare_memberships{kind=named}"), 40.0);
    assert_eq!(kept.get("fanfare_groups{kind=named}"), 1.0);
    // Some are slow, some are gone, one is left out.
    ends[0].0.send_bytes(vec![0; MUCH]).expect("the first one passes");
    let gone = ends.pop().expect("there are 40");
    drop(gone.1);
    let mut expected = [0.0; 3];
    for n in 0..30 {
        let room = channels.group("room");
        let report = if n % 2 == 0 { room.except(ends[1].0.id()).send(&n) } else { room.send(&n) };
        let delivery = report.expect("a number is json").settled().await;
        let of = |counts: [usize; 3]| counts.map(|count| count as f64);
        let told = of([delivery.written, delivery.queued, delivery.dropped]);
        expected.iter_mut().zip(told).for_each(|(sum, one)| *sum += one);
        let counted = ["written", "queued", "dropped"]
            .map(|is| kept.get(&format!("fanfare_deliveries_total{{outcome={is},to=group}}")));
        assert_eq!(counted, expected, "it is counted before it is told");
    }
    assert_eq!(kept.get("fanfare_group_sends_total{outcome=accepted}"), 30.0);
    assert_eq!(expected.iter().sum::<f64>(), 30.0 * 40.0 - 15.0);
    assert!(expected.iter().all(|count| *count > 0.0), "{expected:?}");
    // And with what each channel has counted for itself.
    let senders: Vec<Sender> = ends.iter().map(|(channel, _)| channel.sender()).chain([gone.0.sender()]).collect();
    let counts = || senders.iter().map(|sender| sender.counts());
    let sum: u64 = counts().map(|counts| counts.written + counts.waiting as u64 + counts.dropped).sum();
    assert_eq!(kept.sum("fanfare_deliveries_total"), sum as f64);
    assert_eq!(kept.sum("fanfare_messages_dropped_total"), counts().map(|counts| counts.dropped).sum::<u64>() as f64);
    channels.record_metrics();
    assert_eq!(kept.get("fanfare_outbox_messages"), counts().map(|counts| counts.waiting).sum::<usize>() as f64);
    drop(memberships);
    assert_eq!(kept.get("fanfare_memberships{kind=named}"), 0.0);
    assert_eq!(kept.get("fanfare_groups{kind=named}"), 0.0);
}

#[test]
fn what_a_stalled_client_loses_is_counted_exactly_by_each_rule() {
    let kept = Kept::default();
    let _recording = kept.install();
    let dropped = |reason: &str| kept.get(&format!("fanfare_messages_dropped_total{{reason={reason}}}"));
    let (channel, mut far_end) = stalled(10, Overflow::DropNewest);
    (0..100).for_each(|_| _ = channel.send("new"));
    assert_eq!(dropped("full"), 91.0);
    assert_eq!(drain(&mut far_end), 10);
    let (channel, mut far_end) = stalled(10, Overflow::DropOldest);
    (0..100).for_each(|_| channel.send("new").expect("it is taken"));
    assert_eq!(dropped("replaced"), 91.0);
    assert_eq!(drain(&mut far_end), 10);
    let (channel, mut far_end) = stalled(10, Overflow::Close);
    (0..100).for_each(|_| _ = channel.send("new"));
    // The first of them is half out, nine waited, one came too late; the others came after the close.
    assert_eq!((dropped("overflow"), dropped("closed")), (10.0, 90.0));
    assert_eq!(kept.get("fanfare_closes_total{code=1013}"), 1.0);
    assert_eq!(drain(&mut far_end), 1);
    let channels = ChannelBox::new();
    let ada = UserId::new("ada").expect("a good id");
    let (channel, mut far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()));
    channels.add(&channel);
    channel.send_bytes(vec![0; MUCH]).expect("the first one passes");
    (0..5).for_each(|_| channel.send("waits").expect("there is room"));
    channels.user(&ada).revoke();
    assert_eq!(dropped("revoked"), 5.0);
    assert_eq!(drain(&mut far_end), 1);
    assert_eq!(kept.sum("fanfare_deliveries_total"), 3.0 * 101.0 + 6.0);
}

#[tokio::test]
async fn what_waits_when_a_connection_breaks_is_lost_and_counted() {
    let kept = Kept::default();
    let _recording = kept.install();
    let (tell, mut tells) = tells();
    let address = sockets::serve_with(
        |upgrade| upgrade.send_buffer_size(4096),
        move |mut channel: Channel| {
            tell.send(channel.sender()).expect("the test waits");
            async move {
                channel.discard().await;
                Ok(())
            }
        },
    )
    .await;
    let client = Raw::connect_small(address).await;
    let sender = told(&mut tells).await;
    while sender.counts().waiting < 500 {
        sender.send_frame(&Frame::binary([0; 1000])).expect("there is room");
    }
    client.reset();
    soon(sender.closed()).await;
    let counts = sender.counts();
    assert!(counts.dropped > 0 && counts.waiting == 0, "{counts:?}");
    assert_eq!(kept.get("fanfare_messages_dropped_total{reason=lost}"), counts.dropped as f64);
    assert_eq!(kept.get("fanfare_closes_total{code=1006}"), 1.0);
}

#[test]
fn depths_are_as_of_the_last_look_and_those_of_several_boxes_add_up() {
    let kept = Kept::default();
    let _recording = kept.install();
    let begin = || {
        let channels =
            ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build();
        let (channel, far_end) = stalled(10, Overflow::DropNewest);
        let membership = channels.join(&channel, "room").expect("it may");
        (0..3).for_each(|_| _ = channels.group_send("room", "what was said"));
        channels.record_metrics();
        (channels, channel, far_end, membership)
    };
    let mut first = begin();
    // What fills the pipe, how the join went, and three messages.
    let depth = |name: &str| kept.get(&format!("fanfare_{name}"));
    assert_eq!((depth("outbox_messages"), depth("channels_waiting"), depth("history_messages")), (5.0, 1.0, 3.0));
    assert_eq!(depth("outbox_bytes"), first.1.sender().counts().waiting_bytes as f64);
    let (bytes, second) = (depth("history_bytes"), begin());
    assert_eq!((depth("outbox_messages"), depth("history_bytes")), (10.0, 2.0 * bytes));
    assert_eq!(drain(&mut first.2), 5);
    assert_eq!(depth("outbox_messages"), 10.0, "nobody has looked");
    first.0.record_metrics();
    assert_eq!((depth("outbox_messages"), depth("channels_waiting")), (5.0, 1.0));
    drop((first, second));
    for name in [
        "outbox_messages",
        "outbox_bytes",
        "channels_waiting",
        "history_messages",
        "history_bytes",
        "groups{kind=named}",
    ] {
        assert_eq!(depth(name), 0.0, "{name}");
    }
}

#[tokio::test]
async fn what_waits_in_a_group_and_what_it_refuses_is_counted() {
    let kept = Kept::default();
    let _recording = kept.install();
    let delay = Duration::from_millis(1);
    let channels = ChannelBox::builder()
        .groups(move |_| GroupOptions::default().max_messages(2).max_bytes(1000).write_delay(delay))
        .build();
    let (channel, _far_end) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").expect("it may");
    let reports: Vec<_> = (0..5).map(|n| channels.group_send("room", &n).expect("a number is json")).collect();
    assert_eq!(kept.get("fanfare_group_sends_total{outcome=accepted}"), 2.0);
    assert_eq!(kept.get("fanfare_group_sends_total{outcome=refused}"), 3.0);
    channels.record_metrics();
    assert_eq!((kept.get("fanfare_group_queue_messages"), kept.get("fanfare_group_queue_bytes")), (2.0, 6.0));
    reports[1].settled().await;
    channels.record_metrics();
    assert_eq!((kept.get("fanfare_group_queue_messages"), kept.get("fanfare_group_queue_bytes")), (0.0, 0.0));
    // Nobody is there: that is a send too.
    channels.group_send("nobody's", "hello").expect("text is json");
    assert_eq!(kept.get("fanfare_group_sends_total{outcome=accepted}"), 3.0);
    assert_eq!(kept.sum("fanfare_deliveries_total"), 2.0);
}

#[test]
fn joins_and_recoveries_are_counted_and_so_are_those_that_fail() {
    let kept = Kept::default();
    let _recording = kept.install();
    let channels = ChannelBox::builder()
        .groups(|_| GroupOptions::default().history(HistoryLimits::default()))
        .may_join(|_, group| group != "secret")
        .build();
    (0..3).for_each(|n| _ = channels.group_send("room", &n).expect("a number is json"));
    let (channel, mut far_end) = Channel::in_memory();
    let seen = |offset| {
        let epoch = channels.group("room").history(Since::Last(1)).position.epoch;
        Since::Position(Position { epoch, offset })
    };
    let (membership, recovery) = channels.group("room").join_since(&channel, seen(1)).expect("it may");
    assert!(recovery.recovered);
    assert!(channels.join(&channel, "room").is_err());
    assert!(channels.group("secret").join_since(&channel, seen(1)).is_err());
    assert!(channels.join(&channel, "").is_err());
    drop(membership);
    let (_membership, recovery) = channels.group("room").join_since(&channel, seen(99)).expect("it may");
    assert!(!recovery.recovered);
    for (key, count) in [
        ("joins_total{kind=named}", 2.0),
        ("memberships{kind=named}", 1.0),
        ("recoveries_total{recovered=true}", 1.0),
        ("recoveries_total{recovered=false}", 1.0),
        ("replayed_total", 2.0),
        ("joins_refused_total{reason=already member}", 1.0),
        ("joins_refused_total{reason=denied}", 1.0),
        ("joins_refused_total{reason=invalid name}", 1.0),
    ] {
        assert_eq!(kept.get(&format!("fanfare_{key}")), count, "{key}");
    }
    // Two that say how the join went come on top.
    assert_eq!(drain(&mut far_end), 4);
    drop(channel);
    assert_eq!(kept.get("fanfare_memberships{kind=named}"), 0.0);
}

#[tokio::test]
async fn what_clients_send_is_counted_and_what_is_wrong_about_it() {
    let kept = Kept::default();
    let _recording = kept.install();
    let (mut channel, far_end) = Channel::in_memory_with(ChannelOptions::default().payload_type(PayloadType::Json));
    far_end.send_text("1");
    far_end.send_text("no json");
    far_end.send_binary(vec![1]);
    drop(far_end);
    while channel.recv_message().await.is_some() {}
    let (mut channel, far_end) = Channel::in_memory();
    far_end.send_binary(vec![1]);
    assert!(channel.recv_message().await.is_some());
    for (key, count) in [
        ("received_total{type=text}", 1.0),
        ("received_total{type=binary}", 1.0),
        ("receive_errors_total{reason=json}", 1.0),
        ("receive_errors_total{reason=binary}", 1.0),
        ("receive_errors_total{reason=lost}", 1.0),
    ] {
        assert_eq!(kept.get(&format!("fanfare_{key}")), count, "{key}");
    }
}

#[test]
fn counted_events_are_pulled_and_two_of_one_name_add_up() {
    let kept = Kept::default();
    let _recording = kept.install();
    let dispatchers = [Dispatcher::new(), Dispatcher::new()];
    let events: Vec<_> = dispatchers.iter().map(|events| events.event(TICK).expect("it is free")).collect();
    for event in &events {
        event.enable_counts();
        event.on(|n| if *n == 2 { Err("not two") } else { Ok(()) });
        (0..5).for_each(|n| _ = event.emit(&n));
    }
    let uncounted = dispatchers[0].event::<u32>("uncounted").expect("it is free");
    uncounted.emit(&1);
    assert_eq!(kept.sum("fanfare_emits_total"), 0.0, "an emit tells nothing");
    let look = || {
        dispatchers.iter().for_each(Dispatcher::record_metrics);
        ["emits", "calls", "failures"].map(|what| kept.get(&format!("fanfare_{what}_total{{event=tick}}")))
    };
    assert_eq!(look(), [10.0, 10.0, 2.0]);
    assert_eq!(look(), [10.0, 10.0, 2.0], "it was told already");
    events[0].emit(&1);
    assert_eq!(look(), [11.0, 11.0, 2.0]);
    assert_eq!(kept.sum("fanfare_emits_total"), 11.0);
    assert_eq!(kept.get("fanfare_listener_failures_total{cause=error}"), 2.0);
}

#[tokio::test]
async fn a_server_counts_its_connections_and_their_handlers_and_tells_no_label_of_them() {
    let kept = Kept::default();
    let _recording = kept.install();
    fanfare::observe::describe();
    let channels = ChannelBox::new();
    let (in_box, events) = (channels.clone(), Dispatcher::new());
    let quiet = events.clone();
    quiet.on(fanfare::ws::HANDLER_FAILED, |_| {}).expect("it is free");
    let route = async move |upgrade: Upgrade| {
        let limit = RateLimit::per_second(50, 1 << 20).excess(Excess::Close);
        upgrade.events(&quiet).protocols(&["bearer"]).rate_limit(limit).run(async move |mut channel| {
            let _membership = in_box.join(&channel, "group-of-secret")?;
            while let Some(text) = channel.recv_text().await {
                match &*text? {
                    "panic" => panic!("on purpose"),
                    "fail" => return Err("on purpose".into()),
                    "number" => _ = channel.recv::<u32>().await.ok_or("it is gone")??,
                    said => drop(in_box.group_send("group-of-secret", said)?),
                }
            }
            Ok(())
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = fanfare::ws::serve(listener, Router::new().route("/", get(route)))
        .max_connections_per_address(2)
        .shutdown_on(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());

    let (mut client, head) = Raw::ask(address, "Sec-WebSocket-Protocol: bearer, token-of-secret\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client.send(TEXT, b"payload-of-secret").await;
    assert_eq!(client.frame().await.expect("it comes back").1, b"\"payload-of-secret\"");
    assert_eq!((kept.get("fanfare_connections_open"), kept.get("fanfare_channels_open")), (1.0, 1.0));
    let (mut foreign, head) = Raw::ask(address, "Origin: https://origin-of-secret.example\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let mut third = TcpStream::connect(address).await.expect("the port is open");
    let mut text = String::new();
    soon(third.read_to_string(&mut text)).await.expect("it is told why");
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    foreign.stream.shutdown().await.expect("it is a socket");
    soon(until(|| kept.get("fanfare_connections_open") == 1.0)).await;

    for (said, code) in [("panic", 1011), ("fail", 1011), ("number", 1007)] {
        let mut client = Raw::connect(address).await;
        client.send(TEXT, said.as_bytes()).await;
        client.send(TEXT, b"\"json-of-secret\"").await;
        assert_eq!(client.close_code().await, Some(code), "{said}");
        drop(client);
        soon(until(|| kept.get("fanfare_connections_open") == 1.0)).await;
    }
    stop.send(()).expect("the server runs");
    assert_eq!(client.close_code().await, Some(1001));
    drop(client);
    assert_eq!(soon(server).await.expect("no panic").cut, 0);

    for (key, count) in [
        ("connections_open", 0.0),
        ("connections_total", 5.0),
        ("connections_refused_total{reason=address}", 1.0),
        ("connections_drained_total{outcome=ended}", 1.0),
        ("connections_drained_total{outcome=cut}", 0.0),
        ("channels_open", 0.0),
        ("channels_total", 4.0),
        ("closes_total{code=1011}", 2.0),
        ("closes_total{code=1007}", 1.0),
        ("closes_total{code=1001}", 1.0),
        ("handshakes_refused_total{reason=foreign origin}", 1.0),
        ("handler_failures_total{cause=panic}", 1.0),
        ("handler_failures_total{cause=error}", 1.0),
        ("handler_failures_total{cause=client}", 1.0),
        ("memberships{kind=named}", 0.0),
    ] {
        assert_eq!(kept.get(&format!("fanfare_{key}")), count, "{key}");
    }
    // Nothing that anybody sent, nothing that a group is called.
    for key in kept.values().keys() {
        assert!(!key.contains("secret") && !key.contains("room") && !key.contains("127.0.0.1"), "{key}");
    }
    // All that is there was described, by the labels that it has.
    let described = kept.described();
    assert_eq!(described.len(), METRICS.len());
    assert_eq!(described["fanfare_outbox_bytes"], metrics::Unit::Bytes);
    for key in kept.values().keys() {
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        let metric = METRICS.iter().find(|metric| metric.name == name).expect("it is in the table");
        let labels: BTreeSet<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        assert_eq!(labels, metric.labels.iter().copied().collect(), "{key}");
    }
}

#[test]
fn a_recorder_may_use_what_it_is_told_of() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        with_a_curious_recorder();
        tell.send(())
    });
    told.recv_timeout(Duration::from_secs(20)).expect("no lock is held while it is told");
}

fn with_a_curious_recorder() {
    let ends = Arc::new(OnceLock::new());
    let mut kept = Kept::default();
    let told: Arc<OnceLock<(ChannelBox, Sender)>> = Arc::clone(&ends);
    kept.meanwhile = Some(Arc::new(move || {
        // Every lock there is: each would be waited for if it was held.
        if let Some((channels, sender)) = told.get() {
            assert!(channels.group("room").member_count() <= 2);
            // Ten, and how its join went, which has room of its own.
            assert!(sender.counts().waiting <= 11);
            assert!(channels.user(sender.user().expect("it has one")).channels().len() <= 1);
            assert!(channels.group("room").history(Since::Last(0)).messages.is_empty());
        }
    }));
    let _recording = kept.install();
    let channels = ChannelBox::builder()
        .groups(|group| match group {
            "room" => GroupOptions::default().history(HistoryLimits::default().max_messages(2)),
            _ => GroupOptions::default(),
        })
        .build();
    let ada = UserId::new("ada").expect("a good id");
    let limits = OutboxLimits::default().max_messages(10).overflow(Overflow::DropOldest);
    let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(ada.clone()).outbox(limits));
    ends.set((channels.clone(), channel.sender())).expect("it was not set");
    let (other, far_end) = Channel::in_memory();
    let memberships = [&channel, &other].map(|channel| channels.join(channel, "room").expect("it may"));
    let _third = channels.join(&channel, "other").expect("it may");
    channel.send_bytes(vec![0; MUCH]).expect("the first one passes");
    (0..20).for_each(|n| _ = channels.group_send("room", &n).expect("a number is json"));
    drop(far_end);
    (0..20).for_each(|n| _ = channels.group_send("room", &n).expect("a number is json"));
    assert!(channels.join(&channel, "room").is_err());
    channels.record_metrics();
    drop(memberships);
    assert_eq!(channels.user(&ada).revoke(), 1);
    drop((channel, other));
    assert_eq!(channels.stats().groups, 1, "it has a history");
    assert!(kept.get("fanfare_messages_dropped_total{reason=replaced}") > 0.0);
    assert_eq!(kept.get("fanfare_channels_open"), 0.0);
}

/// A connection that was taken in, before it is anything else, and one of another server than ours.
#[tokio::test]
async fn connections_are_those_of_our_server_and_channels_those_of_any() {
    let kept = Kept::default();
    let _recording = kept.install();
    let ours = serve_ours(Router::new(), |server| server).await;
    let idle = TcpStream::connect(ours).await.expect("the port is open");
    soon(until(|| kept.get("fanfare_connections_open") == 1.0)).await;
    let other = serve_router(Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(echo)))).await;
    let mut client = Raw::connect(other).await;
    client.send(TEXT, b"hello").await;
    assert!(client.frame().await.is_some());
    assert_eq!((kept.get("fanfare_connections_open"), kept.get("fanfare_channels_open")), (1.0, 1.0));
    drop(idle);
    soon(until(|| kept.get("fanfare_connections_open") == 0.0)).await;
    client.reset();
    soon(until(|| kept.get("fanfare_channels_open") == 0.0)).await;
}
