//! Alarms as they come and go.
#![allow(clippy::disallowed_methods)] // Tests may read the clock.

use rand::SeedableRng;

use super::*;
use crate::base::Random;
use crate::base::ids::PaymentId;
use crate::call::{RegistrationView, TargetView};
use crate::config::Side;
use crate::obs::event::PaymentOutcome;

fn trunk(state: TrunkState, targets: &[TargetState]) -> TrunkView {
    let target = |(at, state): (usize, &TargetState)| TargetView {
        address: format!("192.0.2.{at}:5060"),
        state: *state,
        weight: 1,
        probes_lost: 3,
        for_ms: None,
    };
    TrunkView {
        name: "pbx".into(),
        side: Side::Pbx,
        state,
        calls: 0,
        max_calls: 10,
        max_calls_per_s: None,
        probe_s: Some(1),
        targets: targets.iter().enumerate().map(target).collect(),
        registration: None,
    }
}

/// What it tells, as `+id` and `-id`.
fn told(alarms: &mut Alarms) -> Vec<String> {
    let tell = |kind| match kind {
        EventKind::AlarmRaised { alarm } => format!("+{}", alarm.alarm),
        EventKind::AlarmCleared { end } => format!("-{}", end.alarm),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| alarms.poll_event()).map(tell).collect()
}

fn event(at: u64, kind: EventKind) -> Event {
    Event { seq: 1, at_ms: WallMs(at), call: None, kind }
}

#[test]
fn a_trunk_that_goes_down_and_comes_back_is_raised_once_and_cleared_once() {
    let mut alarms = Alarms::default();
    let now = Instant::now();
    let mut step = |at, state, targets: &[TargetState]| {
        let sample = Sample { trunks: vec![trunk(state, targets)], ..Sample::default() };
        alarms.handle_sample(now, WallMs(at), &sample);
        told(&mut alarms)
    };
    assert!(step(1, TrunkState::Up, &[TargetState::Up, TargetState::Up]).is_empty());
    let one = step(2, TrunkState::Up, &[TargetState::Up, TargetState::Down]);
    assert_eq!(one, ["+target-down:pbx 192.0.2.1:5060"]);
    assert!(step(3, TrunkState::Up, &[TargetState::Up, TargetState::Down]).is_empty(), "told once");
    let both = step(4, TrunkState::Down, &[TargetState::Down, TargetState::Down]);
    assert_eq!(both, ["+trunk-down:pbx", "-target-down:pbx 192.0.2.1:5060"], "one alarm for the whole trunk");
    assert!(step(200_000, TrunkState::Down, &[TargetState::Down, TargetState::Down]).is_empty());
    assert_eq!(step(200_001, TrunkState::Up, &[TargetState::Up, TargetState::Up]), ["-trunk-down:pbx"]);
    let list = alarms.list();
    assert!(list.alarms.is_empty());
    assert_eq!((list.cleared.len(), list.cleared[0].end.lasted_ms), (2, 199_997));
}

#[test]
fn a_trunk_that_is_no_longer_configured_takes_its_alarms_with_it() {
    let mut alarms = Alarms::default();
    let mut lost = trunk(TrunkState::Down, &[]);
    lost.registration = Some(RegistrationView { registered: false, expires_ms: None, failures: 2 });
    alarms.handle_sample(Instant::now(), WallMs(1), &Sample { trunks: vec![lost], ..Sample::default() });
    assert_eq!(told(&mut alarms), ["+trunk-down:pbx", "+registration-lost:pbx"]);
    alarms.handle_sample(Instant::now(), WallMs(2), &Sample::default());
    assert_eq!(told(&mut alarms), ["-trunk-down:pbx", "-registration-lost:pbx"]);
}

