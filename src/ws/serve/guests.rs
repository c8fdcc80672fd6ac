//! [`Guests`]: what holds for all connections of a server together.
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
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use http::Extensions;
use tokio::sync::{Notify, watch};

use crate::channel::{ChannelId, CloseCode, Out};
use crate::observe::connections as observe;
use crate::sync::{Arc, Mutex, Weak, lock};

/// Channels closed in one go before other tasks get their turn.
const CLOSED_AT_A_TIME: usize = 64;

/// The connections of one server.
pub(super) struct Guests {
    inner: Mutex<Inner>,
    /// Changed under the lock of `inner` only.
    phase: watch::Sender<Phase>,
    /// Told whenever the last connection goes: asked for by the one shutdown.
    emptied: Notify,
}

#[derive(Default)]
struct Inner {
    open: usize,
    by_network: HashMap<IpAddr, usize>,
    /// Those connections that are channels by now.
    channels: HashMap<ChannelId, Arc<Out>>,
    accepted: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    Draining,
    Over,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) connections: usize,
    pub(super) per_address: usize,
    /// Connections from this host count towards the total alone: they may all be those of a proxy.
    pub(super) spares_loopback: bool,
}

/// Which cap a connection would break.
#[derive(Clone, Copy, Debug)]
pub(super) enum Full {
    Server,
    Address,
}

impl Full {
    /// Returns what it is called in a label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Address => "address",
        }
    }
}

impl Guests {
    pub(super) fn new() -> Arc<Self> {
        let phase = watch::Sender::new(Phase::Serving);
        Arc::new(Self { inner: Mutex::default(), phase, emptied: Notify::new() })
    }

    /// Takes a connection in; one without an address counts towards the total alone.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>, caps: Caps) -> Result<Arc<Place>, Full> {
        let counted = address.filter(|address| !(caps.spares_loopback && address.to_canonical().is_loopback()));
        let network = counted.map(network);
        let mut inner = lock(&self.inner);
        let from_there = network.and_then(|network| inner.by_network.get(&network).copied()).unwrap_or(0);
        let full = if inner.open >= caps.connections {
            Some(Full::Server)
        } else if network.is_some() && from_there >= caps.per_address {
            Some(Full::Address)
        } else {
            None
        };
        if let Some(full) = full {
            inner.refused += 1;
            return Err(full);
        }
        inner.accepted += 1;
        inner.open += 1;
        if let Some(network) = network {
            inner.by_network.insert(network, from_there + 1);
        }
        Ok(Arc::new(Place { guests: Arc::clone(self), network }))
    }

    /// Resolves when `phase` is reached.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender is ours: it lives.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Ends what is open, in order where that takes no longer than `timeout`.
    pub(super) async fn drain(&self, timeout: Duration) -> Drained {
        let (open, channels) = self.enter(Phase::Draining);
        observe::draining(open);
        let farewell = async {
            for some in channels.chunks(CLOSED_AT_A_TIME) {
                for out in some {
                    say_goodbye(out);
                }
                tokio::task::yield_now().await;
            }
            drop(channels);
            while self.open() > 0 {
                self.emptied.notified().await;
            }
        };
        let _ = tokio::time::timeout(timeout, farewell).await;
        let cut = self.cut();
        // Nothing came since: what is not cut has ended.
        let ended = open - cut;
        observe::drained(ended, cut);
        Drained { ended, cut }
    }

    /// Cuts off what is open; returns how many that were.
    pub(super) fn cut(&self) -> usize {
        let (open, channels) = self.enter(Phase::Over);
        channels.iter().for_each(Out::die);
        open
    }

    /// Begins a phase; returns the number of connections, and those of them that were channels before it began.
    fn enter(&self, phase: Phase) -> (usize, Vec<Arc<Out>>) {
        let inner = lock(&self.inner);
        self.phase.send_replace(phase);
        (inner.open, inner.channels.values().cloned().collect())
    }

    fn open(&self) -> usize {
        lock(&self.inner).open
    }
}

/// The close goes out behind what waits.
fn say_goodbye(out: &Arc<Out>) {
    out.close(CloseCode::GOING_AWAY, "the server is going away");
}

/// What counts as one address: an IPv4 address, or the network of 64 bits that one IPv6 host may choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// The place of one connection under the caps: free again when this is dropped.
pub(in crate::ws) struct Place {
    guests: Arc<Guests>,
    network: Option<IpAddr>,
}

