//! What the library tells a subscriber: spans, events, and what is never in them.

#![allow(missing_docs, reason = "tests")]

mod sockets;

use std::fmt::{Debug, Write};
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use fanfare::channel::{Channel, ChannelOptions, CloseCode, OutboxLimits, UserId};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Since};
use fanfare::ws::{HANDLER_FAILED, Upgrade};
use fanfare::{Dispatcher, Key};
use sockets::{Raw, TEXT, serve_router, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// One line for all that is told: `LEVEL target span/span: message field=value`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Keeps what this thread tells from now on, down to `level`.
    fn keep(&self, level: Level) -> tracing::subscriber::DefaultGuard {
        let level = tracing_subscriber::filter::LevelFilter::from_level(level);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()).with(level))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nothing panics with it").clone()
    }

    /// The lines that have all of these in them.
    fn with(&self, parts: &[&str]) -> Vec<String> {
        self.all().into_iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect()
    }

    #[track_caller]
    fn one(&self, parts: &[&str]) -> String {
        let mut found = self.with(parts);
        assert_eq!(found.len(), 1, "{parts:?} in {:#?}", self.all());
        found.remove(0)
    }

    fn push(&self, line: String) {
        self.0.lock().expect("nothing panics with it").push(line);
    }
}

/// The fields of a span, as text.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let end = if field.name() == "message" { format!("{value:?}") } else { format!(" {}={value:?}", field.name()) };
        self.0.write_str(&end).expect("a string takes it");
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        let meta = attributes.metadata();
        let parent = context.span(id).and_then(|span| span.parent()).map_or("root", |parent| parent.name());
        self.push(format!("SPAN {} {} {} of {parent}:{}", meta.level(), meta.target(), meta.name(), fields.0));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).map_or("nothing", |span| span.name());
        self.push(format!("FOLLOWS {} {}", name(id), name(follows)));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.push(format!("RECORD {}:{}", context.span(id).map_or("nothing", |span| span.name()), fields.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let scope = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans: Vec<_> = scope.map(|span| span.name()).collect();
        let meta = event.metadata();
        self.push(format!("{} {} {}: {}", meta.level(), meta.target(), spans.join("/"), fields.0));
    }
}

/// A request's span, as tower-http makes one: with all of its address.
async fn in_request_span(request: Request, next: Next) -> axum::response::Response {
    let span = tracing::info_span!("http.request");
    next.run(request).instrument(span).await
}

#[tokio::test]
async fn a_connection_has_a_span_that_its_handler_and_all_it_does_are_in() {
    let lines = Lines::default();
    let _kept = lines.keep(Level::TRACE);
    let channels = ChannelBox::new();
    let route = async move |upgrade: Upgrade| {
        upgrade.user(UserId::new("user-of-secret").expect("a good id")).protocols(&["bearer"]).run(
            async move |mut channel| {
                tracing::info!(target: "app", "the handler begins");
                tracing::Span::current().record("user", "by the handler's own will");
                let _membership = channels.join(&channel, "room")?;
                let text = channel.recv_text().await.ok_or("it is gone")??;
                channels.group_send("room", &text)?;
                async { tracing::info!(target: "app", "within") }.instrument(tracing::info_span!("app.work")).await;
                Ok(())
            },
        )
    };
    let address = serve_router(Router::new().route("/", get(route)).layer(from_fn(in_request_span))).await;
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let request = sockets::upgrade(address, "Sec-WebSocket-Protocol: bearer, token-of-secret\r\n")
        .replace("GET / ", "GET /?token=query-of-secret ");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    stream.write_all(&sockets::masked(0x80 | TEXT, b"payload-of-secret")).await.expect("it is sent");
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while !answer.ends_with(&[3, 0xe8]) {
        let n = soon(stream.read(&mut chunk)).await.expect("the server closes in order");
        assert!(n > 0, "the close comes first");
        answer.extend_from_slice(&chunk[..n]);
    }
    drop(stream);
    soon(until(|| !lines.with(&["channel left"]).is_empty())).await;

    let span = lines.one(&["SPAN INFO fanfare::ws ws.connection of root:", "channel=", "peer=127.0.0.1:"]);
    assert!(!span.contains("user"), "{span}");
    lines.one(&["FOLLOWS ws.connection http.request"]);
    lines.one(&["RECORD ws.connection", "by the handler's own will"]);
    lines.one(&["INFO app ws.connection: the handler begins"]);
    lines.one(&["INFO app ws.connection/app.work: within"]);
    lines.one(&["DEBUG fanfare::channel", "channel opened"]);
    for within in ["channel joined", "channel left", "channel closed", "message received", "message sent"] {
        let line = lines.one(&["fanfare::", within]);
        assert!(line.contains(" ws.connection: "), "{line}");
    }
    let line = lines.one(&["channel closed"]);
    assert!(line.contains("code=1000") && line.starts_with("DEBUG fanfare::channel"), "{line}");
    for line in lines.all() {
        assert!(!line.contains("secret"), "{line}");
        assert!(!line.contains("fanfare") || !line.starts_with("INFO"), "no more than debug for one client: {line}");
    }
}

