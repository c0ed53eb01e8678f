//! The self-audit's ear: a recording is heard again, and what sounds like a key is held against what may sound there.
//! Authenticated items of a sealed file go in, in order; [`Findings`] come out, which hold places and counts and never a
//! digit. It decides nothing about the file: whoever asked quarantines it.
//!
//! ```text
//!              ┌─► detector, armed ────────────┐
//!   left  ─────┼─► the same, 24 dB louder ─────┼─► sightings ─┬─► classifier of `auto` ──► card
//!              └─► fragments of 10 ms ─────────┘              └─► beside the marks:
//!   right ── likewise                                             unexplained, 3 in 10 s ──► keys
//!   start, labels ──► what can be a card number ──► described     fragments, 6 in 10 s ────► fragments
//! ```
//!
//! # What is a hit
//! The detector at its most sensitive finds a key now and then in speech; a quarantine for one would teach people to lift
//! quarantines unseen. And keys are in recordings by right: a menu choice under `signal`, a member number that `auto` has
//! sent on as tones. So the writer marks in the file when keys may be heard (`Mark`), and a hit is
//!
//! - **card**: keys, explained or not, that `auto` would take for a card: 12 that may be one, or 13 in a row;
//! - **keys**: three keys within 10 s, of one channel, that nothing explains: the shortest secret is a security code;
//! - **fragments**: six pieces of tone within 10 s that nothing explains, each 10 ms at least and of one key's two
//!   frequencies: what a mask leaves that opens too late or closes too early;
//! - **described**: a card number in the description.
//!
//! What is less is counted ([`Findings::stray`]) and told, and quarantines nothing. A file without marks explains nothing.

mod fragments;
mod marks;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sealed::{Item, Start};
use crate::config::Auto;
use crate::dtmf::inband::{Detector, Point, Verdict};
use crate::guard::classify::{Action, Classifier};
use crate::media::RECORD_RATE;
use fragments::Fragments;
use marks::Marks;

/// How many unexplained keys within `WITHIN` are a hit.
pub const KEYS: usize = 3;
/// How many unexplained fragments within `WITHIN` are a hit.
pub const FRAGMENTS: usize = 6;
/// Frames within which they have to be: 10 s.
const WITHIN: u64 = 10 * RECORD_RATE as u64;
/// Sound up to this peak is heard again, louder.
const FAINT: i16 = 1_500;
/// How much louder: 24 dB.
const LOUDER: i16 = 16;
/// Places of hits that are kept.
const KEPT: usize = 16;

/// A channel of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Left: the customer.
    Customer,
    /// Right: the agent.
    Agent,
}

impl Channel {
    const ALL: [Channel; 2] = [Channel::Customer, Channel::Agent];
}

/// Why a recording is not clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys that can be a card number.
    Card,
    /// Keys that nothing explains.
    Keys,
    /// Pieces of tone that nothing explains.
    Fragments,
    /// The description holds a card number.
    Described,
}

impl Kind {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Card => "card",
            Kind::Keys => "keys",
            Kind::Fragments => "fragments",
            Kind::Described => "described",
        }
    }
}

/// A hit: what and where, never which digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// What.
    pub kind: Kind,
    /// In which channel; `None`: in the description.
    pub channel: Option<Channel>,
    /// Frame at which it was certain.
    pub frame: u64,
}

/// What a scan has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Hits, the first of each stretch.
    pub hits: Vec<Hit>,
    /// Keys heard, explained ones included.
    pub keys: u64,
    /// Keys and fragments that nothing explains: too few for a hit, where there is none.
    pub stray: u64,
    /// Frames heard.
    pub frames: u64,
}

impl Findings {
    /// Whether nothing was found that is worth a quarantine.
    pub fn is_clean(&self) -> bool {
        self.hits.is_empty()
    }

    /// What was found, in a line; never which digits.
    pub fn text(&self) -> String {
        if self.hits.is_empty() {
            return match self.stray {
                0 => "clean".to_owned(),
                stray => format!("clean; {stray} sounds like a key, too few to be one"),
            };
        }
        let place = |hit: &Hit| {
            let at = hit.frame / u64::from(RECORD_RATE);
            match hit.channel {
                None => hit.kind.word().to_owned(),
                Some(Channel::Customer) => format!("{} at {at} s, customer", hit.kind.word()),
                Some(Channel::Agent) => format!("{} at {at} s, agent", hit.kind.word()),
            }
        };
        self.hits.iter().map(place).collect::<Vec<_>>().join("; ")
    }
}

/// A scan of one recording.
pub struct Scan {
    ears: [Ear; 2],
    marks: Marks,
    findings: Findings,
    /// The origin of the classifier's time.
    origin: Instant,
    /// One channel of an item.
    samples: Vec<i16>,
}

/// What hears one channel.
struct Ear {
    detector: Detector,
    louder: Detector,
    fragments: Fragments,
    card: Classifier,
    /// The last key and where it was sighted: three detectors see the same one.
    last: Option<(u8, u64)>,
    unexplained: Recent<KEYS>,
    pieces: Recent<FRAGMENTS>,
}

/// The last `N` sightings.
#[derive(Default)]
struct Recent<const N: usize>(VecDeque<u64>);

