//! Recordings proven clean, in virtual time, seeded: calls with every form of digits under `auto`, `signal` and `always`,
//! cards recognised late and holds taken late, through the whole proxy into sealed files. What is exported of them gives the
//! laboratory's attackers nothing, or is quarantined; with the guard off the same calls are caught by the self-audit.
//!
//! `TONEWALL_CLEAN=1000 cargo test --release --test clean -- --nocapture` is the proof at full size.
#![allow(clippy::disallowed_methods)] // Tests may read clocks.

mod common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::base::ids::{RecordingId, SessionId};
use tonewall::call::RecordOrder;
use tonewall::config::{GuardMode, MaskKind, RecordingPolicy};
use tonewall::media::MaskedBlock;
use tonewall::obs::event::HoldKind;
use tonewall::record::keys::{Kek, KeyRing};
use tonewall::record::place::seal_file;
use tonewall::record::scan::{Findings, Kind, Scan};
use tonewall::record::sealed::{Gap, GapKind, Item, Verdict, verify};
use tonewall::rt::crew;
use tonewall::rt::keys::Keys;
use tonewall::rt::recorder::{Feed, HELD_BYTES, Handle, Meta, Recorder, Report, Settings};
use tonewall::testkit::keys::{Form, typed};
use tonewall::testkit::lab::Rate;
use tonewall::testkit::lab::leak::score::by_chance;
use tonewall::testkit::leak::{Attackers, Findings as Found, lag};
use tonewall::testkit::rtp_peer::hiss;
use tonewall::testkit::sim::{Deck, Sim};
use tonewall::testkit::site::Site;
use tonewall::testkit::ua::Profile;

const CARDS: [&str; 4] = ["4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"];
const FORMS: [Form; 5] = [Form::Tone, Form::Event, Form::Info, Form::ToneThenEvent { lead_ms: 40 }, Form::ToneAndEvent];
const MASKS: [MaskKind; 4] = [MaskKind::Silence, MaskKind::ComfortNoise, MaskKind::Tone, MaskKind::Substitute];
const HORIZON: Duration = Duration::from_secs(12);

fn ring() -> KeyRing {
    let text: String = (40..72).map(|byte| format!("{byte:02x}")).collect();
    KeyRing::new(Some(Kek::parse("clean", &text).expect("a key")), Vec::new()).expect("a ring")
}

/// What the recorder told of each recording.
#[derive(Default)]
struct Told {
    file: PathBuf,
    closed: bool,
    too_late: bool,
    redacted_ms: u64,
}

type Desk = Arc<(Mutex<HashMap<RecordingId, Told>>, Condvar)>;

/// The real recorder behind a simulated call.
struct Behind {
    handle: Handle,
    open: HashMap<RecordingId, (SessionId, Feed)>,
    recorded: Arc<Mutex<Option<RecordingId>>>,
}

impl Deck for Behind {
    fn order(&mut self, _: Instant, order: &RecordOrder) {
        match order {
            RecordOrder::Open { recording, call, session, horizon, .. } => {
                let mut meta = Meta::new(*call, "carrier", "pbx");
                meta.horizon = *horizon;
                self.open.insert(*recording, (*session, self.handle.open(*recording, meta)));
                *self.recorded.lock().expect("sound") = Some(*recording);
            }
            RecordOrder::Redact { recording, order } => self.open[recording].1.redact(*order),
            RecordOrder::Mark { recording, at, mark } => self.open[recording].1.mark(*at, *mark),
            RecordOrder::Close { recording } => self.open[recording].1.close(),
            RecordOrder::OpenFork { .. }
            | RecordOrder::Flow { .. }
            | RecordOrder::CloseFork { .. }
            | RecordOrder::CallOver { .. }
            | RecordOrder::OpenSpill { .. }
            | RecordOrder::PlaySpill { .. }
            | RecordOrder::LeaveSpill { .. }
            | RecordOrder::MarkSpill { .. } => {}
        }
    }

    fn block(&mut self, now: Instant, session: SessionId, block: MaskedBlock) {
        if let Some((_, feed)) = self.open.values().find(|(of, _)| *of == session) {
            feed.block_at(now, block);
        }
    }
}

/// One call.
#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    guard: GuardMode,
    mask: MaskKind,
    form: Form,
    /// The PBX takes events, INFO, or nothing but tones.
    pbx: (bool, bool),
    card: &'static str,
    /// Keys before the caller rests, and for how long, in ms.
    rests: (usize, u64),
    /// Under `signal`: after how many keys somebody takes a hold.
    hold_after: Option<usize>,
    /// From key to key, in ms.
    gap: u32,
}

