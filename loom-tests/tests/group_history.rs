//! Claims: a client that joins where it left off gets every later saved message once, in the order of the offsets,
//! while another thread sends. Saving a message is one step: its offset, its place in the log and in the history.
//!
//! Planted fault: `early_replay` takes the missed messages, and becomes a member under the next lock.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::channel::{Channel, FarEnd, FarMessage};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Since};
use loom::thread;

fn offsets(far_end: &mut FarEnd) -> Vec<u64> {
    let offset = |text: String| text.rsplit_once(':').and_then(|(_, end)| end.trim_matches([' ', '}']).parse().ok());
    std::iter::from_fn(|| far_end.try_recv())
        .filter_map(|message| match message {
            FarMessage::Text(text) if !text.contains("joined") => Some(offset(text).expect("a saved message")),
            FarMessage::Text(_) => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn box_of_histories() -> ChannelBox {
    ChannelBox::builder().groups(|_| GroupOptions::default().history(HistoryLimits::default())).build()
}

#[test]
fn a_replay_and_live_messages_have_no_gap_and_no_duplicate() {
    loom::model(|| {
        let channels = box_of_histories();
        let seen = channels.group_send("room", &1).expect("json").position().expect("it is kept");
        let others = channels.clone();
        let sender = thread::spawn(move || {
            others.group_send("room", &2).expect("json");
            others.group_send("room", &3).expect("json");
        });
        let (channel, mut far_end) = Channel::in_memory();
        let (_membership, recovery) =
            channels.group("room").join_since(&channel, Since::Position(seen)).expect("the channel is open");
        sender.join().expect("a send does not panic");
        assert!(recovery.recovered, "all of it is kept");
        assert_eq!(offsets(&mut far_end), [2, 3], "a message is missing, or came twice");
    });
}

#[test]
fn a_client_that_leaves_a_history_and_comes_back_finds_it() {
    loom::model(|| {
        let channels = box_of_histories();
        let (first, _at_first) = Channel::in_memory();
        let membership = channels.join(&first, "room").expect("the channel is open");
        let others = channels.clone();
        let sender = thread::spawn(move || {
            let report = others.group_send("room", &1).expect("json");
            report.position().expect("it is kept")
        });
        drop(membership);
        let (second, mut at_second) = Channel::in_memory();
        let (_membership, _) = channels.group("room").join_since(&second, Since::Last(9)).expect("the channel is open");
        let position = sender.join().expect("a send does not panic");
        assert_eq!(offsets(&mut at_second), [1], "a message is missing, or came twice");
        let history = channels.group("room").history(Since::Position(Position { offset: 0, ..position }));
        assert!(history.recovered, "the history that it was kept in is gone");
    });
}
