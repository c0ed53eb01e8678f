//! `tonewall audit`: make the key that signs checkpoints, verify a log, list its entries. Verifying and listing are
//! themselves entries of the log where the configuration names it (PCI DSS 10.2.1.3).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::audit::note::{Checkpoint, Verifier};
use crate::audit::verify::{Report, Verification};
use crate::audit::{Action, Outcome, Stored};
use crate::config::Config;
use crate::rt::audit::book::{self, CHECKPOINTS, pages};
use crate::rt::audit::{Guest, keys};

mod list;

/// The log is whole, as it was signed.
pub const EXIT_WHOLE: u8 = 0;
/// Something that is not the log: a file cannot be read.
pub const EXIT_FAULT: u8 = 1;
/// The log is whole but for a line that a kill tore at its end.
pub const EXIT_TORN: u8 = 3;
/// The log is not as it was written.
pub const EXIT_TAMPERED: u8 = 4;
/// It cannot be told whether the log is genuine: no key was given, or no checkpoint is there.
pub const EXIT_KEY: u8 = 5;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the key that signs checkpoints, and print its public half.
    Keygen {
        /// Name of the log in its checkpoints, one per node, for instance `tonewall/edge-1`.
        #[arg(short, long)]
        name: String,
        /// File to write (mode 0400); the public half goes beside it (`.pub`).
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Read a log from end to end and say whether it is as it was written. Exit status: 0 whole, 3 a torn line at the end,
    /// 4 tampered with, 5 no key or no checkpoint to tell by, 1 unreadable.
    Verify {
        /// Configuration that names the log and its key.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Public half of the key that signed the checkpoints (`.pub`).
        #[arg(short, long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Checkpoints kept elsewhere: a file or directory of them. May be given several times.
        #[arg(long, value_name = "PATH")]
        checkpoints: Vec<PathBuf>,
        /// Files of the log, or its directory; without: that of the configuration.
        #[arg(value_name = "FILE|DIR")]
        files: Vec<PathBuf>,
    },
    /// Print entries, oldest first.
    List(list::Arguments),
}

/// Does it.
#[allow(clippy::print_stderr)]
pub fn run(command: &Command) -> u8 {
    let mut terminal = Terminal::of_process();
    let done = match command {
        Command::Keygen { name, output } => keygen(name, output, &mut terminal),
        Command::Verify { config, key, checkpoints, files } => {
            verify(config.as_deref(), key.as_deref(), checkpoints, files, &mut terminal)
        }
        Command::List(arguments) => list::list(arguments, &mut terminal),
    };
    match done {
        Ok(status) => status,
        Err(why) if why.is_empty() => EXIT_WHOLE,
        Err(why) => {
            eprintln!("error: {why}");
            EXIT_FAULT
        }
    }
}

/// Where results go.
struct Terminal {
    out: io::Stdout,
    progress: bool,
}

impl Terminal {
    fn of_process() -> Self {
        Self { out: io::stdout(), progress: io::IsTerminal::is_terminal(&io::stderr()) }
    }

    /// A closed output is nobody's fault: nobody is left to be told.
    fn line(&mut self, text: &str) -> Result<(), String> {
        writeln!(self.out, "{text}")
            .map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { String::new() } else { error.to_string() })
    }
}

fn keygen(name: &str, output: &Path, terminal: &mut Terminal) -> Result<u8, String> {
    let public = keys::make(output, name)?;
    terminal.line(&public.to_string())?;
    Ok(EXIT_WHOLE)
}

/// The files of a log: those given, those of directories given, or those the configuration names.
fn files(given: &[PathBuf], config: Option<&Config>) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let of_config = config.and_then(|config| config.audit.as_ref()).map(|audit| audit.directory.clone());
    let given = if given.is_empty() { of_config.into_iter().collect() } else { given.to_vec() };
    for path in &given {
        if path.is_dir() {
            let names = pages(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.extend(names.iter().map(|name| path.join(name)));
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Err("no file of an audit log: give files, a directory or --config".to_owned());
    }
    // Names sort as entries do; each stands where its first entry does.
    files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
    files.dedup();
    Ok(files)
}

fn load(config: Option<&Path>) -> Result<Option<Config>, String> {
    config.map(|path| Config::load(path).map_err(|faults| faults.to_string())).transpose()
}

/// Every checkpoint in a file or under a directory, with the file's name; and files with something that is none.
fn read_checkpoints(path: &Path, found: &mut Vec<(Checkpoint, String)>, bad: &mut Vec<String>) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .map_err(told)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(told)?;
        inside.sort();
        return inside.iter().try_for_each(|path| {
            let note = path.is_dir() || path.extension().is_some_and(|kind| kind == "note");
            if note { read_checkpoints(path, found, bad) } else { Ok(()) }
        });
    }
    let text = std::fs::read(path).map_err(told)?;
    let (notes, wrong) = Checkpoint::read_all(&String::from_utf8_lossy(&text));
    if wrong > 0 {
        bad.push(path.display().to_string());
    }
    found.extend(notes.into_iter().map(|note| (note, path.display().to_string())));
    Ok(())
}