impl Place {
    /// Lists a connection that has become a channel: a shutdown closes it, also one that has begun already.
    pub(in crate::ws) fn enlist(self: Arc<Self>, out: &Arc<Out>) -> Stay {
        let phase = {
            let mut inner = lock(&self.guests.inner);
            inner.channels.insert(out.id(), Arc::clone(out));
            *self.guests.phase.borrow()
        };
        match phase {
            Phase::Serving => {}
            Phase::Draining => say_goodbye(out),
            Phase::Over => out.die(),
        }
        Stay { place: self, id: out.id() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = lock(&self.guests.inner);
        inner.open -= 1;
        if let Some(network) = self.network {
            let from_there = inner.by_network.remove(&network).expect("it is counted as long as it has a place");
            if from_there > 1 {
                inner.by_network.insert(network, from_there - 1);
            }
        }
        let is_last = inner.open == 0;
        drop(inner);
        observe::ended();
        if is_last {
            self.guests.emptied.notify_one();
        }
    }
}

/// A channel among its server's guests, until this is dropped.
pub(in crate::ws) struct Stay {
    place: Arc<Place>,
    id: ChannelId,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let out = lock(&self.place.guests.inner).channels.remove(&self.id);
        // Without the lock: it may be the last one to hold a socket.
        drop(out);
    }
}

/// Goes with each request: whose guest its client is.
///
/// Weak, so that a request which somebody keeps does not keep a place; it is the connection that does.
#[derive(Clone)]
pub(super) struct Guest(Weak<Place>);

impl Guest {
    pub(super) fn of(place: &Arc<Place>) -> Self {
        Self(Arc::downgrade(place))
    }
}

/// Returns the place of the connection that a request came on; `None` where another server runs it.
pub(in crate::ws) fn take_place(extensions: &mut Extensions) -> Option<Arc<Place>> {
    extensions.remove::<Guest>()?.0.upgrade()
}

/// How a server's shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were over within the time. Clients that never answered their close are among them
    /// when the channel gave them up before.
    pub ended: usize,
    /// Connections that were cut off when the time was up.
    pub cut: usize,
}

/// Counts a server's connections while it runs, and after: see [`Server::counters`](super::Server::counters).
#[derive(Clone)]
pub struct Counters(pub(super) Arc<Guests>);

impl Counters {
    /// Returns how many connections were taken in so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        lock(&self.0.inner).accepted
    }

    /// Returns how many connections were turned away for a cap so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        lock(&self.0.inner).refused
    }

    /// Returns how many connections there are, channels included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open()
    }

    /// Returns how many of them are channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        lock(&self.0.inner).channels.len()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = lock(&self.0.inner);
        f.debug_struct("Counters")
            .field("accepted", &inner.accepted)
            .field("refused", &inner.refused)
            .field("open", &inner.open)
            .field("channels", &inner.channels.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { connections: 3, per_address: 1, spares_loopback: false };

    fn admit(guests: &Arc<Guests>, address: &str) -> Result<Arc<Place>, Full> {
        guests.admit(Some(address.parse().expect("an address")), CAPS)
    }

    #[test]
    fn one_network_of_64_bits_counts_as_one_address() {
        let guests = Guests::new();
        let _place = admit(&guests, "2001:db8:0:1::1").expect("it is the first");
        assert!(matches!(admit(&guests, "2001:db8:0:1:ffff::2"), Err(Full::Address)));
        assert!(admit(&guests, "2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn an_ipv4_address_counts_as_itself_however_it_is_written() {
        let guests = Guests::new();
        let _place = admit(&guests, "192.0.2.1").expect("it is the first");
        assert!(matches!(admit(&guests, "::ffff:192.0.2.1"), Err(Full::Address)));
        assert!(admit(&guests, "::ffff:192.0.2.2").is_ok());
    }

    #[test]
    fn a_place_that_is_given_back_leaves_nothing_behind() {
        let guests = Guests::new();
        for _ in 0..3 {
            let place = admit(&guests, "192.0.2.1").expect("the place is free");
            assert!(admit(&guests, "192.0.2.1").is_err());
            drop(place);
        }
        let inner = lock(&guests.inner);
        assert_eq!((inner.open, inner.by_network.len(), inner.accepted, inner.refused), (0, 0, 3, 3));
    }

    #[test]
    fn a_connection_without_an_address_counts_towards_the_total_alone() {
        let guests = Guests::new();
        let places: Vec<_> = (0..CAPS.connections).map(|_| guests.admit(None, CAPS)).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!(matches!(guests.admit(None, CAPS), Err(Full::Server)));
    }
}
