//! What a server of the `fanout` bench says on stdout, is asked on stdin, and writes down for the answers.
//!
//! It prints the port it listens at. Then every line on stdin is a question, answered by one line of JSON.
//! The end of stdin is the end of the process: no server outlives the one who started it, however that ends.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

/// Asks for [`Counters`].
pub const COUNTERS: &str = "counters";
/// Asks for the [`Account`] of one client; its port follows behind a space.
pub const CLIENT: &str = "client";

/// What a server counts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Counters {
    /// Clients that get messages now.
    pub clients: u64,
    /// Messages that were taken, for all clients of that moment.
    pub accepted: u64,
    /// Messages that were not taken.
    pub refused: u64,
}

/// What became of one client's messages, as the server has it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Account {
    /// Messages that were taken while it was there.
    pub offered: u64,
    /// Where they are.
    pub counts: Counts,
    /// It is still there.
    pub open: bool,
}

/// Where the messages for one client are, by what the server counts for it; what it does not count is 0.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Counts {
    /// The kernel has them.
    pub written: u64,
    /// They wait in the server, which takes so many bytes.
    pub waiting: u64,
    /// See `waiting`.
    pub waiting_bytes: u64,
    /// The client will not get them.
    pub dropped: u64,
}

/// What a server writes down. A clone is the same books.
#[derive(Clone, Default)]
pub struct Books(Arc<Inner>);

#[derive(Default)]
struct Inner {
    accepted: AtomicU64,
    refused: AtomicU64,
    /// By port.
    clients: Mutex<HashMap<u16, Client>>,
}

struct Client {
    /// `accepted` when it came, and when it went.
    joined: u64,
    left: Option<u64>,
    counts: Box<dyn Fn() -> Counts + Send>,
}

impl Books {
    /// A message was taken for all clients, or not.
    pub fn sent(&self, accepted: bool) {
        let counter = if accepted { &self.0.accepted } else { &self.0.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A client gets all messages from now on; `counts` tells where they are.
    pub fn joined(&self, port: u16, counts: impl Fn() -> Counts + Send + 'static) {
        let client = Client { joined: self.accepted(), left: None, counts: Box::new(counts) };
        self.clients().insert(port, client);
    }

    /// A client gets no more messages.
    pub fn left(&self, port: u16) {
        let accepted = self.accepted();
        if let Some(client) = self.clients().get_mut(&port) {
            client.left = Some(accepted);
        }
    }

    /// Answers a question; `None` when it is not one about the books.
    #[must_use]
    pub fn answer(&self, question: &str) -> Option<String> {
        match question.split_once(' ') {
            None if question == COUNTERS => Some(json(&self.counters())),
            Some((CLIENT, port)) => Some(json(&self.account(port.parse().expect("a port follows")))),
            _ => None,
        }
    }

    fn counters(&self) -> Counters {
        let clients = self.clients().values().filter(|client| client.left.is_none()).count() as u64;
        Counters { clients, accepted: self.accepted(), refused: self.0.refused.load(Ordering::Relaxed) }
    }

    fn account(&self, port: u16) -> Account {
        let clients = self.clients();
        let client = clients.get(&port).expect("the client is known");
        let until = client.left.unwrap_or_else(|| self.accepted());
        Account { offered: until - client.joined, counts: (client.counts)(), open: client.left.is_none() }
    }

    fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u16, Client>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.counters().fmt(f)
    }
}

/// Writes an answer.
///
/// # Panics
/// When it cannot be serialised.
pub fn json<T: Serialize>(answer: &T) -> String {
    serde_json::to_string(answer).expect("an answer is plain data")
}

/// Prints the port, and answers questions in a thread of its own, until stdin ends and the process with it.
pub fn answer_questions(port: u16, answer: impl Fn(&str) -> Option<String> + Send + 'static) {
    say(&port.to_string());
    thread::spawn(move || {
        for question in io::stdin().lines() {
            let Ok(question) = question else { break };
            say(&answer(&question).unwrap_or_else(|| panic!("no answer to {question:?}")));
        }
        process::exit(0);
    });
}

fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    // Whoever asked is gone: stdin ends too, and the process with it.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
