use super::*;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::sandbox;
use rand::SeedableRng;

fn digits(text: &str) -> Option<Digits> {
    let mut digits = Digits::new();
    for c in text.chars() {
        assert!(digits.push(&Digit::from_char(c).expect("a key")));
    }
    Some(digits)
}

/// What a template gives; `None`: left out.
fn written(template: &str, escape: Escape) -> Result<Option<String>, Missing> {
    with(|context| {
        let mut out = Locked::default();
        let template = Template::parse(template).expect("a template");
        let there = write(&template, context, escape, &mut out)?;
        assert!(there || out.is_empty());
        Ok(there.then(|| String::from_utf8(out.expose().to_vec()).expect("text")))
    })
}

fn json_of(template: &str) -> Result<String, Missing> {
    with(|context| {
        let mut out = Locked::default();
        let template = Body::Json(JsonTemplate::parse(template).expect("JSON"));
        assert_eq!(body(&template, context, &mut out)?, Some("application/json"));
        Ok(String::from_utf8(out.expose().to_vec()).expect("text"))
    })
}

fn with<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    let connector = sandbox();
    let fields = Fields { card: digits("4242424242424242"), expiry: digits("0734"), ..Fields::default() };
    let operation = Operation::Charge { amount_minor: 1250, currency: "EUR".into() };
    let parameters = [("order".to_owned(), "a\"b\\c\u{1}é".to_owned())].into();
    let context = Context {
        connector: &connector,
        payment: PaymentId::draw(&mut Random::seed_from_u64(1)),
        attempt: 2,
        operation: &operation,
        fields: Some(&fields),
        brand: Some(Brand::DinersClub),
        description: Some("Café & Söhne\r\nX: y"),
        parameters: Some(&parameters),
        reference: None,
        values: &BTreeMap::new(),
        wall: WallMs(1_700_000_000_123),
        signing: None,
    };
    run(&context)
}

#[test]
fn values_and_filters_give_what_they_say() {
    for (template, wanted) in [
        ("${card.number}", "4242424242424242"),
        ("${card.month}/${card.year}/${card.year2}", "07/2034/34"),
        ("${amount.minor} ${amount.major} ${currency|lower}", "1250 12.50 eur"),
        ("${card.brand|map:visa=VI,diners-club=DC|upper}", "DC"),
        ("${card.brand|map:visa=VI,*=XX}", "XX"),
        ("${card.number|first:4}", "4242"),
        ("${time}", "1700000000"),
        ("${description|first:4}", "Café"),
    ] {
        assert_eq!(written(template, Escape::None).expect(template).as_deref(), Some(wanted), "{template}");
    }
}

#[test]
fn what_is_not_there_is_missing_or_left_out() {
    assert_eq!(written("${card.security_code}", Escape::None), Err(Missing));
    assert_eq!(written("a${card.security_code?}b", Escape::None), Ok(None));
    assert_eq!(written("${card.brand|map:visa=VI}", Escape::None), Err(Missing));
    assert_eq!(written("${reference?}", Escape::None), Ok(None));
}

#[test]
fn each_place_has_its_escapes() {
    let text = "${description}";
    assert_eq!(
        written(text, Escape::Percent).expect("there").as_deref(),
        Some("Caf%C3%A9%20%26%20S%C3%B6hne%0D%0AX%3A%20y")
    );
    assert_eq!(written(text, Escape::Header).expect("there").as_deref(), Some("Caf?? & S??hne??X: y"));
    let json = json_of(r#"{"order": "${parameter.order}"}"#).expect("there");
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read["order"], "a\"b\\c\u{1}é");
}

#[test]
fn json_leaves_out_what_is_not_there_and_what_that_empties() {
    let json = json_of(
        r#"{"a": "${card.security_code?}", "b": {"c": "${postal_code?}"}, "m": "${card.month|number}",
            "n": "${amount.minor|number}", "l": ["x", "${reference?}"], "t": true, "e": {}}"#,
    )
    .expect("there");
    assert_eq!(json, r#"{"e":{},"l":["x"],"m":7,"n":1250,"t":true}"#);
    assert_eq!(json_of(r#"{"m": "${currency|number}"}"#), Err(Missing));
}

#[test]
fn a_form_is_encoded_and_leaves_out_too() {
    let form = Body::Form(vec![
        ("card[number]".into(), Template::parse("${card.number}").expect("a template")),
        ("card[cvc]".into(), Template::parse("${card.security_code?}").expect("a template")),
        ("text".into(), Template::parse("a&b ${currency}").expect("a template")),
    ]);
    let text = with(|context| {
        let mut out = Locked::default();
        body(&form, context, &mut out).expect("there");
        String::from_utf8(out.expose().to_vec()).expect("text")
    });
    assert_eq!(text, "card%5Bnumber%5D=4242424242424242&text=a%26b%20EUR");
}

#[test]
fn amounts_have_the_decimals_of_their_currency() {
    assert_eq!(major(1250, "EUR"), "12.50");
    assert_eq!(major(5, "USD"), "0.05");
    assert_eq!(major(1250, "JPY"), "1250");
    assert_eq!(major(1_250, "KWD"), "1.250");
}
