//! `tonewall recordings hold, release, label, destroy, rewrap, fetch, tidy`: what is done with recordings after they are
//! closed. Each change stands in the audit log that the configuration names before it is made, and what came of it after;
//! where the first cannot be written, nothing is done.

use std::io;
use std::sync::Arc;

use clap::Subcommand;

use super::recordings::{EXIT_FAULT, EXIT_INTACT, Terminal};
use crate::audit::{Action, Outcome};
use crate::base::ids::RecordingId;
use crate::config::Config;
use crate::record::catalogue::{Entry, Query};
use crate::record::sealed::peek;
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
pub fn run(command: &Command, config: &Config, keys: Arc<Keys>, guest: &Guest, terminal: &mut Terminal<'_>) -> u8 {
    let opened = crate::rt::random().map_err(|error| error.to_string());
    let opened = opened.and_then(|random| Vault::of(&config.storage, keys, random).map_err(|error| error.to_string()));
    let vault = match opened {
        Ok(vault) => vault,
        Err(why) => {
            let _ = writeln!(terminal.err, "error: {why}");
            return EXIT_FAULT;
        }
    };
    match carry_out(command, &vault, guest, terminal) {
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

/// Does what `act` does between two entries of the log: that it is about to be done, and what came of it. `after` puts what
/// was seen into the second.
fn noted<T>(
    guest: &Guest,
    mut action: Action,
    why: &str,
    act: impl FnOnce() -> Result<T, VaultError>,
    after: impl FnOnce(&mut Action, &T),
) -> Result<T, VaultError> {
    let why = (!why.is_empty()).then_some(why);
    let unwritten = |what: &str, error| io::Error::other(format!("the audit log cannot be written, {what}: {error}"));
    guest.write(action.clone(), Outcome::ASKED, why).map_err(|error| unwritten("so this is not done", error))?;
    let done = act();
    let outcome = match &done {
        Ok(done) => {
            after(&mut action, done);
            Outcome::DONE
        }
        Err(error) => Outcome::failed(error.to_string()),
    };
    let written = guest.write(action, outcome, why);
    let done = done?;
    written.map_err(|error| unwritten("but this is done", error))?;
    Ok(done)
}

fn carry_out(command: &Command, vault: &Vault, guest: &Guest, terminal: &mut Terminal<'_>) -> Result<u8, VaultError> {
    let catalogue = vault.catalogue();
    match command {
        Command::Hold { recording, why } => {
            let action = Action::LegalHold { recording: *recording, on: true, name: None };
            let hold = || Ok(catalogue.hold(*recording, "command line", why)?);
            let entry = noted(guest, action, why, hold, |_, _| ())?;
            say(terminal, &entry, "is held")?;
        }
        Command::Release { recording, why } => {
            let action = Action::LegalHold { recording: *recording, on: false, name: None };
            let entry = noted(guest, action, why, || Ok(catalogue.release(*recording)?), |_, _| ())?;
            say(terminal, &entry, "is not held any more")?;
        }
        Command::Label { recording, labels } => {
            let parse = |text: &String| match text.split_once('=') {
                Some((key, "")) => Ok((key.to_owned(), None)),
                Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
                None => Err(io::Error::other(format!("{text:?} is no label, such as team=north"))),
            };
            let labels = labels.iter().map(parse).collect::<io::Result<Vec<_>>>()?;
            // Names, as the API notes them: values may be of people.
            let names = labels.iter().map(|(key, _)| key.as_str().into()).collect();
            let action = Action::RecordingLabelled { recording: *recording, labels: names };
            let entry = noted(guest, action, "", || Ok(catalogue.label(*recording, &labels)?), |_, _| ())?;
            say(terminal, &entry, "has its labels")?;
        }
        Command::Destroy { recording, why } => {
            let reason = why.as_str().into();
            let action = Action::RecordingDestroyed { recording: *recording, reason, proof: None };
            let destroy = || vault.destroy(*recording, "command line", why);
            let destroyed = noted(guest, action, why, destroy, |action, destroyed| {
                if let Action::RecordingDestroyed { proof, .. } = action {
                    *proof = Some(Box::new(destroyed.proof.clone()));
                }
            })?;
            writeln!(terminal.out, "{recording} is destroyed: {}", destroyed.proof)?;
        }
        Command::Fetch { recording } => {
            let action = Action::RecordingViewed { recording: *recording, part: "fetch".into() };
            let entry = noted(guest, action, "", || vault.fetch(*recording), |_, _| ())?;
            say(terminal, &entry, "is here")?;
        }
        Command::Rewrap { reencrypt, from } => return rewrap(vault, guest, *reencrypt, from.as_deref(), terminal),
        Command::Tidy => {
            let done = vault.round(&guest.audit());
            writeln!(
                terminal.out,
                "{} destroyed by their deadline, {} wiped, {} rewrapped, {} stored, {} copies removed; {} still in use",
                done.expired, done.wiped, done.rewrapped, done.stored, done.dropped, done.waiting
            )?;
            for why in &done.failed {
                writeln!(terminal.err, "error: {why}")?;
            }
            return Ok(if done.failed.is_empty() { EXIT_INTACT } else { EXIT_FAULT });
        }
    }
    Ok(EXIT_INTACT)
}

fn rewrap(
    vault: &Vault,
    guest: &Guest,
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
    let how = reencrypt.then_some("encrypted anew");
    let rotated = |recordings| Action::KeysRotated { from: from.map(Into::into), to: to.as_str().into(), recordings };
    if !wanted.is_empty() {
        guest.write(rotated(wanted.len() as u64), Outcome::ASKED, how)?;
    }
    let bar = match terminal.progress {
        true => indicatif::ProgressBar::new(wanted.len() as u64),
        false => indicatif::ProgressBar::hidden(),
    };
    for recording in bar.wrap_iter(wanted.into_iter()) {
        let changed = if reencrypt { vault.reencrypt(recording) } else { vault.rewrap(recording) };
        match changed {
            Ok(Changed::Done | Changed::Already) => {
                done += 1;
                if reencrypt && let Some(sealed) = resealed(vault, recording) {
                    guest.write(sealed, Outcome::DONE, how)?;
                }
            }
            Ok(Changed::Busy) => busy += 1,
            Err(error) => {
                failed += 1;
                bar.suspend(|| writeln!(terminal.err, "error: {recording}: {error}"))?;
            }
        }
    }
    bar.finish_and_clear();
    if done > 0 {
        guest.write(rotated(done), Outcome::DONE, how)?;
    }
    let how = how.unwrap_or("rewrapped");
    writeln!(terminal.out, "{done} recordings {how} under {to:?}; {busy} are being written or read; {failed} failed")?;
    Ok(if failed > 0 {
        EXIT_FAULT
    } else if busy > 0 {
        EXIT_REFUSED
    } else {
        EXIT_INTACT
    })
}

/// What the log is to know of a closed recording that has another data key now; nothing of one that was interrupted.
fn resealed(vault: &Vault, recording: RecordingId) -> Option<Action> {
    let mut reading = vault.open(recording).ok()?;
    let (seal, bytes) = (reading.seal.take()?, reading.bytes().ok()?);
    let report = peek(&mut reading, Some(&seal), &vault.keys().ring()).ok()?;
    let (chunks, hash) = (report.seal?.chunks, report.header?.hash);
    let header = Some(hex::encode(hash).into());
    Some(Action::RecordingSealed {
        recording,
        call: reading.entry.call,
        chunks: Some(chunks),
        bytes: Some(bytes),
        header,
    })
}

fn say(terminal: &mut Terminal<'_>, entry: &Entry, what: &str) -> io::Result<()> {
    let until = entry.keep_until_ms.map_or_else(|| "for good".to_owned(), |at| format!("until {}", at.rfc3339()));
    writeln!(terminal.out, "{} {what}; kept {until}", entry.recording)
}
