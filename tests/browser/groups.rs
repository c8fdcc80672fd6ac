//! The whole protocol in real browsers, against a real server: presence, notifications, histories and tokens. No frame
//! here is written by a test.

use std::collections::HashSet;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::channel::{Channel, CloseCode, UserId};
use fanfare::group::offline::{OfflineOptions, RedbStore, Sent};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Recover, Since};
use fanfare::ws::jwt::JwtSigner;
use fanfare::ws::{CLIENT_JS, Jwt, JwtVerifier, ShutdownReport, Upgrade, serve};
use serde::Deserialize;
use serde_json::{Value, json};
use stage::{Driver, Tab};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough that no test passes because of a wait that was over.
const HOUR: Duration = Duration::from_secs(3600);

const ROOM: &str = "room";
const SECRET: &[u8] = b"thirty-two bytes that are secret";

const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'";

const PAGE: &str = r#"<!doctype html><title>room</title><h1 id="state"></h1><h2>here</h2><ul id="here"></ul>
<h2 id="unread"></h2><ul id="heard"></ul><script type="module" src="/page.js"></script>"#;

/// Shows and writes down all that happens, where a test can read it.
const PAGE_JS: &str = r#"
import { connect } from "/fanfare.js";
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const fill = (id, lines) => document.getElementById(id).replaceChildren(...lines.map((line) => {
  const item = document.createElement("li");
  item.textContent = line;
  return item;
}));
const show = () => {
  document.getElementById("state").textContent = connection.state;
  document.getElementById("unread").textContent = `${connection.unread} unread`;
  fill("here", seen().users?.map((user) => JSON.stringify(user)) ?? []);
  fill("heard", heard.slice(-8).map((entry) => JSON.stringify(entry)));
};
window.fresh = async (user) => {
  const answer = await fetch(`/token/${user}`);
  if (!answer.ok) throw new Error(`there is no token: ${answer.status}`);
  return answer.text();
};
const begin = ({ user, ...options }) => {
  window.heard = [];
  window.changes = [];
  window.states = [];
  window.asked = [];
  const token = ({ code }) => { asked.push(code); return fresh(user); };
  window.connection = connect("/room", { backoff: { base: 20, cap: 200 }, token, ...options });
  for (const type of ["message", "joined", "gap", "notification", "unread", "acked", "error"]) {
    connection.on(type, (value) => { heard.push([type, value]); show(); });
  }
  connection.on("presence", (view, change) => { changes.push(change); show(); });
  connection.onState((state, detail) => { states.push({ state, ...detail }); show(); });
};
// Not at once: what WebDriver runs itself is spared by the policy.
window.start = (options) => void setTimeout(begin, 0, options);
window.seen = () => {
  const view = window.connection?.presence("room");
  if (!view?.live || !view.complete) return {};
  const users = [...view.users].map(([user, { info, connections, since }]) => ({ user, info, connections, since }));
  return { count: view.count, users: users.sort((a, b) => (a.user < b.user ? -1 : 1)) };
};
window.heardOf = (...types) => heard.filter(([type]) => types.includes(type)).map(([, value]) => value);
window.ready = true;
"#;

/// What the application's pages send besides what the protocol has.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum FromPage {
    Move { cursor: u64 },
    Say { text: String },
}

#[derive(Clone)]
struct App {
    channels: ChannelBox,
    verifier: JwtVerifier,
    /// How long the tokens live that are made from now on.
    lifetime: Arc<Mutex<Duration>>,
    revoked: Arc<Mutex<HashSet<String>>>,
    /// Connections that were let in.
    opened: Arc<AtomicUsize>,
}

impl App {
    fn new(settings: &Settings) -> Self {
        let options = GroupOptions::default().history(HistoryLimits::default()).presence_grace(settings.grace);
        let mut channels = ChannelBox::builder().groups(move |_| options);
        if let Some(file) = &settings.file {
            let store = RedbStore::open(file).expect("nobody else has the file");
            channels = channels.offline(OfflineOptions::default().store(store));
        }
        let revoked: Arc<Mutex<HashSet<String>>> = Arc::default();
        let look = Arc::clone(&revoked);
        let is_revoked = move |user: &str| look.lock().expect("nobody panics with it").contains(user);
        let verifier = JwtVerifier::hs256(SECRET, "room").expect("the secret is long enough");
        let verifier = verifier.leeway(Duration::ZERO).check(move |claims| !claims.subject().is_none_or(&is_revoked));
        let (lifetime, opened) = (Arc::new(Mutex::new(HOUR)), Arc::default());
        Self { channels: channels.build(), verifier, lifetime, revoked, opened }
    }

