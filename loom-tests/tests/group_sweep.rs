//! Claims: of two senders one sweeps at a time; each member gets every frame once, all members in one order; and when
//! both sends have returned the log is empty. A caller that awaits a report is woken, and the report has as many
//! outcomes as the group had members.
//!
//! Planted faults: `token_store` gives the sweep up without a look whether another sender has asked meanwhile;
//! `two_sweepers` sweeps without the token; `settled_early` settles a frame before its outcomes are counted;
//! `relaxed_settle` publishes no counts; `lost_waiter` takes the list of waiters before it settles.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::channel::{Channel, CloseCode, FarEnd};
use fanfare::group::{ChannelBox, Delivery, Membership, SendReport};
use loom::thread;
use loom_tests::{frame, now, received, wait};

/// Returns a new member of the group `room`: its channel, its client's end, and its membership.
fn member(channels: &ChannelBox) -> (Channel, FarEnd, Membership) {
    let (channel, far_end) = Channel::in_memory();
    let membership = channels.join(&channel, "room").expect("the channel is open");
    (channel, far_end, membership)
}

#[test]
fn every_member_gets_every_frame_once_and_all_in_one_order() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (mut ada, mut bob) = (member(&channels), member(&channels));
        let others = channels.clone();
        let sender = thread::spawn(move || [3, 4].map(|number| others.group("room").send_frame(&frame(number, 1))));
        let mine = [1, 2].map(|number| channels.group("room").send_frame(&frame(number, 1)));
        let theirs = sender.join().expect("a send does not panic");
        let numbers = received(&mut ada.1);
        let of = |sender: &[u8]| numbers.iter().copied().filter(|number| sender.contains(number)).collect::<Vec<_>>();
        assert_eq!((of(&[1, 2]), of(&[3, 4])), (vec![1, 2], vec![3, 4]), "a frame was left in the log, or came twice");
        assert_eq!(received(&mut bob.1), numbers, "two members saw two orders");
        for report in mine.into_iter().chain(theirs) {
            let delivery = now(report.settled()).expect("both sweeps are over");
            assert_eq!(delivery, Delivery { written: 2, ..Delivery::default() }, "the outcomes do not add up");
        }
    });
}

#[test]
fn a_caller_that_awaits_a_report_finds_all_outcomes_in_it() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (ada, bob) = (member(&channels), member(&channels));
        let others = channels.clone();
        let sender = thread::spawn(move || drop(others.group("room").send_frame(&frame(2, 1))));
        // Perhaps the other thread sweeps this frame.
        let delivery = wait(channels.group("room").send_frame(&frame(1, 1)).settled());
        assert_eq!(delivery, Delivery { written: 2, ..Delivery::default() }, "the outcomes do not add up");
        sender.join().expect("a send does not panic");
        drop((ada, bob));
    });
}

#[test]
fn outcomes_add_up_when_a_pipe_takes_a_part() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (mut ada, bob) = (member(&channels), member(&channels));
        // Room for one of the two frames and a part of the other, perhaps joined into one piece.
        ada.0.send_frame(&frame(3, 61_000)).expect("the channel is open");
        let others = channels.clone();
        let sender = thread::spawn(move || others.group("room").send_frame(&frame(2, 3_000)));
        let mine = channels.group("room").send_frame(&frame(1, 3_000));
        let theirs = sender.join().expect("a send does not panic");
        let delivery = |report: SendReport| now(report.settled()).expect("both sweeps are over");
        let mut deliveries = [delivery(mine), delivery(theirs)];
        deliveries.sort_by_key(|delivery| delivery.queued);
        let (whole, partly) =
            (Delivery { written: 2, ..Delivery::default() }, Delivery { written: 1, queued: 1, dropped: 0 });
        assert_eq!(deliveries, [whole, partly], "the outcomes do not add up");
        let numbers = received(&mut ada.1);
        assert!(numbers == [3, 1, 2] || numbers == [3, 2, 1], "a frame was left in the log, or came twice");
        assert_eq!(
            (ada.0.sender().counts().written, bob.0.sender().counts().written),
            (3, 2),
            "the counts do not add up"
        );
    });
}

#[test]
fn outcomes_add_up_when_a_member_is_closed() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (mut ada, mut bob) = (member(&channels), member(&channels));
        let closer = ada.0.sender();
        let closing = thread::spawn(move || closer.close(CloseCode::NORMAL, ""));
        let report = channels.group("room").send_frame(&frame(1, 1));
        assert!(closing.join().expect("a close does not panic"), "nobody else closes it");
        let delivery = now(report.settled()).expect("the sweep is over");
        let arrived = received(&mut ada.1).contains(&1);
        let expected = Delivery { written: 1 + usize::from(arrived), queued: 0, dropped: usize::from(!arrived) };
        assert_eq!(delivery, expected, "the outcomes do not add up");
        assert_eq!(received(&mut bob.1), [1], "a member missed a frame");
    });
}
