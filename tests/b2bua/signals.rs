//! What takes and releases holds without the API: the PBX by a header of its requests, the agent by star codes. Only from
//! the PBX side, each owner its own holds only, and whatever else becomes of the request that carries a signal.

use tonewall::base::ids::Leg;
use tonewall::base::secret::Digit;
use tonewall::call::{Reply, Signal, SignalError};
use tonewall::config::{RecordingPolicy, StarCodes};
use tonewall::media::Tap;
use tonewall::obs::event::{EventKind, HoldKind, StarAction};

use crate::harness::*;

const HEADER: &str = "X-Card-Capture";

fn keys(text: &str) -> Vec<Digit> {
    text.chars().map(|c| Digit::from_char(c).expect("a key")).collect()
}

/// A recorded call; the PBX steers by a header of its own, and by star codes.
fn world() -> World {
    World::with(|config| {
        config.trunks[0].recording = RecordingPolicy::BestEffort;
        config.trunks[1].signal_header = Some(HEADER.into());
        config.trunks[1].star_codes = Some(StarCodes { begin: keys("*81"), end: keys("*82"), in_band: false });
    })
}

fn say(w: &mut World, line: &mut Line, method: &str, value: &str) {
    let request = line.request(w, method).with(HEADER, value);
    w.send(line.who, &request);
}

fn state(w: &World) -> (bool, bool) {
    (w.masked(), w.session().tap == Tap::Paused)
}

fn owners(w: &mut World) -> Vec<String> {
    let mut owners: Vec<String> = w.view().holds.iter().map(|hold| hold.owner.clone()).collect();
    owners.dedup();
    owners
}

#[test]
fn the_configured_header_steers_and_no_other_does() {
    let mut w = world();
    let mut up = w.call();
    for method in ["INFO", "UPDATE"] {
        say(&mut w, &mut up.callee, method, "MASK;order=17");
        w.expect(Who::Pbx, "200");
        assert_eq!(state(&w), (true, true), "{method}");
        assert_eq!(w.view().holds.iter().map(|h| h.reason.clone()).collect::<Vec<_>>(), [HEADER, HEADER]);
        let before = w.view().holds.iter().map(|hold| hold.ttl_ms).min();
        w.advance(20 * SEC);
        say(&mut w, &mut up.callee, method, "mask");
        w.expect(Who::Pbx, "200");
        assert_eq!((w.view().holds.len(), w.view().holds.iter().map(|hold| hold.ttl_ms).min()), (2, before), "renewed");
        say(&mut w, &mut up.callee, method, "unmask");
        w.expect(Who::Pbx, "200");
        assert_eq!(state(&w), (false, false), "{method}");
    }
    for nothing in ["", "masking tape?".trim_start_matches("masking"), "stop", "pausa"] {
        say(&mut w, &mut up.callee, "INFO", nothing);
        w.expect(Who::Pbx, "200");
        assert_eq!(state(&w), (false, false), "{nothing:?}");
    }
    let other = up.callee.request(&mut w, "INFO").with("X-AC-Action", "mask");
    w.send(Who::Pbx, &other);
    w.expect(Who::Pbx, "200");
    assert_eq!(state(&w), (false, false));
    // A message between people is no signal.
    let chat = up.callee.request(&mut w, "MESSAGE").with(HEADER, "mask");
    w.send(Who::Pbx, &chat);
    assert_eq!(state(&w), (false, false));
}

#[test]
fn a_trunk_without_a_signal_header_is_steered_by_none() {
    let mut w = World::with(|config| config.trunks[1].signal_header = None);
    let mut up = w.call();
    let info = up.callee.request(&mut w, "INFO").with("X-AC-Action", "mask");
    w.send(Who::Pbx, &info);
    w.expect(Who::Pbx, "200");
    assert!(!w.masked());
}

#[test]
fn the_carrier_side_steers_nothing_by_header_or_star_code() {
    let mut w = world();
    let mut up = w.call();
    for method in ["INFO", "UPDATE"] {
        say(&mut w, &mut up.caller, method, "mask");
        w.expect(Who::Carrier, "200");
    }
    let invite = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendrecv")).with(HEADER, "mask");
    w.send(Who::Carrier, &invite);
    assert!(w.expect(Who::Pbx, "INVITE").get(HEADER).is_none(), "it does not cross either");
    w.press(Leg::Customer, "*81");
    assert_eq!((state(&w), owners(&mut w)), ((false, false), vec![]));
    // Nor does it end what the PBX has begun.
    say(&mut w, &mut up.callee, "INFO", "mask");
    w.expect(Who::Pbx, "200");
    for method in ["INFO", "UPDATE"] {
        say(&mut w, &mut up.caller, method, "unmask");
    }
    w.press(Leg::Customer, "*82");
    w.advance(5 * SEC);
    assert_eq!(state(&w), (true, true));
}

