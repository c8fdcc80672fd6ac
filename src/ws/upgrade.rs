//! [`Upgrade`]: the axum extractor.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::Response;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderValue, StatusCode, request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::connection::{Connection, finish};
use super::decoder::Limits;
use super::handshake::{HandshakeError, check_origin, check_upgrade};
use super::transport::{Queued, Source, Tcp};
use crate::channel::{Channel, ChannelId, NORMAL, Out, OutboxLimits};
use crate::sync::{Arc, guard};

/// A handler failed: the close code of RFC 6455, section 7.4.1.
const INTERNAL_ERROR: u16 = 1011;

/// Turns a request into a WebSocket: an axum extractor.
///
/// The handshake is checked when it is extracted; a request that is none, or a page of another site
/// (its `Origin` does not match `Host`), gets an error response that says so.
///
/// ```
/// use axum::{Router, response::Response, routing::get};
/// use fanfare::ws::Upgrade;
///
/// async fn echo(upgrade: Upgrade) -> Response {
///     upgrade.run(async move |mut channel| {
///         while let Some(value) = channel.recv::<serde_json::Value>().await {
///             channel.send(&value?)?;
///         }
///         Ok(())
///     })
/// }
///
/// let app: Router = Router::new().route("/echo", get(echo));
/// ```
///
/// Under plain `axum::serve` there is no deadline for a request's head: put a proxy in front, or
/// bound it by other means, when the port is public.
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    max_message_size: usize,
    outbox: OutboxLimits,
    send_buffer: usize,
}

impl Upgrade {
    /// Sets the size of the largest message taken from the client, all fragments together; 1 MiB by default.
    ///
    /// A larger one closes the connection with code 1009.
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Sets how much may wait for the client; past it the connection is closed with code 1013.
    #[must_use]
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.outbox = limits;
        self
    }

    /// Sets the kernel's send buffer, in bytes; 64 KiB by default. It belongs to what may wait for a client.
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// Answers the handshake and runs `handler` with the channel, in a task of its own.
    ///
    /// When the handler returns `Ok` the connection is closed with code 1000, unless it is closed
    /// already; on `Err`, or a panic, with 1011, and one line goes to stderr. Nothing of that touches
    /// another connection.
    pub fn run<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(Channel) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), crate::Error>> + Send + 'static,
    {
        let Self { on_upgrade, accept, max_message_size, outbox, send_buffer } = self;
        let limits = Limits { max_frame_size: max_message_size, max_message_size };
        // Ends with its connection.
        tokio::spawn(async move {
            let opened =
                on_upgrade.await.map_err(io::Error::other).and_then(|io| open(io, limits, outbox, send_buffer));
            // Otherwise the client went away between its request and our answer: there is nobody to tell.
            if let Ok((out, connection)) = opened {
                serve(out, connection, handler).await;
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = HandshakeError;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, HandshakeError> {
        let accept = check_upgrade(parts)?;
        check_origin(&parts.headers)?;
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(HandshakeError::NotHttp11)?;
        let outbox = OutboxLimits::default();
        Ok(Self { on_upgrade, accept, max_message_size: 1 << 20, outbox, send_buffer: 64 << 10 })
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("max_message_size", &self.max_message_size)
            .field("outbox", &self.outbox)
            .field("send_buffer", &self.send_buffer)
            .finish_non_exhaustive()
    }
}

/// Gets at the socket itself where that is plain TCP, and puts a channel on top.
fn open(
    upgraded: Upgraded,
    limits: Limits,
    outbox: OutboxLimits,
    send_buffer: usize,
) -> io::Result<(Arc<Out>, Connection)> {
    let id = ChannelId::next();
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            let stream = parts.io.into_inner();
            stream.set_nodelay(true)?;
            socket2::SockRef::from(&stream).set_send_buffer_size(send_buffer)?;
            let peer_addr = stream.peer_addr().ok();
            let stream = Arc::new(stream);
            let out = Out::new(id, peer_addr, outbox, Box::new(Tcp::new(Arc::clone(&stream))));
            let connection = Connection::new(Source::Tcp(stream), &parts.read_buf, limits, Arc::clone(&out));
            Ok((out, connection))
        }
        Err(upgraded) => {
            let (transport, source, start) = Queued::new(Box::new(TokioIo::new(upgraded)));
            let out = Out::new(id, None, outbox, Box::new(transport));
            start(Arc::downgrade(&out));
            let connection = Connection::new(source, &[], limits, Arc::clone(&out));
            Ok((out, connection))
        }
    }
}

/// Runs the handler, then closes the connection as the handler's end asks for.
async fn serve<F, Fut>(out: Arc<Out>, connection: Connection, handler: F)
where
    F: FnOnce(Channel) -> Fut + Send,
    Fut: Future<Output = Result<(), crate::Error>> + Send,
{
    let (keeper, kept) = oneshot::channel();
    let channel = Channel::new(Arc::clone(&out), Box::new(connection), Some(keeper));
    let ended = match guard(|| handler(channel)) {
        Ok(running) => {
            let mut running = pin!(running);
            poll_fn(|cx| match guard(|| running.as_mut().poll(cx)) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(result.map_err(|error| format!("failed: {error}"))),
                Err(panic) => Poll::Ready(Err(format!("panicked: {panic}"))),
            })
            .await
        }
        Err(panic) => Err(format!("panicked: {panic}")),
    };
    match ended {
        Ok(()) => out.close(NORMAL, ""),
        Err(why) => {
            let line = format!("fanfare: the handler of channel {} {why}\n", out.id());
            // A closed stderr is no reason to panic.
            let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
            out.close(INTERNAL_ERROR, "internal error")
        }
    };
    // A handler may have handed its channel to another task: it comes back when that drops it.
    if let Ok(inbox) = kept.await {
        finish(&out, inbox).await;
    }
}
