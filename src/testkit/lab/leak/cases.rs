//! What is keyed: forms, lines and grades of tone, crossed so that each form meets each codec and each line equally
//! often, with masks, packet times and grades going round. A seed draws the rest.

use rand::{RngExt, SeedableRng};

use crate::base::Random;
use crate::base::secret::Digit;
use crate::call::CollectionRequest;
use crate::config::{Codec, MaskKind};
use crate::dsp::level::sine_peak;
use crate::testkit::keys::{Form, KeyPress, Tone};
use crate::testkit::net::Conditions;
use crate::testkit::rtp_peer::{Sound, hiss, voice};
use crate::testkit::ua::Profile;

/// How a key travels, as a column of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// In-band tones.
    Tone,
    /// RFC 4733 events.
    Event,
    /// SIP INFO.
    Info,
    /// 20–60 ms of tone, then the event.
    ToneThenEvent,
    /// Tone and event at once.
    ToneAndEvent,
    /// The event 10–100 ms behind the tone.
    LateEvent,
    /// A tone, and an INFO from 500 ms before to 500 ms after its onset.
    ToneAndInfo,
    /// Events without an end.
    LostEnds,
    /// Tones in RFC 2198 redundancy.
    RedTone,
    /// Events in RFC 2198 redundancy.
    RedEvent,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 10] = [
        Way::Tone,
        Way::Event,
        Way::Info,
        Way::ToneThenEvent,
        Way::ToneAndEvent,
        Way::LateEvent,
        Way::ToneAndInfo,
        Way::LostEnds,
        Way::RedTone,
        Way::RedEvent,
    ];

    /// As a table says it.
    pub fn name(self) -> &'static str {
        match self {
            Way::Tone => "tone",
            Way::Event => "event",
            Way::Info => "INFO",
            Way::ToneThenEvent => "tone, then event",
            Way::ToneAndEvent => "tone and event",
            Way::LateEvent => "event 10–100 ms late",
            Way::ToneAndInfo => "tone, INFO ±500 ms",
            Way::LostEnds => "event without end",
            Way::RedTone => "tone in RED",
            Way::RedEvent => "event in RED",
        }
    }

    /// Whether the tone sounds as long as the key is down.
    pub fn sounds(self) -> bool {
        matches!(self, Way::Tone | Way::ToneAndEvent | Way::LateEvent | Way::ToneAndInfo | Way::RedTone)
    }

    /// Whether an event or an INFO names every key. Where the event comes behind a tone, a short key may be over first.
    pub fn tells(self) -> bool {
        !matches!(self, Way::Tone | Way::RedTone | Way::ToneThenEvent)
    }

    /// Whether the caller's packets are RFC 2198 redundancy.
    pub fn is_redundant(self) -> bool {
        matches!(self, Way::RedTone | Way::RedEvent)
    }

    fn form(self, random: &mut Random) -> Form {
        match self {
            Way::Tone | Way::RedTone => Form::Tone,
            Way::Event | Way::RedEvent => Form::Event,
            Way::Info => Form::Info,
            Way::ToneThenEvent => Form::ToneThenEvent { lead_ms: random.random_range(20..=60) },
            Way::ToneAndEvent => Form::ToneAndEvent,
            Way::LateEvent => Form::ToneAndLateEvent { lag_ms: random.random_range(1..=10) * 10 },
            Way::ToneAndInfo => Form::ToneAndInfo { offset_ms: random.random_range(-50..=50) * 10 },
            Way::LostEnds => Form::EventWithoutEnd,
        }
    }
}

/// What stands between the customer and Tonewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// Nothing.
    Clean,
    /// 1 % of packets lost, one by one.
    Loss1,
    /// 5 %.
    Loss5,
    /// 10 %.
    Loss10,
    /// 5 % in bursts of three on average.
    Burst,
    /// 5 % of packets 30 ms late.
    Reorder,
    /// 5 % of packets twice.
    Duplicate,
    /// Up to 20 ms of jitter.
    Jitter20,
    /// Up to 60 ms, which puts packets out of order all the time.
    Jitter60,
    /// 5 % lost, 3 % twice, 5 % out of order, up to 30 ms of jitter.
    Poor,
}

