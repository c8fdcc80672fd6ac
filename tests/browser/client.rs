//! The client for browsers, in a real one, against a real server whose channels the tests play by hand.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use fanfare::channel::{Channel, CloseCode, Message};
use fanfare::group::{ChannelBox, GroupOptions, HistoryLimits, Position, Recover, Request, Since};
use fanfare::ws::{CLIENT_JS, ShutdownReport, Upgrade, serve};
use serde_json::{Value, json};
use stage::{Driver, Tab};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough that no test passes because of a wait that was over.
const HOUR: u32 = 3_600_000;

const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'";

const PAGE: &str = r#"<!doctype html><title>test</title><script type="module" src="/page.js"></script>"#;

/// Writes down all that happens, where a test can read it.
const PAGE_JS: &str = r#"
import { connect } from "/fanfare.js";
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const begin = (options) => {
  window.asked = [];
  const token = ({ code }) => `token-${asked.push(code)}`;
  window.heard = [];
  window.states = [];
  window.connection = connect("/ws", { backoff: { base: 20, cap: 200 }, ...options, token });
  const events = ["message", "binary", "joined", "gap", "presence", "notification", "unread", "acked", "error"];
  for (const type of events) connection.on(type, (value) => heard.push([type, value]));
  connection.onState((state, detail) => states.push({ state, ...detail }));
};
// Not at once: what WebDriver runs itself is spared by the policy.
window.start = (options = {}) => void setTimeout(begin, 0, options);
const sorted = (key, value) => value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value;
window.canonical = (value) => JSON.stringify(value, sorted);
window.ready = true;
"#;

/// A server of one page and its socket.
struct Site {
    runtime: Runtime,
    address: SocketAddr,
    arrivals: Receiver<Peer>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<ShutdownReport>,
}

/// A page that has connected.
struct Peer {
    channel: Channel,
    offered: String,
    recover: Recover,
    runtime: tokio::runtime::Handle,
}

impl Site {
    fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("it is an address"))
    }

    fn start_at(address: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("there are threads");
        let (arrive, arrivals) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let listener = runtime.block_on(TcpListener::bind(address)).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let script = |text: &'static str| get(async move || ([(header::CONTENT_TYPE, "text/javascript")], text));
        let router = Router::new()
            .route("/", get(async || ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE))))
            .route("/page.js", script(PAGE_JS))
            .route("/fanfare.js", script(CLIENT_JS))
            .route("/ws", get(socket))
            .with_state(arrive);
        let server = serve(listener, router).shutdown_on(async { drop(stopped.await) });
        let server = runtime.spawn(server.into_future());
        Self { runtime, address, arrivals, stop, server }
    }

    /// The next page that connects.
    fn arrived(&self) -> Peer {
        self.arrivals.recv_timeout(DEADLINE).expect("a page connects in time")
    }

    /// Opens the page and connects.
    fn visit<'d>(&self, driver: &'d Driver, options: &Value) -> (Tab<'d>, Peer) {
        let tab = driver.tab(800, 600);
        tab.open(&format!("http://{}/", self.address));
        tab.wait_for("return window.ready === true");
        tab.run(&format!("start({options})"));
        (tab, self.arrived())
    }

    /// Ends in order.
    fn shut_down(self) {
        let _ = self.stop.send(());
        self.runtime.block_on(self.server).expect("the server ends");
    }

    /// Ends at once, as a process that is killed.
    fn kill(self) {
        self.server.abort();
        let ended = self.runtime.block_on(self.server);
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }
}

async fn socket(
    upgrade: Upgrade,
    State(arrive): State<mpsc::Sender<Peer>>,
    recover: Recover,
    headers: HeaderMap,
) -> Response {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let offered = offered.unwrap_or_default().to_owned();
    let runtime = tokio::runtime::Handle::current();
    let upgrade = upgrade.protocols(&["bearer"]);
    if upgrade.protocol().is_none() {
        return axum::http::StatusCode::UNAUTHORIZED.into_response();
    }
    // The channel lives as long as the test keeps it.
    upgrade.run(async move |channel| Ok(arrive.send(Peer { channel, offered, recover, runtime })?))
}

impl Peer {
    fn say(&self, message: &Value) {
        self.channel.send(message).expect("the page is there");
    }

    fn close(&self, code: u16) {
        assert!(self.channel.close(CloseCode::new(code), "as the test says"));
    }

    /// What the page sends next.
    fn hear(&mut self) -> Message {
        let next = async { tokio::time::timeout(DEADLINE, self.channel.recv_message()).await };
        self.runtime.block_on(next).expect("it comes in time").expect("the page is there").expect("it is whole")
    }

