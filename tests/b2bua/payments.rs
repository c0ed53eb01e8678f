//! Payments on calls: the keys go to the open field, the mask stays from beginning to end whatever happens to the call,
//! the digits go to the payment provider once, and nobody else gets to see one.

use std::collections::BTreeMap;

use tonewall::base::ids::{Leg, PaymentId};
use tonewall::base::payment::{Field, FieldError};
use tonewall::base::secret::Digits;
use tonewall::call::{
    Actor, CollectionRequest, PaymentOrder, PaymentRequest, PaymentView, RecorderReport, Reply, Signal, SignalError,
};
use tonewall::config::{Config, GuardMode, RecordingPolicy, Refer, Role};
use tonewall::media::{Guard, Tap};
use tonewall::obs::event::EventKind;
use tonewall::obs::payment::{CardType, PaymentField, PaymentMethod, PaymentResult, PaymentState};
use tonewall::psp::{Answer, Failure, Operation, Outcome, Token};

use crate::harness::*;

const CARD: &str = "5555555555554444";

fn recorded(config: &mut Config) {
    config.trunks[0].recording = RecordingPolicy::BestEffort;
    for trunk in &mut config.trunks {
        trunk.methods.refer = Refer::Terminate;
    }
}

fn order(w: &mut World, order: PaymentOrder) -> Result<PaymentView, SignalError> {
    let call = w.view().id;
    match w.signal(Signal::Payment { call, order, actor: actor() })? {
        Reply::Payment(view) => Ok(*view),
        other => panic!("{other:?}"),
    }
}

fn request() -> PaymentRequest {
    PaymentRequest {
        charge_amount: Some("10.50".into()),
        description: Some("order 1001".into()),
        postal_code: Some(false),
        parameter: BTreeMap::from([("order".into(), "1001".into())]),
        ..PaymentRequest::default()
    }
}

fn start(w: &mut World) -> PaymentId {
    order(w, PaymentOrder::Start(Box::new(request()))).expect("begun").id
}

fn capture(w: &mut World, payment: PaymentId, field: PaymentField, keys: &str) {
    order(w, PaymentOrder::Capture(payment, field)).expect("captured");
    w.press(Leg::Customer, keys);
}

fn keyed(w: &mut World) -> PaymentId {
    let payment = start(w);
    capture(w, payment, PaymentField::PaymentCardNumber, CARD);
    capture(w, payment, PaymentField::ExpirationDate, "1230");
    capture(w, payment, PaymentField::SecurityCode, "987");
    payment
}

fn submitted(w: &mut World) -> PaymentId {
    let payment = keyed(w);
    let view = order(w, PaymentOrder::Complete(payment)).expect("complete");
    assert_eq!(view.state, PaymentState::Submitted);
    payment
}

fn approved() -> Outcome {
    Outcome::Approved { token: Some(Token::new("tok_1".into())), reference: Some("ref-1".into()) }
}

fn text(digits: Option<&Digits>) -> &str {
    std::str::from_utf8(digits.expect("a field").expose()).expect("ASCII")
}

fn results(w: &World) -> Vec<PaymentResult> {
    let of = |event: &EventKind| match event {
        EventKind::PaymentEnded { result, .. } => Some(*result),
        _ => None,
    };
    w.events.iter().filter_map(of).collect()
}

/// The mask went on once and never off, and so did the pause.
fn expect_guarded(w: &World) {
    assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
    let masks: Vec<_> = w.events.iter().filter(|e| matches!(e, EventKind::Mask { .. })).collect();
    assert!(matches!(masks[..], [EventKind::Mask { on: true }]), "{masks:?}");
}

/// No event told a digit: every text of an event is searched.
fn expect_no_digit_told(w: &World) {
    for event in w.events.iter() {
        let kind = serde_json::to_value(event).expect("json");
        let kind_name = kind["type"].as_str().unwrap_or_default().to_owned();
        if !kind_name.starts_with("payment") {
            continue;
        }
        let mut kind = kind;
        kind.as_object_mut().expect("an object").retain(|name, _| name != "payment");
        let told = kind.to_string().replace("tok_1", "").replace("ref-1", "");
        assert!(!told.chars().any(|c| c.is_ascii_digit()), "{told}");
    }
}

