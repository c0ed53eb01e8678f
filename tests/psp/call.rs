//! A whole payment: a caller on the line keys a test card, in tones and in events, into a `tonewall run` process whose
//! connector is the Stripe preset; a fake Stripe that nobody here wrote takes the money, and the token reaches a webhook.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonewall::rt::peers::{Exchange, Phone};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::ua::{Answer, Profile, UserAgent};

use crate::common::{API_KEYS, Plan, Running, skip};
use crate::kit::KEY;
use crate::localstripe::Fake;

const PATIENCE: Duration = Duration::from_secs(30);
const CARD: &str = "4242424242424242";

/// A receiver of webhooks that takes everything.
fn receiver() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let got = Arc::new(Mutex::new(String::new()));
    let kept = got.clone();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
            let mut bytes = [0; 65_536];
            let mut whole = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                whole.extend_from_slice(&bytes[..count]);
            }
            kept.lock().expect("the text").push_str(&String::from_utf8_lossy(&whole));
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, got)
}

struct Desk {
    node: Running,
    agent: ureq::Agent,
}

impl Desk {
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let address = self.node.control.expect("control");
        let (_, _, key) = API_KEYS[0];
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body.map_or_else(Vec::new, |body| body.to_string().into_bytes()))
            .expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.ask("GET", path, None);
            if what(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "not in time: {found}\n{}", self.node.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn press(caller: &Phone, keys: &str, form: Form) {
    let keys = typed(keys, form, 70, 60);
    caller.with(|phone, _| phone.press(20, keys));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_keys_a_card_in_tones_and_in_events_and_the_payment_succeeds_at_a_fake_stripe() {
    let started = tokio::task::spawn_blocking(Fake::start).await.expect("a task");
    let fake = match started {
        Ok(fake) => fake,
        Err(why) => return skip("a_caller_keys_a_card", &why),
    };
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut pbx =
        Exchange::open(ip, 0, Some(Profile::new("5551000").answering(Answer::After(10))), 1).await.expect("a port");
    let carrier = Exchange::open(ip, 0, None, 2).await.expect("a port");
    let (hook, told) = receiver();
    let more = format!(
        "\n[[connector]]\nname = \"stripe\"\npreset = \"stripe\"\nurl = \"{}\"\n\
         [[connector.secret]]\nname = \"key\"\nfile = \"stripe.key\"\n\
         [webhooks]\ndirectory = \"letters\"\n\n[[webhooks.endpoint]]\nname = \"crm\"\nurl = \"http://{hook}/\"\n\
         secret_file = \"crm.whsec\"\nallow_private = true\n",
        fake.url
    );
    let plan = Plan {
        carrier: carrier.address(),
        pbx: pbx.address(),
        guard: "signal",
        recording: "best-effort",
        control: true,
        more,
        files: vec![("crm.whsec", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()), ("stripe.key", format!("{KEY}\n"))],
        ..Plan::new()
    };
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
    let desk = Desk { node: Running::start(&plan), agent: config.into() };
    let mut tokens = Vec::new();
    for form in [Form::Tone, Form::Event] {
        let caller = carrier.phone(Profile::new("+15550100")).expect("RTP ports");
        let target = desk.node.carrier_side;
        caller.with(|a, now| {
            a.rtp.speak(hiss(7, -45.0));
            a.invite(now, "5551000", target);
        });
        let agent = pbx.ringing(PATIENCE).await.unwrap_or_else(|| panic!("the PBX rings\n{}", desk.node.log()));
        agent.with(|a, _| a.rtp.speak(hiss(8, -45.0)));
        assert!(caller.until(PATIENCE, UserAgent::is_up).await, "{:?}", caller.events());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let calls = desk.ask("GET", "/v1/calls", None);
        let call = calls["calls"][0]["id"].as_str().unwrap_or_else(|| panic!("{calls}")).to_owned();
        let order = json!({"charge_amount": "12.50", "currency": "EUR", "postal_code": false});
        let begun = desk.ask("POST", &format!("/v1/calls/{call}/payments"), Some(order));
        let payment = begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
        let path = format!("/v1/calls/{call}/payments/{payment}");
        for (field, keys) in [("payment-card-number", CARD), ("expiration-date", "0931"), ("security-code", "907")] {
            desk.ask("POST", &path, Some(json!({"capture": field})));
            tokio::time::sleep(Duration::from_millis(200)).await;
            press(&caller, keys, form);
            let keyed = desk.until(&path, |p| p["partial_result"] == false).await;
            assert_eq!(keyed["error_type"], Value::Null, "{form:?}: {keyed}");
        }
        desk.ask("POST", &path, Some(json!({"status": "complete"})));
        let ended = desk.until(&path, |p| p["state"] == "ended").await;
        assert_eq!(ended["result"], "success", "{form:?}: {ended}\n{}", desk.node.log());
        let token = ended["payment_token"].as_str().unwrap_or_else(|| panic!("{ended}")).to_owned();
        let reference = ended["payment_confirmation_code"].as_str().unwrap_or_else(|| panic!("{ended}")).to_owned();
        assert!(token.starts_with("pm_") && reference.starts_with("pi_"), "{ended}");
        let intent = fake.get(&format!("/v1/payment_intents/{reference}"));
        assert_eq!((&intent["status"], &intent["amount"]), (&"succeeded".into(), &1250.into()), "{intent}");
        assert_eq!(intent["metadata"]["payment"], payment);
        tokens.push(token);
        caller.with(UserAgent::hang_up);
        desk.until(&format!("/v1/calls/{call}"), |gone| gone["status"] == 404).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = told.lock().expect("the text").clone();
        assert!(!text.contains(CARD), "a card in a webhook");
        if tokens.iter().all(|token| text.contains(token.as_str())) {
            break;
        }
        assert!(Instant::now() < deadline, "the tokens do not reach the webhook: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = desk.node.log();
    assert!(log.contains("payment approved") && !log.contains(CARD) && !log.contains(KEY), "{log}");
    assert!(tokens.iter().all(|token| !log.contains(token.as_str())), "a token is logged: {log}");
}
