//! Who sees what of a payment: every role and a panel, at every endpoint and on every kind of stream. A provider's token
//! reaches systems only, and the names of connectors no agent. And calls addressed by a key in place of their id.

use tonewall::obs::event::PaymentOutcome;
use tonewall::obs::payment::{PaymentMethod, PaymentResult, PaymentState};

use super::*;

const TOKEN: &str = "tok_worth_money";
const REFERENCE: &str = "ref-17";
const CONNECTOR: &str = "bank-of-examples";

/// A call with a payment that is over and has everything to tell.
fn told(signal: &Signal) -> Result<Reply, CallsError> {
    let mut payment = payments::view();
    payment.payment_connector = CONNECTOR.into();
    payment.state = PaymentState::Ended;
    payment.result = Some(PaymentResult::Success);
    payment.outcome = outcome();
    Ok(match agreeable(signal)? {
        Reply::Calls(calls) => {
            Reply::Calls(calls.into_iter().map(|call| CallView { payment: Some(payment.clone()), ..call }).collect())
        }
        Reply::Call(call) => Reply::Call(Box::new(CallView { payment: Some(payment), ..*call })),
        Reply::Payment(_) => Reply::Payment(Box::new(payment)),
        Reply::Payments(_) => Reply::Payments(vec![payment]),
        other => other,
    })
}

fn outcome() -> PaymentOutcome {
    PaymentOutcome {
        payment_token: Some(TOKEN.into()),
        payment_confirmation_code: Some(REFERENCE.into()),
        pay_error_code: None,
    }
}

fn publish(node: &Node) {
    let (payment, call) = (payments::view().id, Some(ids().call));
    let (method, connector) = (PaymentMethod::CreditCard, CONNECTOR.to_owned());
    let result = PaymentResult::Success;
    for kind in [
        EventKind::PaymentStarted { payment, method, connector, by: "crm".into() },
        EventKind::PaymentEnded { payment, result, outcome: outcome() },
        EventKind::PaymentReconciled { payment, result, outcome: outcome() },
    ] {
        node.history.publish(WallMs(1), call, kind);
    }
}

/// Who asks: a role by its own key, or a panel that an integration drew.
#[derive(Debug, Clone, Copy)]
enum Asker {
    Key(Role),
    Panel,
}

impl Asker {
    fn all() -> Vec<Asker> {
        ROLES.into_iter().map(Asker::Key).chain([Asker::Panel]).collect()
    }

    fn key(self, node: &Node) -> String {
        match self {
            Asker::Key(role) => key_of(role),
            Asker::Panel => {
                let actor = tonewall::call::Actor::new("integration", Role::Integration);
                node.access.open_panel(Instant::now(), actor, ids().call, true, Duration::from_secs(60))
            }
        }
    }

    /// Tokens, connectors.
    fn sees(self) -> (bool, bool) {
        match self {
            Asker::Key(Role::Integration) => (true, true),
            Asker::Key(Role::Admin | Role::Supervisor) => (false, true),
            Asker::Key(Role::Agent | Role::Auditor) | Asker::Panel => (false, false),
        }
    }
}

#[test]
fn a_token_reaches_systems_only_at_every_endpoint() {
    let node = Node::start(told);
    let mut shown = 0;
    for asker in Asker::all() {
        let key = asker.key(&node);
        for (method, route, _) in ENDPOINTS.iter().filter(|(_, route, _)| !route.ends_with("events")) {
            let body = body_for(method, route).map(|body| body.to_string());
            let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
            let answer = node.send(method, &concrete(route), Some(&key), body);
            let told = answer.text.contains(REFERENCE);
            let (tokens, connectors) = asker.sees();
            assert_eq!(answer.text.contains(TOKEN), told && tokens, "{method} {route} as {asker:?}: {}", answer.text);
            let named = answer.text.contains(CONNECTOR);
            assert_eq!(named, told && connectors, "{method} {route} as {asker:?}: {}", answer.text);
            shown += usize::from(told);
        }
    }
    // Four views of payments and two of calls; the auditor may begin and steer none, the panel may list no calls.
    assert_eq!(shown, 6 * 6 - 2 - 1, "the test must see what is told");
}

