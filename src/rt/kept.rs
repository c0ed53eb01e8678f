//! What is kept of recordings, at the start of a node: the vault with its catalogue, brought up to date beside
//! the calls, and the self-audit that hears what an earlier run left. Configuration and keys go in; both come out, running.

use std::sync::Arc;

use super::keys::Keys;
use super::node::StartError;
use super::recorder::wall;
use super::rescan::{Outcome, Rescan};
use super::vault::Vault;
use crate::base::ids::RecordingId;
use crate::config::Config;
use crate::control::history::History;
use crate::obs::event::EventKind;
use crate::record::catalogue::AuditVerdict;
use crate::record::keys::KeyRing;

/// The vault of recordings, its catalogue brought up to date with what an earlier run left, and their self-audit, if a trunk of
/// `config` records. `clean` hears of each recording whose self-audit found nothing.
pub(super) fn open(
    config: &Config,
    keys: &Arc<Keys>,
    history: &Arc<History>,
    clean: impl Fn(RecordingId) + Send + 'static,
) -> Result<Option<(Arc<Vault>, Rescan)>, StartError> {
    if !config.seals() {
        return Ok(None);
    }
    let random = super::random().map_err(|error| StartError::Random(error.to_string()))?;
    let vault = Arc::new(Vault::of(&config.storage, keys.clone(), random)?);
    let catalogue = vault.catalogue().clone();
    let (live, history) = (keys.clone(), history.clone());
    let told = move |outcome: &Outcome| {
        tell(&history, outcome);
        if outcome.verdict == AuditVerdict::Clean {
            clean(outcome.recording);
        }
    };
    let ring = Arc::new(move || KeyRing::clone(&live.ring()));
    let rescan = Rescan::start(catalogue.clone(), ring, told).map_err(StartError::Media)?;
    let (kept, keys, desk) = (catalogue.clone(), keys.ring(), rescan.desk());
    // Beside the calls: a long look through many files must not keep a node from taking them.
    std::thread::Builder::new()
        .name("recover".into())
        .spawn(move || {
            match kept.recover(&keys) {
                Ok(done) => {
                    tracing::info!(
                        found = done.found,
                        added = done.added,
                        removed = done.removed,
                        "recordings catalogued"
                    )
                }
                Err(error) => tracing::error!(%error, "the catalogue of recordings cannot be brought up to date"),
            }
            desk.missed();
        })
        .map_err(StartError::Media)?;
    Ok(Some((vault, rescan)))
}

/// Passes a self-audit's outcome on.
fn tell(history: &History, outcome: &Outcome) {
    let Outcome { recording, call, verdict, detail } = outcome;
    match verdict {
        AuditVerdict::Clean => tracing::debug!(%recording, detail, "self-audit"),
        AuditVerdict::Failed => {
            tracing::error!(%recording, detail, "a recording cannot be heard again; it is withheld")
        }
        AuditVerdict::Hit => {
            tracing::error!(%recording, detail, "a recording is quarantined: its self-audit found what may be a digit");
            let kind = EventKind::RecordingQuarantined { recording: *recording, reason: detail.clone() };
            history.publish(wall(), *call, kind);
        }
    }
}
