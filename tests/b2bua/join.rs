//! Attended transfer of two calls of ours: the agent speaks with a customer and with somebody else through us, and joins
//! the two. What was to be kept from anybody in either call is kept from everybody afterwards.

use tonewall::base::ids::Leg;
use tonewall::call::{CallView, CollectionRequest, Signal};
use tonewall::config::{Config, GuardMode, RecordingPolicy, Refer, Srtp};
use tonewall::media::{Guard, Security};
use tonewall::obs::event::{EndCause, EventKind, HoldKind};
use tonewall::testkit::simple_sip::{Message, tag};

use crate::harness::*;

pub fn allows(config: &mut Config) {
    config.trunks[1].methods.refer = Refer::Terminate;
    config.trunks[1].methods.replaces = true;
}

/// The customer's call, and the agent's consultation.
pub fn two_calls(w: &mut World) -> (Up, Up) {
    let asked = w.call();
    let consulted = w.call_from(Who::Pbx, Who::Carrier);
    assert_eq!(w.engine.calls(), 2);
    (asked, consulted)
}

/// The Replaces of a Refer-To for the dialog of `line`, as we see it.
fn naming(line: &Line) -> String {
    let (ours, theirs) = (tag(&line.remote).expect("our tag"), tag(&line.local).expect("its tag"));
    format!("{}%3Bto-tag%3D{ours}%3Bfrom-tag%3D{theirs}", line.call_id.replace('@', "%40"))
}

fn refers(w: &mut World, line: &mut Line, replaces: &str) {
    let refer = line.request(w, "REFER").with("Refer-To", format!("<sip:+493077@elsewhere?Replaces={replaces}>"));
    w.send(line.who, &refer);
}

fn agrees(w: &mut World, who: Who, port: u16) -> Message {
    let asked = w.expect(who, "INVITE");
    let body = sdp(who, 2, BOTH, "sendrecv").replace("6000", &port.to_string());
    w.send(who, &reply(who, &asked, 200, "").with_body("application/sdp", body));
    w.expect(who, "ACK");
    asked
}

/// The agent joins both calls; everybody agrees.
pub fn joined(w: &mut World, asked: &mut Up, consulted: &Up) {
    refers(w, &mut asked.callee, &naming(&consulted.caller));
    w.expect(Who::Pbx, "BYE");
    w.expect(Who::Pbx, "202");
    let notify = w.expect(Who::Pbx, "NOTIFY");
    assert!(text(&notify).starts_with("SIP/2.0 200 "));
    w.expect(Who::Pbx, "BYE");
    w.expect_silence(Who::Pbx);
    w.inbox.remove(&Who::Pbx);
    let far = agrees(w, Who::Carrier, 6_400);
    assert_eq!(far.get("call-id"), Some(consulted.callee.call_id.as_str()), "the far party first");
    assert!(text(&far).contains(&format!("m=audio {} ", w.session().ports[1])), "at its new place: {}", text(&far));
    assert!(text(&far).contains("a=sendrecv"));
    w.advance(SEC / 10);
    let customer = agrees(w, Who::Carrier, 6_000);
    assert_eq!(customer.get("call-id"), Some(asked.caller.call_id.as_str()));
    w.expect_silence(Who::Carrier);
}

fn hold(w: &mut World, view: &CallView, kinds: &[HoldKind]) {
    let take = Signal::TakeHolds {
        call: view.id,
        kinds: kinds.to_vec(),
        reason: "card".into(),
        ttl: Some(100 * SEC),
        actor: actor(),
    };
    w.signal(take).expect("holds");
}

#[test]
fn two_calls_of_an_agent_become_one_and_each_ends_once() {
    let mut w = World::with(allows);
    let (mut asked, mut consulted) = two_calls(&mut w);
    let first = w.views().remove(0);
    // The agent had the customer on hold meanwhile.
    let hold = asked.callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Pbx, &hold);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let held = sdp(Who::Carrier, 2, BOTH, "recvonly");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "").with_body("application/sdp", held));
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "200");
    let ack = asked.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    joined(&mut w, &mut asked, &consulted);
    let view = w.view();
    assert_eq!((view.id, w.engine.calls()), (first.id, 1));
    assert_eq!(view.sip_call_ids.agent.as_deref(), Some(consulted.callee.call_id.as_str()));
    assert_eq!(w.ended(), [(EndCause::Joined, None)]);
    let session = w.session();
    assert_eq!(session.legs[1].remote_rtp, Some("192.0.2.10:6400".parse().expect("address")));
    assert!(session.legs.iter().all(|leg| leg.send && leg.receive));
    assert_eq!(session.allowed[1], session.allowed[0], "the far party's networks are its trunk's");
    // Of the agent's dialogs nothing is left; the far party is in the call.
    for line in [&mut asked.callee, &mut consulted.caller] {
        let old = line.request(&mut w, "INFO");
        w.send(Who::Pbx, &old);
        w.expect(Who::Pbx, "481");
    }
    let bye = consulted.callee.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "200");
    let bye = w.expect(Who::Carrier, "BYE");
    assert_eq!(bye.get("call-id"), Some(asked.caller.call_id.as_str()));
    w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
    assert_eq!(w.ended().len(), 2);
    w.expect_clean();
}

