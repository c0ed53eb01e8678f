//! Fax (T.38) in place of the audio: refused, or passed where both trunks say so and nothing is to be guarded.

use tonewall::base::ids::Leg;
use tonewall::call::Signal;
use tonewall::config::{Config, GuardMode, Srtp, T38};
use tonewall::obs::event::{EventKind, HoldKind};
use tonewall::testkit::simple_sip::Message;

use crate::harness::*;

/// What fax machines say of themselves, and what must not cross.
const SAID: &str = "a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxRateManagement:transferredTCF\r\n\
                    a=T38FaxMaxDatagram:400\r\na=T38FaxUdpEC:t38UDPRedundancy\r\na=T38VendorInfo:0 0 37\r\na=x-secret:1\r\n";

/// A description with fax in place of the audio.
fn fax(who: Who, version: u32) -> String {
    let plain = sdp(who, version, "0", "sendrecv");
    let head = plain.split("m=audio").next().expect("lines before the stream").to_owned();
    head + &format!("m=image {} udptl t38\r\n{SAID}", 6_100 + who.listener() * 1_000)
}

fn passing(trunks: [T38; 2]) -> World {
    World::with(|config: &mut Config| {
        for (trunk, t38) in config.trunks.iter_mut().zip(trunks) {
            trunk.t38 = t38;
        }
    })
}

/// `line` asks for `body`; the other side is asked, and answers it with `answer`.
fn change(w: &mut World, line: &mut Line, other: Who, body: &str, answer: &str) -> (Message, Message) {
    let request = line.offer(w, "INVITE", body);
    w.send(line.who, &request);
    let theirs = w.expect(other, "INVITE");
    w.send(other, &reply(other, &theirs, 200, "").with_body("application/sdp", answer));
    w.expect(other, "ACK");
    let ok = w.expect(line.who, "200");
    let ack = line.ack(w);
    w.send(line.who, &ack);
    (theirs, ok)
}

/// `line` asks for fax and is refused; nobody else hears of it, and the call's media is as it was.
fn refused(w: &mut World, line: &mut Line, other: Who) -> Message {
    let before = w.session().legs.clone();
    let request = line.offer(w, "INVITE", &fax(line.who, 2));
    w.send(line.who, &request);
    let no = w.expect(line.who, "488");
    let ack = line.ack(w);
    w.send(line.who, &with_branch(ack, &request));
    w.expect_silence(other);
    assert_eq!(w.session().legs, before, "the audio goes on");
    no
}

fn streams(message: &Message) -> Vec<String> {
    text(message).lines().filter(|line| line.starts_with("m=")).map(str::to_owned).collect()
}

fn opaque(w: &World) -> [bool; 2] {
    w.session().legs.each_ref().map(|leg| leg.opaque)
}

fn hold(w: &mut World) {
    let (call, kinds) = (w.view().id, vec![HoldKind::Mask]);
    w.signal(Signal::TakeHolds { call, kinds, reason: "card".into(), ttl: None, actor: actor() }).expect("a hold");
    assert!(w.masked());
}

fn stopped(w: &World) -> Vec<bool> {
    let said = |event: &EventKind| match event {
        EventKind::UnmaskableStopped { on } => Some(*on),
        _ => None,
    };
    w.events.iter().filter_map(said).collect()
}

#[test]
fn fax_is_refused_and_the_audio_goes_on_unless_both_trunks_pass_it() {
    for trunks in [[T38::Refuse; 2], [T38::Pass, T38::Refuse], [T38::Refuse, T38::Pass]] {
        let mut w = passing(trunks);
        let mut up = w.call();
        let no = refused(&mut w, &mut up.callee, Who::Carrier);
        assert!(no.get("warning").expect("Warning").contains("fax"));
        refused(&mut w, &mut up.caller, Who::Pbx);
        w.hang_up(&mut up.caller, Who::Pbx);
        w.expect_clean();
    }
}

