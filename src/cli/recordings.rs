//! `tonewall recordings`: list, verify and export sealed recordings. Keys are read from the files the configuration
//! names; sound leaves sealed storage only by `export`, into a file that only its owner may read.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::ids::RecordingId;
use crate::record::catalogue::Retention;
use crate::record::keys::KeyRing;
use crate::record::place::{self, Utc};
use crate::record::sealed::{Fault, Gap, GapKind, Item, Place, Report, Tear, Verdict, peek, verify};
use crate::rt::catalogue::Catalogue;
use crate::rt::vault::files;

mod rescan;
mod wav;

/// All recordings asked for are intact (or the work is done).
pub const EXIT_INTACT: u8 = 0;
/// Something went wrong that is not the recording: unreadable file, no such recording, export exists.
pub const EXIT_FAULT: u8 = 1;
/// At least one recording was interrupted; its whole chunks are sound.
pub const EXIT_INTERRUPTED: u8 = 3;
/// At least one recording was tampered with.
pub const EXIT_TAMPERED: u8 = 4;
/// At least one recording could not be judged: its key is missing or wrong.
pub const EXIT_KEY: u8 = 5;

/// At least one recording is quarantined, or waits for its self-audit: it is given to nobody.
pub const EXIT_QUARANTINED: u8 = 6;

/// What to do with recordings.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show every recording: call, start, length, gaps, state, size, key. Closed ones are told by their seal; `verify`
    /// reads every byte.
    List,
    /// Check every byte. Exit status: 0 intact, 3 interrupted, 4 tampered, 5 key missing or wrong, 1 unreadable; of
    /// several, the gravest.
    Verify {
        /// Recordings, or `all`.
        #[arg(required = true, value_name = "ID|all")]
        recordings: Vec<String>,
    },
    /// Decrypt one recording into a WAV file (stereo: customer left, agent right). An interrupted recording gives its
    /// whole chunks and exit status 3; a tampered one gives nothing and exit status 4.
    Export {
        /// Recording.
        recording: RecordingId,
        /// File to write.
        #[arg(short, long, value_name = "FILE.wav")]
        output: PathBuf,
        /// Overwrite the file if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Hear recordings again for keys, as the node does before they count as sealed. Exit status: 0 clean, 6 quarantined,
    /// 5 key missing or wrong, 1 could not be heard; of several, the gravest.
    Rescan {
        /// Recordings, or `all`.
        #[arg(required = true, value_name = "ID|all")]
        recordings: Vec<String>,
    },
    /// Make the catalogue again from the recordings and the notes beside them.
    Reindex,
    /// What is done with them afterwards.
    #[command(flatten)]
    Keep(super::keeping::Command),
}

/// Where results and messages go; tests take them, the binary gives standard output and standard error.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Messages.
    pub err: &'a mut dyn Write,
    /// Whether to draw progress bars (on standard error).
    pub progress: bool,
}

/// Does `command` on the recordings under `root`. Gives the exit status.
pub fn run(command: &Command, root: &Path, ring: &KeyRing, terminal: &mut Terminal<'_>) -> u8 {
    let done = match command {
        Command::List => list(root, ring, terminal),
        Command::Verify { recordings } => verify_all(recordings, root, ring, terminal),
        Command::Export { recording, output, force } => export(*recording, output, *force, root, ring, terminal),
        Command::Rescan { recordings } => rescan::run(recordings, root, ring, terminal),
        Command::Reindex => reindex(root, ring, terminal),
        Command::Keep(_) => Err(io::Error::other("needs the whole configuration, not only the recordings")),
    };
    match done {
        Ok(status) => status,
        // `list | head` closes our output: nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_INTACT,
        Err(error) => {
            // A standard error that is closed leaves only the exit status.
            let _ = writeln!(terminal.err, "error: {error}");
            EXIT_FAULT
        }
    }
}

fn reindex(root: &Path, ring: &KeyRing, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let catalogue = Catalogue::open(root, Retention::default()).map_err(io::Error::other)?;
    let done = catalogue.reindex(ring).map_err(io::Error::other)?;
    writeln!(
        terminal.out,
        "{} recordings, {} of them new to the catalogue; {} tombstones or in the object store only; {} rows removed",
        done.found, done.added, done.noted, done.removed
    )?;
    if done.unread > 0 {
        writeln!(terminal.err, "warning: {} recordings are known by name only: their key is not here", done.unread)?;
        return Ok(EXIT_KEY);
    }
    Ok(EXIT_INTACT)
}

