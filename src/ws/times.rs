//! [`Times`]: when a connection has to ping, to close, or to read on; and the [`Alarm`] that wakes its task then.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::rate::{Allowance, RateLimit};
use crate::channel::Link;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The client is pinged after a silence of this time.
    pub(super) heartbeat: Option<Duration>,
    /// How long the answer to a ping may take.
    pub(super) heartbeat_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) rate_limit: Option<RateLimit>,
}

/// The due times of a connection.
pub(super) struct Times {
    pub(super) pace: Pace,
    /// Bytes have arrived since the last check.
    pub(super) heard: bool,
    /// A ping was sent, and nothing has arrived since.
    pub(super) asked: bool,
    /// How much had left the outbox at the last check, if more waited in it then.
    stalled_at: Option<u64>,
    pub(super) beat_due: Option<Instant>,
    /// When the last message came; kept only for an idle timeout.
    last_message: Option<Instant>,
    pub(super) close_due: Option<Instant>,
    pub(super) extended: bool,
    pub(super) allowance: Option<Allowance>,
    /// A client that sent too fast is read again from then on.
    pub(super) resume: Option<Instant>,
}

impl Times {
    pub(super) fn new(pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            pace,
            heard: false,
            asked: false,
            stalled_at: None,
            beat_due: pace.heartbeat.map(|interval| later(now, interval)),
            last_message: pace.idle_timeout.map(|_| now),
            close_due: None,
            extended: false,
            allowance: pace.rate_limit.map(|limit| Allowance::new(limit, now)),
            resume: None,
        }
    }

    /// Records that bytes have arrived from the client. An answer to a ping restarts the silence.
    pub(super) fn hear(&mut self) {
        self.heard = true;
        if std::mem::take(&mut self.asked) {
            self.beat_due = self.pace.heartbeat.map(|interval| later(Instant::now(), interval));
        }
    }

    /// Returns whether some messages that waited at the last check have been written since.
    pub(super) fn see_reading(&mut self, link: &Link) -> bool {
        let progress = link.progress();
        let before = std::mem::replace(&mut self.stalled_at, (!progress.is_empty).then_some(progress.taken));
        before.is_some_and(|before| progress.taken > before)
    }

    pub(super) fn spoke(&mut self) {
        if let Some(last) = &mut self.last_message {
            *last = Instant::now();
        }
    }

    pub(super) fn idle_due(&self) -> Option<Instant> {
        Some(later(self.last_message?, self.pace.idle_timeout?))
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match self.close_due {
            // For a connection about to end, no other time matters.
            Some(due) => Some(due),
            None => [self.beat_due, self.idle_due(), self.resume].into_iter().flatten().min(),
        }
    }
}

/// Returns the time after `wait`; 30 years from now, which means never, if that is beyond the clock's range.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

/// Wakes the task at a time. Reset only for an earlier time or after it has fired: due times mostly move later.
#[derive(Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready when `due` has come.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            if due < sleep.deadline() {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}
