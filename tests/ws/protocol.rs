//! The page on the protocol says what the code does: its examples, its types and its close codes.

use std::collections::BTreeSet;

use fanfare::channel::CloseCode;
use fanfare::group::{Position, Recover, Request};
use fanfare::ws::{CLIENT_DTS, CLIENT_JS};
use serde_json::Value;

const PAGE: &str = include_str!("../../src/docs/protocol.md");

/// Each type that a server sends, and the fields that it always has.
const SENT: [(&str, &[&str]); 10] = [
    ("joined", &["group", "epoch", "offset", "recovered", "replayed"]),
    ("skip", &["group", "offset"]),
    ("presence", &["group", "epoch", "version", "count", "page", "pages", "users"]),
    ("presence.diff", &["group", "epoch", "version", "count", "joined", "updated", "left"]),
    ("presence.page", &["group", "count", "users", "more"]),
    ("notification", &["notification_id", "priority", "time", "data"]),
    ("unread", &["unread"]),
    ("acked", &["notification_id", "unread"]),
    ("refreshed", &["expires"]),
    ("error", &["error"]),
];
const ASKED: [&str; 3] = ["ack", "presence", "refresh"];

/// The JSON values of all examples under a heading.
fn examples(heading: &str) -> Vec<Value> {
    let section = PAGE.split("\n# ").find(|section| section.starts_with(heading)).expect("there is such a heading");
    let blocks = section.split("```json\n").skip(1).map(|block| block.split("```").next().expect("it has an end"));
    let values = blocks.flat_map(|block| serde_json::Deserializer::from_str(block).into_iter::<Value>());
    let values: Vec<_> = values.map(|value| value.expect("an example is JSON")).collect();
    assert!(!values.is_empty(), "{heading}");
    values
}

fn kind(message: &Value) -> &str {
    message["type"].as_str().expect("a message has a type")
}

#[test]
fn every_message_of_a_server_has_an_example_with_all_its_fields() {
    let examples = examples("What a server sends");
    let shown: BTreeSet<_> = examples.iter().map(kind).collect();
    assert_eq!(shown, SENT.iter().map(|(kind, _)| *kind).collect());
    for example in &examples {
        let (_, fields) = SENT.iter().find(|(name, _)| *name == kind(example)).expect("it is one of them");
        for field in *fields {
            assert!(example.get(field).is_some(), "{field} in {example}");
        }
    }
}

#[test]
fn every_request_has_an_example_that_is_one() {
    let examples = examples("What a client sends");
    assert_eq!(examples.iter().map(kind).collect::<BTreeSet<_>>(), BTreeSet::from(ASKED));
    for example in examples {
        let text = example.to_string();
        assert!(Request::is_one(&text), "{text}");
        let request: Request = serde_json::from_str(&text).expect("it is a request");
        assert_eq!(serde_json::to_value(&request).expect("it is JSON"), example, "nothing of it is ignored");
    }
    assert!(!Request::is_one(r#"{"type":"joined"}"#));
}

#[test]
fn the_position_of_the_page_is_one() {
    let examples = examples("Messages of a group with a history");
    let (recover, saved) = examples.split_last().expect("there are examples");
    for message in saved {
        assert!(message["group"].is_string() && message["offset"].is_u64(), "{message}");
    }
    let recover: Recover = recover.to_string().parse().expect("it is what a client brings");
    assert_eq!(recover.position("room"), Some(Position { epoch: 1_763_700_000_000, offset: 12 }));
    assert!(PAGE.contains("?recover=%7B%22room%22%3A%5B1763700000000%2C12%5D%7D"));
}

#[test]
fn the_types_of_the_client_are_those_of_the_page() {
    let declared = CLIENT_DTS.lines().filter_map(|line| line.trim().strip_prefix("type: \"")?.strip_suffix("\";"));
    let declared: BTreeSet<_> = declared.collect();
    assert_eq!(declared, SENT.iter().map(|(kind, _)| *kind).chain(ASKED).collect());
    for (kind, _) in SENT {
        assert!(CLIENT_JS.contains(&format!("case \"{kind}\":")), "the client knows {kind}");
    }
    for kind in ASKED {
        assert!(CLIENT_JS.contains(&format!("type: \"{kind}\"")), "the client sends {kind}");
    }
}

#[test]
fn close_codes_are_those_of_the_crate_and_the_client_does_what_the_page_says() {
    let section = PAGE.split("\n# ").find(|section| section.starts_with("Close codes")).expect("there is a table");
    let rows = section.lines().filter(|line| line.starts_with("| 1") || line.starts_with("| 4"));
    let rows: Vec<Vec<_>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let named = [
        ("NORMAL", CloseCode::NORMAL),
        ("GOING_AWAY", CloseCode::GOING_AWAY),
        ("PROTOCOL_ERROR", CloseCode::PROTOCOL_ERROR),
        ("UNSUPPORTED", CloseCode::UNSUPPORTED),
        ("INVALID", CloseCode::INVALID),
        ("POLICY", CloseCode::POLICY),
        ("TOO_BIG", CloseCode::TOO_BIG),
        ("INTERNAL_ERROR", CloseCode::INTERNAL_ERROR),
        ("TRY_AGAIN_LATER", CloseCode::TRY_AGAIN_LATER),
        ("UNAUTHORIZED", CloseCode::UNAUTHORIZED),
        ("REVOKED", CloseCode::REVOKED),
        ("EXPIRED", CloseCode::EXPIRED),
    ];
    for (name, code) in named {
        let told = rows.iter().any(|row| row[0] == code.to_string() && row[1] == format!("`{name}`"));
        assert!(told, "{name} {code}");
    }
    let ends: Vec<_> = rows.iter().filter(|row| row[3] == "ends").map(|row| row[0]).collect();
    let line = format!("const FINAL_CODES = new Set([{}]);", ends.join(", "));
    assert!(CLIENT_JS.contains(&line), "{line}");
}
