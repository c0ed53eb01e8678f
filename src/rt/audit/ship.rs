//! The way of checkpoints to second places. Each place has a task of its own and a queue that keeps the newest
//! checkpoints: an older one that is lost is covered by the newer ones. A place that refuses is tried again, at most a
//! minute apart; that it refuses, and that it takes them again, is an entry of the log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;

use crate::audit::note::Checkpoint;
use crate::audit::{Action, Audit, Outcome, Record};
use crate::base::locked::Locked;
use crate::config::{Method, Secret, Ship, ShipTo, WebhookUrl};
use crate::psp::{Reply, Request};
use crate::rt::client::trust;
use crate::rt::psp;
use crate::rt::vault::store::connect;

/// Checkpoints that wait for a place.
const WAITING: usize = 1_000;

/// How long a place may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest pause between tries.
const LONGEST: Duration = Duration::from_secs(60);

/// What got to a place.
#[derive(Debug)]
pub(super) struct Shipped {
    name: String,
    size: AtomicU64,
}

impl Shipped {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Entries under the newest checkpoint there.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }
}

/// Where the writer leaves checkpoints for a place.
pub struct Port(mpsc::UnboundedSender<Checkpoint>);

impl Port {
    pub(super) fn send(&self, checkpoint: Checkpoint) {
        // The task ends with the runtime; then nobody ships any more.
        let _ = self.0.send(checkpoint);
    }
}

/// A place, ready to be sent to.
enum Place {
    Directory(std::path::PathBuf),
    Url { url: WebhookUrl, token: Option<Secret>, tls: Arc<ClientConfig> },
    Bucket { store: Arc<dyn ObjectStore>, prefix: String },
}

impl Place {
    fn new(ship: &Ship) -> Result<Self, String> {
        match &ship.to {
            ShipTo::Directory(directory) => Ok(Place::Directory(directory.clone())),
            ShipTo::Bucket(bucket) => {
                let store = connect(bucket).map_err(|error| error.to_string())?;
                Ok(Place::Bucket { store, prefix: bucket.prefix.clone() })
            }
            ShipTo::Url { url, token, ca } => {
                let trusted = || trust::client(ca.as_deref(), None, true).map_err(|(_, reason)| reason);
                let tls = if url.https { trusted()? } else { nobody()? };
                Ok(Place::Url { url: url.clone(), token: token.clone(), tls })
            }
        }
    }
}

/// Trusts nobody: for addresses on this machine, which are not encrypted.
fn nobody() -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
}

fn locked(text: &str) -> Locked {
    let mut locked = Locked::with_capacity(text.len());
    locked.extend(text.as_bytes());
    locked
}

