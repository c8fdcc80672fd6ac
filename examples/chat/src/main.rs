//! A chat with rooms. `cargo run --release -p chat`, then open the printed address in two windows.
//!
//! What it teaches: the route emits events, and listeners do the rest. A room is a group with a history: a new member
//! gets the last messages, a returning member the ones it missed. Presence says which users are here, and which type.

mod person;
mod recent;

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
use crate::recent::Recent;

const CONNECTED: Key<Connected> = Key::new("ws.connected");
const DISCONNECTED: Key<ChannelId> = Key::new("ws.disconnected");
const MESSAGE: Key<ChatMessage> = Key::new("chat.message");
/// Once per connection, on the channel's own dispatcher.
const INIT: Key<Sender> = Key::new("connection.init");

/// A client has connected.
struct Connected {
    id: ChannelId,
    client: Option<SocketAddr>,
}

/// A user sends a message to a room.
struct ChatMessage {
    room: String,
    id: UserId,
    from: String,
    text: String,
    nonce: Option<Nonce>,
}

/// A message from a client.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromClient {
    Say { text: Text, nonce: Option<Nonce> },
    Typing { typing: bool },
}

/// A text of 1 to `MOST` characters. Any other length is malformed, and the client gets an `error` message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
struct Bounded<const MOST: usize>(String);

/// A message: 1 to 8000 characters.
type Text = Bounded<8000>;
/// The sender's own id for a message, by which the sender recognises it.
type Nonce = Bounded<40>;

impl<const MOST: usize> TryFrom<String> for Bounded<MOST> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.chars().count() {
            length if (1..=MOST).contains(&length) => Ok(Self(text)),
            length => Err(format!("it has {length} characters instead of 1 to {MOST}")),
        }
    }
}

/// A message to a client, besides the library's own: see `messages.d.ts`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Reply<'a> {
    /// The id under which the other members see this client.
    Welcome { id: &'a UserId },
    /// The client has received all messages that it missed.
    Ready,
    Message {
        room: &'a str,
        id: &'a UserId,
        from: &'a str,
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<&'a Nonce>,
        /// Unix time, in milliseconds.
        time: u64,
    },
}

/// The presence info of a user.
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

/// How many messages a new member gets.
const SHOWN: usize = 50;
/// How many messages a room keeps. The library bounds the total kept by empty rooms.
const KEPT: usize = 500;
/// How long clients have to answer the close at shutdown.
const FAREWELL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let (listener, told_to_end) = start::listen("chat", 3000).await?;
    let rooms = GroupOptions::default().history(HistoryLimits::default().max_messages(KEPT));
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

/// Registers the listeners.
fn listen(app: &App) -> Result<(), EventError> {
    let (channels, recent) = (app.channels.clone(), Recent::default());
    // A page repeats a message when it cannot know whether the first one arrived. Repetitions stop here.
    let is_new = move |said: &ChatMessage| said.nonce.as_ref().is_none_or(|nonce| recent.insert(&said.id, nonce));
    app.events.listen(MESSAGE)?.filter(is_new).on(move |said| {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let ChatMessage { room, id, from, text, nonce } = said;
        channels.group_send(room, &Reply::Message { room, id, from, text, nonce: nonce.as_ref(), time }).map(drop)
    });
    app.events.on(CONNECTED, |connected| match connected.client {
        Some(client) => println!("channel {} connected from {client}", connected.id),
        None => println!("channel {} connected", connected.id),
    })?;
    app.events.on(DISCONNECTED, |id| println!("channel {id} disconnected"))?;
    // An error of a connection is logged here, and ends only that connection.
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
    let upgrade = upgrade
        .max_message_size(64 << 10)
        .rate_limit(RateLimit::per_second(20, 64 << 10).burst(Duration::from_secs(3)));
    upgrade.run(async move |channel| {
        let id = channel.id();
        app.events.emit(CONNECTED, &Connected { id, client: channel.peer_addr() })?;
        let talked = talk(channel, &app, &room, &person, seen).await;
        app.events.emit(DISCONNECTED, &id)?;
        talked
    })
}

/// One connection, from its first message to its last.
async fn talk(
    mut channel: Channel,
    app: &App,
    room: &str,
    Person { id, name }: &Person,
    seen: Option<Position>,
) -> Result<(), fanfare::Error> {
    let user = id.clone();
    channel.events().once(INIT, move |sender| sender.send(&Reply::Welcome { id: &user }))?;
    channel.events().emit(INIT, &channel.sender())?;
    let (membership, _) = app.channels.group(room).join_since(&channel, Since::missed(seen, SHOWN))?;
    let here = membership.enter(&Info { name, typing: false })?;
    channel.send(&Reply::Ready)?;
    while let Some(message) = app.channels.recv(&mut channel).await.transpose()? {
        match message {
            FromClient::Typing { typing } => here.update(&Info { name, typing })?,
            FromClient::Say { text: Bounded(text), nonce } => {
                let said = ChatMessage { room: room.to_owned(), id: id.clone(), from: name.clone(), text, nonce };
                app.events.emit(MESSAGE, &said)?;
            }
        }
    }
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
            nonce: Some(&Bounded("k3v9".into())),
            time: 1_763_700_000_000,
        };
        let mut sent = json!(message);
        // As the group's history adds them.
        sent["group"] = json!("lobby");
        sent["offset"] = json!(13);
        assert_eq!(sent, of("server", "message"));
        assert_eq!(json!(Reply::Welcome { id }), of("server", "welcome"));
        assert_eq!(json!(Info { name: "Ada", typing: true }), of("server", "presence")["users"][0]["info"]);
        assert_eq!(json!(Reply::Ready), of("server", "ready"));
        for sample in samples["client"].as_array().expect("each side has samples") {
            serde_json::from_value::<FromClient>(sample.clone()).expect("it is taken");
        }
    }
}