#[test]
fn fax_passes_with_what_t38_defines_and_the_way_back_to_audio_is_open() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    let ports = w.session().ports;
    let (asked, ok) = change(&mut w, &mut up.callee, Who::Carrier, &fax(Who::Pbx, 2), &fax(Who::Carrier, 2));
    assert_eq!(streams(&asked), [format!("m=image {} udptl t38", ports[0])]);
    assert_eq!(streams(&ok), [format!("m=image {} udptl t38", ports[1])]);
    for message in [&asked, &ok] {
        let body = text(message);
        assert!(body.contains("a=T38FaxUdpEC:t38UDPRedundancy\r\n") && body.contains("a=T38MaxBitRate:14400\r\n"));
        assert!(!body.contains("Vendor") && !body.contains("secret") && body.contains(OUR_MEDIA), "{body}");
    }
    assert_eq!(opaque(&w), [true, true]);
    let to = w.session().legs.each_ref().map(|leg| leg.remote_rtp.expect("an address").port());
    assert_eq!(to, [6_100, 7_100]);
    assert!(w.session().legs.iter().all(|leg| leg.remote_rtcp.is_none() && leg.rx.audio.is_empty()));
    let view = w.view();
    assert_eq!((view.codecs.agent.as_deref(), view.codecs.maskable), (Some("T38"), false));
    let told = w.events.iter().filter(|event| matches!(event, EventKind::Unmaskable { codec, .. } if codec == "T38"));
    assert_eq!(told.count(), 2);

    let (asked, ok) = change(
        &mut w,
        &mut up.caller,
        Who::Pbx,
        &sdp(Who::Carrier, 3, BOTH, "sendrecv"),
        &sdp(Who::Pbx, 3, BOTH, "sendrecv"),
    );
    assert!(streams(&asked)[0].ends_with("RTP/AVP 0 8 101") && streams(&ok).len() == 1);
    assert_eq!(opaque(&w), [false, false]);
    assert!(w.view().codecs.maskable);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn fax_beside_a_switched_off_audio_keeps_both_places() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    let audio = sdp(Who::Carrier, 2, "0", "sendrecv").replace("m=audio 6000", "m=audio 0");
    let body = audio + &format!("m=image 6100 udptl t38\r\n{SAID}");
    let (_, ok) = change(&mut w, &mut up.caller, Who::Pbx, &body, &fax(Who::Pbx, 2));
    assert_eq!(streams(&ok), ["m=audio 0 RTP/AVP 0".to_owned(), format!("m=image {} udptl t38", w.session().ports[0])]);
    assert_eq!(opaque(&w), [true, true]);
    // Beside audio it is not used.
    let both = sdp(Who::Carrier, 3, "0", "sendrecv") + "m=image 6100 udptl t38\r\n";
    let (asked, ok) = change(&mut w, &mut up.caller, Who::Pbx, &both, &sdp(Who::Pbx, 3, "0", "sendrecv"));
    assert_eq!((streams(&asked).len(), streams(&ok)[1].as_str()), (1, "m=image 0 udptl t38"));
    assert_eq!(opaque(&w), [false, false]);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_guarded_call_offered_fax_gets_488_and_stays_masked() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    hold(&mut w);
    refused(&mut w, &mut up.callee, Who::Carrier);
    refused(&mut w, &mut up.caller, Who::Pbx);
    assert!(w.masked() && w.view().codecs.maskable);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();

    for guard in [GuardMode::Always, GuardMode::Auto] {
        let mut w = World::with(|config| {
            config.trunks.iter_mut().for_each(|trunk| trunk.t38 = T38::Pass);
            config.trunks[0].guard = guard;
        });
        let mut up = w.call();
        refused(&mut w, &mut up.callee, Who::Carrier);
        assert!(w.masked());
        w.hang_up(&mut up.caller, Who::Pbx);
        w.expect_clean();
    }
}

