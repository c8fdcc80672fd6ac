//! A process with offline queues in a file is killed, again and again, while it sends and acknowledges.
//!
//! This program starts itself as that process and writes down what it says was confirmed. After each kill the next
//! process attaches a channel for every user and says what arrives there, before it goes on. Claimed is:
//!
//! - what was confirmed as sent arrives, until it is acknowledged, and in the order of its ids;
//! - what was confirmed as acknowledged never arrives again;
//! - what was neither may have been done or not.

#![allow(missing_docs, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fanfare::channel::{Channel, ChannelOptions, FarMessage, OutboxLimits, UserId};
use fanfare::group::ChannelBox;
use fanfare::group::offline::{OfflineOptions, RedbStore};
use serde_json::Value;

/// Names the file; set in the process that is killed.
const FILE: &str = "FANFARE_KILL_TEST_FILE";
const KILLS: usize = 20;
const USERS: usize = 4;
/// Sends and acknowledgements of a user that are on their way at a time.
const AT_ONCE: usize = 8;

/// The one test here, as its process is asked for it.
const NAME: &str = "nothing_confirmed_is_lost_or_comes_again_when_the_process_is_killed";

#[test]
fn nothing_confirmed_is_lost_or_comes_again_when_the_process_is_killed() {
    if let Some(file) = std::env::var_os(FILE) {
        return victim(Path::new(&file));
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("queue");
    let mut random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {random}");
    let mut journal = Journal::default();
    for _ in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        journal.watch(&file, Some(Duration::from_micros(random % 400_000)));
    }
    journal.watch(&file, None);
    println!("{} kills: {}", KILLS, journal.summary());
    assert!(journal.replayed > 0 && journal.acked.len() > KILLS, "it has something to say");
    std::fs::remove_dir_all(folder).unwrap();
}

/// What the processes have said, of every user.
#[derive(Default)]
struct Journal {
    /// Confirmed, by user and id; with what was sent.
    sent: BTreeMap<(usize, u64), u64>,
    /// Asked for, perhaps done.
    acking: BTreeSet<(usize, u64)>,
    acked: BTreeSet<(usize, u64)>,
    replayed: usize,
    /// Arrived without having been confirmed.
    unconfirmed: usize,
    /// Processes that were killed between an ask and its answer.
    amid: usize,
}

