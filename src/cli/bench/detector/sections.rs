//! Sections 2–8 after Mitel's CM7291 (see `testkit::lab::bursts`).

use std::io;

use super::super::lab::{Lab, Voice};
use crate::rt::crew;
use crate::testkit::lab::bursts::{Bursts, edge};
use crate::testkit::lab::{Cell, Rate, Table};

/// RFC 4733 codes of the keys 1, 5, 9 and D: each row and column once.
const DIAGONAL: [u8; 4] = [1, 5, 9, 15];
/// Their rows' and columns' frequencies, Hz.
const TONES: [(u8, bool, u16); 8] = [
    (1, true, 697),
    (5, true, 770),
    (9, true, 852),
    (15, true, 941),
    (1, false, 1209),
    (5, false, 1336),
    (9, false, 1477),
    (15, false, 1633),
];

/// Measures every section.
pub fn measure(lab: &mut Lab, voices: &[Voice]) -> io::Result<()> {
    decode_check(lab)?;
    bandwidth(lab)?;
    twist(lab)?;
    dynamic_range(lab)?;
    guard_time(lab)?;
    noise(lab)?;
    talk_off(lab, voices)
}

fn columns(lab: &Lab, first: &[&str], each: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let own = first.iter().map(|c| (*c).to_owned());
    own.chain(lab.receivers().iter().flat_map(|(name, _)| each(name))).collect()
}

fn table(name: &str, title: &str, columns: &[String], note: &str) -> Table {
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    Table::new(name, title, &columns).note(note)
}

/// Section 2: every key, 50 ms on and off.
fn decode_check(lab: &mut Lab) -> io::Result<()> {
    let heads = columns(lab, &["key"], |name| vec![name.to_owned()]);
    let mut out =
        table("section-2", "Section 2: decode check", &heads, "Bursts of 50 ms, pauses of 50 ms, −10 dBm0 per tone.");
    let count = lab.size(100, 10);
    for event in (0..16).map(|n| [1, 2, 3, 12, 4, 5, 6, 13, 7, 8, 9, 14, 10, 0, 11, 15][n]) {
        let bursts = Bursts::of(event, count);
        let seed = lab.seed("section 2", u64::from(event));
        let told = lab.receivers().into_iter().map(|(_, r)| Cell::from(Rate::new(bursts.told(seed, r), count)));
        out.row([Cell::from(bursts.key().to_string())].into_iter().chain(told));
    }
    lab.report.table(out)
}

/// Section 3: one tone's frequency is turned up and down by 0.1 %.
fn bandwidth(lab: &mut Lab) -> io::Result<()> {
    let heads = ["tone Hz", "receiver", "takes −%", "takes +%", "refuses −%", "refuses +%"];
    let note = "One tone of 1, 5, 9 or D is turned in steps of 0.1 %, ten bursts of 50 ms each, the other stays.\n\
                Takes: furthest step up to which all bursts were told. Refuses: first step at which none was.\n\
                To be taken: 1.8 % at least. To be refused: 3.5 %.";
    let mut out = Table::new("section-3", "Section 3: recognition bandwidth", &heads).note(note);
    let bar = lab.report.progress("recognition bandwidth", TONES.len());
    let receivers = lab.receivers();
    let edges = crew::each(&TONES, |(event, is_row, _)| {
        bar.inc(1);
        let far = |receiver: &super::super::lab::Receiver<'_>, sign: f32| {
            edge(0.1, 6.0, |off| {
                let seed = lab.seed("section 3", u64::from(*event) << 16 | (off * 10.0).round() as u64);
                let (row_off, column_off) = if *is_row { (sign * off, 0.0) } else { (0.0, sign * off) };
                (Bursts { row_off, column_off, ..Bursts::of(*event, 10) }.told(seed, receiver), 10)
            })
        };
        receivers.iter().map(|(_, r)| (far(&**r, -1.0), far(&**r, 1.0))).collect::<Vec<_>>()
    });
    bar.finish_and_clear();
    for ((_, _, hz), edges) in TONES.iter().zip(edges) {
        for ((name, _), (down, up)) in receivers.iter().zip(edges) {
            let figures = [down.0, up.0, down.1, up.1].map(|f| Cell::Number(f64::from(f), 1));
            out.row([Cell::from(u64::from(*hz)), Cell::from(*name)].into_iter().chain(figures));
        }
    }
    drop(receivers);
    lab.report.table(out)
}

