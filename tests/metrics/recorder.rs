//! A recorder that keeps what it is told, as text: `name{label=value}`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// What a metric stands at.
pub(crate) type Values = BTreeMap<String, f64>;

#[derive(Clone, Default)]
pub(crate) struct Kept {
    values: Arc<Mutex<Values>>,
    described: Arc<Mutex<BTreeMap<String, Unit>>>,
    /// Done whenever something is recorded, by whoever does it.
    pub(crate) meanwhile: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Kept {
    /// Records what this thread does from now on, until the guard is dropped.
    pub(crate) fn install(&self) -> metrics::LocalRecorderGuard<'_> {
        metrics::set_default_local_recorder(self)
    }

    pub(crate) fn values(&self) -> Values {
        self.values.lock().expect("no recording panics").clone()
    }

    /// What one metric stands at; 0 when it was never told of.
    pub(crate) fn get(&self, key: &str) -> f64 {
        self.values().get(key).copied().unwrap_or(0.0)
    }

    /// The sum over the labels of a metric.
    pub(crate) fn sum(&self, start: &str) -> f64 {
        self.values().iter().filter(|(key, _)| key.starts_with(start)).map(|(_, value)| value).sum()
    }

    /// The metrics that were described with a unit.
    pub(crate) fn described(&self) -> BTreeMap<String, Unit> {
        self.described.lock().expect("no recording panics").clone()
    }

    fn one(&self, key: &Key) -> Arc<One> {
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        let key = if labels.is_empty() { key.name().into() } else { format!("{}{{{}}}", key.name(), labels.join(",")) };
        Arc::new(One { kept: self.clone(), key })
    }

    fn describe(&self, name: KeyName, unit: Option<Unit>, help: &str) {
        assert!(!help.is_empty());
        let unit = unit.expect("each has one");
        self.described.lock().expect("no recording panics").insert(name.as_str().into(), unit);
    }
}

struct One {
    kept: Kept,
    key: String,
}

impl One {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut values = self.kept.values.lock().expect("no recording panics");
        let value = values.entry(self.key.clone()).or_default();
        *value = change(*value);
        drop(values);
        if let Some(meanwhile) = &self.kept.meanwhile {
            meanwhile();
        }
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| value + by as f64);
    }

    fn absolute(&self, now: u64) {
        self.change(|value| value.max(now as f64));
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| value + by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| value - by);
    }

    fn set(&self, now: f64) {
        self.change(|_| now);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, unit, &help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, unit, &help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, unit, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("the library has none")
    }
}
