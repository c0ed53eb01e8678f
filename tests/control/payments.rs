//! Payments over HTTP: what is asked reaches the engine, a request repeated under its key is obeyed once, and what is
//! refused becomes a problem that repeats no value.

use std::sync::atomic::{AtomicU32, Ordering};

use tonewall::base::ids::PaymentId;
use tonewall::call::{PaymentOrder, PaymentView};
use tonewall::obs::event::PaymentOutcome;
use tonewall::obs::payment::{MaskedFields, PaymentField, PaymentMethod, PaymentProgress, PaymentState};

use super::*;

pub fn view() -> PaymentView {
    PaymentView {
        id: PaymentId::draw(&mut Random::seed_from_u64(43)),
        call: ids().call,
        state: PaymentState::Open,
        payment_connector: "sandbox".into(),
        payment_method: PaymentMethod::CreditCard,
        charge_amount: Some("10.50".into()),
        currency: Some("USD".into()),
        by: "integration".into(),
        result: None,
        progress: PaymentProgress {
            capture: Some(PaymentField::SecurityCode),
            partial_result: true,
            required: vec![PaymentField::SecurityCode],
            error_type: None,
            fields: MaskedFields { security_code: Some("xx".into()), ..MaskedFields::default() },
        },
        outcome: PaymentOutcome::default(),
    }
}

fn base() -> String {
    format!("/v1/calls/{}/payments", ids().call)
}

fn keyed(node: &Node, path: &str, key: &str, body: &Value) -> Answer {
    let body = body.to_string();
    // The helper writes headers as they are: one more rides on the end of the API key's.
    let key = format!("{}\r\nIdempotency-Key: {key}", key_of(Role::Integration));
    node.send("POST", path, Some(&key), Some(("application/json", body.as_bytes())))
}

