//! Claims: frames that threads send to a channel whose pipe is full arrive whole, in order, none lost or twice, while
//! another thread makes room in the pipe and flushes. No frame remains in the outbox without a task that will flush it.
//! At any time each message is exactly one of written, waiting and dropped, also when the channel is closed or the
//! client dies meanwhile.
//!
//! The far end of an in-memory channel stands for the client and for the task that flushes.
//!
//! Planted faults: `overtake` writes past queued frames; `lost_flusher` does not ask for room when the sink has pushed
//! back; `flusher_not_told` asks for room, and does not wake the task that makes it; `torn_counts` reads the counts
//! under two locks; `late_watcher` looks whether the outbox is empty, and registers its waker under the next lock;
//! `driver_not_told` does not wake the receiver for a close.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::channel::{Channel, CloseCode, FarEnd, OutboxCounts, Sender};
use loom::thread;
use loom_tests::{CLOSE, EXACT, LARGE, frame, now, number, received, wait};

/// Returns a channel to which frame 1 was sent, with `len` bytes.
fn filled(len: usize) -> (Channel, FarEnd) {
    let (channel, far_end) = Channel::in_memory();
    channel.send_frame(&frame(1, len)).expect("the channel is open");
    (channel, far_end)
}

fn send(sender: &Sender, number: u8) -> bool {
    sender.send_frame(&frame(number, 1)).is_ok()
}

fn sent(counts: OutboxCounts) -> u64 {
    counts.written + counts.waiting as u64 + counts.dropped
}

#[test]
fn frames_arrive_whole_and_in_order_and_none_is_left() {
    loom::model(|| {
        let (channel, mut far_end) = filled(LARGE);
        let sender = channel.sender();
        let writer = thread::spawn(move || assert!(send(&sender, 2) && send(&sender, 3), "the channel is open"));
        let mut numbers = received(&mut far_end);
        writer.join().expect("a send does not panic");
        numbers.extend(received(&mut far_end));
        assert_eq!(numbers, [1, 2, 3], "a frame was lost, or overtook another");
        let counts = channel.sender().counts();
        assert_eq!((counts.written, sent(counts), counts.waiting_bytes), (3, 3, 0), "the counts do not add up");
    });
}

#[test]
fn a_client_that_waits_is_woken_for_every_frame() {
    for len in [LARGE, EXACT] {
        loom::model(move || {
            let (channel, mut far_end) = filled(len);
            let sender = channel.sender();
            let writer = thread::spawn(move || assert!(send(&sender, 2), "the channel is open"));
            let mut next = || wait(far_end.recv()).map(|message| number(&message));
            assert_eq!([next(), next()], [Some(1), Some(2)], "a frame was lost, or overtook another");
            writer.join().expect("a send does not panic");
        });
    }
}

#[test]
fn a_caller_that_awaits_an_empty_outbox_is_woken() {
    loom::model(|| {
        let (channel, mut far_end) = filled(LARGE);
        let sender = channel.sender();
        let client = thread::spawn(move || assert_eq!(received(&mut far_end), [1], "a frame was lost"));
        wait(sender.drained());
        client.join().expect("reading does not panic");
        assert_eq!(sender.counts().waiting, 0, "the outbox was not empty");
    });
}

#[test]
fn a_receiver_is_woken_by_a_close() {
    loom::model(|| {
        let (mut channel, _far_end) = filled(1);
        let sender = channel.sender();
        let other = thread::spawn(move || assert!(sender.close(CloseCode::NORMAL, ""), "nobody else closes it"));
        assert!(wait(channel.recv_message()).is_none(), "nobody sent a message");
        other.join().expect("a close does not panic");
    });
}

#[test]
fn a_receiver_is_woken_by_the_death_of_the_client() {
    loom::model(|| {
        let (mut channel, far_end) = filled(1);
        let client = thread::spawn(move || drop(far_end));
        assert!(wait(channel.recv_message()).is_some_and(|end| end.is_err()), "nobody sent a message");
        client.join().expect("a drop does not panic");
    });
}

#[test]
fn a_close_is_the_last_and_what_is_refused_is_counted() {
    loom::model(|| {
        let (channel, mut far_end) = filled(LARGE);
        let (sender, closer) = (channel.sender(), channel.sender());
        let writer = thread::spawn(move || send(&sender, 2));
        let closing = thread::spawn(move || assert!(closer.close(CloseCode::NORMAL, ""), "nobody else closes it"));
        let mut numbers = received(&mut far_end);
        closing.join().expect("a close does not panic");
        let accepted = writer.join().expect("a send does not panic");
        numbers.extend(received(&mut far_end));
        let expected: &[u8] = if accepted { &[1, 2, CLOSE] } else { &[1, CLOSE] };
        assert_eq!(numbers, expected, "the close is not the last");
        let counts = channel.sender().counts();
        assert_eq!((sent(counts), counts.waiting), (2, 0), "the counts do not add up");
        assert_eq!(counts.dropped == 0, accepted, "the counts do not add up");
    });
}

#[test]
fn the_counts_add_up_when_the_client_dies() {
    loom::model(|| {
        let (mut channel, mut far_end) = filled(LARGE);
        let (sender, observer) = (channel.sender(), channel.sender());
        let writer = thread::spawn(move || _ = send(&sender, 2));
        let client = thread::spawn(move || {
            let first = far_end.try_recv().map(|message| number(&message));
            assert_eq!(first, Some(1), "a frame was lost, or overtook another");
        });
        let before = observer.counts();
        assert!((1..=2).contains(&sent(before)), "the counts do not add up");
        // Like the driver of a connection, a receive notices the end when the client is gone.
        let noticed = now(channel.recv_message()).is_some();
        assert!((1..=2).contains(&sent(observer.counts())), "the counts do not add up");
        writer.join().expect("a send does not panic");
        client.join().expect("reading does not panic");
        assert!(noticed || now(channel.recv_message()).is_some(), "the death of the client was not noticed");
        let counts = observer.counts();
        assert_eq!((sent(counts), counts.waiting), (2, 0), "the counts do not add up");
    });
}
