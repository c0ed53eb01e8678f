//! `tonewall audit list`: entries that match, as a table or as they stand in the log.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::{EXIT_WHOLE, Terminal, files, load, note, read, row};
use crate::audit::Stored;
use crate::audit::verify::Report;

/// Which entries, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration that names the log.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// From this time on: the beginning of a time as entries have it, for instance `2026-11-22T14`.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time, not included.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this kind, for instance `recording-played`; a `*` at the end stands for anything.
    #[arg(long)]
    action: Option<String>,
    /// Only of this actor: a name, or a kind (`key`, `panel`, `user`, `node`, `nobody`).
    #[arg(long)]
    actor: Option<String>,
    /// Only about this: a call, recording, payment, key, trunk, … (an id or a name).
    #[arg(long)]
    object: Option<String>,
    /// Only with this result: `asked`, `done`, `refused`, `failed`.
    #[arg(long)]
    result: Option<String>,
    /// The newest so many.
    #[arg(long)]
    last: Option<usize>,
    /// As they stand in the log, one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Files of the log, or its directory; without: that of the configuration.
    #[arg(value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
}

impl Arguments {
    fn wants(&self, entry: &Stored) -> bool {
        let value = &entry.value;
        let at = value["at"].as_str().unwrap_or_default();
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let action = self.action.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(beginning) => entry.action().starts_with(beginning),
            None => entry.action() == wanted,
        });
        let actor = &value["actor"];
        let actor = self.actor.as_deref().is_none_or(|wanted| actor["name"] == wanted || actor["kind"] == wanted);
        let object = self.object.as_deref().is_none_or(|wanted| {
            value["object"].as_object().is_some_and(|fields| fields.values().any(|value| value == wanted))
        });
        self.since.as_deref().is_none_or(|since| at >= since)
            && self.until.as_deref().is_none_or(|until| at < until)
            && action
            && actor
            && object
            && is(&self.result, value["result"].as_str().unwrap_or_default())
    }
}

pub(super) fn list(arguments: &Arguments, terminal: &mut Terminal) -> Result<u8, String> {
    let config = load(arguments.config.as_deref())?;
    let files = files(&arguments.files, config.as_ref())?;
    let mut found: std::collections::VecDeque<(Stored, String)> = std::collections::VecDeque::new();
    let mut report = Report::default();
    for file in &files {
        read(file, &ProgressBar::hidden(), |_, line, whole| {
            let Some(entry) = Stored::read(line).filter(|_| whole) else { return };
            report.entries += 1;
            if arguments.wants(&entry) {
                found.push_back((entry, String::from_utf8_lossy(line).into_owned()));
                if arguments.last.is_some_and(|last| found.len() > last) {
                    found.pop_front();
                }
            }
        })?;
    }
    note(config.as_ref(), "list", &report);
    if arguments.json {
        for (_, line) in &found {
            terminal.line(line)?;
        }
        return Ok(EXIT_WHOLE);
    }
    for (entry, _) in &found {
        let [seq, at, actor, origin, action, object, result, purpose] = row(entry);
        let purpose = if purpose.is_empty() { purpose } else { format!("  for: {purpose}") };
        terminal.line(&format!("{seq:>8}  {at}  {actor} ({origin})  {action}  {result}  {object}{purpose}"))?;
    }
    Ok(EXIT_WHOLE)
}
