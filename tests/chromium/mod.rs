//! A headless Chromium, driven through its DevTools protocol over two pipes: what a person would see, and what it complains about.
//! (<https://chromedevtools.github.io/devtools-protocol/>, `--remote-debugging-pipe`: messages of JSON that end with a zero byte.)

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// An answer comes in milliseconds, on a machine that is busy with other tests in seconds; a browser that died never answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// A promise may stand for work: every shader on a software adapter is most of a minute on a quiet machine.
const PATIENCE_WITH_WORK: Duration = Duration::from_secs(600);

/// The browser, where one is installed.
fn binary() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

pub struct Chromium {
    child: Child,
    to: File,
    /// Its messages: a thread of their own reads them, so that waiting for one can end.
    from: Receiver<Value>,
    session: String,
    last: u64,
    /// Pages that were loaded.
    loaded: u64,
    /// What the pages logged as errors or warnings.
    pub complaints: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Chromium {
    /// Starts one with an empty page. `None` where none is installed; `TRIMODAL_REQUIRE_CHROMIUM=1` makes that a failure.
    pub fn start(flags: &[&str]) -> Option<Chromium> {
        let Some(binary) = binary() else {
            assert!(std::env::var_os("TRIMODAL_REQUIRE_CHROMIUM").is_none(), "no chromium in PATH, although TRIMODAL_REQUIRE_CHROMIUM is set");
            eprintln!("NOT RUN: what a browser would see: no chromium in PATH (Debian: apt install chromium)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        // The shell gives the browser descriptors 3 and 4. Opened for reading and writing, a pipe of the file system does not wait for
        // its other end.
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<>\"$TO\" 4<>\"$FROM\"")
            .arg(binary)
            .args(["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--hide-scrollbars", "--no-first-run"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(flags)
            .arg("about:blank")
            .envs([("TO", &to), ("FROM", &from)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
        let (sender, receiver) = channel();
        let mut from = BufReader::new(open(&from));
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while from.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                let message = serde_json::from_slice(&bytes[..bytes.len() - 1]).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let mut chromium =
            Chromium { child, to: open(&to), from: receiver, session: String::new(), last: 0, loaded: 0, complaints: Vec::new(), _folder: folder };
        let target = chromium.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = chromium.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        chromium.session = attached["sessionId"].as_str().unwrap().to_string();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        Some(chromium)
    }

    /// One command and its result. Events that come in between are kept where they complain.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.call_within(PATIENCE, method, params)
    }

    fn call_within(&mut self, patience: Duration, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.receive(patience);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    fn receive(&mut self, patience: Duration) -> Value {
        let message = self.from.recv_timeout(patience).unwrap_or_else(|e| panic!("chromium does not answer within {patience:?}: {e}"));
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded += 1,
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" || params["type"] == "warning" => self.complaints.push(params["args"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" || params["entry"]["level"] == "warning" => {
                self.complaints.push(params["entry"]["text"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                if !["file:", "data:", "http://127.0.0.1", "http://localhost"].iter().any(|own| url.starts_with(own)) {
                    self.complaints.push(format!("fetched {url}"));
                }
            }
            _ => {}
        }
        message
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        let before = self.loaded;
        self.call("Page.navigate", json!({ "url": url }));
        while self.loaded == before {
            self.receive(PATIENCE);
        }
    }

    /// What a JavaScript expression gives; a promise is waited for.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call_within(PATIENCE_WITH_WORK, "Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// The window's size in CSS pixels, as a phone (`mobile`) or a desktop has it.
    pub fn resize(&mut self, width: u32, height: u32, mobile: bool) {
        self.call("Emulation.setDeviceMetricsOverride", json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile }));
    }

    /// What the reader of the page prefers: `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        self.call("Emulation.setEmulatedMedia", json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }));
    }

    /// Presses a key that has no letter, as a person would.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code }));
        }
    }

    /// What a screen reader is told, in its order: the role, the name and the level (of a heading) of everything that is not ignored.
    pub fn spoken(&mut self) -> Vec<(String, String, u64)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("nodes");
        let node = |id: &Value| nodes.iter().find(|node| &node["nodeId"] == id);
        let (mut open, mut spoken) = (vec![&nodes[0]], Vec::new());
        while let Some(next) = open.pop() {
            if next["ignored"] == false {
                let text = |key: &str| next[key]["value"].as_str().unwrap_or_default().to_string();
                let level = next["properties"].as_array().into_iter().flatten().find(|p| p["name"] == "level");
                spoken.push((text("role"), text("name"), level.and_then(|p| p["value"]["value"].as_u64()).unwrap_or(0)));
            }
            open.extend(next["childIds"].as_array().into_iter().flatten().rev().filter_map(node));
        }
        spoken
    }

    /// A PNG of the whole page.
    pub fn screenshot(&mut self, path: &Path) {
        use base64::Engine;
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        let png = base64::prelude::BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, png).unwrap();
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
