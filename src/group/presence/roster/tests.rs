//! The roster compared with a naive model by its frames: a client folds the frames that it gets.

use std::collections::HashMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::super::budget::MAX_FRAME;
use super::super::frames;
use super::*;
use crate::frame::Frame;

const GRACE: Duration = Duration::from_secs(5);

/// A user as clients see it: id, info, connections.
type Seen = (String, String, u64);

/// Folds frames as the protocol says, and fails when one does not follow the last.
#[derive(Default)]
struct Client {
    version: u64,
    count: u64,
    users: Vec<Seen>,
    pages: Vec<Seen>,
}

fn seen(user: &Value) -> Seen {
    let text = |name: &str| user[name].as_str().expect("a string").to_owned();
    (text("user"), text("info"), user["connections"].as_u64().expect("a number"))
}

fn all_seen(users: &Value) -> impl Iterator<Item = Seen> {
    users.as_array().expect("a list").iter().map(seen)
}

impl Client {
    fn of(state: &Roster) -> Self {
        let mut client = Self::default();
        frames::state("room", 1, &state.snapshot()).iter().for_each(|frame| client.hear(frame));
        client
    }

    fn hear(&mut self, frame: &Frame) {
        assert!(frame.bytes().len() <= MAX_FRAME, "a frame is too long: {}", frame.bytes().len());
        let frame: Value = serde_json::from_slice(frame.payload()).expect("a frame is JSON");
        let version = frame["version"].as_u64().expect("a number");
        self.count = frame["count"].as_u64().expect("a number");
        if frame["type"] == "presence" {
            self.pages.extend(all_seen(&frame["users"]));
            if frame["page"] == frame["pages"] {
                (self.version, self.users) = (version, std::mem::take(&mut self.pages));
            }
            return;
        }
        assert_eq!(version, self.version + 1, "a version is missing");
        self.version = version;
        for id in frame["left"].as_array().expect("a list") {
            let at = self.users.iter().position(|(known, ..)| id == known);
            self.users.remove(at.expect("who has left was there"));
        }
        for user in all_seen(&frame["joined"]) {
            assert!(self.users.iter().all(|(known, ..)| *known != user.0), "who has joined was there");
            self.users.push(user);
        }
        for user in all_seen(&frame["updated"]) {
            let known = self.users.iter_mut().find(|(known, ..)| *known == user.0).expect("who has changed was there");
            assert_ne!(*known, user, "nothing has changed");
            *known = user;
        }
    }
}

/// A roster, a clock, and a client that has all frames.
struct Told {
    state: Roster,
    now: Instant,
    client: Client,
    events: HashMap<String, Seen>,
    heard: usize,
}

impl Told {
    fn new(limits: Limits) -> Self {
        let (client, events) = (Client::default(), HashMap::new());
        Self { state: Roster::new(limits), now: Instant::now(), client, events, heard: 0 }
    }

    fn enter(&mut self, tab: Tab, info: &str) -> bool {
        let id = UserId::new(format!("user {}", tab.0)).expect("the id is good");
        self.state.enter(tab.place(), &id, serde_json::to_string(info).expect("JSON").into(), 1)
    }

    fn update(&mut self, tab: Tab, info: &str) -> bool {
        self.state.update(tab.place(), serde_json::to_string(info).expect("JSON").into())
    }

    fn leave(&mut self, tab: Tab, grace: Duration) -> bool {
        self.state.leave(tab.place(), self.now, self.now + grace)
    }

    fn tick(&mut self) {
        let tick = self.state.tick(self.now);
        let frames = match &tick.to_all {
            None => Vec::new(),
            Some(ToAll::Diff(diff)) => vec![frames::diff("room", 1, diff)],
            Some(ToAll::State(state)) => frames::state("room", 1, state),
        };
        self.heard += frames.len();
        frames.iter().for_each(|frame| self.client.hear(frame));
        for change in tick.changes {
            self.note(change);
        }
        // A client that joins now knows what the others know.
        let newcomer = Client::of(&self.state);
        assert_eq!((newcomer.count, &newcomer.users), (self.client.count, &self.client.users));
        if self.heard > 0 {
            assert_eq!(newcomer.version, self.client.version);
        }
    }

