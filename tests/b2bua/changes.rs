//! Changing a call that is up: hold, codec, address, late offer, glare, UPDATE, OPTIONS, and what may not be done.

use tonewall::base::ids::Leg;
use tonewall::obs::event::{EndCause, EventKind};
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

/// `line` changes the session, the other side agrees.
fn change(w: &mut World, line: &mut Line, other: Who, ask: &str, agree: &str) -> (Message, Message) {
    let request = line.offer(w, "INVITE", ask);
    w.send(line.who, &request);
    let theirs = w.expect(other, "INVITE");
    w.send(other, &reply(other, &theirs, 200, "").with_body("application/sdp", agree));
    w.expect(other, "ACK");
    let ok = w.expect(line.who, "200");
    let ack = line.ack(w);
    w.send(line.who, &ack);
    (theirs, ok)
}

#[test]
fn hold_and_resume_cross_and_are_announced() {
    let mut w = World::new();
    let mut up = w.call();
    let hold = sdp(Who::Pbx, 2, BOTH, "sendonly");
    let (asked, ok) = change(&mut w, &mut up.callee, Who::Carrier, &hold, &sdp(Who::Carrier, 2, BOTH, "recvonly"));
    assert!(text(&asked).contains("a=sendonly") && text(&ok).contains("a=recvonly"));
    assert!(!w.session().legs[0].receive && w.session().legs[0].send);
    assert!(w.session().legs[1].receive && !w.session().legs[1].send);
    let (asked, _) = change(
        &mut w,
        &mut up.callee,
        Who::Carrier,
        &sdp(Who::Pbx, 3, BOTH, "sendrecv"),
        &sdp(Who::Carrier, 3, BOTH, "sendrecv"),
    );
    assert!(text(&asked).contains("a=sendrecv"));
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    let held: Vec<_> = w
        .events
        .iter()
        .filter_map(|e| if let EventKind::LegHeld { leg, held } = e { Some((*leg, *held)) } else { None })
        .collect();
    assert_eq!(held, [(Leg::Agent, true), (Leg::Agent, false)]);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn codec_and_address_change_and_our_description_counts_up() {
    let mut w = World::new();
    let mut up = w.call();
    let moved = sdp(Who::Carrier, 2, "8 101", "sendrecv").replace("192.0.2.10", "192.0.2.77").replace("6000", "6400");
    let (asked, ok) = change(&mut w, &mut up.caller, Who::Pbx, &moved, &sdp(Who::Pbx, 2, "8 101", "sendrecv"));
    assert!(text(&asked).contains("PCMA") && !text(&asked).contains("PCMU"));
    assert_eq!(w.session().legs[0].remote_rtp, Some("192.0.2.77:6400".parse().expect("address")));
    let origin = |m: &Message| text(m).lines().find(|l| l.starts_with("o=")).expect("o=").to_owned();
    let (again, ok2) = change(&mut w, &mut up.caller, Who::Pbx, &moved, &sdp(Who::Pbx, 2, "8 101", "sendrecv"));
    assert_eq!(origin(&asked), origin(&again), "nothing changed: the same version");
    assert_eq!(origin(&ok), origin(&ok2));
    w.hang_up(&mut up.callee, Who::Carrier);
    w.expect_clean();
}

#[test]
fn a_refused_change_leaves_the_session_as_it_was() {
    let mut w = World::new();
    let mut up = w.call();
    let before = w.session().legs.clone();
    for status in [488, 491, 500, 603] {
        let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, "8", "inactive"));
        w.send(Who::Carrier, &request);
        let theirs = w.expect(Who::Pbx, "INVITE");
        w.send(Who::Pbx, &reply(Who::Pbx, &theirs, status, ""));
        w.expect(Who::Pbx, "ACK");
        w.expect(Who::Carrier, &status.to_string());
        assert_eq!(w.session().legs, before);
    }
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_change_we_cannot_take_is_488_and_asks_nobody() {
    let mut w = World::new();
    let mut up = w.call();
    let before = w.session().legs.clone();
    for bad in ["m=audio 6000 RTP/AVP 18", "m=audio 6000 RTP/SAVP 0", "m=audio 6000 UDP/TLS/RTP/SAVPF 0"] {
        let body = sdp(Who::Carrier, 2, "0", "sendrecv").replace("m=audio 6000 RTP/AVP 0", bad);
        let request = up.caller.offer(&mut w, "INVITE", &body);
        w.send(Who::Carrier, &request);
        w.expect(Who::Carrier, "488");
        w.expect_silence(Who::Pbx);
        assert_eq!(w.session().legs, before);
    }
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_change_with_a_late_offer_crosses_in_200_and_ack() {
    let mut w = World::new();
    let mut up = w.call();
    let request = up.callee.request(&mut w, "INVITE");
    w.send(Who::Pbx, &request);
    let theirs = w.expect(Who::Carrier, "INVITE");
    assert!(theirs.body.is_empty());
    let offer = sdp(Who::Carrier, 2, "8 101", "sendrecv");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "").with_body("application/sdp", offer));
    w.expect_silence(Who::Carrier);
    let ok = w.expect(Who::Pbx, "200");
    assert!(text(&ok).contains("PCMA"));
    let ack = up.callee.ack(&mut w).with_body("application/sdp", sdp(Who::Pbx, 2, "8 101", "sendonly"));
    w.send(Who::Pbx, &ack);
    let ack = w.expect(Who::Carrier, "ACK");
    assert!(text(&ack).contains("a=sendonly"), "{}", text(&ack));
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn glare_is_491_both_ways_and_the_retry_goes_through() {
    let mut w = World::new();
    let mut up = w.call();
    let a = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendrecv"));
    let b = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &a);
    let ours = w.expect(Who::Pbx, "INVITE");
    w.send(Who::Pbx, &b);
    w.expect(Who::Pbx, "491");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 491, ""));
    w.expect(Who::Pbx, "ACK");
    w.expect(Who::Carrier, "491");
    // Both wait by RFC 3261 section 14.1; the end that did not make its Call-ID is first.
    w.advance(SEC);
    w.inbox.clear();
    change(
        &mut w,
        &mut up.callee,
        Who::Carrier,
        &sdp(Who::Pbx, 3, BOTH, "sendonly"),
        &sdp(Who::Carrier, 3, BOTH, "recvonly"),
    );
    w.advance(2 * SEC);
    w.inbox.clear();
    change(
        &mut w,
        &mut up.caller,
        Who::Pbx,
        &sdp(Who::Carrier, 4, BOTH, "recvonly"),
        &sdp(Who::Pbx, 4, BOTH, "sendonly"),
    );
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_second_change_of_the_same_leg_before_the_first_is_answered_is_500_with_retry_after() {
    let mut w = World::new();
    let mut up = w.call();
    let first = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendrecv"));
    let second = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 3, BOTH, "sendrecv"));
    w.send(Who::Carrier, &first);
    w.send(Who::Carrier, &second);
    assert!(w.expect(Who::Carrier, "500").get("retry-after").is_some());
    let theirs = w.expect(Who::Pbx, "INVITE");
    w.expect_silence(Who::Pbx);
    let ok = reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Carrier, "200");
}

