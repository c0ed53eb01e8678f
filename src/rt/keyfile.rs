//! Reads key-encryption keys from the files a configuration names, and makes new ones.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use zeroize::Zeroizing;

use crate::config::{KekRef, Keys};
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
    /// The keys do not go together.
    #[error(transparent)]
    Ring(KeyError),
}

/// Reads the key files the configuration names.
pub fn load_keys(keys: &Keys) -> Result<KeyRing, KeyFileError> {
    let current = keys.current.as_ref().map(load_key).transpose()?;
    let old = keys.old.iter().map(load_key).collect::<Result<_, _>>()?;
    KeyRing::new(current, old).map_err(KeyFileError::Ring)
}

/// Reads one key file; refuses one that others may read.
pub fn load_key(key: &KekRef) -> Result<Kek, KeyFileError> {
    let read = |error| KeyFileError::Read { id: key.id.clone(), file: key.file.clone(), error };
    let mode = fs::metadata(&key.file).map_err(read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { id: key.id.clone(), file: key.file.clone(), mode });
    }
    let text = Zeroizing::new(fs::read_to_string(&key.file).map_err(read)?);
    Kek::parse(&key.id, &text).map_err(|error| KeyFileError::Bad { file: key.file.clone(), error })
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
