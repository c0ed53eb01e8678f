//! The metadata of a recording session (RFC 7865): which call it is, who takes part since when, which stream carries whose
//! sound and who hears it. Facts go in; one complete snapshot as XML comes out, in the server's dialect. Texts of peers
//! are escaped, and what XML cannot hold is left out. It never holds a digit that was keyed.
//!
//! ```text
//!  recording
//!   ├─ session ── sessionrecordingassoc
//!   ├─ participant (customer) ─┬─ participantsessionassoc
//!   ├─ participant (agent) ────┘
//!   ├─ stream label 1, 2
//!   └─ participantstreamassoc: sends its own stream, hears the other's unless it is held
//! ```

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ids::{Leg, RecordingId};
use crate::base::time::WallMs;
use crate::config::Dialect;

/// Labels of the streams: customer, agent.
pub const LABELS: [&str; 2] = ["1", "2"];

/// Former participants that are still named.
pub const MOST_FORMER: usize = 8;

/// An id as RFC 7865 wants it: a UUID in Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid(pub u128);

impl Uuid {
    /// The id of the `nth` stream of a recording: the same each time it is sent, and nobody else's.
    pub fn of_stream(recording: RecordingId, nth: usize) -> Self {
        let hex = recording.to_string();
        let drawn = hex.rsplit('_').next().and_then(|hex| u128::from_str_radix(hex, 16).ok()).unwrap_or_default();
        // Ids are drawn at random, so the sum with a constant is as good.
        Self(drawn.wrapping_add((nth as u128 + 1) << 100))
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Version 4, variant 1 (RFC 4122 section 4.4).
        let bits = self.0 & !(0xf << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
        f.write_str(&STANDARD.encode(bits.to_be_bytes()))
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Who takes part in a call, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Names it.
    pub id: Uuid,
    /// The side it is, or was, on.
    pub leg: Leg,
    /// Number or user part.
    pub user: String,
    /// Host of its address of record: ours, as those of the peers are nobody else's affair.
    pub host: String,
    /// When it came.
    pub joined: WallMs,
    /// When it went.
    pub left: Option<WallMs>,
}

/// The part of a call that was spilled to a sealed file and is sent after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The sealed file.
    pub recording: RecordingId,
    /// When its sound began.
    pub from: WallMs,
    /// When it ended.
    pub to: WallMs,
    /// When the call ended; `None`: the recorder was back before that, and has the rest.
    pub ended: Option<WallMs>,
}

/// What is told of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The communication session.
    pub session: Uuid,
    /// Streams: customer, agent.
    pub streams: [Uuid; 2],
    /// Tonewall's id of the call.
    pub id: String,
    /// SIP Call-ID per leg.
    pub call_ids: [Option<String>; 2],
    /// Codec per leg, before it was recorded as G.711.
    pub codecs: [Option<String>; 2],
    /// When the session began.
    pub started: WallMs,
    /// Who takes part, former ones included; at most one per leg has not left.
    pub participants: Vec<Participant>,
    /// Which leg's peer is on hold by its own wish, or has put the other on hold.
    pub held: [bool; 2],
    /// The leg that called.
    pub caller: Leg,
    /// Extension data: element and text.
    pub extensions: Vec<(String, String)>,
    /// Its namespace.
    pub namespace: String,
    /// User-to-User of the call, for dialects that have a place for it.
    pub user_to_user: Option<String>,
    /// What is sent is not live.
    #[serde(skip)]
    pub part: Option<Part>,
}

/// The namespace of a dialect's metadata.
const fn namespace(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Standard | Dialect::Oracle => "urn:ietf:params:xml:ns:recording:1",
        Dialect::AudioCodes => "urn:ietf:params:xml:ns:recording",
    }
}

/// Our own extension data.
const OWN: &str = "urn:tonewall:recording";
/// Oracle's.
const ORACLE: &str = "http://acmepacket.com/siprec/extensiondata";

/// Writes the snapshot of a call.
pub fn write(dialect: Dialect, call: &Call) -> String {
    let mut out = Writer(String::with_capacity(2_048));
    out.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n");
    out.open("recording", &[("xmlns", namespace(dialect))]);
    out.text("datamode", "complete");
    session(&mut out, dialect, call);
    for participant in &call.participants {
        self::participant(&mut out, dialect, call, participant);
    }
    for (leg, stream) in call.streams.iter().enumerate() {
        out.open("stream", &[("stream_id", &stream.to_string()), ("session_id", &call.session.to_string())]);
        out.text("label", LABELS[leg]);
        if let Some(codec) = &call.codecs[leg] {
            out.element("codec", &[("xmlns", OWN)], codec);
        }
        out.close("stream");
    }
    out.open("sessionrecordingassoc", &[("session_id", &call.session.to_string())]);
    out.text("associate-time", &call.part.map_or(call.started, |part| part.from).rfc3339());
    if let Some(part) = call.part {
        out.text("disassociate-time", &part.to.rfc3339());
    }
    out.close("sessionrecordingassoc");
    for participant in &call.participants {
        let ids = [("participant_id", participant.id.to_string()), ("session_id", call.session.to_string())];
        out.open("participantsessionassoc", &[(ids[0].0, &ids[0].1), (ids[1].0, &ids[1].1)]);
        out.text("associate-time", &participant.joined.rfc3339());
        if let Some(left) = participant.left.or(call.part.and_then(|part| part.ended)) {
            out.text("disassociate-time", &left.rfc3339());
        }
        out.close("participantsessionassoc");
    }
    for participant in call.participants.iter().filter(|participant| participant.left.is_none()) {
        let (own, other) = (participant.leg.index(), participant.leg.other().index());
        out.open("participantstreamassoc", &[("participant_id", &participant.id.to_string())]);
        out.text("send", &call.streams[own].to_string());
        // Whoever is on hold, or holds, hears nothing of the other.
        if !call.held.contains(&true) {
            out.text("recv", &call.streams[other].to_string());
        }
        let from = call.part.map_or(participant.joined, |part| part.from.max(participant.joined));
        out.text("associate-time", &from.rfc3339());
        if let Some(part) = call.part {
            out.text("disassociate-time", &part.to.rfc3339());
        }
        out.close("participantstreamassoc");
    }
    out.close("recording");
    out.0
}