impl Line {
    /// All of them.
    pub const ALL: [Line; 10] = [
        Line::Clean,
        Line::Loss1,
        Line::Loss5,
        Line::Loss10,
        Line::Burst,
        Line::Reorder,
        Line::Duplicate,
        Line::Jitter20,
        Line::Jitter60,
        Line::Poor,
    ];

    /// As a table says it.
    pub fn name(self) -> &'static str {
        match self {
            Line::Clean => "clean",
            Line::Loss1 => "loss 1 %",
            Line::Loss5 => "loss 5 %",
            Line::Loss10 => "loss 10 %",
            Line::Burst => "loss 5 % in bursts of 3",
            Line::Reorder => "reorder 5 %",
            Line::Duplicate => "duplicates 5 %",
            Line::Jitter20 => "jitter 0–20 ms",
            Line::Jitter60 => "jitter 0–60 ms",
            Line::Poor => "loss 5 %, jitter 30 ms, reorder, duplicates",
        }
    }

    /// What it does.
    pub fn conditions(self) -> Conditions {
        let clean = Conditions::CLEAN;
        match self {
            Line::Clean => clean,
            Line::Loss1 => Conditions { loss: 0.01, ..clean },
            Line::Loss5 => Conditions { loss: 0.05, ..clean },
            Line::Loss10 => Conditions { loss: 0.1, ..clean },
            Line::Burst => Conditions { loss: 0.05, burst: 3.0, ..clean },
            Line::Reorder => Conditions { reorder: 0.05, ..clean },
            Line::Duplicate => Conditions { duplicate: 0.05, ..clean },
            Line::Jitter20 => Conditions { jitter_ms: 20, ..clean },
            Line::Jitter60 => Conditions { jitter_ms: 60, ..clean },
            Line::Poor => Conditions { loss: 0.05, jitter_ms: 30, reorder: 0.05, duplicate: 0.03, ..clean },
        }
    }

    /// Whether it loses packets.
    pub fn loses(self) -> bool {
        self.conditions().loss > 0.0
    }
}

/// The grades of tone of the detector's bars D1–D5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grade {
    /// 40–100 ms, pauses of 30–50 ms, 0 to −36 dBm0.
    D1,
    /// ±1.8 % of offset, −8 to +5 dB of twist, 20 dB over noise, 40 ms.
    D2,
    /// The same 15 dB over noise.
    D3,
    /// The same 12 dB over noise.
    D3Noisy,
    /// 10 dB over speech, 100 ms.
    D4,
    /// 6 dB over speech.
    D4Loud,
    /// An interruption of up to 10 ms in each tone.
    D5,
}

impl Grade {
    /// All of them.
    pub const ALL: [Grade; 7] = [Grade::D1, Grade::D2, Grade::D3, Grade::D3Noisy, Grade::D4, Grade::D4Loud, Grade::D5];

    /// As a table says it.
    pub fn name(self) -> &'static str {
        match self {
            Grade::D1 => "D1 0…−36 dBm0, 40–100 ms",
            Grade::D2 => "D2 offset, twist, SNR 20 dB",
            Grade::D3 => "D3 SNR 15 dB",
            Grade::D3Noisy => "D3 SNR 12 dB",
            Grade::D4 => "D4 10 dB over speech",
            Grade::D4Loud => "D4 6 dB over speech",
            Grade::D5 => "D5 dropouts ≤ 10 ms",
        }
    }

    /// The share of keys that the detector's bar lets go unheard.
    pub fn may_miss(self) -> f64 {
        match self {
            Grade::D1 | Grade::D5 => 0.0,
            Grade::D2 | Grade::D4 => 0.001,
            Grade::D3 => 0.005,
            Grade::D3Noisy => 0.01,
            Grade::D4Loud => 0.02,
        }
    }

    /// Whether the customer speaks meanwhile.
    pub fn speaks(self) -> bool {
        matches!(self, Grade::D4 | Grade::D4Loud)
    }
}

