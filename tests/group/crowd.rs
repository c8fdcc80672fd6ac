//! Many groups, many members, and many threads that join, leave and send at once: all counts return to zero.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use fanfare::channel::{Channel, FarEnd, FarMessage, OutboxLimits};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, JoinErrorReason, Membership};

/// A fifth of them where nothing is optimised.
const GROUPS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
const MEMBERS: usize = 10;
/// The most groups that a channel may be in.
const MAX_GROUPS: usize = 1024;

fn received(far: &mut FarEnd) -> Vec<String> {
    let texts = std::iter::from_fn(|| far.try_recv());
    texts
        .map(|message| match message {
            FarMessage::Text(text) => text,
            other => panic!("not text: {other:?}"),
        })
        .collect()
}

#[test]
fn a_hundred_thousand_groups_of_ten_each_hear_their_own_and_vanish_with_their_members() {
    /// So many groups have the same members.
    const ROW: usize = 32;
    let rows = GROUPS.div_ceil(ROW);
    let channels = ChannelBox::new();
    let mut clients: Vec<_> = (0..rows * MEMBERS).map(|_| Channel::in_memory()).collect();
    let mut memberships: Vec<Membership> = Vec::with_capacity(GROUPS * MEMBERS);
    for group in 0..GROUPS {
        let name = format!("group {group}");
        let row = group / ROW;
        for (near, _) in &clients[row * MEMBERS..][..MEMBERS] {
            memberships.push(channels.join(near, &name).expect("there is room"));
        }
    }
    assert_eq!((channels.stats().groups, channels.stats().channels), (GROUPS, clients.len()));
    for group in 0..GROUPS {
        let frame = Frame::text(group.to_string());
        assert_eq!(channels.group(format!("group {group}")).send_frame(&frame).members(), MEMBERS);
    }
    for (number, (_, far)) in clients.iter_mut().enumerate() {
        let row = number / MEMBERS * ROW;
        let expected: Vec<_> = (row..GROUPS.min(row + ROW)).map(|group| group.to_string()).collect();
        assert_eq!(received(far), expected, "client {number}");
    }
    // Half of the groups by their memberships, the others by their channels.
    memberships.truncate(GROUPS * MEMBERS / 2);
    assert_eq!(channels.stats().groups, GROUPS / 2);
    drop(clients);
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 0));
    assert!(memberships.iter().all(|membership| !membership.leave()));
}

#[test]
fn a_channel_in_as_many_groups_as_it_may_be_is_refused_one_more_until_it_leaves_one() {
    let channels = ChannelBox::new();
    let (channel, mut far) = Channel::in_memory_with(OutboxLimits::default().max_messages(2 * MAX_GROUPS));
    let mut memberships: Vec<_> =
        (0..MAX_GROUPS).map(|n| channels.join(&channel, format!("group {n}")).expect("there is room")).collect();
    let refused = || channels.join(&channel, "one more").unwrap_err().reason();
    assert_eq!(refused(), JoinErrorReason::TooManyGroups);
    for n in 0..MAX_GROUPS {
        assert!(channels.group(format!("group {n}")).send_frame(&Frame::text(n.to_string())).is_accepted());
    }
    assert_eq!(received(&mut far), (0..MAX_GROUPS).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(memberships.swap_remove(500));
    memberships.push(channels.join(&channel, "one more").expect("there is room again"));
    assert_eq!(refused(), JoinErrorReason::TooManyGroups);
    assert_eq!((channels.stats().groups, channels.group("group 500").member_count()), (MAX_GROUPS, 0));
}

#[test]
fn a_storm_of_joins_and_leaves_amid_sends_loses_nothing_for_who_stays_and_leaves_nothing_behind() {
    const SENDS: usize = 20_000;
    const NAMES: usize = 4;
    let channels = ChannelBox::new();
    let name = |n: usize| format!("group {}", n % NAMES);
    let over = AtomicBool::new(false);
    let joins = AtomicUsize::new(0);
    let (stays, mut stays_far) =
        Channel::in_memory_with(OutboxLimits::default().max_bytes(usize::MAX).max_messages(usize::MAX));
    let _stays_in = channels.join(&stays, "group 0").expect("there is room");
    thread::scope(|scope| {
        for storm in 0..3 {
            let (channels, over, joins) = (&channels, &over, &joins);
            scope.spawn(move || {
                for round in storm.. {
                    if over.load(SeqCst) && round > 100 {
                        return;
                    }
                    let (near, far) = Channel::in_memory();
                    let memberships: Vec<_> =
                        (0..NAMES).map(|n| channels.join(&near, name(n)).expect("there is room")).collect();
                    joins.fetch_add(NAMES, SeqCst);
                    // Each way to go: by membership, by channel, by name, by a client that dies.
                    match round % 4 {
                        0 => drop(memberships),
                        1 => drop(near),
                        2 => assert!((0..NAMES).all(|n| channels.group(name(n)).remove(near.id()))),
                        _ => drop(far),
                    }
                }
            });
        }
        for n in 0..SENDS {
            // A group that is swept by a thread which does not run now may be full.
            while !channels.group(name(n)).send_frame(&Frame::text(n.to_string())).is_accepted() {
                thread::yield_now();
            }
        }
        over.store(true, SeqCst);
    });
    assert!(joins.load(SeqCst) >= 3 * 97 * NAMES);
    let expected: Vec<_> = (0..SENDS).step_by(NAMES).map(|n| n.to_string()).collect();
    assert_eq!(received(&mut stays_far), expected, "who stayed has all of its group, in order");
    assert_eq!((channels.groups(), channels.group("group 0").member_count()), (vec!["group 0".to_owned()], 1));
    assert_eq!(channels.stats().channels, 1);
    drop(stays);
    assert_eq!((channels.stats().groups, channels.stats().channels), (0, 0));
}
