//! A chat with rooms. `cargo run --release -p chat`, then open the printed address in two windows.
//!
//! The route emits events; listeners do the rest: one broadcasts, one logs what went wrong.

mod page;
mod presence;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanfare::channel::{Channel, ChannelId, RecvError, Sender};
use fanfare::group::ChannelBox;
use fanfare::ws::{Upgrade, serve};
use fanfare::{Dispatcher, EventError, Key};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::presence::Presence;

const CONNECTED: Key<Connected> = Key::new("ws.connected");
const DISCONNECTED: Key<ChannelId> = Key::new("ws.disconnected");
const MESSAGE: Key<ChatMessage> = Key::new("chat.message");
const ERROR: Key<WsError> = Key::new("ws.error");
/// Once per connection, on the channel's own dispatcher.
const INIT: Key<Sender> = Key::new("connection.init");

/// A client is here.
struct Connected {
    id: ChannelId,
    client: Option<SocketAddr>,
}

/// Somebody says something.
struct ChatMessage {
    room: String,
    from: String,
    message: Map<String, Value>,
}

/// A client sent what it should not, or its connection broke.
struct WsError {
    sender: Sender,
    error: RecvError,
}

/// What a client receives.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Reply<'a> {
    Welcome { id: ChannelId },
    Message { room: &'a str, from: &'a str, message: &'a Map<String, Value> },
    Presence { users: Vec<String> },
    Error { error: String },
}

#[derive(Clone)]
struct App {
    events: Dispatcher,
    channels: ChannelBox,
    presence: Presence,
}

/// How long clients have to answer the close, once the program is told to end.
const FAREWELL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let (listener, told_to_end) = start::listen("chat", 3000).await?;
    let app = App { events: Dispatcher::new(), channels: ChannelBox::new(), presence: Presence::default() };
    listen(&app)?;
    let router = Router::new().route("/", get(page::page)).route("/chat/{room}", get(chat)).with_state(app);
    serve(listener, router).shutdown_on(told_to_end).drain_timeout(FAREWELL).await;
    Ok(())
}

/// Registers who listens to what.
fn listen(app: &App) -> Result<(), EventError> {
    let channels = app.channels.clone();
    app.events.on(MESSAGE, move |said| {
        let reply = Reply::Message { room: &said.room, from: &said.from, message: &said.message };
        channels.group_send(&said.room, &reply).map(drop)
    })?;
    app.events.on(CONNECTED, |connected| match connected.client {
        Some(client) => println!("channel {} connected from {client}", connected.id),
        None => println!("channel {} connected", connected.id),
    })?;
    app.events.on(DISCONNECTED, |id| println!("channel {id} disconnected"))?;
    app.events.on(ERROR, |failed| eprintln!("channel {}: {}", failed.sender.id(), failed.error))?;
    // A client that is still there is told what was wrong with its message.
    app.events.on(ERROR, |failed| {
        if !failed.error.is_fatal() {
            let error = failed.error.to_string();
            drop(failed.sender.send(&Reply::Error { error }));
        }
    })?;
    Ok(())
}

#[derive(Deserialize)]
struct Who {
    #[serde(default)]
    name: String,
}

async fn chat(
    upgrade: Upgrade,
    Path(room): Path<String>,
    Query(Who { name }): Query<Who>,
    State(app): State<App>,
) -> Response {
    for (what, text) in [("room", &room), ("name", &name)] {
        if !(1..=64).contains(&text.chars().count()) || text.chars().any(char::is_control) {
            let problem = format!("a {what} has 1 to 64 characters, none of them a control character\n");
            return (StatusCode::BAD_REQUEST, problem).into_response();
        }
    }
    upgrade.max_message_size(64 << 10).run(async move |channel| talk(channel, &app, room, name).await)
}

/// One connection, from its first event to its last.
async fn talk(mut channel: Channel, app: &App, room: String, name: String) -> Result<(), fanfare::Error> {
    channel.events().once(INIT, |sender| sender.send(&Reply::Welcome { id: sender.id() }))?;
    channel.events().emit(INIT, &channel.sender())?;
    app.events.emit(CONNECTED, &Connected { id: channel.id(), client: channel.peer_addr() })?;

    let membership = app.channels.join(&channel, &room)?;
    let here = app.presence.enter(&app.channels, &room, &name);
    while let Some(received) = channel.recv().await {
        match received {
            Ok(message) => {
                let said = ChatMessage { room: room.clone(), from: name.clone(), message };
                app.events.emit(MESSAGE, &said)?;
            }
            Err(error) => {
                app.events.emit(ERROR, &WsError { sender: channel.sender(), error })?;
            }
        }
    }
    drop(membership);
    drop(here);
    app.events.emit(DISCONNECTED, &channel.id())?;
    Ok(())
}