impl<const N: usize> Recent<N> {
    /// Whether this one makes `N` within `WITHIN`; they count anew then.
    fn add(&mut self, frame: u64) -> bool {
        self.0.push_back(frame);
        while self.0.front().is_some_and(|first| first + WITHIN < frame) {
            self.0.pop_front();
        }
        let enough = self.0.len() >= N;
        if enough {
            self.0.clear();
        }
        enough
    }
}

/// Sightings of one key closer than this are one press: 80 ms.
const SAME: u64 = RECORD_RATE as u64 * 80 / 1_000;

impl Scan {
    /// A scan that has heard nothing. `origin` is any instant: the scan counts its own time from there.
    pub fn new(origin: Instant) -> Self {
        let ear = || Ear {
            detector: Detector::new(Point::Armed),
            louder: Detector::new(Point::Armed),
            fragments: Fragments::new(),
            card: Classifier::new(Auto::default()),
            last: None,
            unexplained: Recent::default(),
            pieces: Recent::default(),
        };
        Self {
            ears: [ear(), ear()],
            marks: Marks::default(),
            findings: Findings::default(),
            origin,
            samples: Vec::new(),
        }
    }

    /// The next item of the file.
    pub fn handle_item(&mut self, item: &Item<'_>) {
        match item {
            Item::Start(start) => self.describe(start),
            Item::Mark { frame, mark } => self.marks.add(*frame, *mark),
            Item::Audio(bytes) => self.hear(bytes),
            Item::GapStart { .. } | Item::GapEnd { .. } | Item::Summary(_) => {}
        }
    }

    /// A text that belongs to the recording: a label, a name.
    pub fn handle_text(&mut self, text: &str) {
        let mut text = text.as_bytes().to_vec();
        if crate::obs::redact::redact(&mut text) > 0 {
            self.hit(Kind::Described, None, 0);
        }
    }

    /// What was found.
    pub fn finish(self) -> Findings {
        self.findings
    }

    fn describe(&mut self, start: &Start) {
        let Start { node, from_trunk, to_trunk, caller, called, agent, labels, spill, .. } = start;
        let labels = labels.iter().flat_map(|(key, value)| [key.as_str(), value]);
        let own: [&str; 6] = [node, from_trunk, to_trunk, caller, called, agent];
        for text in own.into_iter().chain(labels).chain(spill.iter().flat_map(|spill| spill.texts())) {
            self.handle_text(text);
        }
    }

    fn hit(&mut self, kind: Kind, channel: Option<Channel>, frame: u64) {
        if self.findings.hits.len() < KEPT {
            self.findings.hits.push(Hit { kind, channel, frame });
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let frames = bytes.as_chunks::<4>().0;
        for channel in Channel::ALL {
            let side = channel as usize * 2;
            self.samples.clear();
            self.samples.extend(frames.iter().map(|frame| i16::from_le_bytes([frame[side], frame[side + 1]])));
            let samples = std::mem::take(&mut self.samples);
            // An item is up to a second: what is faint is told by blocks.
            for block in samples.chunks(RECORD_RATE as usize / 10) {
                self.hear_block(channel, block);
            }
            self.samples = samples;
        }
        self.findings.frames += frames.len() as u64;
    }

    fn hear_block(&mut self, channel: Channel, block: &[i16]) {
        let mut seen: Vec<(u64, u8)> = Vec::new();
        let ear = &mut self.ears[channel as usize];
        let mut named = |verdict: Verdict| {
            if let Verdict::Confirm { from, digit } = verdict {
                seen.push((from, digit.expose_event()));
            }
        };
        ear.detector.feed(block, &mut named);
        let faint = block.iter().all(|sample| sample.unsigned_abs() < FAINT.unsigned_abs());
        let louder: Vec<i16> = block.iter().map(|sample| if faint { sample * LOUDER } else { 0 }).collect();
        ear.louder.feed(&louder, &mut named);
        seen.sort_unstable();
        let mut pieces: Vec<u64> = Vec::new();
        ear.fragments.feed(block, &mut |frame| pieces.push(frame));
        for (frame, key) in seen {
            self.key(channel, frame, key);
        }
        for frame in pieces {
            self.piece(channel, frame);
        }
    }

    fn key(&mut self, channel: Channel, frame: u64, key: u8) {
        let explained = self.marks.explain(channel, frame);
        let ear = &mut self.ears[channel as usize];
        if ear.last.replace((key, frame)).is_some_and(|(last, at)| last == key && frame < at + SAME) {
            return;
        }
        self.findings.keys += 1;
        let enough = !explained && {
            self.findings.stray += 1;
            ear.unexplained.add(frame)
        };
        let at = self.origin + Duration::from_micros(frame * 1_000_000 / u64::from(RECORD_RATE));
        let mut card = false;
        if let Some(digit) = crate::base::secret::Digit::from_event(key) {
            let actions = ear.card.handle_digit(at, at, &digit);
            card = actions.iter().any(|action| matches!(action, Action::Take));
        }
        if card {
            self.hit(Kind::Card, Some(channel), frame);
        } else if enough {
            self.hit(Kind::Keys, Some(channel), frame);
        }
    }

    fn piece(&mut self, channel: Channel, frame: u64) {
        if self.marks.explain(channel, frame) {
            return;
        }
        self.findings.stray += 1;
        if self.ears[channel as usize].pieces.add(frame) {
            self.hit(Kind::Fragments, Some(channel), frame);
        }
    }
}

#[cfg(test)]
mod tests;
