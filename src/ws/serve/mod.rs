//! [`serve`]: an accept loop that bounds what clients can take, and ends in order.
//!
//! One future accepts. Each connection has a task of its own, which speaks HTTP until the connection
//! ends or becomes a channel, which has its own task. Their shared state is in [`Tracker`].

mod acceptor;
mod caps;
mod counters;
mod report;
mod tracker;

use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

use self::acceptor::Acceptor;
use self::caps::Caps;
use self::tracker::Tracker;
use crate::sync::Arc;

pub use self::counters::Counters;
pub use self::report::ShutdownReport;
pub(super) use self::tracker::{ConnectionPermit, take_permit};

/// Longer timeouts are clamped to this, so that `now + timeout` cannot overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Serves `router` on `listener`, with bounds and an end: await what this returns.
///
/// What `axum::serve` lacks, and a public port needs:
///
/// | | bound by | default |
/// |---|---|---|
/// | a head that never ends, a connection without a request | [`head_timeout`](Server::head_timeout) | 10 s |
/// | a huge head | [`max_head_size`](Server::max_head_size), [`max_headers`](Server::max_headers) | 16 KiB, 100 |
/// | too many connections | [`max_connections`](Server::max_connections) | 10 000 |
/// | too many of one client | [`max_connections_per_address`](Server::max_connections_per_address) | 256, a proxy on this host exempt |
/// | an end that waits for clients | [`drain_timeout`](Server::drain_timeout) | 10 s |
///
/// Channels count as connections until they are closed, and [`shutdown_on`](Server::shutdown_on) closes
/// them in order. Handlers can extract `ConnectInfo<SocketAddr>`. A handler that panics ends its own
/// connection and no other. Sockets are served as HTTP/1.1, with `TCP_NODELAY`.
///
/// *Not* bounded is what a handler does: how long it takes, how it reads a request's body, and how long
/// a client takes to read the response.
///
/// Other listeners work the same way, for example for TLS. Their `accept` should return connections that are
/// ready: while it waits for one client's handshake, no other client is accepted. Connections whose address
/// is not a [`SocketAddr`](std::net::SocketAddr) are not counted per address.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use axum::{Router, routing::get};
/// use fanfare::ws::{Upgrade, serve};
/// use tokio::net::{TcpListener, TcpStream};
/// use tokio::sync::oneshot;
///
/// let route = get(async |upgrade: Upgrade| upgrade.run(async |channel| Ok(channel.send("welcome")?)));
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?;
/// let (stop, stopped) = oneshot::channel();
///
/// let server = serve(listener, Router::new().route("/", route))
///     .max_connections_per_address(1)
///     .shutdown_on(async { drop(stopped.await) });
/// let counters = server.counters();
/// let server = tokio::spawn(server.into_future());
///
/// let client = TcpStream::connect(address).await?;
/// let refused = TcpStream::connect(address).await?;
/// # let mut text = String::new();
/// # let mut refused = refused;
/// # tokio::io::AsyncReadExt::read_to_string(&mut refused, &mut text).await?;
/// # assert!(text.starts_with("HTTP/1.1 503"));
/// assert_eq!((counters.accepted(), counters.refused(), counters.open()), (1, 1, 1));
///
/// stop.send(()).expect("the server runs");
/// let drained = server.await?;
/// assert_eq!((drained.ended, drained.cut), (1, 0));
/// # drop(client);
/// # Ok(()) }
/// ```
pub fn serve<L>(listener: L, router: Router) -> Server<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    let server = Server {
        listener,
        router: router.with_state(()),
        http,
        caps: Caps { connections: 10_000, per_address: 256, spares_loopback: true },
        drain_timeout: Some(Duration::from_secs(10)),
        signal: Box::pin(pending()),
        tracker: Tracker::new(),
    };
    server.head_timeout(Duration::from_secs(10)).max_head_size(16 << 10)
}

