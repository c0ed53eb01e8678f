//! The bars D1–D5 and R1.

use std::io;

use super::super::lab::{HEADS, Lab, Voice, cells};
use crate::testkit::lab::hear::{Count, Three};
use crate::testkit::lab::network::{Loss, Network};
use crate::testkit::lab::stimuli::{Stimulus, d1, d2, d4, d5};
use crate::testkit::lab::{Cell, Table};
use crate::testkit::tones::{Law, Plan};

/// What a bar asks.
enum Asked {
    /// At least so many percent told rightly and none too many, armed and unarmed.
    Both(f64),
    /// The same, armed only.
    Armed(f64),
    /// None too many (wrong, or one press told twice), armed and unarmed; those a loss took may be missing.
    NoneExtra,
    /// At most so many percent told at all, armed and unarmed.
    AtMost(f64),
}

impl Asked {
    fn words(&self) -> String {
        match self {
            Asked::Both(percent) => format!("≥ {percent} %, none extra"),
            Asked::Armed(percent) => format!("≥ {percent} % armed"),
            Asked::NoneExtra => "none extra".to_owned(),
            Asked::AtMost(percent) => format!("≤ {percent} % told"),
        }
    }

    fn met(&self, three: &Three) -> bool {
        let right = |count: Count, percent: f64| count.right().percent() >= percent;
        match self {
            Asked::Both(percent) => {
                [three.armed, three.unarmed].into_iter().all(|count| right(count, *percent) && count.extra == 0)
            }
            Asked::Armed(percent) => right(three.armed, *percent),
            Asked::NoneExtra => three.armed.extra + three.unarmed.extra == 0,
            Asked::AtMost(percent) => {
                [three.armed, three.unarmed].into_iter().all(|count| count.reported().percent() <= *percent)
            }
        }
    }
}

/// Measures every bar.
pub fn measure(lab: &mut Lab, voices: &[Voice]) -> io::Result<()> {
    let (full, quick) = (10_000, 1_000);
    let plain = |name: &str, plan: Plan, asked: Asked| (name.to_owned(), Stimulus::plain(plan), asked);
    let dropout = |ms: f32, snr_db: Option<f32>| Plan { tone_ms: vec![ms], dropout_ms: 10.0, snr_db, ..d1() };
    let corner = Plan { offset_percent: (1.8, 1.8), twist_db: (-8.0, -8.0), ..d2(20.0) };
    let other = Plan { offset_percent: (1.8, 1.8), twist_db: (5.0, 5.0), ..d2(20.0) };
    let mut rows = vec![
        plain("D1 clean, µ-law", d1(), Asked::Both(100.0)),
        plain("D1 clean, A-law", Plan { law: Law::A, ..d1() }, Asked::Both(100.0)),
        plain("D2 ±1.8 %, −8…+5 dB, 40 ms, SNR 20 dB", d2(20.0), Asked::Both(99.9)),
        plain("D2 corner: all 1.8 % off, −8 dB", corner, Asked::Both(99.9)),
        plain("D2 corner: all 1.8 % off, +5 dB", other, Asked::Both(99.9)),
        plain("D3 as D2, SNR 15 dB", d2(15.0), Asked::Both(99.5)),
        plain("D3 as D2, SNR 12 dB", d2(12.0), Asked::Both(99.0)),
    ];
    for voice in voices {
        for (under_db, percent) in [(10.0, 99.9), (6.0, 98.0)] {
            let name = format!("D4 tone {under_db} dB over {}", voice.name);
            rows.push((name, Stimulus::plain(d4()).over(&voice.samples, under_db), Asked::Armed(percent)));
        }
    }
    rows.extend([
        plain("D5 10 ms dropout in 100 ms", dropout(100.0, None), Asked::Both(100.0)),
        plain("D5 10 ms dropout in 65 ms", dropout(65.0, None), Asked::Both(100.0)),
        plain("D5 10 ms dropout in 100 ms, SNR 15 dB", dropout(100.0, Some(15.0)), Asked::NoneExtra),
    ]);
    for percent in [1.0f32, 5.0, 10.0] {
        let network = Network::losing(Loss::Random(percent / 100.0));
        let name = format!("D5 {percent} % packet loss, random");
        rows.push((name, Stimulus::plain(d5()).by(network), Asked::NoneExtra));
    }
    for percent in [1.0f32, 5.0, 10.0] {
        let network = Network::losing(Loss::Bursts { share: percent / 100.0, run: 2.0 });
        let name = format!("D5 {percent} % packet loss, bursts of 2");
        rows.push((name, Stimulus::plain(d5()).by(network), Asked::NoneExtra));
    }
    let bursts = |ms: f32, plan: Plan| Plan { tone_ms: vec![ms], keys: 10, ..plan };
    let off = |percent: f32| Plan { offset_percent: (percent, percent), ..bursts(100.0, d1()) };
    rows.extend([
        plain("R1 3.5 % off, 100 ms", off(3.5), Asked::AtMost(0.1)),
        plain("R1 4.5 % off, 100 ms", off(4.5), Asked::AtMost(0.1)),
        plain("R1 bursts of 20 ms", bursts(20.0, d1()), Asked::AtMost(0.1)),
        plain("R1 bursts of 20 ms, as D3 at 12 dB", bursts(20.0, d2(12.0)), Asked::AtMost(0.1)),
        plain("R1 bursts of 10 ms", bursts(10.0, d1()), Asked::AtMost(0.1)),
    ]);
    let columns = [&["bar", "digits"], &HEADS[..], &["asked", "met"]].concat();
    let mut table = Table::new("bars", "Bars D1–D5, R1", &columns).note(
        "Shares told rightly, with Wilson's 95 % bounds. +: told and not pressed, or one press told twice.\n\
         R1 rows are no digits; what is told of them is wrong. What a loss leaves of a digit may be too little to name it.",
    );
    for (name, stimulus, asked) in rows {
        let digits = lab.size(full, quick);
        let three = lab.three(&name, &stimulus, digits);
        let head = [Cell::from(name.as_str()), three.armed.of.into()];
        let figures = [cells(Some(three.armed)), cells(Some(three.unarmed)), cells(three.spandsp)].concat();
        table.row(head.into_iter().chain(figures).chain([asked.words().into(), asked.met(&three).into()]));
    }
    lab.report.table(table)
}
