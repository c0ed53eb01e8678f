//! Digits, holds, collections, star codes: what is masked when, and what nobody gets to see.

use tonewall::base::ids::{CollectionId, Leg};
use tonewall::base::secret::Digit;
use tonewall::call::{Actor, CollectionRequest, CollectionView, Reply, Signal, SignalError};
use tonewall::config::{GuardMode, MaskKind, RecordingPolicy, Role, StarCodes};
use tonewall::media::{Guard, Tap};
use tonewall::obs::event::{CollectionEnd, EndCause, EventKind, HoldKind, StarAction};

use crate::harness::*;

fn info(w: &mut World, line: &mut Line, key: char) -> tonewall::testkit::simple_sip::Message {
    let body = format!("Signal={key}\r\nDuration=160\r\n");
    line.request(w, "INFO").with_body("application/dtmf-relay", body)
}

fn take(w: &mut World, kinds: &[HoldKind]) -> Vec<tonewall::call::HoldView> {
    let call = w.view().id;
    let ttl = Some(30 * SEC);
    match w.signal(Signal::TakeHolds { call, kinds: kinds.to_vec(), reason: "card".into(), ttl, actor: actor() }) {
        Ok(Reply::Holds(holds)) => holds,
        other => panic!("{other:?}"),
    }
}

