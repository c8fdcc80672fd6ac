//! The part of WebDriver that the tests need, over plain HTTP.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::DEADLINE;
use crate::http::ask;

/// The key of an element's id (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running chromedriver.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

/// Two browsers at a time are enough for a small machine: one test after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// A browser of its own, with an empty profile.
#[derive(Debug)]
pub struct Tab<'a> {
    driver: &'a Driver,
    session: String,
    profile: PathBuf,
}

impl Driver {
    /// Starts it, when no other test of this process has one.
    ///
    /// # Panics
    ///
    /// When it is not installed. Everything here panics when the browser does not do what it is told.
    #[must_use]
    pub fn start() -> Self {
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

    /// Starts a browser whose page has this size.
    #[must_use]
    pub fn tab(&self, width: u32, height: u32) -> Tab<'_> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("profile-{}-{number}", std::process::id()));
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
        let address = format!("127.0.0.1:{}", self.port);
        let answer = ask(&address, method, path, None, Some(body)).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
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

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url}));
    }

    /// Goes back to the page before.
    pub fn back(&self) {
        self.call("POST", "/back", &json!({}));
    }

    /// Returns which window this is; what follows happens in it.
    pub fn window(&self) -> String {
        self.call("GET", "/window", &json!({})).as_str().expect("a window has a handle").to_owned()
    }

    /// Opens another window of the same profile, and goes on in it.
    pub fn open_window(&self) -> String {
        let opened = self.call("POST", "/window/new", &json!({"type": "tab"}));
        let window = opened["handle"].as_str().expect("a window has a handle").to_owned();
        self.switch_to(&window);
        window
    }

    /// Goes on in this window.
    pub fn switch_to(&self, window: &str) {
        self.call("POST", "/window", &json!({"handle": window}));
    }

    /// Runs a command of the browser's own protocol.
    pub fn devtools(&self, command: &str, params: &Value) {
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": params}));
    }

    /// Runs a script, and returns what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Asks until the script returns true.
    pub fn wait_for(&self, script: &str) {
        let until = Instant::now() + DEADLINE;
        while self.run(script) != json!(true) {
            if Instant::now() > until {
                panic!("never true: {script}\npage: {}", self.run("return document.body.innerText"));
            }
        }
    }

    /// Types a text into a field, in place of what is there.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.call("POST", &format!("/element/{element}/clear"), &json!({}));
        self.call("POST", &format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Clicks, and scrolls there before.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.call("POST", &format!("/element/{element}/click"), &json!({}));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call("POST", "/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().expect("an element has an id").to_owned()
    }

    /// Writes what is seen of the page to a PNG file.
    pub fn screenshot(&self, to: &Path) {
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