impl Case {
    fn draw(seed: u64) -> Self {
        let mut random = Random::seed_from_u64(seed ^ 0xc1ea);
        let card = CARDS[random.random_range(0..CARDS.len())];
        let guard = match random.random_range(0..20) {
            0..=11 => GuardMode::Auto,
            12..=16 => GuardMode::Signal,
            _ => GuardMode::Always,
        };
        // Most rest for longer than `auto` waits, one in twenty longer than the horizon.
        let rest = match random.random_range(0..20) {
            0..=7 => 0,
            8..=18 => random.random_range(4_300..8_000),
            _ => random.random_range(14_000..30_000),
        };
        Self {
            seed,
            guard,
            mask: MASKS[random.random_range(0..MASKS.len())],
            // In turn, so that each form is there also in a small run.
            form: FORMS[seed as usize % FORMS.len()],
            pbx: [(true, true), (false, true), (false, false), (false, false)][random.random_range(0..4)],
            card,
            rests: ([1, 2, 3, 4][random.random_range(0..4)], rest),
            hold_after: (guard == GuardMode::Signal && random.random()).then(|| random.random_range(1..12)),
            gap: random.random_range(60..160),
        }
    }

    /// Plays the call into `handle`; the recording, the customer's sound as sent, and the keys in it.
    fn play(&self, handle: Handle) -> (RecordingId, Vec<i16>, Vec<tonewall::testkit::keys::Sent>) {
        let (events, info) = self.pbx;
        let change = |mut site: Site| {
            site.dtmf.info = info;
            site.carriers(|c| (c.guard, c.mask, c.recording) = (self.guard, self.mask, RecordingPolicy::Required))
        };
        let agent = Profile::new("5551000");
        let agent = if events { agent } else { Profile { events: None, ..agent } };
        // The caller's telephone has the form it keys in whatever the PBX takes.
        let mut sim = Sim::new(self.seed, Instant::now(), change, Profile::new("+15550100"), agent);
        let recorded = Arc::new(Mutex::new(None));
        sim.deck = Some(Box::new(Behind { handle, open: HashMap::new(), recorded: recorded.clone() }));
        sim.caller.phone.rtp.speak(hiss(self.seed, -48.0));
        sim.agent.phone.rtp.speak(hiss(self.seed + 1, -48.0));
        sim.connect();
        sim.run_for(2_500);
        let (first, rest) = self.card.split_at(self.rests.0);
        self.key(&mut sim, first, 0);
        sim.run_for(self.rests.1);
        self.key(&mut sim, rest, first.len());
        sim.run_for(2_500);
        let (spoken, keyed) = (sim.caller.phone.rtp.spoken().to_vec(), sim.caller.phone.rtp.keyed().to_vec());
        sim.caller(|phone, now| phone.hang_up(now));
        sim.run_for(1_500);
        let recording = recorded.lock().expect("sound").expect("a recording");
        (recording, spoken, keyed)
    }

    fn key(&self, sim: &mut Sim, keys: &str, before: usize) {
        let each = u64::from(80 + self.gap);
        let taken = self.hold_after.and_then(|after| after.checked_sub(before)).filter(|after| *after <= keys.len());
        let presses = typed(keys, self.form, 80, self.gap);
        sim.caller(|phone, _| phone.press(50, presses));
        if let Some(after) = taken {
            sim.run_for(50 + after as u64 * each);
            sim.hold(&[HoldKind::Mask]);
            sim.run_for((keys.len() - after) as u64 * each + 150);
        } else {
            sim.run_for(50 + keys.len() as u64 * each + 150);
        }
    }
}

/// A recording as it is exported.
struct Tape {
    sides: [Vec<i16>; 2],
    gaps: Vec<Gap>,
    findings: Findings,
}

fn export(file: &PathBuf) -> Tape {
    let seal = fs::read(seal_file(file)).expect("a seal");
    let mut scan = Scan::new(Instant::now());
    let mut sides = [Vec::new(), Vec::new()];
    let input = BufReader::new(File::open(file).expect("a file"));
    let report = verify(input, Some(&seal), None, &ring(), &mut |item| {
        scan.handle_item(item);
        if let Item::Audio(bytes) = item {
            for frame in bytes.as_chunks::<4>().0 {
                sides[0].push(i16::from_le_bytes([frame[0], frame[1]]));
                sides[1].push(i16::from_le_bytes([frame[2], frame[3]]));
            }
        }
        Ok(())
    });
    let report = report.expect("readable");
    assert_eq!(report.verdict, Verdict::Intact);
    Tape { sides, gaps: report.gaps, findings: scan.finish() }
}

