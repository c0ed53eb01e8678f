//! Recording sessions without a network: what comes out for what goes in, in order, and when.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::metadata::Uuid;
use super::sdp::Ours;
use super::sound::{Sink, Sound, TICK};
use super::{End, Output, Session, Setup};
use crate::base::Random;
use crate::config::{Codec, Dialect, Network, Srtp, SrtpSuite, TrunkId};
use crate::guard::Masked;
use crate::media::Block;
use crate::sdp::Policy;
use crate::sip::msg::HeaderName;
use crate::sip::{Endpoint, EndpointConfig, Event, Flow, Method, Request, Response, ServerId};

const SEC: Duration = Duration::from_secs(1);

/// A session, its clock, and what is left of what came out.
struct Line {
    now: Instant,
    random: Random,
    session: Session,
    invite: Option<Request>,
}

fn policy() -> Policy {
    let text = include_str!("../../../config/small.toml");
    let config = crate::config::Config::parse("small.toml", text).expect("the example");
    let network = Network { address: "192.0.2.0".parse().expect("ip"), prefix: 24 };
    Policy { networks: vec![network], ..Policy::new(&config, TrunkId(0)) }
}

impl Line {
    fn new(srtp: Srtp, paused: bool) -> Line {
        let mut random = Random::seed_from_u64(7);
        let now = Instant::now();
        let mut invite = Request::new(Method::Invite, "sip:recorder@192.0.2.40:5060");
        for (name, value) in [
            (HeaderName::From, "<sip:tonewall@203.0.113.1>;tag=ours"),
            (HeaderName::To, "<sip:recorder@192.0.2.40>"),
            (HeaderName::CallId, "c1"),
            (HeaderName::CSeq, "7 INVITE"),
        ] {
            invite.headers.push(name, value);
        }
        let place = ("203.0.113.9".parse().expect("ip"), [30_000, 30_002]);
        let ours = Ours::new(&mut random, place, Codec::Pcmu, (srtp, &[SrtpSuite::AesCm128Sha1_80]));
        let setup = Setup {
            invite,
            contact: "<sip:203.0.113.1>;+sip.src".to_owned(),
            dialect: Dialect::Standard,
            ours,
            policy: policy(),
            answer: 4 * SEC,
            alive: 10 * SEC,
            metadata: "<recording>1</recording>".to_owned(),
            paused,
        };
        let session = Session::new(now, &mut random, setup);
        Line { now, random, session, invite: None }
    }

    /// Everything that comes out now, in words; INVITEs are kept.
    fn out(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(output) = self.session.poll_output() {
            out.push(match output {
                Output::Invite(request) => {
                    let text = String::from_utf8_lossy(&request.body).into_owned();
                    let ways = ["sendonly", "inactive"].map(|way| text.matches(&format!("a={way}")).count());
                    self.invite = Some(request);
                    format!("INVITE {}/{}", ways[0], ways[1])
                }
                Output::Ack(_) => "ACK".to_owned(),
                Output::Cancel => "CANCEL".to_owned(),
                Output::Send(request) => request.method.to_string(),
                Output::Ask(request) => format!("ask {}", request.method),
                Output::Respond(_, response) => {
                    let text = String::from_utf8_lossy(&response.body).into_owned();
                    let ways = ["sendonly", "inactive"].map(|way| text.matches(&format!("a={way}")).count());
                    format!("{} {}/{}", response.status, ways[0], ways[1])
                }
                Output::Flow(Some(_)) => "flow".to_owned(),
                Output::Flow(None) => "cut".to_owned(),
                Output::Accepted(wants) => format!("accepted {wants}"),
                Output::Over(End::Ours) => "over".to_owned(),
                Output::Over(End::Theirs) => "over by them".to_owned(),
                Output::Over(End::Failed(why)) => format!("failed: {why}"),
            });
        }
        out
    }

    fn answer(&mut self, status: u16, body: Option<String>) -> Vec<String> {
        let invite = self.invite.clone().expect("an INVITE");
        let mut response = Response::for_request(&invite, status, "");
        response.set_to_tag("theirs");
        response.headers.push(HeaderName::Contact, "<sip:srs@192.0.2.40:5060>");
        if let Some(body) = body {
            response.set_body("application/sdp", body);
        }
        self.session.handle_response(self.now, &mut self.random, &response);
        self.out()
    }

    /// A session that is up.
    fn up() -> Line {
        let mut line = Line::new(Srtp::Off, false);
        assert_eq!(line.out(), ["INVITE 2/0"]);
        assert_eq!(line.answer(200, Some(theirs("recvonly"))), ["ACK", "flow", "accepted true"]);
        line
    }

