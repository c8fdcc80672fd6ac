//! Many small groups: what a membership takes, and what it costs to join, to leave, and to send to one of them.
//!
//! In a process of its own: what another table has given back to the allocator would be taken first, and the resident
//! memory would not grow by what is needed.

use std::env;
use std::process::{self, Command, Stdio};
use std::time::Instant;

use fanfare::channel::{Channel, FarEnd, FarMessage};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, Membership};
use fanfare_benches::{median, quantile};
use serde::{Deserialize, Serialize};

use super::machine;

pub(super) const GROUPS: usize = 100_000;
pub(super) const MEMBERS: usize = 10;
/// Each of them is in a hundred groups.
pub(super) const CHANNELS: usize = 10_000;
/// Sends to one and the same group: no more than fits into the pipe of an in-memory channel.
const SENDS_AGAIN: usize = 1000;

/// What one process has measured.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Costs {
    /// Resident memory, the groups' share included.
    pub(super) bytes_per_membership: f64,
    pub(super) join_ns: f64,
    /// To a group that nobody has sent to for long, as to any of very many.
    pub(super) send_ns: f64,
    pub(super) send_p99_ns: f64,
    /// To the group of the send before.
    pub(super) send_again_ns: f64,
    pub(super) leave_ns: f64,
    /// What a second round of joins and leaves adds to the resident memory that the first one has left behind, for the
    /// allocator keeps what was freed: nothing, unless something is left of a group.
    pub(super) second_round_kib: f64,
}

/// Measures in a process of its own, which runs [`print_costs`].
pub(super) fn measure() -> Costs {
    let program = env::current_exe().expect("a program knows where it is");
    let run = Command::new(program).arg("--measure=groups").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let run = run.expect("what runs can be run");
    assert!(run.status.success(), "it has said why");
    serde_json::from_slice(&run.stdout).expect("it prints what it has measured")
}

pub(super) fn print_costs() {
    let (channels, mut clients) = (ChannelBox::new(), clients());
    let names: Vec<String> = (0..GROUPS).map(|group| format!("group {group}")).collect();
    let before = resident_kib();
    let (memberships, join_ns) = timed(GROUPS * MEMBERS, || join_all(&channels, &clients, &names));
    let bytes_per_membership = (resident_kib() - before) * 1024.0 / (GROUPS * MEMBERS) as f64;
    assert_eq!(channels.stats().groups, GROUPS, "all groups are there");

    let cold: Vec<f64> = (0..GROUPS).map(|turn| time_send(&channels, &names, scattered(turn))).collect();
    for (number, (_, far_end)) in clients.iter_mut().enumerate() {
        let mut received = numbers(far_end);
        received.sort_unstable();
        let in_groups: Vec<_> = (0..GROUPS).filter(|group| group % (CHANNELS / MEMBERS) == slot(number)).collect();
        assert_eq!(received, in_groups, "each member gets what is sent to its groups, once");
    }
    let again: Vec<f64> = (0..SENDS_AGAIN).map(|_| time_send(&channels, &names, 0)).collect();

    let ((), leave_ns) = timed(GROUPS * MEMBERS, || drop(memberships));
    assert_eq!((channels.stats().groups, channels.groups()), (0, Vec::new()), "with its last member a group is gone");
    let left = resident_kib();
    drop(join_all(&channels, &clients, &names));
    assert_eq!(channels.stats().groups, 0, "gone as before");
    let costs = Costs {
        bytes_per_membership,
        join_ns,
        send_ns: median(cold.clone()),
        send_p99_ns: quantile(cold, 0.99),
        send_again_ns: median(again),
        leave_ns,
        second_round_kib: resident_kib() - left,
    };
    println!("{}", serde_json::to_string(&costs).expect("it is plain data"));
}

fn clients() -> Vec<(Channel, FarEnd)> {
    (0..CHANNELS).map(|_| Channel::in_memory()).collect()
}

fn resident_kib() -> f64 {
    machine::resident_kib(process::id()) as f64
}

fn timed<T>(times: usize, act: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = act();
    (done, start.elapsed().as_nanos() as f64 / times as f64)
}

/// Joins group after group; the members of one are a tenth of all channels apart.
fn join_all(channels: &ChannelBox, clients: &[(Channel, FarEnd)], names: &[String]) -> Vec<Membership> {
    let member = |group: usize, place: usize| &clients[place * (CHANNELS / MEMBERS) + group % (CHANNELS / MEMBERS)].0;
    let places = (0..GROUPS).flat_map(|group| (0..MEMBERS).map(move |place| (group, place)));
    places.map(|(group, place)| channels.join(member(group, place), &names[group]).expect("the name is good")).collect()
}

/// Returns what the numbers of a channel's groups have in common.
fn slot(channel: usize) -> usize {
    channel % (CHANNELS / MEMBERS)
}

/// Goes through all groups, with others in between that were made long before or after.
fn scattered(turn: usize) -> usize {
    turn * 61_803 % GROUPS
}

fn time_send(channels: &ChannelBox, names: &[String], group: usize) -> f64 {
    let frame = Frame::text(format!("{group}"));
    let start = Instant::now();
    let report = channels.group(&names[group]).send_frame(&frame);
    let ns = start.elapsed().as_nanos() as f64;
    assert_eq!((report.members(), report.is_accepted()), (MEMBERS, true), "it is for all members");
    ns
}

fn numbers(far_end: &mut FarEnd) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(message) = far_end.try_recv() {
        let FarMessage::Text(text) = message else { panic!("not a message that was sent: {message:?}") };
        numbers.push(text.parse().expect("the number of a group"));
    }
    numbers
}
