//! What must hold for any bytes at all, one function per parser: the bodies of the fuzz targets in `fuzz/`, which
//! `tests/fuzz.rs` also runs as plain tests over a saved corpus and seeded changes of it. Bytes go in, and any time
//! to count from; a panic is a finding.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use super::site::Site;
use crate::base::Random;
use crate::base::key::MediaKey;
use crate::call::Engine;
use crate::config::{ListenerId, Srtp, SrtpKeying, SrtpSuite, Transport, TrunkId};
use crate::dtmf::{event, info};
use crate::rtp::{View, red, rtcp};
use crate::sdp::{Ask, LegSession, Own, Policy, Session, read_peer};
use crate::sip::msg::header::ContentType;
use crate::sip::msg::{self, Frame, FrameError, Framer, Message};
use crate::sip::{Endpoint, EndpointConfig, Flow, multipart};
use crate::srtp::Receiver;

/// The body of a target: any instant to count from, any bytes.
pub type Body = fn(Instant, &[u8]);

/// Name and body of every target.
pub const TARGETS: [(&str, Body); 11] = [
    ("sip", sip),
    ("stream", stream),
    ("sdp", sdp),
    ("rtp", rtp),
    ("rtcp", rtcp_compound),
    ("srtp", srtp_packet),
    ("event", telephone_event),
    ("red", redundancy),
    ("info", info_body),
    ("multipart", multipart_body),
    ("engine", engine),
];

/// How many times larger than what asked for it an answer may be (threats R27).
const AMPLIFIED: usize = 3;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| unreachable!("{text} is an address"))
}

fn carrier_flow() -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        local: address("10.0.0.1:5060"),
        remote: address("10.1.0.1:5060"),
        connection: None,
        trunk: None,
    }
}

/// A SIP datagram. What is accepted prints to what reads the same; every typed header may be asked for; what is
/// answered is answered to its source, in a message that reads, and not amplified.
pub fn sip(now: Instant, bytes: &[u8]) {
    let read = msg::parse_datagram(bytes);
    let reads = read.is_ok();
    if let Ok(message) = read {
        let printed = message.to_bytes();
        let Ok(again) = msg::parse_datagram(&printed) else { panic!("what we print cannot be read") };
        assert_eq!(again.to_bytes(), printed, "printing is not stable");
        match &message {
            Message::Request(request) => {
                let _ = (request.uri().user(), request.via(), request.from(), request.to(), request.contact());
                let _ = (request.cseq(), request.call_id(), request.max_forwards(), request.content_type());
                let _ = (request.from_tag(), request.to_tag());
            }
            Message::Response(response) => {
                let _ = (response.via(), response.from(), response.to(), response.contact(), response.cseq());
                let _ = (response.reason_text(), response.class(), response.is_final());
            }
        }
    }
    let flow = carrier_flow();
    let config = EndpointConfig { user_agent: "tonewall".into(), ..EndpointConfig::default() };
    let mut endpoint = Endpoint::new(config, Random::seed_from_u64(1));
    endpoint.handle_datagram(now, &flow, bytes);
    while let Some(transmit) = endpoint.poll_transmit() {
        assert_eq!(transmit.flow.remote, flow.remote, "an answer goes elsewhere");
        // A fixed allowance: the shortest request is shorter than the headers an answer must have.
        assert!(transmit.bytes.len() <= AMPLIFIED * bytes.len().max(200), "an answer is amplified");
        assert!(is_framed(&transmit.bytes), "an answer is not one message");
        // What cannot be read is answered with its own headers, which may be what cannot be read.
        assert!(!reads || msg::parse_datagram(&transmit.bytes).is_ok(), "an answer cannot be read");
    }
}

/// Whether a head ends once, its lines end with CRLF only, and nothing in it could end a line elsewhere.
fn is_framed(message: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(message, b"\r\n\r\n") else { return false };
    let text = message[..end].split(|byte| *byte == b'\n');
    let mut lines = text.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).peekable();
    let whole = message[..end].windows(2).all(|pair| (pair[0] == b'\r') == (pair[1] == b'\n'));
    whole && lines.peek().is_some_and(|line| line.starts_with(b"SIP/2.0 ") || line.ends_with(b" SIP/2.0"))
}

/// A SIP byte stream: it gives the same frames whole and in pieces.
pub fn stream(now: Instant, bytes: &[u8]) {
    let drain = |framer: &mut Framer, into: &mut Vec<Result<Frame, FrameError>>| {
        while let Some(frame) = framer.next_frame() {
            into.push(frame);
        }
    };
    let (mut whole, mut frames) = (Framer::new(), Vec::new());
    whole.push(bytes);
    drain(&mut whole, &mut frames);
    for step in [1, 7] {
        let (mut framer, mut pieces) = (Framer::new(), Vec::new());
        for piece in bytes.chunks(step) {
            framer.push(piece);
            drain(&mut framer, &mut pieces);
        }
        let good = |frames: &[Result<Frame, FrameError>]| -> Vec<Frame> {
            frames.iter().filter_map(|frame| frame.as_ref().ok().cloned()).collect()
        };
        assert_eq!(good(&pieces), good(&frames), "pieces of {step} give other frames");
        assert_eq!(pieces.iter().any(Result::is_err), frames.iter().any(Result::is_err));
    }
    for frame in frames {
        if let Ok(Frame::Message(message)) = frame {
            sip(now, &message);
        }
    }
}

