//! Codecs in offers and answers between two trunks: what is common, what has to be coded anew, what cannot be masked.

use tonewall::base::ids::Leg;
use tonewall::call::Signal;
use tonewall::config::{Codec, Config, GuardMode, Unmaskable};
use tonewall::media::AudioFormat;
use tonewall::obs::event::{EventKind, HoldKind};
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

/// A description with its formats and attributes as given.
fn described(who: Who, version: u32, formats: &str, attributes: &[&str]) -> String {
    let plain = sdp(who, version, "0", "sendrecv");
    let head = plain.split("m=audio").next().expect("lines before the stream");
    let port = 6_000 + who.listener() * 1_000;
    let mut text = format!("{head}m=audio {port} RTP/AVP {formats}\r\n");
    for attribute in attributes {
        text += &format!("a={attribute}\r\n");
    }
    text
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

fn formats(message: &Message) -> String {
    let text = text(message);
    let line = text.lines().find(|line| line.starts_with("m=audio")).expect("a stream").to_owned();
    line.split(' ').skip(3).collect::<Vec<_>>().join(" ")
}

/// Codecs of both trunks.
fn codecs(carrier: &'static [Codec], pbx: &'static [Codec]) -> impl FnOnce(&mut Config) {
    move |config| {
        config.trunks[0].codecs = carrier.to_vec();
        config.trunks[1].codecs = pbx.to_vec();
    }
}

/// The carrier offers, the PBX answers: what the PBX was offered, and what the carrier was answered.
fn offer_and_answer(w: &mut World, offer: &str, answer: &str) -> (Message, Message) {
    let mut dialling = w.dial_with(|invite| invite.with_body("application/sdp", offer));
    let theirs = dialling.theirs.clone();
    let ok = dialling.reply(200, "callee").with_body("application/sdp", answer);
    w.send(Who::Pbx, &ok);
    w.expect(Who::Pbx, "ACK");
    let ok = dialling.connect(w);
    (theirs, ok)
}

fn sends(w: &World, leg: Leg) -> Vec<AudioFormat> {
    w.session().legs[leg.index()].tx.audio.to_vec()
}

#[test]
fn wide_codecs_cross_with_their_numbers_clocks_and_wishes() {
    let mut w = World::with(codecs(&[Codec::Opus, Codec::G722, Codec::Pcma], &[Codec::G722, Codec::Opus, Codec::Pcma]));
    let offer = described(
        Who::Carrier,
        1,
        "96 9 8 97 101",
        &[
            "rtpmap:96 opus/48000/2",
            "fmtp:96 maxplaybackrate=16000; maxaveragebitrate=20000; useinbandfec=1; usedtx=1; stereo=1",
            "rtpmap:97 telephone-event/48000",
            "rtpmap:101 telephone-event/8000",
            "ptime:20",
        ],
    );
    let answer = described(Who::Pbx, 1, "96 110", &["rtpmap:96 opus/48000/2", "rtpmap:110 telephone-event/48000"]);
    let (asked, ok) = offer_and_answer(&mut w, &offer, &answer);
    // The PBX trunk's order; 9 and 8 without a map in the offer, with one in ours.
    assert_eq!(formats(&asked).split(' ').take(3).collect::<Vec<_>>(), ["9", "96", "8"]);
    let asked = text(&asked);
    for line in [
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 maxplaybackrate=16000;stereo=0;sprop-stereo=0;useinbandfec=0;maxaveragebitrate=20000;usedtx=0;cbr=1",
        "telephone-event/8000",
        "telephone-event/48000",
    ] {
        assert!(asked.contains(line), "{line}\n{asked}");
    }
    assert!(text(&ok).contains("a=rtpmap:96 opus/48000/2") && text(&ok).contains("usedtx=0;cbr=1"));
    assert!(text(&ok).contains("telephone-event/48000") && !text(&ok).contains("telephone-event/8000"));
    for leg in [Leg::Customer, Leg::Agent] {
        assert_eq!(sends(&w, leg), [AudioFormat { payload_type: 96, codec: Codec::Opus }]);
        assert_eq!(w.session().legs[leg.index()].tx.event.map(|event| event.clock_rate), Some(48_000));
    }
    assert_eq!(w.session().legs[0].tx.opus_bitrate, 20_000);
    let view = w.view();
    assert_eq!((view.codecs.customer.as_deref(), view.codecs.maskable), (Some("opus"), true));
}

#[test]
fn legs_with_nothing_in_common_are_coded_anew() {
    let mut w = World::with(codecs(&[Codec::Opus, Codec::G722], &[Codec::Pcma, Codec::Pcmu]));
    let offer = described(Who::Carrier, 1, "111 9", &["rtpmap:111 opus/48000/2"]);
    let (asked, ok) = offer_and_answer(&mut w, &offer, &described(Who::Pbx, 1, "8", &[]));
    assert_eq!(formats(&asked), "8 0");
    assert_eq!(formats(&ok), "111");
    assert_eq!(sends(&w, Leg::Customer), [AudioFormat { payload_type: 111, codec: Codec::Opus }]);
    assert_eq!(sends(&w, Leg::Agent), [AudioFormat { payload_type: 8, codec: Codec::Pcma }]);
}

#[test]
fn several_numbers_of_one_codec_are_all_taken_and_one_is_answered() {
    let mut w = World::with(codecs(&[Codec::G722, Codec::Pcmu], &[Codec::G722, Codec::Pcmu]));
    let offer = described(Who::Carrier, 1, "9 98 0", &["rtpmap:98 G722/8000", "maxptime:30", "ptime:30"]);
    let (asked, ok) = offer_and_answer(&mut w, &offer, &described(Who::Pbx, 1, "9", &["ptime:40"]));
    assert_eq!(formats(&asked), "9 0");
    assert!(text(&asked).contains("a=maxptime:30"));
    assert_eq!(formats(&ok), "9");
    let legs = &w.session().legs;
    assert!(legs[0].rx.audio.iter().filter(|format| format.codec == Codec::G722).count() == 2);
    assert_eq!((legs[0].tx.ptime_ms, legs[1].tx.ptime_ms), (30, 40));
}

#[test]
fn comfort_noise_is_agreed_on_where_both_sides_have_it() {
    for (theirs, agreed) in [("0 13", true), ("0", false)] {
        let mut w = World::new();
        let (asked, ok) =
            offer_and_answer(&mut w, &described(Who::Carrier, 1, "0 13", &[]), &described(Who::Pbx, 1, theirs, &[]));
        assert_eq!(formats(&asked), "0 13");
        assert!(text(&asked).contains("a=rtpmap:13 CN/8000"));
        assert_eq!(formats(&ok), theirs);
        let legs = &w.session().legs;
        assert_eq!(legs.each_ref().map(|leg| leg.tx.comfort_noise), [agreed.then_some(13); 2]);
    }
    // Nobody is offered what the other does not know.
    let mut w = World::new();
    let (asked, _) = offer_and_answer(&mut w, &described(Who::Carrier, 1, "0", &[]), &described(Who::Pbx, 1, "0", &[]));
    assert_eq!(formats(&asked), "0");
}

fn unmaskable(policy: Unmaskable, guard: GuardMode) -> impl FnOnce(&mut Config) {
    move |config| {
        config.trunks.iter_mut().for_each(|trunk| trunk.unmaskable = policy);
        config.trunks[0].guard = guard;
    }
}

const G729_FIRST: (&str, [&str; 2]) = ("18 0", ["rtpmap:18 G729/8000", "fmtp:18 annexb=no"]);

#[test]
fn what_cannot_be_masked_is_stripped_unless_the_trunk_says_otherwise() {
    let offer = described(Who::Carrier, 1, G729_FIRST.0, &G729_FIRST.1);
    for (policy, guard, offered) in [
        (Unmaskable::Strip, GuardMode::Off, "0"),
        (Unmaskable::Pass, GuardMode::Off, "0 18"),
        (Unmaskable::Pass, GuardMode::Signal, "0 18"),
        (Unmaskable::Pass, GuardMode::Auto, "0"),
        (Unmaskable::Pass, GuardMode::Always, "0"),
    ] {
        let mut w = World::with(unmaskable(policy, guard));
        let dialling = w.dial_with(|invite| invite.with_body("application/sdp", offer.clone()));
        assert_eq!(formats(&dialling.theirs).trim_end_matches(" 101"), offered, "{policy:?} {guard:?}");
        assert_eq!(text(&dialling.theirs).contains("annexb=no"), offered.contains("18"), "{policy:?} {guard:?}");
    }
    let mut w = World::with(unmaskable(Unmaskable::Refuse, GuardMode::Off));
    let invite = Line::new(&mut w, Who::Carrier, "1001").offer(&mut w, "INVITE", &offer);
    w.send(Who::Carrier, &invite);
    let refused = w.expect(Who::Carrier, "488");
    assert!(refused.get("warning").is_some_and(|warning| warning.contains("G729")), "{:?}", refused.get("warning"));
    w.expect_silence(Who::Pbx);
    // Alone it is refused where it would be stripped, too.
    let mut w = World::new();
    let invite =
        Line::new(&mut w, Who::Carrier, "1001").offer(&mut w, "INVITE", &described(Who::Carrier, 1, "18", &[]));
    w.send(Who::Carrier, &invite);
    w.expect(Who::Carrier, "488");
}

#[test]
fn a_call_that_cannot_be_masked_says_so_and_a_renegotiation_under_a_hold_leaves_it() {
    let mut w = World::with(unmaskable(Unmaskable::Pass, GuardMode::Signal));
    let offer = described(Who::Carrier, 1, G729_FIRST.0, &G729_FIRST.1);
    let mut dialling = w.dial_with(|invite| invite.with_body("application/sdp", offer));
    let invite = dialling.theirs.clone();
    w.send(Who::Pbx, &dialling.reply(200, "callee").with_body("application/sdp", described(Who::Pbx, 1, "18", &[])));
    w.expect(Who::Pbx, "ACK");
    let ok = dialling.connect(&mut w);
    assert_eq!(formats(&ok), "18");
    let view = w.view();
    assert_eq!((view.codecs.customer.as_deref(), view.codecs.maskable), (Some("G729"), false));
    let told: Vec<_> = w
        .events
        .iter()
        .filter_map(|event| match event {
            EventKind::Unmaskable { leg, codec } => Some((*leg, codec.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, codec)| codec == "G729"));

    let call = view.id;
    let kinds = vec![HoldKind::Mask];
    let hold = Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() };
    w.signal(hold).expect("a hold");
    assert!(w.masked());
    let mut callee = Line::called(Who::Pbx, &invite, "callee");
    let again = callee.offer(&mut w, "INVITE", &described(Who::Pbx, 2, "18", &[]));
    w.send(Who::Pbx, &again);
    w.expect(Who::Pbx, "488");
    let again = callee.offer(&mut w, "INVITE", &described(Who::Pbx, 3, "18 0", &[]));
    w.send(Who::Pbx, &again);
    let asked = w.expect(Who::Carrier, "INVITE");
    assert_eq!(formats(&asked), "0");
}
