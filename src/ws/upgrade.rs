//! [`Upgrade`]: the axum extractor.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode, request};
use hyper::upgrade::OnUpgrade;

use super::open::{Deflate, Opening, Options};
use super::proto::handshake::{BEARER, check_upgrade, choose_protocol};
use super::proto::origins::{Origins, check_origin};
use super::proto::refusal::HandshakeError;
use super::rate::RateLimit;
use super::serve::{ConnectionPermit, take_permit};
use crate::channel::{Channel, ChannelOptions, OutboxLimits, UserId};
use crate::dispatch::Dispatcher;
use crate::observe::connections as observe;
use crate::sync::Arc;

/// The shortest time of a heartbeat, and of its timeout.
const LEAST_HEARTBEAT: Duration = Duration::from_millis(1);

/// Turns a request into a WebSocket: an axum extractor.
///
/// The handshake is checked when it is extracted. A request that does not ask for a WebSocket, or comes from a page of
/// another site (its `Origin` does not match `Host`), gets an error response that says so.
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
/// Other rules for the origin are set by a layer: [`Origins`] as an [`Extension`](axum::Extension).
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use fanfare::ws::{Origins, Upgrade};
///
/// let origins = Origins::listed(["https://app.example.com"])?;
/// let route = get(async |upgrade: Upgrade| upgrade.run(async |mut channel| Ok(channel.discard().await)));
/// let app: Router = Router::new().route("/feed", route).layer(Extension(origins));
/// # Ok::<(), fanfare::ws::handshake::NotAnOrigin>(())
/// ```
///
/// Run the router with [`fanfare::ws::serve`](super::serve()). Plain `axum::serve` works too, but has no deadline
/// for a request's head and no cap on connections, and its shutdown neither closes channels nor waits for them.
#[must_use = "the request is refused unless `run` or `consume` answers it"]
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    accept: HeaderValue,
    peer_addr: Option<SocketAddr>,
    /// The headers of the client's offers: subprotocols and extensions.
    offers: HeaderMap,
    /// The subprotocol that was chosen, for the answer.
    protocol: Option<HeaderValue>,
    /// Whether its token came after the subprotocol `bearer`, which is the answer if no other is chosen.
    bearer: bool,
    extensions: Option<HeaderValue>,
    /// The client takes compressed frames.
    compresses: bool,
    /// Boxed: stored inline, they would enlarge each connection's future for its whole life.
    options: Box<Options>,
    events: Option<Dispatcher>,
    /// The connection's permit from its server, where that is [`serve`](super::serve()).
    permit: Option<Arc<ConnectionPermit>>,
}