    fn hear_request(&mut self) -> Request {
        let Message::Text(text) = self.hear() else { panic!("a request is text") };
        serde_json::from_str(&text).expect("it is a request")
    }
}

fn wait_for_state(tab: &Tab<'_>, state: &str) {
    tab.wait_for(&format!("return connection.state === '{state}'"));
}

/// Waits until this is all that was heard of some types.
fn wait_for_heard(tab: &Tab<'_>, types: &[&str], values: &Value) {
    let types = json!(types);
    let heard = format!("heard.filter(([type]) => {types}.includes(type)).map(([, value]) => value)");
    tab.wait_for(&format!("return canonical({heard}) === canonical({values})"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_page_with_a_strict_policy_receives_and_sends() {
    let (site, driver) = (Site::start(), Driver::start());
    let (tab, mut peer) = site.visit(&driver, &json!({}));
    assert_eq!(peer.offered, "bearer, token-1");
    assert!(peer.recover.is_empty());
    wait_for_state(&tab, "open");

    peer.say(&json!({"type": "say", "text": "héllo"}));
    peer.channel.send_text("no JSON").expect("the page is there");
    peer.channel.send_bytes([1, 2, 3]).expect("the page is there");
    wait_for_heard(&tab, &["message"], &json!([{"type": "say", "text": "héllo"}, "no JSON"]));
    tab.wait_for("return heard.some(([type, value]) => type === 'binary' && value.byteLength === 3)");

    assert_eq!(tab.run("return connection.send({ text: 'from the page' })"), json!("sent"));
    assert_eq!(peer.hear(), Message::Text(r#"{"text":"from the page"}"#.into()));
    tab.run("connection.sendRaw(new Uint8Array([4, 5]))");
    assert_eq!(peer.hear(), Message::Binary(vec![4, 5].into()));

    tab.run("connection.close()");
    assert_eq!(tab.run("return states.map(({ state }) => state)"), json!(["connecting", "open", "closed"]));
    assert_eq!(tab.run("return violations"), json!([]));
    // The policy is one: what it forbids is refused.
    let forbidden = "try { new WebSocket('ws://127.0.0.2:1/'); } catch {}; return new Promise((done) => setTimeout(() => done(violations), 0))";
    assert_eq!(tab.run(forbidden), json!(["connect-src"]));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn it_comes_back_to_a_server_that_restarts_and_brings_what_waited() {
    let (site, driver) = (Site::start(), Driver::start());
    let address = site.address;
    let (tab, _peer) = site.visit(&driver, &json!({}));
    wait_for_state(&tab, "open");
    site.shut_down();
    tab.wait_for("return states.filter(({ state }) => state === 'waiting').length >= 4");
    assert_eq!(tab.run("return connection.send('typed meanwhile')"), json!("queued"));

    let site = Site::start_at(address);
    let mut peer = site.arrived();
    assert_eq!(peer.hear(), Message::Text(r#""typed meanwhile""#.into()));
    wait_for_state(&tab, "open");
    let waits = tab.run("return states.filter(({ state }) => state === 'waiting')");
    let waits = waits.as_array().expect("it is a list");
    assert_eq!(waits[0]["code"], 1001, "the server has said that it ends");
    assert_eq!(waits[1]["code"], 1006, "nobody was there");
    for (wait, most) in waits.iter().zip([20, 40, 80, 160].into_iter().chain(std::iter::repeat(200))) {
        assert!(wait["delay"].as_f64().is_some_and(|delay| delay <= f64::from(most)), "{wait}");
    }

    // As when the process is killed, or its cable cut.
    site.kill();
    tab.wait_for("return connection.state !== 'open'");
    let site = Site::start_at(address);
    let peer = site.arrived();
    peer.say(&json!("again"));
    wait_for_heard(&tab, &["message"], &json!(["again"]));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_close_that_is_final_is_the_end_and_a_token_that_has_expired_is_replaced() {
    let (site, driver) = (Site::start(), Driver::start());
    let (tab, peer) = site.visit(&driver, &json!({}));
    let mut next = Some(peer);
    for code in [4403, 1008, 1000] {
        let peer = next.take().unwrap_or_else(|| site.arrived());
        peer.close(code);
        wait_for_state(&tab, "closed");
        assert_eq!(tab.run("return states.at(-1).code"), json!(code));
        assert_eq!(tab.run("return states.at(-1).reason"), json!("as the test says"));
        // Whatever came back would arrive before this one.
        tab.run("start()");
    }
    let peer = site.arrived();
    assert_eq!(peer.offered, "bearer, token-1", "the first of its connection");
    wait_for_state(&tab, "open");

    peer.close(4401);
    let mut peer = site.arrived();
    assert_eq!(peer.offered, "bearer, token-2");
    assert_eq!(tab.run("return asked"), json!([null, 4401]));
    assert_eq!(tab.run("return states.find(({ state }) => state === 'waiting').delay"), json!(0));
    for code in [1013, 4408, 1011, 4999] {
        peer.close(code);
        peer = site.arrived();
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn it_recovers_after_a_close_and_after_a_reload() {
    let (site, driver) = (Site::start(), Driver::start());
    let (tab, peer) = site.visit(&driver, &json!({"keep": "ada"}));
    let joined = |offset: u64, replayed: u64| json!({"type": "joined", "group": "a röom", "epoch": 5, "offset": offset, "recovered": true, "replayed": replayed});
    let saved = |offset: u64| json!({"group": "a röom", "offset": offset});
    peer.say(&joined(12, 0));
    peer.say(&saved(13));
    wait_for_heard(&tab, &["message"], &json!([saved(13)]));
    peer.close(1013);

    let peer = site.arrived();
    assert_eq!(peer.recover.position("a röom"), Some(Position { epoch: 5, offset: 13 }));
    peer.say(&joined(15, 2));
    for offset in [14, 15, 15, 16] {
        peer.say(&saved(offset));
    }
    wait_for_heard(&tab, &["message", "gap"], &json!([saved(13), saved(14), saved(15), saved(16)]));
    // One is lost on the way to this client: it comes back for it.
    peer.say(&saved(18));
    let peer = site.arrived();
    assert_eq!(peer.recover.position("a röom"), Some(Position { epoch: 5, offset: 16 }));
    peer.say(&joined(18, 2));
    peer.say(&saved(17));
    peer.say(&saved(18));
    tab.wait_for("return heard.at(-1)[1].offset === 18");

    tab.open(&format!("http://{}/", site.address));
    tab.wait_for("return window.ready === true");
    tab.run("start({ keep: 'ada' })");
    let peer = site.arrived();
    assert_eq!(peer.recover.position("a röom"), Some(Position { epoch: 5, offset: 18 }));
    let gone = json!({"type": "joined", "group": "a röom", "epoch": 6, "offset": 2, "recovered": false, "replayed": 0});
    peer.say(&gone);
    let gap = json!({"group": "a röom", "from": {"epoch": 5, "offset": 18}, "to": {"epoch": 6, "offset": 2}});
    wait_for_heard(&tab, &["gap"], &json!([gap]));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn presence_and_notifications_are_kept_and_asked_for() {
    let (site, driver) = (Site::start(), Driver::start());
    let (tab, mut peer) = site.visit(&driver, &json!({"autoAck": true}));
    let user = |name: &str| json!({"user": name, "info": {}, "connections": 1, "since": 1});
    let state = |version: u64, users: &[Value]| {
        let count = users.len();
        json!({"type": "presence", "group": "room", "epoch": 1, "version": version, "count": count, "page": 1, "pages": 1,
            "users": users})
    };
    let comes = |version: u64, count: u64, name: &str| {
        json!({"type": "presence.diff", "group": "room", "epoch": 1, "version": version, "count": count,
            "joined": [user(name)], "updated": [], "left": []})
    };
    let names = "return [...connection.presence('room').users.keys()].join() === ";
    peer.say(&state(1, &[user("ada")]));
    peer.say(&comes(2, 2, "bob"));
    tab.wait_for(&format!("{names} 'ada,bob'"));
    peer.say(&comes(4, 4, "dan"));
    assert_eq!(peer.hear_request(), Request::Presence { group: "room".into(), after: None, limit: None });
    peer.say(&state(4, &[user("ada"), user("bob"), user("cleo"), user("dan")]));
    tab.wait_for(&format!("{names} 'ada,bob,cleo,dan'"));

    peer.say(&json!({"type": "unread", "unread": 1}));
    for id in [17, 18, 17] {
        let time = 1_763_700_000_000_u64;
        peer.say(&json!({"type": "notification", "notification_id": id, "priority": "high", "time": time, "data": id}));
    }
    assert_eq!(peer.hear_request(), Request::Ack { notification_id: 17 });
    assert_eq!(peer.hear_request(), Request::Ack { notification_id: 18 });
    assert_eq!(peer.hear_request(), Request::Ack { notification_id: 17 }, "it comes again: nobody has heard the first");
    assert_eq!(tab.run("return connection.unread"), json!(2));
    peer.say(&json!({"type": "acked", "notification_id": 17, "unread": 1}));
    tab.wait_for("return connection.unread === 1");
    assert_eq!(tab.run("return heard.filter(([type]) => type === 'notification').length"), json!(2));

    tab.run("window.refreshed = connection.refresh('a-new-one')");
    assert_eq!(peer.hear_request(), Request::Refresh { token: "a-new-one".into() });
    peer.say(&json!({"type": "refreshed", "expires": 5}));
    assert_eq!(tab.run("return refreshed"), json!(5));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_network_that_comes_back_ends_the_wait() {
    let (site, driver) = (Site::start(), Driver::start());
    let (tab, _peer) = site.visit(&driver, &json!({"backoff": {"base": HOUR, "cap": HOUR}}));
    wait_for_state(&tab, "open");
    let network = |offline: bool| {
        let params = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        tab.devtools("Network.emulateNetworkConditions", &params);
    };
    network(true);
    wait_for_state(&tab, "waiting");
    assert_eq!(tab.run("return states.at(-1).reason"), json!("the browser is offline"));
    // Within a second of the last attempt they would not: the page's clock is put forward.
    tab.run("const now = Date.now; Date.now = () => now() + 2000");
    network(false);
    let _peer = site.arrived();
    wait_for_state(&tab, "open");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn nothing_of_a_history_is_missing_or_twice_whatever_breaks() {
    let (site, driver) = (Site::start(), Driver::start());
    let options = |_: &str| GroupOptions::default().history(HistoryLimits::default().max_messages(20));
    let channels = ChannelBox::builder().groups(options).build();
    let join = |peer: &Peer| {
        let _inside = peer.runtime.enter();
        let since = Since::missed(peer.recover.position("room"), 5);
        channels.group("room").join_since(&peer.channel, since).expect("it may join")
    };
    let send = |numbers: std::ops::RangeInclusive<u64>| {
        let _inside = site.runtime.enter();
        for n in numbers {
            let report = channels.group_send("room", &json!({"n": n})).expect("it is JSON");
            assert_eq!(report.position().map(|position| position.offset), Some(n));
        }
    };
    let heard = "heard.filter(([type]) => type === 'message').map(([, { n }]) => n)";
    let wait_for_numbers = |tab: &Tab<'_>, numbers: &[u64]| {
        tab.wait_for(&format!("return JSON.stringify({heard}) === '{}'", json!(numbers)));
    };

    send(1..=8);
    let (tab, mut peer) = site.visit(&driver, &json!({"keep": "ada"}));
    let mut memberships = vec![join(&peer)];
    let mut expected: Vec<_> = (4..=8).collect(); // the last five, for a newcomer
    wait_for_numbers(&tab, &expected);
    let mut last = 8;
    // Some is sent before the close, some while nobody is there, some when the page is back.
    for code in [1001, 1013, 4401, 4408, 1011] {
        send(last + 1..=last + 3);
        peer.close(code);
        send(last + 4..=last + 6);
        peer = site.arrived();
        send(last + 7..=last + 8);
        memberships.push(join(&peer));
        assert!(memberships.last().is_some_and(|(_, recovery)| recovery.recovered));
        send(last + 9..=last + 9);
        expected.extend(last + 1..=last + 9);
        wait_for_numbers(&tab, &expected);
        last += 9;
    }
    assert_eq!(tab.run("return heard.filter(([type]) => type === 'gap')"), json!([]));

    // More is sent meanwhile than is kept: what is gone is told, and the rest comes.
    peer.close(1013);
    peer = site.arrived();
    send(last + 1..=last + 50);
    memberships.push(join(&peer));
    assert!(memberships.last().is_some_and(|(_, recovery)| !recovery.recovered));
    expected.extend(last + 46..=last + 50);
    wait_for_numbers(&tab, &expected);
    let gap =
        tab.run("return heard.filter(([type]) => type === 'gap').map(([, { from, to }]) => [from.offset, to.offset])");
    assert_eq!(gap, json!([[last, last + 45]]));

    // A reload begins where it was.
    tab.open(&format!("http://{}/", site.address));
    tab.wait_for("return window.ready === true");
    send(last + 51..=last + 52);
    tab.run("start({ keep: 'ada' })");
    peer = site.arrived();
    memberships.push(join(&peer));
    assert!(memberships.last().is_some_and(|(_, recovery)| recovery.recovered));
    wait_for_numbers(&tab, &[last + 51, last + 52]);
    drop((memberships, peer));
}
