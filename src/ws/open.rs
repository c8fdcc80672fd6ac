//! [`Opening`]: a connection between the answer to its handshake and the first turn of its handler.
//!
//! hyper hands over the socket when the response is written. Then this unwraps the socket, and builds a channel and a
//! decoder on it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connection::Connection;
use super::handler::run;
use super::proto::decoder::{Decoder, Limits};
use super::serve::ConnectionPermit;
use super::times::Pace;
use super::transport::Socket;
use crate::channel::{Channel, ChannelOptions, Link, OutboxLimits, Refresh, Terms, UserId};
use crate::clock::Moment;
use crate::dispatch::Dispatcher;
use crate::observe::connections as observe;
use crate::sync::Arc;

/// A connection whose handshake is answered.
pub(super) struct Opening {
    pub(super) on_upgrade: OnUpgrade,
    pub(super) peer_addr: Option<SocketAddr>,
    pub(super) deflate: Deflate,
    /// Boxed: stored inline, they would enlarge each connection's future for its whole life.
    pub(super) options: Box<Options>,
    pub(super) events: Option<Dispatcher>,
    pub(super) permit: Option<Arc<ConnectionPermit>>,
}

impl Opening {
    /// Spawns a task that waits for the socket, then runs `handler` beside the connection until both are done.
    pub(super) fn spawn<F, Fut>(self, request: observe::Request, handler: F)
    where
        F: FnOnce(Channel) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), crate::Error>> + Send + 'static,
    {
        // A block instead of an async function, whose future would hold its arguments twice for the connection's
        // whole life. The task ends with its connection.
        tokio::spawn(async move {
            let opened = self.on_upgrade.await.map_err(io::Error::other);
            let opened = opened.and_then(|io| open(io, self.peer_addr, self.deflate, self.options));
            // Otherwise the client disconnected before our answer: there is nothing to do.
            if let Ok(connection) = opened {
                let _listed = self.permit.map(|permit| permit.enlist(connection.link()));
                let span = observe::Connection::new(&request, connection.link().id(), connection.link().peer_addr());
                run(connection, handler, self.events, &span).await;
            }
        });
    }
}

/// The settings of a connection.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) channel: ChannelOptions,
    /// Kept apart from `channel`, which it overrules, so that the order of the calls does not matter.
    pub(super) outbox: Option<OutboxLimits>,
    /// Kept apart as well.
    pub(super) user: Option<UserId>,
    /// The moment of the request: the user was not known before it.
    asked: Moment,
    /// The token's user and expiry. It overrides a user set otherwise.
    pub(super) signed: Option<Signed>,
    pub(super) send_buffer_size: usize,
    pub(super) pace: Pace,
}

/// What a token determines about a connection.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) user: UserId,
    /// The moment when the token was checked.
    pub(super) checked: Moment,
    /// `None` if the expiry is beyond the clock's range.
    pub(super) until: Option<Instant>,
    pub(super) refresh: Arc<dyn Refresh>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            channel: ChannelOptions::default(),
            outbox: None,
            user: None,
            asked: Moment::now(),
            signed: None,
            send_buffer_size: 64 << 10,
            pace: Pace {
                heartbeat: Some(Duration::from_secs(30)),
                heartbeat_timeout: Some(Duration::from_secs(20)),
                idle_timeout: None,
                rate_limit: None,
            },
        }
    }
}

impl Options {
    /// Merges the separate settings into `channel`; returns until when the client is signed in.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        let channel = &mut self.channel;
        channel.identified = Some(self.asked);
        if let Some(limits) = self.outbox.take() {
            channel.outbox = limits;
        }
        if let Some(user) = self.user.take() {
            channel.user = Some(user);
        }
        let signed = self.signed.take()?;
        channel.user = Some(signed.user);
        channel.identified = Some(self.asked.min(signed.checked));
        channel.refresh = Some(signed.refresh);
        signed.until
    }
}

/// The agreed use of permessage-deflate.
#[derive(Clone, Copy)]
pub(super) struct Deflate {
    pub(super) reads: bool,
    pub(super) writes: bool,
}

/// Builds a connection on the upgraded io.
fn open(
    upgraded: Upgraded,
    peer_addr: Option<SocketAddr>,
    deflate: Deflate,
    mut options: Box<Options>,
) -> io::Result<Connection> {
    let (socket, socket_addr, input) = socket(upgraded, options.send_buffer_size)?;
    let signed_until = options.settle();
    let terms = Terms {
        peer_addr: socket_addr.or(peer_addr),
        options: options.channel,
        deflates: deflate.writes,
        runtime: Some(Handle::current()),
    };
    let link = Link::new(terms, socket.transport());
    if signed_until.is_some() {
        link.change_life(|life| life.sign_until(signed_until));
    }
    Ok(Connection::new(socket, &input, decoder(options.limits, deflate.reads), options.pace, link))
}

fn decoder(limits: Limits, deflates: bool) -> Decoder {
    #[cfg(feature = "deflate")]
    if deflates {
        return Decoder::with_deflate(limits);
    }
    #[cfg(not(feature = "deflate"))]
    let _ = deflates;
    Decoder::new(limits)
}

/// Unwraps the raw TCP socket, if there is one, and returns it with any bytes read beyond the request.
fn socket(upgraded: Upgraded, send_buffer_size: usize) -> io::Result<(Socket, Option<SocketAddr>, Bytes)> {
    match into_tcp(upgraded) {
        Ok((stream, input)) => {
            // Neither is needed for a connection to work; some systems refuse large buffers.
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(&stream).set_send_buffer_size(send_buffer_size);
            let peer_addr = stream.peer_addr().ok();
            Ok((Socket::tcp(stream), peer_addr, input))
        }
        Err(upgraded) => Ok((Socket::io(TokioIo::new(upgraded)), None, Bytes::new())),
    }
}

/// Returns the socket and the bytes that were read from it already, if it is plain TCP; the two servers wrap it
/// differently.
fn into_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    // `axum::serve`.
    let upgraded = match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => upgraded,
    };
    // Ours.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    Ok((parts.io.into_inner(), parts.read_buf))
}
