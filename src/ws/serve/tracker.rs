//! [`Tracker`]: counts and lists the connections of a server, and ends them when it shuts down.
//!
//! One short lock, taken when a connection comes, becomes a channel, or goes. The phase changes under
//! that lock too, so that a channel is either in the list which a shutdown takes, or sees the phase
//! that began meanwhile; none slips through. No channel is touched under the lock: closing one writes
//! to its socket.
//!
//! ```text
//! phase      new connections   requests             channels              leaves it by
//! SERVING    taken in          answered             live                  -> DRAINING  the signal came
//! DRAINING   none              finished, the last   closed with 1001      -> OVER      all gone, or the time is up
//! OVER       none              cut off              cut off
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use http::Extensions;
use tokio::sync::{Notify, watch};

use super::caps::{Caps, Full};
use super::report::ShutdownReport;
use crate::channel::{ChannelId, CloseCode, Link};
use crate::observe::connections as observe;
use crate::sync::{Arc, Mutex, Weak, lock};

/// Channels closed in one go before other tasks get their turn.
const CLOSED_AT_A_TIME: usize = 64;

/// The connections of one server.
pub(super) struct Tracker {
    inner: Mutex<Inner>,
    /// Changed under the lock of `inner` only.
    phase: watch::Sender<ServerPhase>,
    /// Notified when the last connection ends; the shutdown waits for it.
    emptied: Notify,
}

#[derive(Default)]
struct Inner {
    open: usize,
    by_network: HashMap<IpAddr, usize>,
    /// The connections that have become channels.
    channels: HashMap<ChannelId, Arc<Link>>,
    accepted: u64,
    refused: u64,
}

/// A server's connections, so far and now.
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) open: usize,
    /// Those of `open` that are channels.
    pub(super) channels: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum ServerPhase {
    Serving,
    Draining,
    Over,
}

impl Tracker {
    pub(super) fn new() -> Arc<Self> {
        let phase = watch::Sender::new(ServerPhase::Serving);
        Arc::new(Self { inner: Mutex::default(), phase, emptied: Notify::new() })
    }

    /// Admits a connection; one without an address counts only towards the total.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>, caps: Caps) -> Result<Arc<ConnectionPermit>, Full> {
        let network = caps.network(address);
        let mut inner = lock(&self.inner);
        let from_there = network.map(|network| inner.by_network.get(&network).copied().unwrap_or(0));
        if let Some(full) = caps.full(inner.open, from_there) {
            inner.refused += 1;
            return Err(full);
        }
        inner.accepted += 1;
        inner.open += 1;
        if let (Some(network), Some(from_there)) = (network, from_there) {
            inner.by_network.insert(network, from_there + 1);
        }
        Ok(Arc::new(ConnectionPermit { tracker: Arc::clone(self), network }))
    }

    /// Resolves when `phase` is reached.
    pub(super) async fn reached(&self, phase: ServerPhase) {
        // `self` owns the sender, so it is not dropped.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Ends the open connections in order, and cuts off those left after `timeout`.
    pub(super) async fn drain(&self, timeout: Option<Duration>) -> ShutdownReport {
        let (open, channels) = self.enter(ServerPhase::Draining);
        observe::draining(open);
        let farewell = async {
            for some in channels.chunks(CLOSED_AT_A_TIME) {
                for link in some {
                    say_goodbye(link);
                }
                tokio::task::yield_now().await;
            }
            drop(channels);
            while self.open() > 0 {
                self.emptied.notified().await;
            }
        };
        match timeout {
            Some(timeout) => drop(tokio::time::timeout(timeout, farewell).await),
            None => farewell.await,
        }
        let cut = self.cut();
        // No connection came since: those that are not cut off have ended.
        let ended = open - cut;
        observe::drained(ended, cut);
        ShutdownReport { ended, cut }
    }

    /// Cuts off the open connections; returns their number.
    pub(super) fn cut(&self) -> usize {
        let (open, channels) = self.enter(ServerPhase::Over);
        channels.iter().for_each(Link::die);
        open
    }

    /// Begins a phase; returns the number of connections, and those of them that were channels before it began.
    fn enter(&self, phase: ServerPhase) -> (usize, Vec<Arc<Link>>) {
        let inner = lock(&self.inner);
        self.phase.send_replace(phase);
        (inner.open, inner.channels.values().cloned().collect())
    }

    fn open(&self) -> usize {
        lock(&self.inner).open
    }

    /// Returns the numbers of connections, now and so far.
    pub(super) fn counts(&self) -> Counts {
        let inner = lock(&self.inner);
        let (accepted, refused, open) = (inner.accepted, inner.refused, inner.open);
        Counts { accepted, refused, open, channels: inner.channels.len() }
    }
}

