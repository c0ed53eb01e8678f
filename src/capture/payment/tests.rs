//! Stories of payments, and any order of inputs.
#![allow(clippy::disallowed_methods)]

use proptest::prelude::*;
use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::obs::payment::PaymentMethod;

use PaymentField as F;

const S: Duration = Duration::from_secs(1);
const TODAY: Month = Month { year: 2026, month: 11 };

fn wish() -> Wish {
    Wish { postal_code: false, ..Wish::default() }
}

fn open_with(t: Instant, wish: Wish) -> Payment {
    let spec = Spec::new(wish).expect("sane");
    Payment::new(t, PaymentId::draw(&mut Random::seed_from_u64(1)), spec, TODAY)
}

fn open(t: Instant) -> Payment {
    open_with(t, wish())
}

fn press(p: &mut Payment, t: Instant, keys: &str) -> Step {
    keys.chars().map(|c| p.handle_digit(t, &Digit::from_char(c).expect("a key"))).last().expect("a key")
}

fn key(p: &mut Payment, t: Instant, field: F, keys: &str) -> Step {
    p.capture(t, field).expect("wanted");
    press(p, t, keys)
}

fn text(captured: &Captured, field: F) -> String {
    let digits = captured.fields.iter().find(|(has, _)| *has == field).map(|(_, digits)| digits);
    String::from_utf8_lossy(digits.expect("the field").expose()).into_owned()
}

fn whole(t: Instant) -> Payment {
    let mut p = open(t);
    key(&mut p, t, F::PaymentCardNumber, "5555555555554444");
    key(&mut p, t, F::ExpirationDate, "1230");
    key(&mut p, t, F::SecurityCode, "123");
    p
}

#[test]
fn a_card_is_keyed_field_by_field_and_submitted() {
    let t = Instant::now();
    let mut p = open(t);
    assert_eq!(p.progress().required, [F::PaymentCardNumber, F::ExpirationDate, F::SecurityCode]);
    p.capture(t, F::PaymentCardNumber).expect("wanted");
    assert_eq!(press(&mut p, t, "555555555"), Step::Changed);
    let partial = p.progress();
    assert_eq!((partial.capture, partial.partial_result), (Some(F::PaymentCardNumber), true));
    assert_eq!(partial.fields.payment_card_number.as_deref(), Some("xxxx-xxxx-x"));
    assert_eq!(partial.fields.payment_card_type, None);
    assert_eq!(press(&mut p, t, "5554444"), Step::Changed);
    let done = p.progress();
    assert_eq!((done.partial_result, done.error_type), (false, None));
    assert_eq!(done.fields.payment_card_type, Some(CardType::Mastercard));
    assert_eq!(done.fields.payment_card_number.as_deref(), Some("xxxx-xxxx-xxxx-xxxx"));
    key(&mut p, t, F::ExpirationDate, "1230");
    assert_eq!(p.complete(t).err(), Some(Refusal::Missing));
    key(&mut p, t, F::SecurityCode, "123");
    assert!(p.progress().required.is_empty());
    let captured = p.complete(t).expect("whole");
    assert_eq!(p.state(), PaymentState::Submitted);
    assert_eq!(text(&captured, F::PaymentCardNumber), "5555555555554444");
    assert_eq!(text(&captured, F::ExpirationDate), "1230");
    assert_eq!(text(&captured, F::SecurityCode), "123");
    assert_eq!(p.handle_answer(t, Answer::Approved), Step::Ended(PaymentResult::Success));
    assert!(!p.holds_digits() && p.poll_timeout().is_none());
}

