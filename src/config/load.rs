//! From a file or a text to a checked configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::read;
use super::{Config, Fault, Faults};

/// Where an API key's text is kept when the file does not hold its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// What reading needs from outside the text.
pub struct Surroundings<'a> {
    /// Directory that relative paths start from.
    pub directory: &'a Path,
    /// Gives the text behind a [`SecretSource`], or says why it cannot.
    pub secret: &'a dyn Fn(&SecretSource) -> Result<String, String>,
}

/// On which line each key stands.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub(super) file: String,
    pub(super) lines: BTreeMap<String, usize>,
}

impl Places {
    /// A fault of the key `key` (`keys.current.file`), with its line.
    pub fn fault(&self, key: &str, reason: impl Into<String>) -> Fault {
        let line = self.lines.get(key).copied().unwrap_or(0);
        Fault { file: self.file.clone(), line, key: key.to_owned(), reason: reason.into() }
    }
}

/// A checked configuration and where its keys stand, for checks that look at the machine.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Lines of the keys.
    pub places: Places,
}

impl Config {
    /// Reads the file `path` and what it names. Relative paths in it start from its directory.
    pub fn load(path: &Path) -> Result<Config, Faults> {
        Checked::load(path).map(|checked| checked.config)
    }

    /// Reads the text of a file called `name`, purely: API keys must be given by their hash.
    pub fn parse(name: &str, text: &str) -> Result<Config, Faults> {
        let secret = |_: &SecretSource| Err("cannot be looked up here; give sha256 instead".to_owned());
        Checked::parse(name, text, &Surroundings { directory: Path::new(""), secret: &secret })
            .map(|checked| checked.config)
    }
}

impl Checked {
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<Checked, Faults> {
        let name = path.display().to_string();
        let fault = |reason| Faults::one(Fault { file: name.clone(), line: 0, key: String::new(), reason });
        let bytes = std::fs::read(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            let reason = "is not UTF-8 text".to_owned();
            Faults::one(Fault { file: name.clone(), line: line + 1, key: String::new(), reason })
        })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Checked::parse(&name, &text, &Surroundings { directory, secret: &look_up })
    }

    /// Reads the text of a file called `name` with the given surroundings.
    pub fn parse(name: &str, text: &str, around: &Surroundings<'_>) -> Result<Checked, Faults> {
        read::read(name, text, around)
    }
}

fn look_up(source: &SecretSource) -> Result<String, String> {
    match source {
        SecretSource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.lines().next().unwrap_or_default().trim().to_owned()),
            Err(error) => Err(format!("file {} cannot be read: {error}", path.display())),
        },
        SecretSource::Variable(name) => {
            std::env::var(name).map_err(|_| format!("environment variable {name} is not set (or not text)"))
        }
    }
}
