//! Offer/answer through the B2BUA, leg by leg, with bodies as carriers' SBCs and PBXs write them.

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::config::{Codec, Network, Srtp, SrtpKeying, SrtpSuite};
use tonewall::sdp::{Ask, Direction, LegSession, Media, Own, Peer, Policy, Refusal, Session, read_peer};

/// A call: both legs' sessions and policies.
struct Pair {
    customer: LegSession,
    agent: LegSession,
    carrier: Policy,
    pbx: Policy,
}

impl Pair {
    fn new() -> Self {
        let mut random = Random::seed_from_u64(1);
        let mut leg = |text: &str| LegSession::new(&mut random, text.parse().expect("address"));
        Self {
            customer: leg("203.0.113.5:20000"),
            agent: leg("203.0.113.5:20002"),
            carrier: policy("198.51.100.0", &[Codec::Pcmu, Codec::Pcma]),
            pbx: policy("192.0.2.0", &[Codec::Pcmu, Codec::Pcma]),
        }
    }

    /// The customer's offer goes through to the agent: what the agent is offered.
    fn offer(&mut self, offer: &str) -> Result<(Peer, Session), Refusal> {
        let peer = read_peer(&parse(offer), &self.carrier)?;
        let out = self.agent.offer(Ask { other: Some(&peer), keep_events: false }, &self.pbx)?;
        Ok((peer, out))
    }

    /// The agent's answer comes back: the agent's media, our answer to the customer, the customer's media.
    fn answer(&mut self, peer: &Peer, answer: &str) -> Result<(Media, Session, Media), Refusal> {
        let (agent, agent_media) = self.agent.accept(&parse(answer), &self.pbx)?;
        let (session, media) = self.customer.answer(peer, Some(&agent), false, &self.carrier)?;
        Ok((agent_media, session, media))
    }
}

fn policy(network: &str, codecs: &[Codec]) -> Policy {
    Policy {
        unmaskable: tonewall::config::Unmaskable::Strip,
        t38: tonewall::config::T38::Refuse,
        codecs: codecs.into(),
        events: true,
        ptime_ms: 20,
        srtp: Srtp::Off,
        keying: SrtpKeying::Sdes,
        fingerprint: None,
        suites: SrtpSuite::USUAL.into_iter().collect(),
        rtcp_mux: false,
        latch: false,
        networks: vec![Network { address: network.parse().expect("ip"), prefix: 24 }],
        own: Own { addresses: vec!["203.0.113.5".parse().expect("ip")], ports: vec![(20_000, 29_999)] },
    }
}