    fn note(&mut self, change: Change) {
        let (user, was_here) = match &change {
            Change::Joined(user) => (user, false),
            Change::Updated(user) | Change::Left(user) => (user, true),
        };
        let info = serde_json::from_str(&user.info).expect("JSON");
        let entry = (user.id.to_string(), info, user.connections as u64);
        let known = match change {
            Change::Left(_) => self.events.remove(user.id.as_str()),
            _ => self.events.insert(user.id.to_string(), entry.clone()),
        };
        assert_eq!(known.is_some(), was_here, "an event that cannot be: {change:?}");
        assert!(matches!(change, Change::Left(_)) || known != Some(entry), "nothing has changed");
    }

    /// Ticks until nothing is due, and moves the clock as far as that takes.
    fn settle(&mut self) {
        loop {
            match self.state.due() {
                Due::Now => {}
                Due::At(until) => self.now = self.now.max(until),
                Due::Never => return,
            }
            self.tick();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tab(u8, u8);

impl Tab {
    fn place(self) -> MemberId {
        (u64::from(self.0), u64::from(self.1))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(Tab, String),
    Update(Tab, String),
    Leave(Tab),
    LeaveNow(Tab),
    Wait(u64),
    Tick,
}

fn step(users: u8) -> impl Strategy<Value = Step> {
    let tab = || (0..users, 0u8..3).prop_map(|(user, tab)| Tab(user, tab));
    let info = || (0u8..3, prop::sample::select(vec![1usize, 4000])).prop_map(|(n, len)| n.to_string().repeat(len));
    prop_oneof![
        4 => (tab(), info()).prop_map(|(tab, info)| Step::Enter(tab, info)),
        2 => (tab(), info()).prop_map(|(tab, info)| Step::Update(tab, info)),
        2 => tab().prop_map(Step::Leave),
        1 => tab().prop_map(Step::LeaveNow),
        1 => (0u64..4000).prop_map(Step::Wait),
        2 => Just(Step::Tick),
    ]
}

/// The final state of the model: the tabs of each user and their infos, in the order in which they were set.
#[derive(Default)]
struct Model(HashMap<u8, Vec<(Tab, String)>>);

impl Model {
    fn set(&mut self, tab: Tab, info: Option<&String>) -> bool {
        let tabs = self.0.entry(tab.0).or_default();
        let before = tabs.len();
        tabs.retain(|(known, _)| *known != tab);
        let was_here = tabs.len() < before;
        tabs.extend(info.map(|info| (tab, info.clone())));
        was_here
    }

    fn has(&self, tab: Tab) -> bool {
        self.0.get(&tab.0).is_some_and(|tabs| tabs.iter().any(|(known, _)| *known == tab))
    }

    fn users(&self) -> HashMap<String, Seen> {
        let user = |(user, tabs): (&u8, &Vec<(Tab, String)>)| {
            let (id, (_, info)) = (format!("user {user}"), tabs.last()?);
            Some((id.clone(), (id, info.clone(), tabs.len() as u64)))
        };
        self.0.iter().filter_map(user).collect()
    }
}

fn check(limits: Limits, steps: Vec<Step>) {
    let mut told = Told::new(limits);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Enter(tab, info) => {
                let is_new = !model.has(tab);
                assert_eq!(told.enter(tab, &info), is_new);
                if is_new {
                    model.set(tab, Some(&info));
                }
            }
            Step::Update(tab, info) => {
                let was_here = model.has(tab);
                assert_eq!(told.update(tab, &info), was_here);
                if was_here {
                    model.set(tab, Some(&info));
                }
            }
            Step::Leave(tab) => assert_eq!(told.leave(tab, GRACE), model.set(tab, None)),
            Step::LeaveNow(tab) => assert_eq!(told.leave(tab, Duration::ZERO), model.set(tab, None)),
            Step::Wait(millis) => told.now += Duration::from_millis(millis),
            Step::Tick => told.tick(),
        }
        let state = &told.state;
        assert!(state.changed.len() <= state.users.len() + 1, "a user waits twice");
        assert_eq!(state.bytes, state.users.values().map(|user| user_len(&user.now)).sum::<usize>());
        assert_eq!(state.places.len(), state.users.values().map(|user| user.connections.len()).sum::<usize>());
    }
    told.settle();
    let expected = model.users();
    assert_eq!(told.events, expected, "events and model");
    assert_eq!((told.client.count as usize, told.state.len()), (expected.len(), expected.len()));
    let is_large = matches!(told.state.mode, Mode::Large(_));
    let listed = if is_large { limits.window.min(expected.len()) } else { expected.len() };
    assert_eq!(told.client.users.len(), listed);
    for user in &told.client.users {
        assert_eq!(Some(user), expected.get(&user.0), "client and model");
    }
    let order: Vec<_> = told.state.users.values().map(|user| user.now.id.to_string()).take(listed).collect();
    assert_eq!(told.client.users.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>(), order);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_know_what_is_so(steps in vec(step(40), 0..300)) {
        check(Limits::default(), steps);
    }

    #[test]
    fn clients_know_what_is_so_where_modes_change_and_little_fits_into_a_tick(steps in vec(step(10), 0..200)) {
        let limits = Limits { large_above: 4, small_below: 3, window: 2, changes: 3, lingering: 4, ..Limits::default() };
        check(limits, steps);
    }

    #[test]
    fn clients_know_what_is_so_where_the_first_users_fill_more_than_a_frame(steps in vec(step(60), 0..300)) {
        let limits = Limits { large_above: 30, small_below: 20, window: 25, large_above_bytes: 90_000, ..Limits::default() };
        check(limits, steps);
    }
}

#[test]
fn who_comes_and_goes_between_two_ticks_was_never_there() {
    let mut told = Told::new(Limits::default());
    assert!(told.enter(Tab(1, 0), "x") && told.leave(Tab(1, 0), Duration::ZERO));
    assert_eq!(told.state.due(), Due::Now);
    told.settle();
    assert_eq!((told.heard, told.state.len()), (0, 0));
    assert!(told.state.is_over());
}

#[test]
fn nobody_hears_of_a_reload_of_one_tab_or_of_one_of_two() {
    let mut told = Told::new(Limits::default());
    assert!(told.enter(Tab(1, 0), "x"));
    told.tick();
    let before = told.heard;
    assert!(told.leave(Tab(1, 0), GRACE));
    told.now += GRACE - Duration::from_millis(1);
    told.tick();
    assert!(told.enter(Tab(1, 1), "x"));
    told.settle();
    assert_eq!(told.heard, before);

    assert!(told.enter(Tab(1, 2), "x"));
    told.settle();
    let before = told.heard;
    assert!(told.leave(Tab(1, 1), GRACE) && told.enter(Tab(1, 3), "x"));
    told.settle();
    assert_eq!((told.heard, told.client.users[0].2), (before, 2));

    assert!(told.leave(Tab(1, 2), GRACE));
    told.now += GRACE;
    told.tick();
    assert_eq!((told.heard, told.client.users[0].2), (before + 1, 1));
}

#[test]
fn the_info_is_that_of_the_latest_connection_that_is_left() {
    let mut told = Told::new(Limits::default());
    assert!(told.enter(Tab(1, 0), "a") && told.enter(Tab(1, 1), "b") && told.enter(Tab(1, 2), "c"));
    assert!(told.update(Tab(1, 0), "a2"));
    told.tick();
    assert_eq!(told.client.users, [("user 1".to_owned(), "a2".to_owned(), 3)]);
    assert!(told.leave(Tab(1, 0), Duration::ZERO));
    told.tick();
    assert_eq!(told.client.users, [("user 1".to_owned(), "c".to_owned(), 2)]);
    assert!(!told.update(Tab(1, 0), "late"));
}

#[test]
fn a_thousand_are_told_one_by_one_and_more_are_counted() {
    let mut told = Told::new(Limits::default());
    let place = |n: u64| (7, n);
    let enter = |told: &mut Told, n: u64| {
        let id = UserId::new(format!("u{n}")).expect("the id is good");
        assert!(told.state.enter(place(n), &id, "\"i\"".into(), 1));
    };
    (0..1000).for_each(|n| enter(&mut told, n));
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (1000, 1000));
    enter(&mut told, 1000);
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (100, 1001));
    // Some of the first users go: others move up.
    (0..50).for_each(|n| assert!(told.state.leave(place(n), told.now, told.now)));
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (100, 951));
    assert_eq!(told.client.users[0].0, "u50");
    assert_eq!(told.client.users[99].0, "u149");
    // Not yet: a thousand users are not sent again at every second join.
    (50..101).for_each(|n| assert!(told.state.leave(place(n), told.now, told.now)));
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (100, 900));
    assert!(told.state.leave(place(101), told.now, told.now));
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (899, 899));
    assert_eq!(told.events.len(), 899);
}