/// One call of the run.
#[derive(Debug, Clone)]
pub struct Case {
    /// How keys travel.
    pub way: Way,
    /// Over which line.
    pub line: Line,
    /// In which codec.
    pub codec: Codec,
    /// Behind which mask.
    pub mask: MaskKind,
    /// In packets of so many ms.
    pub ptime_ms: u32,
    /// With which tones.
    pub grade: Grade,
    /// Whether a collection takes the digits; it pauses the recording. Otherwise the recording is attacked.
    pub collecting: bool,
    /// Whether the guard is on; the control has it off.
    pub guarded: bool,
    /// Draws everything else. A control has that of the call it repeats.
    pub seed: u64,
    /// How many digits.
    pub digits: usize,
}

/// The masks, in the order of a site's carrier trunks.
pub const MASKS: [MaskKind; 4] = [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute];
const PTIMES: [u32; 3] = [20, 10, 30];
/// Payload type telephones declare for redundancy.
const RED: u8 = 121;
/// Digits of one call of a full run.
pub const PER_CALL: usize = 52;
/// Keys of one group; after each there is a pause, as people make it.
const GROUP: usize = 4;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Digits under the guard, at least.
    pub digits: usize,
    /// Digits of one call; a collection takes 64.
    pub per_call: usize,
    /// Codecs of the customer's telephone, one per call.
    pub codecs: Vec<Codec>,
    /// One call in so many is repeated with the guard off.
    pub control_every: usize,
    /// Draws everything.
    pub seed: u64,
}

impl Plan {
    /// The calls, controls right behind the call they repeat.
    pub fn cases(&self) -> Vec<Case> {
        let calls = self.digits.div_ceil(self.per_call.max(1)).max(1);
        let mut random = Random::seed_from_u64(self.seed);
        let mut cases = Vec::new();
        let cells = Way::ALL.len() * Line::ALL.len() * self.codecs.len();
        for n in 0..calls {
            // Each round goes through all cells of form, line and codec; the rest goes round at strides of its own.
            let cell = (n * 37 + 11) % cells.max(1);
            let (round, way) = (n / cells.max(1), Way::ALL[cell % Way::ALL.len()]);
            let line = Line::ALL[(cell / Way::ALL.len()) % Line::ALL.len()];
            let codec = self.codecs[cell / (Way::ALL.len() * Line::ALL.len()) % self.codecs.len()];
            let case = Case {
                way,
                line,
                codec,
                mask: MASKS[(n + n / 4 + round) % MASKS.len()],
                ptime_ms: match PTIMES[(n + n / 3 + round) % PTIMES.len()] {
                    // Opus has no frames of 30 ms.
                    30 if codec == Codec::Opus => 20,
                    ptime_ms => ptime_ms,
                },
                grade: Grade::ALL[(n + n / 7 + round) % Grade::ALL.len()],
                collecting: (n + n / 2 + round).is_multiple_of(2),
                guarded: true,
                seed: random.random(),
                digits: self.per_call,
            };
            cases.push(case.clone());
            // One of each group, another one each time: at a fixed stride it would always be the same forms.
            let every = self.control_every;
            if every > 0 && n % every == n / every % every {
                cases.push(Case { guarded: false, collecting: false, ..case });
            }
        }
        cases
    }

    /// Calls that attackers must be able to read, or they are blunt: the guard off, each form over a clean line, nobody
    /// speaking. Codecs go round.
    pub fn open_calls(&self) -> Vec<Case> {
        let mut random = Random::seed_from_u64(self.seed ^ 0x0fe2);
        let codecs = self.codecs.iter().copied().cycle();
        let one = |(n, (way, codec)): (usize, (Way, Codec))| Case {
            way,
            codec,
            grade: [Grade::D1, Grade::D5][n % 2],
            digits: self.per_call,
            ..Case::plain(MASKS[n % MASKS.len()], false, random.random())
        };
        Way::ALL.into_iter().zip(codecs).enumerate().map(one).collect()
    }
}

