//! Names, and what errors and `Debug` say: the texts that a user reads when something is wrong.

use std::pin::pin;
use std::sync::Arc;

use fanfare::dispatch::TooManyListeners;
use fanfare::{Dispatcher, EventError, Listener};

use crate::calls::TICK;

#[test]
fn an_event_is_named_by_a_key_and_by_every_kind_of_string() {
    let events = Dispatcher::new();
    events.on(TICK, |_| {}).unwrap();
    let (owned, shared) = ("tick".to_owned(), Arc::<str>::from("tick"));
    assert_eq!(events.emit(TICK, &1).unwrap().ran(), 1);
    assert_eq!(events.emit("tick", &1u32).unwrap().ran(), 1);
    assert_eq!(events.emit(&owned, &1u32).unwrap().ran(), 1);
    assert_eq!(events.emit(owned, &1u32).unwrap().ran(), 1);
    assert_eq!(events.emit(&shared, &1u32).unwrap().ran(), 1);
    assert_eq!(events.emit(shared, &1u32).unwrap().ran(), 1);
    assert_eq!((TICK.name(), TICK.as_ref()), ("tick", "tick"));
}

#[test]
fn a_payload_of_another_type_is_refused_with_both_types_and_the_fix() {
    let events = Dispatcher::new();
    let _numbers = events.namespace("shop").event::<u32>("paid").unwrap();
    let Err(EventError::PayloadMismatch(mismatch)) = events.emit("shop:paid", &1u8) else { panic!("it carries u32") };
    assert_eq!((mismatch.event(), mismatch.expected(), mismatch.found()), ("shop:paid", "u32", "u8"));
    let text = "event `shop:paid` carries `u32`, not `u8`; declare `const KEY: Key<u32>` once and use it on both sides";
    assert_eq!(mismatch.to_string(), text);
    let fix = |error: EventError| error.to_string().split_once("; ").map(|(_, fix)| fix.to_owned()).unwrap();
    let reference = events.emit("shop:paid", &&1u32).unwrap_err();
    assert_eq!(fix(reference), "take one `&` off the payload");
    let _owned = events.event::<String>("name").unwrap();
    let _text = events.event::<str>("title").unwrap();
    let both = "use `str` on both sides: it takes `\"text\"` and `&string[..]`";
    assert_eq!(fix(events.emit("name", "Ada").unwrap_err()), both);
    assert_eq!(fix(events.emit("name", &"Ada").unwrap_err()), both);
    assert_eq!(fix(events.emit("title", &"Dr".to_owned()).unwrap_err()), both);
    assert_eq!(
        fix(events.emit("name", &1u8).unwrap_err()),
        "declare `const KEY: Key<alloc::string::String>` once and use it on both sides"
    );
}

#[test]
fn a_bad_name_and_a_full_event_say_what_they_are() {
    let events = Dispatcher::builder().listener_limit(0).build();
    let error = events.on("no spaces", |_: &u32| {}).unwrap_err();
    assert_eq!(error.to_string(), "event name \"no spaces\": a name has no ASCII blanks or control characters");
    let Err(EventError::TooManyListeners(error)) = events.on(TICK, |_| {}) else { panic!("there is room for none") };
    let _: &TooManyListeners = &error;
    assert_eq!((error.event(), error.limit()), ("tick", 0));
}

#[test]
fn debug_tells_what_a_thing_is_and_no_payload() {
    let events = Dispatcher::new();
    let event = events.event(TICK).unwrap();
    let weak = events.downgrade();
    assert_eq!(format!("{TICK:?}"), "Key<u32>(\"tick\")");
    assert_eq!(format!("{event:?}"), "Event { name: \"tick\", payload: \"u32\", listeners: 0 }");
    assert_eq!(format!("{:?}", event.downgrade()), "WeakEvent { alive: true }");
    assert_eq!(format!("{events:?}"), "Dispatcher { namespace: \"\", events: [\"tick\"] }");
    assert_eq!(format!("{weak:?}"), "WeakDispatcher { alive: true }");
    assert_eq!(format!("{:?}", pin!(event.emit_async(&1))), "EmitAsync { event: \"tick\", waiting: false, .. }");
    assert!(format!("{:?}", Listener::new(|_: &u32| {})).starts_with("Listener"));
    let muted = event.mute();
    assert!(format!("{muted:?}").starts_with("Muted(Event"));
    drop((muted, event, events));
    assert_eq!(format!("{weak:?}"), "WeakDispatcher { alive: false }");
}
