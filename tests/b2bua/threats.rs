//! The threats of the design that SIP brings, each by its number: what is refused, what never crosses, what is dropped.
//! R12 and R25 stand with transfers and changes too.

use tonewall::base::ids::Leg;
use tonewall::call::Signal;
use tonewall::config::{Challenge, Config, DigestAlgorithm, Login, Secret};
use tonewall::obs::event::HoldKind;
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

fn invite(w: &mut World) -> Message {
    Line::new(w, Who::Carrier, "1001").offer(w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

#[test]
fn r8_a_space_or_control_before_the_colon_injects_nothing() {
    for bad in ["X-Evil : 1", "X-Evil\x0b: 1", "Content-Length : 0", "Subject\0: x", "Via\x1f: x"] {
        let mut w = World::new();
        let text = String::from_utf8(invite(&mut w).print()).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        w.send_bytes(Who::Carrier, format!("{head}\r\n{bad}\r\n\r\n{body}").as_bytes());
        let crossed = w.wire.remove(&Who::Pbx).unwrap_or_default();
        let crossed = String::from_utf8_lossy(&crossed).into_owned();
        assert!(!crossed.contains("X-Evil") && !crossed.contains("Subject"), "{bad:?}: {crossed}");
        assert!(!crossed.contains("Content-Length: 0"), "{bad:?}: {crossed}");
        w.inbox.clear();
        w.call();
    }
}

#[test]
fn r9_cr_lf_and_nul_in_any_header_add_no_line_to_the_other_leg() {
    let names = ["From", "To", "Contact", "Subject", "User-to-User", "Call-ID", "Allow", "Supported", "Diversion"];
    for name in names {
        for evil in ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\0X-Evil: 1", "%0D%0AX-Evil:%201"] {
            let mut w = World::with(|config| {
                config.trunks[0].pass_headers = vec!["User-to-User".into(), "Diversion".into(), "Subject".into()];
            });
            let mut message = invite(&mut w);
            match message.headers.iter_mut().find(|(known, _)| known == name) {
                Some((_, value)) => value.push_str(evil),
                None => message.headers.push((name.into(), format!("x{evil}"))),
            }
            w.send(Who::Carrier, &message);
            let crossed = w.wire.remove(&Who::Pbx).unwrap_or_default();
            let crossed = String::from_utf8_lossy(&crossed).into_owned();
            assert!(!crossed.lines().any(|line| line.starts_with("X-Evil")), "{name} {evil:?}: {crossed}");
            assert!(!crossed.contains(['\0', '\x0b']) && !crossed.replace("\r\n", "").contains(['\r', '\n']));
        }
    }
}

#[test]
fn r11_requests_outside_a_dialog_leave_nothing_behind() {
    let mut w = World::new();
    for (method, status) in [
        ("REGISTER", "405"),
        ("MESSAGE", "405"),
        ("PUBLISH", "405"),
        ("SUBSCRIBE", "489"),
        ("NOTIFY", "481"),
        ("REFER", "403"),
        ("UPDATE", "481"),
        ("PRACK", "481"),
        ("INFO", "481"),
        ("BYE", "481"),
    ] {
        let request = Line::new(&mut w, Who::Carrier, "1001").request(&mut w, method);
        w.send(Who::Carrier, &request.with("Refer-To", "<sip:1002@pbx>"));
        w.expect(Who::Carrier, status);
        assert_eq!(w.engine.transactions(), 0, "{method}");
    }
    w.expect_silence(Who::Pbx);
    w.expect_clean();
}

#[test]
fn r12_a_call_cannot_be_taken_over_or_joined() {
    let mut w = World::new();
    w.call();
    for header in ["Replaces", "Join"] {
        let message = invite(&mut w).with(header, "ghost;to-tag=1;from-tag=2");
        w.send(Who::Carrier, &message);
        w.expect(Who::Carrier, "403");
    }
    w.expect_silence(Who::Pbx);
    assert_eq!(w.engine.calls(), 1);
}

#[test]
fn r16_no_part_of_a_message_chooses_where_we_send() {
    let mut w = World::new();
    let mut message = invite(&mut w)
        .with("Route", "<sip:198.51.100.66;lr>")
        .with("Record-Route", "<sip:198.51.100.66;lr>")
        .with("Path", "<sip:198.51.100.66>");
    message.start = "INVITE sip:1001@198.51.100.66;maddr=198.51.100.67;transport=tcp SIP/2.0".into();
    for (name, value) in &mut message.headers {
        if name == "Contact" {
            *value = "<sip:x@198.51.100.68:7777;maddr=198.51.100.69>".into();
        }
    }
    // The harness fails on anything sent to an address it does not know.
    w.send(Who::Carrier, &message);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert!(theirs.start.starts_with("INVITE sip:1001@10.1.0.20:5060 "), "{}", theirs.start);
    assert_eq!((theirs.get("route"), theirs.get("record-route")), (None, None));
    let ok = reply(Who::Pbx, &theirs, 200, "t").with_body("application/sdp", sdp(Who::Pbx, 1, BOTH, "sendrecv"));
    w.send(Who::Pbx, &ok);
    w.advance(35 * SEC);
    assert!(w.inbox[&Who::Carrier].iter().any(|m| m.method() == Some("BYE")));
}

#[test]
fn r17_answers_go_to_the_packets_source_whatever_via_claims() {
    let mut w = World::new();
    for via in [
        "SIP/2.0/UDP 198.51.100.66:9;branch=z9hG4bKa;rport",
        "SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKb;maddr=255.255.255.255;rport=1",
        "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKc;received=198.51.100.1;rport=9999",
    ] {
        let mut message = Line::new(&mut w, Who::Carrier, "1001").request(&mut w, "OPTIONS");
        for (name, value) in &mut message.headers {
            if name == "Via" {
                *value = via.into();
            }
        }
        w.send(Who::Carrier, &message);
        w.expect(Who::Carrier, "200");
        assert_eq!(w.dests[&Who::Carrier].remote, Who::Carrier.at(), "{via}");
    }
}

/// Whatever is renegotiated while something is masked, the mask stays and no key is told.
#[test]
fn r25_no_renegotiation_during_a_mask_lifts_it() {
    let mut w = World::new();
    let mut up = w.call();
    let call = w.view().id;
    let kinds = vec![HoldKind::Mask, HoldKind::Pause];
    w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() }).expect("holds");
    let mut version = 2;
    for (formats, direction) in [(BOTH, "sendonly"), ("8 101", "sendrecv"), ("0", "inactive"), (BOTH, "sendrecv")] {
        for method in ["INVITE", "UPDATE"] {
            for by_caller in [true, false] {
                version += 1;
                let (line, other) = match by_caller {
                    true => (&mut up.caller, Who::Pbx),
                    false => (&mut up.callee, Who::Carrier),
                };
                let request = line.offer(&mut w, method, &sdp(line.who, version, formats, direction));
                let who = line.who;
                w.send(who, &request);
                assert!(w.masked());
                let theirs = w.next_for(other).filter(|m| m.method() == Some(method)).expect("it crosses");
                let agreed = sdp(other, version, formats, "sendrecv");
                w.send(other, &reply(other, &theirs, 200, "").with_body("application/sdp", agreed));
                assert!(w.masked());
                w.expect(who, "200");
                if method == "INVITE" {
                    w.expect(other, "ACK");
                    let line = if by_caller { &mut up.caller } else { &mut up.callee };
                    let ack = line.ack(&mut w);
                    w.send(who, &ack);
                }
                w.press(Leg::Customer, "4");
                assert!(w.masked() && w.view().holds.len() == 2);
            }
        }
    }
    assert!(w.ledger.sent_digits.is_empty());
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn r30_stray_responses_of_every_class_are_dropped() {
    let mut w = World::new();
    let up = w.call();
    w.inbox.clear();
    for status in [100, 180, 183, 200, 202, 301, 401, 407, 422, 491, 503, 603] {
        for method in ["INVITE", "PRACK", "UPDATE", "REFER", "NOTIFY", "BYE", "ACK"] {
            let stray = Message::new(format!("SIP/2.0 {status} Whatever"))
                .with("Via", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKtw00000000000000010000000000000001")
                .with("From", up.caller.remote.clone())
                .with("To", up.caller.local.clone())
                .with("Call-ID", up.caller.call_id.clone())
                .with("Require", "100rel")
                .with("RSeq", "1")
                .with("CSeq", format!("1 {method}"));
            w.send(Who::Carrier, &stray);
        }
    }
    w.expect_silence(Who::Carrier);
    w.expect_silence(Who::Pbx);
    assert_eq!((w.engine.calls(), w.ended()), (1, vec![]));
    assert_eq!(w.view().state, tonewall::call::CallState::Answered);
}

/// As short as a request can be and still be answered.
fn shortest(method: &str, n: usize) -> String {
    format!(
        "{method} sip:1@h SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bK{n}\r\nf:<sip:a@b>;tag=1\r\nt:<sip:1@h>\r\n\
         i:{n}\r\nCSeq:1 {method}\r\nMax-Forwards:9\r\n\r\n"
    )
}

#[test]
fn r27_no_answer_to_an_unproved_request_is_much_larger_than_it() {
    let challenge = |config: &mut Config| {
        let login = Login {
            user: "carrier".into(),
            secret: Secret::new("s".to_owned()),
            realm: "a-realm-of-some-length.tonewall.example".into(),
        };
        let algorithms = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
        config.trunks[0].link.challenge = Some(Challenge { login, algorithms });
    };
    let none = |_: &mut Config| ();
    let nobody = |config: &mut Config| config.routes.clear();
    let elsewhere = |config: &mut Config| config.routes.iter_mut().for_each(|route| route.prefix = "9".into());
    let full = |config: &mut Config| config.node.max_calls = 0;
    /// What it is called, how the configuration differs, and the statuses that are right.
    type Setting<'a> = (&'a str, &'a dyn Fn(&mut Config), &'a [u16]);
    let worlds: [Setting<'_>; 5] = [
        ("challenged", &challenge, &[401]),
        ("open", &none, &[400, 405, 481, 403, 489, 501, 483, 420, 416, 200]),
        ("without a route", &nobody, &[403]),
        ("without that number", &elsewhere, &[404]),
        ("full", &full, &[503]),
    ];
    let methods = ["INVITE", "OPTIONS", "BYE", "REGISTER", "SUBSCRIBE", "REFER", "MESSAGE", "CANCEL", "PRACK", "ODD"];
    let mut worst = (0.0, String::new());
    for (kind, change, wanted) in worlds {
        let mut w = World::with(|config| change(config));
        let mut seen = std::collections::BTreeSet::new();
        let mut n = 0;
        for method in methods {
            let plain = shortest(method, n);
            for request in [
                plain.clone(),
                plain.replace("\r\n\r\n", "\r\nc:application/sdp\r\nm:<sip:a@b>\r\nl:3\r\n\r\nv=0"),
                plain.replace("Max-Forwards:9", "Max-Forwards:0"),
                plain.replace("\r\n\r\n", "\r\nRequire:x\r\n\r\n"),
                plain.replace("sip:1@h SIP", "http://h SIP"),
                plain.replace("CSeq:1", "CSeq:x"),
                plain.replace("<sip:1@h>", "<sip:1@h>;tag=2"),
            ] {
                n += 1;
                let request =
                    request.replace("z9hG4bK", &format!("z9hG4bK{n}x")).replace("\r\ni:", &format!("\r\ni:{n}x"));
                w.wire.clear();
                w.send_bytes(Who::Carrier, request.as_bytes());
                let back = w.wire.remove(&Who::Carrier).unwrap_or_default();
                let ratio = back.len() as f64 / request.len() as f64;
                // All that comes back at once: a 100 counts too.
                let text = String::from_utf8_lossy(&back).into_owned();
                assert!(ratio <= 3.0, "{kind}: {ratio:.2} times {request}: {text}");
                let status = text.lines().rev().find_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok());
                seen.extend(status.filter(|status: &u16| *status >= 200));
                if ratio > worst.0 {
                    worst = (ratio, text);
                }
                w.inbox.clear();
            }
        }
        for status in wanted {
            assert!(seen.contains(status), "{kind}: no {status} among {seen:?}");
        }
    }
    println!("at most {:.2} times the request: {}", worst.0, worst.1.lines().next().unwrap_or_default());
}
