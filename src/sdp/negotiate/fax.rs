//! A fax stream (T.38 over UDPTL, `m=image`) that stands in place of the audio: read from a peer's description where the
//! trunk passes it. Of its attributes only those T.38 defines are kept, each with a value of its kind. Beside an audio
//! stream it is never used: who offers both can talk, and is answered with audio.
//!
//! ```text
//!  m=image 6000 udptl t38        ◄─ in the place of the audio, or beside an audio that is switched off (port 0)
//!  a=T38FaxVersion:0
//!  a=T38FaxRateManagement:transferredTCF
//! ```

use super::peer::{Peer, refuse};
use super::policy::Policy;
use super::refusal::Refusal;
use super::security::Offered;
use crate::config::{Srtp, T38};
use crate::sdp::{MediaLine, Section, Session};

/// Attributes of ITU-T T.38 annex D that may cross, and whether their value is a number.
const ATTRIBUTES: [(&str, bool); 10] = [
    ("T38FaxVersion", true),
    ("T38MaxBitRate", true),
    ("T38FaxFillBitRemoval", true),
    ("T38FaxTranscodingMMR", true),
    ("T38FaxTranscodingJBIG", true),
    ("T38FaxRateManagement", false),
    ("T38FaxMaxBuffer", true),
    ("T38FaxMaxDatagram", true),
    ("T38FaxMaxIFP", true),
    ("T38FaxUdpEC", false),
];

/// Values of the attributes that are no numbers.
const WORDS: [&str; 5] = ["transferredTCF", "localTCF", "t38UDPRedundancy", "t38UDPFEC", "t38UDPNoEC"];

/// What a peer says of its fax stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fax {
    /// Attributes as they are written.
    pub(super) attributes: Vec<String>,
    /// It is refused (port 0): an answer to our offer.
    pub(super) refused: bool,
}

impl Fax {
    /// The `m=` line of such a stream of ours.
    pub(super) fn line(&self, port: u16) -> MediaLine {
        MediaLine {
            kind: "image".to_owned(),
            port: if self.refused { 0 } else { port },
            protocol: "udptl".to_owned(),
            formats: vec!["t38".to_owned()],
        }
    }
}

/// The offer's fax stream, where it offers no audio.
pub(super) fn read_offer(offer: &Session, policy: &Policy) -> Option<Result<Peer, Refusal>> {
    let fits = |section: &Section| is_fax(section.media()) && section.media().port != 0;
    let index = offer.sections().iter().position(fits)?;
    Some(allowed(policy).and_then(|()| read(offer, index, policy)))
}

/// Whether the trunk takes fax now.
pub(super) fn allowed(policy: &Policy) -> Result<(), Refusal> {
    match policy.t38 {
        T38::Refuse => Err(refuse(304, "fax by T.38 is not taken here; offer audio")),
        T38::Pass if policy.srtp == Srtp::Required => {
            Err(refuse(302, "unencrypted media is not allowed on this trunk, and fax by T.38 has no encryption here"))
        }
        T38::Pass => Ok(()),
    }
}

/// Reads the section `index` of a peer's offer or answer as a fax stream.
pub(super) fn read(session: &Session, index: usize, policy: &Policy) -> Result<Peer, Refusal> {
    let section = session.sections().get(index).filter(|section| is_fax(section.media()));
    let section = section.ok_or_else(|| refuse(304, "the stream is not fax (image, udptl, t38)"))?;
    let refused = section.media().port == 0;
    let rtp = if refused { None } else { super::peer::read_addresses(session, section, policy)?.0 };
    Ok(Peer {
        rtp,
        rtcp: None,
        direction: session.direction_of(section),
        audio: Default::default(),
        events: Default::default(),
        red: None,
        comfort_noise: None,
        parameters: Vec::new(),
        opus: None,
        ptime_ms: None,
        maxptime_ms: None,
        rtcp_mux: false,
        security: Offered::default(),
        fax: Some(Fax { attributes: attributes(section), refused }),
        chosen: index,
        layout: session.sections().iter().map(|section| section.media().clone()).collect(),
    })
}

fn is_fax(line: &MediaLine) -> bool {
    let t38 = line.formats.iter().any(|format| format.eq_ignore_ascii_case("t38"));
    t38 && line.kind.eq_ignore_ascii_case("image") && line.protocol.eq_ignore_ascii_case("udptl")
}

/// The attributes that may cross, written by us.
fn attributes(section: &Section) -> Vec<String> {
    let read = |(name, number): &(&str, bool)| {
        let value = section.attributes(name).next()?;
        if !number {
            let word = WORDS.iter().find(|word| word.eq_ignore_ascii_case(value))?;
            return Some(format!("{name}:{word}"));
        }
        // Some are flags that older peers write without a value.
        if value.is_empty() {
            return Some((*name).to_owned());
        }
        let plain = value.len() <= 9 && value.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| format!("{name}:{value}"))
    };
    ATTRIBUTES.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_t38_defines_is_kept_of_its_attributes() {
        let body = "v=0\r\nm=image 6000 udptl t38\r\na=T38FaxVersion:0\r\na=t38faxratemanagement:TRANSFERREDtcf\r\n\
                    a=T38MaxBitRate:14400 x\r\na=T38FaxUdpEC:evil\r\na=T38VendorInfo:0 0 37\r\na=T38FaxFillBitRemoval\r\n";
        let session = Session::parse(body.as_bytes()).expect("a description");
        assert_eq!(
            attributes(&session.sections()[0]),
            ["T38FaxVersion:0", "T38FaxFillBitRemoval", "T38FaxRateManagement:transferredTCF"]
        );
    }
}
