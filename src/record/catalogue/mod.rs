//! What is known of recordings besides their sound: an [`Entry`] each, what may be asked of them ([`Query`]), and the
//! rules that say how long they are kept ([`Retention`]). Pure values: `rt::catalogue` keeps them in SQLite and, where a
//! sealed file cannot say it (labels, holds, quarantine, tombstones), in a small file beside the recording.
//!
//! ```text
//!                      close                audit clean
//!   recording ──────────────► finalising ─────────────► sealed ──┐
//!       │  kill, full disk         │ a digit was found           │ destroy, deadline past
//!       └────► interrupted         └────────► quarantined ───────┴──► destroyed (tombstone)
//!
//!   a legal hold lies over any of these: what is held is neither destroyed nor does its deadline count
//! ```
//!
//! An entry never holds a digit, a key or anything of what was said.

mod asked;
mod query;
mod retention;

pub use crate::base::label::{is_label_key, is_label_value};
pub use asked::{Asked, Misunderstood};
pub use query::{Page, Query};
pub use retention::{Retention, Rule};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;

/// Where a recording is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Being written.
    Recording,
    /// Closed; what is done before it counts as sealed (self-audit) is not over.
    Finalising,
    /// Complete, as it was sealed.
    Sealed,
    /// Its writer was killed or its disk failed; every whole chunk is sound.
    Interrupted,
    /// The self-audit found what may be a digit: kept, never exported.
    Quarantined,
    /// Gone: no key opens it any more. The entry is its tombstone.
    Destroyed,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] =
        [State::Recording, State::Finalising, State::Sealed, State::Interrupted, State::Quarantined, State::Destroyed];

    /// The state in a word, as in the API and the database.
    pub const fn word(self) -> &'static str {
        match self {
            State::Recording => "recording",
            State::Finalising => "finalising",
            State::Sealed => "sealed",
            State::Interrupted => "interrupted",
            State::Quarantined => "quarantined",
            State::Destroyed => "destroyed",
        }
    }

    /// The state of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether nothing is appended to it any more.
    pub const fn is_over(self) -> bool {
        !matches!(self, State::Recording | State::Finalising)
    }
}

/// A legal hold: while it stands, nobody and no deadline destroys the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    /// Who took it.
    pub by: String,
    /// Why, in their words.
    pub why: String,
    /// Since when.
    pub since_ms: WallMs,
}

/// Where the sealed bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whereabouts {
    /// On this node's disk only.
    #[default]
    Local,
    /// On this node's disk and in the object store.
    Both,
    /// In the object store only.
    Store,
    /// Nowhere: destroyed.
    Nowhere,
}

impl Whereabouts {
    /// The place in a word.
    pub const fn word(self) -> &'static str {
        match self {
            Whereabouts::Local => "local",
            Whereabouts::Both => "both",
            Whereabouts::Store => "store",
            Whereabouts::Nowhere => "nowhere",
        }
    }
}

/// A recording in the object store, as its store acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Key of the sealed bytes.
    pub key: String,
    /// Bytes acknowledged.
    pub bytes: u64,
    /// SHA-256 of them, hexadecimal.
    pub sha256: String,
    /// When.
    pub at_ms: WallMs,
}

/// What a self-audit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditVerdict {
    /// No digit in the sound, none in what is written of it.
    Clean,
    /// Something that may be a digit.
    Hit,
    /// It could not be judged.
    Failed,
}

/// The last self-audit of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfAudit {
    /// What was found.
    pub verdict: AuditVerdict,
    /// When.
    pub at_ms: WallMs,
    /// Where and what kind, in words; never which digits.
    pub detail: String,
}

/// Who destroyed a recording, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Who; `retention` for a deadline.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at_ms: WallMs,
}

/// What is known of one recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Recording.
    pub recording: RecordingId,
    /// Call; `None` when the file's key is not here, so that it cannot be read.
    pub call: Option<CallId>,
    /// Node that recorded.
    pub node: String,
    /// SIP Call-IDs of the call's legs, as far as known.
    #[serde(default)]
    pub sip_call_ids: Vec<String>,
    /// Trunk the call came in on.
    pub from_trunk: String,
    /// Trunk it went out on.
    pub to_trunk: String,
    /// Calling number or user part.
    #[serde(default)]
    pub caller: String,
    /// Called number or user part.
    #[serde(default)]
    pub called: String,
    /// The agent's extension.
    #[serde(default)]
    pub agent: String,
    /// Free labels: the CRM's, the trunk's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it began.
    pub started_ms: WallMs,
    /// When it was closed.
    pub ended_ms: Option<WallMs>,
    /// When the call ended that a spill is of; `None`: the recorder was back before that, or it is not known.
    #[serde(default)]
    pub call_ended_ms: Option<WallMs>,
    /// Milliseconds of sound and silence.
    pub length_ms: u64,
    /// Marked gaps (pauses, losses).
    pub gaps: u32,
    /// Chunks of the file.
    pub chunks: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The key-encryption key it is wrapped under.
    pub kek_id: String,
    /// State.
    pub state: State,
    /// After this it is destroyed, unless held; `None`: kept for good.
    pub keep_until_ms: Option<WallMs>,
    /// Legal hold.
    pub hold: Option<LegalHold>,
    /// Where its bytes are.
    pub whereabouts: Whereabouts,
    /// In the object store.
    pub stored: Option<Stored>,
    /// The last self-audit.
    pub self_audit: Option<SelfAudit>,
    /// How it ended, of one that is destroyed.
    pub tombstone: Option<Tombstone>,
}

