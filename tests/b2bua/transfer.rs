//! Transfer: REFER terminated here or passed on, attended transfer by Replaces, and the guard that stays with the call.

use tonewall::base::ids::Leg;
use tonewall::call::{CollectionRequest, Signal};
use tonewall::config::{Config, GuardMode, Refer};
use tonewall::obs::event::{EndCause, EventKind, HoldKind};
use tonewall::testkit::simple_sip::{Message, tag, uri};

use crate::harness::*;

pub fn terminates(config: &mut Config) {
    for trunk in &mut config.trunks {
        trunk.methods.refer = Refer::Terminate;
    }
}

pub fn refer(w: &mut World, line: &mut Line, to: &str) -> Message {
    let refer = line.request(w, "REFER").with("Refer-To", to);
    w.send(line.who, &refer);
    refer
}

/// `who` is told of the transfer's progress.
pub fn told(w: &mut World, who: Who, status: u16, over: bool) -> Message {
    let notify = w.expect(who, "NOTIFY");
    assert!(text(&notify).starts_with(&format!("SIP/2.0 {status} ")), "{}", text(&notify));
    assert_eq!(notify.get("content-type"), Some("message/sipfrag;version=2.0"));
    let state = notify.get("subscription-state").expect("a state");
    assert_eq!(state.starts_with("terminated"), over, "{state}");
    w.send(who, &reply(who, &notify, 200, ""));
    notify
}

/// A REFER of `line` is taken: our INVITE to the new target, which is on the same side.
pub fn begins(w: &mut World, line: &mut Line, to: &str) -> Message {
    refer(w, line, to);
    w.expect(line.who, "202");
    told(w, line.who, 100, false);
    w.expect(line.who, "INVITE")
}

/// The PBX's second telephone answers our INVITE.
pub fn answer(who: Who, invite: &Message) -> Message {
    reply(who, invite, 200, "second").with_body("application/sdp", sdp(Who::Standby, 1, "8 101", "sendrecv"))
}

/// The leg that stays agrees to its new other end.
pub fn agree(w: &mut World, who: Who) -> Message {
    let again = w.expect(who, "INVITE");
    w.send(who, &reply(who, &again, 200, "").with_body("application/sdp", sdp(who, 2, "8 101", "sendrecv")));
    w.expect(who, "ACK");
    again
}

fn transferred(w: &World) -> Vec<(Leg, String)> {
    let of = |event: &EventKind| match event {
        EventKind::CallTransferred { leg, to } => Some((*leg, to.clone())),
        _ => None,
    };
    w.events.iter().filter_map(of).collect()
}

#[test]
fn an_agent_transfers_the_customer_to_another_agent() {
    let mut w = World::with(terminates);
    let mut up = w.call();
    let asked = refer(&mut w, &mut up.callee, "<sip:1002@elsewhere.example;transport=tcp>");
    w.expect(Who::Pbx, "202");
    // By our route, from the customer's number, whatever host the Refer-To names.
    let notify = told(&mut w, Who::Pbx, 100, false);
    assert_eq!(notify.get("event"), Some(format!("refer;id={}", asked.cseq().expect("CSeq").0).as_str()));
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert!(theirs.start.starts_with("INVITE sip:1002@10.1.0.20:5060"), "{}", theirs.start);
    assert!(theirs.get("from").is_some_and(|from| from.contains("sip:+4930")));
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "second"));
    told(&mut w, Who::Pbx, 180, false);
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "second"));
    w.expect_silence(Who::Pbx);
    w.send(Who::Pbx, &answer(Who::Pbx, &theirs));
    w.expect(Who::Pbx, "ACK");
    told(&mut w, Who::Pbx, 200, true);
    let bye = w.expect(Who::Pbx, "BYE");
    assert_eq!(bye.get("call-id"), Some(up.callee.call_id.as_str()));
    // Its own BYE crosses ours.
    let crossing = up.callee.request(&mut w, "BYE");
    w.send(Who::Pbx, &crossing);
    w.expect(Who::Pbx, "200");
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    let again = agree(&mut w, Who::Carrier);
    assert!(text(&again).contains("PCMA") && !text(&again).contains("PCMU"), "{}", text(&again));
    assert_eq!(w.session().legs[1].remote_rtp, Some("10.1.0.21:7000".parse().expect("address")));
    assert_eq!(transferred(&w), [(Leg::Agent, "1002".to_owned())]);
    let view = w.view();
    assert_eq!((view.agent.as_str(), view.sip_call_ids.agent.as_deref()), ("1002", theirs.get("call-id")));
    let mut second = Line::called(Who::Pbx, &theirs, "second");
    w.hang_up(&mut second, Who::Carrier);
    assert_eq!(w.ended(), [(EndCause::AgentHungUp, None)]);
    w.expect_clean();
}

