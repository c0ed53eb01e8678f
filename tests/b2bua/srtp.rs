//! Encrypted media through the engine: what each trunk's `srtp` makes of offers and answers on either leg, which keys the
//! media room gets, and that no key crosses to the other leg or into anything printed.

use tonewall::base::ids::Leg;
use tonewall::config::{Srtp, SrtpKeying, SrtpSuite};
use tonewall::media::{LegMedia, Security};
use tonewall::srtp::{Identity, Role};
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

const CM: &str = "AES_CM_128_HMAC_SHA1_80";

/// A key of 30 bytes in base64, told apart by its first letter.
fn key(letter: char) -> String {
    format!("{letter}{}", "RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj0".get(..39).expect("text"))
}

fn crypto(tag: u32, suite: &str, key: &str) -> String {
    format!("a=crypto:{tag} {suite} inline:{key}\r\n")
}

fn with(policies: [Srtp; 2]) -> World {
    World::with(|config| {
        for (trunk, srtp) in config.trunks.iter_mut().zip(policies) {
            trunk.srtp = srtp;
        }
    })
}

/// `body` as `profile`, with key lines at its end.
fn secure(body: &str, profile: &str, lines: &str) -> String {
    body.replace("RTP/AVP", profile) + lines
}

/// The carrier calls with `body`.
fn calls(w: &mut World, body: &str) -> Line {
    let mut line = Line::new(w, Who::Carrier, "1001");
    let request = line.offer(w, "INVITE", body);
    w.send(Who::Carrier, &request);
    line
}

/// The PBX answers `invite`.
fn answers(w: &mut World, invite: &Message, body: &str) {
    w.send(Who::Pbx, &reply(Who::Pbx, invite, 200, "pbx").with_body("application/sdp", body));
}

fn plain(who: Who, version: u32) -> String {
    sdp(who, version, BOTH, "sendrecv")
}

/// The key lines of a body: tag, suite, key.
fn lines(message: &Message) -> Vec<(u32, String, String)> {
    let body = String::from_utf8(message.body.clone()).expect("text");
    let lines = body.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
    let fields = lines.map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    fields
        .map(|f| (f[0].parse().expect("a tag"), f[1].clone(), f[2].strip_prefix("inline:").expect("a key").to_owned()))
        .collect()
}

fn profile(message: &Message) -> String {
    let body = String::from_utf8(message.body.clone()).expect("text");
    body.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("audio").split(' ').nth(1).expect("one").into()
}

fn media(w: &World, leg: Leg) -> LegMedia {
    w.ledger.sessions.values().next().expect("a session").legs[leg.index()].clone()
}

fn suite_of(media: &LegMedia) -> Option<SrtpSuite> {
    match &media.security {
        Security::Plain | Security::Dtls(_) => None,
        Security::Srtp(keys) => Some(keys.suite),
    }
}

fn decoded(key: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(key).expect("base64")
}

/// The keys the media room holds are the peer's line and ours, exactly.
fn assert_keys(w: &World, leg: Leg, theirs: &str, ours: &str) {
    let Security::Srtp(keys) = media(w, leg).security else { panic!("{leg:?} is not encrypted") };
    assert_eq!(keys.rx.expose(), decoded(theirs), "{leg:?} theirs");
    assert_eq!(keys.tx.expose(), decoded(ours), "{leg:?} ours");
}

fn assert_no_key_crossed(w: &World) {
    let seen = |who: Who| String::from_utf8_lossy(&w.wire[&who]).into_owned();
    assert!(!seen(Who::Pbx).contains(&key('A')[..38]), "the carrier's key reached the PBX");
    assert!(!seen(Who::Carrier).contains(&key('B')[..38]), "the PBX's key reached the carrier");
    let printed = format!("{:?}", w.events);
    assert!(!printed.contains("inline") && !printed.contains(&key('A')[1..20]), "{printed}");
}

