//! The chat's protocol, spoken by a client that is not ours, to the real program; and how that starts and ends.

#![allow(missing_docs, reason = "tests")]

use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use stage::{DEADLINE, Program, run_to_end};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The id under which other members see it.
    id: String,
}

impl Client {
    /// Joins as the user with this key; also returns the missed messages.
    async fn join(chat: &Program, room: &str, name: &str, key: &str) -> (Self, Vec<Value>) {
        let (socket, _) = try_join(chat, room, name, key).await.expect("the handshake is good");
        let (mut client, mut told) = (Self { socket, id: String::new() }, Vec::new());
        client.id = client.next_of("welcome").await["id"].as_str().expect("a welcome has an id").to_owned();
        loop {
            match client.next().await {
                message if message["type"] == "ready" => return (client, told),
                message => told.push(message),
            }
        }
    }

    async fn next(&mut self) -> Value {
        let message = self.next_message().await.expect("the connection lives");
        serde_json::from_str(message.to_text().expect("replies are text")).expect("replies are JSON")
    }

    /// The next message of a type.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn next_message(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(DEADLINE, self.socket.next()).await.expect("it comes in time");
        next.map(|message| message.expect("the protocol is kept"))
    }

    async fn tell(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).await.expect("the connection lives");
    }

    async fn say(&mut self, text: &str) {
        self.tell(json!({"type": "say", "text": text}).to_string()).await;
    }
}

type Joined = (WebSocketStream<MaybeTlsStream<TcpStream>>, tungstenite::handshake::client::Response);

async fn try_join(chat: &Program, room: &str, query: &str, key: &str) -> Result<Joined, tungstenite::Error> {
    let mut request = format!("ws://{}/chat/{room}?name={query}", chat.address()).into_client_request()?;
    if !key.is_empty() {
        let offer = format!("bearer, {key}").parse().expect("it is a value");
        request.headers_mut().insert("sec-websocket-protocol", offer);
    }
    connect_async(request).await
}

fn start() -> Program {
    Program::start("chat", env!("CARGO_BIN_EXE_chat"))
}

/// A key that a browser might have made.
fn key(of: &str) -> String {
    format!("{of:-<32}")
}

