//! A running node between a carrier and a PBX of the testkit, calls on it, and its API asked as a CRM would.
#![allow(dead_code, clippy::disallowed_methods)] // Each test binary uses its part; tests may wait, and open sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::ua::{Answer, Event, Profile, UserAgent};

use crate::common::{API_KEYS, Plan, Running};

const PATIENCE: Duration = Duration::from_secs(60);

/// The secret of [`receiver`]'s endpoint, to be written as `crm.whsec`.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A node and its peers.
pub struct Desk {
    pub node: Running,
    pbx: Exchange,
    carrier: Exchange,
    api: Api,
}

/// A node's API, asked with the CRM's key or another.
pub struct Api {
    node: SocketAddr,
    key: &'static str,
    http: ureq::Agent,
}

/// A call that is up.
pub struct Call {
    pub caller: Phone,
    pub agent: Phone,
    pub id: String,
}

impl Call {
    /// The caller keys.
    pub fn press(&self, keys: &str, form: Form) {
        self.caller.with(|phone, _| phone.press(20, typed(keys, form, 70, 60)));
    }
}

impl Api {
    pub fn of(node: &Running) -> Api {
        Self::under(node, API_KEYS[0].2)
    }

    /// The same, asked with `key`.
    pub fn under(node: &Running, key: &'static str) -> Api {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        Api { node: node.control.expect("an API"), key, http: config.into() }
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.node)
    }

    /// What the API answers, and the status; what is no JSON comes as text, what is no text as nothing.
    pub fn answer(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(self.url(path))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(body.map_or_else(Vec::new, |body| body.to_string().into_bytes()))
            .expect("a request");
        let answer = tokio::task::block_in_place(|| self.http.run(request));
        let mut answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let bytes = answer.body_mut().read_to_vec().expect("a body");
        let text = String::from_utf8(bytes).unwrap_or_default();
        let status = answer.status().as_u16();
        if text.is_empty() {
            return (status, Value::Null);
        }
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// What is at `path`, when it is as wanted; what was there last when it is not in time.
    pub async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Result<Value, Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.answer("GET", path, None).1;
            if what(&found) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Desk {
    /// Starts the node of `plan` with its API, guarded by signal and with peers of its own.
    pub async fn open(plan: Plan) -> Desk {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let answering = Profile::new("5551000").answering(Answer::After(10));
        let pbx = Exchange::open(ip, 0, Some(answering), 1).await.expect("a PBX port");
        let carrier = Exchange::open(ip, 0, None, 2).await.expect("a carrier port");
        let plan = Plan { carrier: carrier.address(), pbx: pbx.address(), guard: "signal", control: true, ..plan };
        let node = tokio::task::block_in_place(|| Running::start(&plan));
        Desk { api: Api::of(&node), node, pbx, carrier }
    }

    /// A call with noise from both sides. There must be no other.
    pub async fn call(&mut self) -> Call {
        let caller = self.carrier.phone(Profile::new("+14155550100")).expect("RTP ports");
        let target = self.node.carrier_side;
        caller.with(|a, now| {
            a.rtp.speak(hiss(7, -45.0));
            a.invite(now, "5551000", target);
        });
        let agent = self.ringing().await;
        agent.with(|a, _| a.rtp.speak(hiss(8, -45.0)));
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?}", caller.events());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let calls = self.ask("GET", "/v1/calls", None);
        let id = calls["calls"][0]["id"].as_str().unwrap_or_else(|| panic!("{calls}")).to_owned();
        Call { caller, agent, id }
    }

    /// The status a new call is refused with; `None`: it is not refused in time.
    pub async fn refused(&mut self) -> Option<u16> {
        let caller = self.carrier.phone(Profile::new("+14155550101")).expect("RTP ports");
        let target = self.node.carrier_side;
        caller.with(|a, now| a.invite(now, "5551000", target));
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let events = caller.events();
            let status = |event: &Event| if let Event::Rejected(status) = event { Some(*status) } else { None };
            if let Some(status) = events.iter().find_map(|(_, event)| status(event)) {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// The PBX's telephone that rings next.
    pub async fn ringing(&mut self) -> Phone {
        self.pbx.ringing(PATIENCE).await.unwrap_or_else(|| panic!("nobody rings: {}", self.node.log()))
    }

    /// Ends a call, and waits until the node knows.
    pub async fn hang_up(&self, call: Call) {
        call.caller.with(UserAgent::hang_up);
        self.until(&format!("/v1/calls/{}", call.id), |gone| gone["status"] == 404).await;
    }

    /// The address of `path`.
    pub fn url(&self, path: &str) -> String {
        self.api.url(path)
    }

    /// What the API answers to the CRM's key; what is no JSON comes as text.
    pub fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.api.answer(method, path, body).1
    }

    /// The same, with the status.
    pub fn answer(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.api.answer(method, path, body)
    }

    /// What is at `path`, when it is as wanted.
    pub async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Value {
        self.api.until(path, what).await.unwrap_or_else(|found| panic!("not in time: {found}\n{}", self.node.log()))
    }

    /// The caller keys a whole card for the payment at `path`: number, expiry, security code.
    pub async fn key_card(&self, path: &str, call: &Call, form: Form, [card, expiry, code]: [&str; 3]) {
        for (field, keys) in [("payment-card-number", card), ("expiration-date", expiry), ("security-code", code)] {
            self.ask("POST", path, Some(serde_json::json!({"capture": field})));
            tokio::time::sleep(Duration::from_millis(200)).await;
            call.press(keys, form);
            let keyed = self.until(path, |p| p["partial_result"] == false).await;
            assert_eq!(keyed["error_type"], Value::Null, "{form:?}: {keyed}");
        }
    }
}

/// A receiver of webhooks that takes everything, what it got, and the section that names it.
pub fn receiver() -> (Arc<Mutex<Vec<u8>>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = listener.local_addr().expect("its address");
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = got.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut bytes = [0; 65_536];
            let mut whole = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                whole.extend_from_slice(&bytes[..count]);
                if whole.ends_with(b"}}") {
                    break;
                }
            }
            kept.lock().expect("the list").extend(whole);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let section = format!(
        "[webhooks]\ndirectory = \"letters\"\n\n[[webhooks.endpoint]]\nname = \"crm\"\nurl = \"http://{address}/\"\n\
         secret_file = \"crm.whsec\"\nallow_private = true\n"
    );
    (got, section)
}