#[test]
fn fields_come_in_any_order_and_are_keyed_again_to_correct() {
    let t = Instant::now();
    let mut p = open(t);
    key(&mut p, t, F::SecurityCode, "999#");
    key(&mut p, t, F::ExpirationDate, "1230");
    key(&mut p, t, F::ExpirationDate, "0131");
    key(&mut p, t, F::PaymentCardNumber, "4242*");
    press(&mut p, t, "4242424242424242#");
    key(&mut p, t, F::SecurityCode, "123");
    let captured = p.complete(t).expect("whole");
    assert_eq!(text(&captured, F::ExpirationDate), "0131");
    assert_eq!(text(&captured, F::SecurityCode), "123");
    assert_eq!(text(&captured, F::PaymentCardNumber), "4242424242424242");
}

#[test]
fn a_security_code_keyed_before_an_american_express_must_have_its_length() {
    let t = Instant::now();
    let mut p = open(t);
    key(&mut p, t, F::SecurityCode, "123#");
    key(&mut p, t, F::PaymentCardNumber, "378282246310005");
    let progress = p.progress();
    assert_eq!((progress.capture, progress.error_type), (Some(F::SecurityCode), Some(FieldError::InvalidSecurityCode)));
    assert_eq!(progress.required, [F::ExpirationDate, F::SecurityCode]);
    assert_eq!(key(&mut p, t, F::SecurityCode, "123"), Step::Changed);
    assert!(p.progress().partial_result);
    press(&mut p, t, "4");
    assert_eq!(p.progress().required, [F::ExpirationDate]);
}

#[test]
fn what_is_wrong_is_named_and_wiped() {
    for (field, keys, error) in [
        (F::PaymentCardNumber, "4242424242424241#", FieldError::InvalidCardNumber),
        (F::PaymentCardNumber, "4242#", FieldError::InvalidCardNumber),
        (F::PaymentCardNumber, "9000000000000001#", FieldError::InvalidCardType),
        (F::PaymentCardNumber, "378282246310005", FieldError::InvalidCardType),
        (F::ExpirationDate, "1026", FieldError::InvalidDate),
        (F::ExpirationDate, "1330", FieldError::InvalidDate),
        (F::SecurityCode, "12#", FieldError::InvalidSecurityCode),
        (F::PostalCode, "1234#", FieldError::InvalidPostalCode),
    ] {
        let t = Instant::now();
        let mut p = open_with(t, Wish { card_types: vec![CardType::Visa, CardType::Mastercard], ..Wish::default() });
        assert_eq!(key(&mut p, t, field, keys), Step::Changed, "{field:?}");
        let progress = p.progress();
        assert_eq!((progress.error_type, progress.partial_result), (Some(error), false), "{field:?}");
        assert!(progress.required.contains(&field) && !p.holds_digits());
        assert_eq!(progress.fields, MaskedFields::default());
    }
}

#[test]
fn bank_accounts_are_checked_by_country() {
    let t = Instant::now();
    let bank = |country: &str| {
        open_with(
            t,
            Wish {
                method: PaymentMethod::AchDebit,
                bank_country: country.into(),
                last_digits: true,
                matching: vec![F::BankAccountNumber],
                ..Wish::default()
            },
        )
    };
    let mut p = bank("US");
    key(&mut p, t, F::BankRoutingNumber, "110000001");
    assert_eq!(p.progress().error_type, Some(FieldError::InvalidBankRoutingNumber));
    key(&mut p, t, F::BankRoutingNumber, "110000000");
    key(&mut p, t, F::BankAccountNumber, "000123492#");
    assert_eq!(p.progress().fields.bank_account_number.as_deref(), Some("*******92"));
    assert_eq!(p.progress().required, [F::BankAccountNumberMatcher]);
    key(&mut p, t, F::BankAccountNumberMatcher, "000123492#");
    assert_eq!(text(&p.complete(t).expect("whole"), F::BankRoutingNumber), "110000000");
    let mut p = bank("DE");
    key(&mut p, t, F::BankAccountNumber, "89370400440532013001");
    assert_eq!(p.progress().error_type, Some(FieldError::InvalidBankAccountNumber));
    key(&mut p, t, F::BankAccountNumber, "89370400440532013000");
    key(&mut p, t, F::BankAccountNumberMatcher, "89370400440532013000");
    assert_eq!(p.complete(t).expect("whole").iban_country, Some(*b"DE"));
    let mut p = bank("GB");
    key(&mut p, t, F::BankRoutingNumber, "108800");
    key(&mut p, t, F::BankAccountNumber, "00012345");
    assert_eq!(p.progress().required, [F::BankAccountNumberMatcher]);
}