fn collect(w: &mut World, length: u32) -> CollectionView {
    let call = w.view().id;
    let request = CollectionRequest::of_length(length);
    match w.signal(Signal::StartCollection { call, request, actor: actor() }) {
        Ok(Reply::Collection(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn collection(w: &mut World, id: CollectionId) -> Option<CollectionEnd> {
    let call = w.view().id;
    match w.signal(Signal::GetCollection { call, collection: id }) {
        Ok(Reply::Collection(view)) => view.result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn info_digits_pass_unmasked_and_never_masked() {
    let mut w = World::new();
    let mut up = w.call();
    let key = info(&mut w, &mut up.caller, '7');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    let passed = w.expect(Who::Pbx, "INFO");
    assert_eq!(passed.body, b"Signal=7\r\nDuration=160\r\n");
    w.send(Who::Pbx, &reply(Who::Pbx, &passed, 200, ""));
    let hold = take(&mut w, &[HoldKind::Mask])[0].id;
    let key = info(&mut w, &mut up.caller, '8');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    // A key pressed under the mask whose INFO comes after the release is not passed either.
    let call = w.view().id;
    w.signal(Signal::ReleaseHold { call, hold, actor: actor() }).expect("released");
    w.advance(3 * SEC);
    let key = info(&mut w, &mut up.caller, '9');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    w.advance(2 * SEC);
    let key = info(&mut w, &mut up.caller, '1');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    w.expect(Who::Pbx, "INFO");
    let all = ['7', '8', '9', '1'].map(|key| (Leg::Customer, key));
    assert_eq!(w.ledger.info_digits, all, "every key takes part in the merge");
}

#[test]
fn a_leg_without_info_gets_the_key_as_event_or_tone() {
    let mut w = World::with(|config| config.trunks[1].dtmf.info = false);
    let mut up = w.call();
    let key = info(&mut w, &mut up.caller, '7');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    assert_eq!(w.ledger.sent_digits, [(Leg::Agent, '7')]);
}

#[test]
fn info_that_is_no_digit_carries_nothing_across() {
    let mut w = World::new();
    let mut up = w.call();
    for (kind, body, status) in [
        ("application/dtmf", "5", "200"),
        ("application/dtmf-relay", "Signal=flash\r\n", "200"),
        ("application/dtmf-relay", "Duration=5\r\n", "400"),
        ("application/vnd.nortelnetworks.digits", "d=4242", "415"),
        ("text/plain", "4242424242424242", "415"),
    ] {
        let request = up.caller.request(&mut w, "INFO").with_body(kind, body);
        w.send(Who::Carrier, &request);
        w.expect(Who::Carrier, status);
    }
    w.expect(Who::Pbx, "INFO");
    w.expect_silence(Who::Pbx);
    let empty = up.caller.request(&mut w, "INFO");
    w.send(Who::Carrier, &empty);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
}

#[test]
fn an_info_that_gets_481_ends_the_call() {
    let mut w = World::new();
    let mut up = w.call();
    let key = info(&mut w, &mut up.caller, '7');
    w.send(Who::Carrier, &key);
    let passed = w.expect(Who::Pbx, "INFO");
    w.send(Who::Pbx, &reply(Who::Pbx, &passed, 481, ""));
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
    w.expect(Who::Carrier, "200");
    w.expect(Who::Carrier, "BYE");
    w.expect_clean();
}

#[test]
fn guard_is_always_on_from_the_first_packet_when_policy_says_so() {
    let mut w = World::with(|config| config.trunks[0].guard = GuardMode::Always);
    let mut up = w.call();
    assert!(w.masked());
    let hold = take(&mut w, &[HoldKind::Mask])[0].id;
    let call = w.view().id;
    w.signal(Signal::ReleaseHold { call, hold, actor: actor() }).expect("released");
    assert!(w.masked());
    let key = info(&mut w, &mut up.caller, '8');
    w.send(Who::Carrier, &key);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    assert!(matches!(w.events[2], EventKind::Mask { on: true }), "{:?}", w.events);
}

#[test]
fn holds_mask_and_pause_until_released_or_expired() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::Required);
    w.call();
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
    let holds = take(&mut w, &[HoldKind::Mask, HoldKind::Pause]);
    assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
    let call = w.view().id;
    let stranger = Actor::new("other", Role::Agent);
    let by = |actor, hold| Signal::ReleaseHold { call, hold, actor };
    assert_eq!(w.signal(by(stranger, holds[0].id)), Err(SignalError::Forbidden));
    let auditor = Actor::new("crm", Role::Auditor);
    assert_eq!(w.signal(by(auditor, holds[0].id)), Err(SignalError::Forbidden));
    let boss = Actor::new("boss", Role::Supervisor);
    w.signal(by(boss, holds[0].id)).expect("a supervisor may");
    assert_eq!((w.masked(), w.session().tap), (false, Tap::Paused));
    w.advance(20 * SEC);
    let ttl = Some(30 * SEC);
    w.signal(Signal::RenewHold { call, hold: holds[1].id, ttl, actor: actor() }).expect("renewed");
    w.advance(29 * SEC);
    assert_eq!(w.session().tap, Tap::Paused);
    w.advance(2 * SEC);
    assert_eq!(w.session().tap, Tap::On);
    assert!(w.events.iter().any(|e| matches!(e, EventKind::HoldExpired { kind: HoldKind::Pause, .. })));
    assert_eq!(w.signal(by(actor(), holds[1].id)), Err(SignalError::NoSuchHold));
}

#[test]
fn bad_wishes_are_refused_and_change_nothing() {
    let mut w = World::new();
    w.call();
    let call = w.view().id;
    let wish =
        |kinds: Vec<HoldKind>| Signal::TakeHolds { call, kinds, reason: String::new(), ttl: None, actor: actor() };
    assert_eq!(w.signal(wish(vec![])), Err(SignalError::BadKinds));
    assert_eq!(w.signal(wish(vec![HoldKind::Mask, HoldKind::Mask])), Err(SignalError::BadKinds));
    let request = CollectionRequest::of_length(0);
    let bad = w.signal(Signal::StartCollection { call, request, actor: actor() });
    assert!(matches!(bad, Err(SignalError::BadCollection(_))));
    assert!(!w.masked());
    let nobody = "call_00000000000000000000000000000000".parse().expect("an id");
    assert_eq!(w.signal(Signal::Get { call: nobody }), Err(SignalError::NoSuchCall));
}

#[test]
fn holds_of_both_kinds_are_taken_together_or_not_at_all() {
    let mut w = World::new();
    w.call();
    for _ in 0..31 {
        take(&mut w, &[HoldKind::Mask]);
    }
    let call = w.view().id;
    let kinds = vec![HoldKind::Pause, HoldKind::Mask];
    let both = Signal::TakeHolds { call, kinds, reason: String::new(), ttl: None, actor: actor() };
    assert_eq!(w.signal(both), Err(SignalError::TooManyHolds));
    let view = w.view();
    assert_eq!((view.holds.len(), view.paused), (31, false));
    // A collection still gets its own.
    collect(&mut w, 4);
    assert!(w.view().paused);
}

#[test]
fn a_collection_masks_pauses_hands_over_once_and_gives_back() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    w.call();
    let id = collect(&mut w, 16).id;
    assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
    assert_eq!(w.view().holds.len(), 2);
    let call = w.view().id;
    let hold = w.view().holds[0].id;
    let boss = Actor::new("boss", Role::Admin);
    assert_eq!(w.signal(Signal::ReleaseHold { call, hold, actor: boss }), Err(SignalError::HoldPinned));
    let second = Signal::StartCollection { call, request: CollectionRequest::of_length(3), actor: actor() };
    assert_eq!(w.signal(second), Err(SignalError::CollectionOpen));
    w.press(Leg::Customer, "424242424242");
    assert!(w.handovers.is_empty());
    w.press(Leg::Customer, "4242");
    assert_eq!(w.handovers.len(), 1);
    assert_eq!(w.handovers[0].digits.expose(), b"4242424242424242");
    assert_eq!(collection(&mut w, id), Some(CollectionEnd::Complete));
    // What is keyed too much is still masked; the mask goes a moment after the last key.
    w.press(Leg::Customer, "#");
    assert!(w.masked());
    w.advance(SEC);
    w.press(Leg::Customer, "9");
    w.advance(SEC);
    assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
    w.advance(SEC);
    assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
    assert_eq!(w.handovers.len(), 1);
    let ended = |e: &EventKind| matches!(e, EventKind::CollectionEnded { count: 16, luhn: true, .. });
    assert!(w.events.iter().any(ended));
    let progress = w.events.iter().filter(|e| matches!(e, EventKind::CollectionProgress { .. })).count();
    assert_eq!(progress, 16);
    assert_eq!(w.view().keys_masked, 18);
}

#[test]
fn a_collection_times_out_is_cancelled_and_survives_its_mask_holds_expiry() {
    let mut w = World::new();
    w.call();
    let id = collect(&mut w, 4).id;
    w.press(Leg::Customer, "12");
    w.advance(9 * SEC);
    assert!(w.masked());
    w.advance(2 * SEC);
    assert_eq!(collection(&mut w, id), Some(CollectionEnd::InputTimeout));
    let id = collect(&mut w, 4).id;
    w.press(Leg::Customer, "12");
    let call = w.view().id;
    w.signal(Signal::CancelCollection { call, collection: id, actor: actor() }).expect("cancelled");
    assert_eq!(collection(&mut w, id), Some(CollectionEnd::Cancelled));
    assert!(w.handovers.is_empty());
    w.advance(3 * SEC);
    assert!(!w.masked());
}

#[test]
fn a_new_collection_right_after_another_keeps_the_mask() {
    let mut w = World::new();
    w.call();
    collect(&mut w, 4);
    w.press(Leg::Customer, "1234");
    collect(&mut w, 3);
    w.advance(3 * SEC);
    assert!(w.masked());
    w.press(Leg::Customer, "567");
    assert_eq!(w.handovers.len(), 2);
    assert_eq!(w.handovers[1].digits.expose(), b"567");
}

#[test]
fn hanging_up_during_a_collection_wipes_and_reports() {
    let mut w = World::new();
    let mut up = w.call();
    collect(&mut w, 16);
    w.press(Leg::Customer, "4242");
    w.hang_up(&mut up.caller, Who::Pbx);
    assert!(w.handovers.is_empty());
    let hung_up =
        |e: &EventKind| matches!(e, EventKind::CollectionEnded { result: CollectionEnd::CallerHungUp, count: 4, .. });
    assert!(w.events.iter().any(hung_up));
    assert!(w.ledger.ended.iter().all(|(_, s)| matches!(s.toward_agent, Guard::Masked(_))), "masked to the end");
    w.expect_clean();
}

#[test]
fn nothing_a_peer_does_in_sip_lifts_the_mask() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    let mut up = w.call();
    collect(&mut w, 16);
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
            assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
            let theirs = w.expect(other, "INVITE");
            let ok =
                reply(other, &theirs, 200, "").with_body("application/sdp", sdp(other, version, formats, "sendrecv"));
            w.send(other, &ok);
            w.expect(other, "ACK");
            w.expect(line.who, "200");
            let ack = line.ack(&mut w);
            w.send(line.who, &ack);
            assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
            w.press(Leg::Customer, "4");
        }
    }
    let refer = up.callee.request(&mut w, "REFER").with("Refer-To", "<sip:elsewhere@10.1.0.20>");
    w.send(Who::Pbx, &refer);
    w.expect(Who::Pbx, "403");
    assert!(w.masked());
    let guards = w.events.iter().filter(|e| matches!(e, EventKind::Mask { .. })).count();
    assert_eq!(guards, 1, "the mask went on once and never off");
}