impl Upgrade {
    /// Sets the size of the largest message taken from the client, all fragments together and inflated; 1 MiB
    /// by default.
    ///
    /// A larger one closes the connection with code 1009.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.options.limits.max_message_size = bytes;
        self
    }

    /// Sets the size of the largest frame taken from the client, as on the wire, if that is to be less than
    /// the [largest message](Self::max_message_size).
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.options.limits.max_frame_size = bytes;
        self
    }

    /// Sets how much may wait for the client, and what happens past it: 1024 messages and 1 MiB by default,
    /// then the channel is closed with code 1013.
    ///
    /// ```
    /// use axum::response::Response;
    /// use fanfare::channel::{OutboxLimits, Overflow};
    /// use fanfare::ws::Upgrade;
    ///
    /// async fn prices(upgrade: Upgrade) -> Response {
    ///     let limits = OutboxLimits::default().max_messages(64).overflow(Overflow::DropOldest);
    ///     upgrade.outbox(limits).run(async |mut channel| Ok(channel.discard().await))
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(prices));
    /// ```
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.options.outbox = Some(limits);
        self
    }

    /// Sets the user of the connection, which [`Channel::user`] returns, and by which
    /// [`User::channels`](crate::group::offline::User::channels) finds its channels.
    pub fn user(mut self, user: UserId) -> Self {
        self.options.user = Some(user);
        self
    }

    /// Sets the user and the end of the connection from its token: when the token expires, it closes with code
    /// [4401](crate::channel::CloseCode::UNAUTHORIZED), unless a [refresh](super::JwtVerifier::refresh) extends it.
    ///
    /// This overrides [`user`](Self::user) and [`channel`](Self::channel), called before or after it. A browser that
    /// offers its token as a subprotocol is answered `bearer`, unless [`protocols`](Self::protocols) choose another one
    /// that it offers.
    ///
    /// With the feature `jwt`.
    ///
    /// ```
    /// use axum::response::Response;
    /// use fanfare::ws::{Jwt, Upgrade};
    ///
    /// async fn chat(token: Jwt, upgrade: Upgrade) -> Response {
    ///     upgrade.signed_in(&token).run(async |mut channel| {
    ///         channel.send(&format!("welcome, {}", channel.user().expect("it is signed in")))?;
    ///         Ok(channel.discard().await)
    ///     })
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(chat));
    /// ```
    #[cfg(feature = "jwt")]
    pub fn signed_in<C>(mut self, token: &super::jwt::Jwt<C>) -> Self {
        self.options.signed = Some(super::open::Signed {
            user: token.user().clone(),
            checked: token.checked(),
            until: token.expires_at(),
            refresh: Arc::new(token.verifier().clone()),
        });
        self.bearer = token.is_from_subprotocol();
        self
    }

    /// Sets the options of the channel. Of two calls, the last one replaces all options.
    ///
    /// What [`outbox`](Self::outbox), [`user`](Self::user) and `signed_in` set overrides these options,
    /// in either order of the calls.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::response::Response;
    /// use fanfare::channel::{ChannelOptions, PayloadType};
    /// use fanfare::ws::Upgrade;
    ///
    /// async fn feed(upgrade: Upgrade) -> Response {
    ///     let options = ChannelOptions::default().payload_type(PayloadType::Json).idle_timeout(Duration::from_secs(600));
    ///     upgrade.channel(options).run(async |mut channel| Ok(channel.discard().await))
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(feed));
    /// ```
    pub fn channel(mut self, options: ChannelOptions) -> Self {
        self.options.channel = options;
        self
    }

    /// Sets the size of the kernel's send buffer, in bytes; 64 KiB by default.
    ///
    /// It adds to the outbox's limits: by itself, the kernel of Linux buffers up to 4 MiB for a client that does
    /// not read. It is set for plain TCP only; for a socket behind TLS, the program sets it where it listens.
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.options.send_buffer_size = bytes;
        self
    }

    /// Sets the silence after which the client is pinged; 30 s by default. `None` sends no pings: then a client that
    /// is gone without a close is noticed only when something is sent to it.
    ///
    /// Any data from the client ends a silence. A ping counts as answered when the client has sent anything
    /// after it, or has continued to read while many messages wait for it.
    ///
    /// A client that does not answer in [time](Self::heartbeat_timeout) is lost: `recv` returns an error, and the
    /// channel leaves its groups. A client that is gone without a close is thus noticed within twice this time and the
    /// timeout. While a message waits to be received, the client is not read and not judged.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::response::Response;
    /// use fanfare::ws::Upgrade;
    ///
    /// async fn game(upgrade: Upgrade) -> Response {
    ///     let upgrade = upgrade.heartbeat(Duration::from_secs(5)).heartbeat_timeout(Duration::from_secs(2));
    ///     upgrade.run(async |mut channel| Ok(channel.discard().await))
    /// }
    ///
    /// async fn feed(upgrade: Upgrade) -> Response {
    ///     upgrade.heartbeat(None).run(async |mut channel| Ok(channel.discard().await))
    /// }
    /// # let _ = axum::Router::<()>::new()
    /// #     .route("/game", axum::routing::get(game)).route("/feed", axum::routing::get(feed));
    /// ```
    pub fn heartbeat(mut self, silence: impl Into<Option<Duration>>) -> Self {
        // Without a minimum, pings would follow each other without pause.
        self.options.pace.heartbeat = silence.into().map(|silence| silence.max(LEAST_HEARTBEAT));
        self
    }

    /// Sets how long the client may take to answer a ping; 20 s by default. With `None` a client is pinged again after
    /// the next silence, and never lost for not answering.
    pub fn heartbeat_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.pace.heartbeat_timeout = timeout.into().map(|timeout| timeout.max(LEAST_HEARTBEAT));
        self
    }

    /// Closes the connection with code 1001 when the client sends no message for this long; pongs are not messages.
    /// `None`, the default, never does. The time counts also while the handler is busy with a message.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.pace.idle_timeout = timeout.into();
        self
    }

    /// Limits how much the client may send over time. `None`, the default, does not.
    pub fn rate_limit(mut self, limit: impl Into<Option<RateLimit>>) -> Self {
        self.options.pace.rate_limit = limit.into();
        self
    }

    /// Speaks the first of these subprotocols that the client offers; none when it offers none of them,
    /// see [`protocol`](Self::protocol). The offer right after `bearer` is a token, and never chosen.
    ///
    /// ```
    /// use axum::{http::StatusCode, response::{IntoResponse, Response}};
    /// use fanfare::ws::Upgrade;
    ///
    /// async fn route(upgrade: Upgrade) -> Response {
    ///     let upgrade = upgrade.protocols(&["chat.v2", "chat.v1"]);
    ///     match upgrade.protocol() {
    ///         Some("chat.v2") => upgrade.run(async |mut channel| Ok(channel.discard().await)),
    ///         Some(_) => upgrade.run(async |channel| Ok(channel.send("an older chat")?)),
    ///         None => (StatusCode::BAD_REQUEST, "offer a subprotocol: chat.v1 or chat.v2\n").into_response(),
    ///     }
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(route));
    /// ```
    pub fn protocols(mut self, supported: &[&str]) -> Self {
        let chosen = choose_protocol(&self.offers, supported);
        self.protocol = chosen.and_then(|protocol| HeaderValue::from_str(protocol).ok());
        self
    }

    /// Returns the subprotocol that was chosen.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().and_then(|protocol| protocol.to_str().ok())
    }

    /// Compresses messages of 256 bytes and more for a client that offers permessage-deflate (RFC 7692),
    /// and accepts compressed ones from it. Off by default.
    ///
    /// A message is compressed once, for all members of a group, at the price of smaller savings than a
    /// window per connection would bring, which takes 300 KB for each. If one message has a secret and text
    /// that an attacker chooses, its compressed length reveals the secret (CRIME, BREACH).
    ///
    /// With the feature `deflate`.
    #[cfg(feature = "deflate")]
    pub fn deflate(mut self) -> Self {
        let agreed = super::proto::deflate::negotiate(&self.offers);
        self.extensions = agreed.map(|agreed| agreed.answer());
        self.compresses = agreed.is_some_and(|agreed| agreed.compresses());
        self
    }

    /// Emits [`HANDLER_FAILED`](super::HANDLER_FAILED) here when the handler returns an error or panics.
    ///
    /// Without a listener for that event, one line goes to stderr, unless the error is only that the client
    /// [is gone or broke the protocol](super::HandlerFailed::is_clients_fault), or a subscriber of the crate `tracing`
    /// takes it, with the feature of that name.
    pub fn events(mut self, events: &Dispatcher) -> Self {
        self.events = Some(events.clone());
        self
    }

    /// Answers the handshake and runs `handler` with the channel, in a task of its own.
    ///
    /// When the handler returns `Ok`, the connection is closed with code 1000, unless it is closed already; a channel
    /// that the handler has handed to another task is closed when that task drops it. When the handler returns an error
    /// or panics, the connection is closed with the [code of that error](super::HandlerFailed#close-codes), 1011 for
    /// most, and [`events`](Self::events) get [`HANDLER_FAILED`](super::HANDLER_FAILED). Other connections go on.
    ///
    /// The handler runs in the task that also reads, writes what waits and answers pings: one that
    /// blocks its thread stops these for its own client. It is not cancelled when the connection ends, but
    /// learns of that from the call that it awaits: `recv`, [`discard`](Channel::discard) or
    /// [`closed`](crate::channel::Sender::closed).
    pub fn run<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(Channel) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), crate::Error>> + Send + 'static,
    {
        let protocol = self.answer();
        let Self { on_upgrade, accept, peer_addr, extensions, compresses, options, events, permit, .. } = self;
        let deflate = Deflate { reads: extensions.is_some(), writes: compresses };
        Opening { on_upgrade, peer_addr, deflate, options, events, permit }.spawn(observe::Request::current(), handler);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        headers.extend(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol)));
        headers.extend(extensions.map(|extensions| (SEC_WEBSOCKET_EXTENSIONS, extensions)));
        response
    }

    /// Returns the subprotocol to answer with: the one that was chosen, or `bearer` for a token.
    fn answer(&self) -> Option<HeaderValue> {
        let bearer = self.bearer.then(|| HeaderValue::from_static(BEARER));
        self.protocol.clone().or(bearer)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = HandshakeError;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, HandshakeError> {
        let checked = check(parts).inspect_err(|error| observe::handshake_refused(error.label()));
        let (accept, on_upgrade) = checked?;
        let peer_addr = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(addr)| *addr);
        let offers = [SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS];
        Ok(Self {
            on_upgrade,
            accept,
            peer_addr,
            offers: offers.iter().flat_map(|name| offered(&parts.headers, name)).collect(),
            protocol: None,
            bearer: false,
            extensions: None,
            compresses: false,
            options: Box::default(),
            events: None,
            permit: take_permit(&mut parts.extensions),
        })
    }
}

