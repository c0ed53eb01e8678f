//! `tonewall bench`: the laboratory on the command line. Each experiment draws its stimuli from a seed, prints tables
//! with the peers' figures beside ours, and with `--out` writes them as text, CSV, JSON, plots and one page of all.
//! Exit status 0 if every bar that was measured is met, 2 if one is not, 1 if the experiment could not be made.

use std::process::ExitCode;

use clap::Subcommand;

mod detector;
mod lab;
mod leak;
mod report;
mod speech;
mod talkoff;

pub use report::{Common, Report};

/// A bar was missed.
pub const EXIT_MISSED: u8 = 2;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The in-band detector against its bars, in sections after Mitel's CM7291, and over impaired lines.
    Detector(detector::Arguments),
    /// Random digits through a real node on loopback sockets, and attackers at everything that comes out.
    Leak(leak::Arguments),
    /// The in-band detector on speech without digits: false digits, suspicions, and what is muted for them.
    Talkoff(talkoff::Arguments),
}

/// Runs an experiment.
#[allow(clippy::print_stderr)]
pub fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::Detector(arguments) => detector::run(arguments),
        Command::Leak(arguments) => leak::run(arguments),
        Command::Talkoff(arguments) => talkoff::run(arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_MISSED),
        Err(error) => {
            eprintln!("the experiment could not be made: {error}");
            ExitCode::from(super::EXIT_FAILED)
        }
    }
}