#[test]
fn a_field_keyed_twice_must_be_the_same_and_a_difference_costs_both() {
    let t = Instant::now();
    let mut p = open_with(t, Wish { matching: vec![F::SecurityCode], ..wish() });
    assert_eq!(p.capture(t, F::SecurityCodeMatcher), Err(Refusal::MatcherFirst));
    assert_eq!(p.capture(t, F::ExpirationDateMatcher), Err(Refusal::NotWanted));
    key(&mut p, t, F::SecurityCode, "123#");
    assert!(p.progress().required.contains(&F::SecurityCodeMatcher));
    key(&mut p, t, F::SecurityCodeMatcher, "12");
    assert_eq!(p.progress().fields.matcher.as_deref(), Some("xx"));
    press(&mut p, t, "4#");
    assert_eq!(p.progress().error_type, Some(FieldError::InputMatchingFailed));
    assert!(p.progress().required.contains(&F::SecurityCode) && !p.holds_digits());
    key(&mut p, t, F::SecurityCode, "123#");
    key(&mut p, t, F::SecurityCodeMatcher, "123#");
    assert_eq!(p.progress().required, [F::PaymentCardNumber, F::ExpirationDate]);
}

#[test]
fn silence_ends_a_field_and_a_pause_within_a_card_does_not() {
    let t = Instant::now();
    let mut p = open(t);
    p.capture(t, F::PaymentCardNumber).expect("wanted");
    assert_eq!(p.poll_timeout(), Some(t + 20 * S));
    assert_eq!(p.handle_timeout(t + 20 * S), Step::Changed);
    assert_eq!(p.progress().error_type, Some(FieldError::InputTimeout));
    // A Visa of 16 that could have 19.
    key(&mut p, t, F::PaymentCardNumber, "4242424242424242");
    assert!(p.progress().partial_result);
    assert_eq!(p.poll_timeout(), Some(t + entry::SETTLE));
    assert_eq!(p.handle_timeout(t + entry::SETTLE), Step::Changed);
    assert_eq!(p.progress().error_type, None);
    // 13 digits of a Visa can be a whole number, but hardly ever are.
    key(&mut p, t, F::PaymentCardNumber, "4222222222222");
    assert_eq!(p.poll_timeout(), Some(t + 5 * S));
    p.handle_timeout(t + 5 * S);
    assert_eq!(p.progress().error_type, Some(FieldError::InputTimeout));
    key(&mut p, t, F::PaymentCardNumber, "4222222222222#");
    assert_eq!(p.progress().fields.payment_card_type, Some(CardType::Visa));
}

#[test]
fn too_many_wrong_entries_end_it_and_mere_silence_does_not() {
    let t = Instant::now();
    let mut p = open(t);
    for _ in 0..9 {
        p.capture(t, F::SecurityCode).expect("wanted");
        assert_eq!(p.handle_timeout(t + 20 * S), Step::Changed);
    }
    assert_eq!(key(&mut p, t, F::ExpirationDate, "1326"), Step::Changed);
    assert_eq!(key(&mut p, t, F::ExpirationDate, "1326"), Step::Changed);
    assert_eq!(key(&mut p, t, F::ExpirationDate, "1326"), Step::Ended(PaymentResult::TooManyFailedAttempts));
    assert_eq!(p.capture(t, F::ExpirationDate), Err(Refusal::Over));
    assert_eq!(p.complete(t).err(), Some(Refusal::Over));
}