#[test]
fn a_payment_masks_from_its_beginning_until_after_the_answer_and_charges_once() {
    let mut w = World::with(recorded);
    w.call();
    let payment = start(&mut w);
    expect_guarded(&w);
    assert!(w.view().holds.iter().all(|hold| hold.owner == "payment"));
    // Keys without an open field are masked and wanted by nobody.
    w.press(Leg::Customer, "12");
    capture(&mut w, payment, PaymentField::PaymentCardNumber, &CARD[..9]);
    let view = w.view().payment.expect("open");
    assert_eq!(view.progress.fields.payment_card_number.as_deref(), Some("xxxx-xxxx-x"));
    assert_eq!(view.charge_amount.as_deref(), Some("10.50"));
    w.press(Leg::Customer, &CARD[9..]);
    w.press(Leg::Customer, "#");
    capture(&mut w, payment, PaymentField::ExpirationDate, "1230");
    assert_eq!(order(&mut w, PaymentOrder::Complete(payment)).err(), Some(SignalError::PaymentIncomplete));
    capture(&mut w, payment, PaymentField::SecurityCode, "987");
    assert!(w.charges.is_empty());
    order(&mut w, PaymentOrder::Complete(payment)).expect("complete");
    assert_eq!(order(&mut w, PaymentOrder::Complete(payment)).err(), Some(SignalError::PaymentSubmitted));
    w.advance(10 * SEC);
    expect_guarded(&w);
    assert_eq!(w.charges.len(), 1);
    let charge = &w.charges[0];
    assert_eq!((charge.payment, charge.attempt), (payment, 1));
    assert_eq!(charge.operation, Operation::Charge { amount_minor: 1050, currency: "USD".into() });
    assert_eq!((text(charge.fields.card.as_ref()), text(charge.fields.expiry.as_ref())), (CARD, "1230"));
    assert_eq!(text(charge.fields.security_code.as_ref()), "987");
    assert_eq!(charge.parameters["order"], "1001");
    w.provider(approved());
    expect_guarded(&w);
    w.advance(2 * SEC);
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
    let view = order(&mut w, PaymentOrder::Get(payment)).expect("remembered");
    assert_eq!((view.state, view.result), (PaymentState::Ended, Some(PaymentResult::Success)));
    assert_eq!(view.outcome.payment_token.as_deref(), Some("tok_1"));
    assert_eq!(view.progress.fields.payment_card_type, Some(CardType::Mastercard));
    assert_eq!(order(&mut w, PaymentOrder::Complete(payment)).err(), Some(SignalError::PaymentOver));
    expect_no_digit_told(&w);
    assert!(w.ledger.sent_digits.is_empty() && w.handovers.is_empty());
}

#[test]
fn a_field_the_provider_refuses_is_keyed_again_under_the_same_mask_as_another_attempt() {
    let mut w = World::with(recorded);
    w.call();
    let payment = submitted(&mut w);
    w.provider(Outcome::ReEnter { field: Field::SecurityCode, error: FieldError::InvalidSecurityCode });
    expect_guarded(&w);
    let view = order(&mut w, PaymentOrder::Get(payment)).expect("open");
    assert_eq!((view.state, view.progress.error_type), (PaymentState::Open, Some(FieldError::InvalidSecurityCode)));
    capture(&mut w, payment, PaymentField::SecurityCode, "123");
    order(&mut w, PaymentOrder::Complete(payment)).expect("complete");
    assert_eq!((w.charges.len(), w.charges[1].attempt), (2, 2));
    assert_eq!(text(w.charges[1].fields.security_code.as_ref()), "123");
    // A late word on the first attempt says nothing about the second.
    let stale = Answer { payment, attempt: 1, outcome: Outcome::Declined { code: "late".into() } };
    w.engine.handle_payment(w.now, stale);
    w.drain();
    assert_eq!(results(&w), []);
    w.provider(Outcome::Declined { code: "do-not-honour".into() });
    assert_eq!(results(&w), [PaymentResult::Declined]);
    let view = order(&mut w, PaymentOrder::Get(payment)).expect("remembered");
    assert_eq!(view.outcome.pay_error_code.as_deref(), Some("do-not-honour"));
}

