//! [`Life`]: the times at which a channel ends by itself. A plain value: the current time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::frame::close_code::CloseCode;

/// The times at which a channel ends by itself; the first one counts.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The end of the lifetime that was set for the channel.
    expires: Option<Instant>,
    /// The end of the client's token.
    signed_until: Option<Instant>,
    /// The idle timeout, and the time of the last touch.
    idle: Option<(Duration, Instant)>,
}

/// The time at which a channel ends, and the close code and reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) code: CloseCode,
    pub(crate) reason: &'static str,
}

impl Life {
    /// Returns the life with which a channel begins; `None` for most channels, which live as long as their connection.
    pub(crate) fn of(idle_timeout: Option<Duration>, lifetime: Option<Duration>) -> Option<Box<Self>> {
        if idle_timeout.is_none() && lifetime.is_none() {
            return None;
        }
        let now = Instant::now();
        let mut life = Self::default();
        life.set_lifetime(lifetime, now);
        life.set_idle_timeout(idle_timeout, now);
        Some(Box::new(life))
    }

    pub(crate) fn set_lifetime(&mut self, lifetime: Option<Duration>, now: Instant) {
        self.expires = lifetime.and_then(|lifetime| now.checked_add(lifetime));
    }

    pub(crate) fn sign_until(&mut self, at: Option<Instant>) {
        self.signed_until = at;
    }

    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>, now: Instant) {
        self.idle = timeout.map(|timeout| (timeout, now));
    }

    pub(crate) fn touch(&mut self, now: Instant) {
        if let Some((_, touched)) = &mut self.idle {
            *touched = now;
        }
    }

    /// Returns the first end, as things stand.
    pub(crate) fn end(&self) -> Option<End> {
        let end = |at, code, reason| End { at, code, reason };
        [
            self.expires.map(|at| end(at, CloseCode::EXPIRED, "channel has expired")),
            self.signed_until.map(|at| end(at, CloseCode::UNAUTHORIZED, "token has expired")),
            self.idle
                .and_then(|(timeout, touched)| touched.checked_add(timeout))
                .map(|at| end(at, CloseCode::EXPIRED, "channel was idle for too long")),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|end| end.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_end_counts_and_a_touch_moves_only_the_idle_one() {
        let start = Instant::now();
        let mut life = Life::default();
        assert_eq!(life.end(), None);
        life.set_lifetime(Some(10 * SECOND), start);
        life.set_idle_timeout(Some(SECOND), start);
        assert_eq!(life.end().map(|end| (end.at, end.reason)), Some((start + SECOND, "channel was idle for too long")));
        life.touch(start + 9 * SECOND + SECOND / 2);
        assert_eq!(life.end().map(|end| (end.at, end.code)), Some((start + 10 * SECOND, CloseCode::EXPIRED)));
        life.set_lifetime(None, start);
        assert_eq!(life.end().map(|end| end.at), Some(start + 10 * SECOND + SECOND / 2));
        life.set_idle_timeout(Some(Duration::MAX), start);
        assert_eq!(life.end(), None, "a time that is too far for the clock never comes");
    }
}