#[test]
fn r12_refer_during_a_collection_keeps_every_hold_and_the_mask() {
    let mut w = World::with(|config| {
        terminates(config);
        config.trunks[0].guard = GuardMode::Signal;
    });
    let mut up = w.call();
    let request = CollectionRequest::of_length(16);
    let call = w.view().id;
    w.signal(Signal::StartCollection { call, request, actor: actor() }).expect("a collection");
    w.press(Leg::Customer, "42424242");
    let before = w.view();
    assert!(w.masked() && before.holds.len() == 2);
    let same = |w: &mut World| {
        let now = w.view();
        assert!(w.masked() && now.masked && now.paused);
        let ids = |view: &tonewall::call::CallView| view.holds.iter().map(|hold| hold.id).collect::<Vec<_>>();
        assert_eq!(ids(&now), ids(&before));
        assert_eq!(now.collection.map(|c| c.received), Some(8));
    };
    let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx>");
    same(&mut w);
    w.send(Who::Pbx, &answer(Who::Pbx, &theirs));
    same(&mut w);
    agree(&mut w, Who::Carrier);
    same(&mut w);
    w.press(Leg::Customer, "42424242");
    assert_eq!(w.handovers.len(), 1, "the collection goes on with the same keys");
    assert!(w.ledger.sent_digits.is_empty());
}

#[test]
fn the_agent_may_hang_up_at_once_and_the_customer_waits() {
    for answered in [true, false] {
        let mut w = World::with(terminates);
        let mut up = w.call();
        let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx>");
        let bye = up.callee.request(&mut w, "BYE");
        w.send(Who::Pbx, &bye);
        w.expect(Who::Pbx, "200");
        w.expect_silence(Who::Carrier);
        assert!(!w.session().legs[1].send && !w.session().legs[1].receive);
        // Nothing can be agreed with nobody.
        let hold = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, BOTH, "sendonly"));
        w.send(Who::Carrier, &hold);
        w.expect(Who::Carrier, "491");
        if answered {
            w.send(Who::Pbx, &answer(Who::Pbx, &theirs));
            w.expect(Who::Pbx, "ACK");
            w.expect_silence(Who::Pbx);
            agree(&mut w, Who::Carrier);
            w.hang_up(&mut up.caller, Who::Pbx);
        } else {
            w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 486, "second"));
            w.expect(Who::Pbx, "ACK");
            let bye = w.expect(Who::Carrier, "BYE");
            w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
            w.expect_silence(Who::Pbx);
            assert_eq!(w.ended(), [(EndCause::AgentHungUp, None)]);
        }
        w.expect_clean();
    }
}

