//! `tonewall bench detector`: the bars D1–D5 and R1, sections 2–8 after CM7291, curves, impaired lines, latency; each
//! for our detector armed and unarmed and for SpanDSP in the same run.

use std::io;

use super::lab::Lab;
use super::{Common, Report};

mod bars;
mod curves;
mod latency;
mod lines;
mod sections;

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Directory with recorded speech (WAV) for D4, searched through; otherwise what `bench talkoff` would find.
    #[arg(long, value_name = "DIR")]
    speech: Option<std::path::PathBuf>,
}

/// Measures; whether every bar is met.
pub fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut lab = Lab::new(Report::new("detector", &arguments.common)?, &arguments.common)?;
    let voices = lab.voices(arguments.speech.as_deref())?;
    bars::measure(&mut lab, &voices)?;
    sections::measure(&mut lab, &voices)?;
    curves::measure(&mut lab, &voices)?;
    latency::measure(&mut lab)?;
    lines::measure(&mut lab)?;
    lab.report.finish()
}
