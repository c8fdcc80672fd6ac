//! A live auction. `cargo run --release -p auction`, then open the printed address in two browsers.
//!
//! What it teaches: a task that owns each lot, in place of a lock; bids that are on disk before they are announced,
//! many in one commit; countdowns that agree on every screen, whatever the device's clock says; notices that wait for
//! users who are away. `lot.rs` has the rules, as plain values; `house.rs` has the tasks, `store.rs` the file.

mod house;
mod lot;
mod message;
mod money;
mod store;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fanfare::channel::{Channel, UserId};
use fanfare::group::ChannelBox;
use fanfare::group::offline::{NotifyError, OfflineOptions, RedbStore};
use fanfare::ws::{Jwt, RateLimit, Upgrade, serve};
use fanfare::{Dispatcher, EventError};
use serde::Deserialize;
use serde_json::json;
use start::Problem;
use tokio::sync::mpsc;

use crate::house::{House, NEWS, NOTICE, Offer};
use crate::lot::Lot;
use crate::message::{FromClient, Notice, ToClient};
use crate::money::Cents;
use crate::store::{MOST_OF_ONE, MOST_OPEN, Store};

const PAGE: start::Page =
    start::Page { html: include_str!("page.html"), script: include_str!("page.js"), style: include_str!("page.css") };

/// The group of all connected clients.
const EVERYBODY: &str = "auction";
/// How many notices may wait for a user. Past that the least urgent are dropped first, oldest first. All of them and
/// the list of lots fit into a client's outbox.
const MOST_NOTICES: usize = 300;
/// How long clients have to answer the close at shutdown.
const FAREWELL: Duration = Duration::from_millis(500);

#[derive(Clone)]
struct App {
    channels: ChannelBox,
    house: Arc<House>,
}

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    let data = start::data("auction")?;
    let login = start::Login::open("auction", &data)?;
    let (store, is_new) = Store::open(&data).map_err(Problem::with(&data))?;
    let notices = start::beside(&data, "notices");
    let notices = RedbStore::open(&notices).map_err(Problem::with(&notices))?;
    let (listener, told_to_end) = start::listen("auction", 3004).await?;

    let events = Dispatcher::new();
    let offline = OfflineOptions::default().store(notices).max_messages(MOST_NOTICES);
    let channels = ChannelBox::builder().offline(offline).build();
    listen(&events, &channels)?;
    let (broken, mut breaks) = mpsc::channel(1);
    let house = House::open(&events, store, broken)?;
    if is_new {
        for (title, opening, minutes) in DEMO {
            let opening = Cents::new(opening).ok_or("a demo lot has no price")?;
            let wanted = Wanted { title: title.into(), opening, closes_in: minutes * 60, soft_close: soft_close() };
            house.add(wanted.lot(None, house.now())).await?;
        }
    }

    let app = App { channels: channels.clone(), house };
    let lots = post(open).layer(DefaultBodyLimit::max(4 << 10));
    let router =
        Router::new().route("/auction", get(auction)).route("/lots", lots).with_state(app).merge(PAGE.router());
    let server = serve(listener, login.protect(router)).shutdown_on(told_to_end).drain_timeout(FAREWELL);
    tokio::select! {
        _ = server.into_future() => {}
        Some(error) = breaks.recv() => return Err(error),
    }
    channels.offline().close().await;
    Ok(())
}

/// Registers the listeners.
fn listen(events: &Dispatcher, channels: &ChannelBox) -> Result<(), EventError> {
    let everybody = channels.clone();
    events.on(NEWS, move |news| everybody.group_send(EVERYBODY, news).map(drop))?;
    events.on(NEWS, |news| {
        if let ToClient::Closed { lot, winner: Some(user), amount: Some(amount) } = news {
            eprintln!("auction: lot {lot} goes to {user} for {amount}");
        }
    })?;
    events.on_async_with(NOTICE, channels.clone(), async |channels: ChannelBox, notice: Arc<Notice>| {
        let send = channels.user(&notice.user).idempotency_key(&*notice.key).urgency(notice.urgency);
        match send.send(&notice.news).await {
            // All waiting notices are more urgent. Any other error comes from the disk.
            Err(error @ NotifyError::Full) => eprintln!("auction: a notice to {} is dropped: {error}", notice.user),
            sent => drop(sent?),
        }
        Ok::<_, NotifyError>(())
    })?;
    Ok(())
}

