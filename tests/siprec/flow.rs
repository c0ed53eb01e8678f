//! The usual way: a session per call and recorder, over each transport, with the right sound under the right label.

use tonewall::testkit::keys::Form;
use tonewall::testkit::leak::Attackers;
use tonewall::testkit::rtp_peer::hiss;

use crate::pki::{Authority, Wish};
use crate::srs::{Mood, Packet, Srs};
use crate::{all, check, loudness, open, plan, section, sounding, until, wait};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_is_recorded_over_each_transport_and_no_masked_key_is_heard() {
    all(vec![
        ("a call is recorded over udp", Box::pin(a_call_is_recorded_over_udp())),
        ("a call is recorded over tcp", Box::pin(a_call_is_recorded_over_tcp())),
        (
            "over tls the sound is encrypted and opens by the offered key",
            Box::pin(over_tls_the_sound_is_encrypted_and_opens_by_the_offered_key()),
        ),
        ("a recorder that waits gets sound when it asks", Box::pin(a_recorder_that_waits_gets_sound_when_it_asks())),
        (
            "keys that are masked are never in what the recorder hears",
            Box::pin(keys_that_are_masked_are_never_in_what_the_recorder_hears()),
        ),
    ])
    .await;
}

/// A call is recorded over `transport`, from its answer to its end.
async fn recorded(transport: &'static str) {
    let srs = Srs::open(transport);
    let mut desk = open(&["quality"], &section("quality", transport, &[&srs], "")).await;
    let call = desk.call().await;
    call.caller.with(|phone, _| phone.rtp.speak(hiss(7, -20.0)));
    let session = sounding(&srs).await;
    assert_eq!(session.invite.get("require"), Some("siprec"));
    assert!(session.invite.get("contact").is_some_and(|contact| contact.ends_with(";+sip.src")));
    for (at, label) in ["1", "2"].into_iter().enumerate() {
        assert_eq!(session.attribute(at, "label").as_deref(), Some(label));
        assert_eq!(session.attribute(at, "sendonly").as_deref(), Some(""));
    }
    check::check("recorded", &session.metadata[0]);
    wait(1_500).await;
    let (customer, agent) = (srs.sound(&session, 0), srs.sound(&session, 1));
    let loud = [loudness(&customer[customer.len() / 2..]), loudness(&agent[agent.len() / 2..])];
    assert!(loud[0] > loud[1] + 15.0, "customer and agent are told apart: {loud:?}");
    // 20 ms each, nothing missing, nothing doubled, a clock of its own per stream.
    for at in 0..2 {
        let packets = srs.packets(&session, at);
        for pair in packets.windows(2) {
            assert_eq!(pair[1].sequence(), pair[0].sequence().wrapping_add(1));
            assert_eq!(pair[1].timestamp(), pair[0].timestamp().wrapping_add(160));
        }
        let lasted = packets[packets.len() - 1].at.duration_since(packets[0].at).as_millis() as i64;
        assert!((lasted - 20 * (packets.len() as i64 - 1)).abs() < 250, "{lasted} ms for {}", packets.len());
    }
    let ssrc = |at| srs.packets(&session, at)[0].ssrc();
    assert_ne!(ssrc(0), ssrc(1));
    let shown = desk.ask("GET", "/v1/recorders", None);
    // The sealed files stand before it.
    let shown = shown["recorders"].as_array().and_then(|all| all.last()).expect("recorders");
    assert_eq!((shown["name"].as_str(), shown["kind"].as_str()), (Some("quality"), Some("siprec")));
    let siprec = &shown["siprec"];
    assert_eq!((shown["state"].as_str(), siprec["sessions"].as_u64()), (Some("up"), Some(1)), "{shown}");
    desk.hang_up(call).await;
    until("BYE", || srs.live().is_empty()).await;
    assert_eq!(srs.count("BYE"), 1);
}

async fn a_call_is_recorded_over_udp() {
    recorded("udp").await;
}

async fn a_call_is_recorded_over_tcp() {
    recorded("tcp").await;
}

