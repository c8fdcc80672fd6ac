//! A dashboard: the machine, this process and the library, live. `cargo run --release -p dashboard`, then open the
//! printed address in two browsers.
//!
//! One timer takes a reading each second and emits it; a listener frames it once for all viewers. A slow viewer gets
//! the latest of each value instead of a backlog; a hidden page gets nothing. Other programs post their own values;
//! crossing a threshold is an event, too. All data is in memory: a new process starts with an empty board, which
//! viewers get when they reconnect. Only the key of the login is on disk.

mod board;
mod counts;
mod sensors;
mod wall;

#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use fanfare::channel::{Channel, Overflow, UserId};
use fanfare::dispatch::{Failure, FailureCause};
use fanfare::group::{ChannelBox, GroupOptions};
use fanfare::ws::{Jwt, RateLimit, Upgrade, serve};
use fanfare::{Dispatcher, EventError, Key, Priority, Report};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::board::{Alert, Board, Limit, Metric, Refused, Taken, Time};
use crate::counts::Counts;
use crate::sensors::Sensors;
use crate::wall::Wall;

/// The timer has taken a reading, once per second.
const READING: Key<Taken> = Key::new("reading.taken");
/// A value was posted. Any part of the program may emit this; all viewers get it at once.
const POSTED: Key<Metric> = Key::new("metric.posted");
/// A user sets or removes a threshold.
const SET: Key<Set> = Key::new("threshold.set");
/// A metric has crossed its threshold, in one direction or the other: emitted once for each crossing.
const RAISED: Key<Alert> = Key::new("alert.raised");
const CLEARED: Key<Alert> = Key::new("alert.cleared");

/// A request for alerts when a metric is above or below a value; `None` removes the threshold.
#[derive(Deserialize, Serialize)]
struct Threshold {
    metric: String,
    #[serde(flatten)]
    limit: Limit<Option<f64>>,
}

struct Set {
    threshold: Threshold,
    by: UserId,
}

/// A message from a client, besides the library's own requests.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromClient {
    /// The client shows another page.
    Page { page: Page },
    /// The user moves the mouse, or types.
    Active,
    /// The page is hidden: no more updates.
    Pause,
    /// The page is visible again: a new snapshot, then updates.
    Resume,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Page {
    Overview,
    Activity,
    Alerts,
}

/// The presence info of a user. The idle time follows from `active`.
#[derive(Serialize)]
struct Activity {
    page: Page,
    active: Time,
    hidden: bool,
}

/// The group of all connected clients, including hidden pages.
const PEOPLE: &str = "people";

#[derive(Clone)]
struct App {
    events: Dispatcher,
    channels: ChannelBox,
    wall: Wall,
}

#[tokio::main]
async fn main() -> Result<(), fanfare::Error> {
    // Before the first channel; otherwise the gauges would miss some.
    let counts = Counts::default();
    metrics::set_global_recorder(counts.clone())?;
    let login = start::Login::open("dashboard", &start::data("dashboard")?)?;
    let (listener, told_to_end) = start::listen("dashboard", 3002).await?;

    let channels = channels();
    let sensors = Sensors::new(counts, channels.clone());
    let wall = Wall::new(Board::new(sensors.machine()), channels.clone());
    let app = App { events: Dispatcher::new(), channels, wall };
    listen(&app)?;
    let timer = tokio::spawn(take_readings(app.clone(), sensors));

    let router = Router::new()
        .route("/dashboard", get(dashboard))
        .route("/metrics", post(post_metric))
        .route("/threshold", post(set_threshold))
        .layer(DefaultBodyLimit::max(4 << 10));
    let page = start::Page {
        html: include_str!("page.html"),
        script: include_str!("page.js"),
        style: include_str!("page.css"),
    };
    let router = login.protect(router).with_state(app).merge(page.router());
    serve(listener, router).shutdown_on(told_to_end).drain_timeout(Duration::from_millis(500)).await;
    timer.abort();
    Ok(())
}

/// Slow members of all groups skip to the latest value of each key.
fn channels() -> ChannelBox {
    ChannelBox::builder().groups(|_group| GroupOptions::default().overflow(Overflow::Conflate)).build()
}