/// Closes a channel, behind the messages that wait in its outbox.
fn say_goodbye(link: &Arc<Link>) {
    link.close(CloseCode::GOING_AWAY, "the server is going away");
}

/// A connection's permit under the caps, returned when dropped.
pub(in crate::ws) struct ConnectionPermit {
    tracker: Arc<Tracker>,
    network: Option<IpAddr>,
}

impl ConnectionPermit {
    /// Lists a connection that has become a channel: a shutdown closes it, also one that has begun already.
    pub(in crate::ws) fn enlist(self: Arc<Self>, link: &Arc<Link>) -> ListedChannel {
        let phase = {
            let mut inner = lock(&self.tracker.inner);
            inner.channels.insert(link.id(), Arc::clone(link));
            *self.tracker.phase.borrow()
        };
        match phase {
            ServerPhase::Serving => {}
            ServerPhase::Draining => say_goodbye(link),
            ServerPhase::Over => link.die(),
        }
        ListedChannel { permit: self, id: link.id() }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut inner = lock(&self.tracker.inner);
        inner.open -= 1;
        if let Some(network) = self.network {
            let from_there = inner.by_network.remove(&network).expect("it is counted as long as it has a permit");
            if from_there > 1 {
                inner.by_network.insert(network, from_there - 1);
            }
        }
        let is_last = inner.open == 0;
        drop(inner);
        observe::ended();
        if is_last {
            self.tracker.emptied.notify_one();
        }
    }
}

/// A channel in its server's list, until this is dropped.
pub(in crate::ws) struct ListedChannel {
    permit: Arc<ConnectionPermit>,
    id: ChannelId,
}

impl Drop for ListedChannel {
    fn drop(&mut self) {
        let link = lock(&self.permit.tracker.inner).channels.remove(&self.id);
        // Without the lock: it may be the last one to hold a socket.
        drop(link);
    }
}

/// Goes with each request, as an extension: the permit of the connection that the request came on.
///
/// Weak, so that only the connection keeps the permit, and not a request that outlives it.
#[derive(Clone)]
pub(super) struct PermitHandle(Weak<ConnectionPermit>);

impl PermitHandle {
    pub(super) fn of(permit: &Arc<ConnectionPermit>) -> Self {
        Self(Arc::downgrade(permit))
    }
}

/// Returns the permit of the connection that a request came on; `None` where another server runs it.
pub(in crate::ws) fn take_permit(extensions: &mut Extensions) -> Option<Arc<ConnectionPermit>> {
    extensions.remove::<PermitHandle>()?.0.upgrade()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { connections: 3, per_address: 1, spares_loopback: false };

    fn admit(tracker: &Arc<Tracker>, address: &str) -> Result<Arc<ConnectionPermit>, Full> {
        tracker.admit(Some(address.parse().expect("an address")), CAPS)
    }

    #[test]
    fn one_network_of_64_bits_counts_as_one_address() {
        let tracker = Tracker::new();
        let _permit = admit(&tracker, "2001:db8:0:1::1").expect("it is the first");
        assert!(matches!(admit(&tracker, "2001:db8:0:1:ffff::2"), Err(Full::Address)));
        assert!(admit(&tracker, "2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn an_ipv4_address_counts_as_itself_however_it_is_written() {
        let tracker = Tracker::new();
        let _permit = admit(&tracker, "192.0.2.1").expect("it is the first");
        assert!(matches!(admit(&tracker, "::ffff:192.0.2.1"), Err(Full::Address)));
        assert!(admit(&tracker, "::ffff:192.0.2.2").is_ok());
    }

    #[test]
    fn a_permit_that_is_given_back_leaves_nothing_behind() {
        let tracker = Tracker::new();
        for _ in 0..3 {
            let permit = admit(&tracker, "192.0.2.1").expect("the first permit was given back");
            assert!(admit(&tracker, "192.0.2.1").is_err());
            drop(permit);
        }
        let inner = lock(&tracker.inner);
        assert_eq!((inner.open, inner.by_network.len(), inner.accepted, inner.refused), (0, 0, 3, 3));
    }

    #[test]
    fn a_connection_without_an_address_counts_towards_the_total_alone() {
        let tracker = Tracker::new();
        let permits: Vec<_> = (0..CAPS.connections).map(|_| tracker.admit(None, CAPS)).collect();
        assert!(permits.iter().all(Result::is_ok));
        assert!(matches!(tracker.admit(None, CAPS), Err(Full::Server)));
    }
}
