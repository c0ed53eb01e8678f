//! Reliable provisional responses and UPDATE before the answer (RFC 3262, RFC 3311): on either leg, between legs that
//! differ, with forks and late offers.

use tonewall::config::{Extension, GuardMode};
use tonewall::obs::event::EndCause;
use tonewall::testkit::simple_sip::{Message, tag};

use crate::harness::*;

fn supports(invite: Message) -> Message {
    invite.with("Supported", "100rel, timer")
}

fn offers(invite: Message) -> Message {
    invite.with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

/// Makes a provisional response reliable.
fn reliable(response: Message, rseq: u32) -> Message {
    response.with("Require", "100rel").with("RSeq", rseq.to_string())
}

/// The caller's PRACK for `response`.
fn prack(w: &mut World, line: &mut Line, response: &Message) -> Message {
    line.follow(response);
    let (cseq, method) = response.cseq().expect("CSeq");
    let rack = format!("{} {cseq} {method}", response.get("rseq").expect("RSeq"));
    line.request(w, "PRACK").with("RAck", rack)
}

fn acknowledge(w: &mut World, line: &mut Line, response: &Message) {
    let prack = prack(w, line, response);
    w.send(line.who, &prack);
    w.expect(line.who, "200");
}

/// The PBX takes our PRACK of `rseq`.
fn take_prack(w: &mut World, theirs: &Message, rseq: u32) -> Message {
    let prack = w.expect(Who::Pbx, "PRACK");
    let cseq = theirs.cseq().expect("CSeq").0;
    assert_eq!(prack.get("rack"), Some(format!("{rseq} {cseq} INVITE").as_str()));
    assert!(prack.cseq().expect("CSeq").0 > cseq);
    w.send(Who::Pbx, &reply(Who::Pbx, &prack, 200, ""));
    prack
}

/// The carrier calls with 100rel and an offer.
fn dial(w: &mut World) -> Dialling {
    w.dial_with(|invite| offers(supports(invite)))
}

/// The same, and the PBX's early media is told reliably: what the carrier got.
fn rung(w: &mut World) -> (Dialling, Message) {
    let d = dial(w);
    w.send(Who::Pbx, &reliable(d.described(183, "t", BOTH), 1));
    take_prack(w, &d.theirs, 1);
    let progress = w.expect(Who::Carrier, "183");
    (d, progress)
}

/// The call that has been answered is connected, ends, and leaves nothing behind.
fn ends_well(w: &mut World, d: &mut Dialling) {
    d.connect(w);
    ends(w, d);
}

/// The PBX has its ACK, the caller hangs up, and nothing is left.
fn ends(w: &mut World, d: &mut Dialling) {
    w.expect(Who::Pbx, "ACK");
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn each_leg_acknowledges_its_own_reliable_ringing() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    assert_eq!(d.theirs.get("supported"), Some("100rel, timer"));
    w.send(Who::Pbx, &reliable(d.described(183, "t", "8 101"), 41));
    take_prack(&mut w, &d.theirs, 41);
    let progress = w.expect(Who::Carrier, "183");
    assert_eq!(progress.get("require"), Some("100rel"));
    assert!(text(&progress).contains("PCMA"));
    // Until its PRACK it is repeated, byte for byte.
    w.advance(SEC / 2);
    assert_eq!(w.expect(Who::Carrier, "183").print(), progress.print());
    acknowledge(&mut w, &mut d.caller, &progress);
    w.advance(10 * SEC);
    w.expect_silence(Who::Carrier);
    // The next one counts up.
    w.send(Who::Pbx, &reliable(d.reply(180, "t"), 42));
    take_prack(&mut w, &d.theirs, 42);
    let ringing = w.expect(Who::Carrier, "180");
    let number = |m: &Message| m.get("rseq").and_then(|n| n.parse::<u32>().ok()).expect("RSeq");
    assert_eq!(number(&ringing), number(&progress) + 1);
    acknowledge(&mut w, &mut d.caller, &ringing);
    w.send(Who::Pbx, &d.reply(200, "t"));
    let ok = d.connect(&mut w);
    assert!(ok.body.is_empty(), "offer and answer were complete");
    w.expect(Who::Pbx, "ACK");
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive && leg.tx.audio.len() == 1));
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_plain_caller_hears_a_reliable_callee() {
    let mut w = World::new();
    let mut d = w.dial();
    let early = reliable(d.described(183, "t", "8 101"), 7);
    w.send(Who::Pbx, &early);
    take_prack(&mut w, &d.theirs, 7);
    let progress = w.expect(Who::Carrier, "183");
    assert_eq!((progress.get("rseq"), progress.get("require")), (None, None));
    // Repeated because our PRACK was slow: neither told nor acknowledged twice.
    w.send(Who::Pbx, &early);
    // One before it is missing: not looked at.
    w.send(Who::Pbx, &reliable(d.reply(180, "t"), 9));
    w.expect_silence(Who::Pbx);
    w.expect_silence(Who::Carrier);
    w.send(Who::Pbx, &d.reply(200, "t"));
    let ok = d.connect(&mut w);
    assert_eq!(ok.body, progress.body);
    ends(&mut w, &mut d);
}