impl Journal {
    /// Runs a process, kills it some `life` after it began to send, and writes down what it said. Without `life` it
    /// has said enough once it has said what arrives.
    fn watch(&mut self, file: &Path, life: Option<Duration>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(FILE, file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let victim = Victim(Mutex::new(child));
        let mut arrived: Vec<Vec<(u64, u64)>> = vec![Vec::new(); USERS];
        let mut asked = BTreeSet::new();
        let killed = &victim;
        std::thread::scope(|scope| {
            // Read to the end, also behind the kill: what was said before counts.
            for line in lines.map_while(Result::ok) {
                let words: Vec<_> = line.split(' ').collect();
                let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
                // The last line may be cut short; the process's test harness prints others.
                let Some(&".") = words.last() else { continue };
                let user = number(1).unwrap_or_default() as usize;
                match (words[0], number(2), number(3)) {
                    ("has", Some(id), Some(value)) => arrived[user].push((id, value)),
                    ("asks", Some(value), None) => _ = asked.insert((user, value)),
                    ("sent", Some(id), Some(value)) => {
                        asked.remove(&(user, value));
                        assert_eq!(self.sent.insert((user, id), value), None, "an id was given twice");
                    }
                    ("acking", Some(id), None) => _ = self.acking.insert((user, id)),
                    ("acked", Some(id), None) => _ = self.acked.insert((user, id)),
                    ("begins", None, None) => {
                        self.check(&arrived);
                        let Some(life) = life else { return };
                        scope.spawn(move || {
                            std::thread::sleep(life);
                            killed.kill();
                        });
                    }
                    _ => panic!("what is {line:?}?"),
                }
            }
            assert!(life.is_some(), "it has said what arrives");
        });
        self.amid += usize::from(!asked.is_empty());
    }

    fn check(&mut self, arrived: &[Vec<(u64, u64)>]) {
        for (user, arrived) in arrived.iter().enumerate() {
            assert!(arrived.is_sorted_by(|a, b| a.0 < b.0), "out of order: {arrived:?}");
            for (id, value) in arrived {
                assert!(!self.acked.contains(&(user, *id)), "{id} of user {user} came after its acknowledgement");
                match self.sent.get(&(user, *id)) {
                    Some(sent) => assert_eq!(sent, value, "{id} of user {user} is something else now"),
                    None => self.unconfirmed += 1,
                }
                self.replayed += 1;
            }
            let ids: BTreeSet<_> = arrived.iter().map(|(id, _)| *id).collect();
            for (_, id) in self.sent.range((user, 0)..=(user, u64::MAX)).map(|(key, _)| key) {
                let gone = self.acking.contains(&(user, *id));
                assert!(gone || ids.contains(id), "{id} of user {user} was confirmed and is lost");
            }
        }
    }

    fn summary(&self) -> String {
        let Self { sent, acking, acked, replayed, unconfirmed, amid } = self;
        format!(
            "{} sends confirmed, {} acks asked and {} confirmed, {replayed} came again, {unconfirmed} of them never \
             confirmed, {amid} killed amid a send",
            sent.len(),
            acking.len(),
            acked.len(),
        )
    }
}

/// A process that is over when this is.
struct Victim(Mutex<Child>);

impl Victim {
    fn kill(&self) {
        let mut child = self.0.lock().unwrap();
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was killed");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let child = self.0.get_mut().unwrap();
        _ = child.kill();
        _ = child.wait();
    }
}

/// The process that is killed.
fn victim(file: &Path) {
    // Should nobody kill it.
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(60));
        std::process::abort();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = OfflineOptions::default().store(RedbStore::open(file).unwrap());
        let options = options.max_messages(usize::MAX).max_bytes(usize::MAX).max_store_bytes(u64::MAX);
        let channels = ChannelBox::builder().offline(options).build();
        let mut left = Vec::new();
        for user in 0..USERS {
            left.push(say_what_arrives(&channels, user).await);
        }
        say(format_args!("begins"));
        let tasks = (0..USERS * AT_ONCE).map(|n| {
            let (user, channels) = (n % USERS, channels.clone());
            let left = if n < USERS { std::mem::take(&mut left[user]) } else { Vec::new() };
            tokio::spawn(work(channels, user, n as u64, left))
        });
        futures_util::future::join_all(tasks).await;
    });
}

/// Says a line that ends with a dot, in one write.
fn say(line: std::fmt::Arguments<'_>) {
    std::io::stdout().write_all(format!("{line} .\n").as_bytes()).unwrap();
}

fn id(user: usize) -> UserId {
    UserId::new(format!("user {user}")).unwrap()
}

async fn say_what_arrives(channels: &ChannelBox, user: usize) -> Vec<u64> {
    // What arrives may be more than a channel has room for by default.
    let outbox = OutboxLimits::default().max_messages(usize::MAX).max_bytes(usize::MAX);
    let options = ChannelOptions::default().user(id(user)).outbox(outbox);
    let (channel, mut far) = Channel::in_memory_with(options);
    let _attachment = channels.offline().attach(&channel).await.unwrap();
    let mut next = async || match far.recv().await {
        Some(FarMessage::Text(text)) => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("no text: {other:?}"),
    };
    let unread = next().await["unread"].as_u64().unwrap();
    let mut ids = Vec::new();
    for _ in 0..unread {
        let message = next().await;
        let (id, value) = (message["notification_id"].as_u64().unwrap(), message["data"].as_u64().unwrap());
        say(format_args!("has {user} {id} {value}"));
        ids.push(id);
    }
    ids
}

/// Sends, and acknowledges most of what there is, without end.
async fn work(channels: ChannelBox, user: usize, task: u64, mut left: Vec<u64>) {
    let ada = channels.user(&id(user));
    let mut value = u64::from(std::process::id()) << 32 | task << 24;
    loop {
        value += 1;
        say(format_args!("asks {user} {value}"));
        let id = ada.send(&value).await.unwrap().id;
        say(format_args!("sent {user} {id} {value}"));
        left.push(id);
        while left.len() > 5 || (left.len() > 1 && value.is_multiple_of(3)) {
            // Not in order: every other one is from the middle.
            let id = left.swap_remove(if value.is_multiple_of(2) { left.len() / 2 } else { 0 });
            say(format_args!("acking {user} {id}"));
            assert!(ada.ack(id).await.unwrap().known);
            say(format_args!("acked {user} {id}"));
        }
    }
}