impl Case {
    /// A plain call: PCMU in packets of 20 ms over a clean line.
    pub fn plain(mask: MaskKind, guarded: bool, seed: u64) -> Self {
        let (way, line, grade) = (Way::Tone, Line::Clean, Grade::D5);
        let (codec, ptime_ms, collecting, digits) = (Codec::Pcmu, 20, false, 0);
        Self { way, line, codec, mask, ptime_ms, grade, collecting, guarded, seed, digits }
    }

    /// A telephone of this case's codec and packet time.
    pub fn profile(&self, user: &str) -> Profile {
        // Telephone-event runs on the audio's clock (RFC 4733 section 2.1).
        let events = Some((101, self.codec.clock_rate()));
        Profile { ptime_ms: self.ptime_ms, events, ..Profile::new(user).only(self.codec) }
    }

    /// The caller's telephone.
    pub fn caller(&self) -> Profile {
        Profile { red: self.way.is_redundant().then_some(RED), ..self.profile("+15550100") }
    }

    /// What its keys are collected with: as many as fit, ended by `#`, so that what is lost or counted twice on the way
    /// shows in the digits and not in the end.
    pub fn collection(&self) -> CollectionRequest {
        CollectionRequest { length: None, min: Some(1), max: Some(64), ..CollectionRequest::of_length(1) }
    }

    /// How long after a key's end its sound may still come, in samples: a guard waits for what jitters, a relay does not.
    pub fn late(&self) -> usize {
        let Conditions { jitter_ms, reorder, .. } = self.line.conditions();
        if self.guarded && (jitter_ms > 0 || reorder > 0.0) { 1_600 } else { 320 }
    }