/// Registers the listeners.
fn listen(app: &App) -> Result<(), EventError> {
    let wall = app.wall.clone();
    app.events.on(READING, move |reading| wall.take(reading))?;
    let wall = app.wall.clone();
    app.events.on(POSTED, move |metric| wall.post(metric))?;
    let wall = app.wall.clone();
    app.events.on(SET, move |set| {
        let limit = match set.threshold.limit {
            Limit::Above(limit) => limit.map(Limit::Above),
            Limit::Below(limit) => limit.map(Limit::Below),
        };
        wall.set(&set.threshold.metric, limit, &set.by)
    })?;

    // Low priority: after the board is updated. Each crossing is emitted once, by the first check that finds it.
    let wall = app.wall.clone();
    let (raised, cleared) = (app.events.event(RAISED)?, app.events.event(CLEARED)?);
    let check = move || {
        for alert in wall.crossed() {
            let event = if alert.raised { &raised } else { &cleared };
            event.emit(&alert);
        }
    };
    let (on_posted, on_set) = (check.clone(), check.clone());
    app.events.listen(READING)?.priority(Priority::LOW).on(move |_| check());
    app.events.listen(POSTED)?.priority(Priority::LOW).on(move |_| on_posted());
    app.events.listen(SET)?.priority(Priority::LOW).on(move |_| on_set());

    for event in [RAISED, CLEARED] {
        let wall = app.wall.clone();
        app.events.on(event, move |alert| wall.note(alert))?;
    }
    app.events.on(RAISED, |alert| eprintln!("dashboard: {} is {}: {:?}", alert.metric, alert.value, alert.limit))?;
    Ok(())
}

/// The one timer, for all viewers. Without viewers and thresholds it takes no readings.
async fn take_readings(app: App, mut sensors: Sensors) -> Result<(), EventError> {
    loop {
        app.wall.needed().await;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            seconds.tick().await;
            if !app.wall.is_needed() {
                break;
            }
            app.events.emit(READING, &Taken { data: sensors.read(), timestamp: Time::now() })?;
        }
    }
}

async fn dashboard(upgrade: Upgrade, token: Jwt, State(app): State<App>) -> Response {
    // Small buffers: messages in the kernel's buffer get old, and cannot be replaced by later ones.
    let upgrade =
        upgrade.max_message_size(1 << 10).rate_limit(RateLimit::per_second(10, 10 << 10)).send_buffer_size(4 << 10);
    upgrade.signed_in(&token).run(async move |channel| look(channel, &app).await)
}

/// One connection, from its first snapshot to its end.
async fn look(mut channel: Channel, app: &App) -> Result<(), fanfare::Error> {
    let mut viewing = Some(app.wall.show(&channel)?);
    let connected = app.channels.join(&channel, PEOPLE)?;
    let mut activity = Activity { page: Page::Overview, active: Time::now(), hidden: false };
    let here = connected.enter(&activity)?;
    while let Some(message) = app.channels.recv(&mut channel).await.transpose()? {
        match message {
            FromClient::Page { page } => activity.page = page,
            FromClient::Active => {}
            FromClient::Pause => viewing = None,
            FromClient::Resume => {
                drop(viewing.take());
                viewing = Some(app.wall.show(&channel)?);
            }
        }
        activity = Activity { active: Time::now(), hidden: viewing.is_none(), ..activity };
        here.update(&activity)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Posted {
    name: String,
    value: f64,
}

type Answer<T> = Result<Json<T>, (StatusCode, String)>;

async fn post_metric(
    token: Jwt,
    State(app): State<App>,
    posted: Result<Json<Posted>, JsonRejection>,
) -> Answer<Metric> {
    let Json(Posted { name, value }) = posted.map_err(|error| bad(r#"{"name":"orders","value":3}"#, &error))?;
    check_name(&name)?;
    if ["machine.", "process.", "library."].iter().any(|own| name.starts_with(own)) {
        return Err(refused(
            StatusCode::CONFLICT,
            format!("{name:?} is the name of a figure that the dashboard measures itself"),
        ));
    }
    let metric = Metric { name, value, by: token.user().clone(), timestamp: Time::now() };
    answer(app.events.emit(POSTED, &metric))?;
    Ok(Json(metric))
}

async fn set_threshold(
    token: Jwt,
    State(app): State<App>,
    asked: Result<Json<Threshold>, JsonRejection>,
) -> Answer<Threshold> {
    let Json(threshold) = asked.map_err(|error| bad(r#"{"metric":"machine.cpu","above":90}"#, &error))?;
    check_name(&threshold.metric)?;
    let set = Set { threshold, by: token.user().clone() };
    answer(app.events.emit(SET, &set))?;
    Ok(Json(set.threshold))
}

fn check_name(name: &str) -> Result<(), (StatusCode, String)> {
    if (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control) && name.trim() == name {
        return Ok(());
    }
    let rule = "a metric's name has 1 to 64 characters, no control characters, and no space at either end";
    Err(refused(StatusCode::BAD_REQUEST, rule.into()))
}

/// Returns the first failure of an event's listeners as an answer to the request.
fn answer(emitted: Result<Report, EventError>) -> Result<(), (StatusCode, String)> {
    let report = emitted.map_err(|error| refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    match report.failures().first().map(Failure::cause) {
        None => Ok(()),
        Some(FailureCause::Error(error)) if error.is::<Refused>() => {
            Err(refused(StatusCode::CONFLICT, error.to_string()))
        }
        Some(cause) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string())),
    }
}

fn bad(example: &str, error: &JsonRejection) -> (StatusCode, String) {
    refused(error.status(), format!("the body looks like {example}: {}", error.body_text()))
}

fn refused(status: StatusCode, why: String) -> (StatusCode, String) {
    (status, why + "\n")
}
