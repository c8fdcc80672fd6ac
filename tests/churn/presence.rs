//! Many users with several tabs each come, go, reload and move, on several threads: in the end every client knows
//! what the server knows.
//!
//! A hundred users for a second. With `FANFARE_PRESENCE_SECONDS` a thousand, for as many: in a release build, 30 say.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::channel::{ChannelId, FarEnd, FarMessage};
use fanfare::group::{ChannelBox, GroupOptions};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::ONE_AT_A_TIME;
use crate::view::{Then, View, patient_channel_of, truth};

const TABS: usize = 3;
const ROOM: &str = "room";
/// What is done in a second, in all: each of it is written to thousands of clients.
const RATE: u64 = 1000;
/// What the last connection of all says, when the others have come to rest.
const LAST: &str = "the end";

/// How many users there are, and for how many seconds they come and go.
fn size() -> (usize, u64) {
    let seconds = std::env::var("FANFARE_PRESENCE_SECONDS");
    seconds.map_or((100, 1), |seconds| (1000, seconds.parse().expect("a number of seconds")))
}

/// Frames as JSON: each is parsed once for all clients. It also finds two states of one version that differ.
#[derive(Default)]
struct Frames(Mutex<VecDeque<(String, Arc<Value>)>>);

impl Frames {
    /// What precedes the users of a frame: its type, version and page.
    fn head(text: &str) -> &str {
        text.split('[').next().expect("there is a first part")
    }

    fn parse(&self, text: String) -> Arc<Value> {
        let mut known = self.0.lock().expect("no client panics with it");
        if let Some((same, frame)) = known.iter().rev().find(|(known, _)| Self::head(known) == Self::head(&text)) {
            assert!(*same == text, "two frames of one version differ");
            return Arc::clone(frame);
        }
        assert!(text.len() + 10 <= 64 << 10, "a frame is too long: {}", text.len());
        let frame: Arc<Value> = Arc::new(serde_json::from_str(&text).expect("a frame is JSON"));
        known.push_back((text, Arc::clone(&frame)));
        if known.len() > 100 {
            known.pop_front();
        }
        frame
    }
}

struct Test {
    users: usize,
    channels: ChannelBox,
    frames: Frames,
    over: AtomicBool,
    /// States that clients have asked for.
    asked: AtomicUsize,
    /// What has been done.
    acts: AtomicUsize,
    /// Tabs that will do nothing more.
    resting: AtomicUsize,
}

impl Test {
    fn tabs(&self) -> usize {
        self.users * TABS
    }
}

/// Reads like a client until the last change of all, or until the channel is closed, and leaves behind what it knows.
async fn read(test: Arc<Test>, id: ChannelId, mut far: FarEnd) -> View {
    let mut view = View::default();
    while view.users.get(&user(0)).is_none_or(|(info, _)| info != LAST) {
        let Some(FarMessage::Text(text)) = far.recv().await else { break };
        if view.hear(&test.frames.parse(text)) == Then::Asks {
            test.asked.fetch_add(1, SeqCst);
            let sender = test.channels.sender(id).expect("the channel is open");
            assert!(test.channels.answer(&sender, r#"{"type":"presence","group":"room"}"#).await.unwrap());
        }
    }
    view
}

fn user(number: usize) -> String {
    format!("user {number}")
}

/// Enough for a test: a number that looks random.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Whether a tab is there in the end.
fn stays(number: usize) -> bool {
    !number.is_multiple_of(7)
}

/// One tab: comes, moves, reloads, until it is over; then it stays, or not.
async fn tab(test: Arc<Test>, number: usize) -> Option<View> {
    let mut seed = number as u64;
    let pause = Duration::from_millis(1000 * test.tabs() as u64 / RATE);
    loop {
        sleep(pause.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0)).await;
        let (channel, far) = patient_channel_of(&user(number % test.users));
        let reader = tokio::spawn(read(Arc::clone(&test), channel.id(), far));
        let membership = test.channels.join(&channel, ROOM).expect("the channel is open");
        let here = membership.enter(&number).expect("it is a member");
        for n in 0..random(&mut seed) % 3 {
            sleep(pause.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0)).await;
            here.update(&(number, n)).expect("it is here");
            test.acts.fetch_add(1, SeqCst);
        }
        test.acts.fetch_add(2, SeqCst);
        if test.over.load(SeqCst) {
            test.resting.fetch_add(1, SeqCst);
            return if stays(number) { Some(reader.await.expect("a client does not panic")) } else { None };
        }
        match random(&mut seed) % 4 {
            0 => drop(channel),
            1 => drop(membership),
            2 => assert!(here.leave()),
            _ => drop(here),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_churn_every_client_knows_what_the_server_knows() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (users, seconds) = size();
    let options = GroupOptions::default().presence_grace(Duration::from_millis(500));
    let test = Arc::new(Test {
        users,
        channels: ChannelBox::builder().groups(move |_| options).build(),
        frames: Frames::default(),
        over: AtomicBool::new(false),
        asked: AtomicUsize::new(0),
        acts: AtomicUsize::new(0),
        resting: AtomicUsize::new(0),
    });
    let mut tabs = JoinSet::new();
    for number in 0..test.tabs() {
        tabs.spawn(tab(Arc::clone(&test), number));
    }
    sleep(Duration::from_secs(seconds)).await;
    test.over.store(true, SeqCst);

    let staying = (0..test.tabs()).filter(|number| stays(*number)).count();
    let presence = test.channels.group(ROOM).presence();
    let connections = || presence.users().iter().map(|user| user.connections()).sum::<usize>();
    let settled = async {
        // Who has gone counts until its time to come back is over.
        while test.resting.load(SeqCst) < test.tabs() || connections() != staying {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(100), settled).await.expect("the churn ends");

    // Changes are told in their order: who hears of this one has heard of all.
    let (last, _far) = patient_channel_of(&user(0));
    let membership = test.channels.join(&last, ROOM).expect("the channel is open");
    let _here = membership.enter(LAST).expect("it is a member");
    let expected = truth(&test.channels, ROOM);
    let mut views = 0;
    let finished = async {
        while let Some(view) = tabs.join_next().await {
            let Some(view) = view.expect("a tab does not panic") else { continue };
            let differ: Vec<_> = expected.iter().filter(|(id, seen)| view.users.get(*id) != Some(seen)).collect();
            assert!(differ.is_empty() && view.users.len() == expected.len(), "a client does not know: {differ:?}");
            assert_eq!(view.count as usize, expected.len());
            views += 1;
        }
    };
    timeout(Duration::from_secs(100), finished).await.expect("the clients end");
    assert_eq!((views, test.asked.load(SeqCst)), (staying, 0), "nobody has missed a version");
    println!("{views} clients agree on {} users after {} acts", expected.len(), test.acts.load(SeqCst));
}
