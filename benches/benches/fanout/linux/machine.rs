//! The machine below both sides: which core runs what, open files, and what /proc knows of a process.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Two cores: one for the server, one for the load.
pub(super) struct Machine {
    all: CpuSet,
    server: CpuSet,
    load: CpuSet,
}

impl Machine {
    /// Takes the first two cores that this process may use; `None` when there are fewer.
    pub(super) fn new() -> io::Result<Option<Self>> {
        let all = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).map(only);
        let (Some(server), Some(load)) = (cores.next(), cores.next()) else { return Ok(None) };
        Ok(Some(Self { all, server, load }))
    }

    /// Runs `start` on the server's core: a process that it starts stays there. The caller ends up on the load's.
    pub(super) fn on_the_server_core<T>(&self, start: impl FnOnce() -> T) -> T {
        pin(&self.server);
        let started = start();
        pin(&self.load);
        started
    }

    /// Keeps this thread on the load's core, and returns which one that is.
    pub(super) fn stay_on_the_load_core(&self) -> usize {
        pin(&self.load);
        (0..CpuSet::MAX_CPU).find(|core| self.load.is_set(*core)).expect("there is one")
    }

    /// Lets this thread, and those that it starts, run anywhere.
    pub(super) fn anywhere(&self) {
        pin(&self.all);
    }
}

/// Keeps this thread on one core.
pub(super) fn stay_on(core: usize) {
    pin(&only(core));
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

fn pin(cores: &CpuSet) {
    sched_setaffinity(None, cores).expect("these cores were allowed at the start");
}

/// Allows as many open files as may be; a server that is started later inherits it.
pub(super) fn raise_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= wanted, "{wanted} open files are needed, {most} are allowed");
    let raised = Rlimit { current: Some(most.min(1 << 20)), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum it is allowed");
}

/// Returns the nanoseconds that all threads of a process have run so far.
pub(super) fn on_cpu_ns(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process lives");
    let of_thread = |thread: io::Result<fs::DirEntry>| -> Option<u64> {
        // A thread that has ended meanwhile is left out; the servers end none.
        let counts = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        counts.split(' ').next()?.parse().ok()
    };
    threads.filter_map(of_thread).sum()
}

/// Returns the resident memory of a process, in KiB.
pub(super) fn resident_kib(process: u32) -> u64 {
    // Exact, where the count in `status` may lag.
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("the process lives");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("there is a line for it");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}

/// Returns the bytes that the kernel keeps for a client of a server on this machine, until the client's kernel has them.
pub(super) fn send_queue_bytes(server: u16, client: u16) -> Option<u64> {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("Linux lists its sockets");
    let queue = |line: &str| -> Option<u64> {
        let mut columns = line.split_whitespace().skip(1);
        let (local, remote, _state) = (columns.next()?, columns.next()?, columns.next()?);
        let is_it = port(local) == Some(server) && port(remote) == Some(client);
        let (waiting, _unread) = columns.next()?.split_once(':')?;
        is_it.then(|| u64::from_str_radix(waiting, 16).ok())?
    };
    sockets.lines().find_map(queue)
}

fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.split_once(':')?.1, 16).ok()
}

/// Returns how many processes of the whole machine ran or wanted to, on average over the last minute.
pub(super) fn load_average() -> f64 {
    let averages = fs::read_to_string("/proc/loadavg").expect("Linux has one");
    averages.split(' ').next().and_then(|minute| minute.parse().ok()).expect("it begins with that of a minute")
}

/// Looks for a second how many cores of the whole machine are busy, while nothing is done here.
pub(super) fn cores_busy() -> f64 {
    let before = ticks();
    thread::sleep(Duration::from_secs(1));
    let after = ticks();
    (after.busy - before.busy) as f64 / (after.all - before.all) as f64 * after.cores as f64
}

/// Clock ticks since the machine was started.
struct Ticks {
    cores: usize,
    /// Of all cores together.
    all: u64,
    /// Those in which a core had something to do, or a hypervisor had taken it for others.
    busy: u64,
}

fn ticks() -> Ticks {
    let stat = fs::read_to_string("/proc/stat").expect("Linux counts its time");
    // First the sum of all cores, then a line for each.
    let cores = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let sum = stat.split_whitespace().skip(1).map_while(|ticks| ticks.parse().ok());
    // user, nice, system, idle, iowait, irq, softirq, steal; the time of guests is in the first two.
    let ticks: Vec<u64> = sum.take(8).collect();
    let all = ticks.iter().sum();
    Ticks { cores, all, busy: all - ticks[3] - ticks[4] }
}
