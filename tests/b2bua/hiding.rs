//! What one side learns of the other: numbers and names, nothing else.

use tonewall::call::{Find, Reply, Signal};

use crate::harness::*;

/// No byte sequence of one side's own making may stand in what the other side got.
fn expect_hidden(w: &World) {
    let carrier = String::from_utf8_lossy(&w.wire[&Who::Carrier]).into_owned();
    let pbx = String::from_utf8_lossy(&w.wire[&Who::Pbx]).into_owned();
    for secret in ["callid-", "tag-Carrier", "192.0.2.", "Agent-of-Carrier", "phone-Carrier", "z9hG4bK-Carrier"] {
        assert!(!pbx.contains(secret), "the PBX saw {secret}");
    }
    for secret in ["callee-", "10.1.0.", "10.0.0.1", "Server-of-Pbx", "Agent-of-Pbx", "phone-Pbx", "contact-Pbx"] {
        assert!(!carrier.contains(secret), "the carrier saw {secret}");
    }
    for told in [&carrier, &pbx] {
        for secret in ["Secret Name", "candidate", "4711"] {
            assert!(!told.contains(secret), "{secret} crossed");
        }
    }
    assert!(!pbx.contains("203.0.113.1:5060"), "the PBX saw our carrier side");
}

#[test]
fn no_byte_of_one_legs_call_id_tags_addresses_or_sdp_is_seen_on_the_other() {
    let mut w = World::new();
    let mut up = w.call();
    for direction in ["sendonly", "sendrecv"] {
        let request = up.caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 2, "8 101", direction));
        w.send(Who::Carrier, &request);
        let theirs = w.expect(Who::Pbx, "INVITE");
        let ok = reply(Who::Pbx, &theirs, 200, "").with_body("application/sdp", sdp(Who::Pbx, 2, "8 101", "sendrecv"));
        w.send(Who::Pbx, &ok);
        w.expect(Who::Pbx, "ACK");
        w.expect(Who::Carrier, "200");
        let ack = up.caller.ack(&mut w);
        w.send(Who::Carrier, &ack);
    }
    let info = up.callee.request(&mut w, "INFO").with_body("application/dtmf-relay", "Signal=1\r\nDuration=100\r\n");
    w.send(Who::Pbx, &info);
    w.expect(Who::Pbx, "200");
    let passed = w.expect(Who::Carrier, "INFO");
    w.send(Who::Carrier, &reply(Who::Carrier, &passed, 200, ""));
    w.hang_up(&mut up.caller, Who::Pbx);
    // A refused call as well.
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    let refusal = reply(Who::Pbx, &theirs, 486, "callee-x").with("Warning", "399 10.1.0.20 \"busy\"");
    w.send(Who::Pbx, &refusal.with("Reason", "Q.850;cause=17;text=\"at 10.1.0.20\""));
    let busy = w.expect(Who::Carrier, "486");
    assert_eq!(busy.get("reason"), Some("Q.850;cause=17"));
    expect_hidden(&w);
}

#[test]
fn caller_and_called_numbers_cross_and_max_forwards_counts_down() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert_eq!(theirs.start, "INVITE sip:1001@10.1.0.20:5060 SIP/2.0");
    assert_eq!(theirs.get("max-forwards"), Some("69"));
    let from = theirs.get("from").expect("From");
    assert!(from.starts_with("\"Caller 1\" <sip:+49301@10.0.0.1:5060>;tag="), "{from}");
    assert_eq!(theirs.all("via").count(), 1);
    assert!(
        theirs
            .get("via")
            .is_some_and(|via| via.starts_with("SIP/2.0/UDP 10.0.0.1:5060;") && via.contains("branch=z9hG4bK"))
    );
    assert_eq!(theirs.get("contact"), Some("<sip:10.0.0.1:5060>"));
    assert_eq!(theirs.get("user-agent"), Some("test-node"));
    assert_eq!(theirs.get("supported"), Some("100rel, timer"));
}

