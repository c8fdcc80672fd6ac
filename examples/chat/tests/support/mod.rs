//! Starts the real program on a free port, and ends it on every path.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer, or it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Chat {
    child: Child,
    /// Such as `127.0.0.1:40123`.
    pub(crate) address: String,
}

impl Chat {
    pub(crate) fn start() -> Self {
        Self::start_at("0")
    }

    pub(crate) fn start_at(port: &str) -> Self {
        let mut child = command(port).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let line = lines.next().expect("a line comes before the end").expect("it is text");
        let address = line.strip_prefix("chat is at http://").expect("the first line is the address").to_owned();
        // Read on, so that the program never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn port(&self) -> String {
        self.address.rsplit(':').next().expect("an address has a port").to_owned()
    }

    /// Sends Ctrl-C, and returns how it ended and when.
    pub(crate) fn interrupt(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "the program is there");
        (wait(&mut self.child), begun.elapsed())
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the program is there");
        wait(&mut self.child);
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
    command.env("PORT", port).env_remove("HOST");
    command
}

/// Runs a program that is to end by itself, and returns how, with what it wrote to stderr.
pub(crate) fn run_to_end(mut command: Command) -> (ExitStatus, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let status = wait(&mut child);
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("it is text");
    (status, said)
}

fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("the program did not end");
        }
        std::thread::yield_now();
    }
}
