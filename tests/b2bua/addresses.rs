//! Where SDP may not point media (threats R15): whatever a peer names, in an offer, an answer or a change, RTP and RTCP
//! go into its trunk's media networks and never to a group, a service, a neighbour on the link or ourselves.

use std::net::SocketAddr;

use tonewall::config::Network;
use tonewall::media::LegMedia;
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

/// Each kind of forbidden connection, as it replaces `IN IP4 <the peer's>`, and the port.
const FORBIDDEN: &[(&str, &str, u16)] = &[
    ("multicast", "IN IP4 224.2.1.1", 6_000),
    ("multicast with a scope", "IN IP4 224.2.1.1/127", 6_000),
    ("IPv6 multicast", "IN IP6 ff15::101", 6_000),
    ("limited broadcast", "IN IP4 255.255.255.255", 6_000),
    ("directed broadcast", "IN IP4 192.0.2.255", 6_000),
    ("loopback", "IN IP4 127.0.0.1", 6_000),
    ("IPv6 loopback", "IN IP6 ::1", 6_000),
    ("mapped loopback", "IN IP6 ::ffff:127.0.0.1", 6_000),
    ("link-local: a cloud's metadata", "IN IP4 169.254.169.254", 6_000),
    ("IPv6 link-local", "IN IP6 fe80::1", 6_000),
    ("this network", "IN IP4 0.0.0.7", 6_000),
    ("reserved", "IN IP4 240.0.0.1", 6_000),
    ("our media address", "IN IP4 203.0.113.9", 30_000),
    ("our SIP address", "IN IP4 203.0.113.1", 5_060),
    ("our address toward the PBX", "IN IP4 10.0.0.1", 6_000),
    ("the other side's network", "IN IP4 10.1.0.20", 6_000),
    ("another network", "IN IP4 198.51.100.1", 6_000),
    ("another family", "IN IP6 2001:db8::1", 6_000),
    ("a service's port", "IN IP4 192.0.2.10", 53),
    ("port 1023", "IN IP4 192.0.2.10", 1_023),
    ("a name", "IN IP4 media.example.com", 6_000),
    ("nonsense", "IN IP4 192.0.2.999", 6_000),
    ("a number in another notation", "IN IP4 0x7f000001", 6_000),
];

/// The carrier's body with another connection.
fn pointing(connection: &str, port: u16) -> String {
    let body = sdp(Who::Carrier, 1, BOTH, "sendrecv");
    let (c, ours) = ("c=IN IP4 192.0.2.10", "m=audio 6000");
    assert!(body.contains(c) && body.contains(ours));
    body.replace(c, &format!("c={connection}")).replace(ours, &format!("m=audio {port}"))
}

/// The carrier's body with RTCP elsewhere.
fn reporting(connection: &str, port: u16) -> String {
    format!("{}a=rtcp:{port} {connection}\r\n", sdp(Who::Carrier, 1, BOTH, "sendrecv"))
}

fn targets(legs: &[LegMedia; 2]) -> Vec<SocketAddr> {
    legs.iter().flat_map(|leg| [leg.remote_rtp, leg.remote_rtcp]).flatten().collect()
}

fn answer(w: &mut World, body: &str) -> Message {
    let mut line = Line::new(w, Who::Carrier, "1001");
    let request = line.offer(w, "INVITE", body);
    w.send(Who::Carrier, &request);
    w.expect(Who::Carrier, "488")
}

#[test]
fn r15_an_offer_that_points_media_where_it_must_not_go_is_refused() {
    let mut w = World::new();
    for (kind, connection, port) in FORBIDDEN {
        for body in [pointing(connection, *port), reporting(connection, *port)] {
            // RTCP in a notation that cannot be read counts as not named.
            if body.contains("a=rtcp:") && (kind.contains("nonsense") || kind.contains("scope")) {
                continue;
            }
            let refused = answer(&mut w, &body);
            assert!(refused.get("warning").is_some(), "{kind}");
            w.expect_silence(Who::Pbx);
        }
    }
    assert!(w.ledger.sessions.is_empty() && w.ledger.ended.is_empty(), "no media session was ever made");
    w.expect_clean();
}

#[test]
fn r15_an_answer_that_points_media_where_it_must_not_go_ends_the_call() {
    for (kind, connection, port) in FORBIDDEN {
        // The PBX is the peer here: its own network is the carrier's forbidden one.
        let (connection, port) = match *kind {
            "the other side's network" => ("IN IP4 192.0.2.10", 6_000),
            "directed broadcast" => ("IN IP4 10.1.255.255", 6_000),
            "a service's port" | "port 1023" => ("IN IP4 10.1.0.20", *port),
            _ => (*connection, *port),
        };
        let mut w = World::new();
        let mut line = Line::new(&mut w, Who::Carrier, "1001");
        let request = line.offer(&mut w, "INVITE", &sdp(Who::Carrier, 1, BOTH, "sendrecv"));
        w.send(Who::Carrier, &request);
        let theirs = w.expect(Who::Pbx, "INVITE");
        let body = sdp(Who::Pbx, 1, BOTH, "sendrecv")
            .replace("c=IN IP4 10.1.0.20", &format!("c={connection}"))
            .replace("m=audio 7000", &format!("m=audio {port}"));
        for status in [183, 200] {
            let reply = reply(Who::Pbx, &theirs, status, "pbx").with_body("application/sdp", body.clone());
            w.send(Who::Pbx, &reply);
            for session in w.ledger.sessions.values() {
                assert_eq!(session.legs[1].remote_rtp, None, "{kind} {status}");
            }
        }
        assert!(w.ledger.sessions.is_empty(), "{kind}");
        for (_, session) in &w.ledger.ended {
            assert!(targets(&session.legs).iter().all(|at| at.ip().to_string() == "192.0.2.10"), "{kind}");
        }
    }
}

