//! Claims: a message sent to a group before a member left it is delivered, a later one is not, and a report's outcomes
//! add up to the members; the same holds when the channel is dropped. A group is in the box exactly as long as it has
//! members, and a channel that joins while the last member leaves gets messages.
//!
//! Planted faults: `leave_unseen` leaves without a second look at the log; `late_unlisting` takes the second look, and
//! leaves the list of members under the next lock; `join_of_closed` joins a group whose last member has left;
//! `vanish_by_name` takes whatever group has the name out of the box; `vanish_unlooked` takes out a group that a failed
//! join has found, though it has members.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use fanfare::channel::{Channel, CloseCode};
use fanfare::group::ChannelBox;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use loom_tests::{CLOSE, frame, now, received};

#[test]
fn a_message_before_a_leave_arrives_and_none_after() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (leaver, mut at_leaver) = Channel::in_memory();
        let (stayer, mut at_stayer) = Channel::in_memory();
        let membership = channels.join(&leaver, "room").expect("the channel is open");
        let _stays = channels.join(&stayer, "room").expect("the channel is open");
        let has_left = Arc::new(AtomicBool::new(false));
        let (others, flag) = (channels.clone(), Arc::clone(&has_left));
        let other = thread::spawn(move || {
            let gone = flag.load(Ordering::Acquire);
            others.group("room").send_frame(&frame(9, 1));
            gone
        });
        channels.group("room").send_frame(&frame(1, 1));
        assert!(membership.leave(), "nobody else ends it");
        let numbers = received(&mut at_leaver);
        has_left.store(true, Ordering::Release);
        let gone = other.join().expect("a send does not panic");
        assert!(numbers.contains(&1), "a frame that was sent before the leave did not arrive");
        assert!(received(&mut at_leaver).is_empty(), "a frame arrived after the leave");
        assert!(!gone || numbers == [1], "a frame came from the future");
        assert_eq!(received(&mut at_stayer).len(), 2, "a member missed a frame");
    });
}

#[test]
fn outcomes_add_up_when_a_member_leaves() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (leaver, mut at_leaver) = Channel::in_memory();
        let (stayer, mut at_stayer) = Channel::in_memory();
        let membership = channels.join(&leaver, "room").expect("the channel is open");
        let _stays = channels.join(&stayer, "room").expect("the channel is open");
        let senders = [8, 9].map(|number| {
            let others = channels.clone();
            thread::spawn(move || others.group("room").send_frame(&frame(number, 1)))
        });
        assert!(membership.leave(), "nobody else ends it");
        let reports = senders.map(|sender| sender.join().expect("a send does not panic"));
        for report in &reports {
            let delivery = now(report.settled()).expect("both sweeps are over");
            assert_eq!(delivery.written, report.members(), "the outcomes do not add up");
        }
        let arrived = received(&mut at_leaver).len() + received(&mut at_stayer).len();
        let expected: usize = reports.iter().map(|report| report.members()).sum();
        assert_eq!(arrived, expected, "the outcomes do not add up");
    });
}

#[test]
fn a_message_before_the_drop_of_a_channel_arrives_before_its_close() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (channel, mut far_end) = Channel::in_memory();
        let membership = channels.join(&channel, "room").expect("the channel is open");
        let others = channels.clone();
        let other = thread::spawn(move || others.group("room").send_frame(&frame(9, 1)));
        channels.group("room").send_frame(&frame(1, 1));
        let sender = channel.sender();
        drop(channel);
        assert!(!membership.leave(), "the drop of the channel ended it");
        let report = other.join().expect("a send does not panic");
        let mut numbers = received(&mut far_end);
        assert_eq!(numbers.pop(), Some(CLOSE), "the close is not the last");
        assert!(numbers.contains(&1), "a frame that was sent before the leave did not arrive");
        let delivery = now(report.settled()).expect("both sweeps are over");
        assert_eq!(delivery.written, report.members(), "the outcomes do not add up");
        assert_eq!(numbers.contains(&9), report.members() == 1, "the outcomes do not add up");
        assert_eq!(sender.counts().written, numbers.len() as u64, "the counts do not add up");
        assert_eq!((channels.stats().groups, channels.stats().channels), (0, 0), "the box did not forget");
    });
}

#[test]
fn a_channel_that_joins_while_the_last_member_leaves_is_reached() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (leaver, _at_leaver) = Channel::in_memory();
        let (joiner, mut at_joiner) = Channel::in_memory();
        let membership = channels.join(&leaver, "room").expect("the channel is open");
        let leaving = thread::spawn(move || assert!(membership.leave(), "nobody else ends it"));
        let joined = channels.join(&joiner, "room").expect("the channel is open");
        channels.group("room").send_frame(&frame(1, 1));
        leaving.join().expect("a leave does not panic");
        channels.group("room").send_frame(&frame(2, 1));
        assert_eq!(received(&mut at_joiner), [1, 2], "a member was not reached");
        assert_eq!(channels.group("room").members(), [joiner.id()], "the group is not what it should be");
        drop(joined);
        assert_eq!(channels.stats().groups, 0, "a group without members is in the box");
    });
}

#[test]
fn a_join_that_fails_takes_no_group_away() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (closed, _at_closed) = Channel::in_memory();
        let (joiner, mut at_joiner) = Channel::in_memory();
        closed.close(CloseCode::NORMAL, "");
        let others = channels.clone();
        let failing = thread::spawn(move || assert!(others.join(&closed, "room").is_err(), "the channel is closed"));
        let joined = channels.join(&joiner, "room").expect("the channel is open");
        channels.group("room").send_frame(&frame(1, 1));
        failing.join().expect("a join does not panic");
        channels.group("room").send_frame(&frame(2, 1));
        assert_eq!(received(&mut at_joiner), [1, 2], "a member was not reached");
        drop(joined);
        assert_eq!(channels.stats().groups, 0, "a group without members is in the box");
    });
}

#[test]
fn a_group_vanishes_with_the_last_of_two_that_leave() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (ada, _at_ada) = Channel::in_memory();
        let (bob, _at_bob) = Channel::in_memory();
        let ada_in_room = channels.join(&ada, "room").expect("the channel is open");
        let bob_in_room = channels.join(&bob, "room").expect("the channel is open");
        let leaving = thread::spawn(move || assert!(ada_in_room.leave(), "nobody else ends it"));
        assert!(bob_in_room.leave(), "nobody else ends it");
        leaving.join().expect("a leave does not panic");
        assert_eq!(channels.stats().groups, 0, "a group without members is in the box");
    });
}