#[test]
fn r12_a_joined_call_carries_the_holds_of_both_and_nobodys_keys_pass() {
    let mut w = World::with(|config| {
        allows(config);
        config.trunks[0].guard = GuardMode::Signal;
    });
    let (mut asked, consulted) = two_calls(&mut w);
    let views = w.views();
    hold(&mut w, &views[0], &[HoldKind::Pause]);
    hold(&mut w, &views[1], &[HoldKind::Mask, HoldKind::Pause]);
    let before: Vec<_> = w.views().iter().flat_map(|view| view.holds.clone()).map(|hold| hold.id).collect();
    assert!(!w.views()[0].masked);
    joined(&mut w, &mut asked, &consulted);
    let view = w.view();
    assert_eq!(view.holds.iter().map(|hold| hold.id).collect::<Vec<_>>(), before);
    assert!(view.masked && view.paused && w.masked());
    let told = w.events.iter().filter(|event| matches!(event, EventKind::HoldTaken { .. })).count();
    assert_eq!(told, 5, "two of them are told again, of the call they are in now");
    // Whoever keys: it goes nowhere, at once or later.
    assert!(matches!(w.session().toward_customer, Guard::Masked(_)));
    w.press(Leg::Customer, "4242");
    w.press(Leg::Agent, "4111");
    w.advance(5 * SEC);
    assert!(w.ledger.sent_digits.is_empty(), "{:?}", w.ledger.sent_digits);
    assert_eq!(w.view().keys_masked, 8);
    // The holder's deadline goes on where it was.
    w.advance(96 * SEC);
    assert!(w.view().holds.is_empty() && !w.masked());
    w.hang_up(&mut asked.caller, Who::Carrier);
    w.expect_clean();
}

#[test]
fn a_far_party_whose_trunk_is_guarded_always_stays_masked_toward_the_customer() {
    for guard in [GuardMode::Always, GuardMode::Auto] {
        let mut w = World::with(|config| {
            allows(config);
            config.trunks[0].guard = guard;
        });
        let (mut asked, consulted) = two_calls(&mut w);
        joined(&mut w, &mut asked, &consulted);
        let session = w.session();
        assert!([session.toward_agent, session.toward_customer].iter().all(|guard| matches!(guard, Guard::Masked(_))));
        w.press(Leg::Agent, "4111");
        w.advance(8 * SEC);
        assert!(w.ledger.sent_digits.is_empty());
        w.hang_up(&mut asked.caller, Who::Carrier);
        w.expect_clean();
    }
}

#[test]
fn r12_calls_that_may_not_be_joined_go_on_as_they_were() {
    let both_up = |w: &mut World| {
        assert_eq!((w.engine.calls(), w.ended().len()), (2, 0));
        assert!(w.ledger.sessions.values().all(|session| session.legs.iter().all(|leg| leg.send && leg.receive)));
    };
    let mut w = World::with(allows);
    let (mut asked, mut consulted) = two_calls(&mut w);
    let good = naming(&consulted.caller);
    for (replaces, status) in [
        (good.replace("from-tag%3D", "from-tag%3Dx"), "481"),
        (format!("x{good}"), "481"),
        (format!("{good}%3Bearly-only"), "486"),
        (naming(&asked.callee), "481"),
        // The carrier's dialogs are not the PBX's to move.
        (naming(&consulted.callee), "481"),
    ] {
        refers(&mut w, &mut asked.callee, &replaces);
        w.expect(Who::Pbx, status);
        both_up(&mut w);
    }
    // While something is being negotiated on either.
    let change = consulted.caller.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Pbx, &change);
    let theirs = w.expect(Who::Carrier, "INVITE");
    refers(&mut w, &mut asked.callee, &good);
    w.expect(Who::Pbx, "500");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 488, ""));
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "488");
    // While keys are collected on the one that would end.
    let (call, request) = (w.views()[1].id, CollectionRequest::of_length(4));
    w.signal(Signal::StartCollection { call, request, actor: actor() }).expect("a collection");
    refers(&mut w, &mut asked.callee, &good);
    w.expect(Who::Pbx, "403");
    both_up(&mut w);
    w.expect_silence(Who::Carrier);

    // Who is recorded by rule would not be; whose trunk has no transfer may not.
    for (change, status) in [
        ((|config: &mut Config| config.trunks[2].recording = RecordingPolicy::Required) as fn(&mut Config), "403"),
        (|config| config.trunks[1].methods.replaces = false, "403"),
        (|config| config.trunks[1].methods.refer = Refer::Refuse, "403"),
    ] {
        let mut w = World::with(|config| {
            allows(config);
            let mut other = config.trunks[0].clone();
            other.name = "other".into();
            config.trunks.push(other);
            config.routes[1].to = vec![tonewall::config::TrunkId(2)];
            change(config);
        });
        let (mut asked, consulted) = two_calls(&mut w);
        refers(&mut w, &mut asked.callee, &naming(&consulted.caller));
        w.expect(Who::Pbx, status);
        both_up(&mut w);
    }
}

