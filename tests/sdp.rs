//! Offer/answer through the B2BUA, leg by leg, with bodies as carriers' SBCs and PBXs write them.

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::config::{Codec, Network};
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
        codecs: codecs.into(),
        events: true,
        ptime_ms: 20,
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
    assert!(offered.contains("m=audio 20002 RTP/AVP 0 8 96\r\n"), "{offered}");
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