    fn pause(&mut self, paused: bool) -> Vec<String> {
        self.session.set_paused(self.now, &mut self.random, paused);
        self.out()
    }

    fn later(&mut self, by: Duration) -> Vec<String> {
        self.now += by;
        self.session.handle_timeout(self.now, &mut self.random);
        self.out()
    }

    /// A request of the server's.
    fn asked(&mut self, method: &str, cseq: u32, body: Option<String>) -> Vec<String> {
        let (id, request) = taken(method, cseq, body);
        self.session.handle_request(&mut self.random, id, &request);
        self.out()
    }
}

fn theirs(direction: &str) -> String {
    let section = |port: u16, label: u8| {
        format!("m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na={direction}\r\na=label:{label}\r\n")
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.40\r\ns=-\r\nc=IN IP4 192.0.2.40\r\nt=0 0\r\n{}{}",
        section(4_000, 1),
        section(4_002, 2)
    )
}

/// A request as an endpoint gives it, with the transaction it is of.
fn taken(method: &str, cseq: u32, body: Option<String>) -> (ServerId, Request) {
    let mut endpoint = Endpoint::new(EndpointConfig::default(), Random::seed_from_u64(1));
    let body = body.unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let text = format!(
        "{method} sip:203.0.113.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.40;branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:recorder@192.0.2.40>;tag=theirs\r\nTo: <sip:tonewall@203.0.113.1>;tag=ours\r\nCall-ID: c1\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:srs@192.0.2.40:5060>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let at = |text: &str| text.parse().expect("an address");
    let flow = Flow {
        listener: crate::config::ListenerId(0),
        transport: crate::config::Transport::Udp,
        local: at("203.0.113.1:5060"),
        remote: at("192.0.2.40:5060"),
        connection: None,
        trunk: None,
    };
    endpoint.handle_datagram(Instant::now(), &flow, text.as_bytes());
    match endpoint.poll_event() {
        Some(Event::Request { id, request, .. }) => (id, request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_invite_says_what_the_rfc_demands() {
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    let invite = line.invite.expect("an INVITE");
    assert_eq!(invite.headers.text(HeaderName::Require), Some("siprec"));
    assert!(
        invite.headers.text(HeaderName::ContentType).is_some_and(|kind| kind.starts_with("multipart/mixed;boundary="))
    );
    let body = String::from_utf8_lossy(&invite.body).into_owned();
    for part in [
        "Content-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n<recording>",
        "m=audio 30000 RTP/AVP 0 8\r\n",
        "m=audio 30002 RTP/AVP 0 8\r\n",
        "a=label:1\r\na=sendonly\r\n",
        "a=label:2\r\na=sendonly\r\n",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[test]
fn a_pause_cuts_before_it_tells_and_a_resume_flows_before_it_tells() {
    let mut line = Line::up();
    assert_eq!(line.pause(true), ["cut", "INVITE 0/2"]);
    // What changes while a change is being told waits for its answer.
    assert_eq!(line.pause(false), ["flow"]);
    assert_eq!(line.pause(true), ["cut"]);
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK", "INVITE 0/2"]);
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK"]);
    // The server's `inactive` was its answer to ours; what it wants then is told by its answer to the next.
    assert_eq!(line.pause(false), ["INVITE 2/0"]);
    assert_eq!(line.answer(200, Some(theirs("recvonly"))), ["ACK", "flow"]);
}

#[test]
fn a_call_that_is_paused_from_the_start_never_sounds() {
    let mut line = Line::new(Srtp::Off, true);
    assert_eq!(line.out(), ["INVITE 0/2"]);
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK", "accepted false"]);
    // One that ignores the direction gets nothing either.
    let mut line = Line::new(Srtp::Off, true);
    line.out();
    assert_eq!(line.answer(200, Some(theirs("recvonly"))), ["ACK", "accepted true"]);
}

#[test]
fn a_pause_that_comes_before_the_answer_is_told_after_it() {
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    assert!(line.pause(true).is_empty());
    assert_eq!(line.answer(200, Some(theirs("recvonly"))), ["ACK", "accepted true", "INVITE 0/2"]);
}

#[test]
fn glare_is_waited_out_between_2_1_and_4_seconds_and_the_sound_stays_cut() {
    let mut line = Line::up();
    line.pause(true);
    assert!(line.answer(491, None).is_empty());
    let wait = line.session.poll_timeout().expect("a time").duration_since(line.now);
    assert!((Duration::from_millis(2_100)..=4 * SEC).contains(&wait), "{wait:?}");
    assert!(line.later(Duration::from_millis(2_000)).is_empty());
    assert_eq!(line.later(2 * SEC), ["INVITE 0/2"]);
}

#[test]
fn a_server_that_wants_no_sound_yet_gets_it_when_it_asks() {
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK", "accepted false"]);
    // A pause meanwhile, and its end, change nothing for it.
    assert_eq!(line.pause(true), ["INVITE 0/2"]);
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK"]);
    assert_eq!(line.asked("INVITE", 1, Some(theirs("recvonly"))), ["200 0/2"], "not while it is paused");
    assert_eq!(line.pause(false), ["flow", "INVITE 2/0"]);
    assert_eq!(line.answer(200, Some(theirs("inactive"))), ["ACK", "cut"]);
    assert_eq!(line.asked("INVITE", 2, Some(theirs("recvonly"))), ["flow", "200 2/0"]);
}

#[test]
fn what_a_server_makes_of_a_change_is_its_affair_and_the_cut_stays() {
    // It agrees without a description: what was agreed stands.
    let mut line = Line::up();
    line.pause(true);
    assert_eq!(line.answer(200, None), ["ACK"]);
    assert_eq!(line.pause(false), ["flow", "INVITE 2/0"]);
    assert_eq!(line.answer(200, None), ["ACK"]);
    // It cannot for the moment, again and again: it is told so often, and not for ever.
    assert_eq!(line.pause(true), ["cut", "INVITE 0/2"]);
    let mut told = 1;
    assert!(line.answer(500, None).is_empty());
    for _ in 0..120 {
        for done in line.later(SEC / 2) {
            match done.as_str() {
                "ask OPTIONS" => line.session.handle_alive(line.now, 200),
                "INVITE 0/2" => told += 1,
                other => panic!("{other}"),
            }
            if done.starts_with("INVITE") {
                assert!(line.answer(500, None).is_empty());
            }
        }
    }
    assert_eq!(told, 6);
    assert!(!line.session.is_flowing() && line.session.is_up());
    // It will not: nothing more is said of it.
    for status in [403, 488, 606] {
        let mut line = Line::up();
        assert_eq!(line.pause(true), ["cut", "INVITE 0/2"]);
        assert!(line.answer(status, None).is_empty());
        assert!(line.later(9 * SEC).is_empty(), "{status}");
        assert!(!line.session.is_flowing());
        assert_eq!(line.pause(false), ["flow", "INVITE 2/0"]);
    }
}

#[test]
fn their_reinvite_during_ours_is_glare_and_is_taken_after_it() {
    let mut line = Line::up();
    line.pause(true);
    assert_eq!(line.asked("INVITE", 1, Some(theirs("recvonly"))), ["491 0/0"]);
    line.answer(200, Some(theirs("inactive")));
    assert_eq!(line.asked("INVITE", 2, Some(theirs("recvonly"))), ["200 0/2"], "paused: whatever they want");
    line.pause(false);
    line.answer(200, Some(theirs("recvonly")));
    assert_eq!(line.asked("INVITE", 3, Some(theirs("inactive"))), ["cut", "200 0/2"]);
    assert_eq!(line.asked("UPDATE", 4, Some(theirs("recvonly"))), ["flow", "200 2/0"]);
    assert_eq!(line.asked("INVITE", 5, None), ["flow", "200 2/0"], "they leave the offer to us");
    assert_eq!(line.asked("MESSAGE", 6, None), ["405 0/0"]);
    assert_eq!(line.asked("BYE", 7, None), ["cut", "200 0/0", "over by them"]);
}

#[test]
fn what_the_server_may_not_ask_for_is_refused() {
    let mut line = Line::up();
    let elsewhere = theirs("recvonly").replace("192.0.2.40", "198.51.100.1");
    assert_eq!(line.asked("INVITE", 1, Some(elsewhere)), ["flow", "488 0/0"]);
    assert_eq!(line.asked("INVITE", 1, Some(theirs("recvonly"))), ["500 0/0"], "out of order");
}

#[test]
fn what_cannot_be_a_recording_is_left_with_a_reason() {
    for (answer, why) in [
        (theirs("recvonly").replace("m=audio 4002", "m=audio 0"), "refused the stream with label 2"),
        (theirs("recvonly").replace("AVP 0", "AVP 9"), "takes no G.711"),
        (theirs("recvonly").replace("192.0.2.40", "198.51.100.1"), "outside"),
        ("nonsense".to_owned(), "no readable"),
    ] {
        let mut line = Line::new(Srtp::Off, false);
        line.out();
        let out = line.answer(200, Some(answer));
        assert_eq!(out[..2], ["ACK", "BYE"], "{out:?}");
        assert!(out[2].contains(why), "{why}: {out:?}");
    }
    let mut line = Line::new(Srtp::Required, false);
    line.out();
    let out = line.answer(200, Some(theirs("recvonly")));
    assert!(out[2].contains("does not agree on encryption"), "{out:?}");
}

#[test]
fn encryption_takes_the_key_of_the_tag_that_was_answered() {
    let mut line = Line::new(Srtp::Optional, false);
    line.out();
    let crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n";
    let text = theirs("recvonly").replace("a=label", &format!("{crypto}a=label"));
    let invite = String::from_utf8_lossy(&line.invite.as_ref().expect("sent").body).into_owned();
    assert!(invite.contains("RTP/AVP") && invite.matches("a=crypto:1").count() == 2);
    assert_eq!(line.answer(200, Some(text)), ["ACK", "flow", "accepted true"]);
}

#[test]
fn silence_and_refusals_end_it_and_stops_are_polite() {
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    assert!(line.later(3 * SEC).is_empty());
    assert_eq!(line.later(SEC), ["CANCEL", "failed: no answer to the INVITE"]);
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    assert_eq!(line.answer(486, None), ["failed: the recorder refused the session with 486"]);
    let mut line = Line::up();
    line.session.stop();
    assert_eq!(line.out(), ["cut", "BYE", "over"]);
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    line.session.stop();
    assert_eq!(line.out(), ["CANCEL", "over"]);
    line.session.stop();
    assert!(line.out().is_empty());
}

#[test]
fn a_server_that_gives_no_sign_of_life_is_found_out() {
    let mut line = Line::up();
    assert_eq!(line.later(10 * SEC), ["ask OPTIONS"]);
    line.session.handle_alive(line.now, 405);
    assert!(line.later(9 * SEC).is_empty(), "any answer will do");
    assert_eq!(line.later(SEC), ["ask OPTIONS"]);
    assert_eq!(line.later(5 * SEC), ["cut", "failed: the recorder does not answer within the session"]);
    let mut line = Line::up();
    line.session.handle_alive(line.now, 481);
    assert_eq!(line.out()[0], "cut");
    let mut line = Line::up();
    line.pause(true);
    assert_eq!(line.later(10 * SEC)[0], "failed: the recorder does not answer a change");
}

#[test]
fn a_session_whose_sound_is_all_sent_has_ended_when_its_end_is_answered() {
    let ended = |answer: Option<u16>| {
        let mut line = Line::up();
        line.session.finish(line.now);
        assert_eq!(line.out(), ["cut", "ask BYE"]);
        match answer {
            Some(status) => line.session.handle_alive(line.now, status),
            None => return line.later(5 * SEC),
        }
        line.out()
    };
    assert_eq!(ended(Some(200)), ["over"]);
    assert_eq!(ended(Some(481)), ["failed: the recorder did not know the session at its end (481)"]);
    assert_eq!(ended(None), ["failed: the recorder did not answer at its end"]);
}

#[test]
fn a_cut_loses_nothing_of_sound_that_is_not_live() {
    let mut now = Instant::now();
    let (mut sound, mut heard) = (Sound::patient(now, 5), Heard::default());
    sound.set(now, Some(streams()), false);
    sound.block(now, block(false));
    sound.block(now, block(false));
    sound.handle_timeout(now, &mut heard);
    sound.set(now, None, false);
    now += SEC;
    sound.handle_timeout(now, &mut heard);
    assert_eq!((heard.0.len(), sound.is_empty()), (2, false));
    sound.set(now, Some(streams()), false);
    for _ in 0..10 {
        sound.handle_timeout(now, &mut heard);
        now += TICK;
    }
    assert!(sound.is_empty());
    let left: Vec<u32> = heard
        .0
        .iter()
        .filter(|(stream, _)| *stream == 0)
        .map(|(_, bytes)| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
        .collect();
    assert_eq!(left.len(), 10);
    assert!(left.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == 160), "no gap in the sound");
    // The sender stood still for 3 s.
    (0..30).for_each(|_| sound.block(now, block(false)));
    let sent = heard.0.len();
    sound.handle_timeout(now + 4 * SEC, &mut heard);
    assert_eq!(heard.0.len() - sent, 2 * 150, "late, and whole");
}

#[test]
fn a_change_of_the_call_is_told_once() {
    let mut line = Line::up();
    let tell = |line: &mut Line, text: &str| {
        line.session.set_metadata(line.now, &mut line.random, text.to_owned());
        line.out()
    };
    assert!(tell(&mut line, "<recording>1</recording>").is_empty());
    assert_eq!(tell(&mut line, "<recording>2</recording>"), ["INVITE 2/0"]);
    assert!(tell(&mut line, "<recording>3</recording>").is_empty());
    assert_eq!(line.answer(200, Some(theirs("recvonly"))), ["ACK", "flow", "INVITE 2/0"]);
    assert!(String::from_utf8_lossy(&line.invite.as_ref().expect("sent").body).contains("<recording>3"));
}

/// Packets per stream with the time since the start.
#[derive(Default)]
struct Heard(Vec<(usize, Vec<u8>)>, usize);

impl Sink for Heard {
    fn rtp(&mut self, stream: usize, packet: Masked<&[u8]>) {
        self.0.push((stream, packet.get().to_vec()));
    }

    fn rtcp(&mut self, _: usize, _: &[u8]) {
        self.1 += 1;
    }
}

fn block(paused: bool) -> crate::media::MaskedBlock {
    let mut samples = [0; crate::media::BLOCK_FRAMES * 2];
    samples.iter_mut().step_by(2).for_each(|left| *left = 8_000);
    Masked::for_test(Box::new(Block { samples, paused }))
}

fn streams() -> Box<[super::sdp::Stream; 2]> {
    let mut line = Line::new(Srtp::Off, false);
    line.out();
    let invite = line.invite.clone().expect("sent");
    let mut response = Response::for_request(&invite, 200, "");
    response.set_to_tag("theirs");
    response.headers.push(HeaderName::Contact, "<sip:srs@192.0.2.40:5060>");
    response.set_body("application/sdp", theirs("recvonly"));
    line.session.handle_response(line.now, &mut line.random, &response);
    std::iter::from_fn(|| line.session.poll_output())
        .find_map(|output| if let Output::Flow(streams) = output { streams } else { None })
        .expect("a flow")
}

#[test]
fn sound_goes_at_its_pace_and_a_cut_leaves_nothing_behind() {
    let mut now = Instant::now();
    let (mut sound, mut heard) = (Sound::new(now, 5), Heard::default());
    // Before the server has answered, what is heard is kept.
    sound.block(now, block(false));
    sound.set(now, Some(streams()), false);
    let mut run = |sound: &mut Sound, heard: &mut Heard, blocks: usize, paused: bool| {
        for _ in 0..blocks {
            sound.block(now, block(paused));
            for _ in 0..5 {
                sound.handle_timeout(now, heard);
                now += TICK;
            }
        }
        now
    };
    run(&mut sound, &mut heard, 9, false);
    assert_eq!(heard.0.len(), 2 * 45, "45 ticks of 20 ms, two streams");
    let left: Vec<&Vec<u8>> = heard.0.iter().filter(|(stream, _)| *stream == 0).map(|(_, bytes)| bytes).collect();
    assert!(left.windows(2).all(|pair| pair[1][3] == pair[0][3].wrapping_add(1)), "sequence");
    assert_eq!((left[0].len(), left[0][1]), (172, 0x80), "the first packet has the marker");
    assert!(left[1][12..].iter().all(|byte| *byte == left[1][12]) && left[1][12] != 0xff);
    let right = heard.0.iter().find(|(stream, _)| *stream == 1).expect("the other side");
    assert!(right.1[12..].iter().all(|byte| *byte == 0xff), "silence");
    let sent = heard.0.len();
    let then = run(&mut sound, &mut heard, 0, false);
    sound.set(then, None, false);
    run(&mut sound, &mut heard, 20, false);
    assert_eq!(heard.0.len(), sent, "cut");
    // After a pause, what was heard in it is left out: the first 600 ms.
    let then = run(&mut sound, &mut heard, 0, false);
    sound.set(then, Some(streams()), true);
    run(&mut sound, &mut heard, 6, false);
    assert_eq!(heard.0.len(), sent);
    run(&mut sound, &mut heard, 2, false);
    assert!(heard.0.len() > sent);
    let sent = heard.0.len();
    run(&mut sound, &mut heard, 3, true);
    assert!(heard.0.len() <= sent + 10, "blocks that are gaps are not sent");
    run(&mut sound, &mut heard, 60, false);
    assert!(heard.1 >= 2, "reports");
}

#[test]
fn ids_are_uuids_in_base64() {
    let id = Uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef).to_string();
    assert_eq!(id.len(), 24);
}