#[test]
fn long_infos_make_a_group_large_before_a_state_overflows_an_outbox() {
    let mut told = Told::new(Limits::default());
    let info = "x".repeat(4000);
    (0..200).for_each(|n| assert!(told.enter(Tab(n, 0), &info)));
    told.settle();
    assert_eq!((told.client.users.len(), told.client.count), (100, 200));
    let state: usize = frames::state("room", 1, &told.state.snapshot()).iter().map(|frame| frame.bytes().len()).sum();
    assert!(state <= 512 << 10, "{state}");
}

#[test]
fn in_a_large_group_too_what_does_not_fit_into_a_frame_comes_with_the_next() {
    let mut told = Told::new(Limits { large_above: 40, small_below: 10, ..Limits::default() });
    (0..50).for_each(|n| assert!(told.enter(Tab(n, 0), "x")));
    told.settle();
    let before = told.heard;
    let info = "y".repeat(4000);
    (0..50).for_each(|n| assert!(told.update(Tab(n, 0), &info)));
    told.settle();
    assert!(matches!(told.state.mode, Mode::Large(_)));
    assert!(told.client.users.iter().all(|(_, seen, _)| *seen == info));
    assert_eq!(told.heard - before, 4, "sixteen fit into one");
}

#[test]
fn who_leaves_in_crowds_is_not_waited_for_longer_than_there_is_room() {
    let mut told = Told::new(Limits { lingering: 3, ..Limits::default() });
    (0..10).for_each(|n| assert!(told.enter(Tab(n, 0), "x")));
    told.tick();
    (0..10).for_each(|n| assert!(told.leave(Tab(n, 0), GRACE)));
    assert_eq!(told.state.due(), Due::Now);
    told.tick();
    assert_eq!((told.state.len(), told.client.users[0].0.as_str()), (3, "user 7"));
}

#[test]
fn nobody_waits_for_a_user_without_an_identity() {
    let mut told = Told::new(Limits::default());
    let id = UserId::new("#12").expect("the id is good");
    assert!(told.state.enter((1, 1), &id, "1".into(), 1));
    told.state.tick(told.now);
    assert!(told.state.leave((1, 1), told.now, told.now + GRACE));
    told.state.tick(told.now);
    assert_eq!(told.state.len(), 0);
    assert_eq!(["#", "#1", "#1a", "##1", "1", ""].map(is_reserved), [false, true, false, false, false, false]);
}