#[test]
fn a_signal_is_obeyed_although_its_request_meets_another_or_is_refused() {
    let mut w = world();
    let mut up = w.call();
    // Glare: both ends change the session at once.
    let ours = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &ours);
    let asked = w.expect(Who::Pbx, "INVITE");
    let theirs = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendrecv")).with(HEADER, "mask");
    w.send(Who::Pbx, &theirs);
    let refused = w.expect(Who::Pbx, "491");
    assert_eq!(state(&w), (true, true), "what asks for more masking does not wait for its turn");
    let ack = with_branch(up.callee.ack(&mut w), &theirs);
    w.send(Who::Pbx, &ack);
    drop(refused);
    w.send(
        Who::Pbx,
        &reply(Who::Pbx, &asked, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, BOTH, "recvonly")),
    );
    w.expect(Who::Pbx, "ACK");
    let ok = w.expect(Who::Carrier, "200");
    drop(ok);
    let ack = up.caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    assert_eq!(state(&w), (true, true), "and no answer lifts it");
    // The end of it comes in a re-INVITE that the other leg refuses.
    let end = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 3, BOTH, "sendrecv")).with(HEADER, "unmask");
    w.send(Who::Pbx, &end);
    let asked = w.expect(Who::Carrier, "INVITE");
    w.send(Who::Carrier, &reply(Who::Carrier, &asked, 488, ""));
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "488");
    assert_eq!(state(&w), (false, false));
}

#[test]
fn before_the_answer_the_pbx_may_mask_too() {
    let mut w = world();
    let dialling = w.dial();
    let progress = dialling.reply(183, "early");
    w.send(Who::Pbx, &progress);
    w.expect(Who::Carrier, "183");
    let mut callee = Line::called(Who::Pbx, &dialling.theirs, "early");
    say(&mut w, &mut callee, "INFO", "mask");
    w.expect(Who::Pbx, "200");
    assert!(w.masked());
    assert_eq!(owners(&mut w), ["pbx"]);
}

#[test]
fn each_owner_releases_its_own_holds_only() {
    let mut w = world();
    let mut up = w.call();
    let call = w.view().id;
    let kinds = vec![HoldKind::Mask, HoldKind::Pause];
    let crm = Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() };
    let Ok(Reply::Holds(crm)) = w.signal(crm) else { panic!("taken") };
    w.press(Leg::Agent, "*81");
    w.advance(2 * SEC);
    say(&mut w, &mut up.callee, "INFO", "mask");
    assert_eq!(owners(&mut w), ["key:crm", "agent", "pbx"]);
    say(&mut w, &mut up.callee, "INFO", "unmask");
    assert_eq!(owners(&mut w), ["key:crm", "agent"]);
    w.press(Leg::Agent, "*82");
    w.advance(2 * SEC);
    assert_eq!(owners(&mut w), ["key:crm"]);
    assert_eq!(state(&w), (true, true));
    // Once more, and the CRM cannot end what is the agent's or the PBX's.
    say(&mut w, &mut up.callee, "INFO", "pause");
    w.press(Leg::Agent, "*81");
    w.advance(2 * SEC);
    for hold in w.view().holds {
        let mine = crm.iter().any(|own| own.id == hold.id);
        let expected = if mine { Ok(Reply::Done) } else { Err(SignalError::Forbidden) };
        assert_eq!(w.signal(Signal::ReleaseHold { call, hold: hold.id, actor: actor() }), expected, "{}", hold.owner);
    }
    assert_eq!(owners(&mut w), ["pbx", "agent"]);
    let actions: Vec<StarAction> = w
        .events
        .iter()
        .filter_map(|e| if let EventKind::StarCode { action } = e { Some(*action) } else { None })
        .collect();
    assert_eq!(actions, [StarAction::Begin, StarAction::End, StarAction::Begin]);
    assert!(w.ledger.sent_digits.is_empty(), "no key of a code reaches the customer");
}
