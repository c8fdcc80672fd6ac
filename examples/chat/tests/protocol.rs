//! The chat's protocol, spoken by a client that is not ours, to the real program.

#![allow(missing_docs, reason = "tests")]

mod support;

use std::io::{Read, Write};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{Chat, DEADLINE, command, run_to_end};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn join(chat: &Chat, room: &str, name: &str) -> Self {
        let (socket, _) = connect_async(url(chat, room, name)).await.expect("the handshake is good");
        let mut client = Self(socket);
        assert_eq!(client.next().await["type"], "welcome");
        client
    }

    async fn next(&mut self) -> Value {
        let message = self.next_message().await.expect("the connection lives");
        serde_json::from_str(message.to_text().expect("replies are text")).expect("replies are JSON")
    }

    async fn next_message(&mut self) -> Option<Message> {
        let next = tokio::time::timeout(DEADLINE, self.0.next()).await.expect("it comes in time");
        next.map(|message| message.expect("the protocol is kept"))
    }

    async fn say(&mut self, message: Message) {
        self.0.send(message).await.expect("the connection lives");
    }
}

fn url(chat: &Chat, room: &str, name: &str) -> String {
    format!("ws://{}/chat/{room}?name={name}", chat.address)
}

fn get(chat: &Chat, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(&chat.address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout is not zero");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", chat.address).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer is text");
    answer
}

#[tokio::test]
async fn a_message_reaches_everyone_in_its_room_and_nobody_else() {
    let chat = Chat::start();
    let mut ada = Client::join(&chat, "lobby", "Ada").await;
    assert_eq!(ada.next().await, json!({"type": "presence", "users": ["Ada"]}));
    let mut bob = Client::join(&chat, "lobby", "Bob").await;
    let both = json!({"type": "presence", "users": ["Ada", "Bob"]});
    assert_eq!((ada.next().await, bob.next().await), (both.clone(), both));
    let mut eve = Client::join(&chat, "cellar", "Eve").await;
    assert_eq!(eve.next().await["users"], json!(["Eve"]));

    ada.say(Message::text(r#"{"text": "hello", "n": [1, null]}"#)).await;
    let said = json!({"type": "message", "room": "lobby", "from": "Ada", "message": {"text": "hello", "n": [1, null]}});
    assert_eq!((ada.next().await, bob.next().await), (said.clone(), said));

    eve.say(Message::text(r#"{"text": "alone"}"#)).await;
    assert_eq!(eve.next().await["message"]["text"], "alone");
    bob.0.close(None).await.expect("the connection lives");
    assert_eq!(ada.next().await, json!({"type": "presence", "users": ["Ada"]}));
}

#[tokio::test]
async fn two_windows_of_one_name_are_one_user() {
    let chat = Chat::start();
    let mut first = Client::join(&chat, "lobby", "Ada").await;
    assert_eq!(first.next().await["users"], json!(["Ada"]));
    let second = Client::join(&chat, "lobby", "Ada").await;
    assert_eq!(first.next().await["users"], json!(["Ada"]));
    drop(second);
    assert_eq!(first.next().await["users"], json!(["Ada"]));
}

#[tokio::test]
async fn what_is_not_a_json_object_gets_an_error_and_the_connection_lives_on() {
    let chat = Chat::start();
    let mut ada = Client::join(&chat, "lobby", "Ada").await;
    ada.next().await;
    for bad in
        [Message::text("{"), Message::text("[1]"), Message::text("3"), Message::text(""), Message::binary(vec![1, 2])]
    {
        ada.say(bad).await;
        let reply = ada.next().await;
        assert_eq!(reply["type"], "error");
        let says = |what| reply["error"].as_str().is_some_and(|error| error.contains(what));
        assert!(says("JSON") || says("text was asked for"), "{reply}");
    }
    ada.say(Message::text(r#"{"text": "still here"}"#)).await;
    assert_eq!(ada.next().await["message"]["text"], "still here");
}

#[tokio::test]
async fn names_and_rooms_have_1_to_64_characters() {
    let chat = Chat::start();
    let long = "x".repeat(65);
    for (room, name) in [("lobby", ""), ("lobby", &*long), (&*long, "Ada")] {
        let error = connect_async(url(&chat, room, name)).await.expect_err("it is refused");
        let tungstenite::Error::Http(response) = error else { panic!("{error} is no answer") };
        assert_eq!(response.status(), 400);
        let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
        assert!(body.contains("1 to 64 characters"), "{body:?}");
    }
    let error = connect_async(format!("ws://{}/chat/lobby", chat.address)).await.expect_err("a name is missing");
    assert!(matches!(error, tungstenite::Error::Http(response) if response.status() == 400));
    let wide = "%C3%A4".repeat(64);
    let mut client = Client::join(&chat, &wide, &wide).await;
    assert_eq!(client.next().await["users"], json!(["ä".repeat(64)]));
}

#[tokio::test]
async fn a_message_above_64_kib_closes_its_sender_alone() {
    let chat = Chat::start();
    let mut ada = Client::join(&chat, "lobby", "Ada").await;
    ada.next().await;
    let mut bob = Client::join(&chat, "lobby", "Bob").await;
    ada.next().await;
    bob.next().await;
    bob.say(Message::text("x".repeat((64 << 10) + 1))).await;
    let Some(Message::Close(Some(close))) = bob.next_message().await else { panic!("a close is due") };
    assert_eq!(u16::from(close.code), 1009);
    assert_eq!(ada.next().await["users"], json!(["Ada"]));
}

#[test]
fn the_page_is_served_under_a_policy_without_unsafe() {
    let page = get(&Chat::start(), "/").to_lowercase();
    assert!(page.starts_with("http/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'; script-src 'sha256-"));
    assert!(!page.contains("unsafe-inline") && !page.contains("innerhtml"));
    assert!(page.contains("x-content-type-options: nosniff"));
}

#[test]
fn an_ordinary_request_to_the_socket_is_told_what_it_is() {
    let answer = get(&Chat::start(), "/chat/lobby?name=Ada");
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains("websocket client"), "{answer}");
}

#[test]
fn a_busy_port_gives_one_line_with_the_port_and_the_fix() {
    let chat = Chat::start();
    let (status, said) = run_to_end(command(&chat.port()));
    assert_eq!(status.code(), Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("port {} is in use", chat.port())) && said.contains("PORT="), "{said}");
}

#[test]
fn a_bad_port_or_host_is_named() {
    let (status, said) = run_to_end(command("many"));
    assert!(!status.success() && said.contains("PORT=many is not a port number"), "{said}");
    let mut elsewhere = command("0");
    elsewhere.env("HOST", "nowhere.example");
    let (status, said) = run_to_end(elsewhere);
    assert!(!status.success() && said.contains("HOST=nowhere.example is not an IP address"), "{said}");
}

#[tokio::test]
async fn ctrl_c_says_goodbye_and_ends_with_0_within_a_second() {
    let chat = Chat::start();
    let mut polite = Client::join(&chat, "lobby", "Ada").await;
    let silent = Client::join(&chat, "lobby", "Bob").await;
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
