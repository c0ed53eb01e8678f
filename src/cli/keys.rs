//! `tonewall keys make`: a new random key-encryption key, in a file that only its owner may read, protected by a passphrase
//! if one is given.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::SecretPlace;
use crate::rt::keyfile::{make_key, make_protected_key};

/// What to do with keys.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a key. Without a passphrase it is 64 hexadecimal digits. A file that is there is never overwritten.
    Make {
        /// File to make.
        file: PathBuf,
        /// A file whose first line is the passphrase; only its owner may read it.
        #[arg(long, conflicts_with = "passphrase_env")]
        passphrase_file: Option<PathBuf>,
        /// An environment variable that holds the passphrase.
        #[arg(long)]
        passphrase_env: Option<String>,
    },
}

/// Makes the key.
#[allow(clippy::print_stderr)]
pub fn run(command: &Command) -> ExitCode {
    let Command::Make { file, passphrase_file, passphrase_env } = command;
    let place = match (passphrase_file, passphrase_env) {
        (Some(file), _) => Some(SecretPlace::File(file.clone())),
        (None, Some(name)) => Some(SecretPlace::Variable(name.clone())),
        (None, None) => None,
    };
    let made = match place {
        None => make_key(file).map_err(|error| error.to_string()),
        Some(place) => crate::rt::keys::passphrase(&place)
            .and_then(|passphrase| make_protected_key(file, &passphrase).map_err(|error| error.to_string())),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}: {why}", file.display());
            ExitCode::from(super::EXIT_FAILED)
        }
    }
}