#[test]
fn a_failed_recorder_is_over_with_the_next_recording_that_is_complete_and_not_with_an_older_one() {
    let mut alarms = Alarms::default();
    let mut random = Random::seed_from_u64(1);
    let [older, failed, newer] = [(); 3].map(|()| RecordingId::draw(&mut random));
    let mut tell = |recording, state| {
        alarms.handle_event(&event(1, EventKind::Recording { recording, state }));
        told(&mut alarms)
    };
    tell(older, RecordingState::Recording);
    assert_eq!(tell(failed, RecordingState::Failed), ["+recorder-failed:sealed"]);
    assert!(tell(older, RecordingState::Closed).is_empty(), "it was whole before the disk failed");
    assert!(tell(newer, RecordingState::Recording).is_empty());
    assert!(tell(failed, RecordingState::Failed).is_empty(), "one alarm, counted");
    assert!(tell(newer, RecordingState::Closed).is_empty(), "it began before the last failure");
    tell(newer, RecordingState::Recording);
    assert_eq!(tell(newer, RecordingState::Closed), ["-recorder-failed:sealed"]);
    assert_eq!(alarms.list().cleared[0].end.by, None);
}

#[test]
fn a_siprec_recorder_that_is_away_is_an_alarm_until_no_call_goes_without_it() {
    let mut alarms = Alarms::default();
    let mut random = Random::seed_from_u64(3);
    let calls = [CallId::draw(&mut random), CallId::draw(&mut random)];
    let mut step = |call: usize, state: RecorderState| {
        let (recorder, reason) = ("quality".to_owned(), Some("no answer to the INVITE".to_owned()));
        let kind = EventKind::Recorder { recorder, state, target: None, reason, spill: None };
        alarms.handle_event(&Event { call: Some(calls[call]), ..event(1, kind) });
        told(&mut alarms)
    };
    assert!(step(0, RecorderState::Recording).is_empty());
    assert_eq!(step(0, RecorderState::Away), ["+recorder-failed:quality"]);
    assert!(step(1, RecorderState::Away).is_empty(), "told once");
    assert!(step(0, RecorderState::Recording).is_empty(), "the other goes without it");
    assert_eq!(step(1, RecorderState::Closed), ["-recorder-failed:quality"]);
}

#[test]
fn a_payment_that_nobody_knows_of_stands_until_it_is_found_out() {
    let mut alarms = Alarms::default();
    let payment = PaymentId::draw(&mut Random::seed_from_u64(2));
    let outcome = PaymentOutcome::default;
    let ended = |result| EventKind::PaymentEnded { payment, result, outcome: outcome() };
    let found = |result| EventKind::PaymentReconciled { payment, result, outcome: outcome() };
    alarms.handle_event(&event(1, ended(PaymentResult::Success)));
    assert!(told(&mut alarms).is_empty());
    alarms.handle_event(&event(2, ended(PaymentResult::Unknown)));
    alarms.handle_event(&event(3, found(PaymentResult::Unknown)));
    assert_eq!(told(&mut alarms), [format!("+payment-unknown:{payment}")]);
    alarms.handle_event(&event(4, found(PaymentResult::Declined)));
    assert_eq!(told(&mut alarms), [format!("-payment-unknown:{payment}")]);
}

#[test]
fn a_recorder_that_loses_sound_is_behind_until_it_has_been_quiet_for_a_minute() {
    let mut alarms = Alarms::default();
    let start = Instant::now();
    let mut look = |s, waiting, lost| {
        let recorder = RecorderSample { waiting, most_waiting: 100, lost, ..Default::default() };
        let sample = Sample { recorder: Some(recorder), ..Sample::default() };
        alarms.handle_sample(start + Duration::from_secs(s), WallMs(s * 1_000), &sample);
        told(&mut alarms)
    };
    assert!(look(0, 20, 0).is_empty());
    assert_eq!(look(1, 60, 0), ["+recorder-behind:sealed"], "half of its room is taken");
    assert!(look(2, 100, 15).is_empty());
    assert!(look(30, 0, 15).is_empty(), "not yet quiet");
    assert_eq!(look(63, 0, 15), ["-recorder-behind:sealed"]);
    assert_eq!(look(64, 0, 16), ["+recorder-behind:sealed"]);
}

#[test]
fn a_disk_is_low_below_a_twentieth_and_well_again_with_something_to_spare() {
    let mut alarms = Alarms::default();
    let mut look = |free: u64| {
        let recorder =
            RecorderSample { most_waiting: 100, disk: Some((free << 20, 1_000 << 20)), ..Default::default() };
        let sample = Sample { recorder: Some(recorder), ..Sample::default() };
        alarms.handle_sample(Instant::now(), WallMs(1), &sample);
        told(&mut alarms)
    };
    assert!(look(60).is_empty());
    assert_eq!(look(49), ["+disk-low:sealed"]);
    assert!(look(55).is_empty());
    assert_eq!(look(60), ["-disk-low:sealed"]);
}

