//! Everything Tonewall sends in calls of many kinds, read by other people's parsers: each SIP message by `rsip`, each
//! session description by `sdp-types`, each RTP packet by `rtp-types`. They must read it, and understand what we meant.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use rsip::prelude::*;
use rsip::{Method, SipMessage};
use rtp_types::RtpPacket;
use tonewall::config::{GuardMode, MaskKind, RecordingPolicy};
use tonewall::obs::event::HoldKind;
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::net::{Conditions, Datagram};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::sim::Sim;
use tonewall::testkit::simple_sdp::Direction;
use tonewall::testkit::site::Site;
use tonewall::testkit::ua::{Answer, Profile};

/// What was read, to be sure that there was something to read.
#[derive(Debug, Default)]
struct Read {
    /// Whether the story's network is clean.
    clean: bool,
    requests: BTreeMap<String, u32>,
    responses: BTreeMap<u16, u32>,
    descriptions: u32,
    audio: u64,
    events: u64,
    reports: u64,
}

impl Read {
    /// Reads everything that left Tonewall in a story.
    fn all(&mut self, sim: &Sim) {
        let sent: Vec<&Datagram> = sim.wire().iter().filter(|d| d.from.ip() == Sim::proxy()).collect();
        let mut media = HashMap::new();
        for datagram in &sent {
            if [5060, 5080].contains(&datagram.from.port()) {
                self.sip(datagram, &mut media);
            }
        }
        let mut last = HashMap::new();
        for datagram in &sent {
            match datagram.from.port() {
                5060 | 5080 => {}
                port if port % 2 == 0 => self.rtp(datagram, &media, &mut last),
                _ => self.rtcp(&datagram.bytes),
            }
        }
    }

    fn sip(&mut self, datagram: &Datagram, media: &mut HashMap<(SocketAddr, SocketAddr), Vec<u8>>) {
        let text = String::from_utf8_lossy(&datagram.bytes);
        let message = SipMessage::try_from(&datagram.bytes[..]).unwrap_or_else(|error| panic!("{error}: {text}"));
        let ours = datagram.from.to_string();
        let via = message.via_header().expect("Via").typed().unwrap_or_else(|e| panic!("{e}: {text}"));
        let from = message.from_header().expect("From").typed().unwrap_or_else(|e| panic!("{e}: {text}"));
        let to = message.to_header().expect("To").typed().unwrap_or_else(|e| panic!("{e}: {text}"));
        let cseq = message.cseq_header().expect("CSeq").typed().unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(!message.call_id_header().expect("Call-ID").value().is_empty());
        assert!(from.tag().is_some(), "{text}");
        let branch = via.branch().expect("a branch").value().to_owned();
        assert!(branch.starts_with("z9hG4bK"), "{text}");
        let length: usize = message
            .headers()
            .iter()
            .find_map(|header| match header {
                rsip::Header::ContentLength(length) => length.value().trim().parse().ok(),
                _ => None,
            })
            .expect("Content-Length");
        assert_eq!(length, message.body().len(), "{text}");
        let contact = message.contact_header().ok().map(|c| c.typed().unwrap_or_else(|e| panic!("{e}: {text}")));
        if let Some(contact) = &contact {
            assert_eq!(contact.uri.host_with_port.to_string(), ours, "{text}");
        }
        match &message {
            SipMessage::Request(request) => {
                assert_eq!(cseq.method, *request.method(), "{text}");
                assert_eq!(via.uri.host_with_port.to_string(), ours, "{text}");
                let hops: u32 = request.max_forwards_header().expect("Max-Forwards").num().expect("a number");
                assert!((1..=70).contains(&hops));
                // Only the first INVITE of a dialog, and what cancels or acknowledges it, know no remote tag.
                let first = matches!(request.method(), Method::Invite | Method::Cancel | Method::Ack | Method::Options);
                assert!(to.tag().is_some() || first, "{text}");
                assert!(contact.is_some() || *request.method() != Method::Invite, "{text}");
                *self.requests.entry(request.method().to_string()).or_default() += 1;
            }
            SipMessage::Response(response) => {
                let status = response.status_code().code();
                assert!(to.tag().is_some() || status == 100, "{text}");
                assert!(contact.is_some() || cseq.method != Method::Invite || status / 100 != 2, "{text}");
                *self.responses.entry(status).or_default() += 1;
            }
        }
        let kind = message.headers().iter().find_map(|header| match header {
            rsip::Header::ContentType(kind) => Some(kind.value().to_owned()),
            _ => None,
        });
        assert_eq!(kind.is_some(), length > 0, "{text}");
        if kind.as_deref() == Some("application/sdp") {
            self.sdp(datagram, message.body(), media);
        }
    }

