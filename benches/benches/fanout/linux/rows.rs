//! What is printed: one JSON object a line.

use fanfare_benches::median;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// A line in the making; its fields keep their order.
#[derive(Clone)]
pub(super) struct Row(Vec<(String, Value)>);

impl Row {
    pub(super) fn new(table: &str) -> Self {
        Self(Vec::new()).with("table", table)
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.push((field.to_owned(), value.into()));
        self
    }

    /// Adds the median over the runs, and the figure of each.
    pub(super) fn with_runs(self, field: &str, runs: &[f64]) -> Self {
        let each: Vec<f64> = runs.iter().copied().map(rounded).collect();
        self.with(field, rounded(median(runs.to_vec()))).with(&format!("{field} each"), each)
    }

    pub(super) fn print(&self) {
        println!("{}", serde_json::to_string(self).expect("it is JSON"));
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (field, value) in &self.0 {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

/// Four significant digits: nobody reads more, and nothing here is more exact.
fn rounded(figure: f64) -> f64 {
    format!("{figure:.3e}").parse().expect("it was a number")
}

/// Tells who waits at a terminal what is being measured.
pub(super) fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("fanout: {what}");
}

/// Returns the ratio run by run.
pub(super) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}