/// Checks a request; returns the answer to its key, and the future of its connection.
fn check(parts: &mut request::Parts) -> Result<(HeaderValue, OnUpgrade), HandshakeError> {
    let accept = check_upgrade(parts)?;
    match parts.extensions.get::<Origins>() {
        Some(origins) => origins.check(&parts.headers)?,
        None => check_origin(&parts.headers)?,
    }
    let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(HandshakeError::NotHttp11)?;
    Ok((accept, on_upgrade))
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("options", &self.options).finish_non_exhaustive()
    }
}

fn offered<'h>(headers: &'h HeaderMap, name: &'h HeaderName) -> impl Iterator<Item = (HeaderName, HeaderValue)> + 'h {
    headers.get_all(name).into_iter().map(|value| (name.clone(), value.clone()))
}

/// A response of one line that names the header and the fix.
impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_string()).into_response();
        let headers = response.headers_mut();
        if self == Self::NotGet {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade() -> Upgrade {
        let request = http::Request::get("/").header("host", "example.com").header("upgrade", "websocket");
        let request = request.header("connection", "upgrade").header("sec-websocket-version", "13");
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut request = request.body(()).expect("a request");
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, ()) = request.into_parts();
        parts.extensions.insert(on_upgrade);
        futures_executor::block_on(Upgrade::from_request_parts(&mut parts, &())).expect("it asks for a websocket")
    }

    /// A bug once: the channel's options replaced an outbox and a user that were set before them.
    #[test]
    fn outbox_and_user_count_before_and_after_the_options_of_the_channel() {
        let ada = UserId::new("ada").expect("an id");
        let limits = |bytes| OutboxLimits::default().max_bytes(bytes);
        let options = || ChannelOptions::default().outbox(limits(1)).idle_timeout(Duration::from_secs(9));
        for upgrade in [
            upgrade().outbox(limits(2)).outbox(limits(3)).user(ada.clone()).channel(options()),
            upgrade().channel(options()).outbox(limits(2)).outbox(limits(3)).user(ada.clone()),
        ] {
            let mut options = upgrade.options;
            options.settle();
            assert_eq!((options.channel.outbox, options.channel.user.as_ref()), (limits(3), Some(&ada)));
            assert_eq!(options.channel.idle_timeout, Some(Duration::from_secs(9)));
        }
        let mut options = upgrade().channel(options()).options;
        options.settle();
        assert_eq!(options.channel.outbox, limits(1), "no other setting overrides it");
    }

    #[test]
    fn a_refusal_tells_how_to_do_better() {
        let response = HandshakeError::UnsupportedVersion.into_response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()["sec-websocket-version"], "13");
        assert_eq!(response.headers()["upgrade"], "websocket");

        let response = HandshakeError::NotGet.into_response();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET");

        let response = HandshakeError::ForeignOrigin.into_response();
        assert_eq!(response.status(), 403);
        assert!(HandshakeError::BadKey.to_string().contains("sec-websocket-key"));
        assert_eq!(HandshakeError::BadKey.status(), 400);
        assert_eq!(HandshakeError::NotHttp11.status(), 505);
    }
}