/// Section 4: one tone is weakened by steps of 0.25 dB.
fn twist(lab: &mut Lab) -> io::Result<()> {
    let heads = columns(lab, &["key"], |name| vec![format!("{name} −dB"), format!("{name} +dB")]);
    let note = "One tone is weakened in steps of 0.25 dB, ten bursts of 50 ms each, up to where one was not told.\n\
                −: the column weaker than the row (Q.24 takes 4–10 dB); +: the row weaker. To be taken: −8 and +5 dB.";
    let mut out = table("section-4", "Section 4: amplitude ratio (twist)", &heads, note);
    for event in DIAGONAL {
        let told = |column: bool, db: f32, receiver: &super::super::lab::Receiver<'_>| {
            let seed = lab.seed("section 4", u64::from(event) << 16 | (db * 4.0) as u64);
            let mut bursts = Bursts::of(event, 10);
            *if column { &mut bursts.column_dbm0 } else { &mut bursts.row_dbm0 } -= db;
            (bursts.told(seed, receiver), 10)
        };
        let cells = lab.receivers().into_iter().flat_map(|(_, r)| {
            [true, false].map(|column| Cell::Number(f64::from(edge(0.25, 25.0, |db| told(column, db, &*r)).0), 2))
        });
        let cells: Vec<Cell> = cells.collect();
        out.row([Cell::from(Bursts::of(event, 1).key().to_string())].into_iter().chain(cells));
    }
    lab.report.table(out)
}

/// Section 5: both tones from 0 dBm0 down.
fn dynamic_range(lab: &mut Lab) -> io::Result<()> {
    let heads = columns(lab, &["key"], |name| vec![format!("{name} least dBm0"), format!("{name} range dB")]);
    let note = "Both tones are weakened from 0 dBm0 each in steps of 1 dB, ten bursts each, down to where one was not told.\n\
                SpanDSP's least level is a setting of its own (−42 dBm0 by default).";
    let mut out = table("section-5", "Section 5: dynamic range", &heads, note);
    for event in DIAGONAL {
        let cells = lab.receivers().into_iter().flat_map(|(_, receiver)| {
            let (down, _) = edge(1.0, 60.0, |db| {
                let seed = lab.seed("section 5", u64::from(event) << 16 | db as u64);
                let bursts = Bursts { row_dbm0: -db, column_dbm0: -db, ..Bursts::of(event, 10) };
                (bursts.told(seed, &*receiver), 10)
            });
            [Cell::Number(f64::from(-down), 0), Cell::Number(f64::from(down), 0)]
        });
        let cells: Vec<Cell> = cells.collect();
        out.row([Cell::from(Bursts::of(event, 1).key().to_string())].into_iter().chain(cells));
    }
    lab.report.table(out)
}