#[test]
fn a_field_the_provider_refuses_is_keyed_again_and_the_rest_is_kept() {
    let t = Instant::now();
    let mut p = whole(t);
    drop(p.complete(t).expect("whole"));
    assert_eq!(p.capture(t, F::SecurityCode), Err(Refusal::Submitted));
    assert_eq!(p.cancel(), Err(Refusal::Submitted));
    let late = t + LONGEST;
    assert_eq!(p.handle_timeout(t + 100 * S), Step::Ignored);
    let again = Answer::ReEnter(F::SecurityCode, FieldError::InvalidSecurityCode);
    assert_eq!(p.handle_answer(late, again), Step::Changed);
    assert_eq!(p.progress().required, [F::SecurityCode]);
    assert_eq!(p.handle_timeout(late), Step::Ignored);
    key(&mut p, late, F::SecurityCode, "321");
    let captured = p.complete(late).expect("whole");
    assert_eq!(text(&captured, F::SecurityCode), "321");
    assert_eq!(text(&captured, F::PaymentCardNumber), "5555555555554444");
    assert_eq!(p.handle_answer(late, Answer::Declined), Step::Ended(PaymentResult::Declined));
}

#[test]
fn no_answer_is_unknown_and_nothing_is_kept() {
    let t = Instant::now();
    let mut p = whole(t);
    drop(p.complete(t).expect("whole"));
    assert_eq!(p.poll_timeout(), Some(t + ANSWER));
    assert_eq!(p.handle_timeout(t + ANSWER), Step::Ended(PaymentResult::Unknown));
    assert!(!p.holds_digits());
}

#[test]
fn a_caller_who_hangs_up_leaves_nothing_but_a_submitted_payment() {
    let t = Instant::now();
    let mut p = open(t);
    key(&mut p, t, F::PaymentCardNumber, "4242");
    assert_eq!(p.hang_up(), Step::Ended(PaymentResult::CallerHungUp));
    assert!(!p.holds_digits());
    let mut p = whole(t);
    drop(p.complete(t).expect("whole"));
    assert_eq!(p.hang_up(), Step::Ignored);
    assert!(!p.holds_digits());
    let again = Answer::ReEnter(F::SecurityCode, FieldError::InvalidSecurityCode);
    assert_eq!(p.handle_answer(t, again), Step::Ended(PaymentResult::Declined));
}

#[test]
fn completing_judges_what_stands_in_an_open_field() {
    let t = Instant::now();
    let mut p = open(t);
    key(&mut p, t, F::ExpirationDate, "1230");
    key(&mut p, t, F::SecurityCode, "123#");
    key(&mut p, t, F::PaymentCardNumber, "4242424242424242");
    assert!(p.complete(t).is_ok());
    let mut p = whole(t);
    p.capture(t, F::PaymentCardNumber).expect("wanted");
    press(&mut p, t, "4242");
    assert_eq!(p.complete(t).err(), Some(Refusal::Missing));
    assert_eq!(p.progress().error_type, Some(FieldError::InvalidCardNumber));
}

#[test]
fn a_payment_nobody_finishes_expires() {
    let t = Instant::now();
    let mut p = whole(t);
    assert_eq!(p.poll_timeout(), Some(t + LONGEST));
    assert_eq!(p.handle_timeout(t + LONGEST), Step::Ended(PaymentResult::Expired));
    assert!(!p.holds_digits());
}

#[test]
fn nothing_prints_a_digit_unless_the_last_ones_are_allowed() {
    let t = Instant::now();
    let all = |last_digits| {
        let mut p = open_with(t, Wish { last_digits, ..wish() });
        key(&mut p, t, F::PaymentCardNumber, "378282246310005");
        key(&mut p, t, F::ExpirationDate, "1230");
        key(&mut p, t, F::SecurityCode, "9876");
        format!("{} {p:?}", serde_json::to_string(&p.progress()).expect("json"))
    };
    let shut = all(false);
    for secret in ["0005", "3782", "1230", "9876", "2463"] {
        assert!(!shut.contains(secret), "{shut}");
    }
    let open = all(true);
    assert!(open.contains("xxxx-xxxxxx-x0005") && !open.contains("x10005") && !open.contains("9876"), "{open}");
}

