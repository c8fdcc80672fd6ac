//! fanfare as a server: every client is in one group, and what a client says is sent to it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use fanfare::channel::{Channel, Message, OutboxCounts, Sender, UserId};
use fanfare::frame::Frame;
use fanfare::group::{ChannelBox, SendReport};
use fanfare::ws::Upgrade;
use fanfare_benches::served::{Books, Counts, answer_questions, json};
use futures_executor::block_on;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::runtime;

use super::machine;
use super::terms::{Deflate, Terms};
use super::wire::Payload;

pub(super) const GROUP: &str = "all";
/// Asks for the times of [`Calls`]; their name, number and size follow, and the caller's core.
pub(super) const CALLS: &str = "calls";

/// From one call, or some in a row, to the next.
const PACE: Duration = Duration::from_millis(1);
/// Twice the cache of most machines, and about what a sweep of 100 000 in-memory members goes through.
const OTHER_DATA: usize = 64 << 20;
const CACHE_LINE: usize = 64;

/// Serves from one thread: the runtime's own, or a worker of it.
pub(super) fn serve(multi: bool, terms: Terms) -> io::Result<()> {
    let mut runtime = if multi { runtime::Builder::new_multi_thread() } else { runtime::Builder::new_current_thread() };
    runtime.worker_threads(1).enable_all().build()?.block_on(accept(terms))
}

async fn accept(terms: Terms) -> io::Result<()> {
    let (channels, books) = (ChannelBox::builder().groups(move |_| terms.group()).build(), Books::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    answer_questions(listener.local_addr()?.port(), {
        let (channels, books) = (channels.clone(), books.clone());
        move |question| books.answer(question).or_else(|| time_calls(&channels, question))
    });
    let route = async move |upgrade: Upgrade| {
        let upgrade = upgrade.outbox(terms.outbox());
        let upgrade = if terms.deflate == Deflate::Off { upgrade } else { upgrade.deflate() };
        let upgrade = if terms.identity { upgrade.user(somebody()) } else { upgrade };
        upgrade.run(async move |channel| pass_on(channel, channels, books, terms).await)
    };
    axum::serve(listener, Router::new().route("/", get(route))).await
}

async fn pass_on(mut channel: Channel, channels: ChannelBox, books: Books, terms: Terms) -> Result<(), fanfare::Error> {
    let port = channel.peer_addr().ok_or("a socket has a peer")?.port();
    let membership = channels.join(&channel, GROUP)?;
    let here = terms.identity.then(|| membership.enter(&Info { name: "somebody", away: false })).transpose()?;
    let sender = channel.sender();
    books.joined(port, move || counts(&sender));
    // A client that breaks off has left like any other.
    while let Some(Ok(message)) = channel.recv_message().await {
        let accepted = match terms.deflate {
            Deflate::Each => send_to_each(&channels, &message),
            Deflate::Off | Deflate::Shared => channels.group(GROUP).send_frame(&frame(&message)).is_accepted(),
        };
        books.sent(accepted);
    }
    drop((here, membership));
    books.left(port);
    Ok(())
}

/// Returns a user that nobody else is.
fn somebody() -> UserId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    UserId::new(format!("user-{}", NEXT.fetch_add(1, Relaxed))).expect("it is short and plain")
}

/// What others see of a user.
#[derive(Serialize)]
struct Info {
    name: &'static str,
    away: bool,
}

fn frame(message: &Message) -> Frame {
    match message {
        Message::Text(text) => Frame::text(text),
        Message::Binary(bytes) => Frame::binary(bytes),
    }
}

/// Sends each member a frame of its own: what is compressed for one serves no other.
fn send_to_each(channels: &ChannelBox, message: &Message) -> bool {
    channels
        .group(GROUP)
        .members()
        .into_iter()
        .all(|member| channels.sender(member).is_some_and(|sender| sender.send_frame(&frame(message)).is_ok()))
}