#[test]
fn a_far_party_that_cannot_come_ends_the_joined_call_for_everybody() {
    for status in [488, 481, 408] {
        let mut w = World::with(allows);
        let (mut asked, consulted) = two_calls(&mut w);
        refers(&mut w, &mut asked.callee, &naming(&consulted.caller));
        w.inbox.remove(&Who::Pbx);
        let far = w.expect(Who::Carrier, "INVITE");
        w.send(Who::Carrier, &reply(Who::Carrier, &far, status, ""));
        w.expect(Who::Carrier, "ACK");
        let bye = w.expect(Who::Carrier, "BYE");
        w.send(Who::Carrier, &reply(Who::Carrier, &bye, 200, ""));
        assert_eq!(w.engine.calls(), 0);
        w.inbox.clear();
        w.advance(40 * SEC);
        w.expect_clean();
    }
}

#[test]
fn glare_at_the_new_place_is_tried_again() {
    let mut w = World::with(allows);
    let (mut asked, consulted) = two_calls(&mut w);
    refers(&mut w, &mut asked.callee, &naming(&consulted.caller));
    w.inbox.remove(&Who::Pbx);
    let far = w.expect(Who::Carrier, "INVITE");
    w.send(Who::Carrier, &reply(Who::Carrier, &far, 491, ""));
    // Meanwhile the customer is told; the ACK of the refusal may come before that or after.
    let inbox = w.inbox.get_mut(&Who::Carrier).expect("messages");
    let ack = inbox.iter().position(|message| message.method() == Some("ACK")).expect("an ACK");
    inbox.remove(ack);
    agrees(&mut w, Who::Carrier, 6_000);
    w.advance(5 * SEC);
    // Without what was sent again meanwhile.
    w.inbox.get_mut(&Who::Carrier).expect("messages").truncate(1);
    let again = agrees(&mut w, Who::Carrier, 6_400);
    assert_eq!(again.get("call-id"), far.get("call-id"));
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.hang_up(&mut asked.caller, Who::Carrier);
    w.expect_clean();
}

#[test]
fn an_encrypted_far_party_gets_a_key_of_its_new_place() {
    let mut w = World::with(|config| {
        allows(config);
        config.trunks[0].srtp = Srtp::Required;
    });
    let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let secure = |tag: u32| {
        let plain = sdp(Who::Carrier, 1, BOTH, "sendrecv").replace("RTP/AVP", "RTP/SAVP");
        format!("{plain}a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
    };
    let ours = |message: &Message| {
        let body = text(message);
        let line = body.lines().find(|line| line.starts_with("a=crypto:") && line.contains("AES_CM_128"));
        line.and_then(|line| line.split("inline:").nth(1)).expect("our key").to_owned()
    };
    // The customer's call.
    let mut dialling = w.dial_with(|invite| invite.with_body("application/sdp", secure(1)));
    w.send(Who::Pbx, &dialling.described(200, "agent", BOTH));
    w.expect(Who::Pbx, "ACK");
    dialling.connect(&mut w);
    let mut agent = Line::called(Who::Pbx, &dialling.theirs, "agent");
    // The consultation.
    let mut consulting = Line::new(&mut w, Who::Pbx, "+493077");
    let invite = consulting.offer(&mut w, "INVITE", &sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &invite);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let before = ours(&theirs);
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "far").with_body("application/sdp", secure(3)));
    w.expect(Who::Carrier, "ACK");
    let ok = w.expect(Who::Pbx, "200");
    consulting.follow(&ok);
    let ack = consulting.ack(&mut w);
    w.send(Who::Pbx, &ack);

    refers(&mut w, &mut agent, &naming(&consulting));
    let again = w.expect(Who::Carrier, "INVITE");
    assert!(text(&again).contains("RTP/SAVP"));
    let after = ours(&again);
    assert_ne!(before, after, "no key is used in two media sessions");
    let Security::Plain = w.session().legs[1].security else { panic!("keys before anything was agreed") };
    assert!(!w.session().legs[1].send && !w.session().legs[1].receive, "and nothing flows");
    let tag = text(&again).lines().find_map(|line| {
        let rest = line.strip_prefix("a=crypto:")?;
        rest.contains("AES_CM_128").then(|| rest.split(' ').next().and_then(|tag| tag.parse().ok()).expect("a tag"))
    });
    let answer = secure(tag.expect("a tag"));
    w.send(Who::Carrier, &reply(Who::Carrier, &again, 200, "").with_body("application/sdp", answer));
    w.expect(Who::Carrier, "ACK");
    let Security::Srtp(keys) = &w.session().legs[1].security else { panic!("the far party is not encrypted") };
    use base64::Engine as _;
    assert_eq!(keys.tx.expose(), base64::engine::general_purpose::STANDARD.decode(after).expect("base64"));
}