fn keys(text: &str) -> Vec<Digit> {
    text.chars().map(|c| Digit::from_char(c).expect("a key")).collect()
}

fn with_stars(in_band: bool) -> World {
    World::with(|config| {
        config.trunks[1].star_codes = Some(StarCodes { begin: keys("*71"), end: keys("*72"), in_band });
        config.trunks[0].recording = RecordingPolicy::BestEffort;
    })
}

#[test]
fn star_codes_take_and_release_the_agents_holds_and_never_reach_the_customer() {
    for in_band in [false, true] {
        let mut w = with_stars(in_band);
        w.call();
        assert_ne!(w.session().toward_customer, Guard::Open);
        assert_eq!(matches!(w.session().toward_customer, Guard::Masked(_)), in_band);
        w.press(Leg::Agent, "*71");
        assert_eq!((w.masked(), w.session().tap), (true, Tap::Paused));
        assert_eq!(w.view().holds[0].owner, "agent");
        assert!(matches!(w.session().toward_customer, Guard::Masked(_)), "an echo may come back now");
        w.press(Leg::Agent, "*71");
        w.advance(SEC);
        assert_eq!(w.view().holds.len(), 2, "a repeated code renews");
        w.press(Leg::Agent, "*72");
        assert!(w.masked(), "it might be an echo");
        w.advance(SEC);
        assert_eq!((w.masked(), w.session().tap), (false, Tap::On));
        assert!(w.ledger.sent_digits.is_empty());
        let actions: Vec<_> = w
            .events
            .iter()
            .filter_map(|e| if let EventKind::StarCode { action } = e { Some(*action) } else { None })
            .collect();
        assert_eq!(actions, [StarAction::Begin, StarAction::Begin, StarAction::End]);
    }
}

