//! What each preset sends, to the byte that matters, and what it makes of answers as the providers document them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tonewall::base::payment::{Field, FieldError};
use tonewall::psp::{Charge, Failure, IdempotencyKey, Operation, Outcome};

use crate::kit::{Desk, KEY, charge, config, digits, payment, preset};
use crate::server::{Act, Request, Server};

/// One exchange: what must come, and what is answered.
struct Exchange {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Expected,
    answer: (u16, Value),
}

/// The request arrives, and its answer never does.
const LOST: (u16, Value) = (0, Value::Null);

enum Expected {
    Nothing,
    Form(Vec<(&'static str, String)>),
    Json(Value),
}

fn check(wanted: &Exchange, request: &Request) -> Result<(), String> {
    if request.method != wanted.method || request.path != wanted.path {
        return Err(format!("{} {} came, not {} {}", request.method, request.path, wanted.method, wanted.path));
    }
    for (name, value) in &wanted.headers {
        if request.header(name) != Some(value) {
            return Err(format!("header {name}: {:?}, not {value:?}", request.header(name)));
        }
    }
    match &wanted.body {
        Expected::Nothing if request.body.is_empty() => Ok(()),
        Expected::Nothing => Err("a body came".into()),
        Expected::Form(members) => {
            let mut came = form(&request.body);
            let mut wanted: Vec<(String, String)> =
                members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            came.sort();
            wanted.sort();
            if came == wanted { Ok(()) } else { Err(format!("the form {came:?}, not {wanted:?}")) }
        }
        Expected::Json(wanted) => {
            let came: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
            if came == *wanted { Ok(()) } else { Err(format!("{came:#}, not {wanted:#}")) }
        }
    }
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8(body.to_vec()).expect("text");
    let decode = |text: &str| {
        let (mut out, mut bytes) = (Vec::new(), text.bytes());
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let hex: String =
                    [bytes.next().expect("hex"), bytes.next().expect("hex")].map(char::from).iter().collect();
                out.push(u8::from_str_radix(&hex, 16).expect("hex"));
            } else {
                out.push(if byte == b'+' { b' ' } else { byte });
            }
        }
        String::from_utf8(out).expect("text")
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decode(name), decode(value))).expect("a pair");
    text.split('&').filter(|member| !member.is_empty()).map(pair).collect()
}

