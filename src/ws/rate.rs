//! How much a client may send over time: a token bucket (Turner, "New directions in communications",
//! IEEE Communications Magazine 24(10), 1986). Plain values; the caller passes the time.

use std::time::Duration;

use tokio::time::Instant;

/// The least burst, in time at the rate.
const LEAST_BURST: Duration = Duration::from_secs(1);

/// How much one client may send over time: [`Upgrade::rate_limit`](super::Upgrade::rate_limit).
///
/// Pings, pongs and closes count as messages too, a message once it is complete; bytes count as they
/// arrive, headers and fragments included, so that no flood is free. The bytes by which a compressed message
/// exceeds its size on the wire count when it is complete. One client's messages amplified to a large group
/// cost the server most: the limit is per connection.
///
/// ```
/// use std::time::Duration;
/// use fanfare::ws::{Excess, RateLimit};
///
/// // Ten messages and 64 KiB a second, twice that at once; a client that sends more is closed with code 1008.
/// let limit = RateLimit::per_second(10, 64 << 10).burst(Duration::from_secs(2)).excess(Excess::Close);
/// # let _ = limit;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a rate limit does nothing until it is given to `Upgrade::rate_limit`"]
pub struct RateLimit {
    messages: u32,
    bytes: usize,
    burst: Duration,
    pub(super) excess: Excess,
}

/// What happens to a client that sends more than its [`RateLimit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// It is read no faster than the limit: its own sends begin to wait, and no message is lost.
    #[default]
    Throttle,
    /// Its channel is closed with code 1008.
    Close,
}

impl RateLimit {
    /// Limits a client to these numbers of messages and bytes per second; each at least 1.
    pub fn per_second(messages: u32, bytes: usize) -> Self {
        Self { messages: messages.max(1), bytes: bytes.max(1), burst: LEAST_BURST, excess: Excess::Throttle }
    }

    /// Sets how much may come at once: as much as the rate allows in this time; 1 s by default and at the least.
    pub fn burst(mut self, time: Duration) -> Self {
        self.burst = time.max(LEAST_BURST);
        self
    }

    /// Sets what happens to a client that sends more; it is throttled by default.
    pub fn excess(mut self, excess: Excess) -> Self {
        self.excess = excess;
        self
    }
}

/// The remaining allowance of a client.
#[derive(Debug)]
pub(super) struct Allowance {
    pub(super) limit: RateLimit,
    messages: Bucket,
    bytes: Bucket,
    last: Instant,
}

/// It may become a debt: data that has arrived is accepted, and later data waits.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    per_second: f64,
    most: f64,
}

impl Allowance {
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        let bucket = |per_second: f64| {
            let most = per_second * limit.burst.as_secs_f64();
            Bucket { tokens: most, per_second, most }
        };
        Self { limit, messages: bucket(limit.messages.into()), bytes: bucket(limit.bytes as f64), last: now }
    }

    /// Subtracts received messages and bytes; returns how long the client has to wait, if it has sent too fast.
    pub(super) fn take(&mut self, messages: u32, bytes: usize, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        let waits = [(&mut self.messages, f64::from(messages)), (&mut self.bytes, bytes as f64)]
            .map(|(bucket, amount)| bucket.take(amount, passed));
        let wait = waits[0].max(waits[1]);
        (wait > 0.0).then(|| Duration::from_secs_f64(wait))
    }
}

impl Bucket {
    /// Returns the seconds until the debt is paid.
    fn take(&mut self, amount: f64, passed: f64) -> f64 {
        self.tokens = (self.tokens + passed * self.per_second).min(self.most) - amount;
        -self.tokens / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_what_is_over_it_waits_its_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(RateLimit::per_second(10, 1000).burst(Duration::from_secs(2)), start);
        assert!((0..20).all(|_| allowance.take(1, 1, start).is_none()));
        assert_eq!(allowance.take(5, 5, start), Some(Duration::from_millis(500)));
        let later = start + Duration::from_millis(500);
        assert_eq!(allowance.take(0, 0, later), None);
        assert_eq!(allowance.take(0, 3000, later), Some(Duration::from_secs(1)), "bytes count too");
    }

    #[test]
    fn an_idle_client_saves_up_no_more_than_its_burst() {
        let start = Instant::now();
        let mut allowance = Allowance::new(RateLimit::per_second(1, 1), start);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(allowance.take(2, 0, much_later), Some(Duration::from_secs(1)));
    }
}
