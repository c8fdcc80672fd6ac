//! A process of its own for one test: the test runs itself again there.

use std::process::Command;
use std::thread;

/// Set in that process.
const ALONE: &str = "FANFARE_TEST_IS_ALONE";

/// Runs the calling test once more, in a process of its own, and returns what that wrote to stderr; `None` in that
/// process.
///
/// # Panics
///
/// If the test fails there.
pub(crate) fn run_alone() -> Option<String> {
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let current = thread::current();
    let test = current.name().expect("the harness names the thread after the test");
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(ALONE, "1")
        .output()
        .expect("it runs a second time too");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "no test there has this name: {stdout}");
    Some(stderr.into_owned())
}
