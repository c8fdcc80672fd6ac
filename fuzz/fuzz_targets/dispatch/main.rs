//! Claims about `fanfare::Dispatcher`: any sequence of operations on one thread, nested ones in listeners included,
//! calls the same listeners in the same order, and returns the same, as a `Vec` and a loop do.
//!
//! Run it with `cargo +nightly fuzz run dispatch -- -max_total_time=45`.
#![no_main]

mod model;
mod notes;
mod ops;
mod outside;
mod world;

use fanfare::Event;
use fanfare::dispatch::{EventCounts, ListenerInfo, ListenerKind};
use libfuzzer_sys::fuzz_target;

use self::model::{Counts, Info, Mode, Model};
use self::notes::{Payload, Waited};
use self::ops::{Input, NAMES, Op, Plan, Way, bounds};
use self::outside::{Outside, options};
use self::world::Wait;

/// libFuzzer's own hook ends the run at any panic, even at one that the dispatcher catches.
fn let_planned_panics_pass() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref() != Some(&"on purpose") {
            eprintln!("{info}");
        }
    }));
}

fuzz_target!(init: let_planned_panics_pass(), |input: Input| {
    let mut model = Model::new(input.limit);
    let mut real = Outside::new(input.limit);
    notes::take_clones();
    for op in input.ops.into_iter().take(bounds::OPS) {
        model.begin_op();
        real.world.begin_op();
        apply(op, &mut model, &mut real);
        compare(&mut model, &real);
    }
    assert_eq!(real.world.states(), model.states().collect::<Vec<_>>());
    assert_eq!(real.world.closures(), model.closures());
});

/// Applies one operation to both sides, and compares the results.
fn apply(op: Op, model: &mut Model, real: &mut Outside) {
    match op {
        Op::On { name, plan } => assert_eq!(real.world.on(name, plan), model.on(name, plan)),
        Op::OnMany { name, count } => {
            for _ in 0..count {
                assert_eq!(real.world.on(name, Plan::PLAIN), model.on(name, Plan::PLAIN));
            }
        }
        Op::OnListener { name, which, once } => {
            assert_eq!(real.on_listener(name, which, once), model.on_listener(name, which, once));
        }
        Op::OffListener { name, which } => assert_eq!(real.off_listener(name, which), model.off_listener(name, which)),
        Op::Off { id, by_dispatcher } => assert_eq!(real.world.off(id, by_dispatcher), model.off(id)),
        Op::OffAll { name } => assert_eq!(real.world.events.off_all(NAMES[name]), model.off_all(name)),
        Op::Wait { id } => {
            let waited = model.wait(id);
            // A blocking wait would never end.
            let how = if waited == Some(Waited::StillRunning) { Wait::NotAtAll } else { Wait::Blocking };
            assert_eq!(real.world.wait(id, how), waited);
        }
        Op::Emit { name, payload, way } => emit(name, payload, way, model, real),
        Op::Hold { name } => {
            model.hold(name);
            real.hold(name);
        }
        Op::LetGo { name } => {
            model.let_go(name);
            real.let_go(name);
        }
        Op::Pause { id } => {
            model.pause(id);
            real.world.pause(id);
        }
        Op::Resume { at } => {
            model.resume(at);
            real.world.resume(at);
        }
        Op::Mute { name } => {
            model.mute(name);
            real.world.mute(name);
        }
        Op::Unmute { at } => {
            model.unmute(at);
            real.world.unmute(at);
        }
        Op::Count { name } => {
            model.count(name);
            real.world.event(name).enable_counts();
        }
        Op::Publisher { name } => {
            model.publish(name);
            real.publish(name);
        }
        Op::Refresh { at } => {
            model.refresh(at);
            real.refresh(at);
        }
        Op::DropPublisher { at } => {
            model.drop_publisher(at);
            real.drop_publisher(at);
        }
        Op::Start { name, payload, by_name: true, poll, .. } => {
            let mode = Mode { concurrent: Some(1), ..Mode::PLAIN };
            let summary = model.start(name, payload, mode, false, poll);
            assert_eq!(real.world.start(name, payload, true, options(false, 1), poll), summary);
        }
        Op::Start { name, payload, by_name: false, fail_fast, concurrent, poll } => {
            let mode = Mode { fail_fast, concurrent: Some(concurrent), ..Mode::PLAIN };
            let summary = model.start(name, payload, mode, true, poll);
            assert_eq!(real.world.start(name, payload, false, options(fail_fast, concurrent), poll), summary);
        }
        Op::Poll { at } => assert_eq!(real.world.poll(at), model.poll(at)),
        Op::DropWalk { at } => {
            model.drop_walk(at);
            real.world.drop_walk(at);
        }
        Op::Stream { name, capacity, full } => {
            model.stream(name, capacity, full);
            real.stream(name, capacity, full);
        }
        Op::Next { name } => {
            model.next(name);
            real.next(name);
        }
        Op::Take { at } => assert_eq!(real.try_next(at), model.try_next(at)),
        Op::Await { at } => assert_eq!(real.poll_next(at), model.poll_next(at)),
        Op::DropQueue { at } => {
            model.drop_queue(at);
            real.drop_queue(at);
        }
    }
}