/// Label of a spill: the name of the recorder it stands in for.
pub const SPILL: &str = "spill";
/// Label of a spill that its recorder has got: when.
pub const FORWARDED: &str = "spill-forwarded";

impl Entry {
    /// The recorder that this recording is to be forwarded to: a spill that is over and whose self-audit is clean, and that
    /// was not forwarded before.
    pub fn waits_for(&self) -> Option<&str> {
        // One that was opened between two targets may hold no sound at all.
        let fit = self.withheld().is_none() && self.length_ms > 0 && !self.labels.contains_key(FORWARDED);
        self.labels.get(SPILL).map(String::as_str).filter(|_| fit)
    }

    /// An entry of which only the name and the key are known.
    pub fn unread(recording: RecordingId, started_ms: WallMs) -> Self {
        Self {
            recording,
            call: None,
            node: String::new(),
            sip_call_ids: Vec::new(),
            from_trunk: String::new(),
            to_trunk: String::new(),
            caller: String::new(),
            called: String::new(),
            agent: String::new(),
            labels: BTreeMap::new(),
            started_ms,
            ended_ms: None,
            call_ended_ms: None,
            length_ms: 0,
            gaps: 0,
            chunks: 0,
            bytes: 0,
            kek_id: String::new(),
            state: State::Recording,
            keep_until_ms: None,
            hold: None,
            whereabouts: Whereabouts::Local,
            stored: None,
            self_audit: None,
            tombstone: None,
        }
    }

    /// The state in a word as people see it: `held` for what a legal hold protects.
    pub fn word(&self) -> &'static str {
        match (&self.hold, self.state) {
            (Some(_), State::Sealed | State::Interrupted) => "held",
            (_, state) => state.word(),
        }
    }

    /// Whether its self-audit has found it clean, or a person has said so.
    pub fn is_audited(&self) -> bool {
        self.self_audit.as_ref().is_some_and(|audit| audit.verdict == AuditVerdict::Clean)
    }

    /// Why it may not be given out (played, exported); `None` when it may.
    pub fn withheld(&self) -> Option<&'static str> {
        match self.state {
            // Whatever says that it is over: what nobody has heard again is given to nobody.
            State::Sealed | State::Interrupted if !self.is_audited() => Some("has not passed its self-audit yet"),
            State::Sealed | State::Interrupted => None,
            State::Recording => Some("is still being written"),
            State::Finalising => Some("is being audited before it counts as sealed"),
            State::Quarantined => Some("is quarantined: its self-audit found what may be a digit"),
            State::Destroyed => Some("was destroyed"),
        }
    }

    /// Turns it into a tombstone: who destroyed it and when stays, who spoke and what was labelled goes. Where its bytes are
    /// is said until they are wiped.
    pub fn bury(&mut self, tombstone: Tombstone) {
        self.state = State::Destroyed;
        self.labels.clear();
        self.sip_call_ids.clear();
        for text in [&mut self.caller, &mut self.called, &mut self.agent] {
            text.clear();
        }
        self.keep_until_ms = None;
        self.tombstone = Some(tombstone);
    }

    /// Whether its deadline has passed and nothing forbids that it goes.
    pub fn is_due(&self, now: WallMs) -> bool {
        let past = self.keep_until_ms.is_some_and(|until| until <= now);
        past && self.hold.is_none() && self.state.is_over() && self.state != State::Destroyed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use rand::SeedableRng;

    #[test]
    fn a_held_recording_is_never_due_and_a_buried_one_names_nobody() {
        let mut random = Random::seed_from_u64(1);
        let mut entry = Entry::unread(RecordingId::draw(&mut random), WallMs(1_000));
        entry.caller = "+15550100".into();
        entry.labels.insert("case".into(), "7".into());
        entry.keep_until_ms = Some(WallMs(2_000));
        assert!(!entry.is_due(WallMs(9_000)), "it is still being written");
        entry.state = State::Sealed;
        assert!(!entry.is_due(WallMs(1_999)) && entry.is_due(WallMs(2_000)));
        entry.hold = Some(LegalHold { by: "key:law".into(), why: "case 7".into(), since_ms: WallMs(1_500) });
        assert!(!entry.is_due(WallMs(9_000)) && entry.word() == "held");
        entry.hold = None;
        entry.bury(Tombstone { by: "retention".into(), why: "deadline".into(), at_ms: WallMs(9_000) });
        let text = serde_json::to_string(&entry).expect("JSON");
        assert!(!text.contains("5550100") && !text.contains("case"), "{text}");
        assert!(!entry.is_due(WallMs(99_000)) && entry.withheld().is_some());
    }

    #[test]
    fn only_what_was_found_clean_is_given_out() {
        let verdicts = [None, Some(AuditVerdict::Failed), Some(AuditVerdict::Hit), Some(AuditVerdict::Clean)];
        for state in State::ALL {
            for verdict in verdicts {
                let mut entry = Entry::unread(RecordingId::draw(&mut Random::seed_from_u64(1)), WallMs(1_000));
                entry.state = state;
                entry.self_audit =
                    verdict.map(|verdict| SelfAudit { verdict, at_ms: WallMs(2_000), detail: String::new() });
                let given = matches!(state, State::Sealed | State::Interrupted) && verdict == Some(AuditVerdict::Clean);
                assert_eq!(entry.withheld().is_none(), given, "{state:?} {verdict:?}");
            }
        }
    }

    #[test]
    fn words_are_states_and_states_are_words() {
        for state in State::ALL {
            assert_eq!(State::of(state.word()), Some(state));
        }
        assert_eq!(State::of("held"), None);
    }
}
