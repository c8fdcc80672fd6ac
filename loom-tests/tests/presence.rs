//! Claims: no user stays present without a membership, however `enter` and the end of the membership meet. A member
//! that stays has heard of all changes in the end. A group that is opened anew meanwhile has the room of its name.
//!
//! Outside a runtime the thread that changes a presence ticks, one thread at a time: it also sends the changes that
//! other threads make meanwhile.
//!
//! Planted fault: `enter_unlooked` enters without a second look whether the membership has ended.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::SeqCst};

use fanfare::Dispatcher;
use fanfare::channel::{Channel, FarEnd, FarMessage};
use fanfare::group::{ChannelBox, PRESENCE_JOINED, PRESENCE_LEFT};
use loom::thread;

/// Returns the text frames that have arrived.
fn texts(far_end: &mut FarEnd) -> Vec<String> {
    let text = |message| match message {
        FarMessage::Text(text) => text,
        other => panic!("not text: {other:?}"),
    };
    std::iter::from_fn(|| far_end.try_recv()).map(text).collect()
}

#[test]
fn no_user_is_present_after_the_end_of_its_membership() {
    loom::model(|| {
        let (events, here) = (Dispatcher::new(), Arc::new(AtomicIsize::new(0)));
        // No caller finds a closed room: a user that stayed in it has an event for its join, and none for its leave.
        for (key, change) in [(PRESENCE_JOINED, 1), (PRESENCE_LEFT, -1)] {
            let here = Arc::clone(&here);
            events.on(key, move |_| _ = here.fetch_add(change, SeqCst)).expect("the keys are good");
        }
        let channels = ChannelBox::builder().events(&events).build();
        let (channel, _far_end) = Channel::in_memory();
        let membership = Arc::new(channels.join(&channel, "room").expect("the channel is open"));
        let other = Arc::clone(&membership);
        let entering = thread::spawn(move || other.enter(&1).map(std::mem::forget).is_ok());
        assert!(membership.leave(), "nobody else ends it");
        entering.join().expect("to enter does not panic");
        let counted = (channels.group("room").presence().count(), here.load(SeqCst));
        assert_eq!(counted, (0, 0), "somebody is present and is no member");
    });
}

#[test]
fn changes_of_two_members_at_once_are_sent_by_one_of_them() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (ada, mut at_ada) = Channel::in_memory();
        let (bob, _at_bob) = Channel::in_memory();
        let ada_in_room = channels.join(&ada, "room").expect("the channel is open");
        let bob_in_room = channels.join(&bob, "room").expect("the channel is open");
        let ada_is_here = ada_in_room.enter(&"first").expect("it is a member");
        let entering = thread::spawn(move || {
            let here = bob_in_room.enter(&"bob").expect("it is a member");
            (bob_in_room, here)
        });
        ada_is_here.update(&"second").expect("it is here");
        let _bob = entering.join().expect("to enter does not panic");
        let told = texts(&mut at_ada).concat();
        assert!(told.contains("\"second\"") && told.contains("\"bob\""), "a change was not told");
        assert_eq!(channels.group("room").presence().count(), 2, "somebody is missing");
    });
}

#[test]
fn a_member_that_enters_while_the_last_one_leaves_is_present_in_the_group_of_the_name() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let (leaver, _at_leaver) = Channel::in_memory();
        let (joiner, mut at_joiner) = Channel::in_memory();
        let membership = channels.join(&leaver, "room").expect("the channel is open");
        let here = membership.enter(&1).expect("it is a member");
        let leaving = thread::spawn(move || {
            assert!(membership.leave(), "nobody else ends it");
            drop(here);
        });
        let joined = channels.join(&joiner, "room").expect("the channel is open");
        let here = joined.enter(&2).expect("it is a member");
        leaving.join().expect("a leave does not panic");
        assert_eq!(channels.group("room").presence().count(), 1, "somebody is missing, or stays");
        assert!(texts(&mut at_joiner).concat().contains("\"type\":\"presence\""), "a newcomer was not told the state");
        drop((here, joined));
        assert_eq!(channels.group("room").presence().count(), 0, "somebody is present and is no member");
    });
}
