//! Fetches key-encryption keys from where a configuration says they are, and makes new ones.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use zeroize::Zeroizing;

use super::keys::{first_line, print_of, protected, token};
use crate::config::{KekRef, KekSource, Keys, SecretPlace};
use crate::record::keys::{Kek, KeyError, KeyRing};

/// A key file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not readable.
    #[error("key {id:?}: cannot read {}: {error}", file.display())]
    Read {
        /// KEK id.
        id: String,
        /// File.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Readable by others than its owner.
    #[error("key {id:?}: {} may be read by others (mode {mode:04o}); `chmod 0400` it", file.display())]
    Open {
        /// KEK id.
        id: String,
        /// File.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Readable and not a key.
    #[error("{} ({error})", file.display())]
    Bad {
        /// File.
        file: PathBuf,
        /// What is wrong with the text.
        error: KeyError,
    },
    /// A variable, command or token that does not give it.
    #[error("key {id:?}: {why}")]
    Source {
        /// KEK id.
        id: String,
        /// Why; never the key.
        why: String,
    },
    /// The keys do not go together.
    #[error(transparent)]
    Ring(KeyError),
}

/// Fetches the keys the configuration names.
pub fn load_keys(keys: &Keys) -> Result<KeyRing, KeyFileError> {
    let current = keys.current.as_ref().map(load_key).transpose()?;
    let old = keys.old.iter().map(load_key).collect::<Result<_, _>>()?;
    KeyRing::new(current, old).map_err(KeyFileError::Ring)
}

/// Fetches one key from where it is; a file that others may read is refused.
pub fn load_key(key: &KekRef) -> Result<Kek, KeyFileError> {
    let failed = |why: String| KeyFileError::Source { id: key.id.clone(), why };
    let parse =
        |text: &str, what: String| Kek::parse(&key.id, text).map_err(|error| failed(format!("{what} ({error})")));
    match &key.source {
        KekSource::File { file, passphrase } => from_file(&key.id, file, passphrase.as_ref()),
        KekSource::Variable(name) => {
            let text = std::env::var(name).map(Zeroizing::new);
            let text = text.map_err(|_| failed(format!("environment variable {name} is not set (or not text)")))?;
            parse(&text, format!("environment variable {name}"))
        }
        KekSource::Command(command) => {
            let text = print_of(&command.argv, command.timeout).map_err(failed)?;
            parse(&text, command.argv.first().cloned().unwrap_or_default())
        }
        KekSource::Token(place) => {
            token::open(&key.id, place).map_err(|why| failed(format!("{}: {why}", place.module.display())))
        }
    }
}

fn from_file(id: &str, file: &Path, passphrase: Option<&SecretPlace>) -> Result<Kek, KeyFileError> {
    let read = |error| KeyFileError::Read { id: id.to_owned(), file: file.to_owned(), error };
    let open = |mode| KeyFileError::Open { id: id.to_owned(), file: file.to_owned(), mode };
    let text = read_private(file).map_err(read)?.map_err(open)?;
    let failed = |why: String| KeyFileError::Source { id: id.to_owned(), why: format!("{}: {why}", file.display()) };
    let bad = |error| KeyFileError::Bad { file: file.to_owned(), error };
    match (passphrase, protected::is_protected(&text)) {
        (None, false) => Kek::parse(id, &text).map_err(bad),
        (None, true) => Err(failed("a passphrase protects it; give passphrase_file, _env or _command".into())),
        (Some(_), false) => Err(failed(
            "no passphrase protects it, though one is given; `tonewall keys make` \
                                        makes one that is protected"
                .into(),
        )),
        (Some(place), true) => {
            let passphrase = first_line(place).map_err(failed)?;
            let key = protected::open(&text, &passphrase).map_err(failed)?;
            Kek::from_bytes(id, key).map_err(bad)
        }
    }
}

/// The text of a file that only its owner may read, or the mode of one that others may read too.
pub(super) fn read_private(file: &Path) -> io::Result<Result<Zeroizing<String>, u32>> {
    let mode = fs::metadata(file)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Ok(Err(mode));
    }
    fs::read_to_string(file).map(|text| Ok(Zeroizing::new(text)))
}

/// Writes a new random key to `file` (mode 0400), protected by `passphrase` if there is one; fails if the file exists.
pub fn make_protected_key(file: &Path, passphrase: &str) -> io::Result<()> {
    let mut key = Zeroizing::new([0u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
    let text = protected::protect(&key, passphrase).map_err(io::Error::other)?;
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(file)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()
}

/// Writes a new random key to `file` (mode 0400); fails if the file exists.
pub fn make_key(file: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0u8; 32]);
    rand::rngs::SysRng.try_fill_bytes(&mut *key).map_err(|error| io::Error::other(error.to_string()))?;
    let text = Zeroizing::new(hex::encode(*key));
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(file)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()
}
