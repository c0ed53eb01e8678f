//! What crosses by a trunk's lists and rules: headers, numbers, INFO and MESSAGE, redirections.

use tonewall::base::ids::Leg;
use tonewall::call::Signal;
use tonewall::config::{GuardMode, HeaderAction, HeaderRule, Numbers, Redirect, Rewrite, Route};
use tonewall::obs::event::{EndCause, HoldKind};
use tonewall::testkit::simple_sip::{Message, uri};

use crate::harness::*;

fn offers(invite: Message) -> Message {
    invite.with_body("application/sdp", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

fn passes(names: &[&str]) -> World {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    World::with(|config| {
        for trunk in &mut config.trunks {
            trunk.pass_headers.clone_from(&names);
        }
    })
}

#[test]
fn listed_headers_cross_in_both_directions_with_our_host_in_them() {
    let mut w =
        passes(&["Diversion", "History-Info", "Privacy", "P-Asserted-Identity", "User-to-User", "Reason", "X-Ref"]);
    let mut d = w.dial_with(|invite| {
        offers(invite)
            .with(
                "Diversion",
                "\"Secret\" <sip:+4930@inside.example:5099;x=y>;reason=user-busy;counter=1;evil=\"<sip:z@inside>\"",
            )
            .with("Diversion", "<tel:+49-40>;reason=unconditional")
            .with(
                "History-Info",
                "<sip:100@inside.example?Reason=SIP>;index=1, <sip:200@inside.example>;index=1.1;rc=1",
            )
            .with("Privacy", "id;critical")
            .with("P-Asserted-Identity", "\"A\" <sip:+4917@inside.example>")
            .with("User-to-User", "56a390f3d2b7310023a2;encoding=hex")
            .with("Reason", "Q.850;cause=16")
            .with("X-Ref", "one")
            .with("X-Other", "two")
    });
    let all = |m: &Message, name: &str| m.all(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        all(&d.theirs, "diversion"),
        ["<sip:+4930@10.0.0.1>;reason=user-busy;counter=1", "<sip:+4940@10.0.0.1>;reason=unconditional"]
    );
    assert_eq!(all(&d.theirs, "history-info"), ["<sip:100@10.0.0.1>;index=1", "<sip:200@10.0.0.1>;index=1.1;rc=1"]);
    assert_eq!(d.theirs.get("privacy"), Some("id;critical"));
    assert_eq!(d.theirs.get("p-asserted-identity"), Some("\"A\" <sip:+4917@10.0.0.1>"));
    assert_eq!((d.theirs.get("x-ref"), d.theirs.get("x-other")), (Some("one"), None));
    assert!(!String::from_utf8_lossy(&d.theirs.print()).contains("inside"));
    let named = |status: u16| {
        d.described(status, "t", BOTH)
            .with("P-Asserted-Identity", "<sip:1001@pbx.secret>")
            .with("X-Ref", "back")
            .with("X-Other", "no")
    };
    for (status, answer) in [(183, named(183)), (200, named(200))] {
        w.send(Who::Pbx, &answer);
        let ours = w.expect(Who::Carrier, &status.to_string());
        assert_eq!(ours.get("p-asserted-identity"), Some("<sip:1001@203.0.113.1>"));
        assert_eq!((ours.get("x-ref"), ours.get("x-other")), (Some("back"), None));
        d.caller.follow(&ours);
    }
    let ack = d.caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    w.expect(Who::Pbx, "ACK");
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn header_rules_of_the_trunk_write_what_goes_out() {
    let rule = |name: &str, action| HeaderRule { name: name.into(), action };
    let rewrite = |pattern: &str, template: &str| Rewrite::new(pattern, template, false).expect("good");
    let mut w = World::with(|config| {
        config.trunks[0].pass_headers = vec!["P-Asserted-Identity".into(), "X-Gone".into()];
        config.trunks[1].methods.headers = vec![
            rule("X-Site", HeaderAction::Set("berlin".into())),
            rule("X-Gone", HeaderAction::Remove),
            rule(
                "X-Did",
                HeaderAction::Copy {
                    from: "Request-URI".into(),
                    by: Some(rewrite("sip:(?<did>[^@]+)@", "did=${did}")),
                },
            ),
            rule("P-Asserted-Identity", HeaderAction::Rewrite(rewrite(r"sip:\+49(?<n>[0-9]+)@", "sip:0${n}@"))),
        ];
    });
    let d = w.dial_with(|invite| offers(invite).with("P-Asserted-Identity", "<sip:+4917@a>").with("X-Gone", "x"));
    assert_eq!((d.theirs.get("x-site"), d.theirs.get("x-gone")), (Some("berlin"), None));
    assert_eq!(d.theirs.get("x-did"), Some("did=1001"));
    assert_eq!(d.theirs.get("p-asserted-identity"), Some("<sip:017@10.0.0.1>"));
}

#[test]
fn routes_translate_called_and_calling_numbers() {
    let rewrite = |pattern: &str, template: &str| Rewrite::new(pattern, template, true).ok();
    let world = || {
        World::with(|config| {
            let route = |numbers| Route { numbers, ..config.routes[0].clone() };
            let outside = Numbers {
                called: rewrite("00(?<n>[0-9]+)", "+${n}"),
                caller: rewrite(r"\+49(?<n>[0-9]+)", "0${n}"),
                ..Numbers::default()
            };
            let bad = Numbers { called: rewrite("9.*", "a b"), ..Numbers::default() };
            let short = Numbers { strip: 1, add: "55".into(), ..Numbers::default() };
            config.routes.splice(0..1, [route(outside), route(bad), route(short)]);
        })
    };
    for (called, gets, caller) in [("004930", "+4930", "030"), ("100", "5500", "+4930")] {
        let mut w = world();
        let mut line = Line::new(&mut w, Who::Carrier, called);
        line.local = "<sip:+4930@192.0.2.10>;tag=x".into();
        let invite = offers(line.request(&mut w, "INVITE"));
        w.send(Who::Carrier, &invite);
        let theirs = w.expect(Who::Pbx, "INVITE");
        assert!(theirs.start.starts_with(&format!("INVITE sip:{gets}@")), "{}", theirs.start);
        assert!(uri(theirs.get("to").expect("To")).starts_with(&format!("sip:{gets}@")));
        assert!(uri(theirs.get("from").expect("From")).starts_with(&format!("sip:{caller}@")));
        assert_eq!(w.view().called, called);
    }
    let mut w = world();
    let mut line = Line::new(&mut w, Who::Carrier, "911");
    let invite = offers(line.request(&mut w, "INVITE"));
    w.send(Who::Carrier, &invite);
    w.expect(Who::Carrier, "484");
    w.expect_clean();
}

#[test]
fn tel_uris_are_taken_and_written() {
    let mut w = World::with(|config| config.trunks[1].methods.tel_uris = true);
    let mut line = Line::new(&mut w, Who::Carrier, "x");
    line.local = "\"A\" <tel:+49-30-(1)>;tag=x".into();
    let mut invite = offers(line.request(&mut w, "INVITE"));
    invite.start = "INVITE tel:+1-201-555.0123;phone-context=x.example SIP/2.0".into();
    w.send(Who::Carrier, &invite);
    let theirs = w.expect(Who::Pbx, "INVITE");
    assert_eq!(theirs.start, "INVITE tel:+12015550123 SIP/2.0");
    assert_eq!(uri(theirs.get("to").expect("To")), "tel:+12015550123");
    assert_eq!(uri(theirs.get("from").expect("From")), "tel:+49301");
    let mut w = World::with(|config| config.trunks[1].methods.tel_uris = true);
    assert_eq!(w.dial().theirs.start, "INVITE tel:1001;phone-context=10.0.0.1 SIP/2.0");
    let mut w = World::new();
    let mut line = Line::new(&mut w, Who::Carrier, "x");
    let mut invite = offers(line.request(&mut w, "INVITE"));
    invite.start = "INVITE tel:+1-201 SIP/2.0".into();
    w.send(Who::Carrier, &invite);
    assert!(w.expect(Who::Pbx, "INVITE").start.starts_with("INVITE sip:+1201@10.1.0.20:5060"));
}

#[test]
fn a_redirection_is_refused_followed_by_our_routes_or_passed_as_a_number() {
    let moved = |d: &Dialling, to: &str| {
        let mut moved = d.reply(302, "t");
        moved.headers.retain(|(name, _)| name != "Contact");
        moved.with("Contact", to)
    };
    let policy = |redirect| {
        World::with(move |config| {
            config.trunks[1].methods.redirect = redirect;
            config.routes[0].prefix = "1".into();
        })
    };
    let mut w = policy(Redirect::Refuse);
    let d = w.dial();
    w.send(Who::Pbx, &moved(&d, "<sip:1002@198.51.100.66>"));
    w.expect(Who::Carrier, "480");

    let mut w = policy(Redirect::Follow);
    let mut d = w.dial();
    // The first has no route; the second does, and its host counts for nothing.
    w.send(Who::Pbx, &moved(&d, "<sip:9@x>, <sip:1002@198.51.100.66:9;maddr=198.51.100.67>"));
    w.expect(Who::Pbx, "ACK");
    d.theirs = w.expect(Who::Pbx, "INVITE");
    assert!(d.theirs.start.starts_with("INVITE sip:1002@10.1.0.20:5060"), "{}", d.theirs.start);
    w.send(Who::Pbx, &d.described(200, "u", BOTH));
    d.connect(&mut w);
    w.expect(Who::Pbx, "ACK");
    w.hang_up(&mut d.caller, Who::Pbx);
    w.expect_clean();

    // Not for ever.
    let mut w = policy(Redirect::Follow);
    let mut d = w.dial();
    for _ in 0..5 {
        w.send(Who::Pbx, &moved(&d, "<sip:1002@x>"));
        w.expect(Who::Pbx, "ACK");
        d.theirs = w.expect(Who::Pbx, "INVITE");
    }
    w.send(Who::Pbx, &moved(&d, "<sip:1002@x>"));
    w.expect(Who::Pbx, "ACK");
    w.expect(Who::Carrier, "480");
    assert_eq!(w.ended(), [(EndCause::Rejected, Some(480))]);

    let mut w = policy(Redirect::Pass);
    let d = w.dial();
    w.send(Who::Pbx, &moved(&d, "\"Secret\" <sip:1002@inside.example;x=y>;q=0.5"));
    let ours = w.expect(Who::Carrier, "302");
    assert_eq!(ours.get("contact"), Some("<sip:1002@203.0.113.1:5060>"));
}

fn relays(config: &mut tonewall::config::Config) {
    for trunk in &mut config.trunks {
        trunk.methods.pass_info = vec!["application/vnd.test+xml".into()];
        trunk.methods.pass_message = vec!["text/plain".into()];
    }
}

#[test]
fn listed_info_and_message_cross_and_their_answers_come_back() {
    let mut w = World::with(relays);
    let mut up = w.call();
    for (method, kind, sent, answer, gets) in [
        ("INFO", "application/vnd.test+xml", "application/vnd.test+xml", 200, "200"),
        ("MESSAGE", "Text/Plain;charset=UTF-8;x=\"y\"", "text/plain;charset=UTF-8", 202, "200"),
        ("MESSAGE", "text/plain", "text/plain", 603, "603"),
        ("MESSAGE", "text/plain", "text/plain", 415, "415"),
    ] {
        let request = up.caller.request(&mut w, method).with_body(kind, "hello\r\n");
        w.send(Who::Carrier, &request);
        w.expect_silence(Who::Carrier);
        let ours = w.expect(Who::Pbx, method);
        assert_eq!((ours.get("content-type"), text(&ours).as_str()), (Some(sent), "hello\r\n"));
        w.send(Who::Pbx, &reply(Who::Pbx, &ours, answer, ""));
        w.expect(Who::Carrier, gets);
    }
    // What is not listed stays here; keys are never a matter of lists.
    for (method, kind, gets) in
        [("INFO", "text/plain", "415"), ("MESSAGE", "text/html", "415"), ("MESSAGE", "x", "400")]
    {
        let request = up.callee.request(&mut w, method).with_body(kind, "x");
        w.send(Who::Pbx, &request);
        w.expect(Who::Pbx, gets);
    }
    let big = up.callee.request(&mut w, "MESSAGE").with_body("text/plain", "x".repeat(20_000));
    w.send(Who::Pbx, &big);
    w.expect(Who::Pbx, "413");
    w.expect_silence(Who::Carrier);
    // One that is never answered tells that the other side is gone, and one under way ends with the call.
    let request = up.caller.request(&mut w, "MESSAGE").with_body("text/plain", "x");
    w.send(Who::Carrier, &request);
    w.expect(Who::Pbx, "MESSAGE");
    let bye = up.callee.request(&mut w, "BYE");
    w.send(Who::Pbx, &bye);
    w.expect(Who::Pbx, "200");
    w.expect(Who::Carrier, "487");
    w.expect(Who::Carrier, "BYE");
    assert_eq!(w.ended(), [(EndCause::AgentHungUp, None)]);
    w.advance(64 * SEC);
    w.expect_clean();
}

#[test]
fn nothing_of_the_customers_is_relayed_while_the_call_is_masked() {
    let mut w = World::with(relays);
    let mut up = w.call();
    let call = w.view().id;
    let kinds = vec![HoldKind::Mask];
    w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() }).expect("a hold");
    for (method, kind) in [("INFO", "application/vnd.test+xml"), ("MESSAGE", "text/plain")] {
        let request = up.caller.request(&mut w, method).with_body(kind, "4242424242424242");
        w.send(Who::Carrier, &request);
        w.expect(Who::Carrier, "403");
    }
    w.expect_silence(Who::Pbx);
    // The agent may write.
    let request = up.callee.request(&mut w, "MESSAGE").with_body("text/plain", "go on");
    w.send(Who::Pbx, &request);
    w.expect(Who::Carrier, "MESSAGE");
    let mut w = World::with(|config| {
        relays(config);
        config.trunks[0].guard = GuardMode::Always;
    });
    let mut up = w.call();
    let request = up.caller.request(&mut w, "MESSAGE").with_body("text/plain", "1");
    w.send(Who::Carrier, &request);
    w.expect(Who::Carrier, "403");
    w.press(Leg::Customer, "1");
    assert!(w.masked());
}
