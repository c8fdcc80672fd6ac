//! Runs a handler beside its connection, in one task: its errors and panics end only that connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::connection::Connection;
use crate::channel::{Channel, ChannelId, CloseCode, RecvError, SendError};
use crate::dispatch::Dispatcher;
use crate::group::offline::AttachError;
use crate::group::{JoinError, JoinErrorReason, PresenceError};
use crate::name::Key;
use crate::observe::connections as observe;
use crate::observe::stderr::write_line;
use crate::sync::{Arc, guard};

/// The event of a handler that returned an error, or panicked: see [`Upgrade::events`](super::Upgrade::events).
///
/// ```
/// use fanfare::Dispatcher;
/// use fanfare::ws::{HANDLER_FAILED, Upgrade};
///
/// let events = Dispatcher::new();
/// events.on(HANDLER_FAILED, |failed| eprintln!("{failed}"))?; // with the channel's id and the cause
///
/// let route = async move |upgrade: Upgrade| upgrade.events(&events).run(async |_channel| Err("on purpose".into()));
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(route));
/// # Ok::<(), fanfare::EventError>(())
/// ```
pub const HANDLER_FAILED: Key<HandlerFailed> = Key::new("ws.handler_failed");

/// A connection's handler returned an error, or panicked.
///
/// # Close codes
///
/// The connection is closed then, unless a close has begun before. The code depends on what the handler returned:
///
/// | the handler | code |
/// |---|---|
/// | returned [`RecvError::Json`] | 1007 |
/// | returned [`RecvError::Binary`] or [`RecvError::Text`] | 1003 |
/// | returned [`RecvError::Protocol`] | none: the engine has closed with the code in the error |
/// | returned [`RecvError::Lost`] | none: the connection is gone |
/// | returned another error that is the [client's fault](Self::is_clients_fault) | 1008 |
/// | returned any other error, or panicked | 1011 |
#[derive(Clone, Debug)]
pub struct HandlerFailed {
    channel: ChannelId,
    peer_addr: Option<SocketAddr>,
    cause: Cause,
}

#[derive(Clone, Debug)]
enum Cause {
    Error(Arc<dyn std::error::Error + Send + Sync>),
    Panic(String),
}

impl HandlerFailed {
    /// Returns the id of the channel that the handler had.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns the client's address, if it has one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }

    /// Returns whether the error is the client's fault and not the handler's: any error of `recv` (the client is gone,
    /// broke the protocol, or sent another type), any of `send` except a payload that cannot be serialised, any of
    /// `join` except being a member already; and those of `enter` and `attach` which say that the channel is gone or
    /// not allowed.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        let Cause::Error(error) = &self.cause else { return false };
        let by_join = |error: &JoinError| error.reason() != JoinErrorReason::AlreadyMember;
        let by_enter = |error: &_| matches!(error, PresenceError::NotHere | PresenceError::ReservedUser);
        let by_attach =
            |error: &_| matches!(error, AttachError::Closed | AttachError::Denied | AttachError::TooManyGroups);
        error.is::<RecvError>()
            || error.downcast_ref::<SendError>().is_some_and(|error| !matches!(error, SendError::Encode(_)))
            || error.downcast_ref::<JoinError>().is_some_and(by_join)
            || error.downcast_ref::<PresenceError>().is_some_and(by_enter)
            || error.downcast_ref::<AttachError>().is_some_and(by_attach)
    }

    /// Returns the code and the reason to close with.
    fn close(&self) -> (CloseCode, &'static str) {
        let received = match &self.cause {
            Cause::Error(error) => error.downcast_ref::<RecvError>(),
            Cause::Panic(_) => None,
        };
        match received {
            Some(error) => error.close(),
            None if self.is_clients_fault() => (CloseCode::POLICY, "not allowed"),
            None => (CloseCode::INTERNAL_ERROR, "internal error"),
        }
    }

    /// Returns its name in a metric's label.
    fn label(&self) -> &'static str {
        match &self.cause {
            _ if self.is_clients_fault() => "client",
            Cause::Error(_) => "error",
            Cause::Panic(_) => "panic",
        }
    }

    /// Returns the handler's error as text. An error of serde_json quotes the client's data, so only its kind and
    /// position are shown.
    fn words(&self) -> String {
        match &self.cause {
            Cause::Panic(panic) => panic.clone(),
            Cause::Error(error) => match error.downcast_ref::<serde_json::Error>() {
                Some(json) => format!("json: {:?} at line {} column {}", json.classify(), json.line(), json.column()),
                None => error.to_string(),
            },
        }
    }

    /// Returns whether the handler panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic(_))
    }
}