fn parse(body: &str) -> Session {
    Session::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

fn text(session: &Session) -> String {
    String::from_utf8(session.to_bytes()).expect("our own text")
}

const CUSTOMER: &str = "v=0\r\no=sbc 11 1 IN IP4 198.51.100.7\r\ns=call\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 8 0 18 96 13\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:18 G729/8000\r\n\
    a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
const AGENT: &str = "v=0\r\no=pbx 5 5 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
    m=audio 12000 RTP/AVP 8 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n";

#[test]
fn a_call_is_negotiated_on_both_legs() {
    let mut pair = Pair::new();
    let (peer, offer) = pair.offer(CUSTOMER).expect("offer");
    let offered = text(&offer);
    assert!(offered.contains("m=audio 20002 RTP/AVP 0 8 13 96\r\n"), "{offered}");
    assert!(offered.contains("a=fmtp:96 0-15\r\n") && !offered.contains("198.51.100"), "{offered}");
    let (agent, answer, customer) = pair.answer(&peer, AGENT).expect("answer");
    assert!(text(&answer).contains("m=audio 20000 RTP/AVP 8 96\r\n"), "{}", text(&answer));
    assert_eq!(agent.remote_rtp, Some("192.0.2.9:12000".parse().expect("address")));
    assert_eq!(customer.remote_rtcp, Some("198.51.100.7:4001".parse().expect("address")));
    assert!(agent.send && agent.receive && customer.send && customer.receive);
    assert_eq!(customer.tx.audio[0].codec, Codec::Pcma);
    assert_eq!(customer.tx.event.map(|event| event.payload_type), Some(96));
}

#[test]
fn hold_passes_through_and_the_version_counts_changes_only() {
    let mut pair = Pair::new();
    let (peer, first) = pair.offer(CUSTOMER).expect("offer");
    pair.answer(&peer, AGENT).expect("answer");
    let (_, same) = pair.offer(CUSTOMER).expect("offer");
    assert_eq!(first, same);
    pair.agent.withdraw();
    let held = CUSTOMER.replace("c=IN IP4 198.51.100.7", "c=IN IP4 0.0.0.0");
    let (peer, offer) = pair.offer(&held).expect("offer");
    assert_eq!(peer.direction, Direction::SendOnly);
    assert!(text(&offer).contains("a=sendonly\r\n") && text(&offer).contains("c=IN IP4 203.0.113.5\r\n"));
    let version = |session: &Session| session.origin().expect("origin").version.parse::<u64>().expect("a number");
    assert_eq!(version(&offer), version(&first) + 1);
    let (agent, answer, customer) = pair.answer(&peer, &format!("{AGENT}a=recvonly\r\n")).expect("answer");
    assert!(text(&answer).contains("a=recvonly\r\n"));
    assert!(!customer.send && customer.receive && agent.send && !agent.receive);
}

/// The golden files: what comes in, and what we make of it. `TONEWALL_GOLDEN=write` rewrites them; read the
/// difference before committing it.
#[test]
fn bodies_of_the_field_become_what_the_golden_files_say() {
    let write = std::env::var("TONEWALL_GOLDEN").is_ok_and(|value| value == "write");
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdp");
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("golden files").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{} golden files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let old = std::fs::read_to_string(&file).expect("a golden file");
        let new = golden(&old);
        if write {
            std::fs::write(&file, &new).expect("written");
        } else if new != old {
            wrong.push(format!("{} would be:\n{new}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The golden file made anew from its inputs: a description, the customer's offer and perhaps the agent's answer.
fn golden(file: &str) -> String {
    let block = |title: &str| -> Option<String> {
        let (_, rest) = file.split_once(&format!("--- {title}\n"))?;
        Some(rest.lines().take_while(|line| !line.starts_with("---")).map(|line| format!("{line}\n")).collect())
    };
    let offer = block("customer offers").expect("an offer");
    let mut out = format!("{}\n--- customer offers\n{offer}", file.lines().next().expect("a description"));
    let mut add = |title: &str, text: &str| out += &format!("--- {title}\n{}", text.replace("\r\n", "\n"));
    let mut pair = Pair::new();
    let refused = |refusal: Refusal| format!("{} {}\n", refusal.status, refusal.warning_value("tonewall"));
    match pair.offer(&offer) {
        Err(refusal) => add("refused", &refused(refusal)),
        Ok((peer, to_agent)) => {
            second_opinion(&to_agent);
            add("agent is offered", &text(&to_agent));
            let answer = block("agent answers").expect("an answer");
            add("agent answers", &answer);
            match pair.answer(&peer, &answer) {
                Err(refusal) => add("refused", &refused(refusal)),
                Ok((agent, to_customer, customer)) => {
                    second_opinion(&to_customer);
                    add("customer is answered", &text(&to_customer));
                    add("media", &format!("customer {}\nagent    {}\n", media(&customer), media(&agent)));
                }
            }
        }
    }
    out
}

/// The agreement in a line.
fn media(media: &Media) -> String {
    let at = |at: Option<std::net::SocketAddr>| at.map_or_else(|| "nowhere".to_owned(), |at| at.to_string());
    let audio = |list: &[tonewall::sdp::Audio]| {
        list.iter().map(|a| format!("{}={:?}", a.payload_type, a.codec)).collect::<Vec<_>>().join(",")
    };
    let event = |e: &tonewall::sdp::Event| format!("{}@{}", e.payload_type, e.clock_rate);
    let events: Vec<_> = media.rx.events.iter().map(event).collect();
    format!(
        "rtp {} rtcp {} send {} receive {} | rx {} events {} red {} | tx {} event {} ptime {}",
        at(media.remote_rtp),
        at(media.remote_rtcp),
        media.send,
        media.receive,
        audio(&media.rx.audio),
        events.join(","),
        media.rx.red.map_or_else(|| "-".to_owned(), |pt| pt.to_string()),
        audio(&media.tx.audio),
        media.tx.event.as_ref().map_or_else(|| "-".to_owned(), event),
        media.tx.ptime_ms,
    )
}

/// Another implementation reads our body, finds in it what we meant, and prints the same lines.
fn second_opinion(session: &Session) {
    let ours = session.to_bytes();
    let theirs = sdp_types::Session::parse(&ours).unwrap_or_else(|error| panic!("{error}\n{}", text(session)));
    assert_eq!(theirs.medias.len(), session.sections().len());
    for (theirs, ours) in theirs.medias.iter().zip(session.sections()) {
        assert_eq!((theirs.media.as_str(), theirs.port), (ours.media().kind.as_str(), ours.media().port));
        assert_eq!(theirs.proto, ours.media().protocol);
        assert_eq!(theirs.fmt, ours.media().formats.join(" "));
    }
    let mut printed = Vec::new();
    theirs.write(&mut printed).expect("printed");
    assert_eq!(String::from_utf8_lossy(&printed), text(session));
}

/// Re-offers on a leg keep the number and order of its streams and the meaning of its payload types.
#[test]
fn a_new_offer_on_a_leg_keeps_streams_and_numbers() {
    let mut pair = Pair::new();
    let offer = CUSTOMER.replace("m=audio", "m=video 9000 RTP/AVP 31\r\nm=audio");
    let (peer, _) = pair.offer(&offer).expect("offer");
    let (.., customer) = pair.answer(&peer, AGENT).expect("answer");
    assert_eq!(customer.tx.event.map(|event| event.payload_type), Some(96));
    // The agent offers anew, with other numbers for the same things.
    let again = AGENT.replace(" 96", " 120").replace(":96", ":120");
    let agent = read_peer(&parse(&again), &pair.pbx).expect("peer");
    let out = pair.customer.offer(Ask { other: Some(&agent), keep_events: false }, &pair.carrier).expect("offer");
    let body = text(&out);
    assert!(body.contains("m=video 0 RTP/AVP 31\r\nm=audio 20000 RTP/AVP 8 96\r\n"), "{body}");
    let answer = CUSTOMER.replace("m=audio", "m=video 0 RTP/AVP 31\r\nm=audio").replace(" 8 0 18 96 13", " 8 96");
    let (peer, media) = pair.customer.accept(&parse(&answer), &pair.carrier).expect("answer");
    let (session, agent_media) = pair.agent.answer(&agent, Some(&peer), false, &pair.pbx).expect("answer");
    assert!(text(&session).contains("m=audio 20002 RTP/AVP 8 120\r\n"), "{}", text(&session));
    assert_eq!(agent_media.tx.event.map(|event| event.payload_type), Some(120));
    let numbers: Vec<_> = agent_media.rx.events.iter().map(|event| event.payload_type).collect();
    assert!(numbers.contains(&96) && numbers.contains(&120), "events on their way by the old number are known too");
    assert_eq!(media.tx.audio[0].codec, Codec::Pcma);
}

/// A number that already means something on the leg is not given to something else.
#[test]
fn a_number_in_use_is_not_given_twice() {
    let mut pair = Pair::new();
    let offer = CUSTOMER.replace("8 0 18 96 13", "101").replace("a=rtpmap:8 PCMA/8000", "a=rtpmap:101 PCMA/8000");
    let peer = read_peer(&parse(&offer), &pair.carrier).expect("peer");
    pair.customer.answer(&peer, None, false, &pair.carrier).expect("answer");
    let out = pair.customer.offer(Ask { other: None, keep_events: false }, &pair.carrier).expect("offer");
    assert!(text(&out).contains("m=audio 20000 RTP/AVP 0 101 102\r\n"), "{}", text(&out));
    assert!(text(&out).contains("a=rtpmap:102 telephone-event/8000\r\n"), "{}", text(&out));
}

/// INVITE without SDP: the called side's offer, in its 2xx, goes to the caller in ours; the caller's answer, in its
/// ACK, goes back.
#[test]
fn a_late_offer_goes_through_the_other_way() {
    let mut pair = Pair::new();
    let agent = read_peer(&parse(AGENT), &pair.pbx).expect("peer");
    let out = pair.customer.offer(Ask { other: Some(&agent), keep_events: false }, &pair.carrier).expect("offer");
    assert!(text(&out).contains("m=audio 20000 RTP/AVP 8 96\r\n"), "{}", text(&out));
    let (customer, _) = pair.customer.accept(&parse(CUSTOMER), &pair.carrier).expect("answer");
    let (session, media) = pair.agent.answer(&agent, Some(&customer), false, &pair.pbx).expect("answer");
    assert!(text(&session).contains("m=audio 20002 RTP/AVP 8 96\r\n"), "{}", text(&session));
    assert!(media.send && media.receive);
    // Or without the called side: all the trunk allows.
    let mut pair = Pair::new();
    let out = pair.customer.offer(Ask { other: None, keep_events: false }, &pair.carrier).expect("offer");
    assert!(text(&out).contains("m=audio 20000 RTP/AVP 0 8 101\r\n"), "{}", text(&out));
}

/// A guarded customer's keys are taken as events even where the agent has none: as tones they would have to be masked
/// sample by sample.
#[test]
fn events_can_be_kept_for_a_guarded_customer() {
    let mut pair = Pair::new();
    let (peer, _) = pair.offer(CUSTOMER).expect("offer");
    let agent = AGENT.replace(" 96\r\n", "\r\n").replace("a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n", "");
    let (agent, media) = pair.agent.accept(&parse(&agent), &pair.pbx).expect("answer");
    assert_eq!(media.tx.event, None);
    let (without, _) = pair.customer.answer(&peer, Some(&agent), false, &pair.carrier).expect("answer");
    let (with, media) = pair.customer.answer(&peer, Some(&agent), true, &pair.carrier).expect("answer");
    assert!(!text(&without).contains("telephone-event") && text(&with).contains("a=rtpmap:96 telephone-event/8000"));
    assert_eq!(media.tx.event.map(|event| event.payload_type), Some(96));
    pair.carrier.events = false;
    let (never, media) = pair.customer.answer(&peer, Some(&agent), true, &pair.carrier).expect("answer");
    assert!(!text(&never).contains("telephone-event"));
    assert_eq!(media.rx.events.len(), 1, "refused, yet recognised");
    pair.pbx.events = false;
    let (_, out) = pair.offer(CUSTOMER).expect("offer");
    assert!(!text(&out).contains("telephone-event"));
}

/// A refused offer leaves the agreement standing; an answer to no offer is refused.
#[test]
fn a_refused_offer_changes_nothing() {
    let mut pair = Pair::new();
    let (peer, _) = pair.offer(CUSTOMER).expect("offer");
    pair.answer(&peer, AGENT).expect("answer");
    let before = pair.agent.media().cloned();
    pair.offer(&CUSTOMER.replace("sendrecv", "inactive")).expect("offer");
    assert!(pair.agent.is_offering());
    pair.agent.withdraw();
    assert!(!pair.agent.is_offering());
    assert_eq!(pair.agent.media(), before.as_ref());
    assert_eq!(pair.agent.accept(&parse(AGENT), &pair.pbx).map(|_| ()).expect_err("no offer").status, 488);
}

/// Forking: each branch answers the same offer; the last answer counts, and our answer's version with it.
#[test]
fn each_branch_of_a_fork_may_answer() {
    let mut pair = Pair::new();
    let (peer, _) = pair.offer(CUSTOMER).expect("offer");
    let (_, first, _) = pair.answer(&peer, AGENT).expect("answer");
    let other = AGENT.replace("12000", "14000");
    let (agent, same, _) = pair.answer(&peer, &other).expect("answer");
    assert_eq!(agent.remote_rtp, Some("192.0.2.9:14000".parse().expect("address")));
    assert_eq!(first, same, "what the customer is told did not change, so neither does the version");
    let other = AGENT.replace("8 96", "0 96");
    let (_, changed, _) = pair.answer(&peer, &other).expect("answer");
    let version = |session: &Session| session.origin().expect("origin").version.parse::<u64>().expect("a number");
    assert_eq!(version(&changed), version(&first) + 1);
}

/// Every pair of directions: what flows is what both sides allow, and never more.
#[test]
fn what_flows_is_what_both_sides_allow() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    for customer in [SendRecv, SendOnly, RecvOnly, Inactive] {
        for agent in [SendRecv, SendOnly, RecvOnly, Inactive] {
            let mut pair = Pair::new();
            let (peer, offer) = pair.offer(&CUSTOMER.replace("sendrecv", customer.name())).expect("offer");
            assert!(text(&offer).contains(&format!("a={customer}\r\n")));
            let (to_agent, answer, to_customer) = pair.answer(&peer, &format!("{AGENT}a={agent}\r\n")).expect("answer");
            let said = answer.direction_of(&answer.sections()[0]);
            assert_eq!(said, customer.reversed().and(agent), "{customer} {agent}");
            let up = customer.sends() && agent.receives();
            let down = agent.sends() && customer.receives();
            assert_eq!((to_customer.receive, to_agent.send), (up, up), "{customer} {agent}");
            assert_eq!((to_agent.receive, to_customer.send), (down, down), "{customer} {agent}");
        }
    }
}

#[test]
fn packet_times_stay_within_what_each_side_takes() {
    let mut pair = Pair::new();
    pair.carrier.ptime_ms = 30;
    let (peer, offer) = pair.offer(&CUSTOMER.replace("a=ptime:20", "a=ptime:5\r\na=maxptime:40")).expect("offer");
    assert!(text(&offer).contains("a=ptime:10\r\na=maxptime:40\r\n"), "{}", text(&offer));
    let (agent, answer, customer) = pair.answer(&peer, &format!("{AGENT}a=ptime:80\r\n")).expect("answer");
    assert!(text(&answer).contains("a=ptime:60\r\n"), "{}", text(&answer));
    assert_eq!((agent.tx.ptime_ms, customer.tx.ptime_ms), (60, 10));
    let (peer, _) = pair.offer(&CUSTOMER.replace("a=ptime:20\r\n", "")).expect("offer");
    let (.., answer, customer) = pair.answer(&peer, AGENT).expect("answer");
    assert!(text(&answer).contains("a=ptime:30\r\n"), "{}", text(&answer));
    assert_eq!(customer.tx.ptime_ms, 30);
}

mod any {
    //! Whatever arrives: no panic, and nothing of it in what we write.

    use super::*;
    use proptest::prelude::*;

    /// Lines of ours, and only those: no address but our own, no attribute but the known ones.
    fn is_ours(session: &Session) -> Result<(), TestCaseError> {
        second_opinion(session);
        for line in text(session).lines() {
            let known =
                ["v=0", "o=- ", "s=-", "c=IN IP4 203.0.113.5", "t=0 0", "m=", "a=rtpmap:", "a=fmtp:", "a=ptime:"];
            let known =
                known.into_iter().chain(["a=maxptime:", "a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"]);
            prop_assert!(known.clone().any(|start| line.starts_with(start)), "{line}");
            prop_assert!(!line.contains("198.51.100") && !line.contains("192.0.2"), "{line}");
        }
        Ok(())
    }

    fn through(offer: &[u8], answer: &[u8]) -> Result<(), TestCaseError> {
        let mut pair = Pair::new();
        let Ok(offer) = Session::parse(offer) else { return Ok(()) };
        prop_assert!(Session::parse(&offer.to_bytes()).is_ok_and(|again| again == offer));
        let Ok(peer) = read_peer(&offer, &pair.carrier) else { return Ok(()) };
        let out = pair.agent.offer(Ask { other: Some(&peer), keep_events: true }, &pair.pbx);
        if let Ok(out) = out {
            is_ours(&out)?;
        }
        let other = Session::parse(answer).ok().and_then(|answer| pair.agent.accept(&answer, &pair.pbx).ok());
        let other = other.map(|(peer, _)| peer);
        if let Ok((answer, _)) = pair.customer.answer(&peer, other.as_ref(), true, &pair.carrier) {
            is_ours(&answer)?;
            prop_assert_eq!(answer.sections().len(), offer.sections().len());
        }
        if let Ok(again) = pair.customer.offer(Ask { other: other.as_ref(), keep_events: false }, &pair.carrier) {
            is_ours(&again)?;
            prop_assert_eq!(again.sections().len(), offer.sections().len());
        }
        Ok(())
    }

    fn lines() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("v=0".to_owned()),
            Just("o=- 1 1 IN IP4 198.51.100.7".to_owned()),
            Just("c=IN IP4 198.51.100.7".to_owned()),
            Just("c=IN IP4 0.0.0.0".to_owned()),
            Just("m=audio 4000 RTP/AVP 0 8 101 102".to_owned()),
            Just("m=audio 0 RTP/AVP 0".to_owned()),
            Just("m=image 5000 udptl t38".to_owned()),
            "a=rtpmap:[0-9]{1,3} (PCMU|PCMA|telephone-event|red|opus)/(8000|16000|48000)",
            "a=fmtp:[0-9]{1,3} [0-9,-]{0,9}",
            "a=(sendrecv|sendonly|recvonly|inactive)",
            "a=(ptime|maxptime|rtcp|crypto|candidate):[ -~]{0,20}",
            "[a-z]=[ -~]{0,30}",
        ];
        let head = "v=0\r\nc=IN IP4 198.51.100.7\r\nm=audio 4000 RTP/AVP 0 8 101\r\n";
        prop::collection::vec(part, 0..12).prop_map(move |lines| format!("{head}{}\r\n", lines.join("\r\n")))
    }

    proptest! {
        #[test]
        fn bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            through(&bytes, AGENT.as_bytes())?;
            through(CUSTOMER.as_bytes(), &bytes)?;
        }

        #[test]
        fn odd_bodies_give_only_lines_of_ours(offer in lines(), answer in lines()) {
            through(offer.as_bytes(), answer.replace("198.51.100.7", "192.0.2.9").as_bytes())?;
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_body_does_no_harm() {
        for end in 0..CUSTOMER.len() {
            through(&CUSTOMER.as_bytes()[..end], AGENT.as_bytes()).expect("no harm");
            for byte in [0, b'\n', b' ', b'9', 0xff] {
                let mut body = CUSTOMER.as_bytes().to_vec();
                body[end] = byte;
                through(&body, AGENT.as_bytes()).expect("no harm");
            }
        }
        for end in 0..AGENT.len() {
            through(CUSTOMER.as_bytes(), &AGENT.as_bytes()[..end]).expect("no harm");
        }
    }
}
