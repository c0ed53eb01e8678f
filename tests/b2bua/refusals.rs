//! What is not taken, and the status it gets.

use tonewall::config::{ListenerId, Route, TrunkId};
use tonewall::sip::Flow;
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

fn answer(w: &mut World, request: &Message) -> Message {
    w.send(Who::Carrier, request);
    w.expect_silence(Who::Pbx);
    loop {
        let message = w.next_for(Who::Carrier).expect("an answer");
        if message.status() != Some(100) {
            return message;
        }
    }
}

fn invite(w: &mut World) -> Message {
    Line::new(w, Who::Carrier, "1001").offer(w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

fn with_header(mut message: Message, name: &str, value: &str) -> Message {
    message.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    message.with(name, value)
}

#[test]
fn an_unknown_source_hears_nothing_and_costs_nothing() {
    let mut w = World::new();
    let request = invite(&mut w).print();
    for (remote, listener) in [("198.51.100.1:5060", 0), ("192.0.2.10:5060", 1), ("10.1.0.20:5060", 0)] {
        let flow = Flow {
            remote: remote.parse().expect("address"),
            listener: ListenerId(listener),
            ..World::flow(Who::Carrier)
        };
        w.engine.handle_datagram(w.now, &flow, &request);
        w.engine.handle_datagram(w.now, &flow, b"REGISTER sip:x SIP/2.0\r\n\r\n");
        w.engine.handle_datagram(w.now, &flow, &[0xff; 300]);
        assert!(w.engine.poll_transmit().is_none());
        assert!(w.engine.poll_event().is_none());
        assert_eq!((w.engine.calls(), w.engine.transactions()), (0, 0));
        assert_eq!(w.engine.poll_timeout(), None);
    }
    assert_eq!(w.engine.dropped(), 9);
}

#[test]
fn methods_outside_a_dialog_get_their_status() {
    let mut w = World::new();
    for (method, status) in [
        ("OPTIONS", 200),
        ("REGISTER", 405),
        ("PUBLISH", 405),
        ("MESSAGE", 405),
        ("REFER", 403),
        ("SUBSCRIBE", 489),
        ("NOTIFY", 481),
        ("BYE", 481),
        ("INFO", 481),
        ("UPDATE", 481),
        ("PRACK", 481),
        ("FROBNICATE", 501),
    ] {
        let mut line = Line::new(&mut w, Who::Carrier, "1001");
        let request = line.request(&mut w, method);
        let answer = answer(&mut w, &request);
        assert_eq!(answer.status(), Some(status), "{method}");
        if matches!(status, 405 | 200) {
            assert!(answer.get("allow").is_some_and(|allow| allow.contains("INVITE")), "{method}");
        }
        let (asked, got) = (request.print().len(), answer.print().len());
        assert!(got <= 3 * asked, "{method}: {got} bytes for {asked}");
    }
    assert_eq!(w.engine.calls(), 0);
    w.expect_clean();
}

#[test]
fn an_invite_that_cannot_be_taken_gets_its_status() {
    let mut w = World::with(|config| config.routes[0].prefix = "1".into());
    let body = sdp(Who::Carrier, 1, BOTH, "sendrecv");
    type Change = Box<dyn Fn(Message) -> Message>;
    let header = |name: &'static str, value: &'static str| -> Change { Box::new(move |m| with_header(m, name, value)) };
    let uri = |uri: &'static str| -> Change {
        Box::new(move |mut m| {
            m.start = format!("INVITE {uri} SIP/2.0");
            m
        })
    };
    let sdp = |from: &'static str, to: &'static str| -> Change {
        let body = body.clone();
        Box::new(move |mut m| {
            m.body = body.replace(from, to).into_bytes();
            m
        })
    };
    let cases: Vec<(u16, Change)> = vec![
        (483, header("Max-Forwards", "0")),
        (420, header("Require", "precondition")),
        (420, header("Proxy-Require", "sec-agree")),
        (416, uri("sips:1001@203.0.113.1")),
        (416, uri("mailto:1001@203.0.113.1")),
        (404, uri("sip:2001@203.0.113.1")),
        (484, uri("sip:203.0.113.1")),
        (403, header("Replaces", "x;to-tag=1;from-tag=2")),
        (415, header("Content-Type", "text/plain")),
        (415, header("Content-Encoding", "gzip")),
        (400, sdp("v=0", "v=x")),
        (488, sdp("RTP/AVP", "RTP/SAVP")),
        (488, sdp("0 8 101", "18")),
        (488, sdp("192.0.2.10", "198.51.100.1")),
        (488, sdp("192.0.2.10", "224.0.0.1")),
        (488, sdp("192.0.2.10", "127.0.0.1")),
        (488, sdp("m=audio 6000", "m=audio 80")),
    ];
    for (status, change) in cases {
        let request = change(invite(&mut w));
        let got = answer(&mut w, &request);
        assert_eq!(got.status(), Some(status), "{}", String::from_utf8_lossy(&request.print()));
        match status {
            420 => assert!(got.get("unsupported").is_some()),
            415 => assert_eq!(got.get("accept"), Some("application/sdp")),
            488 | 400 => assert!(got.get("warning").is_some()),
            _ => {}
        }
    }
    assert!(w.ledger.ended.is_empty() && w.ledger.sessions.is_empty(), "no media was made");
    assert!(w.events.is_empty());
    w.expect_clean();
}

#[test]
fn a_trunk_without_a_route_may_not_call() {
    let mut w = World::with(|config| config.routes = vec![]);
    let request = invite(&mut w);
    assert_eq!(answer(&mut w, &request).status(), Some(403));
}

#[test]
fn the_first_route_whose_prefix_matches_is_taken() {
    let mut w = World::with(|config| {
        let mut standby = config.trunks[1].clone();
        standby.remotes = vec![Who::Standby.at()];
        config.trunks.push(standby);
        let special = Route {
            from: TrunkId(0),
            prefix: "100".into(),
            to: vec![TrunkId(2)],
            numbers: tonewall::config::Numbers::default(),
        };
        config.routes.insert(0, special);
    });
    let request = invite(&mut w);
    w.send(Who::Carrier, &request);
    w.expect(Who::Standby, "INVITE");
    w.expect_silence(Who::Pbx);
}

#[test]
fn limits_give_503_with_retry_after_and_no_half_open_call() {
    for limit in ["node", "from", "to", "ports"] {
        let mut w = World::with(|config| match limit {
            "node" => config.node.max_calls = 2,
            "from" => config.trunks[0].max_calls = 2,
            "to" => config.trunks[1].max_calls = 2,
            _ => config.media.ports = (30_000, 30_007),
        });
        let mut first = w.call();
        w.call();
        let request = invite(&mut w);
        let refused = answer(&mut w, &request);
        assert_eq!(refused.status(), Some(503), "{limit}");
        assert!(refused.get("retry-after").is_some(), "{limit}");
        assert_eq!(w.engine.calls(), 2, "{limit}");
        w.hang_up(&mut first.caller, Who::Pbx);
        if limit == "ports" {
            let request = invite(&mut w);
            assert_eq!(answer(&mut w, &request).status(), Some(503), "its ports rest");
        }
        w.advance(3 * SEC);
        w.inbox.clear();
        w.call();
        assert_eq!(w.engine.calls(), 2, "{limit}");
    }
}

#[test]
fn twenty_ports_serve_ten_calls_and_refuse_twenty() {
    // Each call takes a pair per leg: ports 30000–30039 are twenty pairs.
    let mut w = World::with(|config| config.media.ports = (30_000, 30_039));
    let mut up = vec![];
    let mut refused = 0;
    for _ in 0..30 {
        let mut line = Line::new(&mut w, Who::Carrier, "1001");
        let request = line.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        w.send(Who::Carrier, &request);
        match w.next_for(Who::Pbx) {
            Some(theirs) => up.push((line, request, theirs)),
            None => refused += 1,
        }
    }
    assert_eq!((up.len(), refused), (10, 20));
    for (_, _, theirs) in &up {
        w.send(Who::Pbx, &reply(Who::Pbx, theirs, 486, "t"));
    }
    w.expect_clean();
}

#[test]
fn stray_responses_are_dropped_without_a_trace() {
    let mut w = World::new();
    for status in [100, 180, 200, 302, 401, 486, 500, 603] {
        let ghost = Message::new(format!("SIP/2.0 {status} Ghost"))
            .with("Via", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKghost")
            .with("From", "<sip:a@b>;tag=1")
            .with("To", "<sip:c@d>;tag=2")
            .with("Call-ID", "ghost")
            .with("CSeq", "1 INVITE");
        w.send(Who::Carrier, &ghost);
    }
    assert!(w.inbox.is_empty() && w.events.is_empty());
    w.expect_clean();
}

#[test]
fn a_stray_401_gets_no_credentials() {
    let mut w = World::new();
    let request = invite(&mut w);
    w.send(Who::Carrier, &request);
    let theirs = w.expect(Who::Pbx, "INVITE");
    let challenge = reply(Who::Pbx, &theirs, 407, "t")
        .with("Proxy-Authenticate", "Digest realm=\"evil\", nonce=\"1\", algorithm=MD5");
    w.send(Who::Pbx, &challenge);
    w.expect(Who::Pbx, "ACK");
    w.expect_silence(Who::Pbx);
    let refused = w.expect(Who::Carrier, "403");
    assert!(refused.get("proxy-authenticate").is_none());
}
