use std::time::{Duration, UNIX_EPOCH};

use fanfare::channel::FarMessage;
use serde_json::{Value, json};

use super::*;
use crate::board::{ALERTS, METRICS, READINGS, THRESHOLDS};
use crate::sensors::{Machine, Reading};
use crate::wall::ToViewer;

const SAMPLES: &str = include_str!("samples.json");

fn ada() -> UserId {
    UserId::new("ada").expect("it is a good name")
}

/// 2026-01-02T03:04:05.006Z.
fn then() -> Time {
    Time(UNIX_EPOCH + Duration::from_millis(1_767_323_045_006))
}

fn machine() -> Machine {
    Machine { name: Some("box".into()), system: Some("Linux".into()), cores: 2, memory: 8 << 30 }
}

fn taken(cpu: f64) -> Taken {
    let machine = [("cpu", cpu), ("memory", 40.1), ("load", 0.5), ("received", 1024.0), ("sent", 2048.5)].into();
    let process = [("cpu", 1.5), ("memory", 9437184.0)].into();
    let library =
        [("connections", 2.0), ("viewers", 1.0), ("sent", 3.0), ("received", 0.2), ("waiting", 0.0), ("dropped", 7.0)];
    Taken { data: Reading { machine, cores: vec![20.0, 5.0], process, library: library.into() }, timestamp: then() }
}

fn orders(value: f64) -> Metric {
    Metric { name: "orders".into(), value, by: ada(), timestamp: then() }
}

fn app() -> App {
    let channels = channels();
    let wall = Wall::new(Board::new(machine()), channels.clone());
    let app = App { events: Dispatcher::new(), channels, wall };
    listen(&app).expect("the names are good");
    app
}

#[test]
fn samples_are_what_is_sent_and_taken() {
    let samples: Value = serde_json::from_str(SAMPLES).expect("they are JSON");
    for sample in samples["client"].as_array().expect("it is a list") {
        serde_json::from_value::<FromClient>(sample.clone()).unwrap_or_else(|error| panic!("{sample}: {error}"));
    }
    let mut board = Board::new(machine());
    board.take(taken(12.5));
    board.post(orders(3.5)).expect("there is room");
    board.set("machine.cpu", Some(Limit::Above(10.0)), &UserId::new("bob").expect("a good name")).expect("it is known");
    for alert in board.crossed() {
        board.note(Alert { timestamp: then(), ..alert });
    }
    let (metric, reading) = (orders(3.5), taken(12.5));
    let sent = [
        ToViewer::Initial { data: board.snapshot(), timestamp: then() },
        ToViewer::Update(&reading),
        ToViewer::Metric { data: &metric, timestamp: then() },
        ToViewer::Watch { data: board.watch(), timestamp: then() },
    ];
    assert_eq!(json!(sent), samples["server"]);
}

#[test]
fn a_crossing_raises_one_alert_and_a_fluctuation_none() {
    for (limit, values) in [
        (Limit::Above(100.0), [50.0, 101.0, 99.0, 101.0, 94.0, 99.0, 101.0]),
        (Limit::Below(-100.0), [-50.0, -101.0, -99.0, -101.0, -94.0, -99.0, -101.0]),
    ] {
        let mut board = Board::new(machine());
        board.post(orders(0.0)).expect("there is room");
        board.set("orders", Some(limit), &ada()).expect("it is known");
        let told = values.map(|value| {
            board.post(orders(value)).expect("it has its place");
            board.crossed().first().map(|alert| alert.raised)
        });
        assert_eq!(told, [None, Some(true), None, None, Some(false), None, Some(true)], "{limit:?}");
    }
}

