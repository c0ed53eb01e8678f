//! `tonewall bench detector`.

use std::io;

use super::{Common, Report};
use crate::rt::crew;
use crate::testkit::lab::hear::{Packets, Three};
use crate::testkit::lab::{Cell, Table};
use crate::testkit::spandsp::Spandsp;
use crate::testkit::tones::{Plan, line};

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// Measures; whether every bar is met.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut report = Report::new("detector", &arguments.common)?;
    let library = load(&mut report)?;
    let lines: Vec<u64> = (0..if arguments.common.quick { 40 } else { 400 }).collect();
    let plan = Plan {
        presses: 25,
        keys: 16,
        tone_ms: vec![40.0, 50.0, 65.0, 100.0],
        pause_ms: vec![30.0, 40.0, 50.0],
        dbm0: (-36.0, 0.0),
        ..Plan::default()
    };
    let bar = report.progress("D1", lines.len());
    let three: Three = crew::each(&lines, |n| {
        let line = line(&plan, arguments.common.seed.wrapping_mul(0x9e37_79b9) ^ n);
        bar.inc(1);
        Three::hear(&line.keys(), &line.samples, &Packets::default(), library.as_ref())
    })
    .into_iter()
    .sum();
    bar.finish_and_clear();
    let mut table = Table::new("bars", "Bars", &["bar", "n", "armed", "unarmed", "SpanDSP", "met"]);
    let met = three.armed.missed + three.unarmed.missed + three.armed.extra + three.unarmed.extra == 0;
    table.row([
        "D1 clean digits".into(),
        three.armed.of.into(),
        three.armed.right().into(),
        three.unarmed.right().into(),
        three.spandsp.map_or(Cell::Nothing, |c| c.right().into()),
        met.into(),
    ]);
    report.table(table)?;
    report.finish()
}

/// SpanDSP, or a line that says why its column stays empty.
pub(super) fn load(report: &mut Report) -> io::Result<Option<Spandsp>> {
    match Spandsp::load() {
        Ok(library) => Ok(Some(library)),
        Err(why) => {
            report.fact(&format!(
                "!!! NOT HERE: SpanDSP, its column stays empty ({why}; Debian: apt-get install libspandsp2)"
            ))?;
            Ok(None)
        }
    }
}
