//! What is written to stderr, where nobody listens for it: each test runs itself again, as a process of its own.

#![allow(missing_docs, reason = "tests")]

mod alone;
mod calls;
#[cfg(feature = "ws")]
mod sockets;

use std::fmt;
use std::thread;

use alone::run_alone;
use calls::{Grenade, TICK, fall, tick};
use fanfare::Dispatcher;

/// Runs `run` in a process of its own, and returns what the library wrote there.
fn written(run: impl FnOnce()) -> Option<Vec<String>> {
    let Some(stderr) = run_alone() else {
        run();
        return None;
    };
    let lines = stderr.lines().filter_map(|line| line.strip_prefix("fanfare: "));
    Some(lines.map(str::to_owned).collect())
}

#[test]
fn without_a_hook_the_first_failure_of_each_listener_is_written_with_its_place() {
    let lines = written(|| {
        let event = tick();
        event.on(|_| Err::<(), _>("no bread"));
        event.on(|_| fall("no butter"));
        (0..3).for_each(|n| drop(event.emit(&n)));
    });
    let Some(lines) = lines else { return };
    let [first, second] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(first.starts_with("listener of `tick` failed: no bread (registered at tests/stderr.rs:"), "{first}");
    assert!(first.ends_with("; its later failures are in reports only)"), "{first}");
    assert!(second.starts_with("listener of `tick` panicked: no butter (registered at "), "{second}");
}

#[cfg(feature = "tracing")]
#[test]
fn a_subscriber_that_takes_warnings_is_told_instead() {
    let lines = written(|| {
        let event = tick();
        event.on(|_| Err::<(), _>("no bread"));
        event.on(|_| fall("no butter"));
        // These go to the subscriber; what comes later finds it gone.
        let kept = tracing::subscriber::set_default(tracing_subscriber::registry());
        event.emit(&1);
        drop(kept);
        event.on(|_| Err::<(), _>("no jam"));
        event.emit(&1);
    });
    let Some(lines) = lines else { return };
    let [line] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(line.starts_with("listener of `tick` failed: no jam"), "{line}");
}

#[test]
fn with_a_hook_no_failure_is_written() {
    let lines = written(|| {
        let events = Dispatcher::new();
        events.on_error(|_| {});
        events.on(TICK, |_| Err::<(), _>("no")).unwrap();
        events.emit(TICK, &1).unwrap();
    });
    assert!(lines.is_none_or(|lines| lines.is_empty()));
}

#[test]
fn a_failure_inside_the_hook_and_a_panic_of_the_hook_are_written() {
    let lines = written(|| {
        let events = Dispatcher::new();
        let inner = events.downgrade();
        let event = events.event(TICK).unwrap();
        events.on_error(move |_| {
            inner.upgrade().expect("somebody emits").emit(TICK, &1).unwrap();
            fall("in the hook");
        });
        event.on(|_| Err::<(), _>("no"));
        event.emit(&1);
    });
    let Some(lines) = lines else { return };
    let [inside, outside, panic] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(inside.ends_with("; inside the on_error hook)"), "{inside}");
    assert!(outside.starts_with("listener of `tick` failed: no (registered at "), "{outside}");
    assert_eq!(panic, "the on_error hook panicked: in the hook");
}

#[test]
fn a_capture_that_panics_when_its_dispatcher_is_dropped_is_written() {
    let lines = written(|| {
        let events = Dispatcher::new();
        events.on_error(|_| unreachable!("the hook goes with its dispatcher"));
        let grenade = Grenade;
        events.on(TICK, move |_| _ = &grenade).unwrap();
    });
    let Some(lines) = lines else { return };
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("listener of `tick` panicked while it was dropped: in a destructor"), "{}", lines[0]);
}

#[test]
fn an_error_that_cannot_be_shown_is_written_as_that() {
    #[derive(Debug)]
    struct Shy;
    impl fmt::Display for Shy {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("rather not")
        }
    }
    impl std::error::Error for Shy {}
    let lines = written(|| {
        let event = tick();
        event.on(|_| Err::<(), _>(Shy));
        assert_eq!(event.emit(&1).failures().len(), 1);
    });
    let Some(lines) = lines else { return };
    assert!(lines[0].starts_with("listener of `tick` failed with an error whose Display panics"), "{lines:?}");
}

