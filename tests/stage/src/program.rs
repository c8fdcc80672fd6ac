//! A program under test: the real binary, on a free port, ended on every path.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
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
    running: Running,
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
        let (running, address) = spawn(name, &binary, &folder, "0");
        Self { name: name.to_owned(), binary, running, address, folder }
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
        let sent =
            Command::new("kill").args(["-INT", &self.running.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success(), "the program is there");
        (self.running.wait(), begun.elapsed())
    }

    /// Ends it without a word (SIGKILL).
    ///
    /// # Panics
    ///
    /// When it is not there.
    pub fn kill(&mut self) {
        self.running.child.kill().expect("the program is there");
        self.running.wait();
    }

    /// Starts it again after its end, at the same address, with the same data.
    ///
    /// # Panics
    ///
    /// When it does not say its address.
    pub fn start_again(&mut self) {
        let (_, port) = self.address.rsplit_once(':').expect("an address has a port");
        let (running, address) = spawn(&self.name, &self.binary, &self.folder, port);
        (self.running, self.address) = (running, address);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Before the folder.
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn data_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.redb"))
}

fn spawn(name: &str, binary: &Path, folder: &Path, port: &str) -> (Running, String) {
    let mut command = Command::new(binary);
    command.env("PORT", port).env("DATA", data_in(folder, name)).env_remove("HOST").env_remove("JWT_SECRET");
    let (running, says) = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let line = says.recv_timeout(DEADLINE).unwrap_or_default();
    match line.strip_prefix(&format!("{name} is at http://")) {
        Some(address) => (running, address.to_owned()),
        None => panic!("{name} does not say its address, but {line:?}"),
    }
}

/// Runs a program that is to end by itself, and returns how, with what it wrote to stderr.
///
/// # Panics
///
/// When it does not end.
pub fn run_to_end(command: &mut Command) -> (ExitStatus, String) {
    let (mut running, says) = Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let status = running.wait();
    (status, says.iter().map(|line| line + "\n").collect())
}

/// A process, which is killed at the latest when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Ends when the process does: there is nothing more to read from it.
    ended: Receiver<()>,
}

impl Running {
    /// Starts it; the lines come from whichever of its outputs is piped.
    fn start(command: &mut Command) -> (Self, Receiver<String>) {
        let mut child = command.spawn().expect("the binary starts");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let piped: Box<dyn Read + Send> = match (stdout, stderr) {
            (Some(stdout), _) => Box::new(stdout),
            (None, Some(stderr)) => Box::new(stderr),
            (None, None) => panic!("one of the outputs is piped"),
        };
        let ((tell, says), (end, ended)) = (mpsc::channel(), mpsc::channel());
        // It reads on whether or not anybody listens, so that the program never waits for us.
        std::thread::spawn(move || {
            let _end = end;
            for line in BufReader::new(piped).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        (Self { child, ended }, says)
    }

    fn wait(&mut self) -> ExitStatus {
        if self.ended.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            panic!("the program did not end");
        }
        self.child.wait().expect("the child is ours")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