fn emit(name: usize, payload: u8, way: Way, model: &mut Model, real: &mut Outside) {
    let is_shared = matches!(way, Way::Arc | Way::ArcByName);
    let fold = match way {
        Way::Collect => Some(ops::FoldEnd::Never),
        Way::Fold(end) => Some(end),
        _ => None,
    };
    let fail_fast = way == Way::Options { fail_fast: true };
    let mode = Mode { fail_fast, is_shared, fold, concurrent: None };
    let expected = match way {
        Way::Publisher(at) => model.refresh(at).map(|name| model.emit(name, payload, mode)),
        Way::Name | Way::ArcByName => Some(model.emit(name, payload, mode)),
        _ => {
            model.acquire(name);
            let expected = model.emit(name, payload, mode);
            model.release(name);
            Some(expected)
        }
    };
    let expected = expected.filter(|(_, values)| values.is_some());
    assert_eq!(real.emit(name, payload, way), expected);
}

/// Compares everything that the two sides can report.
fn compare(model: &mut Model, real: &Outside) {
    let world = &real.world;
    assert_eq!(world.take_notes(), std::mem::take(&mut model.notes));
    // The order in which an emit drops the futures that it awaits is not promised.
    let (mut dropped, mut expected) = (world.take_dropped_futures(), std::mem::take(&mut model.dropped_futures));
    dropped.sort_unstable();
    expected.sort_unstable();
    assert_eq!(dropped, expected);
    assert_eq!(world.hook_calls(), model.hook_calls);
    assert_eq!(notes::take_clones(), std::mem::take(&mut model.clones));
    assert!(real.dropped_payloads().eq(model.dropped_payloads()), "payloads that streams had no room for");

    let known = model.known_events();
    assert_eq!(world.events.names().iter().map(|name| &**name).collect::<Vec<_>>(), known);
    assert_eq!(world.events.event_count(), known.len());
    for (number, name) in NAMES.into_iter().enumerate() {
        let is_known = known.contains(&name);
        assert_eq!(world.events.emit(name, "another type").is_err(), is_known);
        if is_known {
            compare_event(number, &world.event(number), model);
        } else {
            assert!(world.events.listeners(name).is_empty());
        }
    }
}

fn compare_event(number: usize, event: &Event<Payload>, model: &Model) {
    let listeners = event.listeners();
    assert_eq!(event.listener_count(), listeners.len());
    let expected = || model.listeners(number);
    assert!(listeners.iter().map(info).eq(expected()), "{listeners:?} for {:?}", expected().collect::<Vec<_>>());
    assert_eq!(event.is_muted(), model.is_muted(number));
    assert_eq!(event.counts().map(counts), model.counts(number));
}

fn info(info: &ListenerInfo) -> Info {
    Info {
        priority: info.priority().into(),
        is_async: info.kind() == ListenerKind::Async,
        is_stream: info.kind() == ListenerKind::Stream,
        calls_left: info.calls_left(),
        is_paused: info.is_paused(),
    }
}

fn counts(counts: EventCounts) -> Counts {
    Counts { emits: counts.emits, calls: counts.calls, failures: counts.failures }
}