#[test]
fn a_caller_that_requires_it_is_rung_reliably_by_a_plain_callee_and_the_200_waits_for_the_prack() {
    let mut w = World::new();
    let mut d = w.dial_with(|invite| offers(invite.with("Require", "100rel")));
    w.send(Who::Pbx, &d.reply(180, "t"));
    let ringing = w.expect(Who::Carrier, "180");
    // A second one waits until the first is acknowledged.
    w.send(Who::Pbx, &d.described(183, "t", BOTH));
    w.send(Who::Pbx, &d.described(200, "t", BOTH));
    w.expect_silence(Who::Carrier);
    acknowledge(&mut w, &mut d.caller, &ringing);
    let progress = w.expect(Who::Carrier, "183");
    assert!(!progress.body.is_empty());
    w.expect_silence(Who::Carrier);
    assert_eq!(w.view().state, tonewall::call::CallState::SettingUp);
    acknowledge(&mut w, &mut d.caller, &progress);
    let ok = d.connect(&mut w);
    assert!(ok.body.is_empty());
    ends(&mut w, &mut d);
}

#[test]
fn ringing_that_is_never_acknowledged_ends_the_call_with_504() {
    let mut w = World::new();
    let d = dial(&mut w);
    w.send(Who::Pbx, &d.described(183, "t", BOTH));
    w.advance(31 * SEC);
    assert_eq!(w.engine.calls(), 1);
    let repeated = w.inbox[&Who::Carrier].iter().filter(|m| m.status() == Some(183)).count();
    assert_eq!(repeated, 6);
    w.inbox.clear();
    w.advance(2 * SEC);
    assert_eq!(w.expect(Who::Carrier, "183").status(), Some(183));
    w.expect(Who::Carrier, "504");
    let cancel = w.expect(Who::Pbx, "CANCEL");
    w.send(Who::Pbx, &reply(Who::Pbx, &cancel, 200, "t"));
    w.send(Who::Pbx, &d.reply(487, "t"));
    assert_eq!(w.ended(), [(EndCause::Timeout, Some(504))]);
    w.expect_clean();
}

#[test]
fn a_call_cancelled_while_its_200_waits_gets_ack_and_bye_with_a_cseq_above_the_pracks() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    w.send(Who::Pbx, &reliable(d.described(183, "t", BOTH), 1));
    let prack = take_prack(&mut w, &d.theirs, 1);
    w.expect(Who::Carrier, "183");
    w.send(Who::Pbx, &d.reply(200, "t"));
    w.expect_silence(Who::Pbx);
    let cancel = d.cancel(&mut w);
    w.send(Who::Carrier, &cancel);
    w.expect(Who::Carrier, "200");
    w.expect(Who::Carrier, "487");
    w.expect(Who::Pbx, "ACK");
    let bye = w.expect(Who::Pbx, "BYE");
    assert!(bye.cseq().expect("CSeq").0 > prack.cseq().expect("CSeq").0);
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    assert_eq!(w.ended(), [(EndCause::Cancelled, Some(487))]);
    w.expect_clean();
}

#[test]
fn the_trunk_says_whether_it_is_off_or_required() {
    let off = |config: &mut tonewall::config::Config| {
        for trunk in &mut config.trunks {
            trunk.methods.reliable = Extension::Off;
        }
    };
    let mut w = World::with(off);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = offers(caller.request(&mut w, "INVITE").with("Require", "100rel"));
    w.send(Who::Carrier, &invite);
    assert_eq!(w.expect(Who::Carrier, "420").get("unsupported"), Some("100rel"));
    let d = dial(&mut w);
    assert_eq!(d.theirs.get("supported"), Some("timer"));
    w.send(Who::Pbx, &d.described(183, "t", BOTH));
    assert_eq!(w.expect(Who::Carrier, "183").get("rseq"), None);

    let required = |config: &mut tonewall::config::Config| {
        for trunk in &mut config.trunks {
            trunk.methods.reliable = Extension::Required;
        }
    };
    let mut w = World::with(required);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = offers(caller.request(&mut w, "INVITE"));
    w.send(Who::Carrier, &invite);
    assert_eq!(w.expect(Who::Carrier, "421").get("require"), Some("100rel"));
    w.expect_silence(Who::Pbx);
    let d = dial(&mut w);
    assert_eq!(d.theirs.get("require"), Some("100rel"));
    w.send(Who::Pbx, &d.reply(180, "t"));
    assert!(w.expect(Who::Carrier, "180").get("rseq").is_some());
}

