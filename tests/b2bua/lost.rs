//! Controllers that are lost while a customer keys (faults.md): whoever took a hold or began a payment falls silent and
//! comes back after a second, half a minute, five minutes, or never. The mask stays, the capture goes on by its own
//! timers, only the same key or one who may override goes on with it, and nothing unmasks between two keys.

use std::time::Duration;

use tonewall::base::ids::{CallId, HoldId, Leg, PaymentId};
use tonewall::call::{Actor, PaymentOrder, PaymentRequest, PaymentView, Reply, Signal, SignalError};
use tonewall::config::{RecordingPolicy, Role};
use tonewall::media::{Guard, Tap};
use tonewall::obs::event::{EventKind, HoldKind};
use tonewall::obs::payment::{PaymentField, PaymentResult, PaymentState};

use crate::harness::*;

const CARD: &str = "5555555555554444";

fn by(name: &str, role: Role) -> Actor {
    Actor::new(name, role)
}

fn crm() -> Actor {
    by("crm", Role::Integration)
}

fn pay(w: &mut World, call: CallId, order: PaymentOrder, actor: Actor) -> Result<PaymentView, SignalError> {
    match w.signal(Signal::Payment { call, order, actor })? {
        Reply::Payment(view) => Ok(*view),
        other => panic!("{other:?}"),
    }
}

/// A payment of the CRM's, and half a card keyed.
fn half_keyed() -> (World, Up, CallId, PaymentId) {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    let up = w.call();
    let call = w.view().id;
    let request =
        PaymentRequest { charge_amount: Some("10.50".into()), postal_code: Some(false), ..PaymentRequest::default() };
    let payment = pay(&mut w, call, PaymentOrder::Start(Box::new(request)), crm()).expect("begun").id;
    let card = PaymentOrder::Capture(payment, PaymentField::PaymentCardNumber);
    pay(&mut w, call, card, crm()).expect("captured");
    w.press(Leg::Customer, &CARD[..8]);
    (w, up, call, payment)
}

fn take(w: &mut World, ttl: Duration) -> Vec<HoldId> {
    let (call, kinds) = (w.view().id, vec![HoldKind::Mask, HoldKind::Pause]);
    match w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: Some(ttl), actor: crm() }) {
        Ok(Reply::Holds(holds)) => holds.iter().map(|hold| hold.id).collect(),
        other => panic!("{other:?}"),
    }
}

fn guarded(w: &World) -> bool {
    w.masked() && w.session().tap == Tap::Paused
}

fn unmasked(w: &World) -> usize {
    w.events.iter().filter(|event| matches!(event, EventKind::Mask { on: false })).count()
}

#[test]
fn a_capture_whose_controller_is_lost_goes_on_masked_and_is_its_controllers_when_it_comes_back() {
    for gone in [1, 30, 300] {
        let (mut w, _up, call, payment) = half_keyed();
        w.advance(gone * SEC);
        assert!(guarded(&w), "after {gone} s");
        assert_eq!(unmasked(&w), 0);
        let card = PaymentOrder::Capture(payment, PaymentField::PaymentCardNumber);
        // Whoever else comes in its place gets nothing, whatever it knows of the payment.
        for stranger in [by("crm2", Role::Integration), by("agent", Role::Agent), by("audit", Role::Auditor)] {
            for order in [card.clone(), PaymentOrder::Complete(payment), PaymentOrder::Cancel(payment)] {
                assert_eq!(pay(&mut w, call, order, stranger.clone()).err(), Some(SignalError::Forbidden));
            }
        }
        let view = pay(&mut w, call, PaymentOrder::Get(payment), crm()).expect("open");
        assert_eq!(view.state, PaymentState::Open, "after {gone} s");
        if gone == 1 {
            // It was not even missed: the field is still being keyed.
            assert_eq!(view.progress.fields.payment_card_number.as_deref(), Some("xxxx-xxxx"));
            w.press(Leg::Customer, &CARD[8..]);
        } else {
            // The field has timed out by itself, and what was keyed is wiped.
            let error = view.progress.error_type.map(|error| error.name());
            assert_eq!((error, view.progress.fields.payment_card_number), (Some("input-timeout"), None));
            pay(&mut w, call, card, crm()).expect("captured again");
            w.press(Leg::Customer, CARD);
        }
        for (field, keys) in [(PaymentField::ExpirationDate, "1230"), (PaymentField::SecurityCode, "123")] {
            pay(&mut w, call, PaymentOrder::Capture(payment, field), crm()).expect("captured");
            w.press(Leg::Customer, keys);
        }
        pay(&mut w, call, PaymentOrder::Complete(payment), crm()).expect("complete");
        assert!(guarded(&w));
        assert_eq!(w.charges.len(), 1);
        assert_eq!(w.charges[0].fields.card.as_ref().map(|card| card.expose().to_vec()), Some(CARD.into()));
    }
}

