//! Claims: a box forgets a channel that ends while it is added; a revoked user's channel is in no group.
//!
//! Planted fault: `home_first` lets the channel report its end to the box before the box knows the channel.

#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

use fanfare::channel::{Channel, ChannelOptions, UserId};
use fanfare::group::ChannelBox;
use loom::thread;

#[test]
fn a_channel_that_ends_while_it_is_added_is_forgotten() {
    loom::model(|| {
        let (channels, elsewhere) = (ChannelBox::new(), ChannelBox::new());
        let mallory = UserId::new("mallory").expect("a name");
        let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(mallory.clone()));
        assert!(elsewhere.add(&channel));
        // It ends on another thread: there it is revoked.
        let revoker = thread::spawn(move || assert_eq!(elsewhere.user(&mallory).revoke(), 1));
        channels.add(&channel);
        revoker.join().expect("a revocation does not panic");
        drop(channel);
        assert_eq!(channels.stats().channels, 0, "a box knows a channel that has ended");
    });
}

#[test]
fn a_user_that_is_revoked_while_it_joins_is_in_no_group() {
    loom::model(|| {
        let channels = ChannelBox::new();
        let mallory = UserId::new("mallory").expect("a name");
        let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().user(mallory.clone()));
        let others = channels.clone();
        let revoker = thread::spawn(move || others.user(&mallory).revoke());
        let joined = channels.join(&channel, "room");
        revoker.join().expect("a revocation does not panic");
        assert_eq!(channels.group("room").member_count(), 0, "a revoked user is in a group");
        assert!(!channel.is_active());
        drop(joined);
        assert_eq!(channels.stats().groups, 0);
    });
}
