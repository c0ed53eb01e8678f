//! Log lines: structured, one per line, card-like runs blanked before they are written (`obs::redact`).

use std::io::{self, Write};

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
