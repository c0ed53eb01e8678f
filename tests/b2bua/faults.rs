//! What goes wrong between peers: timers without an answer, storms, loops, huge messages. No call is stuck, no leg is
//! half open, each call ends once.

use tonewall::obs::event::EndCause;

use crate::harness::*;

#[test]
fn an_invite_of_ours_that_comes_back_is_482() {
    let mut w = World::new();
    let d = w.dial();
    // The PBX's proxy sends it back to us.
    let mut back = d.theirs.clone();
    back.start = format!("INVITE sip:1001@{} SIP/2.0", OURS[1]);
    back.headers.retain(|(name, _)| !matches!(name.as_str(), "Via" | "Content-Length"));
    back.headers.insert(0, ("Via".into(), format!("SIP/2.0/UDP {};branch=z9hG4bKloop;rport", Who::Pbx.at())));
    w.send(Who::Pbx, &back);
    w.expect(Who::Pbx, "482");
    assert_eq!(w.engine.calls(), 1);
    // The same request by another way: merged (RFC 3261 section 8.2.2.2).
    let mut again = d.invite.clone();
    for (name, value) in &mut again.headers {
        if name == "Via" {
            value.push_str(";x=y");
            *value = value.replace("z9hG4bK", "z9hG4bKother");
        }
    }
    w.send(Who::Carrier, &again);
    w.expect(Who::Carrier, "482");
    // And one that has gone too far.
    let mut tired = d.invite.clone();
    for (name, value) in &mut tired.headers {
        match name.as_str() {
            "Max-Forwards" => *value = "0".into(),
            "Call-ID" => *value = "tired".into(),
            "Via" => *value = value.replace("z9hG4bK", "z9hG4bKtired"),
            _ => {}
        }
    }
    w.send(Who::Carrier, &tired);
    w.expect(Who::Carrier, "483");
    assert_eq!(w.engine.calls(), 1);
}

#[test]
fn a_refusal_that_is_never_acknowledged_is_forgotten_after_timer_h() {
    let mut w = World::new();
    let d = w.dial();
    w.send(Who::Pbx, &d.reply(486, "t"));
    w.expect(Who::Pbx, "ACK");
    w.expect(Who::Carrier, "486");
    w.advance(33 * SEC);
    let repeated = w.inbox[&Who::Carrier].iter().filter(|m| m.status() == Some(486)).count();
    assert!(repeated >= 8, "{repeated}");
    assert_eq!(w.ended(), [(EndCause::Rejected, Some(486))]);
    w.expect_clean();
}

#[test]
fn a_bye_that_is_never_answered_is_given_up_after_timer_f() {
    let mut w = World::new();
    let mut up = w.call();
    let bye = up.caller.request(&mut w, "BYE");
    w.send(Who::Carrier, &bye);
    w.expect(Who::Carrier, "200");
    w.advance(33 * SEC);
    let repeated = w.inbox[&Who::Pbx].iter().filter(|m| m.method() == Some("BYE")).count();
    assert!((8..=11).contains(&repeated), "{repeated}");
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    w.expect_clean();
}

#[test]
fn storms_of_every_message_of_a_call_change_nothing() {
    let mut w = World::new();
    let mut d = w.dial();
    let storm = |w: &mut World, who: Who, message: &tonewall::testkit::simple_sip::Message| {
        for _ in 0..1_000 {
            w.send(who, message);
        }
    };
    storm(&mut w, Who::Carrier, &d.invite.clone());
    let ringing = d.reply(180, "t");
    storm(&mut w, Who::Pbx, &ringing);
    w.inbox.clear();
    let ok = d.described(200, "t", BOTH);
    storm(&mut w, Who::Pbx, &ok);
    assert_eq!(w.engine.calls(), 1);
    let acks = w.inbox[&Who::Pbx].iter().filter(|m| m.method() == Some("ACK")).count();
    assert_eq!((acks, w.inbox[&Who::Pbx].len()), (1_000, 1_000), "each repeated 200 gets its ACK, and nothing else");
    let answer = w.inbox[&Who::Carrier].iter().find(|m| m.status() == Some(200)).cloned().expect("200");
    w.inbox.clear();
    d.caller.follow(&answer);
    let ack = d.caller.ack(&mut w);
    storm(&mut w, Who::Carrier, &ack);
    let bye = d.caller.request(&mut w, "BYE");
    storm(&mut w, Who::Carrier, &bye);
    assert_eq!(w.ended(), [(EndCause::CustomerHungUp, None)]);
    let ours = w.expect(Who::Pbx, "BYE");
    w.send(Who::Pbx, &reply(Who::Pbx, &ours, 200, ""));
    w.expect_clean();
}

#[test]
fn a_huge_header_or_body_is_answered_and_carries_nothing_across() {
    let big = "x".repeat(60_000);
    let mut w = World::with(|config| config.trunks[0].pass_headers = vec!["X-Big".into()]);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let message = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv")).with("Subject", big.clone());
    w.send(Who::Carrier, &message);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert!(theirs.print().len() < 2_000);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let body = sdp(Who::Carrier, 1, BOTH, "sendrecv") + &format!("a=x:{big}\r\n");
    let message = caller.offer(&mut w, "INVITE", &body);
    w.send(Who::Carrier, &message);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert!(theirs.print().len() < 2_000);
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let message = caller.request(&mut w, "INVITE").with_body("text/plain", big);
    w.send(Who::Carrier, &message);
    w.expect(Who::Carrier, "415");
}