#[test]
fn a_secure_carrier_and_a_plain_pbx_are_joined() {
    for (srtp, offered) in [(Srtp::Required, "RTP/SAVP"), (Srtp::Optional, "RTP/SAVP"), (Srtp::Optional, "RTP/AVP")] {
        let mut w = with([srtp, Srtp::Off]);
        let many = crypto(1, "F8_128_HMAC_SHA1_80", &key('C')) + &crypto(7, CM, &key('A'));
        let body = secure(&plain(Who::Carrier, 1), offered, &many);
        calls(&mut w, &body);
        let out = w.expect(Who::Pbx, "INVITE");
        assert_eq!((profile(&out).as_str(), lines(&out).len()), ("RTP/AVP", 0), "nothing secret toward a plain trunk");
        answers(&mut w, &out, &plain(Who::Pbx, 1));
        let answer = w.expect(Who::Carrier, "200");
        assert_eq!(profile(&answer), offered);
        let ours = lines(&answer);
        assert_eq!((ours.len(), ours[0].0, ours[0].1.as_str()), (1, 7, CM));
        assert_ne!(ours[0].2, key('A'), "our key is our own");
        assert_keys(&w, Leg::Customer, &key('A'), &ours[0].2);
        assert_eq!(suite_of(&media(&w, Leg::Agent)), None);
        assert_no_key_crossed(&w);
    }
}

#[test]
fn a_plain_carrier_and_a_secure_pbx_are_joined() {
    for (srtp, offered) in [(Srtp::Required, "RTP/SAVP"), (Srtp::Optional, "RTP/AVP")] {
        let mut w = with([Srtp::Off, srtp]);
        calls(&mut w, &plain(Who::Carrier, 1));
        let out = w.expect(Who::Pbx, "INVITE");
        assert_eq!(profile(&out), offered);
        let ours = lines(&out);
        let suites: Vec<_> = ours.iter().map(|(tag, suite, _)| (*tag, suite.as_str())).collect();
        assert_eq!(suites, [(1, "AEAD_AES_256_GCM"), (2, "AEAD_AES_128_GCM"), (3, CM)]);
        assert!(ours[0].2 != ours[1].2 && decoded(&ours[0].2).len() == 44 && decoded(&ours[2].2).len() == 30);
        let body = secure(&plain(Who::Pbx, 1), offered, &crypto(3, CM, &key('B')));
        answers(&mut w, &out, &body);
        let answer = w.expect(Who::Carrier, "200");
        assert_eq!((profile(&answer).as_str(), lines(&answer).len()), ("RTP/AVP", 0));
        assert_keys(&w, Leg::Agent, &key('B'), &ours[2].2);
        assert_eq!(suite_of(&media(&w, Leg::Customer)), None);
        assert_no_key_crossed(&w);
    }
}

#[test]
fn optional_is_plain_with_a_peer_that_takes_no_keys() {
    let mut w = with([Srtp::Optional, Srtp::Optional]);
    calls(&mut w, &plain(Who::Carrier, 1));
    let out = w.expect(Who::Pbx, "INVITE");
    assert_eq!((profile(&out).as_str(), lines(&out).len()), ("RTP/AVP", 3));
    answers(&mut w, &out, &plain(Who::Pbx, 1));
    let answer = w.expect(Who::Carrier, "200");
    assert_eq!(lines(&answer).len(), 0, "a plain offer is answered plain");
    assert_eq!([Leg::Customer, Leg::Agent].map(|leg| suite_of(&media(&w, leg))), [None, None]);
}

