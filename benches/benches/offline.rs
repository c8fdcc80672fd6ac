//! What a commit costs an offline queue in a file, and what it saves to share one: sends of one caller who awaits each,
//! and of many at the same time. Prints one JSON object a line; the ratio is that of the times per send.
//!
//! The file lies beside this program, in the target folder: on a disk, where that is one. How long a disk takes to
//! flush differs a thousandfold, and here may be no more than a call: so both are done again with 1 ms of waiting in
//! each commit, as if the flush took that much longer.

#![allow(missing_docs, reason = "a bench")]

use std::env;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::Error;
use fanfare::channel::UserId;
use fanfare::group::ChannelBox;
use fanfare::group::offline::{Change, MemoryStore, OfflineOptions, OfflineStore, Record, RedbStore, StoreState, User};
use fanfare_benches::line;
use futures_util::future::join_all;

/// Who sends at the same time; a commit has at most 1024 of theirs.
const SENDERS: usize = 2048;
const USERS: usize = 100;

fn main() {
    let folder = env::current_exe().expect("it runs").with_file_name(format!("offline-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the target folder takes files");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    for (disk, flush) in [("this disk", Duration::ZERO), ("1 ms more a flush", Duration::from_millis(1))] {
        let file = |senders: usize| RedbStore::open(folder.join(format!("{flush:?} {senders}"))).expect("it is new");
        let alone = runtime.block_on(measure(file(1), 1, 500, flush));
        let together = runtime.block_on(measure(file(SENDERS), SENDERS, 50, flush));
        let first = name(disk, &alone);
        for run in [&alone, &together] {
            line(&name(disk, run), run.ns, run.ns / alone.ns, &first);
            let times = alone.ns / run.ns;
            eprintln!("{}: {:.0} sends/s, {times:.1} times as many as alone", name(disk, run), 1e9 / run.ns);
        }
    }
    let memory = runtime.block_on(measure(MemoryStore::new(), SENDERS, 50, Duration::ZERO));
    line("in memory", memory.ns, 1.0, "in memory");
    fs::remove_dir_all(folder).expect("it was made here");
}

fn name(disk: &str, run: &Run) -> String {
    format!("redb, {disk}, {:.0} sends per commit", run.per_commit)
}

struct Run {
    /// Nanoseconds per send.
    ns: f64,
    /// Sends per commit.
    per_commit: f64,
}

/// Lets `senders` send `each` notifications of 100 bytes, one after the other.
async fn measure(store: impl OfflineStore, senders: usize, each: usize, flush: Duration) -> Run {
    let commits = Arc::new(AtomicU64::new(0));
    let options = OfflineOptions::default().store(Counted { store, flush, commits: Arc::clone(&commits) });
    let channels = ChannelBox::builder().offline(options.max_messages(usize::MAX).max_bytes(usize::MAX)).build();
    let users: Vec<User> =
        (0..USERS).map(|n| channels.user(&UserId::new(format!("user {n}")).expect("it is one"))).collect();
    let send = async |user: &User, times: usize| {
        for _ in 0..times {
            user.send(&"x".repeat(98)).await.expect("the store is good");
        }
    };
    // So that tables and queues are there.
    join_all(users.iter().map(|user| send(user, 1))).await;
    let (begun, before) = (Instant::now(), commits.load(Relaxed));
    join_all((0..senders).map(|n| send(&users[n % USERS], each))).await;
    let (took, commits): (Duration, _) = (begun.elapsed(), commits.load(Relaxed) - before);
    channels.offline().close().await;
    let sends = (senders * each) as f64;
    Run { ns: took.as_nanos() as f64 / sends, per_commit: sends / commits as f64 }
}

/// Counts commits, and makes them take longer.
struct Counted<S> {
    store: S,
    flush: Duration,
    commits: Arc<AtomicU64>,
}

impl<S: OfflineStore> OfflineStore for Counted<S> {
    fn state(&mut self) -> Result<StoreState, Error> {
        self.store.state()
    }
    fn load(&mut self, user: &UserId) -> Result<Vec<Record>, Error> {
        self.store.load(user)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.commits.fetch_add(1, Relaxed);
        thread::sleep(self.flush);
        self.store.commit(changes)
    }
    fn expired(&mut self, now: u64, most: usize) -> Result<Vec<(UserId, Record)>, Error> {
        self.store.expired(now, most)
    }
}
