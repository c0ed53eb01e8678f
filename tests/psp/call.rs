//! A whole payment: a caller on the line keys a test card, in tones and in events, into a `tonewall run` process whose
//! connector is the Stripe preset; a fake Stripe that nobody here wrote takes the money, and the token reaches a webhook.

use std::time::{Duration, Instant};

use serde_json::json;
use tonewall::testkit::keys::Form;

use crate::common::{Plan, skip};
use crate::desk::{Desk, receiver};
use crate::kit::KEY;
use crate::localstripe::Fake;

const PATIENCE: Duration = Duration::from_secs(30);
const CARD: &str = "4242424242424242";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_keys_a_card_in_tones_and_in_events_and_the_payment_succeeds_at_a_fake_stripe() {
    let started = tokio::task::spawn_blocking(Fake::start).await.expect("a task");
    let fake = match started {
        Ok(fake) => fake,
        Err(why) => return skip("a_caller_keys_a_card", &why),
    };
    let (told, endpoint) = receiver();
    let (more, files) = fake.connector(&endpoint);
    let mut desk = Desk::open(Plan { recording: "best-effort", more, files, ..Plan::new() }).await;
    let mut tokens = Vec::new();
    for form in [Form::Tone, Form::Event] {
        let call = desk.call().await;
        let order = json!({"charge_amount": "12.50", "currency": "EUR", "postal_code": false});
        let begun = desk.ask("POST", &format!("/v1/calls/{}/payments", call.id), Some(order));
        let payment = begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
        let path = format!("/v1/calls/{}/payments/{payment}", call.id);
        desk.key_card(&path, &call, form, [CARD, "0931", "907"]).await;
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
        desk.hang_up(call).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&told.lock().expect("the list")).into_owned();
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
