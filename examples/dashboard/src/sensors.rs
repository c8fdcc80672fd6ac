//! The measurements: of the machine, this process, and the library.

use std::collections::BTreeMap;
use std::time::Instant;

use fanfare::group::ChannelBox;
use serde::Serialize;
use sysinfo::{MemoryRefreshKind, Networks, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::counts::Counts;
use crate::wall::VIEWERS;

/// Constant facts about the machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) name: Option<String>,
    pub(crate) system: Option<String>,
    pub(crate) cores: usize,
    /// Bytes.
    pub(crate) memory: u64,
}

/// Figures of one kind, by name. `messages.d.ts` documents each, with its unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// All figures at one time. A figure is named by its path in JSON: `machine.cpu`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reading {
    pub(crate) machine: Figures,
    /// Percent of each core.
    pub(crate) cores: Vec<f64>,
    pub(crate) process: Figures,
    pub(crate) library: Figures,
}

impl Reading {
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        let (kind, name) = name.split_once('.')?;
        let figures = match kind {
            "machine" => &self.machine,
            "process" => &self.process,
            "library" => &self.library,
            _ => return None,
        };
        figures.get(name).copied()
    }
}

/// Takes readings. Rates are over the time since the one before.
#[derive(Debug)]
pub(crate) struct Sensors {
    system: System,
    networks: Networks,
    process: Option<Pid>,
    counts: Counts,
    channels: ChannelBox,
    before: (Instant, u64, u64),
}

impl Sensors {
    pub(crate) fn new(counts: Counts, channels: ChannelBox) -> Self {
        let before = (Instant::now(), counts.sent(), counts.received());
        let networks = Networks::new_with_refreshed_list();
        let mut sensors = Self {
            system: System::new(),
            networks,
            process: sysinfo::get_current_pid().ok(),
            counts,
            channels,
            before,
        };
        // CPU usage is a difference between two measurements: this is the first.
        sensors.refresh();
        sensors
    }

    fn refresh(&mut self) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(self.process.as_slice()), true, what);
        self.networks.refresh(true);
        self.channels.record_metrics();
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine {
            name: System::host_name(),
            system: System::long_os_version(),
            cores: self.system.cpus().len(),
            memory: self.system.total_memory(),
        }
    }

    pub(crate) fn read(&mut self) -> Reading {
        self.refresh();
        let Self { system, networks, counts, .. } = self;
        let now = (Instant::now(), counts.sent(), counts.received());
        let before = std::mem::replace(&mut self.before, now);
        let seconds = (now.0 - before.0).as_secs_f64().max(0.001);
        let rate = |count: u64| tenths(count as f64 / seconds);
        let unavailable = system.total_memory().saturating_sub(system.available_memory());
        let process = self.process.and_then(|process| system.process(process));
        Reading {
            machine: Figures::from([
                ("cpu", tenths(system.global_cpu_usage().into())),
                ("memory", tenths(100.0 * unavailable as f64 / system.total_memory().max(1) as f64)),
                ("load", System::load_average().one),
                ("received", rate(networks.values().map(|network| network.received()).sum())),
                ("sent", rate(networks.values().map(|network| network.transmitted()).sum())),
            ]),
            cores: system.cpus().iter().map(|core| tenths(core.cpu_usage().into())).collect(),
            process: Figures::from([
                ("cpu", tenths(process.map_or(0.0, |process| process.cpu_usage().into()))),
                ("memory", process.map_or(0.0, |process| process.memory() as f64)),
            ]),
            library: Figures::from([
                ("connections", counts.connections()),
                ("viewers", self.channels.group(VIEWERS).member_count() as f64),
                ("sent", rate(now.1 - before.1)),
                ("received", rate(now.2 - before.2)),
                ("waiting", counts.waiting()),
                ("dropped", counts.dropped() as f64),
            ]),
        }
    }
}

/// Rounds to tenths: more digits are not worth their bytes.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
