//! `guard = auto`: what of the customer's keys reaches the PBX, when, and what is held meanwhile.

use std::time::Duration;

use tonewall::base::ids::Leg;
use tonewall::call::{Actor, CollectionRequest, Reply, Signal};
use tonewall::config::{GuardMode, MaskKind, RecordingPolicy, Role};
use tonewall::media::{Guard, Tap};
use tonewall::obs::event::{EventKind, HoldKind};
use tonewall::record::sealed::Mark;

use crate::harness::*;

const MS: Duration = Duration::from_millis(1);
const CARD: &str = "4242424242424242";

fn auto() -> World {
    World::with(|config| {
        config.trunks[0].guard = GuardMode::Auto;
        config.trunks[0].mask = MaskKind::Substitute;
        config.trunks[0].recording = RecordingPolicy::BestEffort;
    })
}

/// The customer keys `text`, a key each 300 ms; what is sent on meanwhile, with ms since the first key.
fn key(w: &mut World, text: &str) -> Vec<(u64, char)> {
    let mut sent = Vec::new();
    let mut at = 0;
    for key in text.chars() {
        w.press(Leg::Customer, &key.to_string());
        sent.extend(step(w, at, 300));
        at += 300;
    }
    sent
}

/// Lets `ms` pass; the keys sent to the agent's leg meanwhile, with ms counted on from `from`.
fn step(w: &mut World, from: u64, ms: u64) -> Vec<(u64, char)> {
    let mut sent = Vec::new();
    for at in (0..ms).step_by(10) {
        let new = std::mem::take(&mut w.ledger.sent_digits);
        assert!(new.iter().all(|(to, _)| *to == Leg::Agent));
        sent.extend(new.into_iter().map(|(_, key)| (from + at, key)));
        w.advance(10 * MS);
    }
    sent
}

fn holds(w: &mut World) -> Vec<(HoldKind, String)> {
    w.view().holds.into_iter().map(|hold| (hold.kind, hold.owner)).collect()
}

#[test]
fn a_menu_choice_reaches_the_pbx_after_the_quiet_time() {
    let mut w = auto();
    w.call();
    let sent = key(&mut w, "1");
    assert_eq!(sent, []);
    assert_eq!(step(&mut w, 300, 3_000), [(1_200, '1')]);
    let view = w.view();
    assert_eq!((view.guard, view.masked, view.holds.len()), (GuardMode::Auto, true, 0));
    assert!(w.events.iter().any(|event| matches!(event, EventKind::KeysReleased { count: 1 })));
    assert_eq!(w.session().toward_agent, Guard::Masked(MaskKind::Silence), "no sign that a PBX takes for a key");
}

#[test]
fn a_member_number_reaches_the_pbx_in_order_with_room_for_each_tone() {
    let mut w = auto();
    w.call();
    assert_eq!(key(&mut w, "71234567"), []);
    let sent = step(&mut w, 2_400, 8_000);
    assert_eq!(sent.iter().map(|(_, key)| *key).collect::<String>(), "71234567");
    assert_eq!(sent[0].0, 2_100 + 4_000);
    for pair in sent.windows(2) {
        assert!((200..=310).contains(&(pair[1].0 - pair[0].0)), "{sent:?}");
    }
}

#[test]
fn a_hash_sends_a_number_on_at_once_and_what_is_keyed_meanwhile_comes_after_it() {
    let mut w = auto();
    w.call();
    let mut sent = key(&mut w, "70007#0");
    sent.extend(step(&mut w, 2_100, 6_000));
    assert_eq!(sent.iter().map(|(_, key)| *key).collect::<String>(), "70007#0");
    assert_eq!(sent[0].0, 1_500);
}

#[test]
fn a_card_takes_the_holds_and_gives_them_back_and_no_key_of_the_payment_is_sent_on() {
    let mut w = auto();
    w.call();
    assert_eq!(w.session().tap, Tap::On);
    assert_eq!(key(&mut w, &CARD[..11]), []);
    assert!(holds(&mut w).is_empty());
    assert_eq!(key(&mut w, &CARD[11..]), []);
    let detector = |kind| (kind, "detector".to_owned());
    assert_eq!(holds(&mut w), [detector(HoldKind::Mask), detector(HoldKind::Pause)]);
    assert_eq!(w.session().toward_agent, Guard::Masked(MaskKind::Substitute));
    assert_eq!(w.session().tap, Tap::Paused);
    for more in ["1227", "123", "1#"] {
        w.advance(20 * SEC);
        assert_eq!(key(&mut w, more), []);
    }
    w.advance(59 * SEC);
    assert_eq!(holds(&mut w).len(), 2);
    w.advance(SEC);
    assert!(holds(&mut w).is_empty());
    assert_eq!((w.session().toward_agent, w.session().tap), (Guard::Masked(MaskKind::Silence), Tap::On));
    assert!(w.ledger.sent_digits.is_empty());
    key(&mut w, "1");
    assert_eq!(step(&mut w, 300, 2_000), [(1_200, '1')]);
}