/// A session description: it prints as it was read, and our answer to it names no address but ours.
pub fn sdp(_: Instant, bytes: &[u8]) {
    let Ok(session) = Session::parse(bytes) else { return };
    let printed = session.to_bytes();
    let Ok(again) = Session::parse(&printed) else { panic!("what we print cannot be read") };
    assert_eq!(again.to_bytes(), printed, "printing is not stable");
    let config = site().config();
    for (srtp, keying) in [
        (Srtp::Off, SrtpKeying::Sdes),
        (Srtp::Optional, SrtpKeying::Sdes),
        (Srtp::Required, SrtpKeying::Sdes),
        (Srtp::Optional, SrtpKeying::Dtls),
    ] {
        let fingerprint = Some([7; 32]);
        let suites = SrtpSuite::ALL.into_iter().collect();
        let own = Own::default();
        let policy = Policy { own, srtp, keying, fingerprint, suites, ..Policy::new(&config, TrunkId(0)) };
        negotiate(&session, &policy);
    }
}

fn negotiate(session: &Session, policy: &Policy) {
    let Ok(peer) = read_peer(session, policy) else { return };
    let mut random = Random::seed_from_u64(1);
    let mut leg = LegSession::new(&mut random, address("10.0.0.1:30000"));
    if let Ok((answer, _)) = leg.answer(&peer, None, true, policy) {
        only_ours(&answer);
        assert_eq!(answer.sections().len(), session.sections().len(), "an answer has the offer's sections");
    }
    let mut other = LegSession::new(&mut random, address("10.0.0.1:30002"));
    if let Ok(offer) = other.offer(Ask { other: Some(&peer), keep_events: true }, policy) {
        only_ours(&offer);
    }
}

fn only_ours(session: &Session) {
    let printed = session.to_bytes();
    assert!(Session::parse(&printed).is_ok(), "our description cannot be read");
    let lines = session.lines().iter().chain(session.sections().iter().flat_map(|section| section.lines()));
    for line in lines.filter(|line| line.kind() == b'c') {
        assert_eq!(line.text(), Some("IN IP4 10.0.0.1"), "a foreign address in our description");
    }
}

/// An RTP packet: what is read lies inside it.
pub fn rtp(_: Instant, bytes: &[u8]) {
    let Ok(view) = View::parse(bytes) else { return };
    let _ = (view.marker(), view.payload_type(), view.sequence(), view.timestamp(), view.ssrc());
    assert!(inside(bytes, view.payload()), "a payload outside its packet");
}

/// An RTCP compound, refused or read.
pub fn rtcp_compound(_: Instant, bytes: &[u8]) {
    let read = rtcp::parse(bytes);
    if read.is_ok() {
        assert_eq!(bytes.len() % 4, 0, "RTCP comes in words");
        // A datagram that breaks off is never read as if it were whole.
        assert!(rtcp::parse(&bytes[..bytes.len() - 1]).is_err());
    }
    let _ = rtcp::is_rtcp(bytes);
}

/// An encrypted packet: what has no good tag is left as it came, and what has one is opened once.
pub fn srtp_packet(_: Instant, bytes: &[u8]) {
    for suite in SrtpSuite::ALL {
        let key = MediaKey::drawn(suite.key_len() + suite.salt_len(), |bytes| bytes.fill(7));
        let Some(mut receiver) = Receiver::new(suite, &key) else { return };
        for rtcp in [false, true] {
            let mut room = bytes.to_vec();
            let mut open = |room: &mut [u8]| if rtcp { receiver.open_rtcp(room) } else { receiver.open_rtp(room) };
            match open(&mut room) {
                Ok(length) => {
                    assert!(length < bytes.len());
                    assert!(open(&mut bytes.to_vec()).is_err(), "taken twice");
                }
                Err(_) => assert_eq!(room, bytes, "{suite:?}"),
            }
        }
    }
}

/// Telephone-event payloads: at most one press per report, and none when the same packet comes again.
pub fn telephone_event(now: Instant, bytes: &[u8]) {
    let [a, b, c, d, rest @ ..] = bytes else { return };
    let timestamp = u32::from_be_bytes([*a, *b, *c, *d]);
    for clock_hz in [8_000, 16_000, 48_000, 0] {
        let mut tracker = event::Tracker::new();
        for (n, payload) in rest.chunks(12).enumerate() {
            let at = now + Duration::from_millis(20 * n as u64);
            let packet = event::EventPacket { ssrc: 1, timestamp, clock_hz, payload };
            let (mut first, mut second) = (0, 0);
            tracker.handle(at, &packet, |_| first += 1);
            tracker.handle(at, &packet, |_| second += 1);
            assert!(first <= payload.len() / 4, "more presses than reports");
            assert_eq!(second, 0, "a repeated packet presses again");
        }
    }
    for block in event::blocks(rest) {
        let written = event::write(&block);
        assert!(event::blocks(&written).next().is_some_and(|again| again.event == block.event));
    }
}

