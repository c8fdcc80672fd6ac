//! A program under test: the real binary, on a free port, ended on every path.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::DEADLINE;
use crate::http::{Answer, ask};

/// A running program, which said `NAME is at http://ADDRESS` in its first line. It keeps its data in a folder of its
/// own, which goes with it.
#[derive(Debug)]
pub struct Program {
    name: String,
    binary: PathBuf,
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Program {
    /// Starts a binary on any free port: `Program::start("chat", env!("CARGO_BIN_EXE_chat"))`.
    ///
    /// # Panics
    ///
    /// When it does not say its address.
    #[must_use]
    pub fn start(name: &str, binary: impl AsRef<Path>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("stage-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let binary = binary.as_ref().to_owned();
        let (child, address) = spawn(name, &binary, &folder, "0");
        Self { name: name.to_owned(), binary, child, address, folder }
    }

    /// Returns its address, such as `127.0.0.1:40123`. It is the same after a restart.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the address of a page, by its path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the file that `DATA` names.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        data_in(&self.folder, &self.name)
    }

    /// Asks for something over HTTP.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Answer {
        ask(&self.address, method, path, token, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Signs in, and returns the token.
    ///
    /// # Panics
    ///
    /// When that is refused.
    #[must_use]
    pub fn login(&self, user: &str) -> String {
        let answer = self.ask("POST", "/login", None, Some(&json!({ "user": user })));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["token"].as_str().expect("a login answers with a token").to_owned()
    }

    /// Sends Ctrl-C, and returns how it ended and when.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn interrupt(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "the program is there");
        (wait(&mut self.child), begun.elapsed())
    }

    /// Ends it without a word (SIGKILL).
    ///
    /// # Panics
    ///
    /// When it is not there.
    pub fn kill(&mut self) {
        self.child.kill().expect("the program is there");
        wait(&mut self.child);
    }

    /// Starts it again after its end, at the same address, with the same data.
    ///
    /// # Panics
    ///
    /// When it does not say its address.
    pub fn start_again(&mut self) {
        let (_, port) = self.address.rsplit_once(':').expect("an address has a port");
        let (child, address) = spawn(&self.name, &self.binary, &self.folder, port);
        (self.child, self.address) = (child, address);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn data_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.redb"))
}

fn spawn(name: &str, binary: &Path, folder: &Path, port: &str) -> (Child, String) {
    let mut command = Command::new(binary);
    command.env("PORT", port).env("DATA", data_in(folder, name)).env_remove("HOST").env_remove("JWT_SECRET");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let line = lines.next().and_then(Result::ok).unwrap_or_default();
    let Some(address) = line.strip_prefix(&format!("{name} is at http://")) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{name} does not say its address, but {line:?}");
    };
    // Read on, so that the program never waits for us.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address.to_owned())
}

/// Runs a program that is to end by itself, and returns how, with what it wrote to stderr.
///
/// # Panics
///
/// When it does not end.
pub fn run_to_end(command: &mut Command) -> (ExitStatus, String) {
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
