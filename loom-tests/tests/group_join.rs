//! Claims: a member gets the messages of its group from its join on, without a gap and none twice; and all messages
//! that are sent after its `join` returned.
//!
//! Planted fault: `early_cursor` reads where the log ends, and becomes a member under the next lock.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::channel::Channel;
use fanfare::group::ChannelBox;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use loom_tests::{frame, received};

#[test]
fn a_member_gets_all_from_its_join_on() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (first, mut at_first) = Channel::in_memory();
        let (second, mut at_second) = Channel::in_memory();
        let _first_in_room = channels.join(&first, "room").expect("the channel is open");
        let has_joined = Arc::new(AtomicBool::new(false));
        let (others, flag) = (channels.clone(), Arc::clone(&has_joined));
        let sender = thread::spawn(move || {
            others.group("room").send_frame(&frame(1, 1));
            let must_arrive = flag.load(Ordering::Acquire);
            others.group("room").send_frame(&frame(2, 1));
            must_arrive
        });
        let _second_in_room = channels.join(&second, "room").expect("the channel is open");
        has_joined.store(true, Ordering::Release);
        let must_arrive = sender.join().expect("a send does not panic");
        channels.group("room").send_frame(&frame(3, 1));
        assert_eq!(received(&mut at_first), [1, 2, 3], "a member missed a frame");
        let numbers = received(&mut at_second);
        assert!([1, 2, 3].ends_with(&numbers) && !numbers.is_empty(), "a member saw a gap after its join");
        assert!(!must_arrive || numbers.len() >= 2, "a member missed a frame");
    });
}

#[test]
fn two_senders_reach_a_new_member_in_one_order() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (first, mut at_first) = Channel::in_memory();
        let (second, mut at_second) = Channel::in_memory();
        let _first_in_room = channels.join(&first, "room").expect("the channel is open");
        let senders = [1, 2].map(|number| {
            let others = channels.clone();
            thread::spawn(move || drop(others.group("room").send_frame(&frame(number, 1))))
        });
        let _second_in_room = channels.join(&second, "room").expect("the channel is open");
        for sender in senders {
            sender.join().expect("a send does not panic");
        }
        let (all, numbers) = (received(&mut at_first), received(&mut at_second));
        assert!(all == [1, 2] || all == [2, 1], "a member missed a frame");
        assert!(all.ends_with(&numbers), "a member saw a gap after its join");
    });
}