#[test]
fn what_a_trunk_does_not_allow_is_refused_with_a_reason() {
    let savp = "RTP/SAVP";
    let one = crypto(1, CM, &key('A'));
    for (srtp, profile, keys, reason) in [
        (Srtp::Required, "RTP/AVP", String::new(), "unencrypted media is not allowed"),
        (Srtp::Required, "RTP/AVP", crypto(1, "F8_128_HMAC_SHA1_80", &key('A')), "no offered cipher suite is known"),
        (Srtp::Required, savp, String::new(), "without a=crypto"),
        (Srtp::Optional, savp, crypto(1, CM, &(key('A') + "|2^20|1:4")), "MKI"),
        (Srtp::Optional, savp, one.replace('\r', " UNENCRYPTED_SRTP\r"), "session parameters"),
        (Srtp::Optional, savp, crypto(1, CM, "AAAA"), "length"),
        (Srtp::Optional, savp, crypto(1, "AES_CM_128_HMAC_SHA1_32", &key('A')), "accepted here: AEAD_AES_256_GCM"),
        (Srtp::Optional, "UDP/TLS/RTP/SAVP", one.clone(), "keys by DTLS are not taken on this trunk"),
        (Srtp::Off, savp, one.clone(), "not allowed on this trunk"),
    ] {
        let mut w = with([srtp, Srtp::Off]);
        let body = secure(&plain(Who::Carrier, 1), profile, &keys);
        calls(&mut w, &body);
        let refused = w.expect(Who::Carrier, "488");
        let warning = refused.get("warning").expect("a Warning");
        assert!(warning.contains(reason), "{srtp:?} {profile} {keys}: {warning}");
        assert!(!warning.contains("RmdmcmVC"), "no key in a reason");
        assert!(w.ledger.sessions.is_empty());
    }
}

#[test]
fn an_answer_that_breaks_what_was_offered_ends_the_call() {
    let one = crypto(1, "AEAD_AES_256_GCM", &key('B'));
    for (srtp, profile, keys) in [
        (Srtp::Required, "RTP/AVP", String::new()),
        (Srtp::Required, "RTP/SAVP", String::new()),
        // A tag with another suite than offered, a suite never offered, a key of the wrong length.
        (Srtp::Required, "RTP/SAVP", crypto(1, CM, &key('B'))),
        (Srtp::Optional, "RTP/AVP", crypto(2, CM, &key('B'))),
        (Srtp::Optional, "RTP/SAVP", crypto(9, CM, &key('B'))),
        (Srtp::Required, "RTP/SAVP", one),
    ] {
        let mut w = with([Srtp::Off, srtp]);
        calls(&mut w, &plain(Who::Carrier, 1));
        let out = w.expect(Who::Pbx, "INVITE");
        let body = secure(&plain(Who::Pbx, 1), profile, &keys);
        answers(&mut w, &out, &body);
        w.expect(Who::Carrier, "488");
        w.expect(Who::Pbx, "ACK");
        w.expect(Who::Pbx, "BYE");
    }
}

#[test]
fn a_key_with_an_mki_is_left_for_one_without_and_never_taken_as_one_without() {
    let mki = |letter| key(letter) + "|2^20|1:4";
    for (profile, listed) in [
        ("RTP/SAVP", crypto(1, CM, &mki('M')) + &crypto(2, CM, &key('A'))),
        ("RTP/SAVP", crypto(1, CM, &key('A')) + &crypto(2, CM, &mki('M'))),
        ("RTP/AVP", crypto(5, CM, &(key('M') + "|1:4")) + &crypto(6, CM, &(key('A') + "|2^31"))),
    ] {
        let mut w = with([Srtp::Optional, Srtp::Off]);
        calls(&mut w, &secure(&plain(Who::Carrier, 1), profile, &listed));
        let out = w.expect(Who::Pbx, "INVITE");
        answers(&mut w, &out, &plain(Who::Pbx, 1));
        let answer = lines(&w.expect(Who::Carrier, "200"));
        let chosen = listed.lines().find(|line| line.contains(&key('A'))).expect("one without MKI");
        assert_eq!(answer.len(), 1);
        assert!(chosen.starts_with(&format!("a=crypto:{} ", answer[0].0)), "{chosen}: {answer:?}");
        assert!(!answer[0].2.contains('|'), "ours has no MKI");
        assert_keys(&w, Leg::Customer, &key('A'), &answer[0].2);
    }
    // Optional, and nothing but MKI: the stream is plain, and says so.
    let mut w = with([Srtp::Optional, Srtp::Off]);
    calls(&mut w, &secure(&plain(Who::Carrier, 1), "RTP/AVP", &crypto(1, CM, &mki('M'))));
    let out = w.expect(Who::Pbx, "INVITE");
    answers(&mut w, &out, &plain(Who::Pbx, 1));
    assert_eq!(lines(&w.expect(Who::Carrier, "200")), []);
    assert_eq!(suite_of(&media(&w, Leg::Customer)), None);
    // An answer stands by its key: one we cannot use ends the call, and is no reason to talk in the clear.
    for (srtp, profile) in [(Srtp::Optional, "RTP/AVP"), (Srtp::Required, "RTP/SAVP")] {
        let mut w = with([Srtp::Off, srtp]);
        calls(&mut w, &plain(Who::Carrier, 1));
        let out = w.expect(Who::Pbx, "INVITE");
        answers(&mut w, &out, &secure(&plain(Who::Pbx, 1), profile, &crypto(3, CM, &mki('B'))));
        w.expect(Who::Carrier, "488");
        w.expect(Who::Pbx, "ACK");
        w.expect(Who::Pbx, "BYE");
        assert!(w.ledger.sessions.is_empty());
    }
}