#[test]
fn a_late_offer_made_reliably_is_answered_by_prack_on_both_legs() {
    let mut w = World::new();
    let mut d = w.dial_with(supports);
    assert!(d.theirs.body.is_empty());
    assert_eq!(d.theirs.get("supported"), Some("100rel, timer"));
    w.send(Who::Pbx, &reliable(d.described(183, "t", BOTH), 3));
    // The PRACK waits for the caller's answer.
    w.expect_silence(Who::Pbx);
    let offered = w.expect(Who::Carrier, "183");
    assert!(text(&offered).contains("PCMU") && offered.get("rseq").is_some());
    let answer = prack(&mut w, &mut d.caller, &offered);
    w.send(Who::Carrier, &answer.with_body("application/sdp", sdp(Who::Carrier, 1, "8 101", "sendrecv")));
    w.expect(Who::Carrier, "200");
    let answer = take_prack(&mut w, &d.theirs, 3);
    assert!(text(&answer).contains("PCMA") && !text(&answer).contains("PCMU"));
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.send(Who::Pbx, &d.reply(200, "t"));
    assert!(d.connect(&mut w).body.is_empty());
    assert!(w.expect(Who::Pbx, "ACK").body.is_empty());
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_late_offer_whose_prack_brings_no_answer_ends_the_call() {
    let mut w = World::new();
    let mut d = w.dial_with(supports);
    w.send(Who::Pbx, &reliable(d.described(183, "t", BOTH), 3));
    let offered = w.expect(Who::Carrier, "183");
    let empty = prack(&mut w, &mut d.caller, &offered);
    w.send(Who::Carrier, &empty);
    w.expect(Who::Carrier, "400");
    w.expect(Who::Carrier, "400");
    w.expect(Who::Pbx, "CANCEL");
    assert_eq!(w.ended(), [(EndCause::Failure, Some(400))]);
    w.advance(64 * SEC);
    w.expect_clean();
}

#[test]
fn a_late_offer_of_a_caller_without_100rel_asks_the_callee_for_none() {
    let mut w = World::new();
    let d = w.dial_with(|invite| invite);
    assert_eq!(d.theirs.get("supported"), Some("timer"));
    let mut w = World::with(|config| config.trunks[1].methods.reliable = Extension::Required);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.request(&mut w, "INVITE");
    w.send(Who::Carrier, &invite);
    w.expect(Who::Carrier, "421");
    w.expect_clean();
}

#[test]
fn a_late_offer_is_not_rung_reliably_before_there_is_an_offer() {
    let mut w = World::new();
    let d = w.dial_with(supports);
    w.send(Who::Pbx, &d.reply(180, "t"));
    assert_eq!(w.expect(Who::Carrier, "180").get("rseq"), None);
    // And not at all where it must be reliable.
    let mut w = World::new();
    let mut d = w.dial_with(|invite| invite.with("Require", "100rel"));
    w.send(Who::Pbx, &d.reply(180, "t"));
    w.expect_silence(Who::Carrier);
    w.send(Who::Pbx, &d.described(200, "t", BOTH));
    let ok = w.expect(Who::Carrier, "200");
    d.caller.follow(&ok);
    let ack = d.caller.ack(&mut w).with_body("application/sdp", sdp(Who::Carrier, 1, "8 101", "sendrecv"));
    w.send(Who::Carrier, &ack);
    assert!(text(&w.expect(Who::Pbx, "ACK")).contains("PCMA"));
}

#[test]
fn an_unknown_rack_is_481_and_a_broken_one_400() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    w.send(Who::Pbx, &d.described(183, "t", BOTH));
    let progress = w.expect(Who::Carrier, "183");
    d.caller.follow(&progress);
    for (rack, status) in [("1 1 INVITE", "481"), ("x", "400")] {
        let bad = d.caller.request(&mut w, "PRACK").with("RAck", rack);
        w.send(Who::Carrier, &bad);
        w.expect(Who::Carrier, status);
    }
    let bare = d.caller.request(&mut w, "PRACK");
    w.send(Who::Carrier, &bare);
    w.expect(Who::Carrier, "400");
    acknowledge(&mut w, &mut d.caller, &progress);
    // A PRACK of the callee's acknowledges nothing.
    let mut callee = Line::called(Who::Pbx, &d.theirs, "t");
    let stray = callee.request(&mut w, "PRACK").with("RAck", "1 1 INVITE");
    w.send(Who::Pbx, &stray);
    w.expect(Who::Pbx, "481");
}

