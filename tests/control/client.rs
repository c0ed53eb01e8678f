//! The client of docs/client.py against the API: what it is written for works, and its check of webhooks takes what this
//! node signs and nothing else. It needs `python3` (3.9 or newer); without one the test fails and says so.

use std::process::Command;

use tonewall::config::SigningKey;
use tonewall::control::webhooks::sign;

use super::*;

fn python(script: &str) -> String {
    let run = Command::new("python3")
        .args(["-B", "-c", script])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
        .output()
        .expect("python3 is needed for this test");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("text")
}

#[test]
fn the_client_of_the_documentation_runs_a_payment_and_follows_events() {
    let node = Node::start(agreeable);
    key_masked(&node);
    let script = format!(
        r#"
import client
node = client.Tonewall("http://{address}", "{key}")
payment = node.start_payment(node.find_call(agent="100"), charge_amount="10.50", key="order-1")
again = node.start_payment(node.find_call(agent="100"), charge_amount="10.50", key="order-1")
assert payment == again and payment.required == ("security-code",) and payment.security_code == "xx", payment
assert node.capture(payment, "security-code").capture == "security-code"
assert node.complete(payment, key="order-1-pay").state == "open"
node.cancel(payment)
try:
    node.start_payment(payment.call, amount=1)
    raise SystemExit("not refused")
except client.Problem as problem:
    assert (problem.status, problem.kind) == (422, "invalid-request"), problem
print(next(node.events(after="12.1"))[1], next(node.events(payment.call, after="77.0")))
"#,
        address = node.address,
        key = key_of(Role::Integration)
    );
    let told = python(&script);
    assert!(told.contains("'missed': 0") && told.contains("('77.1', {'seq': 1"), "{told}");
    let orders = node.asked().iter().filter(|signal| matches!(signal, Signal::Payment { .. })).count();
    assert_eq!(orders, 4, "a repeated request is obeyed once, a senseless one never");
}

fn key_masked(node: &Node) {
    node.history.publish(WallMs(1), Some(ids().call), EventKind::KeyMasked { count: 1 });
}

#[test]
fn the_client_of_the_documentation_knows_our_signature() {
    let key = SigningKey::new((0..32).collect());
    let signature = sign(&key, "evt_77.2", 1_795_305_600, "{}");
    let script = format!(
        r#"
import base64, client
secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
headers = {{"webhook-id": "evt_77.2", "webhook-timestamp": "1795305600", "webhook-signature": "v1,x {signature}"}}
assert client.verified(secret, headers, b"{{}}", 1795305601)
assert not client.verified(secret, headers, b"{{ }}", 1795305601)
assert not client.verified(secret, {{**headers, "webhook-id": "evt_77.3"}}, b"{{}}", 1795305601)
assert not client.verified(secret, headers, b"{{}}", 1795306000)
"#
    );
    python(&script);
}