impl fmt::Display for HandlerFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Error(error) => write!(f, "the handler of channel {} failed: {error}", self.channel),
            Cause::Panic(panic) => write!(f, "the handler of channel {} panicked: {panic}", self.channel),
        }
    }
}

impl std::error::Error for HandlerFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Error(error) => error.source(),
            Cause::Panic(_) => None,
        }
    }
}

/// Runs `handler` and drives the connection until both are done.
pub(super) async fn run<F, Fut>(
    mut connection: Connection,
    handler: F,
    events: Option<Dispatcher>,
    span: &observe::Connection,
) where
    F: FnOnce(Channel) -> Fut + Send,
    Fut: Future<Output = Result<(), crate::Error>> + Send,
{
    let channel = connection.channel();
    let running = match guard(|| span.within(|| handler(channel))) {
        Ok(running) => Some(running),
        Err(panic) => {
            failed(&connection, Cause::Panic(panic), events.as_ref());
            None
        }
    };
    let mut running = pin!(running);
    let mut turn = |cx: &mut Context<'_>| {
        connection.begin_turn();
        loop {
            let over = connection.poll(cx).is_ready();
            if let Some(result) = poll_handler(running.as_mut(), cx) {
                if let Err(cause) = result {
                    failed(&connection, cause, events.as_ref());
                }
                continue;
            }
            // Not before the handler's result is known: that may have dropped the channel, and says with which code.
            if !over && connection.poll_more(cx) {
                continue;
            }
            return if running.is_none() && over { Poll::Ready(()) } else { Poll::Pending };
        }
    };
    poll_fn(|cx| span.within(|| turn(cx))).await;
}

/// Polls the handler, if it runs; its result, once.
fn poll_handler<Fut>(mut running: Pin<&mut Option<Fut>>, cx: &mut Context<'_>) -> Option<Result<(), Cause>>
where
    Fut: Future<Output = Result<(), crate::Error>>,
{
    let handler = running.as_mut().as_pin_mut()?;
    let result = match guard(|| handler.poll(cx)) {
        Ok(Poll::Pending) => return None,
        Ok(Poll::Ready(result)) => result.map_err(|error| Cause::Error(error.into())),
        Err(panic) => Err(Cause::Panic(panic)),
    };
    // Dropping the handler's values may panic, too.
    let dropped = guard(|| running.set(None)).map_err(Cause::Panic);
    Some(result.and(dropped))
}

/// Closes the connection, emits [`HANDLER_FAILED`] and logs the failure. Without a listener and a subscriber it writes
/// one line to stderr, unless the failure is the client's fault: clients do not fill the log.
fn failed(connection: &Connection, cause: Cause, events: Option<&Dispatcher>) {
    let link = connection.link();
    let failed = HandlerFailed { channel: link.id(), peer_addr: link.peer_addr(), cause };
    let (code, reason) = failed.close();
    connection.close(code, reason);
    let heard =
        events.and_then(|events| events.emit(HANDLER_FAILED, &failed).ok()).is_some_and(|report| report.ran() > 0);
    let logged = observe::handler_failed(link.id(), failed.label(), reason, || failed.words());
    if !heard && !logged && !failed.is_clients_fault() {
        write_line(&failed.to_string());
    }
}
