//! What is inside a chunk: a run of typed items. All of it is sealed, also who spoke when and where the gaps are.
//!
//! ```text
//!  1 start       JSON [`Start`]; the first item of chunk 0
//!  2 audio       interleaved left, right samples, i16 little-endian
//!  3 gap start   frame (u64), kind (u8: 1 paused, 2 lost, 3 redacted); the audio goes on as silence, so the timeline holds
//!  4 gap end     frame (u64)
//!  5 summary     JSON [`Summary`]; the last item of the last chunk
//!  6 mark        frame (u64), what (u8, [`Mark`]): which keys may sound from there on, or one that does
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::media::RECORD_RATE;
use crate::record::siprec::Spill;

const START: u8 = 1;
const AUDIO: u8 = 2;
const GAP_START: u8 = 3;
const GAP_END: u8 = 4;
const SUMMARY: u8 = 5;
const MARK: u8 = 6;
/// Kind and length.
pub(super) const ITEM: usize = 3;

/// What a recording is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Recording, as in the header.
    pub recording: RecordingId,
    /// Call.
    pub call: CallId,
    /// Node that recorded.
    pub node: String,
    /// Trunk the call came in on.
    pub from_trunk: String,
    /// Trunk it went out on.
    pub to_trunk: String,
    /// When the recording began.
    pub started_at_ms: WallMs,
    /// Samples per second and channel.
    pub rate: u32,
    /// 2: customer left, agent right.
    pub channels: u8,
    /// Calling number or user part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caller: String,
    /// Called number or user part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub called: String,
    /// The agent's extension.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// SIP Call-IDs of the legs, as far as known when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sip_call_ids: Vec<String>,
    /// Labels it was begun with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the recorder it stands in for is told when it is forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<Box<Spill>>,
}

impl Start {
    /// Of 8 kHz stereo, on the node `node`, from one trunk to the other; numbers and labels unknown yet.
    pub fn new(recording: RecordingId, call: CallId, node: &str, trunks: [&str; 2], started_at: WallMs) -> Self {
        let [from_trunk, to_trunk] = trunks.map(str::to_owned);
        Self {
            recording,
            call,
            node: node.to_owned(),
            from_trunk,
            to_trunk,
            started_at_ms: started_at,
            rate: RECORD_RATE,
            channels: 2,
            caller: String::new(),
            called: String::new(),
            agent: String::new(),
            sip_call_ids: Vec::new(),
            labels: BTreeMap::new(),
            spill: None,
        }
    }
}

/// How a closed recording ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Chunks, this last one included.
    pub chunks: u64,
    /// Stereo frames.
    pub frames: u64,
    /// Gaps.
    pub gaps: u32,
    /// When the recording was closed.
    pub ended_at_ms: WallMs,
}

/// Why there is silence in place of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// The recording was paused.
    Paused,
    /// The recorder did not keep up (slow disk) and blocks were lost.
    Lost,
    /// It was known too late that a card was being keyed: what had been heard since its first key was taken out before
    /// it was sealed.
    Redacted,
}

/// What is known of the keys that may sound in a channel. By it the self-audit tells a key that policy let pass from one
/// that should not be there. It never says which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// From here on the customer's keys pass (guard off, or on signal and not masked).
    CustomerKeysPass,
    /// From here on no key of the customer's may be heard.
    CustomerKeysMasked,
    /// About here a key of the customer's sounds that was withheld and then sent on by us.
    CustomerKeySentOn,
    /// From here on the agent's keys pass.
    AgentKeysPass,
    /// From here on nothing that is a key may be heard of the agent's side.
    AgentKeysMasked,
    /// About here a key of the agent's own sounds that was sent on by us.
    AgentKeySentOn,
}