async fn over_tls_the_sound_is_encrypted_and_opens_by_the_offered_key() {
    let theirs = Authority::new();
    let (node, server) = (theirs.sign(Wish::of(&["node.example"])), theirs.sign(Wish::of(&["srs.example"])));
    let srs = Srs::open_at("tls", crate::common::free_address(), Some(theirs.server(&server)));
    let section = section(
        "quality",
        "tls",
        &[&srs],
        "tls_ca = \"theirs.pem\"\ntls_names = [\"srs.example\"]\nsrtp_suites = [\"AES_CM_128_HMAC_SHA1_80\"]",
    );
    let section = section.replacen(
        "transport = \"tls\"",
        "transport = \"tls\"\ncertificate = \"node.pem\"\nkey = \"node.key\"",
        1,
    );
    let mut plan = plan(&["quality"], &section);
    plan.files = vec![("theirs.pem", theirs.pem()), ("node.pem", node.chain), ("node.key", node.key)];
    let mut desk = crate::desk::Desk::open(plan).await;
    let call = desk.call().await;
    call.caller.with(|phone, _| phone.rtp.speak(hiss(7, -20.0)));
    let session = sounding(&srs).await;
    wait(1_000).await;
    for (at, loud) in [(0, true), (1, false)] {
        let key = session.attribute(at, "crypto").expect("a key is offered");
        let key = tonewall::sdp::attr::crypto::Crypto::parse(&key).expect("a good one");
        let mut receiver = tonewall::srtp::Receiver::new(key.suite, &key.key).expect("a receiver");
        let mut opened = Vec::new();
        for packet in srs.packets(&session, at) {
            let mut bytes = packet.bytes.clone();
            assert_ne!(bytes.len(), 172, "sent in the clear");
            let length = receiver.open_rtp(&mut bytes).expect("its tag is good");
            opened.extend(Packet { at: packet.at, bytes: bytes[..length].to_vec() }.samples());
        }
        let level = loudness(&opened[opened.len() / 2..]);
        assert_eq!(level > -35.0, loud, "{at}: {level}");
    }
    desk.hang_up(call).await;
    until("BYE", || srs.live().is_empty()).await;
}

async fn a_recorder_that_waits_gets_sound_when_it_asks() {
    let srs = Srs::open("tcp");
    srs.set(Mood::Waiting);
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], "")).await;
    let call = desk.call().await;
    until("a session", || !srs.live().is_empty()).await;
    wait(700).await;
    let session = srs.live().remove(0);
    assert!(srs.packets(&session, 0).is_empty() && srs.packets(&session, 1).is_empty(), "it wanted none");
    srs.set(Mood::Willing);
    srs.request(&session, "INVITE", Some("recvonly"));
    until("an answer", || srs.statuses().contains(&200)).await;
    srs.acknowledge(&session);
    sounding(&srs).await;
    srs.request(&session, "UPDATE", Some("inactive"));
    until("a second answer", || srs.statuses().len() == 2).await;
    assert!(srs.answered().is_some_and(|text| text.matches("a=inactive").count() == 2));
    wait(100).await;
    let before = srs.packets(&session, 0).len();
    wait(500).await;
    assert_eq!(srs.packets(&session, 0).len(), before, "nothing after it wanted none");
    desk.hang_up(call).await;
    until("BYE", || srs.live().is_empty()).await;
}

async fn keys_that_are_masked_are_never_in_what_the_recorder_hears() {
    if let Some(missing) = Attackers::new().missing() {
        crate::common::skip("spandsp as an attacker of the recorder", missing);
    }
    let srs = Srs::open("tcp");
    let mut desk = open(&["quality"], &section("quality", "tcp", &[&srs], "")).await;
    let call = desk.call().await;
    let session = sounding(&srs).await;
    // A mask alone, without a pause: the recorder hears the call on.
    let hold = serde_json::json!({"kind": "mask", "reason": "card", "ttl_s": 60});
    desk.ask("POST", &format!("/v1/calls/{}/holds", call.id), Some(hold));
    for form in [Form::Tone, Form::Event] {
        call.press("4111111111111111", form);
        wait(3_000).await;
    }
    until("the keys", || call.caller.with(|phone, _| !phone.rtp.is_keying())).await;
    wait(800).await;
    for at in 0..2 {
        let packets = srs.packets(&session, at);
        assert!(packets.iter().all(|packet| packet.bytes.len() == 172 && packet.bytes[1] & 0x7f == 0), "G.711 only");
        let heard = srs.sound(&session, at);
        assert!(heard.len() > 8_000 * 4, "the call was recorded on: {}", heard.len());
        let keyed = call.caller.with(|phone, _| phone.rtp.keyed().to_vec());
        let findings = Attackers::new().listen(&heard);
        assert!(findings.nothing_decoded(), "stream {at}: {findings:?} of {} keys", keyed.len());
    }
    desk.hang_up(call).await;
}
