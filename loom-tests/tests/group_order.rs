//! Claims: the messages of one caller to a group, then to a channel in it, and then a close arrive in this order,
//! whichever thread's sweep takes the group's frame there.
//!
//! Planted faults: `no_catch_up` sends without a look at the logs of the channel's groups; `close_no_catch_up` closes
//! without it; `late_head` takes the frames of the log, and reads its head under the next lock.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::channel::{Channel, CloseCode};
use fanfare::group::ChannelBox;
use loom::thread;
use loom_tests::{CLOSE, frame, received};

#[test]
fn a_send_to_a_channel_does_not_overtake_a_send_to_its_group() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (channel, mut far_end) = Channel::in_memory();
        let _membership = channels.join(&channel, "room").expect("the channel is open");
        let others = channels.clone();
        let other = thread::spawn(move || drop(others.group("room").send_frame(&frame(9, 1))));
        channels.group("room").send_frame(&frame(1, 1));
        channels
            .sender(channel.id())
            .expect("the channel is known")
            .send_frame(&frame(2, 1))
            .expect("the channel is open");
        other.join().expect("a send does not panic");
        let mut numbers = received(&mut far_end);
        assert!(numbers.contains(&9), "a member missed a frame");
        numbers.retain(|number| *number != 9);
        assert_eq!(numbers, [1, 2], "one caller's frames changed places");
        assert_eq!(channel.sender().counts().written, 3, "a frame was lost, or came twice");
    });
}

#[test]
fn a_close_does_not_overtake_a_send_to_the_group() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (channel, mut far_end) = Channel::in_memory();
        let _membership = channels.join(&channel, "room").expect("the channel is open");
        let others = channels.clone();
        let other = thread::spawn(move || drop(others.group("room").send_frame(&frame(9, 1))));
        channels.group("room").send_frame(&frame(1, 1));
        assert!(channel.close(CloseCode::NORMAL, ""), "nobody else closes it");
        other.join().expect("a send does not panic");
        let numbers = received(&mut far_end);
        assert!(
            [&[1, CLOSE][..], &[9, 1, CLOSE], &[1, 9, CLOSE]].contains(&&*numbers),
            "a close came before what was sent before it: {numbers:?}"
        );
        let counts = channel.sender().counts();
        assert_eq!(counts.written + counts.dropped, 2, "the counts do not add up");
        assert_eq!(counts.written, numbers.len() as u64 - 1, "the counts do not add up");
    });
}