#[test]
fn r15_a_change_that_points_media_where_it_must_not_go_changes_nothing() {
    let mut w = World::new();
    let mut up = w.call();
    let before = w.session().legs.clone();
    for (kind, connection, port) in FORBIDDEN {
        for method in ["INVITE", "UPDATE"] {
            let request = up.caller.offer(&mut w, method, &pointing(connection, *port));
            w.send(Who::Carrier, &request);
            w.expect(Who::Carrier, "488");
            w.expect_silence(Who::Pbx);
            assert_eq!(w.session().legs, before, "{kind} {method}");
        }
    }
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

/// A carrier whose media may be on IPv6 too.
fn on_both_families() -> World {
    World::with(|config| {
        let ipv6 = Network { address: "2001:db8::".parse().expect("ip"), prefix: 32 };
        config.trunks[0].media.push(ipv6);
    })
}

/// The carrier calls with `body`, the PBX takes it; the lines of our answer that say where media is.
fn answered(w: &mut World, body: &str) -> Vec<String> {
    let mut dialling = w.dial_with(|invite| invite.with_body("application/sdp", body));
    assert!(!text(&dialling.theirs).contains("2001:db8"), "no address of the carrier's crosses");
    w.send(Who::Pbx, &dialling.described(200, "pbx", "0"));
    w.expect(Who::Pbx, "ACK");
    let ok = dialling.connect(w);
    text(&ok).lines().filter(|line| line.starts_with("c=") || line.starts_with("m=")).map(str::to_owned).collect()
}

#[test]
fn rfc_5118_4_6_a_description_with_ipv6_addresses_is_media_on_ipv6() {
    let mut w = on_both_families();
    let body = "v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Meeting\r\nc=IN IP6 2001:db8::20\r\n\
                t=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 0 2\r\na=rtpmap:2 G726-32/8000\r\n\
                m=video 6024 RTP/AVP 107\r\na=rtpmap:107 H263-1998/90000\r\n";
    let lines = answered(&mut w, body);
    assert!(lines[1].starts_with("m=audio 3") && lines[2].starts_with("m=video 0 "), "{lines:?}");
    let leg = &w.session().legs[0];
    assert_eq!(leg.remote_rtp, "[2001:db8::20]:6000".parse().ok());
    assert_eq!(leg.remote_rtcp, "[2001:db8::20]:6001".parse().ok());
}

#[test]
fn rfc_5118_4_8_each_stream_has_the_address_of_its_own_family() {
    let head = "v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=-\r\nt=0 0\r\n";
    let (six, four) = ("c=IN IP6 2001:db8::2\r\n", "c=IN IP4 192.0.2.10\r\n");
    let stream = |kind: &str, port: u16, at: &str| format!("m={kind} {port} RTP/AVP 0\r\n{at}");
    for (body, at) in [
        (format!("{head}{}{}", stream("audio", 6_050, six), stream("video", 6_024, four)), "[2001:db8::2]:6050"),
        (format!("{head}{}{}", stream("video", 6_024, six), stream("audio", 6_050, four)), "192.0.2.10:6050"),
        // What a stream says of itself goes before what the session says.
        (format!("{head}{four}{}{}", stream("audio", 6_050, six), stream("video", 6_024, "")), "[2001:db8::2]:6050"),
        (format!("{head}{six}{}{}", stream("video", 6_024, six), stream("audio", 6_050, four)), "192.0.2.10:6050"),
    ] {
        let mut w = on_both_families();
        let lines = answered(&mut w, &body);
        assert!(lines.iter().any(|line| line.starts_with("m=video 0 ")), "{lines:?}");
        assert_eq!(w.session().legs[0].remote_rtp, at.parse().ok(), "{body}");
    }
}

#[test]
fn r15_a_call_that_goes_out_on_another_trunk_has_that_trunks_networks() {
    let mut w = World::with(|config| {
        let mut second = config.trunks[1].clone();
        second.name = "second".into();
        second.remotes = vec![Who::Standby.at()];
        second.media = vec![Network { address: "10.9.0.0".parse().expect("ip"), prefix: 16 }];
        config.trunks.push(second);
        config.routes[0].to.push(tonewall::config::TrunkId(2));
    });
    let mut dialling = w.dial();
    let first = w.session().allowed[1].clone();
    w.send(Who::Pbx, &dialling.reply(503, "full"));
    w.expect(Who::Pbx, "ACK");
    let theirs = w.expect(Who::Standby, "INVITE");
    assert_ne!(w.session().allowed[1], first);
    let body = sdp(Who::Standby, 1, "0", "sendrecv").replace("10.1.0.21", "10.9.0.21");
    w.send(Who::Standby, &reply(Who::Standby, &theirs, 200, "second").with_body("application/sdp", body));
    w.expect(Who::Standby, "ACK");
    dialling.connect(&mut w);
    let leg = w.session().legs[1].remote_rtp.expect("an address");
    assert!(w.session().allowed[1].iter().any(|network| network.contains(leg.ip())), "media may go where it is sent");
    w.hang_up(&mut dialling.caller, Who::Standby);
    w.expect_clean();
}