impl Mark {
    const ALL: [Mark; 6] = [
        Mark::CustomerKeysPass,
        Mark::CustomerKeysMasked,
        Mark::CustomerKeySentOn,
        Mark::AgentKeysPass,
        Mark::AgentKeysMasked,
        Mark::AgentKeySentOn,
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().position(|mark| *mark == self).map_or(0, |at| at as u8 + 1)
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// A marked stretch of silence, in stereo frames from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub kind: GapKind,
    /// First frame of the gap.
    pub from: u64,
    /// First frame after it; `None` when the recording ends in the gap.
    pub to: Option<u64>,
}

/// One item, authenticated.
// A recording has one start; boxing it would buy nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// What the recording is of.
    Start(Start),
    /// Interleaved left, right samples, i16 little-endian; whole frames.
    Audio(&'a [u8]),
    /// Silence begins.
    GapStart {
        /// Frame.
        frame: u64,
        /// Why.
        kind: GapKind,
    },
    /// Silence ends.
    GapEnd {
        /// Frame.
        frame: u64,
    },
    /// What may be heard of keys.
    Mark {
        /// Frame from which, or about which.
        frame: u64,
        /// What.
        mark: Mark,
    },
    /// The recording is complete.
    Summary(Summary),
}

/// Appends an item of `body` to `out`.
pub(super) fn put(out: &mut Vec<u8>, item: &Item<'_>) {
    let (kind, body): (u8, Vec<u8>) = match item {
        Item::Start(start) => (START, serde_json::to_vec(start).unwrap_or_default()),
        Item::Audio(samples) => (AUDIO, samples.to_vec()),
        Item::GapStart { frame, kind } => {
            let kind: u8 = match kind {
                GapKind::Paused => 1,
                GapKind::Lost => 2,
                GapKind::Redacted => 3,
            };
            (GAP_START, [&frame.to_be_bytes()[..], &[kind]].concat())
        }
        Item::GapEnd { frame } => (GAP_END, frame.to_be_bytes().to_vec()),
        Item::Mark { frame, mark } => (MARK, [&frame.to_be_bytes()[..], &[mark.code()]].concat()),
        Item::Summary(summary) => (SUMMARY, serde_json::to_vec(summary).unwrap_or_default()),
    };
    open(out, kind, body.len());
    out.extend_from_slice(&body);
}

/// Begins an audio item of which [`grow_audio`] is told the rest; gives its place.
pub(super) fn open_audio(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    open(out, AUDIO, 0);
    at
}

/// Sets the length of the audio item at `at` to all that follows it.
pub(super) fn grow_audio(out: &mut [u8], at: usize) {
    let len = (out.len() - at - ITEM) as u16;
    out[at + 1..at + ITEM].copy_from_slice(&len.to_be_bytes());
}

fn open(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(&(len as u16).to_be_bytes());
}

/// The first item of `rest`, which moves on; `None` when it is not one a writer makes.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let (head, after) = rest.split_first_chunk::<ITEM>()?;
    let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (body, after) = after.split_at_checked(len)?;
    *rest = after;
    match head[0] {
        START => serde_json::from_slice(body).ok().map(Item::Start),
        AUDIO => body.len().is_multiple_of(4).then_some(Item::Audio(body)),
        GAP_START => {
            let (frame, kind) = body.split_first_chunk::<8>()?;
            let kind = match kind {
                [1] => GapKind::Paused,
                [2] => GapKind::Lost,
                [3] => GapKind::Redacted,
                _ => return None,
            };
            Some(Item::GapStart { frame: u64::from_be_bytes(*frame), kind })
        }
        GAP_END => body.try_into().ok().map(|frame| Item::GapEnd { frame: u64::from_be_bytes(frame) }),
        MARK => {
            let (frame, mark) = body.split_first_chunk::<8>()?;
            let [code] = mark else { return None };
            Some(Item::Mark { frame: u64::from_be_bytes(*frame), mark: Mark::of(*code)? })
        }
        SUMMARY => serde_json::from_slice(body).ok().map(Item::Summary),
        _ => None,
    }
}