fn verify(
    config: Option<&Path>,
    key: Option<&Path>,
    elsewhere: &[PathBuf],
    given: &[PathBuf],
    terminal: &mut Terminal,
) -> Result<u8, String> {
    let config = load(config)?;
    let files = files(given, config.as_ref())?;
    let verifier = public_key(key, config.as_ref())?;
    let (mut checkpoints, mut bad) = (Vec::new(), Vec::new());
    let mut beside: Vec<PathBuf> =
        files.iter().filter_map(|file| Some(file.parent()?.join(CHECKPOINTS))).filter(|path| path.is_file()).collect();
    beside.dedup();
    for path in beside.iter().map(PathBuf::as_path).chain(elsewhere.iter().map(PathBuf::as_path)) {
        read_checkpoints(path, &mut checkpoints, &mut bad)?;
    }
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    let bar = bar(total, terminal.progress);
    let mut verification = Verification::new(verifier.as_ref(), checkpoints);
    bad.iter().for_each(|file| verification.unreadable_checkpoint(file));
    for file in &files {
        let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        read(file, &bar, |number, line, whole| match whole {
            true => verification.line(&name, number, line),
            false => verification.torn(line.len() as u64),
        })?;
    }
    let report = verification.finish();
    bar.finish_and_clear();
    note(config.as_ref(), "verify", &report);
    tell(&report, verifier.as_ref(), terminal)
}

/// Reads a file's lines; the last one may not be whole.
fn read(file: &Path, bar: &ProgressBar, mut line: impl FnMut(u64, &[u8], bool)) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let mut input = BufReader::with_capacity(1 << 16, File::open(file).map_err(told)?);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let mut read = input.read_until(b'\n', &mut bytes).map_err(told)?;
        if read > 0 && bytes.last() != Some(&b'\n') {
            // Somebody may just be writing it. What is torn while nobody can be is torn for good.
            let _still = file.parent().and_then(book::hold_still);
            read += input.read_until(b'\n', &mut bytes).map_err(told)?;
        }
        if read == 0 {
            break;
        }
        bar.inc(read as u64);
        match bytes.split_last() {
            Some((b'\n', whole)) => line(number, whole, true),
            _ => line(number, &bytes, false),
        }
    }
    Ok(())
}

fn public_key(key: Option<&Path>, config: Option<&Config>) -> Result<Option<Verifier>, String> {
    if let Some(key) = key {
        return keys::load_public(key).map(Some);
    }
    let Some(audit) = config.and_then(|config| config.audit.as_ref()) else { return Ok(None) };
    let mut public = audit.key.as_os_str().to_owned();
    public.push(".pub");
    let public = Path::new(&public);
    if public.is_file() { keys::load_public(public) } else { keys::load_public(&audit.key) }.map(Some)
}

fn tell(report: &Report, key: Option<&Verifier>, terminal: &mut Terminal) -> Result<u8, String> {
    for finding in &report.findings {
        terminal.line(&finding.to_string())?;
    }
    let Report { entries, first, last, signed, checkpoints, not_compared, torn, .. } = *report;
    terminal.line(&format!("{entries} entries read, {first} to {last}; {checkpoints} checkpoints compared"))?;
    if not_compared > 0 {
        terminal.line(&format!("{not_compared} checkpoints could not be compared with these entries"))?;
    }
    if torn > 0 {
        terminal.line(&format!("{torn} bytes of a torn line at the end: a write that never counted"))?;
    }
    if !report.findings.is_empty() {
        terminal.line("NOT as it was written")?;
        return Ok(EXIT_TAMPERED);
    }
    if last > signed {
        let open = last - signed.max(first.saturating_sub(1));
        terminal.line(&format!("{open} entries are newer than the last checkpoint: only the chain holds them"))?;
    }
    if key.is_none() {
        terminal.line("whole, but no key was given (--key): the checkpoints may be anybody's")?;
        return Ok(EXIT_KEY);
    }
    if signed == 0 {
        terminal.line("whole by its chain, but no checkpoint says that this is the log that was written")?;
        return Ok(EXIT_KEY);
    }
    terminal.line(&format!("whole up to entry {signed}, as signed"))?;
    Ok(if torn > 0 { EXIT_TORN } else { EXIT_WHOLE })
}

/// Leaves word in the log that it was read. A log that cannot be written is no reason not to verify it.
#[allow(clippy::print_stderr)]
fn note(config: Option<&Config>, how: &str, report: &Report) {
    let Some(config) = config.filter(|config| config.audit.is_some()) else { return };
    let noted = Guest::open(config).map_err(|error| error.to_string()).and_then(|guest| {
        let outcome = match report.findings.first() {
            None => Outcome::DONE,
            Some(finding) => Outcome::failed(finding.to_string()),
        };
        let action = Action::LogRead { how: how.into(), entries: Some(report.entries) };
        guest.write(action, outcome, None).map_err(|error| error.to_string())?;
        guest.finish();
        Ok(())
    });
    if let Err(why) = noted {
        eprintln!("warning: that the log was read could not be noted in it: {why}");
    }
}

fn bar(bytes: u64, shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("verifying {wide_bar} {binary_bytes}/{binary_total_bytes}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

/// An entry as a table shows it.
fn row(stored: &Stored) -> [String; 8] {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let value = &stored.value;
    let actor = &value["actor"];
    let name = text(&actor["name"]);
    let actor = if name.is_empty() { text(&actor["kind"]) } else { format!("{} {name}", text(&actor["kind"])) };
    let object = value["object"].as_object().map(|fields| {
        fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
    });
    let mut result = text(&value["result"]);
    for more in [&value["status"], &value["why"]] {
        if !more.is_null() {
            result = format!("{result} {}", text(more));
        }
    }
    let times = value["times"].as_u64().map_or_else(String::new, |times| format!(" ×{times}"));
    [
        stored.seq.to_string(),
        text(&value["at"]),
        actor,
        text(&value["origin"]),
        stored.action().to_owned() + &times,
        object.unwrap_or_default(),
        result,
        text(&value["purpose"]),
    ]
}