#[test]
fn a_payment_is_begun_captured_completed_and_cancelled_as_asked() {
    let node = Node::start(agreeable);
    let begun =
        node.json("POST", &base(), Role::Agent, &json!({"charge_amount": "10.50", "valid_card_types": ["visa"]}));
    assert_eq!(begun.status, 201, "{}", begun.text);
    let path = format!("{}/{}", base(), view().id);
    assert_eq!(begun.headers["location"], path);
    let shown = begun.json();
    assert_eq!((&shown["security_code"], &shown["required"]), (&json!("xx"), &json!(["security-code"])));
    assert_eq!(node.json("POST", &path, Role::Agent, &json!({"capture": "postal-code-matcher"})).status, 200);
    assert_eq!(node.json("POST", &path, Role::Agent, &json!({"status": "complete"})).status, 200);
    assert_eq!(node.json("POST", &path, Role::Agent, &json!({"status": "cancel"})).status, 200);
    assert_eq!(node.get(&path, Role::Auditor).json(), shown);
    assert_eq!(node.get(&base(), Role::Auditor).json()["payments"], json!([shown]));
    let orders: Vec<String> = node
        .asked()
        .iter()
        .map(|signal| match signal {
            Signal::Payment { call, order, actor } => {
                assert_eq!(*call, ids().call);
                format!("{} {order:?}", actor.name)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(orders[0].starts_with("agent Start(PaymentRequest { payment_connector: None"), "{}", orders[0]);
    let id = view().id;
    assert_eq!(
        orders[1..],
        [
            format!("agent Capture({id:?}, PostalCodeMatcher)"),
            format!("agent Complete({id:?})"),
            format!("agent Cancel({id:?})"),
            format!("auditor Get({id:?})"),
            "auditor List".to_owned(),
        ]
    );
}

#[test]
fn senseless_updates_are_refused_without_repeating_what_was_sent() {
    let node = Node::start(agreeable);
    let path = format!("{}/{}", base(), view().id);
    for body in [
        json!({}),
        json!({"capture": "security-code", "status": "complete"}),
        json!({"capture": "pin"}),
        json!({"status": "refund"}),
        json!({"payment-card-number": "4242424242424242"}),
    ] {
        let problem = node.json("POST", &path, Role::Integration, &body).problem(422, "invalid-request");
        assert!(!problem.to_string().contains("4242"), "{problem}");
    }
    for body in [json!({"card_number": "4242424242424242"}), json!({"attempts": 4242424242424242_u64})] {
        let problem = node.json("POST", &base(), Role::Integration, &body).problem(422, "invalid-request");
        assert!(!problem.to_string().contains("4242"), "{problem}");
    }
    assert!(node.asked().is_empty());
    let nobody = format!("{}/pay_4242424242424242", base());
    let problem = node.get(&nobody, Role::Auditor).problem(404, "no-such-payment");
    assert!(!problem.to_string().contains("4242"), "{problem}");
}

#[test]
fn a_request_that_comes_twice_under_its_key_is_obeyed_once() {
    let node = Node::start(agreeable);
    let body = json!({"charge_amount": "10.50"});
    let first = keyed(&node, &base(), "order-1001", &body);
    let again = keyed(&node, &base(), "order-1001", &body);
    assert_eq!((first.status, again.status), (201, 201), "{}", again.text);
    assert_eq!((first.text, &first.headers["location"]), (again.text, &again.headers["location"]));
    assert_eq!(again.headers["content-type"], "application/json");
    assert_eq!(node.asked().len(), 1);
    // Another body or another path under the same key is a mistake.
    keyed(&node, &base(), "order-1001", &json!({"charge_amount": "99.00"})).problem(422, "idempotency-key-reused");
    let path = format!("{}/{}", base(), view().id);
    keyed(&node, &path, "order-1001", &body).problem(422, "idempotency-key-reused");
    assert!(node.asked().is_empty());
    let complete = json!({"status": "complete"});
    for _ in 0..3 {
        assert_eq!(keyed(&node, &path, "complete-1001", &complete).status, 200);
    }
    assert_eq!(node.asked().len(), 1);
    // Without a key each request is its own.
    for _ in 0..2 {
        assert_eq!(node.json("POST", &base(), Role::Integration, &body).status, 201);
    }
    assert_eq!(node.asked().len(), 2);
    for bad in ["", "two words", &"k".repeat(256), "4242424242424242"] {
        let problem = keyed(&node, &base(), bad, &body).problem(422, "invalid-request");
        assert_eq!(problem["where"]["field"], "Idempotency-Key");
        assert!(!problem.to_string().contains("4242"));
    }
}

#[test]
fn a_refusal_is_repeated_too_but_not_that_the_node_was_busy() {
    let count = AtomicU32::new(0);
    let node = Node::start(move |signal| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err(CallsError::Unavailable),
        1 => Err(SignalError::PaymentIncomplete.into()),
        _ => agreeable(signal),
    });
    let path = format!("{}/{}", base(), view().id);
    let complete = json!({"status": "complete"});
    keyed(&node, &path, "k1", &complete).problem(503, "unavailable");
    let first = keyed(&node, &path, "k1", &complete).problem(409, "payment-incomplete");
    assert_eq!(keyed(&node, &path, "k1", &complete).problem(409, "payment-incomplete"), first);
    assert_eq!(node.asked().len(), 2);
    assert_eq!(keyed(&node, &path, "k2", &complete).status, 200);
}

#[test]
fn what_the_engine_refuses_of_payments_becomes_the_right_problem() {
    use tonewall::capture::payment::WishError;
    for (error, status, kind) in [
        (SignalError::NoSuchPayment, 404, "no-such-payment"),
        (SignalError::PaymentOpen, 409, "session-in-progress"),
        (SignalError::PaymentOver, 409, "payment-over"),
        (SignalError::PaymentSubmitted, 409, "payment-submitted"),
        (SignalError::PaymentIncomplete, 409, "payment-incomplete"),
        (SignalError::MatcherFirst, 409, "matcher-first"),
        (SignalError::FieldNotWanted, 422, "invalid-request"),
        (SignalError::NoConnector, 422, "invalid-request"),
        (SignalError::BadAmount, 422, "invalid-request"),
        (SignalError::BadText, 422, "invalid-request"),
        (SignalError::BadPayment(WishError::Country), 422, "invalid-request"),
    ] {
        let node = Node::start(move |_| Err(error.into()));
        node.json("POST", &base(), Role::Integration, &json!({})).problem(status, kind);
    }
}

#[test]
fn the_orders_of_a_payment_are_signals_of_its_own() {
    let node = Node::start(agreeable);
    node.json("POST", &base(), Role::Supervisor, &json!({"payment_method": "ach-debit", "bank_country": "DE"}));
    let asked = node.asked();
    let [Signal::Payment { order: PaymentOrder::Start(request), .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((request.payment_method, request.bank_country.as_deref()), (PaymentMethod::AchDebit, Some("DE")));
}