#[test]
fn a_transfer_that_comes_to_nothing_leaves_the_call_as_it_was() {
    let mut w = World::with(|config| {
        terminates(config);
        config.trunks[1].remotes.push(Who::Standby.at());
    });
    let mut up = w.call();
    let before = w.session().legs.clone();
    let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx>");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 503, "second"));
    w.expect(Who::Pbx, "ACK");
    let theirs = w.expect(Who::Standby, "INVITE");
    w.send(Who::Standby, &reply(Who::Standby, &theirs, 486, "second"));
    w.expect(Who::Standby, "ACK");
    told(&mut w, Who::Pbx, 486, true);
    assert_eq!(w.session().legs, before);
    assert!(transferred(&w).is_empty());
    // And it may be tried again; nobody answers, and after two minutes it is given up.
    let theirs = begins(&mut w, &mut up.callee, "<tel:1003>");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "third"));
    told(&mut w, Who::Pbx, 180, false);
    w.advance(121 * SEC);
    w.expect(Who::Pbx, "CANCEL");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 487, "third"));
    w.inbox.clear();
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn hanging_up_during_a_transfer_ends_everybody() {
    let mut w = World::with(terminates);
    let mut up = w.call();
    let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx>");
    w.send(Who::Pbx, &reply(Who::Pbx, &theirs, 180, "second"));
    told(&mut w, Who::Pbx, 180, false);
    let bye = up.caller.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "200");
    w.expect(Who::Pbx, "CANCEL");
    w.expect(Who::Pbx, "BYE");
    // The target's answer crosses the CANCEL.
    w.send(Who::Pbx, &answer(Who::Pbx, &theirs));
    w.expect(Who::Pbx, "ACK");
    let bye = w.expect(Who::Pbx, "BYE");
    assert_eq!(bye.get("call-id"), theirs.get("call-id"));
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    w.expect_clean();
}

#[test]
fn a_refer_that_cannot_be_carried_out_gets_its_status() {
    let mut w = World::with(|config| {
        terminates(config);
        config.routes[0].prefix = "1".into();
    });
    let mut up = w.call();
    for (to, status) in [
        ("<sip:2002@pbx>", "404"),
        ("<sip:pbx>", "484"),
        ("<sip:1002@pbx;method=BYE>", "403"),
        ("<sip:1002@pbx>, <sip:1003@pbx>", "400"),
        ("<sip:1002@pbx?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>", "403"),
        ("nonsense", "400"),
    ] {
        refer(&mut w, &mut up.callee, to);
        w.expect(Who::Pbx, status);
    }
    let none = up.callee.request(&mut w, "REFER");
    w.send(Who::Pbx, &none);
    w.expect(Who::Pbx, "400");
    w.expect_silence(Who::Pbx);
    w.expect_silence(Who::Carrier);
    // One at a time.
    refer(&mut w, &mut up.callee, "<sip:1002@pbx>");
    w.expect(Who::Pbx, "202");
    told(&mut w, Who::Pbx, 100, false);
    w.expect(Who::Pbx, "INVITE");
    refer(&mut w, &mut up.caller, "<sip:1002@pbx>");
    w.expect(Who::Carrier, "491");
}

#[test]
fn a_customer_side_transfer_stays_on_its_trunk() {
    let mut w = World::with(|config| {
        terminates(config);
        let mut other = config.trunks[0].clone();
        other.name = "unguarded".into();
        other.guard = GuardMode::Off;
        config.trunks[0].guard = GuardMode::Always;
        config.trunks.push(other);
        config.routes[1].to = vec![tonewall::config::TrunkId(2)];
    });
    let mut up = w.call();
    refer(&mut w, &mut up.caller, "<sip:+493055@carrier>");
    w.expect(Who::Carrier, "503");
    w.expect_silence(Who::Carrier);
    assert!(w.masked());

    let mut w = World::with(terminates);
    let mut up = w.call();
    let theirs = begins(&mut w, &mut up.caller, "<sip:+493055@carrier>");
    let body = sdp(Who::Carrier, 1, BOTH, "sendrecv").replace("6000", "6600");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "new").with_body("application/sdp", body));
    w.expect(Who::Carrier, "ACK");
    told(&mut w, Who::Carrier, 200, true);
    w.expect(Who::Carrier, "BYE");
    agree(&mut w, Who::Pbx);
    assert_eq!(transferred(&w), [(Leg::Customer, "+493055".to_owned())]);
    let mut new = Line::called(Who::Carrier, &theirs, "new");
    w.hang_up(&mut new, Who::Pbx);
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
}

