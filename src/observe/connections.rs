//! What is seen of connections and their server.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "what a feature that is off would say")
)]

use std::fmt::Display;
use std::net::SocketAddr;

use super::{count, event, gauge};

/// Where a connection comes from: the span of its request, which ends with the answer to the handshake.
#[derive(Debug)]
pub(crate) struct Request {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Request {
    #[inline]
    pub(crate) fn current() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            span: tracing::Span::current(),
        }
    }
}

/// The span of a connection: entered whenever its task does something.
#[derive(Debug)]
pub(crate) struct Connection {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

impl Connection {
    #[inline]
    pub(crate) fn new(request: &Request, channel: impl Display, peer: Option<SocketAddr>) -> Self {
        #[cfg(feature = "tracing")]
        let span = {
            let peer = peer.map(tracing::field::display);
            let user = tracing::field::Empty;
            // A root, in a task of its own: as its parent the request's would last as long as the connection.
            let span = tracing::info_span!(target: "fanfare::ws", "ws.connection", %channel, peer, user);
            span.follows_from(&request.span);
            span
        };
        Self {
            #[cfg(feature = "tracing")]
            span,
        }
    }

    #[inline]
    pub(crate) fn within<R>(&self, act: impl FnOnce() -> R) -> R {
        #[cfg(feature = "tracing")]
        let _entered = self.span.enter();
        act()
    }
}

/// A handler failed: an error or a panic of its own, or one that says something about its client. False when nobody
/// takes the `text`, and it is for stderr; of a client nothing is said but the reason of its close.
#[inline]
pub(crate) fn handler_failed(
    channel: impl Display,
    cause: &'static str,
    reason: &'static str,
    text: impl FnOnce() -> String,
) -> bool {
    count!("fanfare_handler_failures_total", 1, "cause" => cause);
    #[cfg(feature = "tracing")]
    {
        if cause == "client" {
            event!(DEBUG, "ws", "handler ended for its client", %channel, reason);
        } else if tracing::event_enabled!(target: "fanfare::ws", tracing::Level::WARN) {
            event!(WARN, "ws", "handler failed", %channel, cause, error = text());
            return true;
        }
    }
    false
}

/// A request to open a WebSocket was refused.
#[inline]
pub(crate) fn handshake_refused(reason: &'static str) {
    count!("fanfare_handshakes_refused_total", 1, "reason" => reason);
    event!(DEBUG, "ws", "handshake refused", reason);
}

/// A server took a connection in.
#[inline]
pub(crate) fn accepted() {
    gauge!("fanfare_connections_open", 1.0);
    count!("fanfare_connections_total", 1);
}

/// A server's connection is over.
#[inline]
pub(crate) fn ended() {
    gauge!("fanfare_connections_open", -1.0);
}

/// A server turned a connection away.
#[inline]
pub(crate) fn refused(reason: &'static str) {
    count!("fanfare_connections_refused_total", 1, "reason" => reason);
    event!(DEBUG, "ws", "connection refused", reason);
}

/// A server begins to end.
#[inline]
pub(crate) fn draining(open: usize) {
    event!(INFO, "ws", "server is going away", open);
}

/// A server has ended.
#[inline]
pub(crate) fn drained(ended: usize, cut: usize) {
    count!("fanfare_connections_drained_total", ended as u64, "outcome" => "ended");
    count!("fanfare_connections_drained_total", cut as u64, "outcome" => "cut");
    event!(INFO, "ws", "server has ended", ended, cut);
}