#[test]
fn holds_of_a_long_payment_are_renewed_before_they_expire() {
    let mut w = auto();
    w.call();
    key(&mut w, CARD);
    for _ in 0..8 {
        w.advance(50 * SEC);
        key(&mut w, "1");
        assert_eq!(holds(&mut w).len(), 2);
    }
    assert!(w.events.iter().any(|event| matches!(event, EventKind::HoldRenewed { .. })));
    assert!(!w.events.iter().any(|event| matches!(event, EventKind::HoldExpired { .. })));
}

#[test]
fn who_overrides_the_detector_ends_the_payment() {
    let mut w = auto();
    w.call();
    key(&mut w, CARD);
    let view = w.view();
    let release = |actor| Signal::ReleaseHold { call: view.id, hold: view.holds[0].id, actor };
    w.signal(release(actor())).expect_err("not its hold");
    w.signal(release(Actor::new("boss", Role::Supervisor))).expect("released");
    assert!(holds(&mut w).is_empty());
    key(&mut w, "1");
    assert_eq!(step(&mut w, 300, 2_000), [(1_200, '1')]);
}

#[test]
fn what_is_withheld_when_somebody_masks_is_wiped() {
    for collect in [false, true] {
        let mut w = auto();
        w.call();
        key(&mut w, "7007");
        let call = w.view().id;
        let wish = if collect {
            Signal::StartCollection { call, request: CollectionRequest::of_length(16), actor: actor() }
        } else {
            Signal::TakeHolds { call, kinds: vec![HoldKind::Mask], reason: "card".into(), ttl: None, actor: actor() }
        };
        assert!(matches!(w.signal(wish), Ok(Reply::Holds(_) | Reply::Collection(_))));
        assert!(w.events.iter().any(|event| matches!(event, EventKind::KeysWiped { count: 4 })));
        assert_eq!(key(&mut w, "0712"), []);
        assert_eq!(step(&mut w, 0, 10_000), []);
    }
}

#[test]
fn a_collection_takes_the_keys_first_and_gets_all_of_them() {
    let mut w = auto();
    w.call();
    let call = w.view().id;
    let request = CollectionRequest::of_length(16);
    w.signal(Signal::StartCollection { call, request, actor: actor() }).expect("a collection");
    assert_eq!(key(&mut w, CARD), []);
    assert_eq!(w.handovers.len(), 1);
    assert_eq!(w.handovers[0].digits.expose(), CARD.as_bytes());
    // The security code keyed unasked after the number belongs to the payment: it is never sent on.
    assert_eq!(step(&mut w, 0, 30_000), []);
    key(&mut w, "123");
    assert_eq!(step(&mut w, 0, 70_000), []);
    key(&mut w, "1");
    assert_eq!(step(&mut w, 300, 2_000), [(1_200, '1')]);
}

#[test]
fn what_follows_a_hold_of_somebody_elses_is_never_the_rest_of_a_card() {
    let mut w = auto();
    w.call();
    let call = w.view().id;
    assert_eq!(key(&mut w, &CARD[..4]), []);
    let request =
        Signal::TakeHolds { call, kinds: vec![HoldKind::Mask], reason: "crm".into(), ttl: None, actor: actor() };
    let Ok(Reply::Holds(taken)) = w.signal(request) else { panic!("a hold") };
    assert_eq!(key(&mut w, &CARD[4..9]), []);
    w.signal(Signal::ReleaseHold { call, hold: taken[0].id, actor: actor() }).expect("released");
    assert_eq!(key(&mut w, &CARD[9..]), []);
    assert_eq!(step(&mut w, 0, 50_000), []);
}

#[test]
fn a_re_invite_between_the_keys_and_their_release_changes_nothing() {
    let mut w = auto();
    let mut up = w.call();
    key(&mut w, "7712");
    let offer = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, "8 101", "sendrecv"));
    w.send(Who::Pbx, &offer);
    let asked = w.expect(Who::Carrier, "INVITE");
    let mut sent = step(&mut w, 1_200, 400);
    let ok =
        reply(Who::Carrier, &asked, 200, "").with_body("application/sdp", sdp(Who::Carrier, 2, "8 101", "sendrecv"));
    w.send(Who::Carrier, &ok);
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    sent.extend(step(&mut w, 1_600, 5_000));
    assert_eq!(sent.iter().map(|(_, key)| *key).collect::<String>(), "7712");
    assert_eq!(sent[0].0, 900 + 4_000);
}

#[test]
fn info_digits_are_withheld_too() {
    let mut w = auto();
    let mut up = w.call();
    let body = "Signal=7\r\nDuration=160\r\n";
    let info = up.caller.request(&mut w, "INFO").with_body("application/dtmf-relay", body);
    w.send(Who::Carrier, &info);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    assert_eq!(w.ledger.info_digits, [(Leg::Customer, '7')]);
}

