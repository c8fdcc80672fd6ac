//! The other side: a server's process, as the load client sees it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_benches::served::{Account, CLIENT, COUNTERS, Counters};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;

use super::machine;
use super::terms::Terms;

/// How long an answer may take: none waits for anything.
const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A loop of write(2).
    Floor,
    /// axum's WebSockets and tokio's broadcast channel, as in axum's chat example: two tasks per connection.
    Axum,
    /// The same in one task.
    AxumOneTask,
    /// In one task, and with a read buffer of 4 KiB in place of 128.
    AxumLean,
    /// This library.
    Fanfare,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Axum => "axum",
            Self::AxumOneTask => "axum, one task",
            Self::AxumLean => "axum, one task, 4-KiB read buffer",
            Self::Fanfare => "fanfare",
        }
    }

    /// Returns what starts it.
    fn command(self, options: &Options, terms: Terms) -> Command {
        let mut command = Command::new(match self {
            Self::Axum | Self::AxumOneTask | Self::AxumLean => options.axum.clone().expect("the tables asked for it"),
            Self::Floor | Self::Fanfare => env::current_exe().expect("a program knows where it is"),
        });
        match self {
            Self::Floor => command.args(["--serve=floor", &terms.argument()]),
            Self::Fanfare => command.args(["--serve=fanfare", &terms.argument()]),
            Self::Axum => &mut command,
            Self::AxumOneTask => command.arg("--tasks=one"),
            Self::AxumLean => command.args(["--tasks=one", "--read-buffer=4096"]),
        };
        command.args(options.multi.then_some("--runtime=multi"));
        command
    }
}

/// What all servers are started with.
pub(super) struct Options {
    /// The program of axum's server; without one it is left out.
    pub(super) axum: Option<PathBuf>,
    /// With tokio's multi-threaded runtime of one worker in place of the runtime of one thread.
    pub(super) multi: bool,
}

/// A running server. It ends when this is dropped, and also when this process just ends.
pub(super) struct Server {
    child: Child,
    /// Closed to end it.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts it on the cores that this thread may use now.
    pub(super) fn start(peer: Peer, options: &Options, terms: Terms) -> Self {
        let mut command = peer.command(options, terms);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("what is built can be run");
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut server = Self { child, questions, answers, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let port = server.read_line().trim().parse().expect("a server prints its port");
        server.address.set_port(port);
        server
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn on_cpu_ns(&self) -> u64 {
        machine::on_cpu_ns(self.child.id())
    }

    pub(super) fn resident_kib(&self) -> u64 {
        machine::resident_kib(self.child.id())
    }

    pub(super) fn counters(&mut self) -> Counters {
        self.ask(COUNTERS)
    }

    pub(super) fn account(&mut self, port: u16) -> Account {
        self.ask(&format!("{CLIENT} {port}"))
    }

    pub(super) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> T {
        let questions = self.questions.as_mut().expect("it is open until the end");
        writeln!(questions, "{question}").expect("the server lives");
        let answer = self.read_line();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{question}: {answer:?}: {error}"))
    }

    fn read_line(&mut self) -> String {
        if self.answers.buffer().is_empty() {
            let mut ready = [PollFd::new(self.answers.get_ref(), PollFlags::IN)];
            assert_eq!(poll(&mut ready, Some(&PATIENCE)), Ok(1), "the server answers in time");
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the server writes text");
        assert!(line.ends_with('\n'), "the server has ended; it said {line:?}");
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.questions.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        // There is no wait with a deadline in std.
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                eprintln!("fanout: a server did not end with its stdin, and is killed");
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