#[tokio::test]
async fn a_handler_that_fails_is_a_warning_in_its_span_and_its_client_is_not_quoted() {
    let lines = Lines::default();
    let _kept = lines.keep(Level::DEBUG);
    let events = Dispatcher::new();
    events.on(HANDLER_FAILED, |_| {}).expect("it is free");
    let route = async move |upgrade: Upgrade| {
        upgrade.events(&events).run(async move |mut channel| {
            match &*channel.recv_text().await.ok_or("it is gone")?? {
                "panic" => panic!("a panic's own words"),
                "fail" => Err("an error's own words".into()),
                "number" => {
                    channel.recv::<u32>().await.ok_or("it is gone")??;
                    Ok(())
                }
                json => {
                    serde_json::from_str::<u32>(json)?;
                    Ok(())
                }
            }
        })
    };
    let address = serve_router(Router::new().route("/", get(route))).await;
    for said in ["panic", "fail", "number", "\"json-of-secret\""] {
        let mut client = Raw::connect(address).await;
        client.send(TEXT, said.as_bytes()).await;
        client.send(TEXT, b"\"json-of-secret\"").await;
        client.close_code().await.expect("it is told");
    }
    let failed =
        |parts: &[&str]| lines.one(&[&["WARN fanfare::ws ws.connection: handler failed", "channel="], parts].concat());
    failed(&["cause=\"panic\"", "a panic's own words"]);
    failed(&["cause=\"error\"", "an error's own words"]);
    failed(&["cause=\"error\"", "json: Data at line 1 column 16"]);
    lines.one(&["DEBUG fanfare::ws ws.connection: handler ended for its client", "message is not the JSON asked for"]);
    assert!(lines.with(&["secret"]).is_empty(), "{:#?}", lines.with(&["secret"]));
    assert_eq!(lines.with(&["WARN"]).len(), 3);
}

#[test]
fn a_channel_in_memory_is_told_of_without_a_span() {
    let lines = Lines::default();
    let _kept = lines.keep(Level::TRACE);
    let channels = ChannelBox::builder()
        .groups(|_| GroupOptions::default().history(HistoryLimits::default()))
        .may_join(|_, group| group != "secret")
        .build();
    channels.group_send("room", "payload-of-secret").expect("text is json");
    let limits = OutboxLimits::default().max_messages(1);
    let options = ChannelOptions::default().user(UserId::new("user-of-secret").expect("a good id"));
    let (channel, _far_end) = Channel::in_memory_with(options);
    channels.join(&channel, "secret").expect_err("it may not");
    let _joined = channels.group("room").join_since(&channel, Since::Last(9)).expect("it may");
    let (slow, _far_end) = Channel::in_memory_with(limits);
    slow.send_bytes(vec![0; 100_000]).expect("the first one passes");
    slow.send("payload-of-secret").expect_err("the outbox is full");
    let (channel, _far_end) = Channel::in_memory();
    assert!(channel.close(CloseCode::new(4999), "reason-of-secret"));
    lines.one(&["DEBUG fanfare::group : channel may not join", "reason=\"denied\""]);
    lines.one(&["DEBUG fanfare::group : channel joined", "kind=\"named\" group=\"room\""]);
    lines.one(&["DEBUG fanfare::group : history replayed", "group=\"room\" recovered=false replayed=1"]);
    lines.one(&["TRACE fanfare::channel : messages dropped", "reason=\"overflow\" messages=1"]);
    lines.one(&["DEBUG fanfare::channel : channel closed", "code=1013 dropped=1"]);
    lines.one(&["DEBUG fanfare::channel : channel closed", "code=4999 dropped=0"]);
    lines.one(&["TRACE fanfare::group : message sent", "group=\"room\" members=0 accepted=true"]);
    assert!(lines.with(&["secret"]).is_empty(), "{:#?}", lines.with(&["secret"]));
}

#[tokio::test]
async fn a_server_tells_of_its_end_and_of_whom_it_refuses() {
    let lines = Lines::default();
    let _kept = lines.keep(Level::DEBUG);
    let route = get(async |upgrade: Upgrade| upgrade.run(sockets::echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = fanfare::ws::serve(listener, Router::new().route("/", route))
        .max_connections(1)
        .shutdown_on(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    let mut client = Raw::connect(address).await;
    let mut other = TcpStream::connect(address).await.expect("the port is open");
    soon(other.read_to_end(&mut Vec::new())).await.expect("it is told why");
    drop(other);
    stop.send(()).expect("the server runs");
    assert_eq!(client.close_code().await, Some(1001));
    drop(client);
    soon(server).await.expect("no panic");
    lines.one(&["DEBUG fanfare::ws : connection refused", "reason=\"server\""]);
    lines.one(&["INFO fanfare::ws : server is going away", "open=1"]);
    lines.one(&["INFO fanfare::ws : server has ended", "ended=1 cut=0"]);

    let elsewhere =
        serve_router(Router::new().route("/", get(async |upgrade: Upgrade| upgrade.run(sockets::echo)))).await;
    let (_client, head) = Raw::ask(elsewhere, "Origin: https://origin-of-secret.example\r\n").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    lines.one(&["DEBUG fanfare::ws : handshake refused", "reason=\"foreign origin\""]);
    assert!(lines.with(&["secret"]).is_empty());
}

#[test]
fn a_line_for_stderr_goes_to_the_subscriber_if_it_takes_warnings() {
    const TICK: Key<u32> = Key::new("tick");
    let lines = Lines::default();
    let events = Dispatcher::new();
    events.on(TICK, |_| Err::<(), _>("no bread")).expect("it is free");
    let kept = lines.keep(Level::WARN);
    events.emit(TICK, &1).expect("it is one of numbers");
    drop(kept);
    let line = lines.one(&["WARN fanfare::dispatch : listener of `tick` failed: no bread"]);
    assert!(line.contains("registered at"), "{line}");
}