#[test]
fn a_prack_that_the_answer_overtook_is_still_taken() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    w.send(Who::Pbx, &reliable(d.reply(180, "t"), 1));
    take_prack(&mut w, &d.theirs, 1);
    let ringing = w.expect(Who::Carrier, "180");
    w.send(Who::Pbx, &d.described(200, "t", BOTH));
    d.connect(&mut w);
    acknowledge(&mut w, &mut d.caller, &ringing);
    let again = prack(&mut w, &mut d.caller, &ringing);
    w.send(Who::Carrier, &again);
    w.expect(Who::Carrier, "481");
    ends(&mut w, &mut d);
}

#[test]
fn forks_are_acknowledged_apart_and_the_one_that_answers_is_connected() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    let mut told = vec![];
    for (fork, formats) in [("a", "0 101"), ("b", "8 101")] {
        w.send(Who::Pbx, &reliable(d.described(183, fork, formats), 1));
        let ours = take_prack(&mut w, &d.theirs, 1);
        assert_eq!(ours.get("to").and_then(tag), Some(fork));
        told.push(w.expect(Who::Carrier, "183"));
    }
    assert_ne!(told[0].get("to"), told[1].get("to"));
    for progress in &told {
        // Each early dialog counts its own requests.
        let mut line = d.caller.clone();
        acknowledge(&mut w, &mut line, progress);
        d.caller.cseq = line.cseq;
    }
    assert!(text(&told[0]).contains("PCMU") && text(&told[1]).contains("PCMA"));
    // The last one to speak is heard; the one that answers wins.
    let codec = |w: &World| w.session().legs[1].tx.audio[0].payload_type;
    assert_eq!(codec(&w), 8);
    w.send(Who::Pbx, &d.reply(200, "a"));
    let ok = d.connect(&mut w);
    assert_eq!(ok.get("to"), told[0].get("to"));
    assert_eq!(codec(&w), 0);
    w.expect(Who::Pbx, "ACK");
    // A second answer: ACK and BYE, and the call goes on.
    w.send(Who::Pbx, &d.reply(200, "b"));
    w.expect(Who::Pbx, "ACK");
    let bye = w.expect(Who::Pbx, "BYE");
    assert_eq!(bye.get("to").and_then(tag), Some("b"));
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

/// A call whose both early dialogs have complete offers and answers.
fn settled(w: &mut World) -> (Dialling, Line) {
    let (mut d, progress) = rung(w);
    acknowledge(w, &mut d.caller, &progress);
    let callee = Line::called(Who::Pbx, &d.theirs, "t");
    (d, callee)
}

#[test]
fn update_before_the_answer_crosses_in_both_directions_and_the_mask_stays() {
    let mut w = World::with(|config| config.trunks[0].guard = GuardMode::Always);
    let (mut d, mut callee) = settled(&mut w);
    assert!(w.masked());
    let update = d.caller.offer(&mut w, "UPDATE", &sdp(Who::Carrier, 2, "8 101", "sendonly"));
    w.send(Who::Carrier, &update);
    let ours = w.expect(Who::Pbx, "UPDATE");
    assert!(text(&ours).contains("a=sendonly") && !text(&ours).contains("PCMU"));
    let agreed = sdp(Who::Pbx, 2, "8 101", "recvonly");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 200, "").with_body("application/sdp", agreed));
    assert!(text(&w.expect(Who::Carrier, "200")).contains("a=recvonly"));
    assert!(w.masked() && !w.session().legs[1].receive);

    let update = callee.offer(&mut w, "UPDATE", &sdp(Who::Pbx, 3, "8 101", "sendrecv"));
    w.send(Who::Pbx, &update);
    let ours = w.expect(Who::Carrier, "UPDATE");
    // While one is asked, an offer of the other is glare.
    let cross = d.caller.offer(&mut w, "UPDATE", &sdp(Who::Carrier, 3, "8 101", "sendrecv"));
    w.send(Who::Carrier, &cross);
    w.expect(Who::Carrier, "491");
    // And the answer waits for its end.
    w.send(Who::Pbx, &d.reply(200, "t"));
    w.expect_silence(Who::Carrier);
    let agreed = sdp(Who::Carrier, 4, "8 101", "sendrecv");
    w.send(Who::Carrier, &reply(Who::Carrier, &ours, 200, "").with_body("application/sdp", agreed));
    w.expect(Who::Pbx, "200");
    assert!(d.connect(&mut w).body.is_empty());
    w.expect(Who::Pbx, "ACK");
    assert!(w.masked() && w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.hang_up(&mut callee, Who::Carrier);
    w.expect_clean();
}