#[test]
fn a_mask_taken_while_fax_flows_stops_it_and_the_call_says_so() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    change(&mut w, &mut up.callee, Who::Carrier, &fax(Who::Pbx, 2), &fax(Who::Carrier, 2));
    assert!(stopped(&w).is_empty());
    hold(&mut w);
    assert_eq!(stopped(&w), [true]);
    w.advance(61 * SEC);
    assert_eq!(stopped(&w), [true, false], "the hold has expired");
    hold(&mut w);
    refused(&mut w, &mut up.callee, Who::Carrier);
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn a_mask_taken_while_fax_is_being_agreed_on_finds_it_stopped_and_the_call_alive() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    let request = up.callee.offer(&mut w, "INVITE", &fax(Who::Pbx, 2));
    w.send(Who::Pbx, &request);
    let theirs = w.expect(Who::Carrier, "INVITE");
    hold(&mut w);
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "").with_body("application/sdp", fax(Who::Carrier, 2)));
    w.expect(Who::Carrier, "ACK");
    w.expect(Who::Pbx, "200");
    let ack = up.callee.ack(&mut w);
    w.send(Who::Pbx, &ack);
    assert!(w.masked());
    assert_eq!((opaque(&w), stopped(&w)), ([true, true], vec![true]));
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn an_answer_that_switches_fax_off_leaves_a_quiet_call_that_can_talk_again() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    let no = fax(Who::Carrier, 2).replace("m=image 6100", "m=image 0");
    let (_, ok) = change(&mut w, &mut up.callee, Who::Carrier, &fax(Who::Pbx, 2), &no);
    assert_eq!(streams(&ok), ["m=image 0 udptl t38"]);
    assert_eq!(opaque(&w), [false, false]);
    assert!(w.session().legs.iter().all(|leg| !leg.send && !leg.receive));
    let back = sdp(Who::Pbx, 3, "0", "sendrecv");
    change(&mut w, &mut up.callee, Who::Carrier, &back, &sdp(Who::Carrier, 3, "0", "sendrecv"));
    assert!(w.session().legs.iter().all(|leg| leg.send && leg.receive));
    w.hang_up(&mut up.caller, Who::Pbx);
    w.expect_clean();
}

#[test]
fn an_answer_with_audio_to_fax_ends_the_call_on_both_sides() {
    let mut w = passing([T38::Pass; 2]);
    let mut up = w.call();
    let request = up.callee.offer(&mut w, "INVITE", &fax(Who::Pbx, 2));
    w.send(Who::Pbx, &request);
    let theirs = w.expect(Who::Carrier, "INVITE");
    let audio = sdp(Who::Carrier, 2, "0", "sendrecv");
    w.send(Who::Carrier, &reply(Who::Carrier, &theirs, 200, "").with_body("application/sdp", audio));
    for (who, first) in [(Who::Carrier, "ACK"), (Who::Pbx, "488")] {
        w.expect(who, first);
        let bye = w.expect(who, "BYE");
        w.send(who, &reply(who, &bye, 200, ""));
    }
    w.expect_clean();
}

#[test]
fn a_call_that_is_fax_from_its_first_offer_passes_and_not_where_media_must_be_encrypted() {
    let mut w = passing([T38::Pass; 2]);
    let mut dialling = w.dial_with(|invite| invite.with_body("application/sdp", fax(Who::Carrier, 1)));
    assert!(streams(&dialling.theirs)[0].starts_with("m=image"));
    w.send(Who::Pbx, &dialling.reply(200, "callee").with_body("application/sdp", fax(Who::Pbx, 1)));
    w.expect(Who::Pbx, "ACK");
    dialling.connect(&mut w);
    assert_eq!(opaque(&w), [true, true]);
    w.hang_up(&mut dialling.caller, Who::Pbx);
    w.expect_clean();

    let mut w = World::with(|config| {
        config.trunks.iter_mut().for_each(|trunk| trunk.t38 = T38::Pass);
        config.trunks[1].srtp = Srtp::Required;
    });
    let mut caller = Line::new(&mut w, Who::Carrier, "1001");
    let invite = caller.offer(&mut w, "INVITE", &fax(Who::Carrier, 1));
    w.send(Who::Carrier, &invite);
    w.expect(Who::Carrier, "488");
    w.expect_silence(Who::Pbx);
    assert!(w.ledger.sessions.is_empty(), "{:?}", Leg::Customer);
}