#[test]
fn a_supervisor_takes_a_lost_capture_over_by_a_key_of_its_own() {
    let (mut w, _up, call, payment) = half_keyed();
    w.advance(30 * SEC);
    pay(&mut w, call, PaymentOrder::Cancel(payment), by("boss", Role::Supervisor)).expect("cancelled");
    assert!(guarded(&w), "a moment longer");
    w.advance(2 * SEC);
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
}

#[test]
fn a_capture_that_nobody_comes_back_to_is_wiped_by_its_own_time_and_keys_pressed_then_stay_masked() {
    let (mut w, _up, call, payment) = half_keyed();
    w.advance(15 * 60 * SEC - SEC / 2);
    assert!(guarded(&w));
    w.press(Leg::Customer, "4");
    w.advance(SEC);
    let view = pay(&mut w, call, PaymentOrder::Get(payment), crm()).expect("remembered");
    assert_eq!((view.result, view.progress.fields.payment_card_number), (Some(PaymentResult::Expired), None));
    assert!(w.charges.is_empty());
    for _ in 0..4 {
        w.press(Leg::Customer, "4");
        w.advance(SEC);
        assert!(guarded(&w), "the customer keys still");
    }
    w.advance(SEC);
    assert!(!w.masked());
}

#[test]
fn a_hold_whose_taker_is_lost_stays_until_its_deadline_and_is_its_takers_alone() {
    for gone in [1, 30, 300] {
        let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
        w.call();
        let holds = take(&mut w, 120 * SEC);
        w.advance(gone * SEC);
        assert_eq!(guarded(&w), gone < 120, "after {gone} s");
        let call = w.view().id;
        for hold in holds {
            let stranger = Signal::ReleaseHold { call, hold, actor: by("crm2", Role::Integration) };
            let own = Signal::ReleaseHold { call, hold, actor: crm() };
            if gone < 120 {
                assert_eq!(w.signal(stranger), Err(SignalError::Forbidden));
                assert_eq!(w.signal(own), Ok(Reply::Done), "the same key goes on as if nothing was");
            } else {
                assert_eq!(w.signal(own), Err(SignalError::NoSuchHold), "it is told that the hold is gone");
            }
        }
        assert!(!w.masked());
    }
}

#[test]
fn a_deadline_that_nobody_renews_does_not_fall_between_two_keys() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    w.call();
    take(&mut w, 30 * SEC);
    w.advance(29 * SEC);
    for _ in 0..5 {
        w.press(Leg::Customer, "4");
        w.advance(SEC);
        assert!(guarded(&w));
    }
    w.advance(SEC);
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
    // Who keys without end does not hold it for ever.
    take(&mut w, 30 * SEC);
    w.advance(29 * SEC);
    for _ in 0..20 {
        w.press(Leg::Customer, "4");
        w.advance(SEC);
    }
    assert!(!w.masked());
}

#[test]
fn an_agent_who_hangs_up_and_a_node_that_is_stopped_leave_a_capture_masked_and_wiped() {
    for stopped in [false, true] {
        let (mut w, mut up, call, payment) = half_keyed();
        if stopped {
            w.engine.drain(w.now);
            w.engine.hang_up_all(w.now);
            w.drain();
        } else {
            w.hang_up(&mut up.callee, Who::Carrier);
        }
        assert!(w.ledger.ended.iter().all(|(_, s)| matches!(s.toward_agent, Guard::Masked(_))), "masked to the end");
        let view = pay(&mut w, call, PaymentOrder::Get(payment), crm()).expect("remembered");
        assert_eq!(view.result, Some(PaymentResult::CallerHungUp));
        assert_eq!(view.progress.fields.payment_card_number, None);
        assert!(w.charges.is_empty() && w.handovers.is_empty());
        assert_eq!(unmasked(&w), 0);
    }
}