/// Section 6: how short a tone, and how short a pause.
fn guard_time(lab: &mut Lab) -> io::Result<()> {
    let heads = ["what is shortened", "receiver", "all from ms", "half at ms", "none below ms"];
    let note = "Bursts of 1, 5, 9 and D get shorter by 1 ms from 60 to 5, with pauses of 60 ms; then pauses, between tones\n\
                of 50 ms. To be taken: tones of 40 ms, pauses of 30 ms. To be refused: tones of 20 ms.";
    let mut out = Table::new("section-6", "Section 6: guard time", &heads).note(note);
    let count = lab.size(50, 10);
    let lengths: Vec<u8> = (5..=60).rev().collect();
    for pause in [false, true] {
        let receivers = lab.receivers();
        let shares = crew::each(&lengths, |ms| {
            let counts = receivers.iter().map(|(_, receiver)| {
                let told = DIAGONAL.iter().map(|event| {
                    let seed = lab.seed("section 6", u64::from(*event) << 16 | u64::from(*ms));
                    let ms = f32::from(*ms);
                    let (on_ms, off_ms) = if pause { (50.0, ms) } else { (ms, 60.0) };
                    Bursts { on_ms, off_ms, ..Bursts::of(*event, count) }.told(seed, &**receiver)
                });
                told.sum::<usize>()
            });
            counts.collect::<Vec<usize>>()
        });
        let all = count * DIAGONAL.len();
        // From long to short; the first length at which the condition fails, one step back.
        let last = |n: usize, holds: &dyn Fn(usize) -> bool| {
            let fails = shares.iter().position(|told| !holds(told[n])).unwrap_or(lengths.len());
            lengths.get(fails.saturating_sub(1)).copied().map_or(0.0, f64::from)
        };
        // The first bursts of a run have no pause before them: one per line is always told.
        let floor = if pause { DIAGONAL.len() } else { 0 };
        for (n, (name, _)) in receivers.iter().enumerate() {
            let ends = [last(n, &|told| told == all), last(n, &|told| 2 * told >= all), last(n, &|told| told > floor)];
            let head = [Cell::from(if pause { "pause" } else { "tone" }), Cell::from(*name)];
            out.row(head.into_iter().chain(ends.map(|ms| Cell::Number(ms, 0))));
        }
    }
    lab.report.table(out)
}

/// Section 7: bursts in white noise.
fn noise(lab: &mut Lab) -> io::Result<()> {
    let heads = columns(lab, &["SNR dB"], |name| vec![name.to_owned()]);
    let note =
        "Bursts of 1, 50 ms on and off, in white noise over the whole band. The procedure asks for 24, 18 and 12 dB.";
    let mut out = table("section-7", "Section 7: noise", &heads, note);
    let levels = [24u8, 18, 12, 9, 6, 3];
    let count = lab.size(1_000, 200);
    let receivers = lab.receivers();
    let told = crew::each(&levels, |snr| {
        let bursts = Bursts { snr_db: Some(f32::from(*snr)), ..Bursts::of(1, count) };
        let seed = lab.seed("section 7", u64::from(*snr));
        receivers.iter().map(|(_, receiver)| Rate::new(bursts.told(seed, &**receiver), count)).collect::<Vec<_>>()
    });
    drop(receivers);
    for (snr, told) in levels.iter().zip(told) {
        out.row([Cell::from(u64::from(*snr))].into_iter().chain(told.into_iter().map(Cell::from)));
    }
    lab.report.table(out)
}

/// Section 8, in short; `bench talkoff` is the long form.
fn talk_off(lab: &mut Lab, voices: &[Voice]) -> io::Result<()> {
    let heads = columns(lab, &["speech", "minutes"], |name| vec![name.to_owned()]);
    let note = "False digits told on speech as it is. `tonewall bench talkoff` looks closer.";
    let mut out = table("section-8", "Section 8: talk-off", &heads, note);
    for voice in voices {
        let parts: Vec<&[i16]> = voice.samples.chunks(8_000 * 60).collect();
        let receivers = lab.receivers();
        let bar = lab.report.progress("talk-off", parts.len());
        let told = crew::each(&parts, |part| {
            bar.inc(1);
            receivers.iter().map(|(_, receiver)| receiver(part).len()).collect::<Vec<_>>()
        });
        bar.finish_and_clear();
        let sums = (0..receivers.len()).map(|n| Cell::from(told.iter().map(|t| t[n]).sum::<usize>()));
        let cells: Vec<Cell> = sums.collect();
        drop(receivers);
        let minutes = Cell::Number(voice.samples.len() as f64 / 480_000.0, 1);
        out.row([Cell::from(voice.name), minutes].into_iter().chain(cells));
    }
    lab.report.table(out)
}
