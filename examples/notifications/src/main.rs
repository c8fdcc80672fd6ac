//! Notifications that wait for each user, connected or not, until they are read.
//!
//! `cargo run --release -p notifications`, then open the printed address in two browsers.
//!
//! What it teaches: a route that only emits; listeners by priority, which do the work and whose failures are in the
//! answer; offline queues in a file, which survive a kill and drop the least urgent first; and a group of all connected
//! clients, with a history and presence.

mod listeners;
mod messages;
mod people;

use std::fmt::Display;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fanfare::channel::Channel;
use fanfare::group::offline::{OfflineOptions, RedbStore};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Recover, Since};
use fanfare::ws::handshake::HandshakeError;
use fanfare::ws::{Jwt, RateLimit, Upgrade, serve};
use fanfare::{Dispatcher, Key};
use futures_util::future::try_join_all;
use start::{Login, Page, Problem};

use crate::messages::{Created, FromClient, Notify, Outcome, Unread};
use crate::people::People;

/// A user sends a notification. The listeners are in `listeners`, by priority.
const CREATED: Key<Created> = Key::new("notification.created");
/// The group of all connected clients. Its history is the audit; its presence lists the users.
const EVERYBODY: &str = "everybody";

/// How many notifications may wait for one user. Past that the least urgent are dropped first, oldest first.
const WAITING: usize = 100;
/// How many messages the audit keeps.
const AUDITED: usize = 100;
/// The most users that may ever sign in.
const PEOPLE: u64 = 1000;

const PAGE: Page =
    Page { html: include_str!("page.html"), script: include_str!("page.js"), style: include_str!("page.css") };

#[derive(Clone)]
struct App {
    events: Dispatcher,
    channels: ChannelBox,
    people: People,
}

/// A route's answer to a request that it refuses or cannot complete.
type Refusal = (StatusCode, String);

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let data = start::data("notifications")?;
    let login = Login::open("notifications", &data)?;
    let store = RedbStore::open(&data).map_err(Problem::with(&data))?;
    let list = start::beside(&data, "people");
    let people = People::open(&list, PEOPLE).map_err(Problem::with(&list))?;
    let events = Dispatcher::new();
    let channels = ChannelBox::builder()
        .events(&events)
        .offline(OfflineOptions::default().max_messages(WAITING).store(store))
        .groups(|_| GroupOptions::default().history(HistoryLimits::default().max_messages(AUDITED)))
        .build();
    let app = App { events, channels: channels.clone(), people };
    listeners::register(&app)?;

    let routes = Router::new()
        .route("/notify", post(notify).layer(DefaultBodyLimit::max(8 << 10)))
        .route("/notifications", get(notifications))
        .route_layer(middleware::from_fn_with_state(app.clone(), remember))
        .with_state(app);
    let router = login.protect(routes.merge(PAGE.router()));
    let (listener, told_to_end) = start::listen("notifications", 3001).await?;
    serve(listener, router).shutdown_on(told_to_end).drain_timeout(Duration::from_millis(500)).await;
    channels.offline().close().await;
    Ok(())
}

/// Adds the user of a valid token to the list of users, which notifications to everyone go to.
async fn remember(token: Jwt, State(app): State<App>, request: Request, next: Next) -> Result<Response, Refusal> {
    match app.people.meet(token.user()).await.map_err(failed)? {
        true => Ok(next.run(request).await),
        false => Err((StatusCode::SERVICE_UNAVAILABLE, format!("the limit of {PEOPLE} users is reached\n"))),
    }
}

/// Notifies one user or everyone: emits the event, and answers with its outcome.
async fn notify(
    token: Jwt,
    State(app): State<App>,
    asked: Result<Json<Notify>, JsonRejection>,
) -> Result<Json<Outcome>, Refusal> {
    let Json(asked) = asked.map_err(|error| match error.status() {
        StatusCode::UNPROCESSABLE_ENTITY => (StatusCode::BAD_REQUEST, format!("{}\n", error.body_text())),
        status => (status, format!("{}\n", error.body_text())),
    })?;
    let created = Created::new(token.user(), asked);
    let outcome = created.outcome.clone();
    // A task of its own: if the client hangs up, the remaining listeners still run.
    let emitted = tokio::spawn(async move { app.events.emit_async(CREATED, &created).await });
    let report = emitted.await.map_err(failed)?.map_err(failed)?;
    match (report.failures(), outcome.get()) {
        ([], Some(outcome)) => Ok(Json(outcome.clone())),
        ([], None) => Err(failed("no listener has sent it")),
        (failures, _) => Err(failed(failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))),
    }
}

/// A WebSocket; or, by plain HTTP, the waiting notifications, with `?unread` only their number.
async fn notifications(
    token: Jwt,
    upgrade: Result<Upgrade, HandshakeError>,
    recover: Recover,
    RawQuery(query): RawQuery,
    State(app): State<App>,
) -> Result<Response, Refusal> {
    let user = app.channels.user(token.user());
    match upgrade {
        Ok(upgrade) => Ok(upgrade
            .signed_in(&token)
            .max_message_size(16 << 10)
            .rate_limit(RateLimit::per_second(50, 64 << 10))
            .run(async move |channel| attend(channel, &app, &recover).await)),
        Err(HandshakeError::NoUpgrade) if query.as_deref() == Some("unread") => {
            Ok(Json(Unread { unread: user.unread().await.map_err(failed)? }).into_response())
        }
        Err(HandshakeError::NoUpgrade) => Ok(Json(user.pending().await.map_err(failed)?).into_response()),
        Err(error) => Ok(error.into_response()),
    }
}

/// One connection: sends the audit, the presence and the waiting notifications, then reads until the end.
async fn attend(mut channel: Channel, app: &App, recover: &Recover) -> Result<(), fanfare::Error> {
    let since = Since::missed(recover.position(EVERYBODY), AUDITED);
    let (membership, _) = app.channels.group(EVERYBODY).join_since(&channel, since)?;
    let _here = membership.enter(&())?;
    let attached = app.channels.offline().attach(&channel).await?;
    let user = attached.user();
    // `recv` handles each `ack` itself, and sends `acked` to the user's other connections.
    while let Some(FromClient::ReadUpTo { notification_id }) = app.channels.recv(&mut channel).await.transpose()? {
        let waiting = user.pending().await?;
        let read = waiting.iter().filter(|one| one.id() <= notification_id);
        try_join_all(read.map(|one| user.ack(one.id()))).await?;
    }
    Ok(())
}

fn failed(why: impl Display) -> Refusal {
    eprintln!("notifications: {why}");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n"))
}