#[test]
fn one_payment_or_collection_at_a_time_and_only_for_whoever_may() {
    let mut w = World::new();
    w.call();
    let payment = start(&mut w);
    let call = w.view().id;
    assert_eq!(order(&mut w, PaymentOrder::Start(Box::default())).err(), Some(SignalError::PaymentOpen));
    let collect = Signal::StartCollection { call, request: CollectionRequest::of_length(4), actor: actor() };
    assert_eq!(w.signal(collect.clone()), Err(SignalError::PaymentOpen));
    let by = |name: &str, role| Actor::new(name, role);
    let cancel = |actor| Signal::Payment { call, order: PaymentOrder::Cancel(payment), actor };
    assert_eq!(w.signal(cancel(by("other", Role::Integration))), Err(SignalError::Forbidden));
    assert_eq!(w.signal(cancel(by("audit", Role::Auditor))), Err(SignalError::Forbidden));
    let hold = w.view().holds[0].id;
    let release = Signal::ReleaseHold { call, hold, actor: by("boss", Role::Admin) };
    assert_eq!(w.signal(release), Err(SignalError::HoldPinned));
    assert!(w.masked());
    w.signal(cancel(by("boss", Role::Supervisor))).expect("cancelled");
    assert_eq!(results(&w), [PaymentResult::Cancelled]);
    assert!(w.masked(), "a moment longer");
    w.signal(collect).expect("begun");
    assert_eq!(order(&mut w, PaymentOrder::Start(Box::default())).err(), Some(SignalError::CollectionOpen));
}

#[test]
fn nothing_a_peer_does_in_sip_lifts_a_payments_mask_and_keying_goes_on() {
    let mut w = World::with(recorded);
    let mut up = w.call();
    let payment = start(&mut w);
    order(&mut w, PaymentOrder::Capture(payment, PaymentField::PaymentCardNumber)).expect("captured");
    let mut left = CARD.chars();
    for (version, formats, direction) in [
        (2, "8", "sendrecv"),
        (3, BOTH, "sendonly"),
        (4, BOTH, "inactive"),
        (5, "0", "sendrecv"),
        (6, BOTH, "sendrecv"),
    ] {
        for from_caller in [true, false] {
            let (line, other) = if from_caller { (&mut up.caller, Who::Pbx) } else { (&mut up.callee, Who::Carrier) };
            let request = line.offer(&mut w, "INVITE", &sdp(line.who, version, formats, direction));
            w.send(line.who, &request);
            expect_guarded(&w);
            let theirs = w.expect(other, "INVITE");
            let ok =
                reply(other, &theirs, 200, "").with_body("application/sdp", sdp(other, version, formats, "sendrecv"));
            w.send(other, &ok);
            w.expect(other, "ACK");
            w.expect(line.who, "200");
            let ack = line.ack(&mut w);
            w.send(line.who, &ack);
            expect_guarded(&w);
            w.press(Leg::Customer, &left.next().map(String::from).unwrap_or_default());
        }
    }
    w.press(Leg::Customer, left.as_str());
    let view = order(&mut w, PaymentOrder::Get(payment)).expect("open");
    assert_eq!(view.progress.fields.payment_card_type, Some(CardType::Mastercard));
    expect_guarded(&w);
}

#[test]
fn a_transfer_to_another_agent_keeps_mask_and_keys() {
    let mut w = World::with(recorded);
    let mut up = w.call();
    let payment = start(&mut w);
    capture(&mut w, payment, PaymentField::PaymentCardNumber, &CARD[..8]);
    let refer = up.callee.request(&mut w, "REFER").with("Refer-To", "<sip:1002@10.1.0.20>");
    w.send(Who::Pbx, &refer);
    w.expect(Who::Pbx, "202");
    w.expect(Who::Pbx, "NOTIFY");
    let theirs = w.expect(Who::Pbx, "INVITE");
    expect_guarded(&w);
    let ok = reply(Who::Pbx, &theirs, 200, "second").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    assert!(w.events.iter().any(|event| matches!(event, EventKind::CallTransferred { leg: Leg::Agent, .. })));
    expect_guarded(&w);
    w.press(Leg::Customer, &CARD[8..]);
    capture(&mut w, payment, PaymentField::ExpirationDate, "1230");
    capture(&mut w, payment, PaymentField::SecurityCode, "987");
    order(&mut w, PaymentOrder::Complete(payment)).expect("complete");
    assert_eq!(text(w.charges[0].fields.card.as_ref()), CARD);
    expect_guarded(&w);
}

