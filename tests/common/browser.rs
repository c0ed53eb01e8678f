//! A headless Chromium, driven over its DevTools protocol: pages opened, clicked, keyed, asked and photographed. Ended by
//! whoever started it.
#![allow(dead_code, clippy::disallowed_methods)] // Tests may wait, and open sockets.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long a page may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The browser's name where one is installed.
pub fn installed() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| super::common::installed(name))
}

/// One browser with one page.
pub struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    next: u64,
    /// What the page wrote to its console as an error, and what it threw.
    pub errors: Vec<String>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts the browser `name` with an empty page of this size.
    pub async fn start(name: &str, width: u32, height: u32) -> Browser {
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(name)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let lines = BufReader::new(child.stderr.take().expect("its output")).lines();
        let mut lines = lines.map_while(Result::ok);
        let at = lines.find_map(|line| line.split_once("DevTools listening on ").map(|(_, at)| at.trim().to_owned()));
        // Whatever else it says is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let at = at.expect("the browser tells where to drive it from");
        let (socket, _) = tokio_tungstenite::connect_async(&at).await.expect("the browser listens");
        let mut browser =
            Browser { child, _profile: profile, socket, session: String::new(), next: 0, errors: Vec::new() };
        let target = browser.tell("Target.createTarget", json!({"url": "about:blank"})).await;
        let attached =
            browser.tell("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true})).await;
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.tell(domain, json!({})).await;
        }
        browser.size(width, height).await;
        browser
    }

    /// Gives the browser an order and returns its answer.
    pub async fn tell(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut order = json!({"id": self.next, "method": method, "params": params});
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::Text(order.to_string().into())).await.expect("the browser takes orders");
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let message = message.unwrap_or_else(|_| panic!("no answer to {method}")).expect("open").expect("whole");
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            self.note(&answer);
            if answer["id"] == json!(self.next) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string())
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string())
            }
            _ => {}
        }
    }

    /// Sets the page's size in pixels.
    pub async fn size(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Light or dark, as the system would say.
    pub async fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    pub async fn open(&mut self, url: &str) {
        self.tell("Page.navigate", json!({"url": url})).await;
    }

    /// What an expression is in the page.
    pub async fn eval(&mut self, expression: &str) -> Value {
        self.try_eval(expression).await.unwrap_or_else(|thrown| panic!("{expression}: {thrown}"))
    }

    async fn try_eval(&mut self, expression: &str) -> Result<Value, Value> {
        let order = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.tell("Runtime.evaluate", order).await;
        match &answer["exceptionDetails"] {
            Value::Null => Ok(answer["result"]["value"].clone()),
            thrown => Err(thrown.clone()),
        }
    }

    /// Waits until an expression holds; one that throws does not yet: the page may still be loading.
    pub async fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = self.try_eval(expression).await.unwrap_or_else(|thrown| thrown);
            if now == json!(true) {
                return;
            }
            if Instant::now() >= end {
                let text = self.text().await;
                panic!("{expression} is {now} still; the page shows: {text}; errors: {:?}", self.errors);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All text that the page shows.
    pub async fn text(&mut self) -> String {
        self.eval("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// The whole document as it is now.
    pub async fn document(&mut self) -> String {
        self.eval("document.documentElement.outerHTML").await.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the middle of an element, as a mouse does; again where it had moved away meanwhile.
    pub async fn click(&mut self, selector: &str) {
        let end = Instant::now() + PATIENCE;
        let place = format!(
            "(() => {{ const e = document.querySelector({selector:?}); if (!e) return null; \
             e.scrollIntoView({{block: 'center'}}); window.hits = 0; \
             document.addEventListener('click', (c) => {{ if (c.target.closest({selector:?})) window.hits += 1; }}, \
             {{capture: true, once: true}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        );
        loop {
            let at = self.try_eval(&place).await.unwrap_or(Value::Null);
            if at.is_array() {
                for kind in ["mousePressed", "mouseReleased"] {
                    let order = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
                    self.tell("Input.dispatchMouseEvent", order).await;
                }
                // A page that has gone away was hit.
                if self.try_eval("window.hits").await.is_ok_and(|hits| hits != json!(0)) {
                    return;
                }
            }
            assert!(Instant::now() < end, "{selector} cannot be clicked; the page shows: {}", self.text().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Presses a key, for instance `Tab` or `Enter`.
    pub async fn key(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            _ => 32,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut order = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                order["text"] = json!(text);
            }
            self.tell("Input.dispatchKeyEvent", order).await;
        }
    }

    /// Writes what the page looks like to `directory/name.png`, where there is a directory.
    pub async fn photograph(&mut self, directory: Option<&Path>, name: &str) {
        let Some(directory) = directory else { return };
        let shot = self.tell("Page.captureScreenshot", json!({"format": "png"})).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().expect("a picture"));
        std::fs::create_dir_all(directory).expect("the directory");
        std::fs::write(directory.join(format!("{name}.png")), bytes.expect("base64")).expect("the picture");
    }
}
