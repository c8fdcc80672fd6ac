//! The load: all clients in one thread, one loop over epoll. Nothing is allocated per delivery.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_benches::served::Account;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use serde::Serialize;

use super::cell::Cell;
use super::histogram::Histogram;
use super::inflate::Inflater;
use super::ledger::Ledger;
use super::machine;
use super::server::Server;
use super::terms::{SEND_QUEUE, Terms};
use super::wire::{self, Agreed, Payload};

/// After this long without a byte a run has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one source address to one port; beyond that several addresses were needed.
const MAX_CONNECTIONS: usize = 28_000;
/// What is read at once: more than any socket here holds.
const READ_SIZE: usize = 256 << 10;
/// The receive buffer of a client that does not read, as a small device has it.
const SMALL_BUFFER: usize = 16 << 10;
/// In an open loop this many messages may be on their way; then the loop waits, and is late.
const MAX_IN_FLIGHT: usize = 4096;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// So many are in flight.
    InFlight(usize),
    /// So many go out each second.
    PerSecond(u32),
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InFlight(messages) => write!(f, "w{messages}"),
            Self::PerSecond(messages) => write!(f, "r{messages}"),
        }
    }
}

/// What was measured between warm-up and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) deliveries: f64,
    pub(super) server_ns: f64,
    pub(super) client_ns: f64,
    pub(super) reads: f64,
    pub(super) bytes: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// What became of the messages for a client that did not read for a while.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Resumed {
    /// What was held for it before it read again.
    pub(super) held: Held,
    /// By the server's books.
    pub(super) offered: u64,
    pub(super) dropped: u64,
    /// By the client's.
    pub(super) received: u64,
    /// The code that the server closed the connection with, if it did.
    pub(super) closed: Option<u16>,
    /// The connection ended without a close.
    pub(super) broken: bool,
}

/// What is held for a client that does not read.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    /// By the server.
    pub(super) account: Account,
    /// By the kernel of the server's side; nothing where the connection is over.
    pub(super) send_queue_bytes: u64,
}

impl Held {
    /// Tells whether each message offered is counted once, and no more is held than the bounds of the terms allow.
    pub(super) fn is_within(&self, terms: Terms) -> bool {
        let counts = self.account.counts;
        counts.written + counts.waiting + counts.dropped == self.account.offered
            && counts.waiting_bytes <= terms.outbox().max_bytes as u64
            && self.send_queue_bytes <= SEND_QUEUE
    }
}

impl Resumed {
    /// Returns the messages that were neither received nor reported as dropped; below 0, both.
    pub(super) fn unaccounted(&self) -> i64 {
        self.offered as i64 - (self.received + self.dropped) as i64
    }
}

struct Connection {
    stream: TcpStream,
    /// The start of a frame whose end has not come yet.
    rest: Vec<u8>,
}

pub(super) struct Load<'a> {
    server: &'a mut Server,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// A client that does not read is to come.
    stalls: bool,
    stalled: Option<TcpStream>,
    payload: Payload,
    /// Where messages come compressed.
    inflater: Option<Inflater>,
    ledger: Ledger,
    latencies: Histogram,
    reads: u64,
    /// What the reads have brought.
    bytes: u64,
    /// Times are nanoseconds since then.
    epoch: Instant,
    /// In an open loop: when the next message goes out.
    due: Duration,
    buffer: Vec<u8>,
    outgoing: Vec<u8>,
}

/// Opens and upgrades connections that nobody reads from yet.
pub(super) fn connections(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    agreeing_connections(address, count, false).0
}

/// As `connections`, and returns what all have agreed on.
fn agreeing_connections(address: SocketAddr, count: usize, offers_deflate: bool) -> (Vec<TcpStream>, Agreed) {
    assert!(count <= MAX_CONNECTIONS, "{count} connections need several source addresses");
    let connected = |number: usize| -> io::Result<(TcpStream, Agreed)> {
        upgraded(TcpStream::connect(address)?, number, offers_deflate)
    };
    let (streams, agreed): (Vec<_>, Vec<_>) = (0..count)
        .map(|number| connected(number).unwrap_or_else(|error| panic!("connection {number}: {error}")))
        .unzip();
    assert!(agreed.iter().all(|other| *other == agreed[0]), "the server says the same to all: {agreed:?}");
    (streams, agreed[0])
}

fn upgraded(mut stream: TcpStream, number: usize, offers_deflate: bool) -> io::Result<(TcpStream, Agreed)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let agreed = wire::shake_hands(&mut stream, offers_deflate)
        .map_err(|error| io::Error::other(format!("handshake {number}: {error}")))?;
    Ok((stream, agreed))
}

/// Connects a client with a small receive buffer: it has to be set before.
fn small_connection(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, SMALL_BUFFER)?;
    connect(&socket, &address)?;
    Ok(upgraded(TcpStream::from(socket), 0, false)?.0)
}

/// Waits until the server has written so many clients down: it answers the handshake before.
pub(super) fn wait_for_clients(server: &mut Server, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while server.counters().clients < count as u64 {
        assert!(Instant::now() < deadline, "only some of {count} clients have joined: {:?}", server.counters());
        thread::sleep(Duration::from_millis(1));
    }
}