/// Redundancy: blocks lie inside the payload, the primary last and alone.
pub fn redundancy(_: Instant, bytes: &[u8]) {
    let Some(blocks) = red::blocks(bytes, 1_000) else { return };
    assert!(blocks.iter().all(|block| inside(bytes, block.payload) && block.payload_type < 128));
    assert_eq!(blocks.iter().filter(|block| block.primary).count(), 1);
    assert!(blocks.last().is_some_and(|block| block.primary));
    let carried: usize = blocks.iter().map(|block| block.payload.len()).sum();
    assert_eq!(carried + 4 * (blocks.len() - 1) + 1, bytes.len(), "octets are lost or counted twice");
}

/// The body of an INFO request, of either type.
pub fn info_body(_: Instant, bytes: &[u8]) {
    for kind in ["application/dtmf-relay", "application/dtmf; charset=utf-8", "text/plain"] {
        if let Ok(key) = info::parse(kind, bytes) {
            assert!(key.duration_ms <= 60_000);
        }
    }
}

/// A body of several parts: the first line is its Content-Type. Parts lie inside the body, in order.
pub fn multipart_body(_: Instant, bytes: &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let Ok(kind) = ContentType::parse(bytes[..end].trim_ascii()) else { return };
    let body = bytes.get(end + 1..).unwrap_or_default();
    let Ok(parts) = multipart::parts(&kind, body) else { return };
    assert!(parts.len() <= multipart::MAX_PARTS);
    let mut last = body.as_ptr() as usize;
    for part in &parts {
        let _ = (part.is_required(), part.is_plain());
        assert!(inside(body, part.content), "a part outside its body");
        assert!(part.content.as_ptr() as usize >= last, "parts out of order");
        last = part.content.as_ptr() as usize + part.content.len();
    }
}

/// A datagram from the carrier to the whole B2BUA: what it sends reads, goes to the carrier or the PBX only, and the
/// engine goes on through two minutes of its own timers.
pub fn engine(mut now: Instant, bytes: &[u8]) {
    let site = site();
    let mut engine = Engine::new(std::sync::Arc::new(site.config()), Random::seed_from_u64(1));
    let flow = carrier_flow();
    let reads = msg::parse_datagram(bytes).is_ok();
    engine.handle_datagram(now, &flow, bytes);
    for _ in 0..400 {
        while let Some(transmit) = engine.poll_transmit() {
            let to = transmit.flow.remote;
            assert!(to == flow.remote || to == site.pbx, "a message goes to {to}");
            assert!(is_framed(&transmit.bytes), "a message of ours is not one message");
            // Only a refusal shows what was wrong with what it refuses.
            let ours = to == site.pbx || reads;
            assert!(!ours || msg::parse_datagram(&transmit.bytes).is_ok(), "a message of ours cannot be read");
        }
        while engine.poll_media().is_some() {}
        while engine.poll_record().is_some() {}
        while engine.poll_handover().is_some() {}
        while engine.poll_event().is_some() {}
        match engine.poll_timeout() {
            Some(at) if at <= now + Duration::from_secs(120) => {
                now = now.max(at);
                engine.handle_timeout(now);
            }
            _ => break,
        }
    }
}

fn site() -> Site {
    Site::new(address("10.0.0.1:5060"), address("10.1.0.1:5060"), address("10.0.0.1:5080"), address("10.2.0.1:5060"))
}

fn inside(outer: &[u8], inner: &[u8]) -> bool {
    let (outer, inner) = (outer.as_ptr_range(), inner.as_ptr_range());
    inner.start >= outer.start && inner.end <= outer.end || inner.start == inner.end
}

/// Changes `seed` the way a fuzzer without feedback does: octets flipped, set, left out, doubled, moved, and pieces of
/// `other` put in.
pub fn changed(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    const TELLING: [u8; 16] = *b"\0\r\n:;,<>\"@% =/\x7f\xff";
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..=bytes.len());
        let to = (at + random.random_range(0..32usize)).min(bytes.len());
        match random.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = TELLING[random.random_range(0..TELLING.len())],
            2 => drop(bytes.drain(at..to)),
            3 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes.insert(at, TELLING[random.random_range(0..TELLING.len())]),
            5 if !other.is_empty() => {
                let from = random.random_range(0..other.len());
                let piece = other[from..(from + 40).min(other.len())].to_vec();
                bytes.splice(at..to, piece);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
