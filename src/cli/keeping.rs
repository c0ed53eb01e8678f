//! `tonewall recordings hold, release, label, destroy, rewrap, fetch, tidy`: what is done with recordings after they are
//! closed. Each change is written to the audit log the configuration names; where that cannot be written, nothing is done.

use std::io;
use std::sync::Arc;

use clap::Subcommand;

use super::recordings::{EXIT_FAULT, EXIT_INTACT, Terminal};
use crate::audit::{Action, Audit, Outcome};
use crate::base::ids::RecordingId;
use crate::config::Config;
use crate::record::catalogue::{Entry, Query};
use crate::rt::audit::Guest;
use crate::rt::keys::Keys;
use crate::rt::vault::files::Changed;
use crate::rt::vault::{Vault, VaultError};

/// Exit status: it was refused, for it is held, read or written.
pub const EXIT_REFUSED: u8 = 6;

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Put a recording under legal hold: neither its deadline nor anybody destroys it.
    Hold {
        /// Recording.
        recording: RecordingId,
        /// Why; kept with it and in the audit log.
        #[arg(long)]
        why: String,
    },
    /// Lift the legal hold of a recording.
    Release {
        /// Recording.
        recording: RecordingId,
        /// Why; kept in the audit log.
        #[arg(long)]
        why: String,
    },
    /// Set labels (`key=value`) or remove them (`key=`).
    Label {
        /// Recording.
        recording: RecordingId,
        /// Labels.
        #[arg(required = true, value_name = "KEY=VALUE")]
        labels: Vec<String>,
    },
    /// Destroy a recording for good: its wrapped key is overwritten, here and in the object store, and opening it is seen to
    /// fail. Exit status 6 while it is held, read or written.
    Destroy {
        /// Recording.
        recording: RecordingId,
        /// Why; kept as its tombstone and in the audit log.
        #[arg(long)]
        why: String,
    },
    /// Put every recording under the current key: its header only. With `--reencrypt`, for a key that somebody else may
    /// have, everything is encrypted anew under new data keys.
    Rewrap {
        /// Encrypt anew.
        #[arg(long)]
        reencrypt: bool,
        /// With `--reencrypt`: only recordings that are under this key.
        #[arg(long, value_name = "KEY ID")]
        from: Option<String>,
    },
    /// Bring a recording back that is in the object store only.
    Fetch {
        /// Recording.
        recording: RecordingId,
    },
    /// Do once what a node does all the time: destroy what is past its deadline, rewrap, copy to the object store.
    Tidy,
}

/// Does `command`. Gives the exit status.
pub fn run(command: &Command, config: &Config, keys: Arc<Keys>, terminal: &mut Terminal<'_>) -> u8 {
    let opened = crate::rt::random().map_err(|error| error.to_string()).and_then(|random| {
        let vault = Vault::of(&config.storage, keys, random).map_err(|error| error.to_string())?;
        let guest = Guest::open(config).map_err(|error| error.to_string())?;
        Ok((vault, guest))
    });
    let (vault, mut guest) = match opened {
        Ok(opened) => opened,
        Err(why) => {
            let _ = writeln!(terminal.err, "error: {why}");
            return EXIT_FAULT;
        }
    };
    let done = carry_out(command, &vault, &mut guest, terminal);
    guest.finish();
    match done {
        Ok(status) => status,
        Err(error) => {
            // A standard error that is closed leaves only the exit status.
            let _ = writeln!(terminal.err, "error: {error}");
            match error {
                VaultError::Busy(_) | VaultError::Catalogue(crate::rt::catalogue::CatalogueError::Refused { .. }) => {
                    EXIT_REFUSED
                }
                _ => EXIT_FAULT,
            }
        }
    }
}

