//! `tonewall bench talkoff`: speech without digits is played to the receivers; what they tell is false.

use std::io;

use super::lab::Lab;
use super::{Common, Report, speech};
use crate::dsp::level::{clamp, dbm0, mean_square};
use crate::dtmf::inband::Point;
use crate::record::scan::Scan;
use crate::record::sealed::Item;
use crate::rt::crew;
use crate::testkit::lab::hear::{Packets, ours, spandsp};
use crate::testkit::lab::rate::poisson_upper;
use crate::testkit::lab::resample::resample;
use crate::testkit::lab::{Axis, Cell, Plot, Series, Table};
use crate::testkit::speech::Talker;
use crate::testkit::tones::Law;

/// How much to measure, and on what.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Directory with recorded speech (WAV of 8 or 16 kHz), searched through. Otherwise `TONEWALL_SPEECH`, what
    /// `--install` fetched, or what is installed.
    #[arg(long, value_name = "DIR")]
    speech: Option<std::path::PathBuf>,
    /// Fetch Debian's free recordings first (apt-get download; kept in the user's cache, nothing is installed).
    #[arg(long)]
    install: bool,
    /// How many speeds the recordings are played at for bar T1 [default: 24, 2 with --quick].
    #[arg(long, value_name = "COUNT")]
    speeds: Option<usize>,
}

/// T1: confirmed false digits per hour of real speech, unarmed.
const FALSE_PER_HOUR: f64 = 0.02;
/// T1: what a suspicion may mute, ms.
const MUTED_MS: f64 = 25.0;
/// Levels at which the speech is played besides as recorded, dBm0 where it speaks.
const LEVELS: [f32; 4] = [-10.0, -18.0, -26.0, -34.0];

/// What receivers made of one stretch of speech.
#[derive(Debug, Clone, Default)]
struct Made {
    samples: u64,
    told: u64,
    /// Lengths of the suspect stretches, samples.
    stretches: Vec<u64>,
}

impl Made {
    fn hours(&self) -> f64 {
        self.samples as f64 / 8_000.0 / 3_600.0
    }

    fn suspects(&self) -> u64 {
        self.stretches.len() as u64
    }

    fn muted(&self) -> u64 {
        self.stretches.iter().sum()
    }

    /// What a suspicion mutes on the average, ms.
    fn each(&self) -> f64 {
        self.muted() as f64 / 8.0 / self.suspects().max(1) as f64
    }

    /// What half of all suspicions mute at most, ms.
    fn half(&self) -> f64 {
        let mut lengths = self.stretches.clone();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).map_or(0.0, |length| *length as f64 / 8.0)
    }
}

impl std::iter::Sum for Made {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| Self {
            samples: a.samples + b.samples,
            told: a.told + b.told,
            stretches: [a.stretches, b.stretches].concat(),
        })
    }
}

/// One piece of work: a clip, at a level and a speed.
struct Job<'a> {
    row: usize,
    samples: &'a [i16],
    level: Option<f32>,
    speed: f64,
}

const RECEIVERS: [&str; 3] = ["armed", "unarmed", "SpanDSP"];

/// Measures; whether the bar is met.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut report = Report::new("talkoff", &arguments.common)?;
    if arguments.install {
        speech::install(|text| report.fact(text))?;
    }
    let mut lab = Lab::new(report, &arguments.common)?;
    let corpus = match speech::found(arguments.speech.as_deref()) {
        Ok(corpus) => {
            let spoken: usize = corpus.clips.iter().filter(|c| c.speech).map(|c| c.samples.len()).sum();
            let (clips, minutes) = (corpus.clips.len(), spoken as f64 / 480_000.0);
            lab.report
                .fact(&format!("recorded speech from {}: {clips} files, {minutes:.1} min", corpus.from.display()))?;
            corpus.clips
        }
        Err(why) => {
            lab.report.fact(&format!("!!! SKIPPED: recorded speech ({why}); only the own talker is measured"))?;
            Vec::new()
        }
    };
    let talkers: Vec<u64> = (0..lab.size(240, 20) as u64).map(|n| lab.seed("talk-off", n)).collect();
    let said = crew::each(&talkers, |seed| Talker::new(*seed, -18.0).say(30 * 8_000));
    as_recorded(&mut lab, &corpus, &said)?;
    by_level(&mut lab, &corpus, &said)?;
    let speeds = arguments.speeds.unwrap_or_else(|| lab.size(24, 2)).clamp(1, 1_000);
    at_length(&mut lab, &corpus, &said, speeds)?;
    self_audit(&mut lab, &corpus, &said)?;
    lab.report.finish()
}

