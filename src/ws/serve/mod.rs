//! [`serve`]: an accept loop that bounds what clients can take, and ends in order.
//!
//! One future accepts. Each connection has a task of its own, which speaks HTTP until the connection
//! is over or becomes a channel; from then on the channel's task has it. What all of them share is
//! in [`Guests`].

mod guests;

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::observe::connections as observe;
use crate::sync::Arc;
use guests::{Caps, Full, Guest, Guests, Phase};

pub use guests::{Counters, Drained};
pub(super) use guests::{Place, take_place};

/// Added to now, no time is out of range.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many that are turned away are told why at a time; others are closed without a word.
const REFUSALS_AT_A_TIME: usize = 64;
/// How long one that is turned away may take to read why.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Serves `router` on `listener`, with bounds and an end: await what this returns.
///
/// What `axum::serve` lacks, and a public port needs:
///
/// | | bound by | default |
/// |---|---|---|
/// | a head that never ends, a connection without a request | [`header_timeout`](Server::header_timeout) | 10 s |
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
/// Other listeners are served alike, for TLS say. Its `accept` should hand out connections that are
/// ready: while it waits for the handshake of one client no other gets in. Connections whose address
/// is not a [`SocketAddr`] are not counted per address.
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
/// assert_eq!((counters.is_accepted(), counters.refused(), counters.open()), (1, 1, 1));
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
        drain_timeout: Duration::from_secs(10),
        signal: Box::pin(pending()),
        guests: Guests::new(),
    };
    server.header_timeout(Duration::from_secs(10)).max_head_size(16 << 10)
}

/// A server to be configured and awaited: see [`serve`].
///
/// Awaited, it resolves when [`shutdown_on`](Self::shutdown_on) has told it to end and all connections
/// are gone; without that, never.
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
    drain_timeout: Duration,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
    guests: Arc<Guests>,
}

impl<L> Server<L> {
    /// Sets how many connections there may be, channels included; 10 000 by default.
    ///
    /// One more gets a response 503 that says so, or is closed without a word when many are refused at
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

    /// Sets how long a client has for the whole head of a request; 10 s by default.
    ///
    /// It counts from when the connection was accepted, and again from the end of each response: a
    /// connection that is kept alive without a next request is closed after this time as well.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.http.header_read_timeout(timeout.min(LONGEST_TIMEOUT));
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
    /// More get a response 431. A count that is set costs an allocation per request; the default does not.
    pub fn max_headers(mut self, count: usize) -> Self {
        self.http.max_headers(count);
        self
    }

    /// Ends the server in order when `signal` resolves.
    ///
    /// From then on nothing is accepted. Requests that have begun are answered; every channel gets what
    /// waits for it and then a close with code 1001, also one that is opened meanwhile. A connection is
    /// over when its handler is as well. What is left after [`drain_timeout`](Self::drain_timeout) is
    /// cut off: its socket is closed, and its handler sees the end of its channel but is not waited for.
    pub fn shutdown_on(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// Sets how long a shutdown waits for connections to end; 10 s by default.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Returns a handle that counts the connections.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters(Arc::clone(&self.guests))
    }
}

impl<L> IntoFuture for Server<L>
where
    L: Listener<Addr: Clone + Sync + 'static>,
{
    type Output = Drained;
    type IntoFuture = Pin<Box<dyn Future<Output = Drained> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mut listener, router, http, caps, drain_timeout, signal, guests } = self;
        let host = Arc::new(Host {
            router: TowerToHyperService::new(router),
            http,
            caps,
            guests: Arc::clone(&guests),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_A_TIME)),
        });
        Box::pin(async move {
            let guests = CutOnDrop(guests);
            tokio::select! {
                never = host.accept_all(&mut listener) => match never {},
                () = signal => {}
            }
            drop(listener);
            guests.0.drain(drain_timeout).await
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

/// A server that is dropped leaves no connection behind that nobody would end.
struct CutOnDrop(Arc<Guests>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// What every connection needs of its server.
struct Host {
    router: TowerToHyperService<Router>,
    http: http1::Builder,
    caps: Caps,
    guests: Arc<Guests>,
    /// The right to tell one that is turned away why.
    refusals: Arc<Semaphore>,
}

impl Host {
    async fn accept_all<L>(self: &Arc<Self>, listener: &mut L) -> Infallible
    where
        L: Listener<Addr: Clone + Sync + 'static>,
    {
        loop {
            // A listener waits before it tries again when the process has no file left for a socket.
            let (io, address) = listener.accept().await;
            if let Some(stream) = (&io as &dyn Any).downcast_ref::<TcpStream>() {
                // Fails when the client is gone already: its connection finds out.
                let _ = stream.set_nodelay(true);
            }
            let ip = (&address as &dyn Any).downcast_ref::<SocketAddr>().map(SocketAddr::ip);
            match self.guests.admit(ip, self.caps) {
                Ok(place) => {
                    observe::accepted();
                    drop(tokio::spawn(Arc::clone(self).converse(io, address, place)));
                }
                Err(full) => {
                    observe::refused(full.label());
                    self.refuse(io, full);
                }
            }
        }
    }

    /// Speaks HTTP with a client until the connection is over, or an [`Upgrade`](super::Upgrade) has taken it.
    async fn converse<I, A>(self: Arc<Self>, io: I, address: A, place: Arc<Place>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Clone + Send + Sync + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address.clone()));
            request.extensions_mut().insert(Guest::of(&place));
            self.router.call(request)
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(io), service).with_upgrades());
        // How a connection breaks concerns its client alone.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.guests.reached(Phase::Draining) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = self.guests.reached(Phase::Over) => {}
        }
    }

    /// Turns a client away, and tells it why where that is cheap.
    fn refuse<I>(&self, io: I, full: Full)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            // Ends by its own deadline.
            tokio::spawn(async move {
                let _ = tokio::time::timeout(REFUSAL_DEADLINE, tell(io, full)).await;
                drop(permit);
            });
        }
    }
}

/// Answers a request that is not read, then waits for the client's end: bytes left unread would reset
/// the connection before the client has seen the answer.
async fn tell(mut io: impl AsyncRead + AsyncWrite + Unpin, full: Full) -> std::io::Result<()> {
    let why = match full {
        Full::Server => "the server has as many connections as it takes\n",
        Full::Address => "the server has as many connections as it takes from one address\n",
    };
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{why}",
        why.len()
    );
    io.write_all(response.as_bytes()).await?;
    io.shutdown().await?;
    let mut unread = [0; 1024];
    while io.read(&mut unread).await? > 0 {}
    Ok(())
}
