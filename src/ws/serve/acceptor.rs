//! [`Acceptor`]: accepts a server's connections and speaks HTTP on each, in a task of its own.

use std::any::Any;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::caps::{Caps, Full};
use super::tracker::{ConnectionPermit, PermitHandle, ServerPhase, Tracker};
use crate::observe::connections as observe;
use crate::sync::Arc;

/// How many refused clients get a response at the same time; others are closed without one.
const REFUSALS_AT_A_TIME: usize = 64;
/// How long a refused client may take to read its response.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// The server's state that every connection needs.
pub(super) struct Acceptor {
    router: TowerToHyperService<Router>,
    http: http1::Builder,
    caps: Caps,
    tracker: Arc<Tracker>,
    /// Permits to send a response to a refused client.
    refusals: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(router: Router, http: http1::Builder, caps: Caps, tracker: Arc<Tracker>) -> Self {
        let refusals = Arc::new(Semaphore::new(REFUSALS_AT_A_TIME));
        Self { router: TowerToHyperService::new(router), http, caps, tracker, refusals }
    }

    /// Accepts connections, one after the other, and never ends.
    pub(super) async fn accept_all<L>(self: &Arc<Self>, listener: &mut L) -> Infallible
    where
        L: Listener<Addr: Clone + Sync + 'static>,
    {
        loop {
            // The listener itself waits before a retry when the process has no free descriptor.
            let (io, address) = listener.accept().await;
            if let Some(stream) = (&io as &dyn Any).downcast_ref::<TcpStream>() {
                // Fails if the client has disconnected, which its connection notices.
                let _ = stream.set_nodelay(true);
            }
            let ip = (&address as &dyn Any).downcast_ref::<SocketAddr>().map(SocketAddr::ip);
            match self.tracker.admit(ip, self.caps) {
                Ok(permit) => {
                    observe::accepted();
                    drop(tokio::spawn(Arc::clone(self).converse(io, address, permit)));
                }
                Err(full) => {
                    observe::refused(full.label());
                    self.refuse(io, full);
                }
            }
        }
    }

    /// Speaks HTTP with a client until the connection is over, or an [`Upgrade`](super::Upgrade) has taken it.
    async fn converse<I, A>(self: Arc<Self>, io: I, address: A, permit: Arc<ConnectionPermit>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Clone + Send + Sync + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address.clone()));
            request.extensions_mut().insert(PermitHandle::of(&permit));
            self.router.call(request)
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(io), service).with_upgrades());
        // An error of a connection concerns only its client.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.tracker.reached(ServerPhase::Draining) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = self.tracker.reached(ServerPhase::Over) => {}
        }
    }

    /// Refuses a client, with a response that says why where that is cheap.
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