#[test]
fn a_token_reaches_systems_only_on_every_stream() {
    let node = Node::start(told);
    publish(&node);
    let mut seen = 0;
    for asker in Asker::all() {
        for path in ["/v1/events".to_owned(), format!("/v1/calls/{}/events", ids().call)] {
            let key = asker.key(&node);
            let (status, mut stream) = node.follow(&path, Some(&key), Some("77.0"));
            if matches!(asker, Asker::Panel) && path == "/v1/events" {
                assert_eq!(status, 403);
                continue;
            }
            let by_ticket = match asker {
                Asker::Panel => None,
                Asker::Key(_) => {
                    node.send("POST", "/v1/tickets", Some(&key), None).json()["ticket"].as_str().map(str::to_owned)
                }
            };
            let mut lines: Vec<Value> = (0..3).map(|_| stream.message().expect("an event").1).collect();
            let mut socket = streams::socket(&node, &format!("{path}?after=77.0"), Some(&key)).expect("open");
            lines.extend((0..3).map(|_| streams::next(&mut socket).expect("an event")));
            if let Some(ticket) = by_ticket {
                let path = format!("{path}?after=77.0&ticket={ticket}");
                let mut socket = streams::socket(&node, &path, None).expect("open");
                lines.extend((0..3).map(|_| streams::next(&mut socket).expect("an event")));
            }
            let (tokens, connectors) = asker.sees();
            for event in lines {
                let ended = event["type"] != "payment-started";
                let what = format!("{path} as {asker:?}: {event}");
                assert_eq!(event["payment_token"].as_str(), Some(TOKEN).filter(|_| ended && tokens), "{what}");
                assert_eq!(event["connector"].as_str(), Some(CONNECTOR).filter(|_| !ended && connectors), "{what}");
                assert_eq!(event["payment_confirmation_code"].as_str(), Some(REFERENCE).filter(|_| ended), "{what}");
                assert!(!event.to_string().contains(TOKEN) || tokens, "{what}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 5 * 2 * 9 + 6);
}

#[test]
fn a_panel_does_not_get_its_keys_answers_by_its_keys_idempotency_key() {
    let node = Node::start(told);
    let path = format!("/v1/calls/{}/payments", ids().call);
    let body = json!({"charge_amount": "10.50"}).to_string();
    let ask = |key: &str| {
        let key = format!("{key}\r\nIdempotency-Key: order-1");
        node.send("POST", &path, Some(&key), Some(("application/json", body.as_bytes())))
    };
    assert!(ask(&key_of(Role::Integration)).text.contains(TOKEN));
    assert!(!ask(&Asker::Panel.key(&node)).text.contains(TOKEN));
}

#[test]
fn a_call_is_addressed_by_a_key_that_names_it_alone() {
    let node = Node::start(agreeable);
    let key = key_of(Role::Admin);
    for (by, wanted) in [
        ("agent:214", "agent: Some(\"214\")"),
        ("caller:%2B4930123", "caller: Some(\"+4930123\")"),
        ("sip_call_id:a%2Fb:c@d", "sip_call_id: Some(\"a/b:c@d\")"),
        ("user_to_user:00FA080001028B4F88FB51", "user_to_user: Some(\"00FA080001028B4F88FB51\")"),
        ("reference:order%2017", "reference: Some(\"order 17\")"),
    ] {
        for (method, route, _) in ENDPOINTS.iter().filter(|(_, route, _)| route.contains("{call}")) {
            let path = concrete(&route.replace("{call}", by));
            let body = body_for(method, route).map(|body| body.to_string());
            let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
            let status = match route.ends_with("events") {
                true => node.follow(&path, Some(&key), None).0,
                false => node.send(method, &path, Some(&key), body).status,
            };
            assert!((200..300).contains(&status), "{method} {path}: {status}");
            let asked = format!("{:?}", node.asked());
            assert!(asked.contains(wanted), "{method} {path}: {asked}");
            assert!(asked.contains("limit: 2"), "{asked}");
        }
    }
    let holds = |by: &str| format!("/v1/calls/{by}/holds");
    let body = json!({"kind": "both", "reason": "a card"});
    let problem = node.json("POST", &holds("agent:queue"), Role::Admin, &body).problem(409, "ambiguous-call");
    assert_eq!(problem["where"]["field"], "call");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("/v1/calls")), "{problem}");
    node.json("POST", &holds("agent:nobody"), Role::Admin, &body).problem(404, "no-such-call");
    for nothing in ["agent:", "colour:red", ":x", "agent"] {
        node.json("POST", &holds(nothing), Role::Admin, &body).problem(404, "no-such-call");
    }
    assert!(!node.asked().iter().any(|signal| matches!(signal, Signal::TakeHolds { .. })));
    // What names the call is its own by the id: a panel of one call cannot ask for another by a key.
    let panel = Asker::Panel.key(&node);
    node.send("GET", "/v1/calls/agent:214", Some(&panel), None).problem(403, "forbidden");
    // Who may not, learns nothing of whether there is such a call.
    node.json("POST", &holds("agent:queue"), Role::Auditor, &body).problem(403, "forbidden");
}