#[test]
fn a_lost_ack_of_a_change_ends_the_call() {
    let mut w = World::new();
    let mut up = w.call();
    let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendrecv"));
    w.send(Who::Carrier, &request);
    let theirs = w.expect(Who::Pbx, "INVITE");
    let ok = reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.advance(33 * SEC);
    assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
    w.expect_clean();
}

#[test]
fn a_change_whose_other_side_is_gone_ends_the_call() {
    for status in [408, 481] {
        let mut w = World::new();
        let mut up = w.call();
        let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendrecv"));
        w.send(Who::Carrier, &request);
        let theirs = w.expect(Who::Pbx, "INVITE");
        w.send(Who::Pbx, &reply(Who::Pbx, &theirs, status, ""));
        w.expect(Who::Carrier, if status == 408 { "408" } else { "500" });
        w.expect(Who::Carrier, "BYE");
        assert_eq!(w.ended(), [(EndCause::Timeout, None)]);
        w.expect_clean();
    }
}

#[test]
fn a_cancelled_change_is_cancelled_on_the_other_leg_and_the_call_goes_on() {
    let mut w = World::new();
    let mut up = w.call();
    let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &request);
    let theirs = w.expect(Who::Pbx, "INVITE");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, ""));
    let mut cancel = up.caller.request(&mut w, "CANCEL");
    cancel.headers[0].1 = request.get("via").expect("Via").to_owned();
    w.send(Who::Carrier, &cancel);
    w.expect(Who::Carrier, "200");
    let cancel = w.expect(Who::Pbx, "CANCEL");
    w.send(Who::Pbx, &reply(Who::Pbx, &cancel, 200, ""));
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 487, ""));
    w.expect(Who::Pbx, "ACK");
    w.expect(Who::Carrier, "487");
    assert_eq!(w.engine.calls(), 1);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn hanging_up_during_a_change_answers_it_487_and_ends_both() {
    let mut w = World::new();
    let mut up = w.call();
    let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &request);
    let theirs = w.expect(Who::Pbx, "INVITE");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 100, ""));
    let bye = up.callee.request(&mut w, "BYE");
    w.send(Who::Pbx, &bye);
    w.expect(Who::Pbx, "200");
    w.expect(Who::Pbx, "CANCEL");
    w.expect(Who::Carrier, "487");
    let bye = w.expect(Who::Carrier, "BYE");
    w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
    // The answer crosses all that: it is acknowledged, its dialog is already over.
    let ok = reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    w.expect_silence(Who::Pbx);
    w.expect_clean();
}

