//! A text that several users write at once. `cargo run --release -p collab`, then open the printed address in two
//! browsers.
//!
//! What it teaches: a page shows typed text at once, and the server decides the result; a task owns each document, in
//! place of a lock; an edit is on disk before any client gets it, and is made exactly once even if the page repeats it.
//! `document.rs` has the edits, as plain values, and the figures behind the design; `owner.rs` has the tasks,
//! `store.rs` the file.

mod document;
mod owner;
mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use fanfare::channel::{Channel, UserId};
use fanfare::group::ChannelBox;
use fanfare::ws::{Jwt, RateLimit, Upgrade, serve};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::document::{Author, Edit, Splice};
use crate::owner::{Ask, Documents, What};
use crate::store::{Entry, Store};

/// A message from a page.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromClient {
    Edit(Edit),
    Cursor {
        position: u32,
        anchor: u32,
        version: u64,
    },
    Restore {
        version: u64,
    },
    /// Asks for the whole text, because the page has missed a message.
    Reload,
}

/// A message to a page, besides the library's own: see `messages.d.ts`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ToClient {
    Initial {
        content: String,
        version: u64,
        /// The number of the session's last edit; 0 before the first.
        edit: u64,
    },
    Applied {
        edit: u64,
        version: u64,
        changes: Vec<Splice>,
    },
    Edit {
        user: UserId,
        session: String,
        changes: Vec<Splice>,
        version: u64,
        /// Unix time, in milliseconds.
        timestamp: u64,
    },
    Refused {
        edit: u64,
        error: String,
    },
    Cursor {
        user: UserId,
        session: String,
        /// `None` when the page is gone.
        position: Option<u32>,
        anchor: u32,
        version: u64,
    },
}

#[derive(Clone)]
struct App {
    channels: ChannelBox,
    documents: Arc<Documents>,
}

const PAGE: start::Page =
    start::Page { html: include_str!("page.html"), script: include_str!("page.js"), style: include_str!("page.css") };
/// The longest message: the longest text, escaped.
const MESSAGE: usize = 512 << 10;
/// The most entries of the history in one answer.
const ENTRIES: usize = 200;
/// How long clients have to answer the close at shutdown.
const FAREWELL: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let data = start::data("collab")?;
    let login = start::Login::open("collab", &data)?;
    let channels = ChannelBox::new();
    let documents = Arc::new(Documents::new(Store::open(&data)?, &channels));
    let (listener, told_to_end) = start::listen("collab", 3003).await?;
    let router = Router::new()
        .route("/collab/{document}", get(collab))
        .route("/collab/{document}/history", get(history))
        .route("/collab/{document}/at/{version}", get(at))
        .with_state(App { channels, documents })
        .merge(PAGE.router())
        .merge(start::script("/text.js", include_str!("text.js")));
    serve(listener, login.protect(router)).shutdown_on(told_to_end).drain_timeout(FAREWELL).await;
    Ok(())
}

#[derive(Deserialize)]
struct Page {
    /// The page's own random id: it identifies a repeated edit.
    session: String,
}

type Refusal = (StatusCode, String);

/// Checks a document's name, which is also the name of its group.
fn check(document: &str) -> Result<(), Refusal> {
    let length = document.chars().count();
    let is_name = document.chars().any(|letter| letter != '.') && !document.chars().any(char::is_control);
    if (1..=64).contains(&length) && document.len() <= 255 && is_name {
        return Ok(());
    }
    let rule = "a document's name has 1 to 64 characters, no control characters, and not dots alone\n";
    Err((StatusCode::BAD_REQUEST, rule.into()))
}

async fn collab(
    upgrade: Upgrade,
    token: Jwt,
    Path(document): Path<String>,
    Query(Page { session }): Query<Page>,
    State(App { channels, documents }): State<App>,
) -> Result<Response, Refusal> {
    check(&document)?;
    if !(1..=64).contains(&session.len()) || !session.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err((StatusCode::BAD_REQUEST, "a session is 1 to 64 letters and digits, chosen at random\n".into()));
    }
    let too_many = || (StatusCode::SERVICE_UNAVAILABLE, "too many documents are open: come back later\n".to_owned());
    let inbox = documents.open(&document).ok_or_else(too_many)?;
    let author = Author { user: token.user().clone(), session };
    let limit = RateLimit::per_second(100, MESSAGE).burst(Duration::from_secs(3));
    let upgrade = upgrade.signed_in(&token).max_message_size(MESSAGE).rate_limit(limit);
    Ok(upgrade.run(async move |channel| talk(channel, &channels, &document, inbox, &author).await))
}

