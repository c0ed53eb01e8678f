//! `tonewall bench talkoff`.

use std::io;

use super::detector::load;
use super::{Common, Report};
use crate::dtmf::inband::Point;
use crate::rt::crew;
use crate::testkit::lab::hear::{Packets, ours, spandsp};
use crate::testkit::lab::{Cell, Table};
use crate::testkit::speech::Talker;

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// Measures; whether the bar is met.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut report = Report::new("talkoff", &arguments.common)?;
    let library = load(&mut report)?;
    let talkers: Vec<u64> = (0..if arguments.common.quick { 20 } else { 400 }).collect();
    let seconds = 30;
    let hours = talkers.len() as f64 * f64::from(seconds) / 3600.0;
    let bar = report.progress("the synthetic talker", talkers.len());
    let heard = crew::each(&talkers, |n| {
        let said = Talker::new(arguments.common.seed.wrapping_mul(1_000_003) ^ n, -18.0).say(seconds as usize * 8000);
        bar.inc(1);
        let all = Packets::default();
        [Point::Armed, Point::Unarmed]
            .map(|p| ours(p, &said, &all))
            .into_iter()
            .chain(library.as_ref().map(|l| spandsp(l, &said, &all)))
            .collect::<Vec<_>>()
    });
    bar.finish_and_clear();
    let mut table = Table::new("talkoff", "Talk-off", &["receiver", "hours", "false digits", "per hour"]);
    for (n, name) in ["armed", "unarmed", "SpanDSP"].into_iter().enumerate() {
        let told: Option<usize> = heard.iter().map(|h| h.get(n).map(|h| h.told.len())).sum();
        table.row([
            name.into(),
            Cell::Number(hours, 2),
            told.into(),
            told.map_or(Cell::Nothing, |t| Cell::Number(t as f64 / hours, 3)),
        ]);
    }
    report.table(table)?;
    report.finish()
}