/// The lots of a new file: titles, opening prices in cents, minutes.
const DEMO: [(&str, u64, u64); 3] =
    [("A brass telescope, 1890", 4000, 5), ("Box of vinyl records", 1250, 20), ("The very last teapot", 500, 60)];

/// The body of `POST /lots`: a lot to open.
#[derive(Debug, Deserialize)]
struct Wanted {
    title: String,
    opening: Cents,
    /// In seconds.
    closes_in: u64,
    /// In seconds: see [`Lot::soft_close`].
    #[serde(default = "soft_close")]
    soft_close: u64,
}

fn soft_close() -> u64 {
    10
}

impl Wanted {
    fn check(&self) -> Result<(), &'static str> {
        let Self { title, closes_in, soft_close, .. } = self;
        let is_title = (1..=80).contains(&title.chars().count()) && !title.chars().any(char::is_control);
        if !is_title || title.trim() != title {
            return Err("a title has 1 to 80 characters, no control characters, and no space at either end");
        }
        if !(5..=7 * 24 * 3600).contains(closes_in) {
            return Err("closes_in is 5 to 604800 seconds: a week");
        }
        if !(1..=300).contains(soft_close) {
            return Err("soft_close is 1 to 300 seconds");
        }
        Ok(())
    }

    fn lot(self, seller: Option<UserId>, now: u64) -> Lot {
        let closes = now + self.closes_in * 1000;
        Lot::new(self.title, seller, self.opening, closes, self.soft_close * 1000)
    }
}

async fn open(State(app): State<App>, token: Jwt, wanted: Result<Json<Wanted>, JsonRejection>) -> Response {
    let refused = |status: StatusCode, why: &str| (status, format!("{why}\n")).into_response();
    let wanted = match wanted {
        Ok(Json(wanted)) => wanted,
        Err(error) => {
            let why = format!(r#"a lot is {{"title":"Teapot","opening":1250,"closes_in":600}}: {}"#, error.body_text());
            return refused(StatusCode::BAD_REQUEST, &why);
        }
    };
    if let Err(why) = wanted.check() {
        return refused(StatusCode::BAD_REQUEST, why);
    }
    let lot = wanted.lot(Some(token.user().clone()), app.house.now());
    match app.house.add(lot).await {
        Ok(Some(lot)) => (StatusCode::CREATED, Json(json!({ "lot": lot }))).into_response(),
        Ok(None) => {
            let why = format!(
                "the limit of {MOST_OPEN} open lots, or {MOST_OF_ONE} of one seller, is reached: wait until one closes"
            );
            refused(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
        Err(error) => {
            app.house.fail(error);
            refused(StatusCode::INTERNAL_SERVER_ERROR, "the lot could not be stored")
        }
    }
}

async fn auction(upgrade: Upgrade, token: Jwt, State(app): State<App>) -> Response {
    let limit = RateLimit::per_second(20, 16 << 10).burst(Duration::from_secs(3));
    let upgrade = upgrade.signed_in(&token).max_message_size(4 << 10).rate_limit(limit);
    upgrade.run(async move |channel| talk(channel, &app, token.user()).await)
}

/// One connection, from its first message to its last.
async fn talk(mut channel: Channel, app: &App, user: &UserId) -> Result<(), fanfare::Error> {
    let App { channels, house } = app;
    let mut board = house.board();
    // The board cannot change while it is borrowed: news after that is newer.
    channel.send(&house.lots(&board.borrow_and_update(), user))?;
    let _membership = channels.join(&channel, EVERYBODY)?;
    // A second list covers changes between the first one and the join. The group sends later changes.
    if board.has_changed()? {
        channel.send(&house.lots(&board.borrow(), user))?;
    }
    let _attached = channels.offline().attach(&channel).await?;
    while let Some(message) = channels.recv(&mut channel).await.transpose()? {
        match message {
            FromClient::Bid { lot, id, amount } => {
                let (from, user, at) = (channel.sender(), user.clone(), house.now());
                house.bid(Offer { from, user, lot, id, amount, at }).await;
            }
            FromClient::Time { sent } => channel.send(&ToClient::Time { sent, now: house.now() })?,
        }
    }
    Ok(())
}
