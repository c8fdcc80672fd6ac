//! Who is in a group and in a box of channels: joins, leaves, and what ends both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use fanfare::channel::{Channel, ChannelOptions, CloseCode, FarMessage, SendError, UserId};
use fanfare::group::{ChannelBox, JoinErrorReason};

fn text(text: &str) -> Option<FarMessage> {
    Some(FarMessage::Text(text.into()))
}

#[tokio::test]
async fn a_membership_ends_with_its_value_or_its_channel_and_the_group_with_its_last_member() {
    let channels = ChannelBox::new();
    let (a, _far_a) = Channel::in_memory();
    let (b, _far_b) = Channel::in_memory();
    let in_a = channels.join(&a, "room").unwrap();
    let in_b = channels.join(&b, "room").unwrap();
    assert_eq!(channels.group("room").members(), [a.id(), b.id()]);
    drop(in_a);
    assert_eq!(channels.group("room").members(), [b.id()]);
    let b_id = b.id();
    drop(b);
    assert!(!in_b.leave(), "the channel left when it was dropped");
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 1));
    assert!(matches!(channels.send_to(b_id, "x"), Err(SendError::Closed)));
    assert_eq!(channels.group_send("room", "x").unwrap().members(), 0);
    assert_eq!(channels.stats().groups, 0, "a send makes no group");
}

#[test]
fn a_channel_leaves_by_id_and_joins_again() {
    let channels = ChannelBox::new();
    let (channel, mut far) = Channel::in_memory();
    let first = channels.join(&channel, "room").unwrap();
    channels.group_send("room", "before").unwrap();
    assert!(channels.group("room").remove(channel.id()));
    assert!(!channels.group("room").remove(channel.id()));
    channels.group_send("room", "between").unwrap();
    let _second = channels.join(&channel, "room").unwrap();
    drop(first);
    channels.group_send("room", "after").unwrap();
    assert_eq!((far.try_recv(), far.try_recv(), far.try_recv()), (text("\"before\""), text("\"after\""), None));
}

#[test]
fn a_bad_join_is_refused_with_its_reason_and_leaves_nothing() {
    let channels = ChannelBox::new();
    let (channel, _far) = Channel::in_memory();
    let reason = |name: &str| channels.join(&channel, name).unwrap_err().reason();
    assert_eq!(reason(""), JoinErrorReason::InvalidName);
    assert_eq!(reason(&"x".repeat(256)), JoinErrorReason::InvalidName);
    assert_eq!(reason("a\nb"), JoinErrorReason::InvalidName);
    let _in = channels.join(&channel, "room").unwrap();
    assert_eq!(reason("room"), JoinErrorReason::AlreadyMember);
    let _many: Vec<_> = (1..1024).map(|n| channels.join(&channel, format!("room {n}")).unwrap()).collect();
    assert_eq!(reason("one more"), JoinErrorReason::TooManyGroups);
    assert_eq!(channels.stats().groups, 1024);
    let (closed, _far) = Channel::in_memory();
    closed.close(CloseCode::NORMAL, "");
    assert_eq!(channels.join(&closed, "new").unwrap_err().reason(), JoinErrorReason::Closed);
    assert_eq!(channels.stats().groups, 1024, "a refused join leaves no group behind");
}

#[test]
fn close_all_and_remove_all_reach_every_channel() {
    let channels = ChannelBox::new();
    let mut clients: Vec<_> = (0..5).map(|_| Channel::in_memory()).collect();
    let _memberships: Vec<_> = clients.iter().map(|(near, _)| channels.join(near, "room").unwrap()).collect();
    channels.group_send("room", "last words").unwrap();
    assert_eq!(channels.group("room").remove_all(), 5);
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 5));
    assert_eq!(channels.close_all(CloseCode::GOING_AWAY, "bye").count(), 5);
    assert_eq!(channels.close_all(CloseCode::GOING_AWAY, "bye").count(), 0);
    for (_, far) in &mut clients {
        assert_eq!(far.try_recv(), text("\"last words\""));
        assert_eq!(far.try_recv(), Some(FarMessage::Close { code: CloseCode::GOING_AWAY, reason: "bye".into() }));
    }
}

#[test]
fn a_user_that_is_revoked_again_is_remembered_as_the_last_one() {
    let channels = ChannelBox::new();
    let user = |name: &str| UserId::new(name).expect("it is short and plain");
    let begun = || Channel::in_memory_with(ChannelOptions::default().user(user("mallory")));
    channels.user(&user("mallory")).revoke();
    (0..16 * 1024 - 200).for_each(|number| _ = channels.user(&user(&format!("other {number}"))).revoke());
    let (channel, _far_end) = begun();
    channels.user(&user("mallory")).revoke();
    (0..2000).for_each(|number| _ = channels.user(&user(&format!("another {number}"))).revoke());
    assert!(!channels.add(&channel) && !channels.add(&channel));
    assert!(channels.add(&begun().0), "one that begins later may come in");
}

/// Counts those that are left.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn a_channels_metadata_goes_with_it_and_may_use_the_box_as_it_goes() {
    struct Farewell(ChannelBox, #[expect(dead_code, reason = "it counts")] Counted);

    impl Drop for Farewell {
        fn drop(&mut self) {
            let (channel, _far_end) = Channel::in_memory();
            self.0.add(&channel);
        }
    }

    let (channels, left) = (ChannelBox::new(), Arc::new(AtomicUsize::new(2000)));
    for _ in 0..2000 {
        let metadata = Farewell(channels.clone(), Counted(Arc::clone(&left)));
        let (channel, _far_end) = Channel::in_memory_with(ChannelOptions::default().metadata(metadata));
        assert!(channels.add(&channel));
    }
    assert_eq!((left.load(SeqCst), channels.stats().channels), (0, 0));
}
