//! What the `ratios` benches print, one JSON object a line, and how several runs become one.

use std::env;
use std::process::{self, Command, Stdio};

use serde::Deserialize;

/// What one contender takes in one case.
#[derive(Clone, Debug, Deserialize)]
pub struct Figure {
    /// The case, then the contender.
    pub case: String,
    /// Nanoseconds each time.
    pub ns: f64,
    /// How many times as long as `against`.
    pub ratio: f64,
    /// The contender, or the case, that `ratio` is the ratio to.
    pub against: String,
}

impl Figure {
    /// Reads what a bench printed.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn read(printed: &str) -> serde_json::Result<Vec<Self>> {
        serde_json::Deserializer::from_str(printed).into_iter().collect()
    }
}

/// Prints a figure.
pub fn line(case: &str, ns: f64, ratio: f64, against: &str) {
    println!(r#"{{"case":"{case}","ns":{ns:.2},"ratio":{ratio:.3},"against":"{against}"}}"#);
}

/// Runs the bench in several processes, one after the other, and prints the medians of their figures.
///
/// Where the loader puts code and data differs from process to process, and can make the same loop take half as
/// long again, in all rounds of a process. (Where the compiler puts a loop stays the same in all of them.)
/// `--runs=N` asks for another number than 5; `--once` runs the bench here and prints its lines as it goes.
pub fn in_processes(bench: impl FnOnce()) {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--once") {
        return bench();
    }
    let asked = arguments.iter().find_map(|argument| argument.strip_prefix("--runs="));
    let runs = asked.map_or(5, |runs| runs.parse().expect("--runs= takes a number")).max(1);
    let runs: Vec<_> = (1..=runs)
        .map(|run| {
            eprintln!("run {run} of {runs}");
            in_process(&arguments)
        })
        .collect();
    for (at, figure) in runs[0].iter().enumerate() {
        let over_runs = |part: fn(&Figure) -> f64| median(runs.iter().map(|run| part(&run[at])).collect());
        line(&figure.case, over_runs(|figure| figure.ns), over_runs(|figure| figure.ratio), &figure.against);
    }
}

fn in_process(arguments: &[String]) -> Vec<Figure> {
    let program = env::current_exe().expect("a program knows where it is");
    let run = Command::new(program).args(arguments).arg("--once").stderr(Stdio::inherit()).output();
    let run = run.expect("what runs can be run");
    if !run.status.success() {
        // It has said why.
        process::exit(run.status.code().unwrap_or(1));
    }
    Figure::read(&String::from_utf8_lossy(&run.stdout)).expect("a bench prints figures")
}

/// Returns the one in the middle.
#[must_use]
pub fn median(figures: Vec<f64>) -> f64 {
    quantile(figures, 0.5)
}

/// Returns the one that this part of them does not exceed.
#[must_use]
pub fn quantile(mut figures: Vec<f64>, part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() - 1) as f64 * part) as usize]
}