#[tokio::test]
async fn a_message_reaches_everyone_in_its_room_and_no_other_room() {
    let chat = start();
    let (mut ada, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (mut bob, _) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    let (mut eve, _) = Client::join(&chat, "cellar", "Eve", &key("eve")).await;
    assert_ne!(ada.id, bob.id);

    ada.tell(r#"{"type":"say","text":"hello","nonce":"n1"}"#).await;
    for client in [&mut ada, &mut bob] {
        let mut said = client.next_of("message").await;
        assert!(said["time"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{said}");
        said["time"] = json!(0);
        let id = &said["id"];
        let expected = json!({"type": "message", "room": "lobby", "id": id, "from": "Ada", "text": "hello", "nonce": "n1",
                              "time": 0, "group": "lobby", "offset": 1});
        assert_eq!(said, expected);
    }
    eve.say("alone").await;
    assert_eq!(eve.next_of("message").await["text"], "alone");
}

#[tokio::test]
async fn a_new_member_gets_the_last_fifty_and_a_returning_one_all_it_missed() {
    let chat = start();
    let (mut ada, told) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let epoch = told[0]["epoch"].clone();
    for n in 1..=60 {
        ada.say(&n.to_string()).await;
        ada.next_of("message").await;
    }
    let texts = |told: &[Value]| -> Vec<String> {
        let said = told.iter().filter(|message| message["type"] == "message");
        said.map(|message| message["text"].as_str().expect("it is text").to_owned()).collect()
    };
    let (_bob, told) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    assert_eq!(told[0]["recovered"], false);
    assert_eq!(texts(&told), (11..=60).map(|n| n.to_string()).collect::<Vec<_>>());

    let seen = |epoch: &Value, offset: u64| format!("Bob&recover=%7B%22lobby%22:[{epoch},{offset}]%7D");
    let (_bob, told) = Client::join(&chat, "lobby", &seen(&epoch, 3), &key("bob")).await;
    assert_eq!((&told[0]["recovered"], texts(&told).len()), (&json!(true), 57));
    let (_bob, told) = Client::join(&chat, "lobby", &seen(&json!(7), 3), &key("bob")).await;
    assert_eq!((&told[0]["recovered"], texts(&told).len()), (&json!(false), 50), "another history has begun");
}

#[tokio::test]
async fn a_key_is_one_person_under_any_name_and_stays_secret() {
    let chat = start();
    let (mut first, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (second, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (mut other, mut told) = Client::join(&chat, "lobby", "Ada", &key("another")).await;
    assert_eq!(first.id, second.id);
    assert_ne!(first.id, other.id);
    if !told.iter().any(|message| message["type"] == "presence") {
        told.push(other.next_of("presence").await);
    }
    assert_eq!(told.last().expect("a new member sees the users")["count"], 2);
    assert!(!json!(told).to_string().contains(&key("ada")));

    let (second_id, other_id) = (second.id.clone(), other.id.clone());
    drop(second);
    drop(other);
    let left = loop {
        let diff = first.next_of("presence.diff").await;
        if diff["left"] != json!([]) {
            break diff;
        }
    };
    assert_eq!(left["left"], json!([other_id]), "{second_id} has another tab");
}

#[tokio::test]
async fn a_repeated_message_is_delivered_once() {
    let chat = start();
    let (mut bob, _) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    let (mut before, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (mut after, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let said = |n: usize| json!({"type": "say", "text": n.to_string(), "nonce": format!("n{n}")}).to_string();
    for n in 0..10 {
        before.tell(said(n)).await;
    }
    // The page has reconnected, while the server still reads from the previous connection.
    for n in 0..20 {
        after.tell(said(n)).await;
    }
    bob.tell(said(0)).await;
    let mut heard = Vec::new();
    while heard.len() < 21 {
        let message = bob.next_of("message").await;
        heard.push((message["from"].clone(), message["text"].clone()));
    }
    let unique: std::collections::HashSet<_> = heard.iter().map(|(from, text)| format!("{from} {text}")).collect();
    assert_eq!(unique.len(), 21, "{heard:?}");
    bob.say("and nothing more").await;
    assert_eq!(bob.next_of("message").await["text"], "and nothing more");
}

#[tokio::test]
async fn typing_reaches_the_other_members_as_presence() {
    let chat = start();
    let (mut ada, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (mut bob, _) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    bob.tell(r#"{"type":"typing","typing":true}"#).await;
    // Changes close together are one message: bob may be typing in the message of his join.
    let info = loop {
        let diff = ada.next_of("presence.diff").await;
        let users = ["joined", "updated"].map(|change| diff[change].as_array().expect("it is a list").clone());
        if let Some(user) = users.concat().iter().find(|user| user["info"]["typing"] == true) {
            break user["info"].clone();
        }
    };
    assert_eq!(info, json!({"name": "Bob", "typing": true}));
}

#[tokio::test]
async fn a_malformed_message_gets_an_error_and_the_connection_stays_open() {
    let chat = start();
    let (mut ada, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let deep = format!(r#"{{"type":"say","text":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let long = json!({"type": "say", "text": "x".repeat(8001)}).to_string();
    for bad in
        ["{", "[1]", "3", "", r#"{"type":"shout"}"#, r#"{"type":"say"}"#, r#"{"type":"say","text":7}"#, &deep, &long]
    {
        ada.tell(bad).await;
        let reply = ada.next_of("error").await;
        let says = |what| reply["error"].as_str().is_some_and(|error| error.contains(what));
        assert!(says("message is not the JSON asked for"), "{reply}");
    }
    ada.tell(vec![1, 2]).await;
    assert_eq!(ada.next_of("error").await["error"], "message is binary, text was asked for");
    ada.say("still here").await;
    assert_eq!(ada.next_of("message").await["text"], "still here");
}

#[tokio::test]
async fn names_rooms_and_keys_are_checked_before_the_upgrade() {
    let chat = start();
    let (good, long) = (key("ada"), "x".repeat(65));
    let cases = [
        ("lobby", "", &*good, "a name has 1 to 64 characters"),
        ("lobby", &long, &good, "a name has 1 to 64 characters"),
        (&long, "Ada", &good, "a room has 1 to 64 characters"),
        ("..", "Ada", &good, "and not dots alone"),
        ("lobby", "...", &good, "and not dots alone"),
        ("lobby", "Ada", "", "offer the subprotocols bearer and a random key"),
        ("lobby", "Ada", "short", "offer the subprotocols bearer and a random key"),
    ];
    for (room, name, key, says) in cases {
        let error = try_join(&chat, room, name, key).await.expect_err("it is refused");
        let tungstenite::Error::Http(response) = error else { panic!("{error} is not an answer") };
        assert_eq!(response.status(), 400);
        let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
        assert!(body.contains(says), "{body:?}");
    }
    let wide = "%C3%A4".repeat(64);
    let (_, told) = Client::join(&chat, &wide, &wide, &good).await;
    assert_eq!(told[0]["group"], json!("ä".repeat(64)));
}

#[tokio::test]
async fn a_message_above_64_kib_closes_its_sender_alone() {
    let chat = start();
    let (mut ada, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (mut bob, _) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    bob.tell("x".repeat((64 << 10) + 1)).await;
    let close = loop {
        match bob.next_message().await {
            Some(Message::Close(Some(close))) => break close,
            Some(_) => {}
            None => panic!("a close is due"),
        }
    };
    assert_eq!(u16::from(close.code), 1009);
    ada.say("still here").await;
    assert_eq!(ada.next_of("message").await["text"], "still here");
}

#[test]
fn the_page_is_served_under_a_policy_without_unsafe() {
    let chat = start();
    for path in ["/", "/page.js", "/page.css", "/start.js", "/start.css", "/fanfare.js"] {
        let page = chat.ask("GET", path, None, None);
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy").expect("there is a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!page.text().to_lowercase().contains("innerhtml"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn an_ordinary_request_to_the_socket_gets_a_426_with_the_fix() {
    let answer = start().ask("GET", "/chat/lobby?name=Ada", None, None);
    assert_eq!(answer.status, 426, "{answer:?}");
    assert!(answer.text().contains("websocket client"), "{answer:?}");
}

fn command(port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
    command.env("PORT", port).env_remove("HOST");
    command
}

#[test]
fn a_busy_port_gives_one_line_with_the_port_and_the_fix() {
    let chat = start();
    let (_, port) = chat.address().rsplit_once(':').expect("an address has a port");
    let (status, said) = run_to_end(&mut command(port));
    assert_eq!(status.code(), Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("port {port} is in use")) && said.contains("PORT="), "{said}");
}

#[test]
fn a_bad_port_or_host_is_named() {
    let (status, said) = run_to_end(&mut command("many"));
    assert!(!status.success() && said.contains("PORT=many is not a port number"), "{said}");
    let (status, said) = run_to_end(command("0").env("HOST", "nowhere.example"));
    assert!(!status.success() && said.contains("HOST=nowhere.example is not an IP address"), "{said}");
}

#[tokio::test]
async fn ctrl_c_says_goodbye_and_ends_with_0_within_a_second() {
    let mut chat = start();
    let (mut polite, _) = Client::join(&chat, "lobby", "Ada", &key("ada")).await;
    let (silent, _) = Client::join(&chat, "lobby", "Bob", &key("bob")).await;
    let ended = tokio::task::spawn_blocking(move || chat.interrupt());
    let close = loop {
        match polite.next_message().await {
            Some(Message::Close(Some(close))) => break close,
            Some(_) => {}
            None => panic!("a close is due"),
        }
    };
    assert_eq!(u16::from(close.code), 1001);
    let (status, took) = ended.await.expect("it does not panic");
    assert_eq!(status.code(), Some(0));
    assert!(took.as_millis() < 1000, "{took:?}");
    drop(silent);
}
