//! `[keys]`: where key-encryption keys (KEK) come from. Only names of places stand here, never a key.

use std::path::PathBuf;
use std::time::Duration;

/// `[keys]`: key-encryption keys (KEK) for recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The KEK new recordings are wrapped under; `None` when nothing records.
    pub current: Option<KekRef>,
    /// Older KEKs, to read with.
    pub old: Vec<KekRef>,
}

/// A key-encryption key: its id and where it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekRef {
    /// The KEK's id, written into each file wrapped under it.
    pub id: String,
    /// Where it is found.
    pub source: KekSource,
}

impl KekRef {
    /// A key in a file of 64 hexadecimal digits.
    pub fn file(id: &str, file: PathBuf) -> Self {
        Self { id: id.to_owned(), source: KekSource::File { file, passphrase: None } }
    }
}

/// Where a key-encryption key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KekSource {
    /// A file of 64 hexadecimal digits (32 bytes), or one that a passphrase protects.
    File {
        /// The file.
        file: PathBuf,
        /// Where its passphrase is, of one that is protected.
        passphrase: Option<SecretPlace>,
    },
    /// An environment variable of 64 hexadecimal digits.
    Variable(String),
    /// What a command prints: 64 hexadecimal digits, from a key service.
    Command(KekCommand),
    /// An AES-256 key that stays in a PKCS#11 token.
    Token(KekToken),
}

impl KekSource {
    /// The key of the configuration that names it.
    pub const fn key(&self) -> &'static str {
        match self {
            KekSource::File { .. } => "file",
            KekSource::Variable(_) => "env",
            KekSource::Command(_) => "command",
            KekSource::Token(_) => "pkcs11",
        }
    }
}

/// A command that prints a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekCommand {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// How often it is asked again.
    pub refresh: Duration,
    /// How long the key may be used after the last time it was had.
    pub cache: Duration,
}

/// A key in a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekToken {
    /// The token's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The key's label.
    pub label: String,
    /// Where the user's PIN is.
    pub pin: SecretPlace,
    /// How long one operation may take.
    pub timeout: Duration,
}

/// Where a passphrase or PIN is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// The first line of a file that only its owner may read.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The first line a command prints, within ten seconds.
    Command(Vec<String>),
}