    fn router(self) -> Router {
        let script = |text: &'static str| get(async move || ([(header::CONTENT_TYPE, "text/javascript")], text));
        Router::new()
            .route("/", get(async || ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE))))
            .route("/page.js", script(PAGE_JS))
            .route("/fanfare.js", script(CLIENT_JS))
            .route("/token/{user}", get(token))
            .route("/me", get(async |token: Jwt| token.user().to_string()))
            .route("/room", get(room))
            .layer(Extension(self.verifier.clone()))
            .with_state(self)
    }

    /// What a connection does, from its beginning to its end.
    async fn talk(self, mut channel: Channel, seen: Option<Position>) -> Result<(), fanfare::Error> {
        self.opened.fetch_add(1, SeqCst);
        let (membership, _) = self.channels.group(ROOM).join_since(&channel, Since::missed(seen, 5))?;
        let here = membership.enter(&json!({"cursor": 0}))?;
        let _attachment = self.channels.offline().attach(&channel).await?;
        let sender = channel.sender();
        while let Some(message) = self.channels.recv(&mut channel).await.transpose()? {
            match message {
                FromPage::Move { cursor } => here.update(&json!({"cursor": cursor}))?,
                FromPage::Say { text } => {
                    let said = json!({"type": "said", "by": channel.user(), "text": text});
                    self.channels.group(ROOM).send_as(&sender)?.send(&said)?;
                }
            }
        }
        Ok(())
    }
}

async fn room(token: Jwt, upgrade: Upgrade, recover: Recover, State(app): State<App>) -> Response {
    upgrade.signed_in(&token).run(async move |channel| app.talk(channel, recover.position(ROOM)).await)
}

/// Whoever asks is believed: this is about what comes after that.
async fn token(Path(user): Path<String>, State(app): State<App>) -> String {
    sign(SECRET, &user, *app.lifetime.lock().expect("nobody panics with it"))
}

fn sign(secret: &[u8], user: &str, lifetime: Duration) -> String {
    let signer = JwtSigner::hs256(secret, "room").expect("the secret is long enough");
    signer.sign(&user_id(user), lifetime).expect("it is json")
}

fn user_id(user: &str) -> UserId {
    UserId::new(user).expect("the id is good")
}

#[derive(Clone)]
struct Settings {
    address: SocketAddr,
    grace: Duration,
    /// Where the offline queues are; in memory if nowhere.
    file: Option<PathBuf>,
}

/// A server of one page and its socket.
struct Site {
    runtime: Runtime,
    app: App,
    settings: Settings,
    stop: oneshot::Sender<()>,
    server: JoinHandle<ShutdownReport>,
}

impl Site {
    fn start(grace: Duration, file: Option<PathBuf>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::begin(Settings { address, grace, file })
    }