#[test]
fn while_masked_and_two_seconds_after_the_way_back_is_guarded_too() {
    let mut w = World::new();
    w.call();
    assert_eq!(w.session().toward_customer, Guard::Open);
    let hold = take(&mut w, &[HoldKind::Mask])[0].id;
    let back = Guard::Masked(MaskKind::ComfortNoise);
    assert_eq!(w.session().toward_customer, back);
    let call = w.view().id;
    w.signal(Signal::ReleaseHold { call, hold, actor: actor() }).expect("released");
    assert!(!w.masked());
    w.advance(2 * SEC - SEC / 10);
    assert_eq!(w.session().toward_customer, back, "an echo may be on its way still");
    w.advance(SEC / 5);
    assert_eq!(w.session().toward_customer, Guard::Open);
    for mode in [GuardMode::Always, GuardMode::Auto] {
        let mut w = World::with(|config| config.trunks[0].guard = mode);
        w.call();
        assert_eq!(w.session().toward_customer, back);
    }
}

#[test]
fn a_customers_key_that_comes_back_from_the_agents_side_goes_nowhere_and_steers_nothing() {
    let mut w = with_stars(false);
    let mut up = w.call();
    w.press(Leg::Agent, "*71");
    // The customer keys the end code: by echo it comes from the agent's side, as tones or events or by INFO.
    for (n, key) in "*72".chars().enumerate() {
        w.press(Leg::Customer, &key.to_string());
        w.advance(SEC / 5);
        if n != 1 {
            w.press(Leg::Agent, &key.to_string());
        } else {
            let echo = info(&mut w, &mut up.callee, key);
            w.send(Who::Pbx, &echo);
            w.expect(Who::Pbx, "200");
            w.expect_silence(Who::Carrier);
            w.press(Leg::Agent, &key.to_string());
        }
    }
    w.advance(5 * SEC);
    assert!(w.masked(), "the mask is the agent's to end");
    assert!(w.ledger.sent_digits.is_empty());
    // What the agent keys himself goes on, and the end code ends.
    w.press(Leg::Agent, "5*72");
    w.advance(2 * SEC);
    assert_eq!(w.ledger.sent_digits, [(Leg::Customer, '5')]);
    assert!(!w.masked());
}