#[test]
fn more_listeners_than_the_threshold_are_warned_of_once_for_each_event_with_the_place() {
    let lines = written(|| {
        let events = Dispatcher::builder().warn_above(2).build();
        let _kept = events.event::<u32>("many").unwrap();
        for name in ["few", "many", "more"] {
            let count = if name == "few" { 2 } else { 20 };
            (0..count).for_each(|_| drop(events.on(name, |_: &u32| {})));
        }
        // Below the threshold and above it again: it was said already.
        events.off_all("many");
        (0..20).for_each(|_| drop(events.on("many", |_: &u32| {})));
    });
    let Some(lines) = lines else { return };
    let [many, more] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(many.starts_with("event `many` has 3 listeners, the last one registered at tests/stderr.rs:"), "{many}");
    assert!(more.starts_with("event `more` has 3 listeners"), "{more}");
}

#[test]
fn threads_that_cross_the_threshold_together_are_warned_once() {
    let lines = written(|| {
        let events = Dispatcher::builder().warn_above(1).build();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| drop(events.on(TICK, |_| {}))));
            }
        });
    });
    assert!(lines.is_none_or(|lines| lines.len() == 1));
}

#[test]
fn the_threshold_is_a_hundred_and_can_be_taken_away() {
    let lines = written(|| {
        let fill = |events: &Dispatcher, name: &str, count: usize| {
            (0..count).for_each(|_| drop(events.on(name, |_: &u32| {}).unwrap()));
        };
        let events = Dispatcher::new();
        fill(&events, "hundred", 100);
        fill(&events, "more", 101);
        fill(&Dispatcher::builder().warn_above(None).build(), "never", 1000);
    });
    let Some(lines) = lines else { return };
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("event `more` has 101 listeners"), "{}", lines[0]);
}

#[test]
fn what_no_report_will_have_is_written_every_time() {
    let lines = written(|| {
        let events = Dispatcher::builder().listener_limit(2).build();
        let event = events.event(TICK).unwrap();
        for _ in 0..4 {
            let grenade = Grenade;
            event.on(move |_| _ = &grenade);
        }
        assert_eq!(event.off_all(), 2);
    });
    let Some(lines) = lines else { return };
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("was not registered"), count("panicked while it was dropped")), (2, 4), "{lines:#?}");
}

#[cfg(feature = "ws")]
#[test]
fn a_failed_handler_that_nobody_listens_for_is_written() {
    use fanfare::channel::Channel;
    use fanfare::ws::HANDLER_FAILED;

    let lines = written(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
        runtime.block_on(async {
            let events = Dispatcher::new();
            let heard = events.clone();
            let unheard = sockets::serve(async |_channel: Channel| Err("no bread".into())).await;
            let heard = sockets::serve_with(move |u| u.events(&heard), async |_: Channel| Err("no jam".into())).await;
            for address in [unheard, heard] {
                assert_eq!(sockets::close_code(&mut sockets::connect(address).await).await, 1011);
            }
            let _listening = events.on(HANDLER_FAILED, |_| {});
            assert_eq!(sockets::close_code(&mut sockets::connect(heard).await).await, 1011);
        });
    });
    let Some(lines) = lines else { return };
    let [unheard, nobody] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(unheard.starts_with("the handler of channel ") && unheard.ends_with(" failed: no bread"), "{unheard}");
    assert!(nobody.ends_with(" failed: no jam"), "a dispatcher without a listener for it: {nobody}");
}

#[cfg(feature = "jwt")]
#[test]
fn a_route_for_tokens_without_a_verifier_is_written_once() {
    use axum::{Router, routing::get};
    use fanfare::ws::Jwt;

    let lines = written(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
        runtime.block_on(async {
            let route = async |token: Jwt| token.user().to_string();
            let address = sockets::serve_router(Router::new().route("/", get(route))).await;
            for _ in 0..2 {
                let (_client, head) = sockets::Raw::ask(address, "Authorization: Bearer a.b.c\r\n").await;
                assert!(head.starts_with("HTTP/1.1 500"), "{head}");
            }
        });
    });
    let Some(lines) = lines else { return };
    let [line] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(line.contains("no JwtVerifier") && !line.contains("a.b.c"), "{line}");
}