#[test]
fn an_update_the_other_side_refuses_changes_nothing() {
    let mut w = World::new();
    let (mut d, _) = settled(&mut w);
    let before = w.session().legs.clone();
    let update = d.caller.offer(&mut w, "UPDATE", &sdp(Who::Carrier, 2, "8", "inactive"));
    w.send(Who::Carrier, &update);
    let ours = w.expect(Who::Pbx, "UPDATE");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 488, ""));
    w.expect(Who::Carrier, "488");
    assert_eq!(w.session().legs, before);
    w.send(Who::Pbx, &d.reply(200, "t"));
    ends_well(&mut w, &mut d);
}

#[test]
fn an_update_before_the_first_answer_is_acknowledged_has_to_wait() {
    let mut w = World::new();
    let mut d = dial(&mut w);
    w.send(Who::Pbx, &d.described(183, "t", BOTH));
    let progress = w.expect(Who::Carrier, "183");
    d.caller.follow(&progress);
    let update = d.caller.offer(&mut w, "UPDATE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &update);
    assert!(w.expect(Who::Carrier, "500").get("retry-after").is_some());
    let plain = d.caller.request(&mut w, "UPDATE");
    w.send(Who::Carrier, &plain);
    w.expect(Who::Carrier, "200");
    acknowledge(&mut w, &mut d.caller, &progress);
    // The callee's answer was not reliable, so it cannot be asked: the answer is made here.
    let moved = sdp(Who::Carrier, 2, "8 101", "sendrecv").replace("6000", "6400");
    let update = d.caller.offer(&mut w, "UPDATE", &moved);
    w.send(Who::Carrier, &update);
    assert!(text(&w.expect(Who::Carrier, "200")).contains("PCMA"));
    assert_eq!(w.session().legs[0].remote_rtp, Some("192.0.2.10:6400".parse().expect("address")));
    w.expect_silence(Who::Pbx);
}

#[test]
fn a_prack_with_an_offer_goes_on_as_update() {
    let mut w = World::new();
    let (mut d, progress) = rung(&mut w);
    let offer = prack(&mut w, &mut d.caller, &progress);
    w.send(Who::Carrier, &offer.with_body("application/sdp", sdp(Who::Carrier, 2, "8 101", "sendrecv")));
    let ours = w.expect(Who::Pbx, "UPDATE");
    w.expect_silence(Who::Carrier);
    let agreed = sdp(Who::Pbx, 2, "8 101", "sendrecv");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 200, "").with_body("application/sdp", agreed));
    let ok = w.expect(Who::Carrier, "200");
    assert!(text(&ok).contains("PCMA") && ok.cseq().expect("CSeq").1 == "PRACK");
    w.send(Who::Pbx, &d.reply(200, "t"));
    ends_well(&mut w, &mut d);
}

#[test]
fn a_callee_that_does_not_know_our_prack_is_lost_and_the_next_target_is_asked_in_another_dialog() {
    let mut w = World::with(|config| config.trunks[1].remotes.push(Who::Standby.at()));
    let mut d = dial(&mut w);
    w.send(Who::Pbx, &reliable(d.described(183, "t", BOTH), 1));
    let ours = w.expect(Who::Pbx, "PRACK");
    let first = w.expect(Who::Carrier, "183");
    acknowledge(&mut w, &mut d.caller, &first);
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 481, ""));
    w.expect(Who::Pbx, "CANCEL");
    let theirs = w.expect(Who::Standby, "INVITE");
    let ok =
        reply(Who::Standby, &theirs, 200, "s").with_body("application/sdp", sdp(Who::Standby, 1, BOTH, "sendrecv"));
    w.send(Who::Standby, &ok);
    let ok = d.connect(&mut w);
    assert_ne!(ok.get("to"), first.get("to"));
    assert!(!ok.body.is_empty());
    w.expect(Who::Standby, "ACK");
    assert_eq!(w.engine.calls(), 1);
}