/// A server to be configured and awaited: see [`serve`].
///
/// Awaited, it resolves when the signal of [`shutdown_on`](Self::shutdown_on) has come and all connections
/// have ended; without a signal, never.
///
/// # Cancel safety
///
/// Dropping the future while it runs stops accepting and cuts all connections off.
#[must_use = "a server does nothing unless it is awaited"]
pub struct Server<L> {
    listener: L,
    router: Router,
    http: http1::Builder,
    caps: Caps,
    drain_timeout: Option<Duration>,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    tracker: Arc<Tracker>,
}

impl<L> Server<L> {
    /// Sets the most open connections, channels included; 10 000 by default.
    ///
    /// A further connection gets a response 503 that says so, or is closed without one when many are refused at
    /// once. The operating system has a cap of its own: on one file per connection, often 1024.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.caps.connections = count;
        self
    }

    /// Sets how many connections one address may have, channels included; 256 by default, but for this
    /// host's own (loopback) addresses, which are not counted unless this is set.
    ///
    /// IPv6 addresses count as one when their first 64 bits are the same: a single host can choose the
    /// rest as it likes. **Behind a proxy on another host all clients have the proxy's address**: have the
    /// proxy do this part, and set [`usize::MAX`] here.
    pub fn max_connections_per_address(mut self, count: usize) -> Self {
        self.caps.per_address = count;
        self.caps.spares_loopback = false;
        self
    }

    /// Sets how long a client has for the whole head of a request; 10 s by default. `None` does not bound it.
    ///
    /// It counts from when the connection was accepted, and again from the end of each response: a
    /// connection that is kept alive without a next request is closed after this time as well.
    pub fn head_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.http.header_read_timeout(timeout.into().map(|timeout| timeout.min(LONGEST_TIMEOUT)));
        self
    }

    /// Sets the size of the largest head of a request, in bytes; 16 KiB by default.
    ///
    /// A larger one gets a response 431, and is not read to its end.
    pub fn max_head_size(mut self, bytes: usize) -> Self {
        self.http.max_header_size(bytes);
        self
    }

    /// Sets how many headers a request may have; 100 by default.
    ///
    /// A request with more gets a response 431. A limit that is set costs an allocation per request; the default does
    /// not.
    pub fn max_headers(mut self, count: usize) -> Self {
        self.http.max_headers(count);
        self
    }

    /// Ends the server in order when `signal` resolves.
    ///
    /// From then on nothing is accepted. Requests that have begun are answered; every channel gets what
    /// waits for it and then a close with code 1001, also a channel opened meanwhile. A connection has
    /// ended when its handler has ended, too. A connection left after [`drain_timeout`](Self::drain_timeout) is
    /// cut off: its socket is closed, and its handler sees the end of its channel but is not waited for.
    pub fn shutdown_on(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// Sets how long a shutdown waits for connections to end; 10 s by default. `None` waits until all have ended.
    pub fn drain_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.drain_timeout = timeout.into();
        self
    }

    /// Returns a handle that counts the connections.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.tracker))
    }
}

impl<L> IntoFuture for Server<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    type Output = ShutdownReport;
    type IntoFuture = Pin<Box<dyn Future<Output = ShutdownReport> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mut listener, router, http, caps, drain_timeout, signal, tracker } = self;
        let acceptor = Arc::new(Acceptor::new(router, http, caps, Arc::clone(&tracker)));
        Box::pin(async move {
            let tracker = CutOnDrop(tracker);
            tokio::select! {
                never = acceptor.accept_all(&mut listener) => match never {},
                () = signal => {}
            }
            drop(listener);
            tracker.0.drain(drain_timeout).await
        })
    }
}

impl<L> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("http", &self.http)
            .field("caps", &self.caps)
            .field("drain_timeout", &self.drain_timeout)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// Cuts off all connections of a server that is dropped: otherwise nothing would end them.
struct CutOnDrop(Arc<Tracker>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}
