//! The program: as a server when it was started as one, else the tables that were asked for.

mod cell;
mod engine;
mod floor;
mod groups;
mod histogram;
mod inflate;
mod ledger;
mod load;
mod machine;
mod members;
mod replay;
mod rows;
mod server;
mod tables;
mod terms;
mod wire;

use std::env;
use std::process::exit;
use std::time::Duration;

use machine::{Machine, raise_open_files};
use server::Options;
use tables::Rig;
use terms::Terms;

/// 5100 connections and what a process has open anyway.
const OPEN_FILES: u64 = 6000;

type Table = (&'static str, fn(&Rig) -> bool);

const TABLES: [Table; 10] = [
    ("throughput", Rig::throughput),
    ("large", Rig::large),
    ("deflate", Rig::deflate),
    ("memory", Rig::memory),
    ("history", Rig::history),
    ("replay", Rig::replay),
    ("stalled", Rig::stalled),
    ("caller", Rig::caller),
    ("joins", Rig::joins),
    ("groups", Rig::groups),
];

pub(super) fn main() {
    if value("--measure=").as_deref() == Some("groups") {
        return groups::print_costs();
    }
    let multi = value("--runtime=").as_deref() == Some("multi");
    match value("--serve=").as_deref() {
        Some("floor") => end_of_server(floor::serve(Terms::of_this_process())),
        Some("fanfare") => end_of_server(engine::serve(multi, Terms::of_this_process())),
        Some(other) => panic!("no server `{other}`"),
        None => measure(multi),
    }
}

fn end_of_server(result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("fanout: the server has ended: {error}");
        exit(1);
    }
}

fn measure(multi: bool) {
    let asked: Vec<Table> = tables();
    let Some(machine) = Machine::new().expect("a process may know its cores") else {
        eprintln!("SKIPPED: fanout: it needs two cores, one for each side");
        return;
    };
    raise_open_files(OPEN_FILES);
    let axum = value("--axum=").map(Into::into);
    if axum.is_none() {
        eprintln!("SKIPPED: fanout: axum's figures: --axum= names no server; fanout.sh builds it");
    }
    let rig = Rig {
        machine,
        options: Options { axum, multi },
        runs: number("--runs="),
        time: Duration::from_secs_f64(number("--seconds=").unwrap_or(2.5)),
        open: number("--open="),
    };
    Rig::print_machine("at the start");
    let all_hold = asked.iter().fold(true, |hold, (_, table)| table(&rig) & hold);
    Rig::print_machine("at the end");
    if !all_hold {
        exit(1);
    }
}

fn tables() -> Vec<Table> {
    // cargo adds `--bench` itself.
    let asked: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|asked| TABLES.iter().all(|(table, _)| table != asked)) {
        eprintln!("no table `{unknown}`; there are {:?}", TABLES.map(|(name, _)| name));
        exit(2);
    }
    TABLES.into_iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|asked| asked == name)).collect()
}

fn value(option: &str) -> Option<String> {
    env::args().find_map(|argument| argument.strip_prefix(option).map(str::to_owned))
}

fn number<T: std::str::FromStr>(option: &str) -> Option<T> {
    let number = value(option)?;
    Some(number.parse().unwrap_or_else(|_| panic!("{option}{number}: not a number")))
}
