//! `tonewall run`.

use std::path::Path;
use std::process::ExitCode;

/// Runs a node until it is told to end.
pub fn run(_config: &Path) -> ExitCode {
    ExitCode::from(super::EXIT_FAILED)
}