/// Plays the exchanges with a preset; gives what came of the charge.
fn play(name: &str, more: &str, charge: Charge, exchanges: Vec<Exchange>) -> Outcome {
    let faults = Arc::new(Mutex::new(Vec::new()));
    let left = Arc::new(Mutex::new(std::collections::VecDeque::from(exchanges)));
    let (noted, script) = (faults.clone(), left.clone());
    let server = Server::start(move |request| {
        let Some(next) = script.lock().expect("the script").pop_front() else {
            noted.lock().expect("the faults").push(format!("{} {} too much", request.method, request.path));
            return Act::Cut;
        };
        if let Err(fault) = check(&next, &request) {
            noted.lock().expect("the faults").push(fault);
        }
        if next.answer.0 == LOST.0 { Act::Cut } else { Act::Answer(next.answer.0, next.answer.1.to_string()) }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(&preset(name, &server.url(), more), directory.path());
    let outcome = Desk::open(&config).pay(charge);
    let faults = faults.lock().expect("the faults");
    assert!(faults.is_empty(), "{name}:\n{}", faults.join("\n"));
    assert_eq!(left.lock().expect("the script").len(), 0, "{name} did not ask for all");
    outcome
}

fn key(seed: u64) -> String {
    IdempotencyKey::new(payment(seed), 1).as_str().to_owned()
}

fn approved(outcome: &Outcome) -> (Option<&str>, Option<&str>) {
    match outcome {
        Outcome::Approved { token, reference } => (token.as_ref().map(|token| token.expose()), reference.as_deref()),
        other => panic!("{other:?}"),
    }
}

fn stripe_method(seed: u64, card: &str, answer: (u16, Value)) -> Exchange {
    Exchange {
        method: "POST",
        path: "/v1/payment_methods".into(),
        headers: vec![
            ("authorization", format!("Bearer {KEY}")),
            ("idempotency-key", format!("{}-method", key(seed))),
            ("content-type", "application/x-www-form-urlencoded".into()),
        ],
        body: Expected::Form(vec![
            ("type", "card".into()),
            ("card[number]", card.into()),
            ("card[exp_month]", "05".into()),
            ("card[exp_year]", "2034".into()),
            ("card[cvc]", "737".into()),
        ]),
        answer,
    }
}

fn stripe_intent(seed: u64) -> Exchange {
    Exchange {
        method: "POST",
        path: "/v1/payment_intents".into(),
        headers: vec![("idempotency-key", format!("{}-intent", key(seed)))],
        body: Expected::Form(vec![
            ("amount", "1250".into()),
            ("currency", "eur".into()),
            ("payment_method", "pm_1PgafyB7WZ01".into()),
            ("payment_method_types[]", "card".into()),
            ("payment_method_options[card][moto]", "true".into()),
            ("metadata[payment]", payment(seed).to_string()),
        ]),
        answer: (
            200,
            json!({"id": "pi_3PgafyB7WZ01", "object": "payment_intent", "status": "requires_confirmation", "amount": 1250}),
        ),
    }
}

fn stripe_confirm(seed: u64, answer: (u16, Value)) -> Exchange {
    Exchange {
        method: "POST",
        path: "/v1/payment_intents/pi_3PgafyB7WZ01/confirm".into(),
        headers: vec![("idempotency-key", format!("{}-confirm", key(seed)))],
        body: Expected::Nothing,
        answer,
    }
}

/// A card that becomes a method and an intent; the confirmation is answered so, and `then` follows.
fn stripe(seed: u64, card: &str, more: &str, confirmed: (u16, Value), then: Vec<Exchange>) -> Outcome {
    let mut exchanges =
        vec![stripe_method(seed, card, method_made()), stripe_intent(seed), stripe_confirm(seed, confirmed)];
    exchanges.extend(then);
    play("stripe", more, charge(seed, card), exchanges)
}

/// A question about the intent, or an order to cancel it.
fn stripe_ask(method: &'static str, path: &str, answer: (u16, Value)) -> Exchange {
    let headers = vec![("authorization", format!("Bearer {KEY}"))];
    let path = format!("/v1/payment_intents/pi_3PgafyB7WZ01{path}");
    Exchange { method, path, headers, body: Expected::Nothing, answer }
}

fn method_made() -> (u16, Value) {
    (200, json!({"id": "pm_1PgafyB7WZ01", "object": "payment_method", "card": {"brand": "visa", "last4": "4242"}}))
}

#[test]
fn stripe_makes_a_method_an_intent_by_telephone_and_confirms_it() {
    let done = json!({"id": "pi_3PgafyB7WZ01", "status": "succeeded", "payment_method": "pm_1PgafyB7WZ01",
                      "latest_charge": "ch_3PgafyB7WZ01"});
    let outcome = stripe(1, "4242424242424242", "", (200, done), vec![]);
    assert_eq!(approved(&outcome), (Some("pm_1PgafyB7WZ01"), Some("pi_3PgafyB7WZ01")));
}

#[test]
fn stripe_declines_and_asks_for_fields_again() {
    let error = |code: &str, decline: Option<&str>| {
        (402, json!({"error": {"type": "card_error", "code": code, "decline_code": decline, "message": "…"}}))
    };
    let no_funds = error("card_declined", Some("insufficient_funds"));
    let declined = stripe(2, "4000000000009995", "", no_funds, vec![]);
    assert_eq!(declined, Outcome::Declined { code: "insufficient_funds".into() });
    let again = stripe(3, "4000000000000127", "", error("incorrect_cvc", None), vec![]);
    assert_eq!(again, Outcome::ReEnter { field: Field::SecurityCode, error: FieldError::InvalidSecurityCode });
    let refused =
        |seed, card: &str, answer| play("stripe", "", charge(seed, card), vec![stripe_method(seed, card, answer)]);
    let number = refused(4, "4242424242424241", error("incorrect_number", None));
    assert_eq!(number, Outcome::ReEnter { field: Field::PaymentCardNumber, error: FieldError::InvalidCardNumber });
    let key = json!({"error": {"message": "Invalid API Key provided: sk_test_**", "type": "invalid_request_error"}});
    let outcome = refused(5, "4242424242424242", (401, key));
    assert_eq!(outcome, Outcome::Failed { reason: Failure::Refused });
}

#[test]
fn stripe_asks_the_intent_when_the_confirmation_breaks() {
    let broken = || (500, json!({"error": {"type": "api_error"}}));
    let intent = json!({"id": "pi_3PgafyB7WZ01", "status": "succeeded", "payment_method": "pm_1PgafyB7WZ01"});
    let outcome = stripe(6, "4242424242424242", "", broken(), vec![stripe_ask("GET", "", (200, intent))]);
    assert_eq!(approved(&outcome), (Some("pm_1PgafyB7WZ01"), Some("pi_3PgafyB7WZ01")));
    let declined = json!({"status": "requires_payment_method", "last_payment_error": {"decline_code": "lost_card"}});
    let outcome = stripe(9, "4242424242424242", "", broken(), vec![stripe_ask("GET", "", (200, declined))]);
    assert_eq!(outcome, Outcome::Declined { code: "lost_card".into() });
}

#[test]
fn stripe_cancels_an_intent_that_was_not_confirmed() {
    let unexpected = (400, json!({"error": {"code": "payment_intent_unexpected_state"}}));
    let waiting = || stripe_ask("GET", "", (200, json!({"status": "requires_confirmation"})));
    let mut then: Vec<Exchange> = (0..4).map(|_| waiting()).collect();
    then.push(stripe_ask("POST", "/cancel", (200, json!({"status": "canceled"}))));
    let outcome = stripe(7, "4242424242424242", "settle_s = 0", unexpected, then);
    assert_eq!(outcome, Outcome::Failed { reason: Failure::NotCharged });
}

#[test]
fn stripe_makes_a_token_without_charging() {
    let outcome = play(
        "stripe",
        "",
        Charge { operation: Operation::Token, ..charge(8, "5555555555554444") },
        vec![stripe_method(8, "5555555555554444", method_made())],
    );
    assert_eq!(approved(&outcome), (Some("pm_1PgafyB7WZ01"), None));
}

const ADYEN: &str = "[[connector.variable]]\nname = \"merchant_account\"\nvalue = \"ExampleCompanyECOM\"\n";

fn adyen(seed: u64, card: &str, answer: (u16, Value)) -> Exchange {
    Exchange {
        method: "POST",
        path: "/v71/payments".into(),
        headers: vec![
            ("x-api-key", KEY.into()),
            ("idempotency-key", key(seed)),
            ("content-type", "application/json".into()),
        ],
        body: Expected::Json(json!({
            "merchantAccount": "ExampleCompanyECOM",
            "amount": {"currency": "EUR", "value": 1250},
            "reference": key(seed),
            "shopperInteraction": "Moto",
            "paymentMethod": {"type": "scheme", "number": card, "expiryMonth": "05", "expiryYear": "2034", "cvc": "737"},
        })),
        answer,
    }
}

#[test]
fn adyen_takes_a_payment_by_telephone() {
    let outcome = play(
        "adyen",
        ADYEN,
        charge(11, "4111111111111111"),
        vec![adyen(
            11,
            "4111111111111111",
            (
                200,
                json!({"pspReference": "NC6HT9CRT65ZGN82", "resultCode": "Authorised", "merchantReference": key(11)}),
            ),
        )],
    );
    assert_eq!(approved(&outcome), (None, Some("NC6HT9CRT65ZGN82")));
    let refused = |code: &str| (200, json!({"resultCode": "Refused", "refusalReason": "…", "refusalReasonCode": code}));
    let outcome =
        play("adyen", ADYEN, charge(12, "4111111111111111"), vec![adyen(12, "4111111111111111", refused("5"))]);
    assert_eq!(outcome, Outcome::Declined { code: "5".into() });
    let outcome =
        play("adyen", ADYEN, charge(13, "4111111111111111"), vec![adyen(13, "4111111111111111", refused("24"))]);
    assert_eq!(outcome, Outcome::ReEnter { field: Field::SecurityCode, error: FieldError::InvalidSecurityCode });
    let invalid =
        (422, json!({"status": 422, "errorCode": "101", "message": "Invalid card number", "errorType": "validation"}));
    let outcome = play("adyen", ADYEN, charge(14, "4111111111111111"), vec![adyen(14, "4111111111111111", invalid)]);
    assert_eq!(outcome, Outcome::ReEnter { field: Field::PaymentCardNumber, error: FieldError::InvalidCardNumber });
}

#[test]
fn adyen_cancels_by_reference_what_stays_unknown() {
    let outcome = play(
        "adyen",
        &format!("settle_s = 0\n{ADYEN}"),
        charge(15, "4111111111111111"),
        vec![
            adyen(15, "4111111111111111", (200, json!({"resultCode": "Error"}))),
            Exchange {
                method: "POST",
                path: "/v71/cancels".into(),
                headers: vec![("x-api-key", KEY.into()), ("idempotency-key", format!("{}-cancel", key(15)))],
                body: Expected::Json(json!({
                    "merchantAccount": "ExampleCompanyECOM",
                    "paymentReference": key(15),
                    "reference": format!("{}-cancel", key(15)),
                })),
                answer: (201, json!({"status": "received", "pspReference": "X", "paymentReference": key(15)})),
            },
        ],
    );
    assert_eq!(outcome, Outcome::Failed { reason: Failure::NotCharged });
}

const BRAINTREE: &str = "[[connector.variable]]\nname = \"public_key\"\nvalue = \"public\"\n\
                         [[connector.secret]]\nname = \"private_key\"\nenv = \"K\"\n";

fn graphql(part: &'static str, variables: Value, answer: Value) -> Exchange {
    let query = match part {
        "tokenize" => {
            "mutation ($input: TokenizeCreditCardInput!) { tokenizeCreditCard(input: $input) { paymentMethod { id } } }"
        }
        "charge" => {
            "mutation ($input: ChargePaymentMethodInput!) { chargePaymentMethod(input: $input) { transaction { id status } } }"
        }
        _ => {
            "query ($order: String!) { search { transactions(input: { orderId: { is: $order } }) { edges { node { id status } } } } }"
        }
    };
    Exchange {
        method: "POST",
        path: "/graphql".into(),
        headers: vec![
            // public:sk_test_only-for-tests
            ("authorization", "Basic cHVibGljOnNrX3Rlc3Rfb25seS1mb3ItdGVzdHM=".into()),
            ("braintree-version", "2019-01-01".into()),
        ],
        body: Expected::Json(json!({"query": query, "variables": variables})),
        answer: (200, answer),
    }
}

fn braintree_tokenize(answer: Value) -> Exchange {
    let card = json!({"number": "4111111111111111", "expirationMonth": "05", "expirationYear": "2034", "cvv": "737",
                      "billingAddress": {"postalCode": "60622"}});
    graphql("tokenize", json!({"input": {"creditCard": card}}), answer)
}

fn braintree_charge(seed: u64, answer: Value) -> Exchange {
    let transaction = json!({"amount": "12.50", "orderId": key(seed), "paymentInitiator": "MOTO"});
    graphql("charge", json!({"input": {"paymentMethodId": "tokencc_bh_1", "transaction": transaction}}), answer)
}

fn with_postal_code(seed: u64) -> Charge {
    let mut charge = charge(seed, "4111111111111111");
    charge.fields.postal_code = digits("60622");
    charge
}

#[test]
fn braintree_tokenizes_and_charges() {
    let tokenized =
        || braintree_tokenize(json!({"data": {"tokenizeCreditCard": {"paymentMethod": {"id": "tokencc_bh_1"}}}}));
    let charged =
        |status: &str| json!({"data": {"chargePaymentMethod": {"transaction": {"id": "dHJhbnM", "status": status}}}});
    let outcome = play(
        "braintree",
        BRAINTREE,
        with_postal_code(21),
        vec![tokenized(), braintree_charge(21, charged("SUBMITTED_FOR_SETTLEMENT"))],
    );
    assert_eq!(approved(&outcome), (None, Some("dHJhbnM")));
    let outcome = play(
        "braintree",
        BRAINTREE,
        with_postal_code(22),
        vec![tokenized(), braintree_charge(22, charged("PROCESSOR_DECLINED"))],
    );
    assert_eq!(outcome, Outcome::Declined { code: "PROCESSOR_DECLINED".into() });
    let wrong = json!({"errors": [{"message": "Credit card number is invalid.",
                                   "extensions": {"errorClass": "VALIDATION", "legacyCode": "81715"}}]});
    let outcome = play("braintree", BRAINTREE, with_postal_code(23), vec![braintree_tokenize(wrong)]);
    assert_eq!(outcome, Outcome::ReEnter { field: Field::PaymentCardNumber, error: FieldError::InvalidCardNumber });
}

#[test]
fn braintree_searches_for_a_charge_whose_answer_is_unclear() {
    let found =
        json!({"data": {"search": {"transactions": {"edges": [{"node": {"id": "dHJhbnM", "status": "SETTLING"}}]}}}});
    let outcome = play(
        "braintree",
        BRAINTREE,
        with_postal_code(24),
        vec![
            braintree_tokenize(json!({"data": {"tokenizeCreditCard": {"paymentMethod": {"id": "tokencc_bh_1"}}}})),
            braintree_charge(24, json!({"errors": [{"extensions": {"errorClass": "INTERNAL"}}]})),
            graphql("search", json!({"order": key(24)}), found),
        ],
    );
    assert_eq!(approved(&outcome), (None, Some("dHJhbnM")));
}

const WORLDPAY: &str = "[[connector.variable]]\nname = \"user\"\nvalue = \"public\"\n\
                        [[connector.variable]]\nname = \"entity\"\nvalue = \"default\"\n\
                        [[connector.variable]]\nname = \"narrative\"\nvalue = \"Example Company Limited, London\"\n\
                        [[connector.secret]]\nname = \"password\"\nenv = \"K\"\n";

fn worldpay(seed: u64, answer: (u16, Value)) -> Exchange {
    Exchange {
        method: "POST",
        path: "/cardPayments/customerInitiatedTransactions".into(),
        headers: vec![
            ("authorization", "Basic cHVibGljOnNrX3Rlc3Rfb25seS1mb3ItdGVzdHM=".into()),
            ("content-type", "application/vnd.worldpay.payments-v7+json".into()),
            ("accept", "application/vnd.worldpay.payments-v7+json".into()),
        ],
        body: Expected::Json(json!({
            "transactionReference": key(seed),
            "merchant": {"entity": "default"},
            "channel": "moto",
            "instruction": {
                "requestAutoSettlement": {"enabled": true},
                "narrative": {"line1": "Example Company Limited,"},
                "value": {"currency": "EUR", "amount": 1250},
                "paymentInstrument": {
                    "type": "card/plain",
                    "cardNumber": "5555555555554444",
                    "expiryDate": {"month": 5, "year": 2034},
                    "cvc": "737",
                },
            },
        })),
        answer,
    }
}

#[test]
fn worldpay_takes_a_payment_by_telephone() {
    let pay = |seed, answer| play("worldpay", WORLDPAY, charge(seed, "5555555555554444"), vec![worldpay(seed, answer)]);
    let outcome = pay(31, (201, json!({"outcome": "sentForSettlement", "paymentId": "paycGeAtsYssrrtgieKBA3Pi0"})));
    assert_eq!(approved(&outcome), (None, Some("paycGeAtsYssrrtgieKBA3Pi0")));
    let outcome = pay(32, (201, json!({"outcome": "refused", "refusalCode": "5", "refusalDescription": "Refused"})));
    assert_eq!(outcome, Outcome::Declined { code: "5".into() });
    let wrong = json!({"errorName": "bodyDoesNotMatchSchema", "validationErrors": [
        {"errorName": "panFailedLuhnCheck", "jsonPath": "$.instruction.paymentInstrument.cardNumber"}]});
    assert_eq!(
        pay(33, (400, wrong)),
        Outcome::ReEnter { field: Field::PaymentCardNumber, error: FieldError::InvalidCardNumber }
    );
}

fn worldpay_found(seed: u64) -> Exchange {
    let paid = json!({"lastEvent": "settlementRequestSubmitted", "paymentId": "pay1"});
    Exchange {
        method: "GET",
        path: format!("/paymentQueries/payments?transactionReference={}", key(seed)),
        headers: vec![("accept", "application/vnd.worldpay.payment-queries-v1.hal+json".into())],
        body: Expected::Nothing,
        answer: (200, json!({"_embedded": {"payments": [paid]}})),
    }
}

#[test]
fn worldpay_looks_for_a_payment_by_its_reference() {
    let broken = (500, json!({"errorName": "internalErrorOccurred"}));
    let exchanges = vec![worldpay(34, broken), worldpay_found(34)];
    let outcome = play("worldpay", WORLDPAY, charge(34, "5555555555554444"), exchanges);
    assert_eq!(approved(&outcome), (None, Some("pay1")));
}

/// Who knows an idempotency key is asked the same again; who knows none is asked what became of it.
#[test]
fn a_lost_answer_charges_once_with_every_preset() {
    let done = json!({"id": "pi_3PgafyB7WZ01", "status": "succeeded", "payment_method": "pm_1PgafyB7WZ01"});
    let outcome = stripe(41, "4242424242424242", "", LOST, vec![stripe_confirm(41, (200, done))]);
    assert_eq!(approved(&outcome).1, Some("pi_3PgafyB7WZ01"));
    let card = "4111111111111111";
    let done = json!({"pspReference": "NC6HT9CRT65ZGN82", "resultCode": "Authorised"});
    let outcome = play("adyen", ADYEN, charge(42, card), vec![adyen(42, card, LOST), adyen(42, card, (200, done))]);
    assert_eq!(approved(&outcome).1, Some("NC6HT9CRT65ZGN82"));
    let tokenized = json!({"data": {"tokenizeCreditCard": {"paymentMethod": {"id": "tokencc_bh_1"}}}});
    let found =
        json!({"data": {"search": {"transactions": {"edges": [{"node": {"id": "dHJhbnM", "status": "SETTLING"}}]}}}});
    let exchanges = vec![
        braintree_tokenize(tokenized),
        Exchange { answer: LOST, ..braintree_charge(43, Value::Null) },
        graphql("search", json!({"order": key(43)}), found),
    ];
    assert_eq!(approved(&play("braintree", BRAINTREE, with_postal_code(43), exchanges)).1, Some("dHJhbnM"));
    let exchanges = vec![worldpay(44, LOST), worldpay_found(44)];
    assert_eq!(approved(&play("worldpay", WORLDPAY, charge(44, "5555555555554444"), exchanges)).1, Some("pay1"));
}