fn counts(sender: &Sender) -> Counts {
    let OutboxCounts { written, waiting, waiting_bytes, dropped, .. } = sender.counts();
    Counts { written, waiting: waiting as u64, waiting_bytes: waiting_bytes as u64, dropped }
}

/// How a caller sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A frame that is there, a millisecond after the one before: a sweep begins, and a sleeping thread wakes.
    Idle,
    /// As `Idle`, and neither the caller nor the sweep finds anything in its caches.
    Cold,
    /// A frame that is there, right behind another one: a sweep is on its way.
    Burst,
    /// As `Idle`, with the message still to be serialised.
    Json,
}

impl Call {
    pub(super) const ALL: [Self; 4] = [Self::Idle, Self::Cold, Self::Burst, Self::Json];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Cold => "cold",
            Self::Burst => "burst",
            Self::Json => "json",
        }
    }

    /// Returns how many calls are timed in one run: fewer where the next one has to wait for a large sweep, or more.
    pub(super) fn times(self, members: usize) -> u64 {
        if self == Self::Cold || members > 10_000 { 100 } else { 400 }
    }

    /// Returns how many calls follow each other before the group is let come to rest.
    pub(super) fn in_a_row(self) -> usize {
        if self == Self::Burst { 10 } else { 1 }
    }
}

/// Nanoseconds per call.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Calls {
    pub(super) ns: Vec<u64>,
    /// What a cold call goes through before.
    #[serde(skip)]
    other_data: Vec<u8>,
}

impl Calls {
    /// Sends the messages from `first` on, some in a row, and waits until they have reached their members' pipes.
    pub(super) async fn send(&mut self, channels: &ChannelBox, payload: &mut Payload, call: Call, first: u64) {
        self.rest(call);
        let last = (first..).take(call.in_a_row()).map(|seq| self.send_one(channels, payload, call, seq)).last();
        let delivery = last.expect("there is one").settled().await;
        assert_eq!(delivery.dropped, 0, "everybody reads: {delivery:?}");
    }

    fn send_one(&mut self, channels: &ChannelBox, payload: &mut Payload, call: Call, seq: u64) -> SendReport {
        let report = if call == Call::Json {
            let message = payload.message(seq, 0);
            self.time(|| channels.group_send(GROUP, &message).expect("strings are JSON"))
        } else {
            let frame = Frame::text(payload.stamped(seq, 0));
            self.time(|| channels.group(GROUP).send_frame(&frame))
        };
        assert!(report.is_accepted(), "a group at rest takes it");
        report
    }

    pub(super) fn time<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = act();
        self.ns.push(start.elapsed().as_nanos() as u64);
        done
    }

    /// Lets time pass between calls.
    pub(super) fn rest(&mut self, call: Call) {
        // No wait for anything: calls that come at this pace are what is measured. Nobody else runs in this thread.
        thread::sleep(PACE);
        if call == Call::Cold {
            self.other_data.resize(OTHER_DATA, 0);
            self.other_data.iter_mut().step_by(CACHE_LINE).for_each(|byte| *byte = byte.wrapping_add(1));
        }
    }
}

/// Sends to the real clients from the thread that answers questions, which is none of the runtime's.
fn time_calls(channels: &ChannelBox, question: &str) -> Option<String> {
    let mut words = question.split(' ');
    let (CALLS, name, times, len, core) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?)
    else {
        return None;
    };
    // Off the runtime's core: a thread that is woken by a call would take its place in the middle of it.
    machine::stay_on(core.parse().ok()?);
    let call = Call::ALL.into_iter().find(|call| call.name() == name)?;
    let (times, mut payload) = (times.parse().ok()?, Payload::new(len.parse().ok()?));
    let mut calls = Calls::default();
    for first in (0..times).step_by(call.in_a_row()) {
        block_on(calls.send(channels, &mut payload, call, first));
    }
    Some(json(&calls))
}