impl<'a> Load<'a> {
    /// Connects the clients of a cell but for one that will not read.
    pub(super) fn new(server: &'a mut Server, cell: &Cell) -> io::Result<Self> {
        let (epoll, payload) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, cell.payload());
        let open = |(number, stream): (usize, TcpStream)| -> io::Result<Connection> {
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            Ok(Connection { stream, rest: Vec::with_capacity(payload.max_frame()) })
        };
        let (streams, agreed) = agreeing_connections(server.address(), cell.connections, cell.is_compressed());
        assert_eq!(agreed != Agreed::Plain, cell.is_compressed(), "the server compresses for who asks for it");
        let connections = streams.into_iter().enumerate().map(open).collect::<io::Result<Vec<_>>>()?;
        wait_for_clients(server, cell.connections);
        Ok(Self {
            server,
            epoll,
            connections,
            stalls: cell.stalled,
            stalled: None,
            inflater: cell.is_compressed().then(|| Inflater::new(agreed, payload.max_frame())),
            ledger: Ledger::new(cell.connections),
            latencies: Histogram::new(),
            reads: 0,
            bytes: 0,
            epoch: Instant::now(),
            due: Duration::ZERO,
            buffer: vec![0; READ_SIZE],
            outgoing: Vec::with_capacity(payload.max_frame()),
            payload,
        })
    }

    /// Sends at this pace: for a quarter of the time to warm up, then measured; then waits for what is in flight.
    ///
    /// Who does not read comes in between: however soon the server has had enough of it, that was measured.
    pub(super) fn run(&mut self, pace: Pace, time: Duration) -> Run {
        self.pump(pace, time / 4);
        self.drain();
        if self.stalls {
            self.stalled = Some(small_connection(self.server.address()).expect("the server accepts one more"));
            wait_for_clients(self.server, self.connections.len() + 1);
        }
        self.latencies.clear();
        (self.reads, self.bytes) = (0, 0);
        let before = (Instant::now(), self.server.on_cpu_ns(), machine::on_cpu_ns(process::id()));
        self.pump(pace, time);
        let (server_ns, client_ns) = (self.server.on_cpu_ns() - before.1, machine::on_cpu_ns(process::id()) - before.2);
        let run = Run {
            seconds: before.0.elapsed().as_secs_f64(),
            deliveries: self.latencies.total() as f64,
            server_ns: server_ns as f64,
            client_ns: client_ns as f64,
            reads: self.reads as f64,
            bytes: self.bytes as f64,
            p50_us: self.latencies.quantile_us(0.5),
            p99_us: self.latencies.quantile_us(0.99),
        };
        self.drain();
        run
    }

    /// Takes note of messages that the server makes by itself, and waits until they have come.
    pub(super) fn expect(&mut self, messages: usize, make: impl FnOnce(&mut Server)) {
        (0..messages).for_each(|_| _ = self.ledger.send());
        make(self.server);
        self.drain();
    }

    /// Waits for what is in flight: everybody has got everything then.
    fn drain(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.ledger.in_flight() > 0 {
            if Instant::now() > deadline {
                self.fail("not all has come in time");
            }
            self.turn(None, Duration::from_millis(100));
        }
    }

    fn pump(&mut self, pace: Pace, time: Duration) {
        self.due = self.epoch.elapsed();
        let (end, mut heard) = (self.due + time, self.due);
        self.send_what_is_due(pace);
        loop {
            let now = self.epoch.elapsed();
            if now >= end {
                return;
            }
            if now > heard + PATIENCE {
                self.fail("nothing comes");
            }
            let wake = match pace {
                Pace::InFlight(_) => end,
                Pace::PerSecond(_) => end.min(self.due),
            };
            if self.turn(Some(pace), wake.saturating_sub(now).min(PATIENCE)) > 0 {
                heard = now;
            }
            self.send_what_is_due(pace);
        }
    }

    /// Reads from whoever has something, waiting for it if need be, and returns how many have.
    fn turn(&mut self, pace: Option<Pace>, wait: Duration) -> usize {
        let mut events: [epoll::Event; 256] =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let wait = Timespec { tv_sec: wait.as_secs() as _, tv_nsec: wait.subsec_nanos().into() };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => 0,
            ready => ready.expect("the epoll instance is good"),
        };
        for event in &events[..ready] {
            self.read(event.data.u64() as usize);
            // At once: a loop that is closed is not held open by the rest of the events.
            if let Some(pace @ Pace::InFlight(_)) = pace {
                self.send_what_is_due(pace);
            }
        }
        ready
    }

    fn read(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let kept = connection.rest.len();
        self.buffer[..kept].copy_from_slice(&connection.rest);
        let read = match connection.stream.read(&mut self.buffer[kept..]) {
            Ok(0) => self.fail(&format!("connection {number} was ended by the server")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => self.fail(&format!("connection {number}: {error}")),
            Ok(read) => read,
        };
        let now = self.epoch.elapsed().as_nanos() as u64;
        self.reads += 1;
        self.bytes += read as u64;
        let mut start = 0;
        while let Some(frame) = wire::front(&self.buffer[start..kept + read]) {
            let payload = start + frame.payload.start..start + frame.payload.end;
            start = payload.end;
            if wire::is_joined(&self.buffer[payload.clone()]) {
                continue;
            }
            let Some((seq, at)) = self.message(frame.kind, payload) else {
                self.fail(&format!("connection {number} got a frame of kind {:#x} that was not sent", frame.kind))
            };
            if let Err(error) = self.ledger.receive(number, seq) {
                self.fail(&error);
            }
            self.latencies.add(now.saturating_sub(at));
        }
        let rest = &mut self.connections[number].rest;
        rest.clear();
        rest.extend_from_slice(&self.buffer[start..kept + read]);
    }

    /// Returns the number and the time of a message, if it is one as it was agreed on.
    fn message(&mut self, kind: u8, payload: Range<usize>) -> Option<(u64, u64)> {
        let received = &self.buffer[payload];
        match (kind, &mut self.inflater) {
            (wire::TEXT, None) => self.payload.read(received),
            (wire::COMPRESSED_TEXT, Some(inflater)) => self.payload.read(inflater.inflate(received)?),
            _ => None,
        }
    }

    fn send_what_is_due(&mut self, pace: Pace) {
        match pace {
            Pace::InFlight(messages) => {
                while self.ledger.in_flight() < messages {
                    self.send(self.epoch.elapsed());
                }
            }
            Pace::PerSecond(messages) => {
                while self.due <= self.epoch.elapsed() && self.ledger.in_flight() < MAX_IN_FLIGHT {
                    // What is sent late, because this loop was busy, was late for those who wait for it.
                    self.send(self.due);
                    self.due += Duration::from_secs(1) / messages;
                }
            }
        }
    }

    /// Sends the next message, from one client after the other.
    fn send(&mut self, at: Duration) {
        let seq = self.ledger.send();
        let payload = self.payload.stamped(seq, at.as_nanos() as u64);
        self.outgoing.clear();
        wire::write_text(&mut self.outgoing, payload.as_bytes(), true);
        let sender = seq as usize % self.connections.len();
        match (&self.connections[sender].stream).write(&self.outgoing) {
            Ok(written) if written == self.outgoing.len() => {}
            result => self.fail(&format!("the server does not read from connection {sender}: {result:?}")),
        }
    }

    /// Lets the client that did not read do so, until it has all that it will get.
    pub(super) fn resume(&mut self) -> io::Result<Resumed> {
        let mut stream = self.stalled.take().expect("there is one");
        let port = stream.local_addr()?.port();
        let send_queue_bytes = machine::send_queue_bytes(self.server.address().port(), port).unwrap_or(0);
        let held = Held { account: self.server.account(port), send_queue_bytes };
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        let deadline = Instant::now() + PATIENCE;
        let mut reader = Resuming::default();
        loop {
            let (mut ended, mut quiet) = (false, false);
            match stream.read(&mut self.buffer) {
                Ok(0) => ended = true,
                Ok(read) => {
                    reader.take(&self.buffer[..read], &self.payload, &self.ledger);
                    ended = reader.closed.is_some();
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => quiet = true,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => ended = true,
                Err(error) => return Err(error),
            }
            let account = self.server.account(port);
            let resumed = Resumed {
                held: held.clone(),
                offered: account.offered,
                dropped: account.counts.dropped,
                received: reader.received,
                closed: reader.closed,
                broken: ended && reader.closed.is_none(),
            };
            // When the sum is right before all is read, something is counted as both.
            if ended || (quiet && resumed.unaccounted() == 0) || Instant::now() > deadline {
                return Ok(resumed);
            }
        }
    }

    /// Ends the load, and keeps its sockets open.
    pub(super) fn into_connections(self) -> Vec<TcpStream> {
        self.connections.into_iter().map(|connection| connection.stream).collect()
    }

    #[cold]
    fn fail(&mut self, what: &str) -> ! {
        panic!("{what}; {}; the server says {:?}", self.ledger.state(), self.server.counters())
    }
}

/// What a client that may miss messages has got: those it gets come in the order of all others.
#[derive(Default)]
struct Resuming {
    bytes: Vec<u8>,
    received: u64,
    last: Option<u32>,
    closed: Option<u16>,
}

impl Resuming {
    fn take(&mut self, bytes: &[u8], payload: &Payload, ledger: &Ledger) {
        self.bytes.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(frame) = wire::front(&self.bytes[start..]) {
            let received = &self.bytes[start..][frame.payload.clone()];
            start += frame.payload.end;
            if frame.kind == wire::CLOSE {
                self.closed = received.first_chunk().map(|code| u16::from_be_bytes(*code));
                continue;
            }
            let (seq, _) = payload.read(received).expect("it is a message that was sent");
            let place = ledger.place(seq);
            assert!(place.is_some() && place > self.last, "message {seq} is out of order: {place:?} > {:?}", self.last);
            self.last = place;
            self.received += 1;
        }
        self.bytes.drain(..start);
    }
}
