use super::*;
use crate::base::Random;
use crate::base::ids::PaymentId;
use crate::base::secret::{Digit, Digits};
use crate::base::time::WallMs;
use crate::config::Connector;
use crate::config::{Checked, SecretSource, Surroundings};
use crate::psp::Operation;
use rand::SeedableRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const BASE: &str = include_str!("../../config/small.toml");

/// A connector of this text, with the secret `key` = "s3cret".
fn connector(text: &str) -> Connector {
    let secret = |_: &SecretSource| Ok("s3cret".to_owned());
    let around = Surroundings { directory: Path::new(""), secret: &secret };
    let text = format!(
        "{BASE}\n[[connector]]\nname = \"psp\"\nurl = \"https://psp.example:8443/base/\"\n{text}\n\
         [[connector.secret]]\nname = \"key\"\nenv = \"PSP_KEY\"\n"
    );
    let checked = Checked::parse("test.toml", &text, &around).unwrap_or_else(|faults| panic!("{faults}"));
    checked.config.connectors.into_iter().next().expect("a connector")
}

const STEP: &str = r#"
[[connector.step]]
of = "token"
name = "one"
url = "/pay/${idempotency}"
json = '{"number": "${card.number}"}'
[[connector.step.answer]]
status = ["2xx", "302"]
when = ["/ok=yes|true", "!/error"]
outcome = "approved"
token = "/token"
reference = "/ref"
[[connector.step.answer]]
status = "402"
outcome = "declined"
code = "/why"
"#;

fn fields() -> Fields {
    let mut card = Digits::new();
    for c in "4242424242424242".chars() {
        assert!(card.push(&Digit::from_char(c).expect("a key")));
    }
    Fields { card: Some(card), ..Fields::default() }
}

fn made(connector: &Connector, values: &BTreeMap<String, String>) -> Result<Request, BuildError> {
    let fields = fields();
    let context = Context {
        connector,
        payment: PaymentId::draw(&mut Random::seed_from_u64(1)),
        attempt: 1,
        operation: &Operation::Token,
        fields: Some(&fields),
        brand: None,
        description: None,
        parameters: None,
        reference: None,
        values,
        wall: WallMs(1_700_000_000_000),
        signing: None,
    };
    let step = connector.token.last().expect("a step");
    build(step, &context, (7, 0), Duration::from_secs(3))
}

fn header(request: &Request, name: &str) -> Option<String> {
    let (_, value) = request.headers.iter().find(|(known, _)| known == name)?;
    Some(String::from_utf8(value.expose().to_vec()).expect("text"))
}

#[test]
fn a_step_becomes_a_request_and_prints_nothing() {
    let request = made(&connector(STEP), &BTreeMap::new()).expect("a request");
    assert!(request.https && request.host == "psp.example:8443");
    assert!(request.path.starts_with("/base/pay/pay_") && request.path.ends_with("-1"), "{}", request.path);
    assert_eq!(request.body.expose(), br#"{"number":"4242424242424242"}"#);
    assert_eq!(header(&request, "Content-Type").as_deref(), Some("application/json"));
    let printed = format!("{request:?}");
    assert!(!printed.contains("4242") && !printed.contains("pay_"), "{printed}");
}

#[test]
fn requests_are_signed_as_the_connector_says() {
    let bearer = format!("{STEP}[connector.auth]\nkind = \"bearer\"\nsecret = \"key\"\n");
    let request = made(&connector(&bearer), &BTreeMap::new()).expect("a request");
    assert_eq!(header(&request, "Authorization").as_deref(), Some("Bearer s3cret"));

    let basic = format!("{STEP}[connector.auth]\nkind = \"basic\"\nuser = \"me\"\nsecret = \"key\"\n");
    let request = made(&connector(&basic), &BTreeMap::new()).expect("a request");
    assert_eq!(header(&request, "Authorization").as_deref(), Some("Basic bWU6czNjcmV0"));

    let hmac = format!(
        "{STEP}[connector.auth]\nkind = \"hmac\"\nsecret = \"key\"\nsign = \"${{method}} ${{time}} ${{body}}\"\n\
         header = \"X-Signature\"\nvalue = \"t=${{time}},v1=${{signature}}\"\n"
    );
    let request = made(&connector(&hmac), &BTreeMap::new()).expect("a request");
    // printf 'POST 1700000000 {"number":"4242424242424242"}' | openssl dgst -sha256 -hmac s3cret
    assert_eq!(
        header(&request, "X-Signature").as_deref(),
        Some("t=1700000000,v1=6d3b6599566dbdd1f62187dc01aeef66d5aded763489f076174c1349348978a8")
    );
}

#[test]
fn an_address_from_an_answer_goes_to_the_connectors_hosts_only() {
    let text = r#"
[[connector.step]]
of = "token"
name = "first"
url = "/first"
[[connector.step.answer]]
outcome = "next"
values = ["next=/link"]
[[connector.step]]
of = "token"
name = "second"
url = "${value.next}"
[[connector.step.answer]]
outcome = "approved"
"#;
    let connector = connector(text);
    let to = |link: &str| made(&connector, &[("next".to_owned(), link.to_owned())].into());
    let request = to("https://PSP.example:8443/x?y=1#z").expect("a request");
    assert_eq!((request.host.as_str(), request.path.as_str()), ("psp.example:8443", "/x?y=1"));
    for link in [
        "https://evil.example/x",
        "https://psp.example/x",
        "http://psp.example:8443/x",
        "https://psp.example:8443@evil.example/x",
        "https://psp.example:8443/x\r\nHost: evil",
        "//psp.example:8443/x",
        "ftp://psp.example:8443/",
        "169.254.169.254",
    ] {
        assert_eq!(to(link).err(), Some(BuildError::Address), "{link}");
    }
}

#[test]
fn answers_mean_what_the_first_rule_that_fits_says() {
    let connector = connector(STEP);
    let step = &connector.token[0];
    let told = |status, body: &str| read(step, status, body.as_bytes(), Some(&fields()));
    let meaning = told(201, r#"{"ok": "yes", "token": "tok_1", "ref": 5}"#).expect("a meaning");
    assert_eq!(meaning.then, Then::Approved);
    assert_eq!(meaning.token.map(|token| token.expose().to_owned()).as_deref(), Some("tok_1"));
    assert_eq!(meaning.reference.as_deref(), Some("5"));
    assert!(told(200, r#"{"ok": "no"}"#).is_none());
    assert!(told(200, r#"{"ok": true, "error": {}}"#).is_none());
    assert!(told(500, r#"{"ok": "yes"}"#).is_none());
    assert!(told(200, "<html>").is_none());
}

#[test]
fn an_answer_that_repeats_the_card_gives_it_to_nobody() {
    let connector = connector(STEP);
    let step = &connector.token[0];
    let told = |status, body: &str| read(step, status, body.as_bytes(), Some(&fields())).expect("a meaning");
    let meaning = told(200, r#"{"ok": "yes", "token": "4242424242424242", "ref": "x-4242424242424242"}"#);
    assert!(meaning.token.is_none() && meaning.reference.is_none());
    let meaning = told(402, r#"{"why": "no such card 4242424242424242"}"#);
    assert_eq!(meaning.code.as_deref(), Some("declined"));
    assert_eq!(told(402, r#"{"why": "do not/honour"}"#).code.as_deref(), Some("do_not_honour"));
}
