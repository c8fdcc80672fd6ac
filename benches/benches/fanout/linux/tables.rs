//! The tables over real sockets, and their rows.

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use super::cell::{Cell, Content};
use super::engine::{CALLS, Call, Calls};
use super::groups::{self, Costs};
use super::load::{Held, Load, Pace, Resumed, Run, connections, wait_for_clients};
use super::machine::{Machine, cores_busy, load_average};
use super::members::{self, Caller};
use super::replay;
use super::rows::{Row, progress, ratios};
use super::server::{Options, Peer, Server};
use super::terms::{Deflate, Rule, Terms};
use fanfare_benches::quantile;

/// So many cores may do something else.
const QUIET: f64 = 0.1;
/// The size of a message whose sender is timed.
const BYTES: usize = 128;
/// With one message in flight a slow run may send less than an outbox holds by default.
const SMALL_OUTBOX: usize = 128 << 10;

/// What all tables are made with.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) options: Options,
    /// How often each cell is run; by default more often where late deliveries are what is asked for.
    pub(super) runs: Option<usize>,
    /// How long each cell is measured.
    pub(super) time: Duration,
    /// Messages a second of one more cell.
    pub(super) open: Option<u32>,
}

type Figure = (&'static str, fn(&Run) -> f64);

const SERVER_COST: Figure = ("server_us_per_delivery", |run| run.server_ns / run.deliveries / 1000.0);
const P99: Figure = ("p99_us", |run| run.p99_us);
const RATE: Figure = ("deliveries_per_s", |run| run.deliveries / run.seconds);
/// With how much of its core each side was busy says which of them was the limit.
const FIGURES: [Figure; 8] = [
    SERVER_COST,
    ("bytes_per_delivery", |run| run.bytes / run.deliveries),
    RATE,
    ("p50_us", |run| run.p50_us),
    P99,
    ("messages_per_read", |run| run.deliveries / run.reads),
    ("server_busy", |run| run.server_ns / run.seconds / 1e9),
    ("client_busy", |run| run.client_ns / run.seconds / 1e9),
];

/// One contender's runs of one cell.
struct Runs {
    peer: Peer,
    cell: Cell,
    runs: Vec<Run>,
    resumed: Vec<Resumed>,
}

impl Runs {
    fn each(&self, figure: Figure) -> Vec<f64> {
        self.runs.iter().map(figure.1).collect()
    }
}

impl Rig {
    fn start(&self, peer: Peer, terms: Terms) -> Server {
        self.machine.on_the_server_core(|| Server::start(peer, &self.options, terms))
    }

    /// Leaves out who is not there.
    fn present<const N: usize>(&self, peers: [Peer; N]) -> Vec<Peer> {
        let is_ours = |peer: &Peer| matches!(peer, Peer::Floor | Peer::Fanfare);
        peers.into_iter().filter(|peer| self.options.axum.is_some() || is_ours(peer)).collect()
    }

    /// Prints what else the machine does, and whether that leaves the figures worth something.
    pub(super) fn print_machine(when: &str) {
        let (load_average, busy) = (load_average(), cores_busy());
        let quiet = busy < QUIET;
        Row::new("machine")
            .with("when", when)
            .with("load_average", load_average)
            .with("cores_busy_with_something_else", (busy * 100.0).round() / 100.0)
            .with("note", if quiet { "quiet" } else { "busy with something else: the figures are worthless" })
            .print();
        if !quiet {
            eprintln!("fanout: {when}: {busy:.2} cores are busy with something else: the figures are worthless");
        }
    }

    fn runs(&self, default: usize) -> usize {
        self.runs.unwrap_or(default).max(1)
    }

    fn repeat(&self, table: &str, runs: usize) -> String {
        format!("benches/fanout.sh {table} --runs={runs} --seconds={}", self.time.as_secs_f64())
    }

    fn run(&self, peer: Peer, cell: Cell) -> (Run, Option<Resumed>) {
        let mut server = self.start(peer, cell.terms);
        let mut load = Load::new(&mut server, &cell).expect("sockets can be watched");
        let run = load.run(cell.pace, self.time);
        let resumed = cell.stalled.then(|| load.resume().expect("it can read"));
        // The server first: the ports of the side that closes first stay taken for a minute.
        let connections = load.into_connections();
        drop(server);
        drop(connections);
        (run, resumed)
    }

    /// Runs contenders in turns; another one begins each round.
    fn compare(&self, table: &str, contenders: &[(Peer, Cell)], runs: usize) -> Vec<Runs> {
        let none =
            |(peer, cell): &(Peer, Cell)| Runs { peer: *peer, cell: *cell, runs: Vec::new(), resumed: Vec::new() };
        let mut all: Vec<Runs> = contenders.iter().map(none).collect();
        for round in 0..runs {
            for turn in 0..contenders.len() {
                let at = (turn + round) % contenders.len();
                let (peer, cell) = contenders[at];
                progress(format_args!("{table}: {cell}: {}, run {} of {runs}", peer.name(), round + 1));
                let (run, resumed) = self.run(peer, cell);
                all[at].runs.push(run);
                all[at].resumed.extend(resumed);
            }
        }
        all
    }

    fn print(&self, table: &str, of: &Runs) {
        let row = Self::cell_row(table, of.cell).with("peer", of.peer.name());
        let row = FIGURES.iter().fold(row, |row, figure| row.with_runs(figure.0, &of.each(*figure)));
        row.with("repeat", self.repeat(table, of.runs.len())).print();
    }

    fn cell_row(table: &str, cell: Cell) -> Row {
        Row::new(table)
            .with("connections", cell.connections)
            .with("bytes", cell.bytes)
            .with("mode", cell.pace.to_string())
            .with("beside_a_stalled_client", cell.stalled)
            .with("terms", serde_json::to_value(cell.terms).expect("it is plain data"))
    }

    fn print_ratio(&self, table: &str, figure: Figure, of: (&str, &Runs), to: (&str, &Runs)) {
        Self::cell_row(table, of.1.cell)
            .with("figure", figure.0)
            .with("of", of.0)
            .with("to", to.0)
            .with_runs("ratio", &ratios(&of.1.each(figure), &to.1.each(figure)))
            .print();
    }

    /// Prints one figure of one peer over another's, if both are there.
    fn print_peers(&self, table: &str, figure: Figure, all: &[Runs], [of, to]: [Peer; 2]) {
        let find = |peer| all.iter().find(|runs| runs.peer == peer);
        if let (Some(of), Some(to)) = (find(of), find(to)) {
            self.print_ratio(table, figure, (of.peer.name(), of), (to.peer.name(), to));
        }
    }

    /// What does a delivery cost the server?
    pub(super) fn throughput(&self) -> bool {
        let mut cells = vec![
            Cell::new(1000, 128, Pace::InFlight(1)),
            Cell::new(1000, 2048, Pace::InFlight(1)),
            Cell::new(1000, 128, Pace::InFlight(8)),
        ];
        let open = self.open.map(|messages| Cell { pace: Pace::PerSecond(messages), ..cells[0] });
        cells.extend(open);
        for cell in cells {
            let contenders: Vec<_> = self
                .present([Peer::Floor, Peer::Axum, Peer::AxumOneTask, Peer::Fanfare])
                .into_iter()
                .map(|peer| (peer, cell))
                .collect();
            let all = self.compare("throughput", &contenders, self.runs(5));
            all.iter().for_each(|runs| self.print("throughput", runs));
            self.print_peers("throughput", SERVER_COST, &all, [Peer::Fanfare, Peer::Floor]);
            self.print_peers("throughput", SERVER_COST, &all, [Peer::Axum, Peer::Fanfare]);
            self.print_peers("throughput", SERVER_COST, &all, [Peer::AxumOneTask, Peer::Fanfare]);
        }
        true
    }

    /// How many deliveries a second, and how late, where there are many connections?
    pub(super) fn large(&self) -> bool {
        let cell = Cell::new(5000, 128, Pace::InFlight(8));
        let contenders: Vec<_> =
            self.present([Peer::Axum, Peer::Fanfare]).into_iter().map(|peer| (peer, cell)).collect();
        let all = self.compare("large", &contenders, self.runs(7));
        all.iter().for_each(|runs| self.print("large", runs));
        self.print_peers("large", RATE, &all, [Peer::Fanfare, Peer::Axum]);
        self.print_peers("large", P99, &all, [Peer::Axum, Peer::Fanfare]);
        self.print_peers("large", SERVER_COST, &all, [Peer::Axum, Peer::Fanfare]);
        true
    }

    /// What does it cost to send a compressed message to all?
    ///
    /// It is compressed once and shared; or, in the same server, for each member anew; or by a plain loop of
    /// writes with a compressor for each client, as servers have it that let messages refer to those before.
    pub(super) fn deflate(&self) -> bool {
        let plain = Cell { content: Content::Orders, ..Cell::new(1000, 2048, Pace::InFlight(1)) };
        let compressed = |deflate| Cell { terms: Terms { deflate, ..plain.terms }, ..plain };
        let contenders = [
            (Peer::Fanfare, plain),
            (Peer::Fanfare, compressed(Deflate::Shared)),
            (Peer::Fanfare, compressed(Deflate::Each)),
            (Peer::Floor, compressed(Deflate::Each)),
        ];
        let all = self.compare("deflate", &contenders, self.runs(5));
        all.iter().for_each(|runs| self.print("deflate", runs));
        let [plain, shared, each, streams] = &all[..] else { unreachable!("as many as there are contenders") };
        self.print_ratio("deflate", SERVER_COST, ("shared", shared), ("plain", plain));
        self.print_ratio("deflate", SERVER_COST, ("each", each), ("shared", shared));
        self.print_ratio("deflate", SERVER_COST, ("a compressor each", streams), ("shared", shared));
        true
    }

    /// What does it cost that a group keeps what is said in it: the server by delivery, and the caller?
    pub(super) fn history(&self) -> bool {
        let history = Terms { history: true, ..Terms::default() };
        for pace in [1, 8].map(Pace::InFlight) {
            let plain = Cell::new(1000, BYTES, pace);
            let contenders = [(Peer::Fanfare, plain), (Peer::Fanfare, Cell { terms: history, ..plain })];
            let all = self.compare("history", &contenders, self.runs(7));
            all.iter().for_each(|runs| self.print("history", runs));
            self.print_ratio("history", SERVER_COST, ("history", &all[1]), ("plain", &all[0]));
        }
        let machine = &self.machine;
        for call in [Call::Json, Call::Burst] {
            let [plain, kept] = [("plain", Terms::default()), ("history", history)].map(|(what, terms)| {
                let calls = || members::time_calls(machine, Caller::Inside, 1000, call, BYTES, terms);
                self.time_calls(1000, what, call, &calls)
            });
            Row::new("history")
                .with("call", call.name())
                .with("figure", "p50_ns")
                .with_runs("ratio", &ratios(&kept, &plain))
                .print();
        }
        true
    }

    /// What does it cost to replay what a client has missed?
    pub(super) fn replay(&self) -> bool {
        progress(format_args!("replay: {} messages", replay::MISSED));
        let runs: Vec<_> = (0..self.runs(5)).map(|_| replay::measure(&self.machine, BYTES, 100)).collect();
        let each = |part| runs.iter().map(|run| quantile(run.clone(), part)).collect::<Vec<_>>();
        Row::new("replay")
            .with("messages", replay::MISSED)
            .with("bytes", BYTES)
            .with_runs("server_us_p50", &each(0.5))
            .with_runs("server_us_p99", &each(0.99))
            .with("repeat", self.repeat("replay", runs.len()))
            .print();
        true
    }

    /// What does a client cost the others, and the server, by not reading? And is each of its messages accounted for?
    pub(super) fn stalled(&self) -> bool {
        [8, 1].map(Pace::InFlight).into_iter().fold(true, |right, pace| {
            let outbox_bytes = (pace == Pace::InFlight(1)).then_some(SMALL_OUTBOX);
            let alone = Cell { terms: Terms { outbox_bytes, ..Terms::default() }, ..Cell::new(999, 2048, pace) };
            let closing = |right, peer| self.beside_stalled(peer, alone, &[Rule::Close], self.runs(7)) & right;
            let right = self.present([Peer::Axum, Peer::Fanfare]).into_iter().fold(right, closing);
            self.beside_stalled(Peer::Fanfare, alone, &Rule::DROPPING, self.runs(3)) & right
        })
    }

    /// Compares runs without a client that does not read, and with one under each of these rules.
    fn beside_stalled(&self, peer: Peer, alone: Cell, rules: &[Rule], runs: usize) -> bool {
        let beside = |rule: &Rule| Cell { stalled: true, terms: Terms { rule: *rule, ..alone.terms }, ..alone };
        let contenders: Vec<_> = iter::once(alone).chain(rules.iter().map(beside)).map(|cell| (peer, cell)).collect();
        let all = self.compare("stalled", &contenders, runs);
        all.iter().for_each(|runs| self.print("stalled", runs));
        let (without, with) = all.split_first().expect("at least one");
        with.iter().fold(true, |right, with| {
            for figure in [P99, SERVER_COST] {
                self.print_ratio("stalled", figure, (with.peer.name(), with), ("alone", without));
            }
            right & self.print_accounts(with)
        })
    }

    /// Prints where each message for the stalled client is; false when one is missing, or too much was held for it.
    fn print_accounts(&self, of: &Runs) -> bool {
        let unaccounted: Vec<i64> = of.resumed.iter().map(Resumed::unaccounted).collect();
        let exact = unaccounted.iter().all(|messages| *messages == 0);
        // The others' own bounds are their own affair.
        let bounded =
            of.peer != Peer::Fanfare || of.resumed.iter().all(|resumed| resumed.held.is_within(of.cell.terms));
        let held =
            |part: fn(&Held) -> u64| of.resumed.iter().map(|resumed| part(&resumed.held) as f64).collect::<Vec<_>>();
        Self::cell_row("stalled", of.cell)
            .with("peer", of.peer.name())
            .with("exact", exact)
            .with("bounded", bounded)
            .with("unaccounted", unaccounted)
            // Zero says that the outbox was never full: a run to repeat for longer.
            .with_runs("dropped", &of.resumed.iter().map(|resumed| resumed.dropped as f64).collect::<Vec<_>>())
            .with_runs("outbox_bytes_held", &held(|held| held.account.counts.waiting_bytes))
            .with_runs("send_queue_bytes_held", &held(|held| held.send_queue_bytes))
            .with("each", serde_json::to_value(&of.resumed).expect("it is plain data"))
            .print();
        if !exact {
            eprintln!("fanout: {}: {}: offered = received + dropped does not hold", of.peer.name(), of.cell);
        }
        if !bounded {
            eprintln!(
                "fanout: {}: {}: more is held than the bounds allow, or than is counted",
                of.peer.name(),
                of.cell
            );
        }
        exact && bounded
    }

    /// What does a connection take while nobody says anything?
    pub(super) fn memory(&self) -> bool {
        let (first, more) = (100, 5000);
        let runs = self.runs(3);
        let plain = Terms::default();
        let mut cells: Vec<_> =
            self.present([Peer::Axum, Peer::AxumLean, Peer::Fanfare]).into_iter().map(|peer| (peer, plain)).collect();
        cells.push((Peer::Fanfare, Terms { identity: true, ..plain }));
        for (peer, terms) in cells {
            let what = if terms.identity { ", each a user that is present" } else { "" };
            progress(format_args!("memory: {more} connections: {}{what}", peer.name()));
            let idle: Vec<[f64; 2]> = (0..runs).map(|_| self.idle(peer, terms, first, more)).collect();
            let per_connection: Vec<f64> = idle.iter().map(|[before, after]| (after - before) / more as f64).collect();
            Row::new("memory")
                .with("connections", more)
                .with("peer", peer.name())
                .with("present", terms.identity)
                .with_runs("kib_per_connection", &per_connection)
                .with_runs("resident_kib_before", &idle.iter().map(|[before, _]| *before).collect::<Vec<_>>())
                .with_runs("resident_kib_after", &idle.iter().map(|[_, after]| *after).collect::<Vec<_>>())
                .with("repeat", self.repeat("memory", runs))
                .print();
        }
        true
    }

    /// Returns the resident KiB before and after; the first connections pay for what is made only once.
    fn idle(&self, peer: Peer, terms: Terms, first: usize, more: usize) -> [f64; 2] {
        let mut server = self.start(peer, terms);
        let mut open = connections(server.address(), first);
        wait_for_clients(&mut server, first);
        let before = settled_kib(&server);
        open.extend(connections(server.address(), more));
        wait_for_clients(&mut server, first + more);
        let after = settled_kib(&server);
        drop(server);
        [before, after].map(|kib| kib as f64)
    }

    /// How long does a send take the one who calls it, and does that depend on the number of members?
    pub(super) fn caller(&self) -> bool {
        for call in Call::ALL {
            if call == Call::Json {
                let (times, machine) = (call.times(0), &self.machine);
                self.time_calls(0, "serialising alone", call, &|| {
                    members::time_serialising(machine, call, times, BYTES)
                });
            }
            self.time_calls(1000, "sockets, from outside", call, &|| self.time_socket_calls(1000, call));
            self.in_memory_calls(Caller::Outside, call);
            self.in_memory_calls(Caller::Inside, call);
        }
        true
    }

    fn in_memory_calls(&self, caller: Caller, call: Call) {
        let (machine, from) = (&self.machine, caller.name());
        if matches!(call, Call::Idle | Call::Cold) {
            let empty = || members::time_empty_tasks(machine, caller, call, call.times(0));
            self.time_calls(0, &format!("an empty task, {from}"), call, &empty);
        }
        let medians = [1000, 10_000, 100_000].map(|members| {
            let calls = || members::time_calls(machine, caller, members, call, BYTES, Terms::default());
            self.time_calls(members, &format!("in memory, {from}"), call, &calls)
        });
        Row::new("caller")
            .with("call", call.name())
            .with("figure", "p50_ns")
            .with("of", format!("100 000 members, {from}"))
            .with("to", "1000 members")
            .with_runs("ratio", &ratios(&medians[2], &medians[0]))
            .print();
    }

    /// Prints a row, and returns the median of each run.
    fn time_calls(&self, members: usize, what: &str, call: Call, measure: &dyn Fn() -> Calls) -> Vec<f64> {
        progress(format_args!("caller: {}, {members} members, {what}", call.name()));
        let runs: Vec<_> = (0..self.runs(3)).map(|_| measure()).collect();
        let each = |part| -> Vec<f64> {
            let of = |calls: &Calls| quantile(calls.ns.iter().map(|ns| *ns as f64).collect(), part);
            runs.iter().map(of).collect()
        };
        let medians = each(0.5);
        Row::new("caller")
            .with("members", members)
            .with("kind", what)
            .with("bytes", BYTES)
            .with("call", call.name())
            .with_runs("p50_ns", &medians)
            .with_runs("p99_ns", &each(0.99))
            .with("repeat", self.repeat("caller", runs.len()))
            .print();
        medians
    }

    fn time_socket_calls(&self, connections: usize, call: Call) -> Calls {
        let mut server = self.start(Peer::Fanfare, Terms::default());
        let cell = Cell::new(connections, BYTES, Pace::InFlight(1));
        let mut load = Load::new(&mut server, &cell).expect("sockets can be watched");
        let (name, core) = (call.name(), self.machine.stay_on_the_load_core());
        let (mut calls, times) = (Calls::default(), call.times(connections));
        // They fit into the sockets, which nobody reads from meanwhile.
        load.expect(times as usize, |server| {
            calls = server.ask(&format!("{CALLS} {name} {times} {BYTES} {core}"));
        });
        let connections = load.into_connections();
        drop(server);
        drop(connections);
        calls
    }

    /// What does a join cost in a large group?
    pub(super) fn joins(&self) -> bool {
        self.machine.anywhere();
        let joins = 100_000;
        progress(format_args!("joins: {joins}"));
        let runs: Vec<[f64; 2]> = (0..self.runs(5)).map(|_| members::time_joins(joins)).collect();
        let [first, last] = [0, 1].map(|at| runs.iter().map(|run| run[at]).collect::<Vec<_>>());
        Row::new("joins")
            .with("joins", joins)
            .with_runs("first_thousand_ns", &first)
            .with_runs("last_thousand_ns", &last)
            .with_runs("ratio", &ratios(&last, &first))
            .with("repeat", self.repeat("joins", runs.len()))
            .print();
        true
    }

    /// What do many small groups take, and cost?
    pub(super) fn groups(&self) -> bool {
        self.machine.anywhere();
        let runs = self.runs(3);
        let measured: Vec<_> = (1..=runs)
            .map(|run| {
                progress(format_args!("groups: run {run} of {runs}"));
                groups::measure()
            })
            .collect();
        let each = |part: fn(&Costs) -> f64| measured.iter().map(part).collect::<Vec<_>>();
        Row::new("groups")
            .with("groups", groups::GROUPS)
            .with("members_each", groups::MEMBERS)
            .with("channels", groups::CHANNELS)
            .with_runs("bytes_per_membership", &each(|costs| costs.bytes_per_membership))
            .with_runs("join_ns", &each(|costs| costs.join_ns))
            .with_runs("send_ns", &each(|costs| costs.send_ns))
            .with_runs("send_p99_ns", &each(|costs| costs.send_p99_ns))
            .with_runs("send_again_ns", &each(|costs| costs.send_again_ns))
            .with_runs("leave_ns", &each(|costs| costs.leave_ns))
            .with_runs("second_round_kib", &each(|costs| costs.second_round_kib))
            .with("repeat", self.repeat("groups", runs))
            .print();
        true
    }
}

/// Waits until the resident memory has been the same for half a second, give or take 64 KiB.
fn settled_kib(server: &Server) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut settled = (server.resident_kib(), 0);
    while settled.1 < 5 {
        assert!(Instant::now() < deadline, "the resident memory does not come to rest");
        thread::sleep(Duration::from_millis(100));
        let now = server.resident_kib();
        settled = if now.abs_diff(settled.0) <= 64 { (settled.0, settled.1 + 1) } else { (now, 0) };
    }
    server.resident_kib()
}
