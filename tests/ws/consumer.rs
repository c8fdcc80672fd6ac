//! Consumers: a type per connection, on a route with parameters, state and middleware.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanfare::group::ChannelBox;
use fanfare::ws::{Consumer, HANDLER_FAILED, JsonMessage, Session, Upgrade};
use fanfare::{Dispatcher, Error};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Clone)]
struct App {
    channels: ChannelBox,
    events: Dispatcher,
    /// Told what each consumer does at its end.
    ends: mpsc::UnboundedSender<String>,
}

struct Room {
    name: String,
    received: usize,
    ends: mpsc::UnboundedSender<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    All { text: String },
    Others { text: String },
    Leave,
    Return,
    Panic,
}

impl Consumer for Room {
    type Message = JsonMessage<Said>;

    async fn on_connect(&mut self, session: &mut Session) -> Result<(), Error> {
        session.join(&self.name)?;
        session.join(&self.name)?;
        session.broadcast_others(&self.name, "somebody came")?;
        Ok(session.send(&session.id())?)
    }

    async fn on_receive(&mut self, session: &mut Session, JsonMessage(said): JsonMessage<Said>) -> Result<(), Error> {
        self.received += 1;
        match said {
            // An administrator has made it leave; it comes back.
            Said::Return => {
                assert!(session.channels().group(&self.name).remove(session.id()));
                session.join(&self.name)?;
                drop(session.broadcast(&self.name, "here again")?);
            }
            Said::All { text } => drop(session.broadcast(&self.name, &text)?),
            Said::Others { text } => drop(session.broadcast_others(&self.name, &text)?),
            Said::Leave => {
                let left = session.leave(&self.name);
                session.send(&left)?;
            }
            Said::Panic => panic!("on purpose"),
        }
        Ok(())
    }

    async fn on_disconnect(&mut self, session: &mut Session) -> Result<(), Error> {
        self.ends.send(format!("{} after {}", self.name, self.received))?;
        assert!(!session.leave("another room"));
        Ok(())
    }
}

async fn room(upgrade: Upgrade, Path(name): Path<String>, State(app): State<App>) -> Response {
    upgrade.events(&app.events).consume(&app.channels, Room { name, received: 0, ends: app.ends })
}

/// Lets in whoever has the right query.
async fn bouncer(request: Request, next: Next) -> Response {
    match request.uri().query() {
        Some("password=open") => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn serve() -> (SocketAddr, App, mpsc::UnboundedReceiver<String>) {
    let (ends, ended) = mpsc::unbounded_channel();
    let app = App { channels: ChannelBox::new(), events: Dispatcher::new(), ends };
    let router = Router::new().route("/rooms/{name}", get(room)).layer(from_fn(bouncer)).with_state(app.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, app, ended)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it comes in time")
}

async fn enter(address: SocketAddr, room: &str) -> Client {
    let url = format!("ws://{address}/rooms/{room}?password=open");
    let mut client = soon(connect_async(url)).await.expect("the handshake is good").0;
    assert!(next(&mut client).await.parse::<u64>().is_ok(), "its id comes first");
    client
}

async fn next(client: &mut Client) -> String {
    match soon(client.next()).await.expect("the connection lives").expect("the protocol is kept") {
        Message::Text(text) => text.to_string(),
        Message::Close(close) => format!("close {}", close.map_or(0, |close| u16::from(close.code))),
        other => panic!("only text is sent: {other:?}"),
    }
}

async fn say(client: &mut Client, text: &str) {
    client.send(Message::text(text)).await.expect("the connection lives");
}

#[tokio::test]
async fn a_consumer_joins_broadcasts_leaves_and_is_told_of_the_end() {
    let (address, app, mut ended) = serve().await;
    let mut ada = enter(address, "lounge").await;
    let mut bob = enter(address, "lounge").await;
    assert_eq!(next(&mut ada).await, "\"somebody came\"");
    say(&mut ada, r#"{"type":"others","text":"hi"}"#).await;
    say(&mut ada, r#"{"type":"all","text":"there"}"#).await;
    assert_eq!((next(&mut bob).await, next(&mut bob).await), ("\"hi\"".into(), "\"there\"".into()));
    assert_eq!(next(&mut ada).await, "\"there\"");
    say(&mut ada, r#"{"type":"return"}"#).await;
    assert_eq!((next(&mut ada).await, next(&mut bob).await), ("\"here again\"".into(), "\"here again\"".into()));
    say(&mut bob, r#"{"type":"leave"}"#).await;
    assert_eq!(next(&mut bob).await, "true");
    assert_eq!(app.channels.group("lounge").member_count(), 1);
    ada.close(None).await.expect("the connection lives");
    assert_eq!(soon(ended.recv()).await.as_deref(), Some("lounge after 3"));
}

#[tokio::test]
async fn a_wrong_message_closes_by_its_kind_and_a_panic_still_disconnects() {
    let (address, app, mut ended) = serve().await;
    let (told, mut failures) = mpsc::unbounded_channel();
    app.events.on(HANDLER_FAILED, move |failed| told.send(failed.to_string())).expect("it is the event's type");
    for (message, close, received) in [
        (Message::text("{}"), "close 1007", 0),
        (Message::binary(vec![1]), "close 1003", 0),
        (Message::text(r#"{"type":"panic"}"#), "close 1011", 1),
    ] {
        let mut client = enter(address, "bar").await;
        client.send(message).await.expect("the connection lives");
        assert_eq!(next(&mut client).await, close);
        assert_eq!(soon(ended.recv()).await, Some(format!("bar after {received}")));
    }
    assert!(soon(failures.recv()).await.expect("one failed").contains("panicked: on purpose"));
}

#[tokio::test]
async fn middleware_refuses_before_the_upgrade() {
    let (address, ..) = serve().await;
    let refused = soon(connect_async(format!("ws://{address}/rooms/lounge"))).await;
    assert!(refused.expect_err("there is no password").to_string().contains("401"));
}