/// Plays the cases on all cores into one recorder and gives `judge` what is exported of each.
fn each<R: Send>(
    cases: &[Case],
    judge: impl Fn(&Case, &Told, &Tape, &[i16], &[tonewall::testkit::keys::Sent]) -> R + Sync,
) -> Vec<R> {
    let root = tempfile::tempdir().expect("a directory");
    let desk = Desk::default();
    let told = desk.clone();
    let settings = Settings {
        root: root.path().to_owned(),
        node: "n".into(),
        keys: Keys::fixed(ring()),
        // Virtual time runs faster than any disk.
        queue_blocks: usize::MAX,
        held_bytes: HELD_BYTES,
        stall: std::time::Duration::from_secs(60),
        random: Random::seed_from_u64(9),
    };
    let recorder = Recorder::start(settings, move |recording, report| {
        let (all, ring) = &*told;
        let mut all = all.lock().expect("sound");
        let told = all.entry(recording).or_default();
        match report {
            Report::Opened { file, .. } => told.file = file,
            Report::Closed { .. } => told.closed = true,
            Report::TooLate { .. } => told.too_late = true,
            Report::Redacted { ms, .. } => told.redacted_ms += ms,
            Report::Failed(failure) => panic!("{failure}"),
            Report::Acknowledged { .. } | Report::Behind { .. } => {}
        }
        ring.notify_all();
    });
    let recorder = recorder.expect("a recorder");
    let judged = crew::each(cases, |case| {
        let (recording, spoken, keyed) = case.play(recorder.handle());
        let (all, ring) = &*desk;
        let open = |all: &mut HashMap<RecordingId, Told>| !all.get(&recording).is_some_and(|told| told.closed);
        let (mut all, late) =
            ring.wait_timeout_while(all.lock().expect("sound"), Duration::from_secs(120), open).expect("sound");
        assert!(!late.timed_out(), "{case:?}: never closed");
        let told = all.remove(&recording).expect("told");
        drop(all);
        let tape = export(&told.file);
        // A thousand recordings need not lie on the disk at once.
        let _ = fs::remove_file(&told.file);
        judge(case, &told, &tape, &spoken, &keyed)
    });
    recorder.stop();
    judged
}

fn size(small: usize) -> usize {
    match std::env::var("TONEWALL_CLEAN") {
        Ok(text) => text.parse().expect("TONEWALL_CLEAN is a number of recordings"),
        Err(_) => small,
    }
}

/// What came of one recording.
#[derive(Default)]
struct Judged {
    quarantined: bool,
    too_late: bool,
    /// Attackers on the exported sound, and how many keys sounded before they were taken out.
    found: Found,
    redacted_ms: u64,
    gaps: usize,
    /// First keys of a card that nobody knew to be one.
    leading: usize,
}