    /// Reads a description and keeps which payload types it allows from us to whom it went.
    fn sdp(&mut self, datagram: &Datagram, body: &[u8], media: &mut HashMap<(SocketAddr, SocketAddr), Vec<u8>>) {
        let text = String::from_utf8_lossy(body);
        let session = sdp_types::Session::parse(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        let connection = session.connection.as_ref().expect("c=");
        assert_eq!(connection.connection_address, Sim::proxy().to_string(), "{text}");
        assert_eq!(session.origin.unicast_address, Sim::proxy().to_string(), "{text}");
        assert_eq!(session.medias.iter().filter(|m| m.port != 0).count(), 1, "{text}");
        assert!(session.emails.is_empty() && session.phones.is_empty() && session.uri.is_none(), "{text}");
        let audio = session.medias.iter().find(|m| m.port != 0).expect("a media line");
        assert_eq!((audio.media.as_str(), audio.proto.as_str()), ("audio", "RTP/AVP"), "{text}");
        let types: Vec<u8> = audio.fmt.split(' ').map(|t| t.parse().expect("a payload type")).collect();
        for kind in &types {
            let map = format!("{kind} ");
            let named = audio
                .attributes
                .iter()
                .any(|a| a.attribute == "rtpmap" && a.value.as_ref().is_some_and(|value| value.starts_with(&map)));
            assert!(named || *kind < 96, "{text}");
        }
        let ours = SocketAddr::new(Sim::proxy(), audio.port);
        // The other end sends from, and hears at, its one address; which payload types were ever agreed is enough here.
        media.entry((ours, datagram.to)).or_default().extend(types);
        self.descriptions += 1;
    }

    fn rtp(
        &mut self,
        datagram: &Datagram,
        media: &HashMap<(SocketAddr, SocketAddr), Vec<u8>>,
        last: &mut HashMap<(SocketAddr, u32), u16>,
    ) {
        let packet = RtpPacket::parse(&datagram.bytes).expect("rtp-types reads it");
        assert_eq!((packet.version(), packet.n_csrcs(), packet.padding()), (2, 0, None));
        assert!(packet.extension().is_none());
        let agreed = media.iter().filter(|((ours, _), _)| *ours == datagram.from);
        assert!(agreed.clone().any(|(_, types)| types.contains(&packet.payload_type())), "{}", packet.payload_type());
        let next = last.get(&(datagram.from, packet.ssrc())).map(|sequence| sequence.wrapping_add(1));
        // Loss and reordering on the way in are the receiver's to see: numbers go on as they came.
        assert!(!self.clean || next.is_none_or(|next| next == packet.sequence_number()), "sequence numbers have a gap");
        last.insert((datagram.from, packet.ssrc()), packet.sequence_number());
        match packet.payload_type() {
            0 | 8 => {
                assert_eq!(packet.payload_len() % 80, 0, "whole tens of milliseconds");
                self.audio += 1;
            }
            _ => {
                assert_eq!(packet.payload_len(), 4);
                self.events += 1;
            }
        }
    }

    /// A compound packet: each part as long as it says, a report first (RFC 3550 section 6.1).
    fn rtcp(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            assert_eq!((rest[0] >> 6, rest[0] & 0x20), (2, 0));
            let length = 4 * (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1);
            kinds.push(rest[1]);
            rest = rest.get(length..).expect("no part is longer than the packet");
        }
        assert!(matches!(kinds[0], 200 | 201), "{kinds:?}");
        assert!(kinds.contains(&202) && kinds.iter().all(|kind| (200..=203).contains(kind)), "{kinds:?}");
        self.reports += 1;
    }
}

