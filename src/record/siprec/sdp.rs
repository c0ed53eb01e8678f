//! Session descriptions of a recording session: two labelled audio streams that only we send (RFC 7866 section 7.1.1). Our
//! addresses and keys go in; our offers and answers, and where the server wants each stream, come out.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use rand::{Rng, RngExt};
use zeroize::Zeroizing;

use super::metadata::LABELS;
use crate::base::Random;
use crate::base::key::MediaKey;
use crate::config::{Codec, Srtp, SrtpSuite};
use crate::sdp::attr::crypto::Crypto;
use crate::sdp::attr::rtcp::Rtcp;
use crate::sdp::{Direction, Place, Policy, Section, Session, check_address};

/// G.711 by its static payload types (RFC 3551).
const LAWS: [(u8, Codec); 2] = [(0, Codec::Pcmu), (8, Codec::Pcma)];

/// Our side of a recording session.
#[derive(Debug, Clone)]
pub struct Ours {
    id: u64,
    version: u64,
    address: IpAddr,
    ports: [u16; 2],
    /// The law we like best first.
    laws: [(u8, Codec); 2],
    srtp: Srtp,
    /// Our keys per stream, one per suite.
    keys: [Vec<Crypto>; 2],
}

/// Where the server wants a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Where RTP goes.
    pub rtp: SocketAddr,
    /// Where RTCP goes.
    pub rtcp: SocketAddr,
    /// Payload type.
    pub payload_type: u8,
    /// G.711 law.
    pub codec: Codec,
    /// Our key, where the stream is encrypted.
    pub srtp: Option<(SrtpSuite, MediaKey)>,
    /// The server wants sound now.
    pub wanted: bool,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not a session description.
    #[error("no readable session description")]
    Unreadable,
    /// Fewer than two streams, or one refused.
    #[error("the recorder refused the stream with label {0}")]
    Refused(&'static str),
    /// No G.711.
    #[error("the recorder takes no G.711")]
    Codec,
    /// An address where nothing may go.
    #[error("the recorder's media address is not allowed: {0}")]
    Address(String),
    /// Encryption is wanted and not agreed on.
    #[error("the recorder does not agree on encryption of the sound")]
    Plain,
}

impl Ours {
    /// A session on `address`, its streams on `ports`; keys are drawn for each suite.
    pub fn new(
        random: &mut Random,
        (address, ports): (IpAddr, [u16; 2]),
        codec: Codec,
        (srtp, suites): (Srtp, &[SrtpSuite]),
    ) -> Self {
        let mut laws = LAWS;
        if codec == Codec::Pcma {
            laws.reverse();
        }
        let mut keys = || -> Vec<Crypto> {
            if srtp == Srtp::Off {
                return Vec::new();
            }
            let draw = |(at, suite): (usize, &SrtpSuite)| Crypto {
                tag: at as u32 + 1,
                suite: *suite,
                key: draw_key(random, *suite),
            };
            suites.iter().enumerate().map(draw).collect()
        };
        let keys = [keys(), keys()];
        let id = u64::from(random.random::<u32>());
        Self { id, version: 1, address, ports, laws, srtp, keys }
    }

    /// Our offer, sending or not. A change of it counts the version up.
    pub fn offer(&mut self, sending: bool) -> String {
        let mut out = self.head();
        for (at, label) in LABELS.into_iter().enumerate() {
            let protocol = if self.srtp == Srtp::Required { "RTP/SAVP" } else { "RTP/AVP" };
            self.section(&mut out, (at, label, protocol), &self.laws, sending);
            for key in &self.keys[at] {
                // Writing to a String does not fail.
                let _ = write!(out, "a={}\r\n", key.print());
            }
        }
        self.version += 1;
        out
    }

    /// Our answer to an offer of the server's; `sending` per stream.
    pub fn answer(&mut self, offer: &Session, streams: &[Stream; 2], sending: bool) -> String {
        let mut out = self.head();
        for (at, section) in offer.sections().iter().enumerate() {
            let Some(stream) = streams.get(at) else {
                let media = section.media();
                let format = media.formats.first().map_or("0", String::as_str);
                let _ = write!(out, "m={} 0 {} {format}\r\n", media.kind, media.protocol);
                continue;
            };
            let law = [(stream.payload_type, stream.codec)];
            let what = (at, LABELS[at], section.media().protocol.as_str());
            self.section(&mut out, what, &law, sending && stream.wanted);
            if let Some((suite, key)) = &stream.srtp {
                let tag = chosen(section, &self.keys[at]).map_or(1, |(tag, _)| tag);
                let _ = write!(out, "a={}\r\n", Crypto { tag, suite: *suite, key: key.clone() }.print());
            }
        }
        self.version += 1;
        out
    }

