//! Metrics and log events of connections and their server.

#![cfg_attr(
    not(all(feature = "metrics", feature = "tracing")),
    allow(unused_variables, reason = "a feature that is off reports nothing")
)]

use std::fmt::Display;
use std::net::SocketAddr;

use super::{count, event, gauge};

/// The span of the request that opened a connection; it ends with the answer to the handshake.
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

/// The span of a connection: entered whenever its task runs.
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
            // A root: the request's span, as its parent, would last as long as the connection.
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

/// Records that a handler failed by its own error or panic, or ended because of its client.
///
/// Returns false when no subscriber took the `text`, so that the caller writes it to stderr. For a client, only the
/// reason of the close is logged.
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

/// Records a refused request for a WebSocket.
#[inline]
pub(crate) fn handshake_refused(reason: &'static str) {
    count!("fanfare_handshakes_refused_total", 1, "reason" => reason);
    event!(DEBUG, "ws", "handshake refused", reason);
}

/// Records that a server accepted a connection.
#[inline]
pub(crate) fn accepted() {
    gauge!("fanfare_connections_open", 1.0);
    count!("fanfare_connections_total", 1);
}

/// Records that a server's connection has ended.
#[inline]
pub(crate) fn ended() {
    gauge!("fanfare_connections_open", -1.0);
}

/// Records that a server refused a connection.
#[inline]
pub(crate) fn refused(reason: &'static str) {
    count!("fanfare_connections_refused_total", 1, "reason" => reason);
    event!(DEBUG, "ws", "connection refused", reason);
}

/// Records that a server has begun to shut down.
#[inline]
pub(crate) fn draining(open: usize) {
    event!(INFO, "ws", "server is going away", open);
}

/// Records that a server has shut down.
#[inline]
pub(crate) fn drained(ended: usize, cut: usize) {
    count!("fanfare_connections_drained_total", ended as u64, "outcome" => "ended");
    count!("fanfare_connections_drained_total", cut as u64, "outcome" => "cut");
    event!(INFO, "ws", "server has ended", ended, cut);
}