#[test]
fn a_caller_who_hangs_up_while_keying_leaves_nothing() {
    let mut w = World::with(recorded);
    let mut up = w.call();
    let payment = start(&mut w);
    capture(&mut w, payment, PaymentField::PaymentCardNumber, "5555");
    let call = w.view().id;
    w.hang_up(&mut up.caller, Who::Pbx);
    assert_eq!(results(&w), [PaymentResult::CallerHungUp]);
    assert!(w.charges.is_empty());
    assert!(w.ledger.ended.iter().all(|(_, s)| matches!(s.toward_agent, Guard::Masked(_))), "masked to the end");
    // Told for a while after the call.
    let get = Signal::Payment { call, order: PaymentOrder::Get(payment), actor: actor() };
    let Ok(Reply::Payment(view)) = w.signal(get) else { panic!("remembered") };
    assert_eq!(view.result, Some(PaymentResult::CallerHungUp));
    expect_no_digit_told(&w);
    w.expect_clean();
}

#[test]
fn a_submitted_payment_outlives_its_call_and_its_answer_is_told() {
    let mut w = World::with(recorded);
    let mut up = w.call();
    let payment = submitted(&mut w);
    let call = w.view().id;
    w.hang_up(&mut up.callee, Who::Carrier);
    w.engine.drain(w.now);
    assert_eq!(results(&w), []);
    assert!(!w.engine.is_idle(), "a drain waits for the provider");
    let cancel = Signal::Payment { call, order: PaymentOrder::Cancel(payment), actor: actor() };
    assert_eq!(w.signal(cancel), Err(SignalError::PaymentSubmitted));
    w.provider(approved());
    assert_eq!(results(&w), [PaymentResult::Success]);
    let list = Signal::Payment { call, order: PaymentOrder::List, actor: actor() };
    let Ok(Reply::Payments(views)) = w.signal(list) else { panic!("remembered") };
    assert_eq!(views.iter().map(|view| view.result).collect::<Vec<_>>(), [Some(PaymentResult::Success)]);
    w.expect_clean();
}

#[test]
fn a_provider_that_says_nothing_leaves_it_unknown_until_it_is_found_out() {
    for after_the_call in [false, true] {
        let mut w = World::with(recorded);
        let mut up = w.call();
        let payment = submitted(&mut w);
        let call = w.view().id;
        if after_the_call {
            w.hang_up(&mut up.caller, Who::Pbx);
        }
        w.advance(200 * SEC);
        assert_eq!(results(&w), [PaymentResult::Unknown]);
        w.provider(approved());
        assert_eq!(results(&w), [PaymentResult::Unknown], "it ends once");
        let found = |event: &EventKind| matches!(event, EventKind::PaymentReconciled { result: PaymentResult::Success, payment: id, .. } if *id == payment);
        assert!(w.events.iter().any(found));
        let get = Signal::Payment { call, order: PaymentOrder::Get(payment), actor: actor() };
        let Ok(Reply::Payment(view)) = w.signal(get) else { panic!("remembered") };
        assert_eq!(view.result, Some(PaymentResult::Success));
        assert_eq!(w.charges.len(), 1, "never charged again");
    }
}

#[test]
fn an_answer_of_an_earlier_run_is_told_all_the_same() {
    let mut w = World::new();
    w.call();
    let payment = submitted(&mut w);
    let mut later = World::new();
    let reason = Failure::NotCharged;
    later.engine.handle_payment(later.now, Answer { payment, attempt: 1, outcome: Outcome::Failed { reason } });
    later.drain_orphan_events();
    let told = EventKind::PaymentReconciled {
        payment,
        result: PaymentResult::PaymentConnectorError,
        outcome: tonewall::obs::event::PaymentOutcome {
            pay_error_code: Some("not-charged".into()),
            ..Default::default()
        },
    };
    assert_eq!(format!("{:?}", later.events), format!("{:?}", [told]));
}

#[test]
fn a_controller_that_never_comes_back_leaves_the_mask_until_the_payment_expires() {
    let mut w = World::with(recorded);
    w.call();
    let payment = start(&mut w);
    capture(&mut w, payment, PaymentField::PaymentCardNumber, "5555");
    w.advance(14 * 60 * SEC);
    expect_guarded(&w);
    assert_eq!(results(&w), []);
    w.advance(59 * SEC);
    // The caller keys on: the mask stays for as long as that.
    w.press(Leg::Customer, "5");
    w.advance(SEC);
    assert_eq!(results(&w), [PaymentResult::Expired]);
    w.press(Leg::Customer, "5");
    w.advance(SEC);
    w.press(Leg::Customer, "5");
    w.advance(SEC);
    expect_guarded(&w);
    w.advance(2 * SEC);
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
}