#[test]
fn of_recordings_with_late_cards_nothing_can_be_recovered_or_nobody_gets_them() {
    let count = size(16);
    let cases: Vec<Case> = (0..count as u64).map(Case::draw).collect();
    let attackers = Attackers::new();
    if let Some(why) = attackers.missing() {
        common::say(&format!("spandsp takes no part: {why}"));
    }
    let judged = each(&cases, |case, told, tape, spoken, keyed| {
        let quarantined = told.too_late || !tape.findings.is_clean();
        let mut judged = Judged {
            quarantined,
            too_late: told.too_late,
            redacted_ms: told.redacted_ms,
            gaps: tape.gaps.iter().filter(|gap| gap.kind == GapKind::Redacted).count(),
            ..Judged::default()
        };
        if quarantined {
            return judged;
        }
        // The first keys of a card, sealed before anybody took a hold: no more than may be shown of one.
        if case.hold_after.is_some() && case.rests.1 > HORIZON.as_millis() as u64 {
            judged.leading = attackers.listen(&tape.sides[0]).decoded;
            assert!(judged.leading <= case.rests.0, "{case:?}: {}", judged.leading);
            return judged;
        }
        // Where the recording lies in what was sent: by the second before the first key.
        let behind = lag(spoken, &tape.sides[0], 6_000).expect("a line that is heard");
        judged.found = attackers.attack(&tape.sides[0], keyed, behind);
        judged.found += attackers.listen(&tape.sides[1]);
        assert!(judged.found.nothing_decoded(), "{case:?}: {:?}", judged.found);
        judged
    });
    let of = |wanted: &dyn Fn(&Judged) -> bool| judged.iter().filter(|one| wanted(one)).count();
    let mut found = Found::default();
    judged.iter().for_each(|one| found += one.found);
    let (fit, template) = (found.least_squares, found.template);
    common::say(&format!(
        "clean: {count} recordings with a card each, {} with stretches taken out ({:.0} s), {} quarantined ({} because the card \
         was known too late), {} with up to four leading digits of a card nobody announced; of the others {} keys sounded: 0 decoded, least squares {:.1} %, template {:.1} %",
        of(&|one| one.gaps > 0),
        judged.iter().map(|one| one.redacted_ms).sum::<u64>() as f64 / 1_000.0,
        of(&|one| one.quarantined),
        of(&|one| one.too_late),
        of(&|one| one.leading > 0),
        found.places,
        100.0 * fit as f64 / found.places.max(1) as f64,
        100.0 * template as f64 / found.places.max(1) as f64,
    ));
    assert!(of(&|one| one.gaps > 0) * 10 >= count, "the horizon had too little to do to prove anything");
    assert!(of(&|one| one.quarantined) * 4 <= count, "a quarantine is for what cannot be helped");
    for hits in [fit, template] {
        assert!(by_chance(Rate::new(hits, found.places)) > 0.001, "{hits} of {}", found.places);
    }
    // The self-audit itself has nothing to object to but what the recorder has told of.
    for (case, one) in cases.iter().zip(&judged) {
        assert!(!one.quarantined || one.too_late, "{case:?}: {}", one.redacted_ms);
        let beyond = case.rests.1 > HORIZON.as_millis() as u64;
        assert!(!one.too_late || beyond, "{case:?}: within the horizon nothing is too late");
    }
}

#[test]
fn with_the_guard_off_every_recording_that_holds_a_card_is_caught() {
    let cases: Vec<Case> = (0..size(4).min(200) as u64)
        .map(|seed| {
            let sounding = [Form::Tone, Form::ToneAndEvent][seed as usize % 2];
            let case = Case::draw(seed);
            Case { guard: GuardMode::Off, form: sounding, hold_after: None, rests: (4, 0), ..case }
        })
        .collect();
    let caught = each(&cases, |_, _, tape, _, _| tape.findings.hits.iter().any(|hit| hit.kind == Kind::Card));
    let count = caught.iter().filter(|caught| **caught).count();
    common::say(&format!(
        "clean: guard off: {count} of {} recordings with a card caught by the self-audit",
        cases.len()
    ));
    assert_eq!(count, cases.len());
}

/// A WAV file of one channel of 16 bits at 8 kHz, if it is one.
fn wav(path: &std::path::Path) -> Option<Vec<i16>> {
    let bytes = fs::read(path).ok()?;
    let plain =
        bytes.get(22..24)? == [1, 0] && bytes.get(24..28)? == 8_000u32.to_le_bytes() && bytes.get(34..36)? == [16, 0];
    let data = bytes.windows(4).position(|part| part == b"data")? + 8;
    plain.then(|| bytes[data..].as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample)).collect())
}

/// What people say is no reason for a quarantine. Our own talker always; recorded speech where `TONEWALL_SPEECH` names a
/// directory of it, then with the rates it has.
#[test]
fn speech_without_keys_quarantines_nothing() {
    let mut scan = Scan::new(Instant::now());
    let mut hear = |samples: &[i16]| {
        for second in samples.chunks(8_000) {
            let bytes: Vec<u8> = second.iter().flat_map(|s| [s.to_le_bytes(), [0; 2]]).flatten().collect();
            scan.handle_item(&Item::Audio(&bytes));
        }
    };
    let recorded = std::env::var_os("TONEWALL_SPEECH");
    match &recorded {
        None => (0..4).for_each(|seed| hear(&tonewall::testkit::speech::Talker::new(seed, -18.0).say(10 * 8_000))),
        Some(directory) => {
            let files = fs::read_dir(directory).expect("the speech").flatten();
            files.filter_map(|file| wav(&file.path())).for_each(|samples| hear(&samples));
        }
    }
    let found = scan.finish();
    let hours = found.frames as f64 / 8_000.0 / 3_600.0;
    common::say(&format!(
        "clean: {:.1} min of {}: {} hits, {:.1} stray sightings per hour ({})",
        hours * 60.0,
        if recorded.is_some() { "recorded speech" } else { "our own talker" },
        found.hits.len(),
        found.stray as f64 / hours,
        found.text(),
    ));
    assert!(found.frames > 0 && found.is_clean(), "{}", found.text());
}