#[test]
fn update_without_sdp_is_answered_here_and_with_sdp_crosses() {
    let mut w = World::new();
    let mut up = w.call();
    let refresh = up.caller.request(&mut w, "UPDATE");
    w.send(Who::Carrier, &refresh);
    w.expect(Who::Carrier, "200");
    w.expect_silence(Who::Pbx);
    let hold = up.caller.offer(&mut w, "UPDATE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
    w.send(Who::Carrier, &hold);
    let theirs = w.expect(Who::Pbx, "UPDATE");
    assert!(text(&theirs).contains("a=sendonly"));
    let ok = reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, BOTH, "recvonly"));
    w.send(Who::Pbx, &ok);
    assert!(text(&w.expect(Who::Carrier, "200")).contains("a=recvonly"));
    w.expect_silence(Who::Pbx);
    // The next change is not in its way.
    change(
        &mut w,
        &mut up.caller,
        Who::Pbx,
        &sdp(Who::Carrier, 3, BOTH, "sendrecv"),
        &sdp(Who::Pbx, 3, BOTH, "sendrecv"),
    );
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn what_a_dialog_may_not_ask_gets_its_status() {
    let mut w = World::new();
    let mut up = w.call();
    for (method, status) in [
        ("OPTIONS", "200"),
        ("REFER", "403"),
        ("SUBSCRIBE", "489"),
        ("NOTIFY", "481"),
        ("PRACK", "481"),
        ("MESSAGE", "405"),
        ("REGISTER", "405"),
        ("PUBLISH", "405"),
        ("FROBNICATE", "501"),
    ] {
        let request = up.caller.request(&mut w, method);
        w.send(Who::Carrier, &request);
        w.expect(Who::Carrier, status);
        w.expect_silence(Who::Pbx);
    }
    let old = up.caller.request(&mut w, "OPTIONS");
    up.caller.cseq -= 3;
    let older = up.caller.request(&mut w, "OPTIONS");
    up.caller.cseq += 3;
    w.send(Who::Carrier, &old);
    w.expect(Who::Carrier, "200");
    w.send(Who::Carrier, &older);
    w.expect(Who::Carrier, "500");
    let demand = up.caller.request(&mut w, "INFO").with("Require", "precondition, x-odd");
    w.send(Who::Carrier, &demand);
    assert_eq!(w.expect(Who::Carrier, "420").get("unsupported"), Some("precondition, x-odd"));
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn requests_of_no_dialog_are_481_and_of_the_wrong_trunk_403() {
    let mut w = World::new();
    let mut up = w.call();
    let mut ghost = up.caller.clone();
    ghost.remote = ghost.remote.replace("tag=", "tag=x");
    let bye = ghost.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "481");
    let mut other = up.caller.clone();
    other.call_id = "another".into();
    let bye = other.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "481");
    let mut forged = up.caller.clone();
    forged.local = forged.local.replace("tag=", "tag=x");
    let bye = forged.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "481");
    // The PBX knows the tags of the carrier's leg by some accident: they are not its to use.
    let bye = up.caller.request(&mut w, "BYE");
    w.send(Who::Pbx, &bye);
    w.expect(Who::Pbx, "403");
    assert_eq!(w.engine.calls(), 1);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}
