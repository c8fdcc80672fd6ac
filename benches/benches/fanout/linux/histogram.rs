//! How late deliveries are: counts in buckets, none wider than a sixty-fourth of what it holds. A plain value.

/// Buckets between a power of two and the next.
const PARTS: usize = 64;
/// Up to 2^40 ns, eighteen minutes.
const POWERS: usize = 40;

pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: vec![0; PARTS * POWERS], total: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    pub(super) fn add(&mut self, ns: u64) {
        self.counts[bucket(ns).min(PARTS * POWERS - 1)] += 1;
        self.total += 1;
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Returns the microseconds that this part of all does not exceed; 0 when there are none.
    pub(super) fn quantile_us(&self, part: f64) -> f64 {
        let rank = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        self.counts.iter().position(reaches).map_or(0.0, |at| lower_end(at) as f64 / 1000.0)
    }
}

/// The first `PARTS` numbers have a bucket each; then the top seven bits of a number choose it.
fn bucket(ns: u64) -> usize {
    let power = (ns | 1).ilog2().saturating_sub(PARTS.ilog2());
    power as usize * PARTS + (ns >> power) as usize
}

fn lower_end(bucket: usize) -> u64 {
    // From 2 * PARTS on each PARTS buckets are a power further.
    let power = (bucket / PARTS).saturating_sub(1);
    ((bucket - power * PARTS) as u64) << power
}
