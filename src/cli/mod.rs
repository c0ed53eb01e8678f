//! The command line. Each subcommand has its own file; this one only says what there is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod check;
pub mod recordings;
mod run;

/// Exit status of a command that could not do its work (bad configuration, socket in use, …).
pub const EXIT_FAILED: u8 = 1;

/// A SIP/RTP media proxy that takes card numbers keyed over the telephone out of a contact centre's scope.
#[derive(Debug, Parser)]
#[command(name = "tonewall", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file: name every fault, or say what would run.
    Check {
        /// Configuration file (TOML).
        config: PathBuf,
    },
    /// Run a node with a configuration file until SIGTERM (drain) or a second SIGTERM (now).
    Run {
        /// Configuration file (TOML).
        config: PathBuf,
    },
}

/// Runs the command that the process arguments name.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { config } => check::run(&config),
        Command::Run { config } => run::run(&config),
    }
}
