//! The order promise of groups, under load: group sends, direct sends, joins, leaves and closes race.
//!
//! Each message says what its sender had sent before. A receiver thus sees at once whether anything
//! is missing, doubled, overtaken or torn.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use fanfare::channel::{Channel, ChannelId, CloseCode, FarEnd, FarMessage, OutboxLimits, Overflow};
use fanfare::group::{ChannelBox, JoinErrorReason};
use futures_executor::block_on;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    sender: usize,
    /// What this sender had sent to the group before.
    group: usize,
    /// What it had sent to each stable member directly before.
    direct: Vec<usize>,
    /// To whom this goes directly; `None` for the group.
    to: Option<usize>,
    /// Makes frames of many sizes, so that some are cut by a full pipe.
    padding: String,
}

/// What a receiver has seen of one sender.
#[derive(Default)]
struct Seen {
    group: Option<usize>,
    direct: usize,
}

const SENDERS: usize = 3;

struct Rig {
    channels: ChannelBox,
    members: Vec<ChannelId>,
    sends: usize,
}

impl Rig {
    /// Sends to the group and to members in turns, and says in each message what came before.
    fn send_all(&self, sender: usize) {
        let (mut group, mut direct) = (0, vec![0; self.members.len()]);
        for n in 0..self.sends {
            let padding = "x".repeat((n * 7919 + sender * 104_729) % 3000);
            let to = (n % 3 == 1).then_some((n / 3 + sender) % self.members.len());
            let said = Said { sender, group, direct: direct.clone(), to, padding };
            if let Some(to) = to {
                self.channels.send_to(self.members[to], &said).expect("no outbox is full");
                direct[to] += 1;
            } else {
                // A full log is the sender's to wait for.
                while !self.channels.group_send("room", &said).expect("it is JSON").is_accepted() {
                    thread::yield_now();
                }
                group += 1;
            }
        }
    }
}

fn parse(message: &FarMessage) -> Said {
    let FarMessage::Text(text) = message else { panic!("only text is sent: {message:?}") };
    serde_json::from_str(text).unwrap_or_else(|error| panic!("a frame is torn: {error}"))
}

impl Seen {
    /// Checks that nothing of this sender is missing before `said`.
    fn check(&mut self, said: &Said, me: Option<usize>) {
        let expected = *self.group.get_or_insert(said.group);
        assert_eq!(said.group, expected, "a group message is missing, doubled or overtaken");
        if let Some(me) = me {
            assert_eq!(said.direct[me], self.direct, "a direct message is missing, doubled or overtaken");
        }
        if said.to.is_some() {
            assert_eq!(said.to, me, "a direct message came to another member");
            self.direct += 1;
        } else {
            self.group = Some(expected + 1);
        }
    }
}

/// Reads to the close, and returns the group messages in the order in which they came.
fn read_all(mut far_end: FarEnd, me: usize) -> Vec<(usize, usize)> {
    let mut seen: HashMap<usize, Seen> =
        (0..SENDERS).map(|sender| (sender, Seen { group: Some(0), direct: 0 })).collect();
    let mut order = Vec::new();
    loop {
        match block_on(far_end.recv()) {
            Some(FarMessage::Close { code: DONE, .. }) => return order,
            Some(message) => {
                let said = parse(&message);
                seen.get_mut(&said.sender).expect("the sender is known").check(&said, Some(me));
                if said.to.is_none() {
                    order.push((said.sender, said.group));
                }
            }
            None => panic!("the channel ended without its close"),
        }
    }
}

/// Joins and leaves for as long as there is something to hear; each stay must be without a gap.
fn come_and_go(channels: &ChannelBox, done: &AtomicBool) -> usize {
    let mut stays = 0;
    while !done.load(SeqCst) {
        let (channel, mut far_end) = Channel::in_memory_with(wide());
        let membership = match channels.join(&channel, "room") {
            Ok(membership) => membership,
            // Everybody is closed at the end, who is about to join as well.
            Err(error) if error.reason() == JoinErrorReason::Closed => continue,
            Err(error) => panic!("{error}"),
        };
        for _ in 0..stays % 7 {
            thread::yield_now();
        }
        assert!(membership.leave());
        let mut seen: HashMap<usize, Seen> = HashMap::new();
        while let Some(message) = far_end.try_recv() {
            if matches!(message, FarMessage::Close { code: DONE, .. }) {
                break;
            }
            let said = parse(&message);
            seen.entry(said.sender).or_default().check(&said, None);
        }
        stays += 1;
    }
    stays
}

/// What a channel is closed with when all was sent.
const DONE: CloseCode = CloseCode::new(4000);

/// Limits that nothing here reaches.
fn wide() -> OutboxLimits {
    OutboxLimits::default().max_bytes(1 << 30).max_messages(1 << 20).overflow(Overflow::Close)
}

fn stress(members: usize, sends: usize, runtime: Option<&tokio::runtime::Runtime>) {
    let channels = ChannelBox::new();
    let (near, far): (Vec<_>, Vec<_>) = (0..members).map(|_| Channel::in_memory_with(wide())).unzip();
    let _memberships: Vec<_> = near.iter().map(|channel| channels.join(channel, "room").expect("it is new")).collect();
    let rig = Rig { channels: channels.clone(), members: near.iter().map(Channel::id).collect(), sends };
    let done = AtomicBool::new(false);
    let orders: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> =
            far.into_iter().enumerate().map(|(me, far)| scope.spawn(move || read_all(far, me))).collect();
        let churner = scope.spawn(|| come_and_go(&channels, &done));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let rig = &rig;
                scope.spawn(move || {
                    let _entered = runtime.map(|runtime| runtime.enter());
                    rig.send_all(sender);
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
        // By the last sender's leave: what was sent before the close arrives before it.
        assert!(channels.close_all(DONE, "done").count() >= members);
        done.store(true, SeqCst);
        assert!(churner.join().expect("the churner does not panic") > 0);
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
    });
    let group_sends = SENDERS * (0..sends).filter(|n| n % 3 != 1).count();
    for order in &orders {
        assert_eq!(order.len(), group_sends);
        assert!(*order == orders[0], "two members saw different orders");
    }
}

#[test]
fn every_member_sees_one_order_without_gaps_when_the_caller_sweeps() {
    stress(6, 3000, None);
}

#[test]
fn every_member_sees_one_order_without_gaps_when_a_task_sweeps() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads can be made");
    stress(40, 600, Some(&runtime));
}