/// A call secure on the carrier's leg and plain on the PBX's; both lines and our key.
fn up(w: &mut World) -> (Line, Line, String) {
    let mut caller = calls(w, &secure(&plain(Who::Carrier, 1), "RTP/SAVP", &crypto(1, CM, &key('A'))));
    let out = w.expect(Who::Pbx, "INVITE");
    answers(w, &out, &plain(Who::Pbx, 1));
    w.expect(Who::Pbx, "ACK");
    let ok = w.expect(Who::Carrier, "200");
    caller.follow(&ok);
    let ack = caller.ack(w);
    w.send(Who::Carrier, &ack);
    (caller, Line::called(Who::Pbx, &out, "pbx"), lines(&ok)[0].2.clone())
}

/// The carrier changes the session and the PBX agrees; our answer.
fn change(w: &mut World, caller: &mut Line, body: &str, version: u32) -> Message {
    let request = caller.offer(w, "INVITE", body);
    w.send(Who::Carrier, &request);
    let asked = w.expect(Who::Pbx, "INVITE");
    answers(w, &asked, &plain(Who::Pbx, version));
    w.expect(Who::Pbx, "ACK");
    let ok = w.expect(Who::Carrier, "200");
    let ack = caller.ack(w);
    w.send(Who::Carrier, &ack);
    ok
}

#[test]
fn a_reinvite_rekeys_the_peers_side_and_ours_stays() {
    let mut w = with([Srtp::Required, Srtp::Off]);
    let (mut caller, _, ours) = up(&mut w);
    let body = secure(&plain(Who::Carrier, 2), "RTP/SAVP", &crypto(4, CM, &key('D')));
    let answer = change(&mut w, &mut caller, &body, 2);
    assert_eq!(lines(&answer), [(4, CM.to_owned(), ours.clone())]);
    assert_keys(&w, Leg::Customer, &key('D'), &ours);
    // Plain is refused now, and what was agreed stands.
    let request = caller.offer(&mut w, "INVITE", &plain(Who::Carrier, 3));
    w.send(Who::Carrier, &request);
    w.expect(Who::Carrier, "488");
    w.expect_silence(Who::Pbx);
    assert_keys(&w, Leg::Customer, &key('D'), &ours);
}

