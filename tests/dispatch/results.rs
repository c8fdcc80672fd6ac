//! Emits that collect what listeners return.

use std::ops::ControlFlow::{self, Break, Continue};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fanfare::dispatch::{FailureCause, Value};
use fanfare::{Listener, Priority};
use futures_executor::block_on;

use crate::calls::{Log, fall, note, taken, tick};

#[test]
fn values_are_collected_in_the_order_of_calls() {
    let event = tick();
    event.on(|n| Value(n + 1));
    event.listen().priority(Priority::LOW).on(|n| Value(n + 2));
    event.listen().priority(Priority::HIGH).on(|n| Value(n + 3));
    event.on_listener(&Listener::new(|n| Value(n + 4)));
    event.listen().prepend().once().on(|n| Value(n + 5));
    let (values, report) = event.emit_collect::<u32>(&10);
    assert_eq!((values, report.ran()), (vec![13, 15, 11, 14, 12], 5));
    assert_eq!(event.emit_collect::<u32>(&10).0, [13, 11, 14, 12], "once is once");
}

#[test]
fn listeners_without_a_value_run_and_add_none() {
    let (event, log) = (tick(), Log::default());
    event.on(note(&log, "no value"));
    event.on(|_| Ok::<_, String>(Value(1)));
    event.on(|_| Err::<Value<i32>, _>("no value today"));
    event.on(|_| fall("none either"));
    event.on(|_| Ok::<(), String>(()));
    event.on(|_| Value(2));
    let (values, report) = event.emit_collect::<i32>(&1);
    assert_eq!((values, report.ran(), report.failures().len()), (vec![1, 2], 6, 2));
    assert_eq!(taken(&log), ["no value"]);
}

#[test]
fn a_value_of_another_type_is_a_failure_that_names_both() {
    let event = tick();
    event.on(|_| Value("text"));
    event.on_listener(&Listener::new(|_| Value(1.5)));
    event.on(|_| Value(7));
    let (values, report) = event.emit_collect::<i32>(&1);
    assert_eq!((values, report.ran()), (vec![7], 3));
    let found: Vec<_> = report
        .failures()
        .iter()
        .map(|failure| match failure.cause() {
            FailureCause::ValueMismatch { expected, found } => (*expected, *found),
            other => unreachable!("{other}"),
        })
        .collect();
    assert_eq!(found, [("i32", "&str"), ("i32", "f64")]);
    assert_eq!(report.failures()[0].to_string(), "listener of `tick` returned a `&str` where the emit collects `i32`");
}

#[test]
fn a_break_of_a_listener_ends_the_collection() {
    let event = tick();
    event.on(|_| Value(1));
    event.on(|_| ControlFlow::Break(()));
    event.on(|_| Value(2));
    let (values, report) = event.emit_collect::<i32>(&1);
    assert_eq!((values, report.ran(), report.is_stopped()), (vec![1], 2, true));
}

#[test]
fn a_break_of_the_fold_stops_the_emit_and_keeps_what_was_folded() {
    let event = tick();
    (1..=5).for_each(|n| drop(event.on(move |_| Value(n))));
    let unreached = event.once(|_| {});
    let (sum, report) =
        event.emit_fold(&1, 0, |sum, n: i32| if n < 3 { Continue(sum + n) } else { Break(sum + n * 100) });
    assert_eq!((sum, report.ran(), report.is_stopped()), (303, 3, true));
    assert!(unreached.is_active());
}

#[test]
fn a_panic_of_the_fold_reaches_its_caller_when_the_emit_is_over() {
    let (event, log) = (tick(), Log::default());
    let held = Arc::new(());
    let captured = Arc::clone(&held);
    let once = event.once(move |_| Value(Arc::strong_count(&captured)));
    event.on(note(&log, "after"));
    event.on(|_| Value(2));
    let folded = catch_unwind(AssertUnwindSafe(|| event.emit_fold(&1, (), |(), n: usize| panic!("at {n}"))));
    assert_eq!(folded.unwrap_err().downcast_ref::<String>().map(String::as_str), Some("at 2"));
    assert!(taken(&log).is_empty(), "nobody is called after it");
    assert!(!once.is_active());
    assert_eq!(Arc::strong_count(&held), 1, "what the emit used up is swept");
    assert_eq!(event.emit_collect::<i32>(&1).0, [2]);
}

#[test]
fn a_fold_over_nobody_returns_what_it_started_with() {
    let event = tick();
    let fold = || event.emit_fold(&1, "start", |_, _: i32| Continue("folded")).0;
    assert_eq!(fold(), "start");
    event.on(|_| Value(1));
    assert_eq!(fold(), "folded");
    let _muted = event.mute();
    assert_eq!(fold(), "start");
}

#[test]
fn an_emit_that_does_not_ask_drops_the_values() {
    let event = tick();
    let value = Arc::new(());
    let (weak, value) = (Arc::downgrade(&value), value);
    let inner = Arc::clone(&value);
    event.on(move |_| Value(Arc::clone(&inner)));
    let inner = Arc::clone(&value);
    event.on_listener(&Listener::new(move |_| Value(Arc::clone(&inner))));
    assert_eq!(event.emit(&1).ran(), 2);
    assert_eq!(block_on(event.emit_async(&1)).ran(), 2);
    assert_eq!(weak.strong_count(), 3, "ours, and those of the two listeners");
    let (values, _) = event.emit_collect::<Arc<()>>(&1);
    assert_eq!((values.len(), weak.strong_count()), (2, 5));
}

#[test]
fn an_async_emit_takes_values_for_success() {
    let event = tick();
    event.on_async(|n| async move { Value(*n) });
    event.on_async(|n| async move { if *n > 0 { Ok(Value(*n)) } else { Err("nothing") } });
    let report = block_on(event.emit_async(&1));
    assert_eq!((report.ran(), report.is_ok()), (2, true));
    assert_eq!(block_on(event.emit_async(&0)).failures().len(), 1);
}
