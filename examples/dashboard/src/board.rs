//! The dashboard's data, as a plain value: readings, posted metrics, thresholds and alerts, each bounded.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use fanfare::channel::UserId;
use serde::{Deserialize, Serialize, Serializer};

use crate::sensors::{Machine, Reading};

/// How many readings a new viewer's charts start with: two minutes.
pub(crate) const READINGS: usize = 120;
/// How many metrics may be posted.
pub(crate) const METRICS: usize = 64;
pub(crate) const THRESHOLDS: usize = 32;
/// How many alerts are kept: the latest.
pub(crate) const ALERTS: usize = 50;

/// A time, as ISO 8601 in UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) SystemTime);

impl Time {
    pub(crate) fn now() -> Self {
        Self(SystemTime::now())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis(self.0))
    }
}

/// A reading and its time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Taken {
    pub(crate) data: Reading,
    pub(crate) timestamp: Time,
}

/// The latest value of a posted metric.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) by: UserId,
    pub(crate) timestamp: Time,
}

/// The limit of a threshold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limit<T> {
    Above(T),
    Below(T),
}

impl Limit<f64> {
    /// Returns whether a value is past the limit. A value that was past it is back only at a distance of a twentieth of
    /// the limit, so that a value that fluctuates around the limit raises one alert.
    fn is_passed(self, value: f64, was_passed: bool) -> bool {
        let (Self::Above(limit) | Self::Below(limit)) = self;
        let margin = if was_passed { limit.abs() / 20.0 } else { 0.0 };
        match self {
            Self::Above(limit) => value > limit - margin,
            Self::Below(limit) => value < limit + margin,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Threshold {
    metric: String,
    #[serde(flatten)]
    limit: Limit<f64>,
    by: UserId,
    raised: bool,
}

/// A metric has crossed its threshold, in either direction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Alert {
    pub(crate) metric: String,
    #[serde(flatten)]
    pub(crate) limit: Limit<f64>,
    pub(crate) value: f64,
    pub(crate) raised: bool,
    pub(crate) timestamp: Time,
}

/// Why a request is refused, as a text for its sender.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[derive(Debug)]
pub(crate) struct Board {
    machine: Machine,
    readings: VecDeque<Taken>,
    metrics: BTreeMap<String, Metric>,
    watch: Watch,
}

/// The thresholds and the alerts, the latest alert first.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Watch {
    thresholds: Vec<Threshold>,
    alerts: VecDeque<Alert>,
}

/// The whole board.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot<'a> {
    machine: &'a Machine,
    readings: &'a VecDeque<Taken>,
    metrics: Vec<&'a Metric>,
    #[serde(flatten)]
    watch: &'a Watch,
}

impl Board {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, readings: VecDeque::new(), metrics: BTreeMap::new(), watch: Watch::default() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        let Self { machine, readings, metrics, watch } = self;
        Snapshot { machine, readings, metrics: metrics.values().collect(), watch }
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns whether there is a threshold, which needs readings even without viewers.
    pub(crate) fn is_watching(&self) -> bool {
        !self.watch.thresholds.is_empty()
    }

    pub(crate) fn take(&mut self, taken: Taken) -> &Taken {
        self.readings.truncate(READINGS - 1);
        self.readings.push_front(taken);
        &self.readings[0]
    }

    pub(crate) fn post(&mut self, metric: Metric) -> Result<&Metric, Refused> {
        if self.metrics.len() == METRICS && !self.metrics.contains_key(&metric.name) {
            return Err(Refused(format!("there are {METRICS} metrics already: use one of their names")));
        }
        let place = self.metrics.entry(metric.name.clone()).or_insert_with(|| metric.clone());
        *place = metric;
        Ok(place)
    }

    /// Sets, replaces or removes the threshold of a metric.
    pub(crate) fn set(&mut self, metric: &str, limit: Option<Limit<f64>>, by: &UserId) -> Result<(), Refused> {
        if limit.is_some() && self.value(metric).is_none() {
            return Err(Refused(format!(
                "nothing named {metric:?} is known yet: use a posted metric, or a figure such as machine.cpu"
            )));
        }
        self.watch.thresholds.retain(|threshold| threshold.metric != metric);
        let Some(limit) = limit else { return Ok(()) };
        if self.watch.thresholds.len() == THRESHOLDS {
            return Err(Refused(format!("there are {THRESHOLDS} thresholds already: remove one")));
        }
        self.watch.thresholds.push(Threshold { metric: metric.into(), limit, by: by.clone(), raised: false });
        Ok(())
    }

    /// Returns the crossings of thresholds, in either direction, since the last call.
    pub(crate) fn crossed(&mut self) -> Vec<Alert> {
        let values: Vec<_> = self.watch.thresholds.iter().map(|threshold| self.value(&threshold.metric)).collect();
        let mut crossed = Vec::new();
        for (threshold, value) in self.watch.thresholds.iter_mut().zip(values) {
            let Some(value) = value else { continue };
            let raised = threshold.limit.is_passed(value, threshold.raised);
            if raised != threshold.raised {
                threshold.raised = raised;
                let (metric, limit) = (threshold.metric.clone(), threshold.limit);
                crossed.push(Alert { metric, limit, value, raised, timestamp: Time::now() });
            }
        }
        crossed
    }

    pub(crate) fn note(&mut self, alert: Alert) {
        self.watch.alerts.truncate(ALERTS - 1);
        self.watch.alerts.push_front(alert);
    }

    fn value(&self, metric: &str) -> Option<f64> {
        match self.metrics.get(metric) {
            Some(posted) => Some(posted.value),
            None => self.readings.front()?.data.figure(metric),
        }
    }
}