#[test]
fn dead_letters_certificates_and_floods_are_alarms() {
    let mut alarms = Alarms::default();
    let start = Instant::now();
    let day = 86_400;
    let mut look = |s: u64, dead: usize, shed, ends| {
        let sample = Sample {
            dead_letters: vec![("crm".into(), dead), ("bi".into(), 0)],
            shed,
            certificate_end_s: ends,
            ..Sample::default()
        };
        alarms.handle_sample(start + Duration::from_secs(s), WallMs(s * 1_000), &sample);
        told(&mut alarms)
    };
    assert!(look(0, 0, 0, 30 * day).is_empty());
    assert_eq!(look(1, 2, 7, 3 * day), ["+webhooks-dead:crm", "+overload:sip", "+certificate-ends:sip"]);
    assert_eq!(look(2, 0, 7, 60 * day), ["-webhooks-dead:crm", "-certificate-ends:sip"]);
    assert_eq!(look(70, 0, 7, 0), ["-overload:sip"]);
}

#[test]
fn only_what_the_node_cannot_see_is_settled_by_hand() {
    let mut alarms = Alarms::default();
    alarms.raise(WallMs(1), AlarmKind::TrunkDown, "pbx", "");
    alarms.raise(WallMs(1), AlarmKind::CanaryFailed, "daily", "no key came through");
    assert_eq!(alarms.settle(WallMs(2), "trunk-down:pbx", "key:boss"), Err(SettleError::EndsByItself));
    assert_eq!(alarms.settle(WallMs(2), "trunk-down:none", "key:boss"), Err(SettleError::NoSuchAlarm));
    assert_eq!(alarms.settle(WallMs(2), "canary-failed:daily", "key:boss"), Ok(()));
    assert_eq!(alarms.list().cleared[0].end.by.as_deref(), Some("key:boss"));
    assert_eq!(alarms.list().alarms.len(), 1);
}

#[test]
fn the_list_is_bounded_and_an_alarm_that_comes_again_is_told_once_a_minute() {
    let mut alarms = Alarms::default();
    for n in 0..MOST + 5 {
        alarms.raise(WallMs(n as u64), AlarmKind::RecordingQuarantined, &n.to_string(), "");
    }
    assert_eq!((alarms.list().alarms.len(), alarms.list().unlisted), (MOST, 5));
    assert_eq!(told(&mut alarms).len(), MOST);
    for at in (1_000..130_000).step_by(100) {
        alarms.raise(WallMs(at), AlarmKind::RecordingQuarantined, "0", "again");
    }
    assert_eq!(told(&mut alarms).len(), 2);
    for n in 0..MOST {
        alarms.clear(WallMs(1), AlarmKind::RecordingQuarantined, &n.to_string());
    }
    assert_eq!(alarms.list().cleared.len(), KEPT);
}

#[test]
fn critical_alarms_come_first_and_no_text_holds_what_could_be_a_card() {
    let mut alarms = Alarms::default();
    alarms.raise(WallMs(1), AlarmKind::TargetDown, "a", "");
    alarms.raise(WallMs(2), AlarmKind::TrunkDown, "b", "Contact: 4111111111111111\r\nX");
    alarms.raise(WallMs(3), AlarmKind::TrunkDown, "c", &"x".repeat(5_000));
    let list = alarms.list();
    let order: Vec<&str> = list.alarms.iter().map(|alarm| alarm.subject.as_str()).collect();
    assert_eq!(order, ["c", "b", "a"]);
    assert!(
        !list.alarms[1].detail.contains("4111") && !list.alarms[1].detail.contains('\n'),
        "{}",
        list.alarms[1].detail
    );
    assert_eq!(list.alarms[0].detail.len(), LONGEST);
}

#[test]
fn every_kind_says_what_to_do_and_has_its_name_on_the_wire() {
    for kind in AlarmKind::ALL {
        assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
        assert!(!kind.title().is_empty() && kind.advice().len() > 20);
    }
}