/// Looks at every file that the places name; `Err` has the place's index and what is wrong.
///
/// # Errors
/// Each place that cannot be used.
pub fn check(ships: &[Ship]) -> Result<(), Vec<(usize, String)>> {
    let wrong: Vec<_> =
        ships.iter().enumerate().filter_map(|(at, ship)| Place::new(ship).err().map(|why| (at, why))).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Starts the way to a place.
pub(super) fn start(ship: &Ship, audit: Audit) -> Result<(Port, Arc<Shipped>), String> {
    let place = Arc::new(Place::new(ship).map_err(|why| format!("[[audit.ship]] {:?}: {why}", ship.name))?);
    let shipped = Arc::new(Shipped { name: ship.name.clone(), size: AtomicU64::new(0) });
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(run(place, shipped.clone(), receiver, audit));
    Ok((Port(sender), shipped))
}

async fn run(
    place: Arc<Place>,
    shipped: Arc<Shipped>,
    mut receiver: mpsc::UnboundedReceiver<Checkpoint>,
    audit: Audit,
) {
    let mut waiting = VecDeque::new();
    let mut pause = None::<Duration>;
    loop {
        if waiting.is_empty() {
            let Some(checkpoint) = receiver.recv().await else { return };
            waiting.push_back(checkpoint);
        }
        while let Ok(checkpoint) = receiver.try_recv() {
            if waiting.len() == WAITING {
                waiting.pop_front();
            }
            waiting.push_back(checkpoint);
        }
        let Some(checkpoint) = waiting.front() else { continue };
        let name = || shipped.name.as_str().into();
        match deliver(&place, checkpoint).await {
            Ok(()) => {
                shipped.size.fetch_max(checkpoint.size, Relaxed);
                waiting.pop_front();
                if pause.take().is_some() {
                    tracing::info!(place = %shipped.name, "checkpoints of the audit log get to their second place again");
                    audit.note(Record::node(Action::ShippingResumed { place: name() }));
                }
            }
            Err(why) => {
                if pause.is_none() {
                    tracing::error!(place = %shipped.name, %why, "checkpoints of the audit log do not get to their second place");
                    let record = Record::node(Action::ShippingFailed { place: name() });
                    audit.note(record.outcome(Outcome::failed(why.as_str())));
                }
                let rest = pause.map_or(Duration::from_secs(1), |pause| (pause * 2).min(LONGEST));
                pause = Some(rest);
                tokio::time::sleep(rest).await;
            }
        }
    }
}

async fn deliver(place: &Arc<Place>, checkpoint: &Checkpoint) -> Result<(), String> {
    match &**place {
        Place::Directory(directory) => {
            let (directory, checkpoint) = (directory.clone(), checkpoint.clone());
            let written = tokio::task::spawn_blocking(move || keep(&directory, &checkpoint));
            match tokio::time::timeout(PATIENCE, written).await {
                Ok(Ok(written)) => written.map_err(|error| error.to_string()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the directory does not answer".to_owned()),
            }
        }
        Place::Bucket { store, prefix } => {
            let (log, name) = named(checkpoint);
            let key = object_store::path::Path::from(format!("{prefix}{log}/{name}"));
            let put = store.put(&key, checkpoint.print().into_bytes().into());
            match tokio::time::timeout(PATIENCE, put).await {
                Ok(put) => put.map(|_| ()).map_err(|error| error.to_string()),
                Err(_) => Err("the object store does not answer".to_owned()),
            }
        }
        Place::Url { url, token, tls } => {
            let mut headers = vec![("content-type".to_owned(), locked("text/plain; charset=utf-8"))];
            if let Some(token) = token {
                headers.push(("authorization".to_owned(), locked(&format!("Bearer {}", token.expose()))));
            }
            let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
            let request = Request {
                id: 0,
                connector: 0,
                method: Method::Post,
                https: url.https,
                host: format!("{host}:{}", url.port),
                path: url.path.clone(),
                headers,
                body: locked(&checkpoint.print()),
                timeout: PATIENCE,
            };
            match psp::client::send(request, tls.clone()).await {
                Reply::Answer { status: 200..=299, .. } => Ok(()),
                Reply::Answer { status, .. } => Err(format!("it answers {status}")),
                Reply::NotSent => Err("no trusted connection to it".to_owned()),
                Reply::Lost => Err("it does not answer".to_owned()),
            }
        }
    }
}

/// What a checkpoint is called: the log's name, and within it the entries it covers and what they come to, so that another
/// log of the same length does not take its place.
fn named(checkpoint: &Checkpoint) -> (String, String) {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let log = checkpoint.origin.chars().map(fine).collect();
    (log, format!("{:012}-{}.note", checkpoint.size, hex::encode(&checkpoint.root[..4])))
}

/// Writes a checkpoint to `<directory>/<log>/<entries>-<root>.note`. It appears whole or not at all.
fn keep(directory: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let (log, name) = named(checkpoint);
    let directory = directory.join(log);
    std::fs::create_dir_all(&directory)?;
    let new = directory.join(format!(".{name}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(checkpoint.print().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, directory.join(name))?;
    std::fs::File::open(&directory)?.sync_all()
}