/// Plays every job to every receiver and sums by row.
fn play(lab: &Lab, what: &str, jobs: &[Job<'_>], rows: usize) -> Vec<[Option<Made>; 3]> {
    let bar = lab.report.progress(what.to_owned(), jobs.len());
    let all = crew::each(jobs, |job| {
        bar.inc(1);
        (job.row, hear(lab, &prepared(job)))
    });
    bar.finish_and_clear();
    (0..rows)
        .map(|row| {
            [0, 1, 2].map(|receiver| {
                let own = all.iter().filter(|(at, _)| *at == row);
                own.map(|(_, made)| made[receiver].clone()).sum::<Option<Made>>()
            })
        })
        .collect()
}

/// The samples of a job at its speed and level, through µ-law as a telephone line.
fn prepared(job: &Job<'_>) -> Vec<i16> {
    let mut samples = if job.speed == 1.0 { job.samples.to_vec() } else { resample(job.samples, job.speed) };
    if let Some(level) = job.level {
        let active: Vec<f32> = samples.chunks(160).map(mean_square).filter(|m| dbm0(*m) > -45.0).collect();
        if !active.is_empty() {
            let own = dbm0(active.iter().sum::<f32>() / active.len() as f32);
            let gain = 10f32.powf((level - own) / 20.0);
            samples.iter_mut().for_each(|s| *s = clamp(f32::from(*s) * gain));
        }
    }
    Law::Mu.through(&mut samples);
    samples
}

fn hear(lab: &Lab, samples: &[i16]) -> [Option<Made>; 3] {
    let packets = Packets::default();
    let of = |heard: crate::testkit::lab::hear::Heard| Made {
        samples: samples.len() as u64,
        told: heard.told.len() as u64,
        stretches: heard.stretches.iter().map(|s| s.to - s.from).collect(),
    };
    [
        Some(of(ours(Point::Armed, samples, &packets))),
        Some(of(ours(Point::Unarmed, samples, &packets))),
        lab.spandsp().map(|library| of(spandsp(library, samples, &packets))),
    ]
}

const COLUMNS: [&str; 10] =
    ["speech", "receiver", "hours", "false", "per hour", "at most/h", "suspects/h", "half ≤ ms", "mean ms", "muted %"];
const NOTE: &str = "False: digits told where none was keyed. At most: what so few in so many hours still allow (95 %, Poisson).\n\
    Suspects and what is muted for them concern only guarded stretches (armed); unarmed, nothing is muted.";

/// A row's cells.
fn row(name: &str, receiver: &str, made: &Made) -> Vec<Cell> {
    let hours = made.hours().max(1e-9);
    let suspecting = receiver != "SpanDSP";
    let only = |cell: Cell| if suspecting { cell } else { Cell::Nothing };
    vec![
        name.into(),
        receiver.into(),
        Cell::Number(hours, 2),
        made.told.into(),
        Cell::Number(made.told as f64 / hours, 3),
        Cell::Number(poisson_upper(made.told) / hours, 3),
        only(Cell::Number(made.suspects() as f64 / hours, 1)),
        only(Cell::Number(made.half(), 1)),
        only(Cell::Number(made.each(), 1)),
        only(Cell::Number(100.0 * made.muted() as f64 / made.samples.max(1) as f64, 3)),
    ]
}

/// Every collection as it was recorded.
fn as_recorded(lab: &mut Lab, corpus: &[speech::Clip], said: &[Vec<i16>]) -> io::Result<()> {
    let mut names: Vec<String> = Vec::new();
    let mut jobs = Vec::new();
    let noises = "beeps, chimes, monkeys";
    for clip in corpus {
        let name = if clip.speech { clip.group.as_str() } else { noises };
        let at = names.iter().position(|n| n == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        jobs.push(Job { row: at, samples: &clip.samples, level: None, speed: 1.0 });
    }
    let own = names.len();
    names.push("synthetic talker".to_owned());
    jobs.extend(said.iter().map(|samples| Job { row: own, samples, level: None, speed: 1.0 }));
    let made = play(lab, "as recorded", &jobs, names.len());
    let mut table = Table::new("recorded", "Talk-off, as recorded", &COLUMNS).note(NOTE);
    let real = |n: usize| n != own && names[n] != noises;
    for (n, name) in names.iter().enumerate() {
        for (receiver, made) in RECEIVERS.iter().zip(&made[n]) {
            table.row(made.as_ref().map(|made| row(name, receiver, made)).unwrap_or_default());
        }
    }
    if own > 0 {
        for (n, receiver) in RECEIVERS.iter().enumerate() {
            let all: Option<Made> = (0..names.len()).filter(|at| real(*at)).map(|at| made[at][n].clone()).sum();
            table.row(all.map(|made| row("all recorded speech", receiver, &made)).unwrap_or_default());
        }
    }
    lab.report.table(table)
}

/// The same speech at several levels.
fn by_level(lab: &mut Lab, corpus: &[speech::Clip], said: &[Vec<i16>]) -> io::Result<()> {
    let clips = clips(corpus, said);
    let jobs: Vec<Job<'_>> = (0..LEVELS.len())
        .flat_map(|row| clips.iter().map(move |samples| Job { row, samples, level: Some(LEVELS[row]), speed: 1.0 }))
        .collect();
    let made = play(lab, "by level", &jobs, LEVELS.len());
    let mut table = Table::new("levels", "Talk-off by level", &COLUMNS).note(NOTE);
    for (level, made) in LEVELS.iter().zip(&made) {
        for (receiver, made) in RECEIVERS.iter().zip(made) {
            let name = format!("{level} dBm0 where it speaks");
            table.row(made.as_ref().map(|made| row(&name, receiver, made)).unwrap_or_default());
        }
    }
    // Rates of rare things: on a logarithmic axis none is drawn at its foot.
    let foot = 0.1;
    let mut plot = Plot::new(
        "talkoff",
        "Talk-off by level",
        Axis::new("active level of the speech, dBm0", -36.0, -8.0),
        Axis::log("per hour", foot, 10_000.0),
    );
    let hours = made.first().and_then(|m| m[0].as_ref()).map_or(0.0, Made::hours);
    plot.subtitle = format!("{hours:.2} h of speech per level; none at all is drawn at {foot} per hour");
    let mut line = |name: &str, receiver: usize, pick: fn(&Made) -> u64| {
        let points: Option<Vec<(f64, f64)>> = LEVELS
            .iter()
            .zip(&made)
            .map(|(level, made)| {
                made[receiver].as_ref().map(|m| (f64::from(*level), (pick(m) as f64 / m.hours().max(1e-9)).max(foot)))
            })
            .collect();
        plot.series.extend(points.map(|points| Series::new(name, points)));
    };
    line("suspects, armed", 0, |m| m.suspects());
    line("suspects, unarmed", 1, |m| m.suspects());
    line("false, armed", 0, |m| m.told);
    line("false, unarmed", 1, |m| m.told);
    line("false, SpanDSP", 2, |m| m.told);
    lab.report.plot(plot);
    lab.report.table(table)
}

/// Bar T1 over as many hours as can be made of the speech: at other speeds, which are other voices to a detector.
fn at_length(lab: &mut Lab, corpus: &[speech::Clip], said: &[Vec<i16>], count: usize) -> io::Result<()> {
    let clips = clips(corpus, said);
    // 0.80–1.25 times, evenly in pitch, and never the speed of the recording itself but once.
    let speeds: Vec<f64> = (0..count)
        .map(|n| if n == 0 { 1.0 } else { 0.8 * (1.25f64 / 0.8).powf(n as f64 / (count as f64 - 1.0).max(1.0)) })
        .collect();
    let jobs: Vec<Job<'_>> = speeds
        .iter()
        .flat_map(|speed| clips.iter().map(|samples| Job { row: 0, samples, level: None, speed: *speed }))
        .collect();
    let made = play(lab, "at length", &jobs, 1);
    let mut columns = COLUMNS.to_vec();
    columns.extend(["asked", "met"]);
    let note = format!(
        "{NOTE}\nEvery recording at {count} speeds from 0.80 to 1.25 times its own: pitch and formants move along, so these are\n\
         other voices to a detector, though not other words."
    );
    let mut table = Table::new("t1", "Bar T1: talk-off at length", &columns).note(&note);
    let name = if corpus.is_empty() { "synthetic talker" } else { "recorded speech" };
    for (receiver, made) in RECEIVERS.iter().zip(made.iter().flatten()) {
        let Some(made) = made else { continue };
        let mut cells = row(name, receiver, made);
        match *receiver {
            "unarmed" => {
                let met = made.told as f64 / made.hours() <= FALSE_PER_HOUR;
                cells.extend([Cell::from(format!("≤ {FALSE_PER_HOUR} false per hour")), met.into()]);
            }
            "armed" => cells.extend([Cell::from(format!("mean ≤ {MUTED_MS} ms")), (made.each() <= MUTED_MS).into()]),
            _ => {}
        }
        table.row(cells);
    }
    lab.report.table(table)
}

/// The self-audit of recordings on the same speech: how many quarantines for nothing. All clips of a kind are one long
/// recording without marks, so nothing in it is explained.
fn self_audit(lab: &mut Lab, corpus: &[speech::Clip], said: &[Vec<i16>]) -> io::Result<()> {
    let kinds: [(&str, Vec<&[i16]>); 3] = [
        ("recorded speech", corpus.iter().filter(|c| c.speech).map(|c| c.samples.as_slice()).collect()),
        ("beeps, chimes, monkeys", corpus.iter().filter(|c| !c.speech).map(|c| c.samples.as_slice()).collect()),
        ("synthetic talker", said.iter().map(Vec::as_slice).collect()),
    ];
    let columns =
        ["speech", "hours", "hits", "which", "hits per hour at most", "stray sightings per hour", "× real time"];
    let note = "A hit quarantines a recording. What is less than a hit is counted as stray. At most: 95 %, Poisson.";
    let mut table = Table::new("self-audit", "Self-audit of recordings without keys", &columns).note(note);
    for (name, clips) in kinds.into_iter().filter(|(_, clips)| !clips.is_empty()) {
        let (found, took) = crate::rt::crew::timed(|| {
            let mut scan = Scan::new(crate::rt::leaklab::now());
            for clip in clips {
                // Both channels, a second at a time.
                for second in clip.chunks(8_000) {
                    let bytes: Vec<u8> = second.iter().flat_map(|s| [s.to_le_bytes(), [0; 2]]).flatten().collect();
                    scan.handle_item(&Item::Audio(&bytes));
                }
            }
            scan.finish()
        });
        let hours = found.frames as f64 / 8_000.0 / 3_600.0;
        table.row(vec![
            name.into(),
            format!("{hours:.2}").into(),
            found.hits.len().to_string().into(),
            if found.is_clean() { "–".to_owned() } else { found.text() }.into(),
            format!("{:.2}", poisson_upper(found.hits.len() as u64) / hours).into(),
            format!("{:.1}", found.stray as f64 / hours).into(),
            format!("{:.0}", hours * 3_600.0 / took.as_secs_f64()).into(),
        ]);
    }
    lab.report.table(table)
}

/// What is measured on: the recorded speech, or the own talker where there is none.
fn clips<'a>(corpus: &'a [speech::Clip], said: &'a [Vec<i16>]) -> Vec<&'a [i16]> {
    let recorded: Vec<&[i16]> = corpus.iter().filter(|c| c.speech).map(|c| c.samples.as_slice()).collect();
    if recorded.is_empty() { said.iter().map(Vec::as_slice).collect() } else { recorded }
}