#[test]
fn the_one_who_stays_is_told_again_after_glare_and_taken_off_hold() {
    let mut w = World::with(terminates);
    let mut up = w.call();
    // The agent holds the customer, then transfers.
    let hold = up.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Pbx, &hold);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let held =
        reply(Who::Carrier, &theirs, 200, "").with_body("application/sdp", sdp(Who::Carrier, 2, BOTH, "recvonly"));
    w.send(Who::Carrier, &held);
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx>");
    assert!(text(&theirs).contains("a=sendrecv"));
    w.send(Who::Pbx, &answer(Who::Pbx, &theirs));
    w.expect(Who::Pbx, "ACK");
    let again = w.expect(Who::Carrier, "INVITE");
    assert!(text(&again).contains("a=sendrecv"));
    w.send(Who::Carrier, &reply(Who::Carrier, &again, 491, ""));
    w.expect(Who::Carrier, "ACK");
    w.expect_silence(Who::Carrier);
    w.advance(5 * SEC);
    let again = w.expect(Who::Carrier, "INVITE");
    w.inbox.clear();
    w.send(
        Who::Carrier,
        &reply(Who::Carrier, &again, 200, "").with_body("application/sdp", sdp(Who::Carrier, 3, "8 101", "sendrecv")),
    );
    w.expect(Who::Carrier, "ACK");
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
}

/// A Replaces for the dialog of `line`, as we see it: our tag first.
pub fn replaces(line: &Line) -> String {
    let (ours, theirs) = (tag(&line.remote).expect("our tag"), tag(&line.local).expect("its tag"));
    format!("{};to-tag={ours};from-tag={theirs}", line.call_id)
}

pub fn allows_replaces(config: &mut Config) {
    config.trunks[1].methods.replaces = true;
}

#[test]
fn r12_an_invite_that_replaces_a_ghost_or_another_trunks_dialog_is_refused() {
    let mut w = World::with(allows_replaces);
    let up = w.call();
    let ask = |w: &mut World, who: Who, value: &str| {
        let mut line = Line::new(w, who, "1001");
        let invite = line.offer(w, "INVITE", &sdp(who, 1, BOTH, "sendrecv")).with("Replaces", value);
        w.send(who, &invite);
        w.next_for(who).and_then(|m| m.status()).expect("a status")
    };
    let good = replaces(&up.callee);
    assert_eq!(ask(&mut w, Who::Pbx, "ghost;to-tag=1;from-tag=2"), 481);
    assert_eq!(ask(&mut w, Who::Pbx, &good.replace("from-tag=", "from-tag=x")), 481);
    assert_eq!(ask(&mut w, Who::Pbx, &format!("x{good}")), 481);
    assert_eq!(ask(&mut w, Who::Pbx, &replaces(&up.caller)), 481, "the carrier's dialog is not the PBX's to take");
    assert_eq!(ask(&mut w, Who::Pbx, &format!("{good};early-only")), 486);
    assert_eq!(ask(&mut w, Who::Pbx, "nonsense"), 400);
    assert_eq!(ask(&mut w, Who::Carrier, &good), 403, "off on that trunk");
    assert_eq!(w.engine.calls(), 1);
    let mut w = World::new();
    let up = w.call();
    assert_eq!(ask(&mut w, Who::Pbx, &replaces(&up.callee)), 403, "off by default");
}

#[test]
fn r12_an_invite_that_replaces_the_agents_dialog_inherits_the_guard() {
    let mut w = World::with(allows_replaces);
    let mut up = w.call();
    let call = w.view().id;
    let kinds = vec![HoldKind::Mask, HoldKind::Pause];
    w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() }).expect("holds");
    let before: Vec<_> = w.view().holds.iter().map(|hold| hold.id).collect();
    let mut second = Line::new(&mut w, Who::Pbx, "1001");
    let body = sdp(Who::Standby, 1, "8 101", "sendrecv");
    let invite = second.offer(&mut w, "INVITE", &body).with("Replaces", replaces(&up.callee));
    w.send(Who::Pbx, &invite.with("Require", "replaces"));
    let ok = w.expect(Who::Pbx, "200");
    assert!(text(&ok).contains("PCMA"));
    let bye = w.expect(Who::Pbx, "BYE");
    assert_eq!(bye.get("call-id"), Some(up.callee.call_id.as_str()));
    w.send(Who::Pbx, &reply(Who::Pbx, &bye, 200, ""));
    second.follow(&ok);
    let ack = second.ack(&mut w);
    w.send(Who::Pbx, &ack);
    w.advance(SEC / 100);
    agree(&mut w, Who::Carrier);
    assert!(w.masked());
    assert_eq!(w.view().holds.iter().map(|hold| hold.id).collect::<Vec<_>>(), before);
    assert_eq!(w.session().legs[1].remote_rtp, Some("10.1.0.21:7000".parse().expect("address")));
    // The dialog that was replaced is no more.
    let old = up.callee.request(&mut w, "INFO");
    w.send(Who::Pbx, &old);
    w.expect(Who::Pbx, "481");
    w.hang_up(&mut second, Who::Carrier);
    w.expect_clean();
}

