//! The tables without a network: what a send costs its caller, and what a join costs, by the number of members.

use std::time::Instant;

use fanfare::channel::{Channel, FarEnd, FarMessage};
use fanfare::group::{ChannelBox, Membership};
use tokio::runtime;

use super::engine::{Call, Calls, GROUP};
use super::wire::Payload;

/// Messages that fit twice into the pipe of an in-memory channel, in which they wait to be read.
const BETWEEN_READS: u64 = 100;

struct Member {
    _channel: Channel,
    _membership: Membership,
    far_end: FarEnd,
    received: u64,
}

/// Times calls of a group of in-memory channels, whose sweeps run on another thread.
pub(super) fn time_calls(members: usize, call: Call, times: u64, len: usize) -> Calls {
    let sweeper = runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a thread can be started");
    let channels = ChannelBox::new();
    let mut members: Vec<_> = (0..members).map(|_| join(&channels)).collect();
    let mut payload = Payload::new(len);
    let mut calls = Calls::default();
    // The members have no runtime of their own: the group takes the caller's.
    let entered = sweeper.enter();
    for first in (0..times).step_by(call.in_a_row()) {
        calls.send(&channels, &mut payload, call, first);
        if first % BETWEEN_READS == 0 {
            members.iter_mut().for_each(|member| member.read(&payload));
        }
    }
    drop(entered);
    for member in &mut members {
        member.read(&payload);
        assert_eq!(member.received, times, "everybody gets everything");
    }
    calls
}

fn join(channels: &ChannelBox) -> Member {
    let (channel, far_end) = Channel::in_memory();
    let membership = channels.join(&channel, GROUP).expect("the name is good");
    Member { _channel: channel, _membership: membership, far_end, received: 0 }
}

impl Member {
    fn read(&mut self, payload: &Payload) {
        while let Some(message) = self.far_end.try_recv() {
            let FarMessage::Text(text) = message else { panic!("not a message that was sent: {message:?}") };
            assert_eq!(payload.read(text.as_bytes()), Some((self.received, 0)), "each once, in order");
            self.received += 1;
        }
    }
}

/// Returns the nanoseconds per join of the first thousand, and of the last.
pub(super) fn time_joins(joins: usize) -> [f64; 2] {
    let channels = ChannelBox::new();
    let clients: Vec<_> = (0..joins).map(|_| Channel::in_memory()).collect();
    let mut memberships = Vec::with_capacity(joins);
    let mut join = |clients: &[(Channel, FarEnd)]| {
        let start = Instant::now();
        let joined = clients.iter().map(|(channel, _)| channels.join(channel, GROUP).expect("the name is good"));
        memberships.extend(joined);
        start.elapsed().as_nanos() as f64 / clients.len() as f64
    };
    let first = join(&clients[..1000]);
    join(&clients[1000..joins - 1000]);
    let last = join(&clients[joins - 1000..]);
    assert_eq!(channels.member_count(GROUP), joins, "everybody is in");
    [first, last]
}