#[test]
fn the_suite_in_force_is_kept_when_a_peer_offers_others_before_it() {
    let mut w = with([Srtp::Optional, Srtp::Off]);
    let (mut caller, _, ours) = up(&mut w);
    let gcm = "AEAD_AES_128_GCM";
    let longer = key('E')[..36].to_owned() + "AA==";
    let both = crypto(1, gcm, &longer) + &crypto(2, CM, &key('D'));
    let answer = change(&mut w, &mut caller, &secure(&plain(Who::Carrier, 2), "RTP/SAVP", &both), 2);
    assert_eq!(lines(&answer), [(2, CM.to_owned(), ours)]);
    let only = secure(&plain(Who::Carrier, 3), "RTP/SAVP", &crypto(1, gcm, &longer));
    let answer = change(&mut w, &mut caller, &only, 3);
    assert_eq!((lines(&answer)[0].0, lines(&answer)[0].1.as_str()), (1, gcm));
    assert_eq!(suite_of(&media(&w, Leg::Customer)), Some(SrtpSuite::AesGcm128));
}

#[test]
fn a_change_from_the_plain_side_keeps_the_secure_sides_keys() {
    let mut w = with([Srtp::Required, Srtp::Off]);
    let (_, mut callee, ours) = up(&mut w);
    let request = callee.offer(&mut w, "INVITE", &sdp(Who::Pbx, 2, BOTH, "sendonly"));
    w.send(Who::Pbx, &request);
    let asked = w.expect(Who::Carrier, "INVITE");
    assert_eq!(profile(&asked), "RTP/SAVP");
    assert_eq!(lines(&asked), [(1, CM.to_owned(), ours)], "the key in force and no other");
}

/// Both trunks agree on keys by DTLS.
fn with_dtls(policies: [Srtp; 2]) -> World {
    let mut w = World::with(|config| {
        for (trunk, srtp) in config.trunks.iter_mut().zip(policies) {
            (trunk.srtp, trunk.srtp_keying) = (srtp, SrtpKeying::Dtls);
        }
    });
    w.engine.set_identity(std::sync::Arc::new(Identity::new(vec![1; 40], vec![2; 40])));
    w
}

fn theirs(byte: u8) -> String {
    let text = vec![format!("{byte:02x}"); 32].join(":");
    format!("a=fingerprint:sha-256 {text}\r\n")
}

fn dtls_of(media: &LegMedia) -> Option<(Role, u8)> {
    match &media.security {
        Security::Dtls(peer) => Some((peer.role, peer.fingerprint[0])),
        Security::Plain | Security::Srtp(_) => None,
    }
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body.clone()).expect("text")
}

#[test]
fn dtls_roles_are_answered_and_a_plain_leg_beside_stays_plain() {
    for (srtp, transport) in
        [(Srtp::Required, "UDP/TLS/RTP/SAVP"), (Srtp::Optional, "UDP/TLS/RTP/SAVPF"), (Srtp::Optional, "RTP/AVP")]
    {
        for (setup, answered, role) in [
            ("actpass", "active", Role::Active),
            ("active", "passive", Role::Passive),
            ("passive", "active", Role::Active),
        ] {
            let mut w = with_dtls([srtp, Srtp::Off]);
            let more = theirs(0xab) + &format!("a=setup:{setup}\r\na=rtcp-mux\r\n");
            calls(&mut w, &secure(&plain(Who::Carrier, 1), transport, &more));
            let out = w.expect(Who::Pbx, "INVITE");
            assert!(!text(&out).contains("fingerprint") && profile(&out) == "RTP/AVP");
            answers(&mut w, &out, &plain(Who::Pbx, 1));
            let ok = w.expect(Who::Carrier, "200");
            assert_eq!(profile(&ok), transport);
            assert!(
                text(&ok).contains(&format!("a=setup:{answered}\r\n")) && text(&ok).contains("a=rtcp-mux"),
                "{}",
                text(&ok)
            );
            assert!(text(&ok).contains("a=fingerprint:sha-256 ") && !text(&ok).to_lowercase().contains("ab:ab"));
            assert_eq!(dtls_of(&media(&w, Leg::Customer)), Some((role, 0xab)));
            assert_eq!(media(&w, Leg::Agent).security, Security::Plain);
        }
    }
}