    fn head(&self) -> String {
        let family = if self.address.is_ipv4() { "IP4" } else { "IP6" };
        let (id, version, address) = (self.id, self.version, self.address);
        format!("v=0\r\no=- {id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n")
    }

    fn section(
        &self,
        out: &mut String,
        (at, label, protocol): (usize, &str, &str),
        laws: &[(u8, Codec)],
        sending: bool,
    ) {
        let _ = write!(out, "m=audio {} {protocol}", self.ports[at]);
        for (payload_type, _) in laws {
            let _ = write!(out, " {payload_type}");
        }
        out.push_str("\r\n");
        for (payload_type, codec) in laws {
            let _ = write!(out, "a=rtpmap:{payload_type} {}/8000\r\n", codec.name());
        }
        let direction = Direction::new(sending, false);
        let _ = write!(out, "a=ptime:20\r\na=label:{label}\r\na={}\r\n", direction.name());
    }

    /// Reads the server's answer to our offer, or its own offer: `offered`.
    ///
    /// # Errors
    /// The server is to blame: it refused a stream, or wants what may not be.
    pub fn read(&self, body: &Session, policy: &Policy, offered: bool) -> Result<[Stream; 2], Unfit> {
        let section = |at: usize| body.sections().get(at).ok_or(Unfit::Refused(LABELS[at]));
        let one = self.stream(body, section(0)?, (0, offered), policy)?;
        let two = self.stream(body, section(1)?, (1, offered), policy)?;
        Ok([one, two])
    }

    fn stream(
        &self,
        body: &Session,
        section: &Section,
        (at, offered): (usize, bool),
        policy: &Policy,
    ) -> Result<Stream, Unfit> {
        let media = section.media();
        if media.port == 0 || !media.is_audio() {
            return Err(Unfit::Refused(LABELS[at]));
        }
        let law = media.payload_types().find_map(|pt| self.laws.iter().find(|(known, _)| *known == pt).copied());
        let (payload_type, codec) = law.ok_or(Unfit::Codec)?;
        let Some(Ok(connection)) = body.connection_of(section) else { return Err(Unfit::Unreadable) };
        let Place::Address(ip) = connection.place else {
            return Err(Unfit::Address("a name".to_owned()));
        };
        let direction = body.direction_of(section);
        // Old style: the unspecified address means that nothing is wanted (RFC 3264 section 8.4).
        let wanted = direction.receives() && !ip.is_unspecified();
        let rtp = SocketAddr::new(ip, media.port);
        if wanted {
            check_address(rtp, policy).map_err(|fault| Unfit::Address(fault.to_string()))?;
        }
        let usual = SocketAddr::new(ip, media.port.saturating_add(1));
        let told = section.attributes("rtcp").find_map(Rtcp::parse);
        let rtcp = told.map_or(usual, |rtcp| SocketAddr::new(ip, rtcp.port));
        let rtcp = if check_address(rtcp, policy).is_ok() { rtcp } else { usual };
        let srtp = self.secured(section, at, offered)?;
        Ok(Stream { rtp, rtcp, payload_type, codec, srtp, wanted })
    }

    fn secured(&self, section: &Section, at: usize, offered: bool) -> Result<Option<(SrtpSuite, MediaKey)>, Unfit> {
        let keys = &self.keys[at];
        let agreed = if offered {
            chosen(section, keys).map(|(_, key)| key)
        } else {
            // The answer names the tag of the key it took.
            let theirs = section.attributes("crypto").find_map(|value| Crypto::parse(value).ok());
            theirs.and_then(|theirs| keys.iter().find(|key| key.tag == theirs.tag && key.suite == theirs.suite))
        };
        match agreed {
            Some(key) => Ok(Some((key.suite, key.key.clone()))),
            None if self.srtp == Srtp::Required || section.media().is_secure_rtp() => Err(Unfit::Plain),
            None => Ok(None),
        }
    }
}

/// The first key a server offers whose suite we have: its tag, and our key of that suite.
fn chosen<'a>(section: &Section, ours: &'a [Crypto]) -> Option<(u32, &'a Crypto)> {
    let mut offered = section.attributes("crypto").filter_map(|value| Crypto::parse(value).ok());
    offered.find_map(|theirs| Some((theirs.tag, ours.iter().find(|key| key.suite == theirs.suite)?)))
}

fn draw_key(random: &mut Random, suite: SrtpSuite) -> MediaKey {
    let mut bytes = Zeroizing::new([0u8; crate::base::key::MAX_MEDIA_KEY]);
    random.fill_bytes(&mut bytes[..]);
    MediaKey::drawn(suite.key_len() + suite.salt_len(), |room| room.copy_from_slice(&bytes[..room.len()]))
}
