//! What a group remembers: who comes back gets exactly what it missed, or is told.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fanfare::channel::{Channel, FarEnd, FarMessage, OutboxLimits, Overflow};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Since};
use serde_json::{Value, json};

fn remembering(limits: HistoryLimits) -> ChannelBox {
    ChannelBox::builder().groups(move |_| GroupOptions::default().history(limits)).build()
}

fn all(far_end: &mut FarEnd) -> Vec<Value> {
    texts(far_end, usize::MAX)
}

fn texts(far_end: &mut FarEnd, most: usize) -> Vec<Value> {
    std::iter::from_fn(|| far_end.try_recv())
        .take(most)
        .map(|message| match message {
            FarMessage::Text(text) => serde_json::from_str(&text).expect("json"),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn offsets(messages: &[Value]) -> Vec<u64> {
    messages.iter().filter_map(|message| message["offset"].as_u64()).collect()
}

#[test]
fn a_saved_message_has_its_group_and_offset_and_keeps_its_own_fields() {
    let channels = remembering(HistoryLimits::default());
    let (channel, mut far_end) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").expect("it is open");
    assert_eq!(all(&mut far_end)[0]["type"], "joined");
    channels.group_send("room", &json!({"type": "edit", "user": "ada", "offset": "its own"})).expect("json");
    channels.group_send("room", "hello").expect("json");
    assert!(channels.group("room").send_frame(&Frame::json(&json!({"a": 1})).expect("json")).position().is_some());
    let got = all(&mut far_end);
    // Of two fields of one name the last one counts: that is ours.
    assert_eq!(got[0], json!({"type": "edit", "user": "ada", "group": "room", "offset": 1}));
    assert_eq!(got[1], json!({"data": "hello", "group": "room", "offset": 2}));
    assert_eq!(got[2], json!({"a": 1, "group": "room", "offset": 3}));
}

#[test]
fn what_is_ephemeral_or_no_json_goes_out_as_it_is_and_is_not_kept() {
    let channels = remembering(HistoryLimits::default());
    let (channel, mut far_end) = Channel::in_memory();
    let _membership = channels.join(&channel, "room").expect("it is open");
    assert_eq!(all(&mut far_end)[0]["type"], "joined");
    assert_eq!(channels.group("room").ephemeral().send(&json!({"typing": 1})).expect("json").position(), None);
    assert_eq!(channels.group("room").send_frame(&Frame::text("no json")).position(), None);
    assert_eq!(channels.group("room").send_frame(&Frame::binary(b"{}")).position(), None);
    assert_eq!(far_end.try_recv(), Some(FarMessage::Text(r#"{"typing":1}"#.into())));
    assert_eq!(far_end.try_recv(), Some(FarMessage::Text("no json".into())));
    assert_eq!(far_end.try_recv(), Some(FarMessage::Binary(b"{}"[..].into())));
    assert!(channels.group("room").history(Since::Last(10)).messages.is_empty());
}

#[test]
fn a_group_without_history_adds_nothing_and_recovers_nothing() {
    let channels = ChannelBox::new();
    let (channel, mut far_end) = Channel::in_memory();
    let since = Since::Position(Position::default());
    let (_membership, recovery) = channels.group("room").join_since(&channel, since).expect("it is open");
    assert_eq!((recovery.recovered, recovery.replayed), (false, 0));
    assert_eq!(channels.group_send("room", &json!({"a": 1})).expect("json").position(), None);
    let got = all(&mut far_end);
    assert_eq!(got[0]["recovered"], false);
    assert_eq!(got[1], json!({"a": 1}));
}

#[test]
fn who_comes_back_gets_the_stored_frames_once_and_in_order_before_live_ones() {
    let channels = remembering(HistoryLimits::default());
    let (first, mut at_first) = Channel::in_memory();
    let membership = channels.group("room").join_since(&first, Since::Last(0)).expect("it is open");
    for number in 0..5 {
        channels.group_send("room", &json!({"number": number})).expect("json");
    }
    let seen = all(&mut at_first);
    let position = Position { epoch: seen[0]["epoch"].as_u64().expect("a number"), offset: 2 };
    drop((membership, first));
    for number in 5..8 {
        channels.group_send("room", &json!({"number": number})).expect("json");
    }
    let (again, mut at_again) = Channel::in_memory();
    let (_membership, recovery) =
        channels.group("room").join_since(&again, Since::Position(position)).expect("it is open");
    channels.group_send("room", &json!({"number": 8})).expect("json");
    assert_eq!((recovery.recovered, recovery.replayed, recovery.position.offset), (true, 6, 8));
    let got = all(&mut at_again);
    assert_eq!(
        got[0],
        json!({
            "type": "joined", "group": "room", "epoch": position.epoch, "offset": 8, "recovered": true, "replayed": 6
        })
    );
    assert_eq!(offsets(&got[1..]), [3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_position_that_is_gone_or_of_another_epoch_is_told_as_not_recovered() {
    let channels = remembering(HistoryLimits::default().max_messages(3));
    let epoch = channels.group_send("room", "0").expect("json").position().expect("kept").epoch;
    for _ in 1..10 {
        channels.group_send("room", "x").expect("json");
    }
    let recover = |since| {
        let (channel, mut far_end) = Channel::in_memory();
        let (_membership, recovery) = channels.group("room").join_since(&channel, since).expect("it is open");
        assert_eq!(all(&mut far_end)[0]["recovered"], recovery.recovered);
        (recovery.recovered, recovery.replayed)
    };
    let position = |offset| Position { epoch, offset };
    assert_eq!(recover(Since::Position(position(7))), (true, 3));
    assert_eq!(recover(Since::Position(position(6))), (false, 0));
    assert_eq!(recover(Since::PositionOrLast(position(6), 2)), (false, 2));
    assert_eq!(recover(Since::Position(position(11))), (false, 0), "nobody has seen what was not sent");
    assert_eq!(recover(Since::Position(Position { epoch: epoch + 1, offset: 9 })), (false, 0));
    assert_eq!(recover(Since::missed(None, 2)), (false, 2));
    let (member, _far_end) = Channel::in_memory();
    let _membership = channels.join(&member, "room").expect("it is open");
    assert_eq!(channels.group("room").clear_history(), 3);
    assert_eq!(recover(Since::Position(position(9))), (false, 0));
    assert_eq!(recover(Since::Position(position(10))), (true, 0));
}

#[test]
fn a_history_outlives_its_members_and_other_groups_vanish() {
    let channels = ChannelBox::builder()
        .groups(|name| match name {
            "kept" => GroupOptions::default().history(HistoryLimits::default()),
            _ => GroupOptions::default(),
        })
        .build();
    let (channel, _far_end) = Channel::in_memory();
    let memberships = [channels.join(&channel, "kept"), channels.join(&channel, "gone")];
    channels.group_send("kept", "x").expect("json");
    drop(memberships);
    assert_eq!(channels.groups(), ["kept"]);
    assert_eq!(channels.group("kept").history(Since::Last(9)).messages.len(), 1);
    assert_eq!(channels.group_send("never joined", "x").expect("json").members(), 0);
    assert_eq!(channels.stats().groups, 1);
}

#[test]
fn groups_that_nobody_is_in_are_bounded_and_the_longest_left_goes_first() {
    let channels = remembering(HistoryLimits::default());
    for number in 0..10_010 {
        channels.group_send(format!("group {number}"), "x").expect("json");
    }
    assert_eq!(channels.stats().groups, 10_000);
    let kept = |number: usize| channels.group(format!("group {number}")).history(Since::Last(1)).messages.len();
    let gone: Vec<_> = (0..10_010).filter(|number| kept(*number) == 0).collect();
    assert_eq!(gone.len(), 10);
    assert!(gone.iter().all(|number| *number < 50), "{gone:?}");
}

#[test]
fn names_of_groups_that_nobody_said_anything_in_take_no_place() {
    let channels = remembering(HistoryLimits::default());
    for number in 0..100 {
        channels.group_send(format!("kept {number}"), "x").expect("json");
    }
    let (channel, mut far_end) = Channel::in_memory();
    for number in 0..11_000 {
        drop(channels.join(&channel, format!("made up {number}")));
        far_end.try_recv();
    }
    assert_eq!(channels.stats().groups, 100);
}

#[test]
fn a_send_that_keeps_nothing_makes_no_group() {
    let channels = remembering(HistoryLimits::default());
    let broken = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(channels.group_send("room", &broken).is_err(), "a key that is no text");
    drop(channels.group("room"));
    channels.group("room").ephemeral().send("x").expect("json");
    assert!(!channels.group("room").send_frame(&Frame::json(&"x".repeat(9 << 20)).expect("json")).is_accepted());
    assert_eq!(channels.group_send("a\nb", "x").expect("json").position(), None, "that is no name of a group");
    assert_eq!(channels.stats().groups, 0);
}

#[test]
fn histories_that_nobody_is_in_are_bounded_in_bytes() {
    let channels = remembering(HistoryLimits::default().max_bytes(64 << 20));
    let frame = Frame::json(&"x".repeat(8 << 20)).expect("json");
    let options = GroupOptions::default();
    assert!(!channels.group("too large for the group").send_frame(&frame).is_accepted(), "{options:?}");
    let frame = Frame::json(&"x".repeat(4 << 20)).expect("json");
    for number in 0..80 {
        assert!(channels.group(format!("group {number}")).send_frame(&frame).is_accepted());
    }
    assert_eq!(channels.stats().groups, 63, "each keeps a little more than 4 of 256 MiB");
}

#[tokio::test(start_paused = true)]
async fn a_send_to_a_group_that_went_meanwhile_is_kept_where_it_is_looked_for() {
    let channels = remembering(HistoryLimits::default());
    let early = channels.group("old");
    assert!(early.send(&1).expect("json").position().is_some());
    let held = channels.group("old");
    for number in 0..10_010 {
        channels.group_send(format!("group {number}"), "x").expect("json");
    }
    assert!(channels.group("old").history(Since::Last(9)).messages.is_empty(), "it went for the others");
    assert!(held.send(&2).expect("json").position().is_some());
    assert_eq!(channels.group("old").history(Since::Last(9)).messages.len(), 1);
}

#[test]
fn a_replay_larger_than_the_outbox_closes_nothing_and_live_messages_keep_their_room() {
    let channels = remembering(HistoryLimits::default().max_messages(3000).max_bytes(64 << 20));
    for number in 0..3000 {
        channels.group_send("room", &json!({"number": number, "fill": "x".repeat(1000)})).expect("json");
    }
    let limits = OutboxLimits::default().max_messages(10).max_bytes(100_000).overflow(Overflow::Close);
    let (channel, mut far_end) = Channel::in_memory_with(limits);
    let (_membership, recovery) = channels.group("room").join_since(&channel, Since::Last(3000)).expect("it is open");
    assert_eq!(recovery.replayed, 3000);
    assert!(channel.sender().counts().waiting > 2900, "the client has read nothing");
    for number in 0..10 {
        channels.group_send("room", &json!({"live": number})).expect("json");
    }
    assert!(channel.is_active());
    let got = all(&mut far_end);
    assert_eq!(offsets(&got[1..]), (1..=3010).collect::<Vec<_>>());
    let (slow, _unread) = Channel::in_memory_with(limits);
    let _slow_membership = channels.group("room").join_since(&slow, Since::Last(3000)).expect("it is open");
    // As many more as the pipe has taken of the replay.
    for number in 0..100 {
        channels.group_send("room", &json!({"live": number, "fill": "x".repeat(1000)})).expect("json");
    }
    assert!(!slow.is_active(), "a live message has the room of live ones");
}

#[test]
fn a_client_that_joins_again_and_again_and_reads_nothing_is_closed() {
    let channels = remembering(HistoryLimits::default());
    for _ in 0..1000 {
        channels.group_send("room", &"x".repeat(900)).expect("json");
    }
    let (channel, _unread) = Channel::in_memory();
    let rejoins =
        (0..1000).take_while(|_| channels.group("room").join_since(&channel, Since::Last(1000)).is_ok()).count();
    assert!((10..40).contains(&rejoins), "16 MiB in replays of 1 MB: {rejoins}");
    assert!(!channel.is_active());
}

#[tokio::test]
async fn one_channel_left_out_is_told_the_offset_and_the_history_has_the_message() {
    let channels = remembering(HistoryLimits::default());
    let ((ada, mut at_ada), (bob, mut at_bob)) = (Channel::in_memory(), Channel::in_memory());
    let _memberships = [channels.join(&ada, "room"), channels.join(&bob, "room")];
    assert_eq!((all(&mut at_ada).len(), all(&mut at_bob).len()), (1, 1), "how the joins went");
    let report = channels.group("room").except(ada.id()).send("from ada").expect("json");
    assert_eq!(report.settled().await.written, 1, "what is told instead is no delivery");
    channels.group("room").ephemeral().except(ada.id()).send("typing").expect("json");
    channels.group_send("room", "to all").expect("json");
    let got = all(&mut at_ada);
    assert_eq!(got[0], json!({"type": "skip", "group": "room", "offset": 1}));
    assert_eq!((got.len(), &got[1]["offset"]), (2, &json!(2)));
    assert_eq!(offsets(&all(&mut at_bob)), [1, 2]);
    assert_eq!(channels.group("room").history(Since::Last(9)).messages.len(), 2);
}

#[test]
fn a_history_is_serialised_with_its_messages_as_they_went_out() {
    let channels = remembering(HistoryLimits::default());
    channels.group_send("room", &json!({"text": "ä"})).expect("json");
    let history = serde_json::to_value(channels.group("room").history(Since::Last(1))).expect("json");
    assert_eq!(history["messages"][0]["message"], json!({"text": "ä", "group": "room", "offset": 1}));
    assert_eq!(history["position"][1], 1);
    assert!(history["messages"][0]["time"].as_u64().expect("milliseconds") > 1_700_000_000_000);
}

#[test]
fn what_is_older_than_the_age_is_not_replayed() {
    let channels = remembering(HistoryLimits::default().max_age(Duration::ZERO));
    let position = channels.group_send("room", "x").expect("json").position().expect("kept");
    let start = Instant::now();
    while !channels.group("room").history(Since::Last(1)).messages.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the clock moves on");
    }
    let (channel, _far_end) = Channel::in_memory();
    let before = Position { offset: 0, ..position };
    let (_membership, recovery) =
        channels.group("room").join_since(&channel, Since::Position(before)).expect("it is open");
    assert!(!recovery.recovered);
}

/// One listener less, also when it panics.
struct Silence<'a>(&'a AtomicUsize);

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Threads send while clients come and go; whoever is told that it has recovered has every offset once, in order.
#[test]
fn recovery_has_no_gap_and_no_duplicate_while_others_send() {
    const CLIENTS: usize = 2;
    const CUTS: usize = 300;
    let channels = remembering(HistoryLimits::default().max_messages(500));
    let (start, talking) = (Barrier::new(2 * CLIENTS), AtomicUsize::new(CLIENTS));
    let recovered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                start.wait();
                while talking.load(SeqCst) > 0 {
                    channels.group_send("room", "x").expect("json");
                }
            });
        }
        for client in 0..CLIENTS {
            let (channels, start, talking, recovered) = (&channels, &start, &talking, &recovered);
            scope.spawn(move || {
                start.wait();
                let _silence = Silence(talking);
                let mut seen = Position::default();
                for cut in 0..CUTS {
                    // Nobody is closed for being slow here: it shares two cores with the senders.
                    let limits = OutboxLimits::default().max_bytes(usize::MAX).max_messages(usize::MAX);
                    let (channel, mut far_end) = Channel::in_memory_with(limits);
                    let since = Since::Position(seen);
                    let (_membership, recovery) =
                        channels.group("room").join_since(&channel, since).expect("it is open");
                    if recovery.recovered {
                        recovered.fetch_add(1, SeqCst);
                    } else {
                        seen = recovery.position;
                    }
                    // No more than that: messages come faster than they are read.
                    for message in texts(&mut far_end, cut % 7 * 20) {
                        if message["type"] != "joined" {
                            assert_eq!(message["offset"], seen.offset + 1, "client {client} after {cut} cuts");
                            seen.offset += 1;
                        }
                    }
                }
            });
        }
    });
    assert!(recovered.load(SeqCst) > CUTS / 10, "{recovered:?} of {}", CLIENTS * CUTS);
}
