//! Log lines: structured, one per line, card-like runs blanked before they are written (`obs::redact`). They are written
//! by a thread of their own: whoever reads standard error may stop reading and no call waits for it. What has no room
//! meanwhile is left out and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogLevel};
use crate::obs::redact::redact;

/// Lines that wait to be written at most.
const WAITING: usize = 8_192;

/// Counts the lines that had no room.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines left out since the start, because standard error was not read.
pub fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// What is looked for in lines before they are blanked, and how many held it.
static WATCHED: Mutex<Option<&'static str>> = Mutex::new(None);
static WATCHES: AtomicBool = AtomicBool::new(false);
static HELD: AtomicU64 = AtomicU64::new(0);

/// Digits in a row of what is looked for that count.
const RUN: usize = 8;

/// Looks for a published test card in every line that is logged, until it is dropped. One at a time.
pub(super) struct Watch;

/// Begins to look.
pub(super) fn watch(card: &'static str) -> Watch {
    *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(card);
    HELD.store(0, Relaxed);
    WATCHES.store(true, Relaxed);
    Watch
}

impl Watch {
    /// Lines so far that held digits of it.
    pub(super) fn count(&self) -> u64 {
        HELD.load(Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHES.store(false, Relaxed);
    }
}

/// Counts a line that holds what is looked for, as it was before the last net.
fn look(line: &[u8]) {
    if WATCHES.load(Relaxed)
        && let Some(card) = *WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
        && card.as_bytes().windows(RUN).any(|run| memchr::memmem::find(line, run).is_some())
    {
        HELD.fetch_add(1, Relaxed);
    }
}

/// Writes what waits before it goes; at most a second long.
#[must_use = "lines that still wait are lost with the process"]
pub struct Flush(#[allow(dead_code)] WorkerGuard);

/// Starts logging to standard error for the whole process. A second call changes nothing. Keep what is returned until the
/// process ends.
pub fn start(log: &Log) -> Flush {
    let level = match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    let (lines, writing) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING).lossy(true).thread_name("log").finish(io::stderr());
    let _ = LOST.set(lines.error_counter());
    let base =
        tracing_subscriber::fmt().with_max_level(level).with_span_events(FmtSpan::NONE).with_writer(Redacted(lines));
    // A subscriber that is already set (tests that run several nodes in one process) stays.
    let _ = if log.json {
        tracing::subscriber::set_global_default(base.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(base.with_ansi(false).finish())
    };
    Flush(writing)
}

/// What the process has logged, in memory.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Starts logging into memory for the whole process, down to `debug`, with the same redaction. Where logging was
    /// started before, this stays empty.
    pub fn start() -> Self {
        let captured = Captured::default();
        let base = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_span_events(FmtSpan::NONE);
        let subscriber = base.with_writer(captured.clone()).json().flatten_event(true).finish();
        let _ = tracing::subscriber::set_global_default(subscriber);
        captured
    }

    /// Everything logged since the last time.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Kept;
    fn make_writer(&'a self) -> Kept {
        Kept(Vec::with_capacity(256), self.clone())
    }
}

/// One line on its way to memory.
pub struct Kept(Vec<u8>, Captured);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        look(&self.0);
        redact(&mut self.0);
        self.1.0.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.0);
    }
}

/// Standard error behind the redaction.
struct Redacted(NonBlocking);

/// One line on its way to standard error.
struct Line(Vec<u8>, NonBlocking);

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(Vec::with_capacity(256), self.0.clone())
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        look(&self.0);
        redact(&mut self.0);
        // A log that cannot be written must not end a call.
        let _ = self.1.write_all(&self.0);
    }
}