#[test]
fn only_listed_headers_cross_and_never_those_that_are_ours() {
    let listed = ["X-Call-Ref", "P-Asserted-Identity", "Diversion", "Route", "Contact", "Require", "Content-Length"];
    let mut w = World::with(|config| {
        config.trunks[0].pass_headers = listed.map(str::to_owned).to_vec();
        config.trunks[0].call_header = Some("x-call-ref".into());
    });
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller
        .offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"))
        .with("X-Call-Ref", "ticket 42")
        .with("X-Secret", "not listed")
        .with("P-Asserted-Identity", "\"Ann\" <sip:+4930555@192.0.2.10>, <tel:+4930555>")
        .with("Diversion", "<sip:+49301@example.net>;reason=unconditional")
        .with("Route", "<sip:192.0.2.66;lr>");
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert_eq!(theirs.get("x-call-ref"), Some("ticket 42"));
    assert!(theirs.get("x-secret").is_none() && theirs.get("route").is_none());
    let identities: Vec<_> = theirs.all("p-asserted-identity").collect();
    assert_eq!(identities, ["\"Ann\" <sip:+4930555@10.0.0.1>", "<tel:+4930555>"]);
    assert_eq!(theirs.all("contact").count(), 1);
    assert_eq!(theirs.all("content-length").count(), 1);
    let find = Find { reference: Some("ticket 42".into()), ..Find::default() };
    assert!(matches!(w.signal(Signal::Find { find, limit: 5 }), Ok(Reply::Calls(calls)) if calls.len() == 1));
}

#[test]
fn a_call_is_found_by_each_of_its_names() {
    let mut w = World::new();
    let up = w.call();
    let found = |w: &mut World, find: Find| match w.signal(Signal::Find { find, limit: 5 }) {
        Ok(Reply::Calls(calls)) => calls.len(),
        other => panic!("{other:?}"),
    };
    let by = Find::default;
    assert_eq!(found(&mut w, Find { sip_call_id: Some(up.caller.call_id.clone()), ..by() }), 1);
    assert_eq!(found(&mut w, Find { sip_call_id: Some(up.callee.call_id.clone()), ..by() }), 1);
    assert_eq!(found(&mut w, Find { agent: Some("1001".into()), ..by() }), 1);
    assert_eq!(found(&mut w, Find { caller: Some("+49301".into()), ..by() }), 1);
    assert_eq!(found(&mut w, Find { caller: Some("1001".into()), ..by() }), 0);
    assert_eq!(found(&mut w, Find { agent: Some("1001".into()), caller: Some("x".into()), ..by() }), 0);
}

#[test]
fn an_injected_header_never_appears_on_the_other_leg() {
    let mut w = World::with(|config| config.trunks[0].pass_headers = vec!["X-Call-Ref".into()]);
    let injections: [&[u8]; 6] = [
        b"X-Call-Ref: a\rX-Evil: 1",
        b"X-Call-Ref: a\nX-Evil: 1",
        b"X-Call-Ref: a\0X-Evil: 1",
        b"X-Call-Ref : a\r\nX-Evil : 1",
        b"Content-Length : 0\r\nX-Evil: 1",
        b"X-Call-Ref: %0d%0aX-Evil: 1",
    ];
    for injected in injections {
        let mut caller = Line::new(&mut w, Who::Carrier, "1001");
        let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        let bytes = invite.print();
        let at = bytes.windows(12).position(|w| w == b"Max-Forwards").expect("a header");
        let crafted = [&bytes[..at], injected, b"\r\n", &bytes[at..]].concat();
        w.send_bytes(Who::Carrier, &crafted);
        while let Some(message) = w.next_for(Who::Pbx) {
            assert!(message.get("x-evil").is_none(), "{}", message.start);
        }
        w.inbox.clear();
    }
    let pbx = w.wire.get(&Who::Pbx).cloned().unwrap_or_default();
    let evil = pbx.windows(8).filter(|bytes| bytes.eq_ignore_ascii_case(b"\r\nx-evil")).count();
    assert_eq!(evil, 0);
    assert!(!pbx.contains(&0));
}

#[test]
fn an_escaped_user_crosses_as_it_was_written() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001%0d%0aX-Evil%3a%201");
    let invite = caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert_eq!(theirs.start, "INVITE sip:1001%0d%0aX-Evil%3a%201@10.1.0.20:5060 SIP/2.0");
}

#[test]
fn neither_request_uri_nor_route_nor_maddr_nor_contact_chooses_where_we_send() {
    let mut w = World::new();
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let mut invite =
        caller.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv")).with("Route", "<sip:198.51.100.66;lr>");
    invite.start = "INVITE sip:1001@198.51.100.66;maddr=198.51.100.67 SIP/2.0".into();
    for (name, value) in &mut invite.headers {
        if name == "Contact" {
            *value = "<sip:x@198.51.100.66:9>".into();
        }
    }
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert_eq!(theirs.start, "INVITE sip:1001@10.1.0.20:5060 SIP/2.0");
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    let ok = w.expect(Who::Carrier, "200");
    caller.follow(&ok);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    w.expect(Who::Pbx, "ACK");
    let mut callee = Line::called(Who::Pbx, &theirs, "t");
    // The BYE goes back to where the caller was heard (the harness fails on any other destination).
    w.hang_up(&mut callee, Who::Carrier);
    w.expect_clean();
}
