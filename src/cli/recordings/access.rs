//! What the audit log needs before a recording is given out or proven at the command line: an entry for each, with what
//! for. Without a purpose, or without a log that can be written, nothing is done.

use super::found::find;
use super::{Command, Site};
use crate::audit::{Action, Outcome, Text};
use crate::base::ids::RecordingId;
use crate::config::Config;
use crate::rt::audit::Guest;

/// The log that `config` names, once it has an entry for each recording that `command` is about to give out or prove.
///
/// # Errors
/// Why that is not so, in words.
pub fn noted(command: &Command, config: &Config, site: &Site) -> Result<Guest, String> {
    let guest = match config.audit.is_some() && !matches!(command, Command::List | Command::Reindex) {
        true => Guest::open(config).map_err(unwritten)?,
        false => Guest::off(),
    };
    let (actions, purpose) = match command {
        Command::Export { recording, output, purpose, .. } => {
            let ogg = output.extension().is_some_and(|kind| kind == "ogg" || kind == "opus");
            let format = if ogg { "ogg" } else { "wav" }.into();
            (vec![Action::RecordingExported { recording: *recording, format }], purpose)
        }
        Command::Verify { recordings, stored, purpose } => {
            let ids = verified(recordings, *stored, site);
            let viewed = |recording| Action::RecordingViewed { recording, part: "verify".into() };
            (ids.into_iter().map(viewed).collect(), purpose)
        }
        Command::Search(wanted) => {
            if let Some(purpose) = &wanted.purpose {
                said(purpose)?;
            }
            return Ok(guest);
        }
        _ => return Ok(guest),
    };
    if config.audit.is_none() {
        return Ok(guest);
    }
    let purpose =
        purpose.as_deref().ok_or("--purpose TEXT is needed: an audit log is kept, and each access says what for")?;
    let purpose = said(purpose)?;
    guest.write_all(actions, Outcome::DONE, Some(purpose.as_str())).map_err(unwritten)?;
    Ok(guest)
}

fn said(purpose: &str) -> Result<Text, String> {
    let (least, most) = (Text::SAID.start(), Text::SAID.end());
    Text::said(purpose).ok_or_else(|| format!("--purpose: say what for, in {least} to {most} characters"))
}

fn unwritten(why: impl std::fmt::Display) -> String {
    format!("it cannot be written into the audit log, so it is not done: {why}")
}

/// The recordings that will be read. What is no recording is told where it is looked for.
fn verified(wanted: &[String], stored: bool, site: &Site) -> Vec<RecordingId> {
    if !wanted.iter().any(|id| id == "all") {
        return wanted.iter().filter_map(|id| id.parse().ok()).collect();
    }
    let mut found = find(site.root()).unwrap_or_default();
    if stored && let Ok(elsewhere) = super::found::elsewhere(site, &found) {
        found.extend(elsewhere);
    }
    found.into_iter().map(|found| found.recording).collect()
}