    fn random(&self, stream: u64) -> Random {
        Random::seed_from_u64(self.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Draws of the line.
    pub fn line_random(&self) -> Random {
        self.random(1)
    }

    /// The loudness of one tone, dBm0.
    fn level(&self) -> f32 {
        let range = match self.grade {
            Grade::D1 => -36.0..0.0,
            Grade::D2 | Grade::D3 | Grade::D3Noisy | Grade::D5 => -25.0..-6.0,
            Grade::D4 | Grade::D4Loud => -20.0..-10.0,
        };
        self.random(2).random_range(range)
    }

    /// What is heard of the customer besides keys.
    pub fn sound(&self) -> Sound {
        let both = self.level() + 3.0;
        let noise = |under: f32| hiss(self.seed ^ 5, (both - under).clamp(-62.0, -6.0));
        match self.grade {
            Grade::D1 | Grade::D5 => noise(30.0),
            Grade::D2 => noise(20.0),
            Grade::D3 => noise(15.0),
            Grade::D3Noisy => noise(12.0),
            Grade::D4 => voice(self.seed ^ 5, both - 10.0),
            Grade::D4Loud => voice(self.seed ^ 5, both - 6.0),
        }
    }

    /// The keys, in groups of four with a pause after each.
    pub fn presses(&self) -> Vec<KeyPress> {
        let level = self.level();
        let mut random = self.random(3);
        let form = self.way.form(&mut random);
        let mut presses: Vec<KeyPress> = Vec::new();
        for n in 0..self.digits {
            let Some(digit) = Digit::from_event(random.random_range(0..10)) else { continue };
            let (down_ms, mut gap_ms) = self.rhythm(form, &mut random);
            if n % GROUP == GROUP - 1 {
                gap_ms += random.random_range(300..600);
            }
            let tone = self.tone(level, down_ms, &mut random);
            presses.push(KeyPress { digit, form, down_ms, gap_ms, tone });
        }
        presses
    }

    fn rhythm(&self, form: Form, random: &mut Random) -> (u32, u32) {
        // A gateway's events and INFO come from presses of a human length; tones alone may be as short as they get.
        let alone = form == Form::Tone;
        let one_of = |random: &mut Random, list: &[u32]| list[random.random_range(0..list.len())];
        match self.grade {
            Grade::D1 if alone => (one_of(random, &[40, 50, 65, 100]), one_of(random, &[30, 40, 50])),
            Grade::D2 | Grade::D3 | Grade::D3Noisy if alone => (40, one_of(random, &[40, 50, 60])),
            Grade::D4 | Grade::D4Loud => (100, random.random_range(60..=100)),
            Grade::D5 => (one_of(random, &[65, 80, 100]), random.random_range(50..=80)),
            _ => (random.random_range(60..=100), random.random_range(50..=80)),
        }
    }

    fn tone(&self, level: f32, down_ms: u32, random: &mut Random) -> Tone {
        let peak = |dbm0: f32| f64::from(sine_peak(dbm0)) / crate::testkit::rtp_peer::TONE_PEAK;
        let mut tone = Tone { gain: [peak(level); 2], ..Tone::default() };
        match self.grade {
            Grade::D2 | Grade::D3 | Grade::D3Noisy => {
                // Strength of the column over the row; the stronger one has the level.
                let twist: f32 = random.random_range(-8.0..5.0);
                tone.gain = [peak(level - twist.max(0.0)), peak(level + twist.min(0.0))];
                tone.offset = [random.random_range(-1.8..1.8), random.random_range(-1.8..1.8)];
            }
            Grade::D5 => {
                let long = random.random_range(2..=10);
                tone.hole = Some((random.random_range(15..=(down_ms - 25).max(16)), long));
            }
            Grade::D1 | Grade::D4 | Grade::D4Loud => {}
        }
        // Half of the telephones begin at phase zero, as many generators do.
        if random.random_bool(0.5) {
            tone.phase =
                [random.random_range(0.0..std::f64::consts::TAU), random.random_range(0.0..std::f64::consts::TAU)];
        }
        tone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(digits: usize) -> Plan {
        Plan { digits, per_call: PER_CALL, codecs: vec![Codec::Pcmu, Codec::Pcma], control_every: 4, seed: 1 }
    }

    #[test]
    fn every_form_meets_every_line_and_codec_and_the_rest_goes_round() {
        let cases: Vec<Case> = plan(20_800).cases().into_iter().filter(|c| c.guarded).collect();
        assert_eq!(cases.len(), 400);
        let mut cells: Vec<_> = cases.iter().map(|c| (c.way, c.line, format!("{:?}", c.codec))).collect();
        cells.sort();
        cells.dedup();
        assert_eq!(cells.len(), 200, "each form, line and codec");
        for mask in MASKS {
            for collecting in [false, true] {
                for way in Way::ALL {
                    let n =
                        cases.iter().filter(|c| c.mask == mask && c.collecting == collecting && c.way == way).count();
                    assert!(n >= 1, "{mask:?} {way:?} {collecting}: {n}");
                }
            }
        }
        for grade in Grade::ALL {
            for ptime_ms in PTIMES {
                let n = cases.iter().filter(|c| c.grade == grade && c.ptime_ms == ptime_ms).count();
                assert!((9..=30).contains(&n), "{grade:?} {ptime_ms}: {n}");
            }
        }
    }

    #[test]
    fn a_control_repeats_its_call_key_by_key() {
        let cases = plan(5_200).cases();
        let at = cases.iter().position(|c| !c.guarded).expect("a control");
        let keys = |case: &Case| case.presses().iter().map(|p| (p.digit.expose_char(), p.down_ms)).collect::<Vec<_>>();
        assert_eq!(keys(&cases[at]), keys(&cases[at - 1]));
        assert_eq!(cases[at].presses().len(), PER_CALL);
        assert_eq!(cases.iter().filter(|c| !c.guarded).count(), 25);
        for way in Way::ALL {
            assert!(cases.iter().any(|c| !c.guarded && c.way == way), "no control of {}", way.name());
        }
    }

    #[test]
    fn open_calls_have_every_form_and_nothing_in_the_way() {
        let calls = plan(100).open_calls();
        assert!(calls.iter().map(|c| c.way).eq(Way::ALL));
        assert!(calls.iter().all(|c| !c.guarded && c.line == Line::Clean && !c.grade.speaks()));
        assert!(
            calls
                .iter()
                .all(|c| c.digits == PER_CALL && (c.way.sounds() || c.way.tells() || c.way == Way::ToneThenEvent))
        );
    }
}