#[test]
fn every_list_has_an_end() {
    let mut board = Board::new(machine());
    for number in 0..200 {
        board.take(taken(f64::from(number)));
        let posted = board.post(Metric { name: format!("metric {number}"), ..orders(1.0) }).is_ok();
        assert_eq!(posted, number < METRICS as u32);
        let set = board.set(&format!("metric {}", number % 60), Some(Limit::Above(0.5)), &ada());
        assert_eq!(set.is_ok(), number % 60 < THRESHOLDS as u32, "{number}: {set:?}");
        for alert in board.crossed() {
            for _ in 0..3 {
                board.note(alert.clone());
            }
        }
    }
    assert!(board.post(Metric { name: "metric 0".into(), ..orders(2.0) }).is_ok(), "a known name has its place");
    let shown = json!(board.snapshot());
    let lengths = ["readings", "metrics", "thresholds", "alerts"].map(|list| shown[list].as_array().map(Vec::len));
    assert_eq!(lengths, [READINGS, METRICS, THRESHOLDS, ALERTS].map(Some));
    assert_eq!(shown["readings"][0]["data"]["machine"]["cpu"], 199.0, "the latest comes first");
}

#[test]
fn a_viewer_that_does_not_read_gets_the_latest_of_each_value_and_no_backlog() {
    let app = app();
    let (channel, mut viewer) = Channel::in_memory();
    let _viewing = app.wall.show(&channel).expect("it is open");
    channel.send_bytes(vec![0; 100_000]).expect("it is open"); // Fills the pipe: what follows has to wait.
    for number in 0..1000 {
        app.events.emit(READING, &taken(f64::from(number))).expect("the name is good");
        app.events.emit(POSTED, &orders(f64::from(number))).expect("the name is good");
    }
    let waiting = channel.sender().counts();
    assert_eq!((waiting.waiting, waiting.dropped), (3, 2 * 999), "what fills the pipe, and one of each kind");

    let mut read = Vec::new();
    while let Some(message) = viewer.try_recv() {
        if let FarMessage::Text(text) = message {
            let message: Value = serde_json::from_str(&text).expect("it is JSON");
            read.push((message["type"].as_str().map(str::to_owned), message["data"].clone()));
        }
    }
    let kinds: Vec<_> = read.iter().map(|(kind, _)| kind.as_deref().unwrap_or_default()).collect();
    assert_eq!(kinds, ["initial", "update", "metric"]);
    assert_eq!((&read[1].1["machine"]["cpu"], &read[2].1["value"]), (&json!(999.0), &json!(999.0)));
}

#[test]
fn a_listeners_refusal_reaches_the_sender() {
    let app = app();
    let set = |limit| Set { threshold: Threshold { metric: "orders".into(), limit }, by: ada() };
    let refused = answer(app.events.emit(SET, &set(Limit::Above(Some(1.0))))).expect_err("it was not posted");
    assert_eq!(refused.0, StatusCode::CONFLICT);
    assert!(refused.1.starts_with("nothing named \"orders\" is known yet"), "{}", refused.1);
    answer(app.events.emit(SET, &set(Limit::Above(None)))).expect("removing a missing threshold is allowed");
    answer(app.events.emit(POSTED, &orders(0.0))).expect("there is room");
    answer(app.events.emit(SET, &set(Limit::Above(Some(1.0))))).expect("now it is known");
}

#[tokio::test(start_paused = true)]
async fn the_timer_waits_for_a_viewer_or_a_threshold() {
    let app = app();
    let readings = app.events.event(READING).expect("the name is good");
    readings.enable_counts();
    let sensors = Sensors::new(Counts::default(), app.channels.clone());
    let timer = tokio::spawn(take_readings(app.clone(), sensors));
    let count = || readings.counts().expect("it counts").emits;

    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(count(), 0, "there is no viewer");
    let (channel, _viewer) = Channel::in_memory();
    let viewing = app.wall.show(&channel).expect("it is open");
    tokio::time::sleep(Duration::from_millis(9_500)).await;
    assert_eq!(count(), 10, "one at once, and one each second");
    drop(viewing);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = count();
    assert!(seen <= 11, "the viewer has left, but {seen} readings were taken");
    let threshold = Threshold { metric: "machine.cpu".into(), limit: Limit::Above(Some(90.0)) };
    answer(app.events.emit(SET, &Set { threshold, by: ada() })).expect("a reading was taken");
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert!(count() >= seen + 4, "a threshold waits for values");
    timer.abort();
}
