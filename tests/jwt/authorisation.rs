//! Who may join, who may send, and that a user who is revoked is out: over real sockets.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{FromRequestParts, Request};
use axum::routing::get;
use axum::{Extension, Router};
use fanfare::channel::{Channel, UserId};
use fanfare::group::{ChannelBox, JoinErrorReason};
use fanfare::ws::jwt::JwtSigner;
use fanfare::ws::{Jwt, JwtVerifier, Upgrade};
use futures_util::SinkExt;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::sockets::{Client, close_code, next, serve_router, soon, tells, told};

const SECRET: &[u8] = b"thirty-two bytes that are secret";

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Asked {
    Join { group: String },
    Say { group: String, text: String },
}

fn verifier() -> JwtVerifier {
    JwtVerifier::hs256(SECRET, "chat").expect("it is long enough")
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("it is one")
}

/// Joins and says what its client asks for, and answers with what became of it.
async fn talk(channels: ChannelBox, mut channel: Channel) -> Result<(), fanfare::Error> {
    let mut memberships = Vec::new();
    let sender = channel.sender();
    while let Some(asked) = channel.recv::<Asked>().await {
        let answer = match asked? {
            Asked::Join { group } => match channels.join(&channel, &group) {
                Ok(membership) => {
                    memberships.push(membership);
                    "joined".to_owned()
                }
                Err(error) => error.to_string(),
            },
            Asked::Say { group, text } => match channels.group_as(&sender, &group) {
                Ok(group) => format!("said to {}", group.send(&text)?.members()),
                Err(denied) => denied.to_string(),
            },
        };
        sender.send_text(answer)?;
    }
    Ok(())
}

async fn serve(channels: &ChannelBox, verifier: JwtVerifier) -> SocketAddr {
    let channels = channels.clone();
    let route = async move |token: Jwt, upgrade: Upgrade| {
        upgrade.signed_in(&token).run(async move |channel| talk(channels, channel).await)
    };
    serve_router(Router::new().route("/", get(route)).layer(Extension(verifier))).await
}

async fn try_connect(address: SocketAddr, name: &str) -> Result<Client, tungstenite::Error> {
    let token = JwtSigner::hs256(SECRET, "chat").unwrap().sign(&user(name), Duration::from_secs(600)).unwrap();
    let mut request = format!("ws://{address}/").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("it is a value"));
    Ok(soon(connect_async(request)).await?.0)
}

async fn connect(address: SocketAddr, name: &str) -> Client {
    try_connect(address, name).await.expect("the token is good")
}

/// Asks for something and returns the answer.
async fn ask(client: &mut Client, asked: serde_json::Value) -> String {
    client.send(Message::text(asked.to_string())).await.expect("it is sent");
    next(client).await.to_text().expect("it is text").to_owned()
}

async fn join(client: &mut Client, group: &str) -> String {
    ask(client, serde_json::json!({ "type": "join", "group": group })).await
}

async fn say(client: &mut Client, group: &str, text: &str) -> String {
    ask(client, serde_json::json!({ "type": "say", "group": group, "text": text })).await
}

/// A user's own group is for that user; the news are for all to hear and for the editor to say.
fn ruled() -> ChannelBox {
    let is = |channel: &fanfare::channel::Sender, name: &str| channel.user().is_some_and(|user| user.as_str() == name);
    ChannelBox::builder()
        .on_join(move |channel, group| group.strip_prefix("own:").is_none_or(|owner| is(channel, owner)))
        .on_send(move |channel, group| group != "news" || is(channel, "editor"))
        .build()
}

#[tokio::test]
async fn only_who_may_joins_a_group_and_hears_it() {
    let channels = ruled();
    let address = serve(&channels, verifier()).await;
    let (mut ada, mut bob) = (connect(address, "ada").await, connect(address, "bob").await);
    assert_eq!(join(&mut ada, "own:ada").await, "joined");
    assert_eq!(join(&mut bob, "own:ada").await, "cannot join group \"own:ada\": not allowed");
    assert_eq!(join(&mut bob, "room").await, "joined", "a refusal ends nothing");
    assert_eq!((channels.member_count("own:ada"), channels.member_count("room")), (1, 1));

    channels.group_send("own:ada", "for ada").unwrap();
    channels.group_send("room", "for all").unwrap();
    assert_eq!(next(&mut ada).await, Message::text("\"for ada\""));
    assert_eq!(next(&mut bob).await, Message::text("\"for all\""));
}

#[tokio::test]
async fn only_who_may_sends_to_a_group() {
    let channels = ruled();
    let address = serve(&channels, verifier()).await;
    let (mut ada, mut editor) = (connect(address, "ada").await, connect(address, "editor").await);
    assert_eq!(join(&mut ada, "news").await, "joined");
    assert_eq!(say(&mut ada, "news", "fake").await, "cannot send to group \"news\": not allowed");
    assert_eq!(say(&mut editor, "news", "true").await, "said to 1");
    assert_eq!(next(&mut ada).await, Message::text("\"true\""), "and nothing before it");
    assert_eq!(say(&mut ada, "room", "hello").await, "said to 0");
}