    fn begin(mut settings: Settings) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let listener = runtime.block_on(TcpListener::bind(settings.address)).expect("the port is free");
        settings.address = listener.local_addr().expect("it is bound");
        let app = App::new(&settings);
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, app.clone().router()).shutdown_on(async { drop(stopped.await) });
        let server = runtime.spawn(server.into_future());
        Self { runtime, app, settings, stop, server }
    }

    /// Ends in order, as a deployment does.
    fn shut_down(self) -> Settings {
        let _ = self.stop.send(());
        let drained = self.runtime.block_on(self.server).expect("the server ends");
        assert_eq!(drained.cut, 0);
        self.runtime.block_on(self.app.channels.offline().close());
        self.settings
    }

    /// Opens the page in the tab's window and connects.
    fn visit(&self, tab: &Tab<'_>, options: &Value) {
        tab.open(&format!("http://{}/", self.settings.address));
        tab.wait_for("return window.ready === true");
        tab.run(&format!("start({options})"));
    }

    fn notify(&self, user: &str, payload: &str) -> Sent {
        let user = self.app.channels.user(&user_id(user));
        self.runtime.block_on(user.send(payload)).expect("there is room")
    }

    fn unread(&self, user: &str) -> usize {
        self.runtime.block_on(self.app.channels.user(&user_id(user)).unread()).expect("the store works")
    }

    fn set_lifetime(&self, lifetime: Duration) {
        *self.app.lifetime.lock().expect("nobody panics with it") = lifetime;
    }

    fn opened(&self) -> usize {
        self.app.opened.load(SeqCst)
    }

    /// Who is present, as a page tells it.
    fn present(&self) -> Value {
        let mut users = self.app.channels.group(ROOM).presence().users();
        users.sort_by(|a, b| a.id().cmp(b.id()));
        let users = users.iter().map(|user| {
            let since = user.since().duration_since(UNIX_EPOCH).expect("it is later").as_millis();
            let info: Value = user.info().expect("it is json");
            json!({"user": user.id(), "info": info, "connections": user.connections(), "since": since as u64})
        });
        let users: Vec<_> = users.collect();
        json!({"count": users.len(), "users": users})
    }

    fn wait_for_no_channel_of(&self, user: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.app.channels.user(&user_id(user)).channels().is_empty() {
            assert!(Instant::now() < until, "it does not end");
            thread::yield_now();
        }
    }

    /// Waits until these are present, with their cursors and connections, and every one of the pages says so.
    fn agree(&self, expected: &[(&str, u64, u64)], pages: &[(&Tab<'_>, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(user, cursor, times)| json!([user, cursor, times])).collect();
        let of = |user: &Value| json!([user["user"], user["info"]["cursor"], user["connections"]]);
        let until = Instant::now() + DEADLINE;
        loop {
            let present = self.present();
            let users: Vec<_> = present["users"].as_array().expect("it is a list").iter().map(of).collect();
            let seen = pages.iter().map(|(tab, window)| {
                tab.switch_to(window);
                tab.run("return seen()")
            });
            let seen: Vec<_> = seen.collect();
            if users == expected && seen.iter().all(|seen| *seen == present) {
                return;
            }
            assert!(Instant::now() < until, "expected {expected:?}\nserver {present}\npages {seen:#?}");
        }
    }
}

/// Says numbers to the room, one after the other, until it is dropped.
struct Ticker {
    over: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(site: &Site) -> Self {
        let (over, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, told) = (Arc::clone(&over), Arc::clone(&last));
        let (channels, runtime) = (site.app.channels.clone(), site.runtime.handle().clone());
        let tick = move || {
            let _inside = runtime.enter();
            for n in 1.. {
                if stop.load(SeqCst) {
                    break;
                }
                let report = channels.group_send(ROOM, &json!({"n": n})).expect("it is json");
                assert!(report.is_accepted());
                told.store(n, SeqCst);
                thread::sleep(Duration::from_millis(2));
            }
        };
        Self { over, last, thread: Some(thread::spawn(tick)) }
    }

    /// Waits for some more of them.
    fn more(&self) {
        let (enough, until) = (self.last.load(SeqCst) + 20, Instant::now() + DEADLINE);
        while self.last.load(SeqCst) < enough {
            assert!(Instant::now() < until, "it has ended");
            thread::yield_now();
        }
    }

    /// Ends, and returns the last number.
    fn stop(mut self) -> u64 {
        self.over.store(true, SeqCst);
        self.thread.take().expect("it has not ended").join().expect("it does not panic");
        self.last.load(SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

fn wait_for_state(tab: &Tab<'_>, state: &str) {
    tab.wait_for(&format!("return window.connection?.state === '{state}'"));
}

/// Waits until the page has heard the last of some numbers, and looks that it has heard all and each once.
fn expect_numbers(tab: &Tab<'_>, last: u64) {
    tab.wait_for(&format!("return heardOf('message').some(({{ n }}) => n === {last})"));
    let numbers = tab.run("return heardOf('message').map(({ n }) => n)");
    let numbers: Vec<u64> = serde_json::from_value(numbers).expect("they are numbers");
    assert_eq!(numbers, (numbers[0]..=last).collect::<Vec<_>>());
    assert_eq!(tab.run("return heardOf('gap')"), json!([]));
}

/// The data of the notifications that the page has heard.
fn wait_for_notifications(tab: &Tab<'_>, window: &str, expected: &[&str]) {
    tab.switch_to(window);
    let heard = "heardOf('notification').map(({ data }) => data)";
    tab.wait_for(&format!("return JSON.stringify({heard}) === '{}'", json!(expected)));
}

fn wait_for_unread(tab: &Tab<'_>, window: &str, expected: usize) {
    tab.switch_to(window);
    tab.wait_for(&format!("return connection.unread === {expected}"));
}

/// Looks at the policy last of all: nothing of what was done has offended it.
fn expect_no_violation(tab: &Tab<'_>) {
    assert_eq!(tab.run("return violations"), json!([]));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn pages_see_who_is_here_as_the_server_does_and_a_revoked_user_is_out_for_good() {
    let (site, driver) = (Site::start(HOUR, None), Driver::start());
    let (ada, bob) = (driver.tab(800, 600), driver.tab(800, 600));
    let (first, second) = (ada.window(), ada.open_window());
    let at_bob = bob.window();
    ada.switch_to(&first);
    site.visit(&ada, &json!({"user": "ada"}));
    site.agree(&[("ada", 0, 1)], &[(&ada, &first)]);
    site.visit(&bob, &json!({"user": "bob"}));
    site.agree(&[("ada", 0, 1), ("bob", 0, 1)], &[(&ada, &first), (&bob, &at_bob)]);
    ada.switch_to(&second);
    site.visit(&ada, &json!({"user": "ada"}));
    let everywhere = [(&ada, &*first), (&ada, &*second), (&bob, &*at_bob)];
    site.agree(&[("ada", 0, 2), ("bob", 0, 1)], &everywhere);

    // A cursor, from either tab.
    for (window, cursor) in [(&first, 5), (&second, 7), (&first, 6)] {
        ada.switch_to(window);
        ada.run(&format!("connection.send({{ type: 'move', cursor: {cursor} }})"));
        site.agree(&[("ada", cursor, 2), ("bob", 0, 1)], &everywhere);
    }

    // A reload is no leave, and no arrival.
    ada.switch_to(&first);
    ada.run("changes.length = 0");
    let opened = site.opened();
    bob.open("about:blank");
    site.wait_for_no_channel_of("bob");
    ada.run("connection.send({ type: 'move', cursor: 8 })");
    // A frame since then.
    site.agree(&[("ada", 8, 2), ("bob", 0, 1)], &[(&ada, &first), (&ada, &second)]);
    site.visit(&bob, &json!({"user": "bob"}));
    wait_for_state(&bob, "open");
    bob.run("connection.send({ type: 'move', cursor: 9 })");
    site.agree(&[("ada", 8, 2), ("bob", 9, 1)], &everywhere);
    assert_eq!(site.opened(), opened + 1);
    ada.switch_to(&first);
    let told = "return changes.every((change) => change.joined.length + change.left.length === 0)";
    assert_eq!(ada.run(told), json!(true), "{}", ada.run("return changes"));
    if let Some(path) = std::env::var_os("FANFARE_SCREENSHOT") {
        ada.screenshot(path.as_ref());
    }

    // In this order, as `check` says.
    site.app.revoked.lock().expect("nobody panics with it").insert("bob".into());
    assert_eq!(site.app.channels.user(&user_id("bob")).revoke(), 1);
    wait_for_state(&bob, "closed");
    let end = bob.run("return states.at(-1)");
    assert_eq!((&end["code"], &end["reason"]), (&json!(4403), &json!("user was revoked")));
    site.agree(&[("ada", 8, 2)], &[(&ada, &first), (&ada, &second)]);

    // A new page with a new token is not let in, however often it tries.
    let opened = site.opened();
    site.visit(&bob, &json!({"user": "bob"}));
    bob.wait_for("return window.states?.filter(({ state }) => state === 'waiting').length >= 4");
    assert_eq!(bob.run("return states.some(({ state }) => state === 'open')"), json!(false));
    assert_eq!(site.opened(), opened);
    site.agree(&[("ada", 8, 2)], &[(&ada, &first), (&ada, &second)]);
    expect_no_violation(&ada);
    expect_no_violation(&bob);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_page_that_is_left_is_gone_from_the_others_though_the_browser_keeps_it() {
    let (site, driver) = (Site::start(Duration::from_millis(200), None), Driver::start());
    let (ada, bob) = (driver.tab(800, 600), driver.tab(800, 600));
    let window = ada.window();
    site.visit(&ada, &json!({"user": "ada"}));
    site.visit(&bob, &json!({"user": "bob"}));
    let at_bob = bob.window();
    site.agree(&[("ada", 0, 1), ("bob", 0, 1)], &[(&ada, &window), (&bob, &at_bob)]);
    bob.run("window.kept = true");
    bob.open("about:blank");
    site.agree(&[("ada", 0, 1)], &[(&ada, &window)]);
    assert_eq!(ada.run("return changes.filter((change) => change?.left.includes('bob')).length"), json!(1));
    assert!(site.notify("bob", "while you were out").queued, "nobody is there");
    ada.run("connection.send({ type: 'say', text: 'bob?' })");
    ada.wait_for("return heardOf('message').length === 1");

    // On the way back the browser restores the page as it was.
    bob.back();
    site.agree(&[("ada", 0, 1), ("bob", 0, 1)], &[(&ada, &window), (&bob, &at_bob)]);
    assert_eq!(bob.run("return [window.kept, heardOf('joined').at(-1).recovered]"), json!([true, true]));
    bob.wait_for("return heardOf('message').length + heardOf('notification').length === 2");
    expect_no_violation(&bob);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn notifications_wait_for_their_page_and_come_again_until_they_are_acknowledged() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("queues-{}.redb", std::process::id()));
    let (site, driver) = (Site::start(HOUR, Some(file.clone())), Driver::start());
    let mut ids = Vec::new();
    for payload in ["one", "two", "three"] {
        let sent = site.notify("ada", payload);
        assert!(sent.queued, "nobody is there");
        ids.push(sent.id);
    }
    assert!(ids.is_sorted());

    let ada = driver.tab(800, 600);
    let (first, second) = (ada.window(), ada.open_window());
    for window in [&first, &second] {
        ada.switch_to(window);
        site.visit(&ada, &json!({"user": "ada"}));
        wait_for_notifications(&ada, window, &["one", "two", "three"]);
        wait_for_unread(&ada, window, 3);
    }
    let live = site.notify("ada", "four");
    assert!(!live.queued && live.id > ids[2]);
    assert!(site.notify("bob", "not for ada").queued);
    for window in [&first, &second] {
        wait_for_notifications(&ada, window, &["one", "two", "three", "four"]);
        wait_for_unread(&ada, window, 4);
    }

    ada.switch_to(&first);
    ada.run(&format!("connection.ack({})", ids[0]));
    for window in [&first, &second] {
        wait_for_unread(&ada, window, 3);
        let acked = json!([{"type": "acked", "notification_id": ids[0], "unread": 3}]);
        assert_eq!(ada.run("return heardOf('acked')"), acked);
    }
    assert_eq!(site.unread("ada"), 3);

    ada.run("connection.ack(4711)"); // in the second one
    ada.wait_for("return heardOf('error').length === 1");
    let error = json!([{"type": "error", "error": "no such notification waits", "notification_id": 4711}]);
    assert_eq!(ada.run("return heardOf('error')"), error);
    ada.switch_to(&first);
    assert_eq!(ada.run("return [connection.state, heardOf('error').length]"), json!(["open", 0]));

    // The server is away. What is acknowledged meanwhile is told to the next one.
    let settings = site.shut_down();
    for window in [&first, &second] {
        ada.switch_to(window);
        ada.wait_for("return connection.state !== 'open'");
    }
    ada.switch_to(&first);
    ada.run(&format!("connection.ack({})", ids[1]));
    let site = Site::begin(settings);
    for window in [&first, &second] {
        wait_for_unread(&ada, window, 2);
        // It has come again, and was not heard again.
        wait_for_notifications(&ada, window, &["one", "two", "three", "four"]);
    }
    assert_eq!(site.unread("ada"), 2);
    let next = site.notify("ada", "five");
    assert!(!next.queued && next.id > live.id);
    for window in [&first, &second] {
        wait_for_notifications(&ada, window, &["one", "two", "three", "four", "five"]);
        wait_for_unread(&ada, window, 3);
    }

    // A new page knows nothing: what comes is what was not acknowledged.
    site.visit(&ada, &json!({"user": "ada", "autoAck": true}));
    wait_for_notifications(&ada, &second, &["three", "four", "five"]);
    for window in [&second, &first] {
        wait_for_unread(&ada, window, 0);
    }
    assert_eq!(site.unread("ada"), 0);

    let settings = site.shut_down();
    let site = Site::begin(settings);
    ada.switch_to(&second);
    site.visit(&ada, &json!({"user": "ada"}));
    ada.wait_for("return window.heard && heardOf('joined').length === 1");
    site.notify("ada", "six");
    wait_for_notifications(&ada, &second, &["six"]);
    wait_for_unread(&ada, &second, 1);
    expect_no_violation(&ada);
    site.shut_down();
    std::fs::remove_file(file).expect("it was there");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_cut_leaves_neither_gap_nor_copy_while_messages_flow() {
    let (site, driver) = (Site::start(HOUR, None), Driver::start());
    let tab = driver.tab(800, 600);
    site.visit(&tab, &json!({"user": "ada"}));
    wait_for_state(&tab, "open");
    let ticker = Ticker::start(&site);
    let codes = [1001, 1013, 4408, 1011];
    for (cut, code) in codes.into_iter().enumerate() {
        ticker.more();
        assert_eq!(site.app.channels.close_all(CloseCode::new(code), "a cut").count(), 1);
        let opened = "states.filter(({ state }) => state === 'open').length";
        tab.wait_for(&format!("return {opened} === {}", cut + 2));
        tab.wait_for(&format!("return heardOf('joined').length === {}", cut + 2));
    }
    ticker.more();
    expect_numbers(&tab, ticker.stop());
    let recovered = tab.run("return heardOf('joined').slice(1).map(({ recovered }) => recovered)");
    assert_eq!(recovered, json!([true, true, true, true]));
    assert_eq!(
        tab.run("return states.filter(({ state }) => state === 'waiting').map(({ code }) => code)"),
        json!(codes)
    );
    expect_no_violation(&tab);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_restart_is_told_as_a_gap_and_the_room_goes_on() {
    let (site, driver) = (Site::start(HOUR, None), Driver::start());
    let (ada, bob) = (driver.tab(800, 600), driver.tab(800, 600));
    let pages = [(&ada, &*ada.window()), (&bob, &*bob.window())];
    site.visit(&ada, &json!({"user": "ada"}));
    site.visit(&bob, &json!({"user": "bob"}));
    site.agree(&[("ada", 0, 1), ("bob", 0, 1)], &pages);
    ada.run("connection.send({ type: 'say', text: 'hello' })");
    let said = "return heardOf('message').map(({ by, text, offset }) => `${by}: ${text} (${offset})`).join()";
    for tab in [&ada, &bob] {
        tab.wait_for(&format!("{said} === 'ada: hello (1)'", said = said));
    }
    let epoch = ada.run("return heardOf('joined')[0].epoch");

    let site = Site::begin(site.shut_down());
    for tab in [&ada, &bob] {
        tab.wait_for("return heardOf('joined').length === 2 && heardOf('gap').length === 1");
        let [joined, gap] = ["joined", "gap"].map(|type_| tab.run(&format!("return heardOf('{type_}').at(-1)")));
        assert_eq!(joined["recovered"], json!(false));
        assert_ne!(joined["epoch"], epoch);
        assert_eq!(gap["from"], json!({"epoch": epoch, "offset": 1}));
        assert_eq!(gap["to"], json!({"epoch": joined["epoch"], "offset": 0}));
    }
    site.agree(&[("ada", 0, 1), ("bob", 0, 1)], &pages);
    bob.run("connection.send({ type: 'say', text: 'again' })");
    for tab in [&ada, &bob] {
        tab.wait_for(&format!("{said} === 'ada: hello (1),bob: again (1)'", said = said));
        assert_eq!(tab.run("return heardOf('gap').length"), json!(1));
        expect_no_violation(tab);
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_connection_lives_as_long_as_its_token_and_comes_back_with_a_new_one() {
    let (site, driver) = (Site::start(HOUR, None), Driver::start());
    let ada = driver.tab(800, 600);
    let (refreshed, left_alone) = (ada.window(), ada.open_window());
    site.set_lifetime(Duration::from_secs(3));
    for window in [&refreshed, &left_alone] {
        ada.switch_to(window);
        site.visit(&ada, &json!({"user": "ada"}));
        wait_for_state(&ada, "open");
    }
    let ticker = Ticker::start(&site);
    site.set_lifetime(HOUR);
    ada.switch_to(&refreshed);
    let refused = "return connection.refresh('nonsense').then(() => 'taken', ({ message }) => message)";
    assert_eq!(ada.run(refused), json!("token is not a json web token: three parts of base64, joined by dots"));
    let of_bob =
        "return fresh('bob').then((token) => connection.refresh(token)).then(() => 'taken', ({ message }) => message)";
    assert_eq!(ada.run(of_bob), json!("token is of another user"));
    let left =
        ada.run("return fresh('ada').then((token) => connection.refresh(token)).then((end) => end - Date.now())");
    assert!(left.as_f64().is_some_and(|left| left > 3_000_000.0), "{left}");

    ada.switch_to(&left_alone);
    ada.wait_for("return states.length >= 5 && connection.state === 'open'");
    assert_eq!(ada.run("return asked"), json!([null, 4401]));
    let waits = ada.run("return states.filter(({ state }) => state === 'waiting')");
    assert_eq!(waits.as_array().map(Vec::len), Some(1));
    let wait = &waits[0];
    let told = (&wait["code"], &wait["reason"], &wait["delay"]);
    assert_eq!(told, (&json!(4401), &json!("token has expired"), &json!(0)));
    ticker.more();
    let last = ticker.stop();
    expect_numbers(&ada, last);
    assert_eq!(ada.run("return heardOf('joined').map(({ recovered }) => recovered)"), json!([false, true]));

    // The other one's first token has ended, too.
    ada.switch_to(&refreshed);
    expect_numbers(&ada, last);
    assert_eq!(ada.run("return states.map(({ state }) => state)"), json!(["connecting", "open"]));
    ada.run("connection.send({ type: 'say', text: 'still here' })");
    ada.wait_for("return heardOf('message').at(-1).text === 'still here'");
    expect_no_violation(&ada);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_forged_token_opens_nothing() {
    let (site, driver) = (Site::start(HOUR, None), Driver::start());
    let tab = driver.tab(800, 600);
    let good = sign(SECRET, "ada", HOUR);
    let parts: Vec<_> = good.split('.').collect();
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let claims = json!({"sub": "ada", "aud": "room", "iat": 1, "exp": 4_000_000_000_u64});
    let forged = [
        sign(b"thirty-two bytes that are others", "ada", HOUR),
        format!("{}.{}.{}", parts[0], encode(&claims), parts[2]),
        format!("{}.{}.", encode(&json!({"typ": "JWT", "alg": "none"})), encode(&claims)),
        format!("{}.{}.", parts[0], parts[1]),
    ];
    let status = |token: &str| {
        let ask = format!("fetch('/me', {{ headers: {{ authorization: 'Bearer {token}' }} }})");
        tab.run(&format!("return {ask}.then(({{ status }}) => status)"))
    };
    for token in &forged {
        site.visit(&tab, &json!({"token": token}));
        tab.wait_for("return window.states?.filter(({ state }) => state === 'waiting').length >= 3");
        let states = tab.run("return states.map(({ state, code }) => `${state} ${code}`)");
        let states: Vec<_> = states.as_array().expect("it is a list").iter().map(|state| state.as_str()).collect();
        let known = [Some("connecting undefined"), Some("waiting 1006")];
        assert!(states.iter().all(|state| known.contains(state)), "{states:?}");
        assert_eq!(status(token), json!(401));
    }
    assert_eq!(site.opened(), 0);
    site.visit(&tab, &json!({"token": good}));
    wait_for_state(&tab, "open");
    assert_eq!((status(&good), site.opened()), (json!(200), 1));
}