#[test]
fn dtls_is_offered_and_its_answer_decides_who_begins() {
    for (srtp, transport) in [(Srtp::Required, "UDP/TLS/RTP/SAVP"), (Srtp::Optional, "RTP/AVP")] {
        for (setup, role) in [("active", Some(Role::Passive)), ("passive", Some(Role::Active)), ("actpass", None)] {
            let mut w = with_dtls([Srtp::Off, srtp]);
            calls(&mut w, &plain(Who::Carrier, 1));
            let out = w.expect(Who::Pbx, "INVITE");
            assert_eq!(profile(&out), transport);
            assert!(text(&out).contains("a=setup:actpass\r\na=fingerprint:sha-256 "), "{}", text(&out));
            let more = theirs(0xcd) + &format!("a=setup:{setup}\r\na=rtcp-mux\r\n");
            answers(&mut w, &out, &secure(&plain(Who::Pbx, 1), transport, &more));
            match role {
                Some(role) => {
                    w.expect(Who::Carrier, "200");
                    assert_eq!(dtls_of(&media(&w, Leg::Agent)), Some((role, 0xcd)));
                    let agent = media(&w, Leg::Agent);
                    assert!(agent.rtcp_mux && agent.remote_rtcp == agent.remote_rtp);
                }
                None => drop(w.expect(Who::Carrier, "488")),
            }
        }
    }
}

#[test]
fn without_a_good_fingerprint_dtls_is_refused() {
    let fine = theirs(0xab) + "a=setup:actpass\r\n";
    for (srtp, transport, more, reason) in [
        (Srtp::Required, "RTP/AVP", String::new(), "unencrypted media is not allowed"),
        (Srtp::Required, "UDP/TLS/RTP/SAVP", String::new(), "wants a=fingerprint"),
        (Srtp::Optional, "UDP/TLS/RTP/SAVP", theirs(1), "wants a=fingerprint"),
        (Srtp::Optional, "UDP/TLS/RTP/SAVP", fine.replace("sha-256", "sha-1"), "wants a=fingerprint"),
        (Srtp::Optional, "UDP/TLS/RTP/SAVP", fine.replace("ab:ab", "ab"), "wants a=fingerprint"),
        (Srtp::Optional, "RTP/SAVP", crypto(1, CM, &key('A')), "offer UDP/TLS/RTP/SAVP"),
    ] {
        let mut w = with_dtls([srtp, Srtp::Off]);
        calls(&mut w, &secure(&plain(Who::Carrier, 1), transport, &more));
        let refused = w.expect(Who::Carrier, "488");
        assert!(refused.get("warning").is_some_and(|warning| warning.contains(reason)), "{srtp:?} {transport} {more}");
    }
}

#[test]
fn a_change_keeps_the_handshake_and_a_new_certificate_begins_another() {
    let mut w = with_dtls([Srtp::Required, Srtp::Off]);
    let body = |version, byte, setup: &str| {
        let more = theirs(byte) + &format!("a=setup:{setup}\r\na=rtcp-mux\r\n");
        secure(&plain(Who::Carrier, version), "UDP/TLS/RTP/SAVP", &more)
    };
    let mut caller = calls(&mut w, &body(1, 0xab, "active"));
    let out = w.expect(Who::Pbx, "INVITE");
    answers(&mut w, &out, &plain(Who::Pbx, 1));
    w.expect(Who::Pbx, "ACK");
    let ok = w.expect(Who::Carrier, "200");
    caller.follow(&ok);
    let ack = caller.ack(&mut w);
    w.send(Who::Carrier, &ack);
    let first = media(&w, Leg::Customer).security;
    // actpass now, as RFC 8842 wants of every further offer: the role stays as it is.
    let answer = change(&mut w, &mut caller, &body(2, 0xab, "actpass"), 2);
    assert!(text(&answer).contains("a=setup:passive"));
    assert_eq!(media(&w, Leg::Customer).security, first);
    change(&mut w, &mut caller, &body(3, 0xac, "actpass"), 3);
    assert_ne!(media(&w, Leg::Customer).security, first);
}