/// A call whose PBX takes no telephone events.
fn call_without_events(w: &mut World) {
    let mut caller = Line::new(w, Who::Carrier, "1001");
    let invite = caller.offer(w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    let ok = reply(Who::Pbx, &theirs, 200, "pbx").with_body("application/sdp", sdp(Who::Pbx, 1, "0", "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    let answer = w.expect(Who::Carrier, "200");
    caller.follow(&answer);
    let ack = caller.ack(w);
    w.send(Who::Carrier, &ack);
}

#[test]
fn a_pbx_without_events_gets_info_where_its_trunk_takes_it_and_tones_where_not() {
    for info in [true, false] {
        let mut w = World::with(|config| {
            config.trunks[0].guard = GuardMode::Auto;
            config.trunks[1].dtmf.info = info;
        });
        call_without_events(&mut w);
        let mut tones: String = key(&mut w, "07#").into_iter().map(|(_, key)| key).collect();
        let mut infos = String::new();
        for _ in 0..10 {
            tones.extend(std::mem::take(&mut w.ledger.sent_digits).into_iter().map(|(_, key)| key));
            while let Some(message) = w.next_for(Who::Pbx) {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                let signal = body.strip_prefix("Signal=").and_then(|rest| rest.strip_suffix("\r\nDuration=100\r\n"));
                infos += signal.expect("a key");
                w.send(Who::Pbx, &reply(Who::Pbx, &message, 200, ""));
            }
            w.advance(100 * MS);
        }
        assert_eq!((tones.as_str(), infos.as_str()), if info { ("", "07#") } else { ("07#", "") });
    }
}

#[test]
fn hanging_up_wipes_what_is_withheld() {
    for text in ["4242", "71", CARD] {
        let mut w = auto();
        let mut up = w.call();
        key(&mut w, text);
        w.hang_up(&mut up.caller, Who::Pbx);
        assert_eq!(step(&mut w, 0, 5_000), []);
        w.expect_clean();
    }
}

/// How long before now each ordered redaction begins, in ms, and whether a key of it could be heard.
fn redactions(w: &mut World) -> Vec<(u128, bool)> {
    let now = w.now;
    w.ledger.redactions.drain(..).map(|order| ((now - order.from).as_millis(), order.heard.is_some())).collect()
}

#[test]
fn a_card_known_late_is_ordered_out_of_the_recording_from_its_first_key() {
    let mut w = auto();
    w.call();
    assert_eq!(w.ledger.marks, [Mark::CustomerKeysMasked, Mark::AgentKeysMasked]);
    key(&mut w, &CARD[..11]);
    assert_eq!(redactions(&mut w), []);
    key(&mut w, &CARD[11..]);
    assert_eq!(redactions(&mut w), [(16 * 300, false)], "nothing was sent on, so nothing could be heard");
}

#[test]
fn first_keys_that_were_sent_on_as_tones_are_marked_and_ordered_out_with_the_rest() {
    let mut w = World::with(|config| {
        config.trunks[0].guard = GuardMode::Auto;
        config.trunks[0].recording = RecordingPolicy::BestEffort;
        config.trunks[1].dtmf.info = false;
    });
    call_without_events(&mut w);
    w.ledger.marks.clear();
    key(&mut w, &CARD[..4]);
    assert_eq!(step(&mut w, 0, 9_000).len(), 4);
    assert_eq!(w.ledger.marks, [Mark::CustomerKeySentOn; 4]);
    key(&mut w, &CARD[4..]);
    assert_eq!(redactions(&mut w), [(16 * 300 + 9_000, true)]);
}

#[test]
fn with_signal_what_led_up_to_a_hold_is_ordered_out_and_a_card_without_one_too() {
    let signal = || {
        World::with(|config| {
            config.trunks[0].guard = GuardMode::Signal;
            config.trunks[0].recording = RecordingPolicy::BestEffort;
        })
    };
    let pass = |w: &mut World, text: &str| {
        for key in text.chars() {
            w.press(Leg::Customer, &key.to_string());
            step(w, 0, 300);
        }
    };
    let mut w = signal();
    w.call();
    assert_eq!(w.ledger.marks, [Mark::CustomerKeysPass, Mark::AgentKeysPass]);
    pass(&mut w, "1");
    step(&mut w, 0, 20_000);
    pass(&mut w, "424");
    let call = w.view().id;
    let hold = Signal::TakeHolds { call, kinds: vec![HoldKind::Mask], reason: "crm".into(), ttl: None, actor: actor() };
    w.signal(hold).expect("a hold");
    assert_eq!(redactions(&mut w), [(900, false)]);
    assert_eq!(w.ledger.marks[2..], [Mark::CustomerKeysMasked, Mark::AgentKeysMasked]);

    let mut w = signal();
    w.call();
    pass(&mut w, CARD);
    let orders = redactions(&mut w);
    assert_eq!((orders.len(), orders[0]), (5, (4_800, true)), "from the twelfth key on, each from the first");

    let mut w = signal();
    let mut up = w.call();
    pass(&mut w, &CARD[..8]);
    w.hang_up(&mut up.caller, Who::Pbx);
    assert_eq!(redactions(&mut w), [(2_400, true)]);
}
