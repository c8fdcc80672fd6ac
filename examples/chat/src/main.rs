//! A chat with rooms. `cargo run --release -p chat`, then open the printed address in two windows.
//!
//! What it teaches: the route emits events, and listeners do the rest. A room is a group that keeps what was said:
//! who joins sees the end of it, who comes back gets what it missed. Who is here, and who is typing, is presence.

mod person;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use fanfare::channel::{Channel, ChannelId, Sender, UserId};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Recover, Since};
use fanfare::ws::{HANDLER_FAILED, RateLimit, Upgrade, serve};
use fanfare::{Dispatcher, EventError, Key};
use serde::{Deserialize, Serialize};

use crate::person::Person;

const CONNECTED: Key<Connected> = Key::new("ws.connected");
const DISCONNECTED: Key<ChannelId> = Key::new("ws.disconnected");
const MESSAGE: Key<ChatMessage> = Key::new("chat.message");
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
    id: UserId,
    from: String,
    text: String,
    nonce: Option<String>,
}

/// What a client sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromClient {
    Say { text: String, nonce: Option<String> },
    Typing { typing: bool },
}

/// What a client receives, beside what the library sends: see `messages.d.ts`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Reply<'a> {
    Welcome {
        id: &'a UserId,
    },
    Message {
        room: &'a str,
        id: &'a UserId,
        from: &'a str,
        text: &'a str,
        /// By which its author knows it again.
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'a str>,
        /// Unix time, in milliseconds.
        time: u64,
    },
    Error {
        error: &'a str,
    },
}

/// What is known of somebody who is here.
#[derive(Serialize)]
struct Info<'a> {
    name: &'a str,
    typing: bool,
}

#[derive(Clone)]
struct App {
    events: Dispatcher,
    channels: ChannelBox,
}

/// How many messages a newcomer sees.
const SHOWN: usize = 50;
/// The longest message, in characters.
const LONGEST: usize = 8000;
/// How long clients have to answer the close, once the program is told to end.
const FAREWELL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let (listener, told_to_end) = start::listen("chat", 3000).await?;
    let rooms = GroupOptions::default().history(HistoryLimits::default());
    let app = App { events: Dispatcher::new(), channels: ChannelBox::builder().groups(move |_room| rooms).build() };
    listen(&app)?;
    let page = start::Page {
        html: include_str!("page.html"),
        script: include_str!("page.js"),
        style: include_str!("page.css"),
    };
    let router = page.router().route("/chat/{room}", get(chat)).with_state(app);
    serve(listener, router).shutdown_on(told_to_end).drain_timeout(FAREWELL).await;
    Ok(())
}

/// Registers who listens to what.
fn listen(app: &App) -> Result<(), EventError> {
    let channels = app.channels.clone();
    app.events.on(MESSAGE, move |said| {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let ChatMessage { room, id, from, text, nonce } = said;
        channels.group_send(room, &Reply::Message { room, id, from, text, nonce: nonce.as_deref(), time }).map(drop)
    })?;
    app.events.on(CONNECTED, |connected| match connected.client {
        Some(client) => println!("channel {} connected from {client}", connected.id),
        None => println!("channel {} connected", connected.id),
    })?;
    app.events.on(DISCONNECTED, |id| println!("channel {id} disconnected"))?;
    // Whatever goes wrong with a connection, it is told here and ends none but its own.
    app.events.on(HANDLER_FAILED, |failed| eprintln!("{failed}"))?;
    Ok(())
}

async fn chat(
    upgrade: Upgrade,
    person: Person,
    recover: Recover,
    Path(room): Path<String>,
    State(app): State<App>,
) -> Response {
    let seen = recover.position(&room);
    let upgrade = upgrade.protocols(&["bearer"]).user(person.id.clone()).events(&app.events);
    let upgrade = upgrade.max_message_size(64 << 10).rate_limit(RateLimit::per_second(20, 64 << 10).burst_seconds(3));
    upgrade.run(async move |channel| talk(channel, &app, &room, &person, seen).await)
}

/// One connection, from its first event to its last.
async fn talk(
    mut channel: Channel,
    app: &App,
    room: &str,
    Person { id, name }: &Person,
    seen: Option<Position>,
) -> Result<(), fanfare::Error> {
    app.events.emit(CONNECTED, &Connected { id: channel.id(), client: channel.peer_addr() })?;
    let (membership, _) = app.channels.join_since(&channel, room, Since::missed(seen, SHOWN))?;
    let here = membership.enter(&Info { name, typing: false })?;
    // Behind what was replayed: a page that is welcome has seen all that it missed.
    let user = id.clone();
    channel.events().once(INIT, move |sender| sender.send(&Reply::Welcome { id: &user }))?;
    channel.events().emit(INIT, &channel.sender())?;

    while let Some(message) = app.channels.recv(&mut channel).await.transpose()? {
        match message {
            FromClient::Typing { typing } => here.update(&Info { name, typing })?,
            FromClient::Say { text, .. } if !(1..=LONGEST).contains(&text.chars().count()) => {
                channel.send(&Reply::Error { error: "a message has 1 to 8000 characters" })?;
            }
            FromClient::Say { text, nonce } => {
                let said = ChatMessage { room: room.to_owned(), id: id.clone(), from: name.clone(), text, nonce };
                app.events.emit(MESSAGE, &said)?;
            }
        }
    }
    drop(membership);
    app.events.emit(DISCONNECTED, &channel.id())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_samples_are_what_is_sent_and_taken() {
        let samples: Value = serde_json::from_str(include_str!("samples.json")).expect("it is json");
        let of = |side: &str, kind: &str| -> Value {
            let all = samples[side].as_array().expect("each side has samples");
            all.iter().find(|sample| sample["type"] == kind).expect("each kind has a sample").clone()
        };
        let id = &UserId::new("6Vd2jH0pQb3fKx1z").expect("the id is good");
        let message = Reply::Message {
            room: "lobby",
            id,
            from: "Ada",
            text: "Good morning!",
            nonce: Some("k3v9"),
            time: 1_763_700_000_000,
        };
        let mut sent = json!(message);
        // As the group's history adds them.
        sent["group"] = json!("lobby");
        sent["offset"] = json!(13);
        assert_eq!(sent, of("server", "message"));
        assert_eq!(json!(Reply::Welcome { id }), of("server", "welcome"));
        assert_eq!(json!(Info { name: "Ada", typing: true }), of("server", "presence")["users"][0]["info"]);
        assert!(json!(Reply::Error { error: "" }).is_object());
        for sample in samples["client"].as_array().expect("each side has samples") {
            serde_json::from_value::<FromClient>(sample.clone()).expect("it is taken");
        }
    }
}
