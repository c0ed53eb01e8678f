//! The shell of webhooks: a task that reads the event log, keeps on disk what is not delivered, and makes the tries that
//! [`Schedule`] wants: each letter is written before its first try. It decides nothing itself.

mod post;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::task::{JoinHandle, JoinSet};

use super::client::trust;
use super::recorder::wall;
use super::sip::tls::FileFault;
use crate::base::Random;
use crate::config::{Webhook, Webhooks as Settings};
use crate::control::history::{History, Read};
use crate::control::webhooks::{Keep, Letter, Result as Outcome, Schedule, Webhooks};
use crate::obs::metrics::Metrics;
use post::Target;

/// How long tries under way may take when the node ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What webhooks could not be started with.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The directory of letters.
    #[error("[webhooks] directory {}: {error}", directory.display())]
    Directory {
        /// Directory.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file of an endpoint.
    #[error("{}: {}", .0.key, .0.reason)]
    File(FileFault),
}

/// Looks at every file that the endpoints name.
///
/// # Errors
/// Each file that cannot be used.
pub fn check(settings: &Settings) -> Result<(), Vec<FileFault>> {
    let faults: Vec<FileFault> =
        settings.endpoints.iter().enumerate().filter_map(|(at, hook)| tls(at, hook).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// The schedule of a node, with the letters that an earlier run left. Nobody is sent to before [`start`].
pub fn load(settings: &Settings, random: Random) -> Result<Arc<Webhooks>, WebhookError> {
    let mut schedule = Schedule::new(&settings.endpoints, random);
    if !settings.endpoints.is_empty() {
        let directory = &settings.directory;
        let fault = |error| WebhookError::Directory { directory: directory.clone(), error };
        std::fs::create_dir_all(directory).map_err(fault)?;
        for letter in letters(directory).map_err(fault)? {
            schedule.restore(Instant::now(), letter);
        }
    }
    Ok(Arc::new(Webhooks::new(schedule)))
}

/// Letters on disk, in the order in which their events happened. What is none is left alone.
fn letters(directory: &Path) -> io::Result<Vec<Letter>> {
    let mut letters = Vec::new();
    for file in std::fs::read_dir(directory)? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match serde_json::from_slice::<Letter>(&std::fs::read(&path)?) {
            Ok(letter) => letters.push(letter),
            Err(error) => tracing::warn!(file = %path.display(), %error, "not a letter of a webhook; left alone"),
        }
    }
    letters.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
    Ok(letters)
}

/// Starts sending; ends when the event log does, after a last try of what is under way. `own` are this node's addresses.
pub fn start(
    settings: &Settings,
    webhooks: Arc<Webhooks>,
    history: &Arc<History>,
    metrics: Arc<Metrics>,
    own: &[IpAddr],
) -> Result<JoinHandle<()>, WebhookError> {
    let own: Arc<[IpAddr]> = own.into();
    let target = |(at, hook): (usize, &Webhook)| {
        let tls = tls(at, hook).map_err(WebhookError::File)?;
        Ok(Arc::new(Target { hook: hook.clone(), tls, own: own.clone() }))
    };
    let targets = settings.endpoints.iter().enumerate().map(target).collect::<Result<Vec<_>, WebhookError>>()?;
    let reader = history.read(None, None);
    let postman =
        Postman { webhooks, targets, directory: settings.directory.clone(), metrics, under_way: JoinSet::new() };
    Ok(tokio::spawn(postman.run(reader)))
}

struct Postman {
    webhooks: Arc<Webhooks>,
    targets: Vec<Arc<Target>>,
    directory: PathBuf,
    metrics: Arc<Metrics>,
    under_way: JoinSet<(u64, usize, Outcome)>,
}

impl Postman {
    async fn run(mut self, mut reader: crate::control::history::Reader) {
        if self.targets.is_empty() {
            return;
        }
        loop {
            self.keep().await;
            self.send();
            let due = self.webhooks.schedule().poll_timeout();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reader.next() => match read {
                    Some(Read::Event(id, event)) => {
                        self.webhooks.schedule().handle_event(Instant::now(), &id, &event);
                    }
                    Some(Read::Missed(count)) => {
                        tracing::error!(count, "webhooks could not keep up with the events; some are not told");
                    }
                    None => break,
                },
                Some(done) = self.under_way.join_next() => self.done(done),
                () = self.webhooks.woken() => {}
                () = timer => {}
            }
        }
        self.send();
        let last = async {
            while let Some(done) = self.under_way.join_next().await {
                Self::settle(&self.webhooks, &self.metrics, &self.targets, done);
            }
        };
        let _ = tokio::time::timeout(FAREWELL, last).await;
        self.webhooks.schedule().close();
        self.keep().await;
    }

    /// Starts every try that is due.
    fn send(&mut self) {
        let now = Instant::now();
        while let Some(letter) = { self.webhooks.schedule().poll_try(now, wall()) } {
            let Some(target) = self.targets.get(letter.endpoint).cloned() else { continue };
            self.under_way.spawn(async move {
                let outcome = post::post(&target, &letter).await;
                (letter.ticket, letter.endpoint, outcome)
            });
        }
    }

    fn done(&mut self, done: Result<(u64, usize, Outcome), tokio::task::JoinError>) {
        Self::settle(&self.webhooks, &self.metrics, &self.targets, done);
    }

    fn settle(
        webhooks: &Webhooks,
        metrics: &Metrics,
        targets: &[Arc<Target>],
        done: Result<(u64, usize, Outcome), tokio::task::JoinError>,
    ) {
        let Ok((ticket, endpoint, outcome)) = done else { return };
        let name = targets.get(endpoint).map_or("", |target| target.hook.name.as_str());
        metrics.webhook(name, outcome == Outcome::Delivered);
        if let Outcome::Failed(why, _) = outcome {
            tracing::warn!(webhook = name, ?why, "a webhook was not taken");
        }
        webhooks.schedule().handle_result(Instant::now(), ticket, outcome);
    }

    /// Carries out the orders for the disk.
    async fn keep(&mut self) {
        while let Some(keep) = { self.webhooks.schedule().poll_keep() } {
            let kept = match &keep {
                Keep::Write(letter) => self.write(letter).await,
                Keep::Remove(name) => tokio::fs::remove_file(self.directory.join(format!("{name}.json"))).await,
            };
            if let Err(error) = kept {
                tracing::error!(directory = %self.directory.display(), %error, "a letter of a webhook cannot be kept");
            }
        }
    }

    /// Writes a letter beside its place, then puts it there: a crash leaves the old one or the new one.
    async fn write(&self, letter: &Letter) -> io::Result<()> {
        let name = letter.name();
        let (beside, place) = (self.directory.join(format!("{name}.tmp")), self.directory.join(format!("{name}.json")));
        let text = serde_json::to_vec(letter).map_err(io::Error::other)?;
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside).await?;
        tokio::io::AsyncWriteExt::write_all(&mut file, &text).await?;
        // A process that is killed loses nothing it has written. Power that fails may take what was never tried.
        if letter.tries > 0 {
            file.sync_all().await?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await?;
        tokio::fs::rename(beside, place).await
    }
}

/// What connections to the endpoint at place `at` start from; `None`: it is not encrypted.
fn tls(at: usize, hook: &Webhook) -> Result<Option<Arc<ClientConfig>>, FileFault> {
    if !hook.url.https {
        return Ok(None);
    }
    let fault = |(key, reason)| FileFault { key: format!("webhooks.endpoint[{at}].{key}"), reason };
    trust::client(hook.ca.as_deref(), None, true).map(Some).map_err(fault)
}
