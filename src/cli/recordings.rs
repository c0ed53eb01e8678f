//! `tonewall recordings`: list, search, verify and export sealed recordings, here or in the object store. Keys come from
//! where the configuration says; sound leaves sealed storage only by `export`, into a file that only its owner may read.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::found::{Found, Judged, choose, find, glance, judge};
use self::known::Known;
use self::rescan::Clearance;
use crate::base::ids::RecordingId;
use crate::config::{Config, Storage};
use crate::record::catalogue::{Retention, Rule};
use crate::record::place::Utc;
use crate::record::sealed::{Fault, Gap, GapKind, Item, Place, Tear, Verdict};
use crate::rt::audit::Guest;
use crate::rt::catalogue::Catalogue;
use crate::rt::keys::Keys;

pub mod access;
mod found;
mod known;
mod rescan;
mod search;
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
    /// Search the catalogue, newest first: what is given must all hold. Recordings that were destroyed are found by
    /// `--state destroyed` only.
    Search(Box<search::Wanted>),
    /// Check every byte. Exit status: 0 intact, 3 interrupted, 4 tampered, 5 key missing or wrong, 1 unreadable; of
    /// several, the gravest.
    Verify {
        /// Recordings, or `all`.
        #[arg(required = true, value_name = "ID|all")]
        recordings: Vec<String>,
        /// With `all`: those too that are in the object store only.
        #[arg(long)]
        stored: bool,
        /// What for; stands in the audit log, which needs it where there is one.
        #[arg(long, value_name = "TEXT")]
        purpose: Option<String>,
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
        /// What for; stands in the audit log, which needs it where there is one.
        #[arg(long, value_name = "TEXT")]
        purpose: Option<String>,
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

/// The recordings of a configuration, and what opens them.
pub struct Site {
    /// Where they are.
    pub storage: Storage,
    /// Their keys.
    pub keys: Arc<Keys>,
    /// Directory of the audit log, where one is kept: `verify` holds what it says against the files.
    pub log: Option<PathBuf>,
}

impl Site {
    /// That of `config`.
    pub fn of(config: &Config, keys: Arc<Keys>) -> Self {
        let log = config.audit.as_ref().map(|audit| audit.directory.clone());
        Self { storage: config.storage.clone(), keys, log }
    }

    fn root(&self) -> &Path {
        &self.storage.recordings
    }

    /// The catalogue, where there is one.
    fn catalogue(&self) -> io::Result<Option<Catalogue>> {
        if !self.root().join(crate::rt::catalogue::FILE).exists() {
            return Ok(None);
        }
        Catalogue::open(self.root(), self.retention()).map(Some).map_err(io::Error::other)
    }

    fn retention(&self) -> Retention {
        let rules = self.storage.retention.iter().cloned();
        let rule = |crate::config::KeepRule { trunk, label, keep_days }| Rule { trunk, label, keep_days };
        Retention { rules: rules.map(rule).collect() }
    }
}

/// Does `command` on the recordings of `site`; `guest` is the audit log. Gives the exit status.
pub fn run(command: &Command, site: &Site, guest: &Guest, terminal: &mut Terminal<'_>) -> u8 {
    let (root, ring) = (site.root(), site.keys.ring());
    let done = match command {
        Command::List => list(site, terminal),
        Command::Search(wanted) => search::run(wanted, site, guest, terminal),
        Command::Verify { recordings, stored, .. } => verify_all(recordings, *stored, site, terminal),
        Command::Export { recording, output, force, .. } => export(*recording, output, *force, site, terminal),
        Command::Rescan { recordings } => rescan::run(recordings, root, &ring, terminal),
        Command::Reindex => reindex(site, terminal),
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

fn reindex(site: &Site, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let catalogue = Catalogue::open(site.root(), site.retention()).map_err(io::Error::other)?;
    let done = catalogue.reindex(&site.keys.ring()).map_err(io::Error::other)?;
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

fn list(site: &Site, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let (root, ring) = (site.root(), &site.keys.ring());
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
    table(&rows, &[3, 4, 6], terminal)?;
    Ok(status)
}

/// Prints rows in columns; those of `right` are numbers and stand to the right.
fn table<const N: usize>(rows: &[[String; N]], right: &[usize], terminal: &mut Terminal<'_>) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            line.push_str(&if right.contains(&at) { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") });
        }
        writeln!(terminal.out, "{}", line.trim_end())?;
    }
    Ok(())
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
    let age = std::fs::metadata(&found.file).and_then(|meta| meta.modified()).map(|at| at.elapsed());
    open && age.is_ok_and(|age| age.is_ok_and(|age| age.as_secs() < 5))
}

fn verify_all(wanted: &[String], stored: bool, site: &Site, terminal: &mut Terminal<'_>) -> io::Result<u8> {
    let (root, ring) = (site.root(), &site.keys.ring());
    let mut status = EXIT_INTACT;
    let here = find(root)?;
    let mut chosen: Vec<Found> = Vec::new();
    if wanted.iter().any(|id| id == "all") {
        let elsewhere = found::elsewhere(site, &here)?;
        let nothing = here.is_empty();
        chosen.extend(here);
        match elsewhere.len() {
            0 if nothing => writeln!(terminal.out, "no recordings in {}", root.display())?,
            0 => {}
            _ if stored => chosen.extend(elsewhere),
            more => writeln!(terminal.err, "{more} more are in the object store only: --stored verifies them too")?,
        }
    } else {
        for id in wanted {
            match choose(id, &here, site) {
                Ok(found) => chosen.push(found),
                Err(error) => {
                    writeln!(terminal.err, "error: {error}")?;
                    status = EXIT_FAULT;
                }
            }
        }
    }
    let known = match &site.log {
        Some(log) if !chosen.is_empty() => Known::read(log)?,
        _ => Known::default(),
    };
    let bar = ProgressBar::hidden();
    let bar = if chosen.is_empty() { bar } else { self::bar(terminal, &chosen, "verifying") };
    let mut counts = [0usize; 4];
    for found in &chosen {
        let judged = known.light(found, judge(found, ring, &bar, &mut |_| Ok(())));
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
    site: &Site,
    terminal: &mut Terminal<'_>,
) -> io::Result<u8> {
    let (root, ring) = (site.root(), &site.keys.ring());
    if output.exists() && !force {
        return Err(io::Error::other(format!("{} exists; --force overwrites it", output.display())));
    }
    let found = &choose(&recording.to_string(), &find(root)?, site)?;
    let (why, status) = match rescan::clearance(root, found, ring)? {
        Clearance::Given => (String::new(), EXIT_INTACT),
        Clearance::Withheld(why) => (format!("it {why}"), EXIT_QUARANTINED),
        Clearance::Unheard(why) => unheard(&judge(found, ring, &ProgressBar::hidden(), &mut |_| Ok(())), &why),
    };
    if status != EXIT_INTACT {
        writeln!(terminal.err, "error: {recording} was not exported: {why}")?;
        return Ok(status);
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

/// What is said of a recording that could not be heard, and the exit status. Reading it has the right word for most of it:
/// tampered with, no key. What can be read the second time is not given out either.
fn unheard(judged: &Judged, why: &str) -> (String, u8) {
    match judged {
        Judged::Report(report) if !matches!(report.verdict, Verdict::Tampered { .. }) => {
            (format!("it could not be heard for keys: {why}"), EXIT_FAULT)
        }
        judged => (describe(judged), judged.status()),
    }
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