#[test]
fn a_refer_may_name_a_dialog_inside_the_pbx_where_the_trunk_says_so() {
    let mut w = World::with(|config| {
        terminates(config);
        allows_replaces(config);
    });
    let mut up = w.call();
    refer(&mut w, &mut up.callee, "<sip:1002@pbx?Replaces=a%40b%3Bto-tag%3D1%0D%0AX-Evil%3A%201%3Bfrom-tag%3D2>");
    w.expect(Who::Pbx, "400");
    let theirs = begins(&mut w, &mut up.callee, "<sip:1002@pbx?Subject=x&Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>");
    assert_eq!(theirs.get("replaces"), Some("a@b;to-tag=1;from-tag=2"));
    assert_eq!(theirs.get("subject"), None);
}

#[test]
fn a_refer_is_passed_on_and_its_progress_comes_back() {
    let mut w = World::with(|config| config.trunks[1].methods.refer = Refer::Pass);
    let mut up = w.call();
    refer(&mut w, &mut up.callee, "<sip:+493066@secret.inside;x=y>");
    let passed = w.expect(Who::Carrier, "REFER");
    assert_eq!(uri(passed.get("refer-to").expect("Refer-To")), "sip:+493066@192.0.2.10:5060");
    w.send(Who::Carrier, &reply(Who::Carrier, &passed, 202, ""));
    w.expect(Who::Pbx, "202");
    for (status, state) in [(180, "active;expires=60"), (200, "terminated;reason=noresource")] {
        let notify = up.caller.request(&mut w, "NOTIFY").with("Event", "refer").with("Subscription-State", state);
        let body = format!("SIP/2.0 {status} Secret Words\r\nVia: hidden\r\n");
        w.send(Who::Carrier, &notify.with_body("message/sipfrag;version=2.0", body));
        w.expect(Who::Carrier, "200");
        let notify = told(&mut w, Who::Pbx, status, status == 200);
        assert!(!text(&notify).contains("Secret") && !text(&notify).contains("hidden"));
    }
    let late = up.caller.request(&mut w, "NOTIFY").with("Event", "refer").with("Subscription-State", "active");
    w.send(Who::Carrier, &late.with_body("message/sipfrag", "SIP/2.0 200 OK\r\n"));
    w.expect(Who::Carrier, "481");
    // Refused there is refused here.
    refer(&mut w, &mut up.callee, "<sip:+493066@x>");
    let passed = w.expect(Who::Carrier, "REFER");
    w.send(Who::Carrier, &reply(Who::Carrier, &passed, 603, ""));
    w.expect(Who::Pbx, "603");
    // Not while something is to be kept from the agent.
    let call = w.view().id;
    let kinds = vec![HoldKind::Mask];
    w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() }).expect("a hold");
    refer(&mut w, &mut up.callee, "<sip:+493066@x>");
    w.expect(Who::Pbx, "403");
    w.expect_silence(Who::Carrier);
    w.hang_up(&mut up.callee, Who::Carrier);
    w.expect_clean();
}

#[test]
fn transfer_is_announced_where_it_is_allowed() {
    let mut w = World::with(|config| {
        terminates(config);
        allows_replaces(config);
    });
    let mut d = w.dial();
    assert!(d.theirs.get("allow").is_some_and(|allow| allow.contains("REFER, NOTIFY")));
    assert!(d.theirs.get("supported").is_some_and(|supported| supported.contains("replaces")));
    w.send(Who::Pbx, &d.described(200, "t", BOTH));
    assert!(d.connect(&mut w).get("allow").is_some_and(|allow| allow.contains("REFER")));
    let mut w = World::new();
    let d = w.dial();
    assert!(!d.theirs.get("allow").is_some_and(|allow| allow.contains("REFER")));
}
