//! Log lines: structured, one per line, card-like runs blanked before they are written (`obs::redact`).

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogLevel};
use crate::obs::redact::redact;

/// Starts logging to standard error for the whole process. A second call changes nothing.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
    };
    let base = tracing_subscriber::fmt().with_max_level(level).with_span_events(FmtSpan::NONE).with_writer(Redacted);
    // A subscriber that is already set (tests that run several nodes in one process) stays.
    let _ = if log.json {
        tracing::subscriber::set_global_default(base.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(base.with_ansi(false).finish())
    };
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
        redact(&mut self.0);
        self.1.0.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.0);
    }
}

/// Standard error behind the redaction.
struct Redacted;

/// One line on its way to standard error.
struct Line(Vec<u8>);

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line(Vec::with_capacity(256))
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
        redact(&mut self.0);
        // A log that cannot be written must not end a call.
        let _ = io::stderr().lock().write_all(&self.0);
    }
}
