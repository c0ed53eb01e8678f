//! Detection as one thing gets worse: noise, offset, twist, length, a voice, loss. One table and one plot each.

use std::io;

use super::super::lab::{HEADS, Lab, Voice, cells};
use crate::testkit::lab::hear::{Count, Three};
use crate::testkit::lab::network::{Loss, Network};
use crate::testkit::lab::stimuli::{Stimulus, d1, d2, d4, d5};
use crate::testkit::lab::{Axis, Cell, Plot, Series, Table, Zone};
use crate::testkit::tones::Plan;

/// A curve: what is turned, over which values, and what it makes of the stimulus.
struct Curve<'a> {
    name: &'static str,
    title: &'static str,
    subtitle: &'static str,
    x: Axis,
    head: &'static str,
    values: Vec<f32>,
    zones: Vec<Zone>,
    /// Least percentage shown.
    least: f64,
    stimulus: Box<dyn Fn(f32) -> Stimulus<'a> + 'a>,
}

/// Values from one end to the other by a step.
fn steps(from: f32, to: f32, step: f32) -> Vec<f32> {
    let count = ((to - from) / step).abs().round() as usize;
    (0..=count).map(|n| from + (to - from).signum() * step * n as f32).collect()
}

/// Measures every curve.
pub fn measure(lab: &mut Lab, voices: &[Voice]) -> io::Result<()> {
    let fine = lab.size(2, 1) as f32;
    let voice = voices.last();
    let mut curves = vec![
        Curve {
            name: "snr",
            title: "Digits told in white noise",
            subtitle: "40 ms, ±1.8 % off, twist −8…+5 dB, 0…−36 dBm0; shaded: where bars stand",
            x: Axis::new("signal to noise, dB", 24.0, 0.0),
            head: "SNR dB",
            values: steps(24.0, 0.0, 2.0 / fine),
            zones: vec![Zone::must(24.0, 12.0, "D2, D3: at least 99–99.9 %")],
            least: 0.0,
            stimulus: Box::new(|snr| Stimulus::plain(d2(snr))),
        },
        Curve {
            name: "offset",
            title: "Digits told off their frequencies",
            subtitle: "both tones off by as much, either way; 50 ms, clean, 0…−36 dBm0",
            x: Axis::new("deviation of both tones, %", 0.0, 4.5),
            head: "off %",
            values: steps(0.0, 4.5, 0.5 / fine),
            zones: vec![Zone::must(0.0, 1.8, "to be taken"), Zone::must_not(3.5, 4.5, "to be refused")],
            least: 0.0,
            stimulus: Box::new(|off| Stimulus::plain(Plan { tone_ms: vec![50.0], offset_percent: (off, off), ..d1() })),
        },
        Curve {
            name: "twist",
            title: "Digits told with one tone weaker",
            subtitle: "50 ms, clean, stronger tone −3…−26 dBm0; minus: the column weaker than the row",
            x: Axis::new("column against row, dB", -16.0, 16.0),
            head: "twist dB",
            values: steps(-16.0, 16.0, 2.0 / fine),
            zones: vec![Zone::must(-8.0, 5.0, "to be taken")],
            least: 0.0,
            stimulus: Box::new(|db| {
                Stimulus::plain(Plan { tone_ms: vec![50.0], twist_db: (db, db), dbm0: (-26.0, -3.0), ..d1() })
            }),
        },
        Curve {
            name: "duration",
            title: "Digits told by their length",
            subtitle: "clean, ±1.8 % off, twist −8…+5 dB, pauses of 40 ms",
            x: Axis::new("length of the tone, ms", 5.0, 60.0),
            head: "tone ms",
            values: steps(5.0, 60.0, 5.0 / fine),
            zones: vec![Zone::must_not(5.0, 20.0, "to be refused"), Zone::must(40.0, 60.0, "to be taken")],
            least: 0.0,
            stimulus: Box::new(|ms| Stimulus::plain(Plan { tone_ms: vec![ms], snr_db: None, ..d2(0.0) })),
        },
        Curve {
            name: "loss",
            title: "Digits told over a network that loses packets",
            subtitle: "65 and 100 ms, SNR 20 dB, 20 ms packets, random loss; armed is what guards a call",
            x: Axis::new("packets lost, %", 0.0, 20.0),
            head: "loss %",
            values: steps(0.0, 20.0, 4.0 / fine),
            zones: Vec::new(),
            least: 60.0,
            stimulus: Box::new(|percent| Stimulus::plain(d5()).by(Network::losing(Loss::Random(percent / 100.0)))),
        },
    ];
    if let Some(voice) = voice {
        curves.push(Curve {
            name: "speech",
            title: if voice.name.starts_with("rec") {
                "Digits told under recorded speech"
            } else {
                "Digits told under the synthetic talker"
            },
            subtitle: "100 ms, twist −4…+3 dB, the voice so much weaker where it speaks; armed is what guards a call",
            x: Axis::new("tones to speech, dB", 20.0, 0.0),
            head: "dB over speech",
            values: steps(20.0, 0.0, 2.0),
            zones: vec![Zone::must(20.0, 6.0, "D4: at least 98–99.9 % armed")],
            least: 40.0,
            stimulus: Box::new(|db| Stimulus::plain(d4()).over(&voice.samples, db)),
        });
    }
    for curve in curves {
        draw(lab, &curve)?;
    }
    Ok(())
}

fn draw(lab: &mut Lab, curve: &Curve<'_>) -> io::Result<()> {
    let columns = [&[curve.head, "digits"], &HEADS[..]].concat();
    let title = format!("{} ({})", curve.title, curve.name);
    let mut table = Table::new(curve.name, &title, &columns).note(curve.subtitle);
    let digits = lab.size(2_000, 200);
    let mut all: Vec<(f32, Three)> = Vec::new();
    for value in &curve.values {
        let three = lab.three(&format!("{} {value}", curve.name), &(curve.stimulus)(*value), digits);
        let head = [Cell::Number(f64::from(*value), 2), three.armed.of.into()];
        let figures = [cells(Some(three.armed)), cells(Some(three.unarmed)), cells(three.spandsp)].concat();
        table.row(head.into_iter().chain(figures));
        all.push((*value, three));
    }
    let mut plot =
        Plot::new(curve.name, curve.title, curve.x.clone(), Axis::new("digits told rightly, %", curve.least, 100.0));
    plot.subtitle = format!("{}; {digits} digits per point", curve.subtitle);
    plot.zones.clone_from(&curve.zones);
    let mut series = |name: &str, pick: &dyn Fn(&Three) -> Option<Count>| {
        let counts: Option<Vec<(f32, Count)>> = all.iter().map(|(x, t)| pick(t).map(|c| (*x, c))).collect();
        let Some(counts) = counts else { return };
        let points = counts.iter().map(|(x, c)| (f64::from(*x), c.right().percent())).collect();
        let bounds = counts.iter().map(|(_, c)| c.right().wilson()).map(|(a, b)| (100.0 * a, 100.0 * b)).collect();
        plot.series.push(Series::new(name, points).bounds(bounds));
    };
    series("armed", &|three| Some(three.armed));
    series("unarmed", &|three| Some(three.unarmed));
    series("SpanDSP", &|three| three.spandsp);
    lab.report.plot(plot);
    lab.report.table(table)
}