#[tokio::test]
async fn a_revoked_user_is_out_of_all_groups_and_closed_with_4403_on_every_connection() {
    let channels = ChannelBox::new();
    let address = serve(&channels, verifier()).await;
    let mut mallory = [connect(address, "mallory").await, connect(address, "mallory").await];
    let mut ada = connect(address, "ada").await;
    for group in ["room", "other room"] {
        for client in mallory.iter_mut().chain([&mut ada]) {
            assert_eq!(join(client, group).await, "joined");
        }
    }
    assert_eq!(channels.member_count("room"), 3);

    assert_eq!(channels.revoke(&user("mallory")), 2);
    assert_eq!((channels.member_count("room"), channels.member_count("other room")), (1, 1), "when it returns");
    assert!(channels.channels_of(&user("mallory")).is_empty());
    channels.group_send("room", "without mallory").unwrap();
    assert_eq!(next(&mut ada).await, Message::text("\"without mallory\""));
    for client in &mut mallory {
        let Message::Close(Some(close)) = next(client).await else { panic!("it hears nothing but the close") };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (4403, "user was revoked"));
    }
    assert_eq!(channels.revoke(&user("mallory")), 0);
}

/// Serves a route that waits for its turn twice: after its token was checked, and after its channel has begun.
async fn serve_gated(channels: &ChannelBox) -> (SocketAddr, Gates, tokio::sync::mpsc::UnboundedReceiver<Step>) {
    let gates = Gates { checked: Arc::new(Semaphore::new(0)), begun: Arc::new(Semaphore::new(0)) };
    let (tell, tells) = tells();
    let (ours, channels) = (gates.clone(), channels.clone());
    let route = async move |request: Request| {
        let (mut parts, _body) = request.into_parts();
        let token = <Jwt as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await.expect("it is good");
        tell.send(Step::Checked).expect("the test listens");
        ours.checked.acquire().await.expect("nobody closes it").forget();
        let upgrade = Upgrade::from_request_parts(&mut parts, &()).await.expect("it is a handshake");
        upgrade.signed_in(&token).run(async move |mut channel| {
            tell.send(Step::Begun)?;
            ours.begun.acquire().await.expect("nobody closes it").forget();
            let joined = channels.join(&channel, "room");
            tell.send(Step::Joined(joined.as_ref().err().map(|error| error.reason())))?;
            channel.discard().await;
            Ok(())
        })
    };
    let router = Router::new().route("/", get(route)).layer(Extension(verifier()));
    (serve_router(router).await, gates, tells)
}

#[derive(Clone)]
struct Gates {
    checked: Arc<Semaphore>,
    begun: Arc<Semaphore>,
}

#[derive(Debug, PartialEq)]
enum Step {
    Checked,
    Begun,
    Joined(Option<JoinErrorReason>),
}

#[tokio::test]
async fn a_channel_that_had_begun_when_its_user_was_revoked_does_not_join() {
    let channels = ChannelBox::new();
    let (address, gates, mut tells) = serve_gated(&channels).await;
    gates.checked.add_permits(1);
    let mut client = connect(address, "mallory").await;
    assert_eq!((told(&mut tells).await, told(&mut tells).await), (Step::Checked, Step::Begun));
    assert_eq!(channels.revoke(&user("mallory")), 0, "the box does not know it yet");
    gates.begun.add_permits(1);
    assert_eq!(told(&mut tells).await, Step::Joined(Some(JoinErrorReason::Denied)));
    assert_eq!(close_code(&mut client).await, 4403);
    assert_eq!((channels.member_count("room"), channels.group_count()), (0, 0));
}

#[tokio::test]
async fn a_connection_whose_token_was_checked_before_the_revocation_does_not_join() {
    let channels = ChannelBox::new();
    let (address, gates, mut tells) = serve_gated(&channels).await;
    let connecting = tokio::spawn(connect(address, "mallory"));
    assert_eq!(told(&mut tells).await, Step::Checked);
    channels.revoke(&user("mallory"));
    gates.checked.add_permits(1);
    gates.begun.add_permits(1);
    let mut client = soon(connecting).await.expect("the handshake goes on");
    assert_eq!(told(&mut tells).await, Step::Begun);
    assert_eq!(told(&mut tells).await, Step::Joined(Some(JoinErrorReason::Denied)));
    assert_eq!(close_code(&mut client).await, 4403);
    assert_eq!(channels.member_count("room"), 0);
}

#[tokio::test]
async fn a_revoked_users_old_tokens_open_nothing_where_the_verifier_knows() {
    let channels = ChannelBox::new();
    let revoked: Arc<Mutex<HashSet<String>>> = Arc::default();
    let look = Arc::clone(&revoked);
    let check = move |name: &str| !look.lock().expect("nobody panics with it").contains(name);
    let verifier = verifier().check(move |claims| claims.subject().is_some_and(&check));
    let address = serve(&channels, verifier).await;
    let mut mallory = connect(address, "mallory").await;
    assert_eq!(join(&mut mallory, "room").await, "joined");

    revoked.lock().expect("nobody panics with it").insert("mallory".into());
    assert_eq!(channels.revoke(&user("mallory")), 1);
    assert_eq!(close_code(&mut mallory).await, 4403);
    let refused = try_connect(address, "mallory").await.expect_err("the same token");
    let tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
    assert_eq!(response.status(), 401);
    assert_eq!(join(&mut connect(address, "ada").await, "room").await, "joined");

    // Without a check the user comes back, as is said: the box forgets nobody for good.
    let open = serve(&channels, self::verifier()).await;
    assert_eq!(join(&mut connect(open, "mallory").await, "room").await, "joined");
}