#[test]
fn a_drain_and_a_dead_recorder_do_not_lift_the_mask() {
    let mut w = World::with(recorded);
    w.call();
    let payment = start(&mut w);
    capture(&mut w, payment, PaymentField::PaymentCardNumber, &CARD[..8]);
    w.engine.drain(w.now);
    w.drain();
    expect_guarded(&w);
    let recording = w.view().recording.expect("a recording").id;
    w.engine.handle_recorder(w.now, recording, RecorderReport::Failed);
    w.ledger.recordings_open -= 1;
    w.drain();
    assert!(w.masked());
    w.press(Leg::Customer, &CARD[8..]);
    let view = order(&mut w, PaymentOrder::Get(payment)).expect("open");
    assert_eq!(view.progress.fields.payment_card_type, Some(CardType::Mastercard));
    assert!(w.masked() && w.view().paused);
}

#[test]
fn a_required_recorder_that_dies_ends_the_call_and_wipes() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::Required);
    w.call();
    let payment = start(&mut w);
    capture(&mut w, payment, PaymentField::PaymentCardNumber, "5555");
    let recording = w.view().recording.expect("a recording").id;
    w.engine.handle_recorder(w.now, recording, RecorderReport::Failed);
    w.ledger.recordings_open -= 1;
    w.drain();
    assert_eq!(results(&w), [PaymentResult::CallerHungUp]);
    assert!(w.charges.is_empty());
    assert!(w.ledger.ended.iter().all(|(_, s)| matches!(s.toward_agent, Guard::Masked(_))));
}

#[test]
fn under_auto_and_always_the_keys_of_a_payment_go_to_it_and_nowhere_else() {
    for mode in [GuardMode::Auto, GuardMode::Always] {
        let mut w = World::with(|config| config.trunks[0].guard = mode);
        w.call();
        submitted(&mut w);
        w.advance(30 * SEC);
        assert!(w.masked());
        assert_eq!(text(w.charges[0].fields.card.as_ref()), CARD, "{mode:?}");
        assert!(w.ledger.sent_digits.is_empty() && w.ledger.info_digits.is_empty());
        w.provider(Outcome::Failed { reason: Failure::Unavailable });
        assert_eq!(results(&w), [PaymentResult::PaymentConnectorError]);
        w.advance(30 * SEC);
        assert!(w.ledger.sent_digits.is_empty(), "nothing is released afterwards");
    }
}

#[test]
fn a_payment_needs_an_answered_call_and_a_known_connector() {
    let mut w = World::new();
    w.dial();
    assert_eq!(order(&mut w, PaymentOrder::Start(Box::default())).err(), Some(SignalError::NotAnswered));
    let mut w = World::new();
    w.call();
    let none = PaymentRequest { payment_connector: Some("none".into()), ..request() };
    assert_eq!(order(&mut w, PaymentOrder::Start(Box::new(none))).err(), Some(SignalError::NoConnector));
    assert!(!w.masked() && w.view().holds.is_empty());
    let nobody = order(&mut w, PaymentOrder::Get(PaymentId::draw(&mut rand::SeedableRng::seed_from_u64(1))));
    assert_eq!(nobody.err(), Some(SignalError::NoSuchPayment));
}

#[test]
fn last_digits_are_shown_only_where_the_configuration_says_so() {
    for (allowed, shown) in [(false, "xxxx-xxxx-xxxx-xxxx"), (true, "xxxx-xxxx-xxxx-4444")] {
        let mut w = World::new();
        w.engine.set_payments(vec!["bank".into()], allowed);
        w.call();
        let payment = keyed(&mut w);
        let view = order(&mut w, PaymentOrder::Get(payment)).expect("open");
        assert_eq!(view.progress.fields.payment_card_number.as_deref(), Some(shown));
        assert_eq!(view.payment_connector, "bank");
    }
}

#[test]
fn a_bank_account_goes_to_the_provider_with_its_country() {
    let mut w = World::new();
    w.call();
    let request = PaymentRequest {
        payment_method: PaymentMethod::AchDebit,
        bank_country: Some("DE".into()),
        ..PaymentRequest::default()
    };
    let payment = order(&mut w, PaymentOrder::Start(Box::new(request))).expect("begun").id;
    capture(&mut w, payment, PaymentField::BankAccountNumber, "89370400440532013000");
    order(&mut w, PaymentOrder::Complete(payment)).expect("complete");
    let charge = &w.charges[0];
    assert_eq!((charge.parameters["bank_country"].as_str(), &charge.operation), ("DE", &Operation::Token));
    assert_eq!(text(charge.fields.bank_account.as_ref()), "89370400440532013000");
}
