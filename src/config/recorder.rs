//! SIPREC recording servers (`[[recorder]]`): who they are and what they are told of a call beside its sound. Checked values
//! only. How a recorder is reached, probed and proved is a [`Trunk`](super::Trunk) of its own that carries no calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Codec, Srtp, TrunkId};

/// Index into [`Config::recorders`](super::Config::recorders).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecorderId(pub usize);

/// Which dialect of SIPREC a recording server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// RFC 7866, 7865 and 9806.
    Standard,
    /// AudioCodes SmartTAP: a namespace without version, the bare type `rs-metadata`, call ids in headers.
    AudioCodes,
    /// Oracle (Acme Packet): `extensiondata` with UCID and the side that called.
    Oracle,
}

impl Dialect {
    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Standard => "standard",
            Dialect::AudioCodes => "audiocodes",
            Dialect::Oracle => "oracle",
        }
    }
}

/// `[[recorder]]`.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// Name used by trunks, events and the API.
    pub name: String,
    /// Its peer: where it listens, how it is probed and what it must prove.
    pub trunk: TrunkId,
    /// No call without it, where a trunk names it; else calls go on and the fault is told.
    pub required: bool,
    /// User part of the address the recording session is for.
    pub user: String,
    /// How it wants to be spoken to.
    pub dialect: Dialect,
    /// G.711 law of the sound.
    pub codec: Codec,
    /// Whether the sound is encrypted.
    pub srtp: Srtp,
    /// How often it is asked within a session whether it still lives; zero: never.
    pub alive: Duration,
    /// Whether the sound goes to a sealed file while it is away.
    pub spill: bool,
    /// How many sessions it gets at once by which what was spilled is forwarded; 0: it is not.
    pub forward_sessions: usize,
    /// Headers of the INVITE beyond the usual.
    pub headers: Vec<Told>,
    /// Namespace of the extension data in the metadata.
    pub namespace: String,
    /// Extension data in the metadata.
    pub extensions: Vec<Told>,
}

/// A name and what is told under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Name of the header or element.
    pub name: String,
    /// Its text, in pieces.
    pub value: Vec<Piece>,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A header of the INVITE the call came in by.
    Header(String),
    /// A fact of the call.
    Fact(Fact),
}

/// A fact of a call that a recorder may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Tonewall's id of the call.
    Call,
    /// SIP Call-ID of the leg toward the carrier.
    CustomerCallId,
    /// SIP Call-ID of the leg toward the PBX.
    AgentCallId,
    /// Calling number.
    Caller,
    /// Called number.
    Called,
    /// Trunk the call came in on.
    FromTrunk,
    /// Trunk it goes out on.
    ToTrunk,
    /// Value of the trunk's `call_header`.
    Reference,
    /// Node name.
    Node,
}

impl Fact {
    const ALL: [(&'static str, Fact); 9] = [
        ("call", Fact::Call),
        ("customer_call_id", Fact::CustomerCallId),
        ("agent_call_id", Fact::AgentCallId),
        ("caller", Fact::Caller),
        ("called", Fact::Called),
        ("from_trunk", Fact::FromTrunk),
        ("to_trunk", Fact::ToTrunk),
        ("reference", Fact::Reference),
        ("node", Fact::Node),
    ];
}

/// Headers that may not be told: the peers' own secrets.
const SECRET: [&str; 2] = ["authorization", "proxy-authorization"];

impl Piece {
    /// Reads a text with `{header:<name>}` and `{<fact>}` in it.
    ///
    /// # Errors
    /// The configuration is to blame: a brace that is not closed, an unknown word, a header that is a secret.
    pub fn read(text: &str) -> Result<Vec<Piece>, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (word, behind) = after.split_once('}').ok_or_else(|| format!("{text:?} has a '{{' without '}}'"))?;
            pieces.push(Self::word(word)?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(pieces)
    }

    fn word(word: &str) -> Result<Piece, String> {
        if let Some(name) = word.strip_prefix("header:") {
            let fine = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
            if name.is_empty() || !name.chars().all(fine) {
                return Err(format!("{name:?} is no header name"));
            }
            if SECRET.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("{name:?} is a secret of the caller's"));
            }
            return Ok(Piece::Header(name.to_owned()));
        }
        let fact = Fact::ALL.iter().find(|(known, _)| *known == word).map(|(_, fact)| Piece::Fact(*fact));
        fact.ok_or_else(|| {
            let words: Vec<&str> = Fact::ALL.iter().map(|(word, _)| *word).collect();
            format!("{{{word}}} is not known; {{header:<name>}} and {{{}}} are", words.join("}, {"))
        })
    }
}

impl Recorder {
    /// Headers of the calls' INVITEs that it is told of.
    pub fn wanted_headers(&self) -> impl Iterator<Item = &str> {
        let told = self.headers.iter().chain(&self.extensions);
        let own = (self.dialect == Dialect::Oracle).then_some("User-to-User");
        told.flat_map(|told| &told.value)
            .filter_map(|piece| match piece {
                Piece::Header(name) => Some(name.as_str()),
                Piece::Text(_) | Piece::Fact(_) => None,
            })
            .chain(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_in_pieces_and_bad_ones_say_why() {
        let read = Piece::read("a{header:X-Ref}b{call}").expect("good");
        let wanted =
            [Piece::Text("a".into()), Piece::Header("X-Ref".into()), Piece::Text("b".into()), Piece::Fact(Fact::Call)];
        assert_eq!(read, wanted);
        for (bad, says) in [
            ("{call", "without"),
            ("{digits}", "is not known"),
            ("{header:}", "no header name"),
            ("{header:Authorization}", "secret"),
        ] {
            let error = Piece::read(bad).expect_err(bad);
            assert!(error.contains(says), "{error}");
        }
    }
}
