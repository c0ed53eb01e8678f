//! The command line. Each subcommand has its own file; this one only says what there is.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::rt::keyfile::load_keys;
use crate::rt::keys::Keys;

pub mod audit;
pub mod bench;
mod canary;
pub mod check;
pub mod demo;
pub mod keeping;
pub mod keys;
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
    /// The audit log: make its key, verify it, list its entries.
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Measure: the detector, what leaks, talk-off; spandsp's figures beside ours where it is installed.
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
    /// Call a node of its own, key a published test card, and look for it where it must not be. Exit status: 0 nothing
    /// found, 2 something was, 1 it could not be done.
    Canary {
        /// Configuration file (TOML).
        config: PathBuf,
    },
    /// Check a configuration file: name every fault, or say what would run.
    Check {
        /// Configuration file (TOML).
        config: PathBuf,
    },
    /// Play a payment call on this machine, show it live, and prove that nothing leaked.
    Demo(demo::Arguments),
    /// Make key-encryption keys.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// List, search, verify, export, hold, label, rewrap and destroy sealed recordings.
    Recordings {
        /// Configuration file (TOML): where recordings are and which keys open them.
        #[arg(short, long)]
        config: PathBuf,
        #[command(subcommand)]
        command: recordings::Command,
    },
    /// Run a node until SIGTERM (drain) or a second SIGTERM (end the calls that are left).
    Run {
        /// Configuration file (TOML).
        config: PathBuf,
    },
}

/// Runs the command that the process arguments name.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Audit { command } => ExitCode::from(audit::run(&command)),
        Command::Bench { command } => bench::run(&command),
        Command::Canary { config } => canary::run(&config),
        Command::Check { config } => check::run(&config),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Keys { command } => keys::run(&command),
        Command::Run { config } => run::run(&config),
        Command::Recordings { config, command } => recordings(&config, &command),
    }
}

/// Opens what `config` names and does `command` on its recordings.
#[allow(clippy::print_stderr)]
fn recordings(config: &Path, command: &recordings::Command) -> ExitCode {
    let opened = || {
        let config = Config::load(config).map_err(|faults| faults.to_string())?;
        let keys = Keys::fixed(load_keys(&config.keys).map_err(|error| error.to_string())?);
        let site = recordings::Site::of(&config, keys);
        let guest = recordings::access::noted(command, &config, &site).map_err(|why| format!("error: {why}"))?;
        Ok::<_, String>((config, site, guest))
    };
    match opened() {
        Ok((config, site, guest)) => {
            let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr());
            let progress = err.is_terminal();
            let mut terminal = recordings::Terminal { out: &mut out, err: &mut err, progress };
            let status = match command {
                recordings::Command::Keep(command) => {
                    keeping::run(command, &config, site.keys.clone(), &guest, &mut terminal)
                }
                command => recordings::run(command, &site, &guest, &mut terminal),
            };
            guest.finish();
            ExitCode::from(status)
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
