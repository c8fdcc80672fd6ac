//! The part of WebDriver that the tests need, over plain HTTP.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Nothing here takes longer, or it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// The key of an element's id (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running chromedriver.
pub(crate) struct Driver {
    child: Child,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

/// Two browsers at a time are enough for a small machine: one test after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// A browser of its own, with an empty profile.
pub(crate) struct Tab<'a> {
    driver: &'a Driver,
    session: String,
    profile: PathBuf,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.strip_suffix('.')?.rsplit_once("on port ")?.1.parse().ok())
            .expect("chromedriver says on which port it listens");
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, _alone: alone }
    }

    pub(crate) fn tab(&self, width: u32, height: u32) -> Tab<'_> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("profile-{}-{number}", std::process::id()));
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}}});
        let made = self.call("POST", "/session", &wanted);
        let session = made["sessionId"].as_str().expect("a session has an id").to_owned();
        let tab = Tab { driver: self, session, profile };
        // A headless window is never narrower than 500 pixels; the view inside can be.
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        tab.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        tab
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|problem| panic!("{method} {path}: {problem}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let answer = self.exchange(method, path, &body.to_string()).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let port = self.port;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {length}\r\n\r\n{body}")?;
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                None if line.trim_end().is_empty() => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        Ok(body)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tab<'_> {
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.driver.call(method, &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url}));
    }

    /// Goes back to the page before.
    pub(crate) fn back(&self) {
        self.call("POST", "/back", &json!({}));
    }

    /// Returns which window this is; what follows happens in it.
    pub(crate) fn window(&self) -> String {
        self.call("GET", "/window", &json!({})).as_str().expect("a window has a handle").to_owned()
    }

    /// Opens another window of the same profile, and goes on in it.
    pub(crate) fn open_window(&self) -> String {
        let opened = self.call("POST", "/window/new", &json!({"type": "tab"}));
        let window = opened["handle"].as_str().expect("a window has a handle").to_owned();
        self.switch_to(&window);
        window
    }

    /// Goes on in this window.
    pub(crate) fn switch_to(&self, window: &str) {
        self.call("POST", "/window", &json!({"handle": window}));
    }

    /// Runs a command of the browser's own protocol.
    pub(crate) fn devtools(&self, command: &str, params: &Value) {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": params}));
    }

    pub(crate) fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Asks until the script returns true.
    pub(crate) fn wait_for(&self, script: &str) {
        let until = Instant::now() + DEADLINE;
        while self.run(script) != json!(true) {
            if Instant::now() > until {
                panic!("never true: {script}\npage: {}", self.run("return document.body.innerText"));
            }
        }
    }

    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.call("POST", &format!("/element/{element}/clear"), &json!({}));
        self.call("POST", &format!("/element/{element}/value"), &json!({"text": text}));
    }

    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.call("POST", &format!("/element/{element}/click"), &json!({}));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call("POST", "/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    pub(crate) fn screenshot(&self, to: &Path) {
        let picture = self.call("GET", "/screenshot", &json!({}));
        let bytes = STANDARD.decode(picture.as_str().expect("a screenshot is text")).expect("it is base64");
        std::fs::write(to, bytes).expect("the target folder can be written");
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        let _ = self.driver.try_call("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
