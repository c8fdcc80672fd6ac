//! [`Caps`]: how many connections a server accepts, in total and from one address. Plain values.

use std::net::{IpAddr, Ipv6Addr};

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub(super) connections: usize,
    pub(super) per_address: usize,
    /// Connections from this host count only towards the total: they may all come from a proxy.
    pub(super) spares_loopback: bool,
}

/// Which cap a connection would break.
#[derive(Clone, Copy, Debug)]
pub(super) enum Full {
    Server,
    Address,
}

impl Full {
    /// Returns its name in a metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Address => "address",
        }
    }
}

impl Caps {
    /// Returns the network that a connection counts towards; `None` if it counts only towards the total.
    pub(super) fn network(self, address: Option<IpAddr>) -> Option<IpAddr> {
        let counted = address.filter(|address| !(self.spares_loopback && address.to_canonical().is_loopback()));
        counted.map(network)
    }

    /// Returns the cap that another connection would break, with `open` connections in total and `from_there` from
    /// its network, if that is counted.
    pub(super) fn full(self, open: usize, from_there: Option<usize>) -> Option<Full> {
        if open >= self.connections {
            return Some(Full::Server);
        }
        from_there.is_some_and(|from_there| from_there >= self.per_address).then_some(Full::Address)
    }
}

/// Returns what counts as one address: an IPv4 address, or the network of 64 bits that one IPv6 host may choose from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
