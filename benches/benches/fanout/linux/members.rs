//! The tables without a network: what a send costs its caller, and what a join costs, by the number of members.

use std::time::Instant;

use fanfare::channel::{Channel, FarEnd, FarMessage};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, Membership};
use futures_executor::block_on;
use tokio::runtime::{self, Runtime};

use super::engine::{Call, Calls, GROUP};
use super::machine::Machine;
use super::terms::Terms;
use super::wire::{self, Payload};

/// Messages that fit twice into the pipe of an in-memory channel, in which they wait to be read.
const BETWEEN_READS: u64 = 100;

struct Member {
    _channel: Channel,
    _membership: Membership,
    far_end: FarEnd,
    received: u64,
}

/// Who sends to a group of in-memory channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The thread that sweeps as well, as a connection's handler does in a runtime of one thread: nobody is woken.
    Inside,
    /// A thread on the load's core; the sweeps run on the server's.
    Outside,
}

impl Caller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inside => "from inside",
            Self::Outside => "from outside",
        }
    }

    /// Returns a runtime of one thread.
    fn runtime(self, machine: &Machine) -> Runtime {
        let start = |mut runtime: runtime::Builder| runtime.worker_threads(1).build().expect("a thread can be started");
        machine.stay_on_the_load_core();
        match self {
            Self::Inside => start(runtime::Builder::new_current_thread()),
            Self::Outside => machine.on_the_server_core(|| start(runtime::Builder::new_multi_thread())),
        }
    }

    fn run<T>(self, runtime: &Runtime, calls: impl Future<Output = T>) -> T {
        match self {
            Self::Inside => runtime.block_on(calls),
            Self::Outside => block_on(calls),
        }
    }
}

/// Times calls of a group of in-memory channels.
pub(super) fn time_calls(
    machine: &Machine,
    caller: Caller,
    members: usize,
    call: Call,
    len: usize,
    terms: Terms,
) -> Calls {
    let (runtime, times) = (caller.runtime(machine), call.times(members));
    let channels = ChannelBox::builder().groups(move |_| terms.group()).build();
    let mut members: Vec<_> = (0..members).map(|_| join(&channels)).collect();
    let mut payload = Payload::new(len);
    let mut calls = Calls::default();
    // The members have no runtime of their own: the group takes the caller's.
    let entered = runtime.enter();
    for first in (0..times).step_by(call.in_a_row()) {
        caller.run(&runtime, calls.send(&channels, &mut payload, call, first));
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

/// Times what no call can do without that leaves its work to a task: to spawn one. A thread that sleeps is woken for it.
pub(super) fn time_empty_tasks(machine: &Machine, caller: Caller, call: Call, times: u64) -> Calls {
    let (runtime, mut calls) = (caller.runtime(machine), Calls::default());
    for _ in 0..times {
        caller.run(&runtime, async {
            calls.rest(call);
            let task = calls.time(|| runtime.spawn(async {}));
            task.await.expect("it has nothing to fail at");
        });
    }
    calls
}

/// Times what else there is in a call with a message to serialise.
pub(super) fn time_serialising(machine: &Machine, call: Call, times: u64, len: usize) -> Calls {
    machine.stay_on_the_load_core();
    let (mut payload, mut calls) = (Payload::new(len), Calls::default());
    for seq in 0..times {
        calls.rest(call);
        let message = payload.message(seq, 0);
        let frame = calls.time(|| Frame::json(&message).expect("strings are JSON"));
        assert_eq!(frame.payload().len(), len);
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
            if wire::is_joined(text.as_bytes()) {
                continue;
            }
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
    assert_eq!(channels.group(GROUP).member_count(), joins, "everybody is in");
    [first, last]
}