/// A recording on disk.
struct Found {
    recording: RecordingId,
    file: PathBuf,
    bytes: u64,
}

/// What became of judging one recording.
enum Judged {
    Report(Box<Report>),
    Fault(Fault),
}

impl Judged {
    fn status(&self) -> u8 {
        match self {
            Judged::Report(report) => match report.verdict {
                Verdict::Intact => EXIT_INTACT,
                Verdict::Interrupted { .. } => EXIT_INTERRUPTED,
                Verdict::Tampered { .. } => EXIT_TAMPERED,
            },
            Judged::Fault(Fault::Key(_)) => EXIT_KEY,
            Judged::Fault(Fault::Io(_)) => EXIT_FAULT,
        }
    }
}

/// The graver of two exit statuses: tampering first, then what could not be judged, then interruption.
fn graver(a: u8, b: u8) -> u8 {
    let rank = |status| match status {
        EXIT_INTACT => 0,
        EXIT_INTERRUPTED => 1,
        EXIT_FAULT => 2,
        EXIT_KEY => 3,
        EXIT_QUARANTINED => 4,
        _ => 5,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Every recording under `root`, oldest day first. Files that are not ours are left alone.
fn find(root: &Path) -> io::Result<Vec<Found>> {
    let named = |error| io::Error::other(format!("cannot read the recordings directory {}: {error}", root.display()));
    let mut found = Vec::new();
    for day in fs::read_dir(root).map_err(named)? {
        let day = day?;
        if !day.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(day.path())? {
            let entry = entry?;
            let file = entry.path();
            let Some(recording) = place::recording_of(&file) else { continue };
            found.push((day.file_name(), Found { recording, file, bytes: entry.metadata()?.len() }));
        }
    }
    found.sort_by(|a, b| (&a.0, a.1.recording).cmp(&(&b.0, b.1.recording)));
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// Reads the whole of a recording; audio goes to `sink`.
fn judge(
    found: &Found,
    ring: &KeyRing,
    bar: &ProgressBar,
    sink: &mut dyn FnMut(&Item<'_>) -> io::Result<()>,
) -> Judged {
    let mut read = || -> Result<Report, Fault> {
        let seal = match fs::read(place::seal_file(&found.file)) {
            Ok(seal) => Some(seal),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let opened = files::open(&found.file)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let file = BufReader::with_capacity(1 << 16, opened.file);
        // What is being written while we read is judged as it was when we began.
        let input = bar.wrap_read(file.take(found.bytes));
        verify(input, seal.as_deref(), Some(found.recording), ring, sink)
    };
    match read() {
        Ok(report) => Judged::Report(Box::new(report)),
        Err(fault) => Judged::Fault(fault),
    }
}

/// A closed recording by its header, first chunk and seal, without reading the rest; `None` when that is not enough to
/// tell what it is.
fn glance(found: &Found, ring: &KeyRing) -> Option<Box<Report>> {
    let seal = fs::read(place::seal_file(&found.file)).ok()?;
    let mut report = peek(File::open(&found.file).ok()?, Some(&seal), ring).ok()?;
    let sealed = report.seal.as_ref()?;
    if report.verdict != Verdict::Intact || sealed.recording != found.recording {
        return None;
    }
    let header = report.header.as_ref().map_or(0, |header| header.bytes);
    if sealed.bytes + header != found.bytes {
        return None;
    }
    report.frames = sealed.frames;
    Some(Box::new(report))
}

fn list(root: &Path, ring: &KeyRing, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let found = find(root)?;
    if found.is_empty() {
        writeln!(terminal.out, "no recordings in {}", root.display())?;
        return Ok(EXIT_INTACT);
    }
    let bar = bar(terminal, &found, "reading");
    let heads = ["RECORDING", "CALL", "STARTED (UTC)", "LENGTH", "GAPS", "STATE", "SIZE", "KEY"].map(str::to_owned);
    let mut rows = vec![heads];
    let mut status = EXIT_INTACT;
    for found in &found {
        let judged = match glance(found, ring) {
            Some(report) => Judged::Report(report),
            None => judge(found, ring, &bar, &mut |_| Ok(())),
        };
        status = graver(status, if is_live(found, &judged) { EXIT_INTACT } else { judged.status() });
        rows.push(row(found, &judged));
    }
    bar.finish_and_clear();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // Numbers to the right.
            let right = matches!(at, 3 | 4 | 6);
            line.push_str(&if right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") });
        }
        writeln!(terminal.out, "{}", line.trim_end())?;
    }
    Ok(status)
}

fn row(found: &Found, judged: &Judged) -> [String; 8] {
    let size = bytes(found.bytes);
    let none = || "-".to_owned();
    let report = match judged {
        Judged::Report(report) => report,
        Judged::Fault(fault) => {
            let state = if matches!(fault, Fault::Key(_)) { "no key" } else { "unreadable" };
            return [found.recording.to_string(), none(), none(), none(), none(), state.to_owned(), size, none()];
        }
    };
    let state = match report.verdict {
        Verdict::Intact => "closed",
        Verdict::Interrupted { .. } if is_live(found, judged) => "recording",
        Verdict::Interrupted { .. } => "interrupted",
        Verdict::Tampered { .. } => "TAMPERED",
    };
    let start = report.start.as_ref();
    [
        found.recording.to_string(),
        start.map_or_else(none, |start| start.call.to_string()),
        start.map_or_else(none, |start| Utc::of(start.started_at_ms).date_time()),
        time(report.frames),
        report.seal.as_ref().map_or(report.gaps.len() as u64, |seal| u64::from(seal.gaps)).to_string(),
        state.to_owned(),
        size,
        report.header.as_ref().map_or_else(none, |header| header.kek_id.clone()),
    ]
}

/// Whether the file ends between chunks and was written to within the last seconds: it is being recorded now.
fn is_live(found: &Found, judged: &Judged) -> bool {
    let Judged::Report(report) = judged else { return false };
    let open = matches!(report.verdict, Verdict::Interrupted { tear: Tear::BetweenChunks | Tear::InChunk, .. });
    let age = fs::metadata(&found.file).and_then(|meta| meta.modified()).map(|at| at.elapsed());
    open && age.is_ok_and(|age| age.is_ok_and(|age| age.as_secs() < 5))
}

fn verify_all(wanted: &[String], root: &Path, ring: &KeyRing, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let mut status = EXIT_INTACT;
    let every = find(root)?;
    let mut chosen: Vec<&Found> = Vec::new();
    if wanted.iter().any(|id| id == "all") {
        chosen.extend(&every);
        if every.is_empty() {
            writeln!(terminal.out, "no recordings in {}", root.display())?;
        }
    } else {
        for id in wanted {
            match choose(id, &every, root) {
                Ok(found) => chosen.push(found),
                Err(error) => {
                    writeln!(terminal.err, "error: {error}")?;
                    status = EXIT_FAULT;
                }
            }
        }
    }
    let bar = ProgressBar::hidden();
    let bar = if chosen.is_empty() { bar } else { self::bar(terminal, chosen.iter().copied(), "verifying") };
    let mut counts = [0usize; 4];
    for found in &chosen {
        let judged = judge(found, ring, &bar, &mut |_| Ok(()));
        status = graver(status, judged.status());
        counts[match judged.status() {
            EXIT_INTACT => 0,
            EXIT_INTERRUPTED => 1,
            EXIT_TAMPERED => 2,
            _ => 3,
        }] += 1;
        let text = describe(&judged);
        bar.suspend(|| writeln!(terminal.out, "{}  {text}", found.recording))?;
    }
    bar.finish_and_clear();
    if chosen.len() > 1 {
        let [intact, interrupted, tampered, unjudged] = counts;
        writeln!(
            terminal.out,
            "{} recordings: {intact} intact, {interrupted} interrupted, {tampered} tampered, {unjudged} not judged",
            chosen.len()
        )?;
    }
    Ok(status)
}

fn choose<'a>(id: &str, every: &'a [Found], root: &Path) -> io::Result<&'a Found> {
    let recording: RecordingId = id.parse().map_err(|error| io::Error::other(format!("{id:?} is {error}")))?;
    every
        .iter()
        .find(|found| found.recording == recording)
        .ok_or_else(|| io::Error::other(format!("no recording {recording} in {}", root.display())))
}

fn describe(judged: &Judged) -> String {
    let report = match judged {
        Judged::Report(report) => report,
        Judged::Fault(Fault::Key(error)) => return format!("not judged: {error}"),
        Judged::Fault(Fault::Io(error)) => return format!("unreadable: {error}"),
    };
    let gaps = match report.gaps.len() {
        0 => String::new(),
        1 => ", 1 gap".to_owned(),
        n => format!(", {n} gaps"),
    };
    match &report.verdict {
        Verdict::Intact => {
            let seal = if report.seal.is_some() { "" } else { "; its seal file is missing" };
            format!("intact: {} in {} chunks{gaps}{seal}", time(report.frames), report.chunks)
        }
        Verdict::Interrupted { good_chunks, tear } => {
            let tear = match tear {
                Tear::InHeader => "inside its header",
                Tear::BetweenChunks => "after a whole chunk",
                Tear::InChunk => "inside a chunk",
                Tear::Unwritten => "in blocks the disk never wrote",
            };
            format!(
                "interrupted: {} in {good_chunks} sound chunks{gaps}; the file ends {tear}, as after a kill or power cut",
                time(report.frames)
            )
        }
        Verdict::Tampered { at, why } => {
            let at = match at {
                Place::Header => "in the header".to_owned(),
                Place::Chunk(number) => format!("at chunk {number}"),
                Place::AfterEnd => "after the end".to_owned(),
                Place::Seal => "in the seal".to_owned(),
                Place::Name => "in the name".to_owned(),
            };
            format!("TAMPERED {at}: {why} ({} chunks before it are sound)", report.chunks)
        }
    }
}

fn export(
    recording: RecordingId,
    output: &Path,
    force: bool,
    root: &Path,
    ring: &KeyRing,
    terminal: &mut Terminal<'_>,
) -> io::Result<u8> {
    if output.exists() && !force {
        return Err(io::Error::other(format!("{} exists; --force overwrites it", output.display())));
    }
    let every = find(root)?;
    let found = choose(&recording.to_string(), &every, root)?;
    if let Some(why) = rescan::withheld(root, found, ring)? {
        writeln!(terminal.err, "error: {recording} was not exported: it {why}")?;
        return Ok(EXIT_QUARANTINED);
    }
    let bar = bar(terminal, [found], "exporting");
    let mut wav = wav::Export::create(output)?;
    let judged = judge(found, ring, &bar, &mut |item| match item {
        Item::Audio(samples) => wav.audio(samples),
        _ => Ok(()),
    });
    bar.finish_and_clear();
    let report = match &judged {
        Judged::Report(report) if !matches!(report.verdict, Verdict::Tampered { .. }) => report,
        // The half-made file goes with `wav`.
        _ => {
            writeln!(terminal.err, "error: {recording} was not exported: {}", describe(&judged))?;
            return Ok(judged.status());
        }
    };
    let frames = wav.finish(&report.gaps)?;
    writeln!(terminal.out, "{}: {} stereo (customer left, agent right), 8 kHz", output.display(), time(frames))?;
    for gap in &report.gaps {
        writeln!(terminal.out, "  {}", gap_text(gap, report.frames))?;
    }
    if let Verdict::Interrupted { .. } = report.verdict {
        writeln!(terminal.err, "warning: {recording} was {}", describe(&judged))?;
    }
    Ok(judged.status())
}

fn gap_text(gap: &Gap, frames: u64) -> String {
    let kind = match gap.kind {
        GapKind::Paused => "recording paused",
        GapKind::Lost => "lost, the disk did not keep up",
        GapKind::Redacted => "redacted, a card was recognised late",
    };
    match gap.to {
        Some(to) => format!("gap {} – {}: {kind}", time(gap.from), time(to)),
        None => format!("gap {} – {} (open when the recording ended): {kind}", time(gap.from), time(frames)),
    }
}

/// A bar over the bytes of `found`; hidden where nobody looks.
fn bar<'a>(terminal: &Terminal<'_>, found: impl IntoIterator<Item = &'a Found>, verb: &'static str) -> ProgressBar {
    if !terminal.progress {
        return ProgressBar::hidden();
    }
    let bytes = found.into_iter().map(|found| found.bytes).sum();
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸ "));
    bar.set_message(verb);
    bar
}

/// `1:02:03.4` of so many frames.
fn time(frames: u64) -> String {
    let tenths = frames / 800;
    let (hours, minutes, seconds) = (tenths / 36_000, tenths / 600 % 60, tenths / 10 % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}.{}", tenths % 10),
        _ => format!("{hours}:{minutes:02}:{seconds:02}.{}", tenths % 10),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
#[path = "recordings_tests.rs"]
mod tests;