/// One connection, from its first message to its last.
async fn talk(
    mut channel: Channel,
    channels: &ChannelBox,
    document: &str,
    inbox: mpsc::Sender<Ask>,
    author: &Author,
) -> Result<(), fanfare::Error> {
    let membership = channels.join(&channel, document)?;
    let _here = membership.enter(&())?;
    let ask = async |from, what| {
        let (turn, answered) = oneshot::channel();
        inbox.send(Ask { from, author: author.clone(), what, turn }).await?;
        // The sender is dropped after the answer, whatever that is.
        _ = answered.await;
        Ok::<_, fanfare::Error>(())
    };
    // The answer includes every edit before the join; each later edit reaches the page through the group.
    ask(channel.sender(), What::Initial).await?;
    let id = channel.id();
    let cursor = |position, anchor, version| {
        let Author { user, session } = author.clone();
        let cursor = ToClient::Cursor { user, session, position, anchor, version };
        channels.group(document).except(id).ephemeral().send(&cursor)
    };
    while let Some(message) = channels.recv(&mut channel).await.transpose()? {
        match message {
            FromClient::Edit(edit) => ask(channel.sender(), What::Edit(edit)).await?,
            FromClient::Restore { version } => ask(channel.sender(), What::Restore(version)).await?,
            FromClient::Reload => ask(channel.sender(), What::Initial).await?,
            FromClient::Cursor { position, anchor, version } => drop(cursor(Some(position), anchor, version)?),
        }
    }
    cursor(None, 0, 0)?;
    Ok(())
}

#[derive(Deserialize)]
struct Wanted {
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct History {
    entries: Vec<Entry>,
    /// The oldest kept version: the steps before it are merged into one text.
    oldest: u64,
}

/// The authors and times of the edits, latest first.
async fn history(
    _token: Jwt,
    Path(document): Path<String>,
    Query(Wanted { before, limit }): Query<Wanted>,
    State(app): State<App>,
) -> Result<Json<History>, Refusal> {
    check(&document)?;
    let limit = limit.unwrap_or(50).clamp(1, ENTRIES);
    let read = move |store: &Store| store.history(&document, before.unwrap_or(u64::MAX), limit);
    let (entries, oldest) = app.documents.read(read).await.map_err(broken)?;
    Ok(Json(History { entries, oldest }))
}

#[derive(Serialize)]
struct At {
    content: String,
    version: u64,
}

/// The text of an old version.
async fn at(
    _token: Jwt,
    Path((document, version)): Path<(String, u64)>,
    State(app): State<App>,
) -> Result<Json<At>, Refusal> {
    check(&document)?;
    let read = move |store: &Store| Ok(store.load(&document)?.and_then(|document| document.text_at(version)));
    let content = app.documents.read(read).await.map_err(broken)?;
    let content = content.ok_or_else(|| (StatusCode::NOT_FOUND, format!("version {version} is not kept\n")))?;
    Ok(Json(At { content, version }))
}

fn broken(error: fanfare::Error) -> Refusal {
    eprintln!("collab: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, "the document cannot be read\n".into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_samples_are_what_is_sent_and_taken() {
        let samples: Value = serde_json::from_str(include_str!("samples.json")).expect("it is json");
        let samples = |side: &str| samples[side].as_array().expect("each side has samples").clone();
        let user = || UserId::new("ada").expect("a name");
        let session = || "k3v9".to_owned();
        let sent = json!([
            ToClient::Initial { content: "Shopping\n".into(), version: 4, edit: 2 },
            ToClient::Applied { edit: 3, version: 5, changes: vec![Splice(9, 0, "tea".into())] },
            ToClient::Edit {
                user: user(),
                session: session(),
                changes: vec![Splice(0, 8, String::new()), Splice(0, 0, "Errands".into())],
                version: 6,
                timestamp: 1_763_700_000_000,
            },
            ToClient::Refused { edit: 4, error: "there is no version 9: the latest is 6".into() },
            ToClient::Cursor { user: user(), session: session(), position: Some(7), anchor: 0, version: 6 },
            ToClient::Cursor { user: user(), session: session(), position: None, anchor: 0, version: 0 },
        ]);
        assert_eq!(sent.as_array().expect("a list")[..], samples("server")[..6]);
        for sample in samples("client") {
            serde_json::from_value::<FromClient>(sample).expect("it is taken");
        }
    }
}
