//! Starts of the program with files that it cannot use.

#![allow(missing_docs, reason = "tests")]

use std::path::Path;
use std::process::Command;

use stage::{Program, run_to_end};

const BINARY: &str = env!("CARGO_BIN_EXE_notifications");

/// Starts the program with a data file that it cannot use, and returns its output.
fn refused(data: &Path) -> String {
    let (status, said) = run_to_end(Command::new(BINARY).env("PORT", "0").env("DATA", data).env_remove("JWT_SECRET"));
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn an_unusable_file_is_named_with_the_reason() {
    let running = Program::start("notifications", BINARY);
    let data = running.data();
    let said = refused(&data);
    assert!(said.contains(&format!("{}: the file of offline queues is in use", data.display())), "{said}");

    // In the same folder, which goes with the program.
    let other = data.with_file_name("other.redb");
    let list = data.with_file_name("other.redb.people");
    std::fs::write(&list, "ada, bob").expect("the folder can be written");
    let said = refused(&other);
    assert!(said.contains(&format!("{}: ", list.display())), "{said}");
    std::fs::write(&other, "no database").expect("the folder can be written");
    let said = refused(&other);
    assert!(said.contains(&format!("{}: the file of offline queues cannot be opened: ", other.display())), "{said}");
}