#[test]
fn the_agents_own_keys_go_on_to_the_customer_in_the_form_that_leg_takes() {
    for info_only in [false, true] {
        let mut w = World::with(|config| {
            config.trunks[0].guard = GuardMode::Always;
            (config.trunks[0].dtmf.info, config.trunks[0].dtmf.events) = (info_only, !info_only);
        });
        w.call();
        w.press(Leg::Customer, "9");
        for key in ['1', '9', '5'] {
            w.press(Leg::Agent, &key.to_string());
            w.advance(SEC);
            if info_only && key != '9' {
                let passed = w.expect(Who::Carrier, "INFO");
                assert!(passed.body.starts_with(format!("Signal={key}\r\n").as_bytes()));
                w.send(Who::Carrier, &reply(Who::Carrier, &passed, 200, ""));
            }
        }
        let by_media: &[_] = if info_only { &[] } else { &[(Leg::Customer, '1'), (Leg::Customer, '5')] };
        assert_eq!(w.ledger.sent_digits, by_media);
        w.expect_silence(Who::Carrier);
    }
}

#[test]
fn keys_of_the_agent_that_are_no_code_reach_the_customer_in_order() {
    let mut w = with_stars(false);
    let mut up = w.call();
    w.press(Leg::Agent, "12*73");
    let sent = |w: &World| w.ledger.sent_digits.iter().map(|(_, key)| *key).collect::<String>();
    assert_eq!(sent(&w), "12*73");
    w.press(Leg::Agent, "*7");
    w.advance(4 * SEC);
    assert_eq!(sent(&w), "12*73*7");
    // The agent's INFO is withheld like its events, and comes back through the merge.
    let key = info(&mut w, &mut up.callee, '*');
    w.send(Who::Pbx, &key);
    w.expect(Who::Pbx, "200");
    w.expect_silence(Who::Carrier);
    assert_eq!(w.ledger.info_digits, [(Leg::Agent, '*')]);
}

#[test]
fn the_pbx_steers_its_recording_by_header_and_the_carrier_cannot() {
    let mut w = World::with(|config| config.trunks[0].recording = RecordingPolicy::BestEffort);
    let mut up = w.call();
    let steer = |w: &mut World, line: &mut Line, action: &str| {
        let request = line.request(w, "INFO").with("X-AC-Action", action);
        let who = line.who;
        w.send(who, &request);
        w.expect(who, "200");
    };
    steer(&mut w, &mut up.callee, "pause-siprec");
    assert_eq!((w.masked(), w.session().tap), (false, Tap::Paused));
    assert_eq!(w.view().holds[0].owner, "pbx");
    steer(&mut w, &mut up.caller, "resume-siprec");
    assert_eq!(w.session().tap, Tap::Paused);
    steer(&mut w, &mut up.callee, "resume-siprec");
    assert_eq!(w.session().tap, Tap::On);
    steer(&mut w, &mut up.callee, "mask");
    assert!(w.masked());
    steer(&mut w, &mut up.callee, "unmask");
    assert!(!w.masked());
    w.expect_silence(Who::Carrier);
    let update = up.callee.request(&mut w, "UPDATE").with("X-AC-Action", "pause");
    w.send(Who::Pbx, &update);
    w.expect(Who::Pbx, "200");
    assert_eq!(w.session().tap, Tap::Paused);
    steer(&mut w, &mut up.callee, "resume");
    let request = up
        .callee
        .offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendrecv"))
        .with("X-AC-Action", "pause-siprec;mode=audio");
    w.send(Who::Pbx, &request);
    assert_eq!(w.session().tap, Tap::Paused);
    assert!(w.expect(Who::Carrier, "INVITE").get("x-ac-action").is_none());
}

#[test]
fn no_event_or_view_holds_a_digit() {
    let mut w = World::new();
    let mut up = w.call();
    collect(&mut w, 16);
    w.press(Leg::Customer, "4111111111111111");
    let key = info(&mut w, &mut up.caller, '4');
    w.send(Who::Carrier, &key);
    let view = w.view();
    let told = format!("{:?} {view:?} {:?}", w.events, w.handovers);
    assert!(!told.contains("4111") && !told.contains("1111"), "{told}");
}