fn session(out: &mut Writer, dialect: Dialect, call: &Call) {
    out.open("session", &[("session_id", &call.session.to_string())]);
    out.text("start-time", &call.started.rfc3339());
    if let Some(ended) = call.part.and_then(|part| part.ended) {
        out.text("stop-time", &ended.rfc3339());
    }
    out.element("call", &[("xmlns", OWN)], &call.id);
    if let Some(Part { recording, from, to, .. }) = call.part {
        let (from, to) = (from.rfc3339(), to.rfc3339());
        out.element("spill", &[("xmlns", OWN), ("from", &from), ("to", &to)], &recording.to_string());
    }
    // No sipSessionID: that is the Session-ID of RFC 7989, which a Call-ID is not.
    for (name, call_id) in ["customer-call-id", "agent-call-id"].into_iter().zip(&call.call_ids) {
        if let Some(call_id) = call_id {
            out.element(name, &[("xmlns", OWN)], call_id);
        }
    }
    for (name, value) in &call.extensions {
        out.element(name, &[("xmlns", &call.namespace)], value);
    }
    if dialect == Dialect::Oracle {
        out.open("extensiondata", &[("xmlns:apkt", ORACLE)]);
        if let Some(value) = &call.user_to_user {
            out.text("apkt:ucid", &ucid(value));
        }
        let from_customer = call.caller == Leg::Customer;
        out.text("apkt:callerOrig", if from_customer { "true" } else { "false" });
        out.close("extensiondata");
    }
    out.close("session");
}

/// The data of a User-to-User value and how it is encoded; its further parameters are none of a UCID's.
fn ucid(value: &str) -> String {
    if value.starts_with('"') {
        return value.to_owned();
    }
    let mut parts = value.split(';').map(str::trim);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts.filter(|part| part.get(..9).is_some_and(|name| name.eq_ignore_ascii_case("encoding="))) {
        out.push(';');
        out.push_str(part);
    }
    out
}

fn participant(out: &mut Writer, dialect: Dialect, call: &Call, of: &Participant) {
    out.open("participant", &[("participant_id", &of.id.to_string())]);
    let aor = match of.user.as_str() {
        "" => format!("sip:{}", of.host),
        user => format!("sip:{}@{}", uri_user(user), of.host),
    };
    out.open("nameID", &[("aor", &aor)]);
    if !of.user.is_empty() {
        out.element("name", &[("xml:lang", "en")], &of.user);
    }
    out.close("nameID");
    let role = match of.leg {
        Leg::Customer => "customer",
        Leg::Agent => "agent",
    };
    out.element("role", &[("xmlns", OWN)], role);
    if dialect == Dialect::Oracle {
        out.open("extensiondata", &[("xmlns:apkt", ORACLE)]);
        out.text("apkt:callingParty", if of.leg == call.caller { "true" } else { "false" });
        out.close("extensiondata");
    }
    out.close("participant");
}

/// A user part with what does not belong into a URI as percent escapes (RFC 3261 section 19.1.2).
fn uri_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Writes XML. Names are ours or were checked; texts are escaped.
struct Writer(String);

impl Writer {
    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes {
            self.0.push(' ');
            self.0.push_str(key);
            self.0.push_str("=\"");
            self.escaped(value);
            self.0.push('"');
        }
        self.0.push('>');
    }

    fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes);
        self.raw("\r\n");
    }

    fn close(&mut self, name: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "</{name}>\r\n");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.element(name, &[], text);
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.tag(name, attributes);
        self.escaped(text);
        self.close(name);
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '<' => self.raw("&lt;"),
                '>' => self.raw("&gt;"),
                '&' => self.raw("&amp;"),
                '"' => self.raw("&quot;"),
                '\'' => self.raw("&apos;"),
                // Attributes would have them turned into blanks by any reader.
                '\t' | '\n' | '\r' => self.raw(" "),
                // Not even as references in XML 1.0 (section 2.2).
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
                c => self.0.push(c),
            }
        }
    }
}