#[derive(Debug, Clone)]
enum Input {
    Capture(usize, bool),
    Key(u8),
    Card,
    Complete,
    Answer(u8),
    Cancel,
    HangUp,
    Wait(u16),
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => (0..FIELDS, any::<bool>()).prop_map(|(field, again)| Input::Capture(field, again)),
        12 => (0u8..16).prop_map(Input::Key),
        2 => Just(Input::Card),
        2 => Just(Input::Complete),
        2 => (0u8..7).prop_map(Input::Answer),
        1 => Just(Input::Cancel),
        1 => Just(Input::HangUp),
        3 => (0u16..400).prop_map(Input::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens in whatever order: no panic, an end is final, and after it no digit is held; a payment that is
    /// not over always has a time at which it goes on by itself.
    #[test]
    fn any_order_of_inputs_ends_without_digits(
        inputs in prop::collection::vec(input(), 1..120),
        bank in any::<bool>(),
        twice in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let method = if bank { PaymentMethod::AchDebit } else { PaymentMethod::CreditCard };
        let matching = match (twice, bank) {
            (false, _) => vec![],
            (true, true) => vec![F::BankAccountNumber],
            (true, false) => vec![F::PaymentCardNumber, F::SecurityCode],
        };
        let mut p = open_with(now, Wish { method, matching, postal_code: false, ..Wish::default() });
        let mut result = None;
        for input in inputs {
            let step = match input {
                Input::Capture(place, again) => {
                    let field = F::ALL[place];
                    let _ = p.capture(now, if again { field.matcher() } else { field });
                    Step::Ignored
                }
                Input::Key(code) => p.handle_digit(now, &Digit::from_event(code).expect("a key")),
                Input::Card => {
                    let _ = p.capture(now, F::PaymentCardNumber);
                    press(&mut p, now, "4242424242424242#")
                }
                Input::Complete => {
                    let required = p.progress().required;
                    if let Ok(captured) = p.complete(now) {
                        prop_assert!(captured.fields.iter().all(|(field, digits)| !digits.is_empty() && !field.is_matcher()));
                        prop_assert!(required.len() <= 1, "only the open field may have been missing: {required:?}");
                    }
                    Step::Ignored
                }
                Input::Answer(which) => p.handle_answer(now, match which {
                    0 => Answer::Approved,
                    1 => Answer::Declined,
                    2 => Answer::Unknown,
                    3 => Answer::Failed,
                    4 => Answer::ReEnter(F::SecurityCode, FieldError::InvalidSecurityCode),
                    5 => Answer::ReEnter(F::PaymentCardNumberMatcher, FieldError::InvalidCardNumber),
                    _ => Answer::ReEnter(F::PostalCode, FieldError::InvalidPostalCode),
                }),
                Input::Cancel => p.cancel().unwrap_or(Step::Ignored),
                Input::HangUp => p.hang_up(),
                Input::Wait(seconds) => {
                    now += Duration::from_secs(u64::from(seconds));
                    p.handle_timeout(now)
                }
            };
            if let Step::Ended(told) = step {
                prop_assert_eq!(p.result(), Some(told));
                prop_assert_eq!(result, None, "an end is told once");
            }
            if result.is_some() {
                prop_assert_eq!(p.result(), result);
            }
            result = p.result();
            match p.result() {
                Some(_) => prop_assert!(!p.holds_digits() && p.poll_timeout().is_none()),
                None => prop_assert!(p.poll_timeout().is_some()),
            }
            let told = serde_json::to_string(&p.progress()).expect("json");
            prop_assert!(!told.chars().any(|c| c.is_ascii_digit()), "{told}");
        }
        for _ in 0..8 {
            now += LONGEST;
            p.handle_timeout(now);
        }
        prop_assert!(p.result().is_some() && !p.holds_digits());
    }
}