#[allow(clippy::disallowed_methods)] // One reading, as the origin that virtual time counts from.
fn site(seed: u64, change: impl FnOnce(Site) -> Site, caller: Profile, agent: Profile) -> Sim {
    let mut sim = Sim::new(seed, std::time::Instant::now(), change, caller, agent);
    sim.keep_wire();
    sim.caller.phone.rtp.speak(hiss(seed, -45.0));
    sim.agent.phone.rtp.speak(hiss(seed + 1, -45.0));
    sim
}

fn caller() -> Profile {
    Profile::new("+15550100")
}

fn agent(answer: Answer) -> Profile {
    Profile::new("5551000").answering(answer)
}

/// A call with everything in it: keys in each form, a hold of the mask, holds and resumptions of the call.
fn a_full_call(sim: &mut Sim) {
    sim.connect();
    sim.run_for(1_000);
    for form in [Form::Tone, Form::Event, Form::Info] {
        sim.caller(|phone, _| phone.press(50, typed("42#", form, 80, 60)));
        sim.run_for(1_500);
    }
    let holds = sim.hold(&[HoldKind::Mask]);
    for form in [Form::Tone, Form::Event, Form::Info] {
        sim.caller(|phone, _| phone.press(50, typed("42#", form, 80, 60)));
        sim.run_for(1_500);
    }
    sim.release(&holds);
    sim.agent(|phone, now| phone.reinvite(now, Direction::SendOnly));
    sim.run_for(1_000);
    sim.agent(|phone, now| phone.reinvite(now, Direction::SendRecv));
    sim.run_for(6_000);
    sim.caller(|phone, now| phone.reinvite(now, Direction::SendRecv));
    sim.run_for(1_000);
    sim.caller(|phone, now| phone.hang_up(now));
    sim.run_for(1_000);
}

#[test]
#[allow(clippy::print_stdout)]
fn other_parsers_read_everything_that_is_sent() {
    let mut read = Read { clean: true, ..Read::default() };
    for (seed, guard) in [GuardMode::Off, GuardMode::Signal, GuardMode::Always].into_iter().enumerate() {
        for mask in [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute] {
            let change = |site: Site| {
                site.carriers(|c| {
                    c.guard = guard;
                    c.mask = mask;
                    c.recording = RecordingPolicy::Required;
                })
            };
            let mut sim = site(seed as u64, change, caller(), agent(Answer::After(300)));
            a_full_call(&mut sim);
            read.all(&sim);
        }
    }
    // Calls that come to nothing, early media, a poor line.
    let mut busy = site(20, |s| s, caller(), agent(Answer::Reject(486)));
    busy.dial();
    busy.run_for(2_000);
    read.all(&busy);
    let mut cancelled = site(21, |s| s, caller(), agent(Answer::Never));
    cancelled.dial();
    cancelled.run_for(1_000);
    cancelled.caller(|phone, now| phone.cancel(now));
    cancelled.run_for(2_000);
    read.all(&cancelled);
    let mut early = site(22, |s| s, caller(), agent(Answer::EarlyMedia(1_500)));
    early.connect();
    early.run_for(500);
    early.agent(|phone, now| phone.hang_up(now));
    early.run_for(1_000);
    read.all(&early);
    read.clean = false;
    for seed in 30..34 {
        let mut poor = site(seed, |s| s, caller(), agent(Answer::After(300)));
        poor.sip_path = Conditions::POOR;
        poor.rtp_path = Conditions::POOR;
        poor.connect();
        poor.run_for(3_000);
        poor.agent(|phone, now| phone.hang_up(now));
        poor.run_for(5_000);
        read.all(&poor);
    }

    println!("{read:#?}");
    for method in ["INVITE", "ACK", "BYE", "CANCEL", "INFO"] {
        assert!(read.requests.contains_key(method), "no {method} was sent");
    }
    for status in [180, 183, 200, 486, 487] {
        assert!(read.responses.contains_key(&status), "no {status} was sent");
    }
    assert!(read.descriptions > 50 && read.audio > 10_000 && read.events > 100 && read.reports > 50);
}