fn carry_out(
    command: &Command,
    vault: &Vault,
    guest: &mut Guest,
    terminal: &mut Terminal<'_>,
) -> Result<u8, VaultError> {
    let catalogue = vault.catalogue();
    let mut write = |action: Action, why: &str| guest.write(action, Outcome::DONE, Some(why));
    match command {
        Command::Hold { recording, why } => {
            let entry = catalogue.hold(*recording, "command line", why)?;
            write(Action::LegalHold { recording: *recording, on: true, name: None }, why)?;
            say(terminal, &entry, "is held")?;
        }
        Command::Release { recording, why } => {
            // Written before: a hold that goes without a trace would be worse than one that stays.
            write(Action::LegalHold { recording: *recording, on: false, name: None }, why)?;
            let entry = catalogue.release(*recording)?;
            say(terminal, &entry, "is not held any more")?;
        }
        Command::Label { recording, labels } => {
            let parse = |text: &String| match text.split_once('=') {
                Some((key, "")) => Ok((key.to_owned(), None)),
                Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
                None => Err(io::Error::other(format!("{text:?} is no label, such as team=north"))),
            };
            let labels = labels.iter().map(parse).collect::<io::Result<Vec<_>>>()?;
            let entry = catalogue.label(*recording, &labels)?;
            let names = entry.labels.iter().map(|(key, value)| format!("{key}={value}").into()).collect();
            write(Action::RecordingLabelled { recording: *recording, labels: names }, "")?;
            say(terminal, &entry, "has its labels")?;
        }
        Command::Destroy { recording, why } => {
            let destroyed = vault.destroy(*recording, "command line", why)?;
            let proof = Some(destroyed.proof.as_str().into());
            write(Action::RecordingDestroyed { recording: *recording, reason: why.as_str().into(), proof }, why)?;
            writeln!(terminal.out, "{recording} is destroyed: {}", destroyed.proof)?;
        }
        Command::Fetch { recording } => {
            let entry = vault.fetch(*recording)?;
            say(terminal, &entry, "is here")?;
        }
        Command::Rewrap { reencrypt, from } => return rewrap(vault, guest, *reencrypt, from.as_deref(), terminal),
        Command::Tidy => {
            let done = vault.round(&Audit::off());
            writeln!(
                terminal.out,
                "{} destroyed by their deadline, {} wiped, {} rewrapped, {} stored, {} copies removed; {} still in use",
                done.expired, done.wiped, done.rewrapped, done.stored, done.dropped, done.waiting
            )?;
            for why in &done.failed {
                writeln!(terminal.err, "error: {why}")?;
            }
            for (action, count) in [("destroyed by their deadline", done.expired), ("rewrapped", done.rewrapped)] {
                if count > 0 {
                    write(Action::Other { what: format!("{count} recordings {action}").as_str().into() }, "")?;
                }
            }
            return Ok(if done.failed.is_empty() { EXIT_INTACT } else { EXIT_FAULT });
        }
    }
    Ok(EXIT_INTACT)
}

fn rewrap(
    vault: &Vault,
    guest: &mut Guest,
    reencrypt: bool,
    from: Option<&str>,
    terminal: &mut Terminal<'_>,
) -> Result<u8, VaultError> {
    let to = vault.keys().current()?.id().to_owned();
    let mut query = Query { other_kek: (!reencrypt).then(|| to.clone()), ..Query::default() };
    query.kek_id = from.map(str::to_owned);
    let mut wanted = Vec::new();
    vault.catalogue().for_each(query, &mut |entry| {
        wanted.push(entry.recording);
        Ok(())
    })?;
    let (mut done, mut busy, mut failed) = (0u64, 0u64, 0u64);
    let bar = match terminal.progress {
        true => indicatif::ProgressBar::new(wanted.len() as u64),
        false => indicatif::ProgressBar::hidden(),
    };
    for recording in bar.wrap_iter(wanted.into_iter()) {
        let changed = if reencrypt { vault.reencrypt(recording) } else { vault.rewrap(recording) };
        match changed {
            Ok(Changed::Done | Changed::Already) => done += 1,
            Ok(Changed::Busy) => busy += 1,
            Err(error) => {
                failed += 1;
                bar.suspend(|| writeln!(terminal.err, "error: {recording}: {error}"))?;
            }
        }
    }
    bar.finish_and_clear();
    if done > 0 {
        let action = Action::KeysRotated { from: from.map(Into::into), to: to.as_str().into(), recordings: done };
        guest.write(action, Outcome::DONE, reencrypt.then_some("encrypted anew"))?;
    }
    let how = if reencrypt { "encrypted anew" } else { "rewrapped" };
    writeln!(terminal.out, "{done} recordings {how} under {to:?}; {busy} are being written or read; {failed} failed")?;
    Ok(if failed > 0 {
        EXIT_FAULT
    } else if busy > 0 {
        EXIT_REFUSED
    } else {
        EXIT_INTACT
    })
}

fn say(terminal: &mut Terminal<'_>, entry: &Entry, what: &str) -> io::Result<()> {
    let until = entry.keep_until_ms.map_or_else(|| "for good".to_owned(), |at| format!("until {}", at.rfc3339()));
    writeln!(terminal.out, "{} {what}; kept {until}", entry.recording)
}
