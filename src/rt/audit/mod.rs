//! The audit log on a machine: a thread that writes it, so that nobody who notes something ever waits for the disk; the
//! way of its checkpoints to a second place; its keys. What cannot be written is kept for a while and tried again each
//! second; meanwhile the log says that it is not writable, and nothing that needs an entry is done.
//!
//! ```text
//!  note ──┐ never waits
//!         ├─► queue ─► writer: Repeats ─► Book (append, fdatasync) ─► confirmed
//!  confirm┘            │  each N entries or T: sign ─► checkpoints ─► ship ─► directory │ URL
//!                      └─ cannot write: backlog, once a second again; captures are refused
//! ```

pub mod book;
pub mod keys;
mod ship;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::recorder::wall;
use crate::audit::inventory::Inventory;
use crate::audit::{Action, Audit, Origin, Outcome, Record, Sink, Text, Thing, Unwritable, Who};
use crate::base::time::WallMs;
use crate::config;
use crate::obs::metrics::AuditTotals;
use book::{Book, Writer};

pub use ship::{Port, check};

/// Records waiting to be written; more are lost, and the log says so.
const QUEUE: usize = 16_384;

/// What the configuration in force holds, for the differences to the next one.
const INVENTORY: &str = "configuration.json";

/// How long the writer may take to write what is queued at the end.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the log cannot be started with.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The signing key.
    #[error("[audit] key: {0}")]
    Key(String),
    /// The directory.
    #[error("[audit] directory {}: {error}", directory.display())]
    Directory {
        /// Directory.
        directory: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A second place.
    #[error("{0}")]
    Ship(String),
}

/// What the writer shows.
#[derive(Debug, Default)]
struct Shown {
    unwritable: AtomicBool,
    entries: AtomicU64,
    signed: AtomicU64,
    signed_at: AtomicU64,
    lost: AtomicU64,
}

type Done = oneshot::Sender<Result<(), Unwritable>>;

enum Item {
    Note(WallMs, Box<Record>, Option<Done>),
    Stop,
}

struct Door {
    queue: SyncSender<Item>,
    shown: Arc<Shown>,
}

impl Door {
    fn put(&self, record: Record, done: Option<Done>) {
        match self.queue.try_send(Item::Note(wall(), Box::new(record), done)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                // Whoever waits hears it by the closed channel.
                self.shown.lost.fetch_add(1, Relaxed);
                self.shown.unwritable.store(true, Relaxed);
            }
        }
    }
}

impl Sink for Door {
    fn note(&self, record: Record) {
        self.put(record, None);
    }

    fn confirm(&self, record: Record) -> BoxFuture<'static, Result<(), Unwritable>> {
        let (done, answer) = oneshot::channel();
        self.put(record, Some(done));
        Box::pin(async move { answer.await.unwrap_or(Err(Unwritable)) })
    }

    fn writable(&self) -> bool {
        !self.shown.unwritable.load(Relaxed)
    }
}

/// The log of a running node.
pub struct Log {
    audit: Audit,
    shown: Arc<Shown>,
    shipped: Vec<Arc<ship::Shipped>>,
    queue: SyncSender<Item>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Starts the log that `settings` name for the node `node`. Must be called inside a tokio runtime, which the ways to
    /// second places run in. A disk that cannot be written now is no error: the log tries again, and is not writable
    /// until it can; `changed` is told each time that turns.
    ///
    /// # Errors
    /// When the key or a second place cannot be used, or another node writes this log.
    pub fn start(
        settings: &config::Audit,
        node: &str,
        changed: impl Fn(bool) + Send + 'static,
    ) -> Result<Self, AuditError> {
        let signer = keys::load(&settings.key).map_err(AuditError::Key)?;
        let directory = settings.directory.clone();
        let book = match Book::open(&directory, node, Writer::Node, settings.file_bytes) {
            Ok(book) => Ok(book),
            Err(error) if error.kind() == std::io::ErrorKind::Other => {
                return Err(AuditError::Directory { directory, error });
            }
            Err(error) => Err(error),
        };
        let shown = Arc::new(Shown::default());
        let (queue, items) = sync_channel(QUEUE);
        let audit = Audit::new(Arc::new(Door { queue: queue.clone(), shown: shown.clone() }));
        let mut ports = Vec::new();
        let mut shipped = Vec::new();
        for ship in &settings.ships {
            let (port, counts) = ship::start(ship, audit.clone()).map_err(AuditError::Ship)?;
            ports.push(port);
            shipped.push(counts);
        }
        let started =
            Action::LogStarted { version: env!("CARGO_PKG_VERSION").into(), key: signer.verifier().id().into() };
        let writer = writer::Thread {
            settings: settings.clone(),
            node: node.to_owned(),
            signer,
            book,
            items,
            ports,
            shown: shown.clone(),
            changed: Box::new(changed),
        };
        audit.note(Record::node(started));
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run())
            .map_err(|error| AuditError::Directory { directory, error })?;
        Ok(Self { audit, shown, shipped, queue, thread: Some(thread) })
    }

    /// A way into it.
    pub fn audit(&self) -> Audit {
        self.audit.clone()
    }

    /// What metrics show of it.
    pub fn totals(&self) -> Counts {
        Counts { shown: self.shown.clone(), shipped: self.shipped.clone() }
    }

    /// Writes what is queued, signs it, and ends. Blocks for some seconds at most.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.audit.note(Record::node(Action::LogStopped));
        let _ = self.queue.send(Item::Stop);
        let begun = std::time::Instant::now();
        while !thread.is_finished() && begun.elapsed() < FAREWELL {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else {
            tracing::error!("the audit log does not end; its last entries may be missing");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}

/// What metrics show of the log.
#[derive(Clone)]
pub struct Counts {
    shown: Arc<Shown>,
    shipped: Vec<Arc<ship::Shipped>>,
}

impl Counts {
    /// Now.
    pub fn totals(&self) -> AuditTotals {
        AuditTotals {
            writable: !self.shown.unwritable.load(Relaxed),
            entries: self.shown.entries.load(Relaxed),
            signed: self.shown.signed.load(Relaxed),
            signed_at_s: self.shown.signed_at.load(Relaxed) / 1_000,
            lost: self.shown.lost.load(Relaxed),
            shipped: self.shipped.iter().map(|place| (place.name().to_owned(), place.size())).collect(),
        }
    }
}

/// Notes that `config` was put in force: its hash, and what came, changed and went since the configuration before it,
/// whose inventory lies beside the log.
pub fn configured(audit: &Audit, config: &config::Config) {
    put_in_force(audit, config, |now, _| now);
}

/// Notes that a running node has read `config` again: its hash, and what of its connectors came, changed and went. What else
/// is another is in force, and noted, after the next start.
pub fn reloaded(audit: &Audit, config: &config::Config) {
    put_in_force(audit, config, |now, before| now.only(Thing::Connector, before));
}

/// The hash of a file that was refused as a configuration, if it can be read.
pub fn hash_of(file: &Path) -> Option<Text> {
    Some(hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(file).ok()?)).into())
}

/// `in_force`: of the things of the configuration and of those before, which are in force now.
fn put_in_force(audit: &Audit, config: &config::Config, in_force: impl Fn(Inventory, &Inventory) -> Inventory) {
    let Some(settings) = &config.audit else { return };
    let path = settings.directory.join(INVENTORY);
    let before = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Inventory>(&bytes).ok());
    let now = in_force(Inventory::of(config), before.as_ref().unwrap_or(&Inventory::default()));
    let loaded = Action::ConfigurationLoaded {
        configuration: now.configuration.as_str().into(),
        before: before.as_ref().map(|before| before.configuration.as_str().into()),
    };
    audit.note(Record::node(loaded));
    for action in now.since(&before.unwrap_or_default()) {
        audit.note(Record::node(action));
    }
    let kept = serde_json::to_vec(&now).map_err(std::io::Error::from).and_then(|text| {
        let new = path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)
    });
    if let Err(error) = kept {
        tracing::warn!(file = %path.display(), %error, "the configuration's inventory cannot be kept for the next start");
    }
}

/// The log as a command writes it beside the node: synced before it returns. Clones write into the same one.
#[derive(Clone)]
pub struct Guest {
    book: Option<Arc<Mutex<Book>>>,
    signer: Option<Arc<crate::audit::note::Signer>>,
    who: Who,
    origin: Origin,
}

impl Guest {
    /// Opens the log that `config` names, for whoever runs this process. Without an `[audit]` section nothing is written.
    ///
    /// # Errors
    /// When it cannot be written: what needs an entry must not be done then.
    pub fn open(config: &config::Config) -> Result<Self, AuditError> {
        let Some(audit) = &config.audit else { return Ok(Self::off()) };
        let book = Book::open(&audit.directory, &config.node.name, Writer::Guest, audit.file_bytes)
            .map_err(|error| AuditError::Directory { directory: audit.directory.clone(), error })?;
        // Who may not read the key leaves the signing to the node.
        let signer = keys::load(&audit.key).ok().map(Arc::new);
        Ok(Self { book: Some(Arc::new(Mutex::new(book))), signer, ..Self::off() })
    }

    /// A log that is not kept.
    pub fn off() -> Self {
        Self { book: None, signer: None, who: user(), origin: host() }
    }

    /// Writes what is about to be done, or what came of it; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it is not. What was about to be done must not be done.
    pub fn write(&self, action: Action, outcome: Outcome, purpose: Option<&str>) -> std::io::Result<()> {
        self.write_all([action], outcome, purpose)
    }

    /// Writes several of the same kind, all or none.
    ///
    /// # Errors
    /// As [`Guest::write`].
    pub fn write_all(
        &self,
        actions: impl IntoIterator<Item = Action>,
        outcome: Outcome,
        purpose: Option<&str>,
    ) -> std::io::Result<()> {
        let record = |action| {
            let mut record = Record::new(self.who.clone(), self.origin.clone(), action).outcome(outcome.clone());
            record.purpose = purpose.map(Into::into);
            record
        };
        self.append(actions.into_iter().map(record).collect())
    }

    fn append(&self, records: Vec<Record>) -> std::io::Result<()> {
        let Some(book) = &self.book else { return Ok(()) };
        let now = wall();
        let records: Vec<_> = records.into_iter().map(|record| (now, record)).collect();
        book.lock().unwrap_or_else(PoisonError::into_inner).append(&records, true)
    }

    /// The log for what notes things by itself: what it does is done by whoever runs this process.
    pub fn audit(&self) -> Audit {
        if self.book.is_some() { Audit::new(Arc::new(Errand(self.clone()))) } else { Audit::off() }
    }

    /// Signs what was written, if the key may be read and no node will do it. Failing to is no harm: the node does it.
    pub fn finish(self) {
        if let (Some(book), Some(signer)) = (&self.book, &self.signer)
            && let Err(error) = book.lock().unwrap_or_else(PoisonError::into_inner).checkpoint(signer, wall())
        {
            tracing::warn!(%error, "no checkpoint of the audit log was signed");
        }
    }
}

/// What a command has done for it.
struct Errand(Guest);

impl Errand {
    fn write(&self, mut record: Record) -> Result<(), Unwritable> {
        if record.actor == Who::Node {
            (record.actor, record.origin) = (self.0.who.clone(), self.0.origin.clone());
        }
        self.0.append(vec![record]).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written");
            Unwritable
        })
    }
}

impl Sink for Errand {
    fn note(&self, record: Record) {
        // It is told; who needs the entry asks with `confirm`.
        let _ = self.write(record);
    }

    fn confirm(&self, record: Record) -> BoxFuture<'static, Result<(), Unwritable>> {
        Box::pin(std::future::ready(self.write(record)))
    }

    fn writable(&self) -> bool {
        true
    }
}

/// Whose process this is.
pub fn user() -> Who {
    let uid = rustix::process::getuid().as_raw();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    Who::User { name: name.unwrap_or_else(|| "?".to_owned()).into(), uid }
}

/// This machine.
pub fn host() -> Origin {
    Origin::Host(rustix::system::uname().nodename().to_string_lossy().as_ref().into())
}

/// Notes what others than the engine tell as events: alarms, and recordings put in quarantine. What the engine tells is noted
/// where it is told. Ends with the event log.
pub async fn follow_others(mut reader: crate::control::history::Reader, audit: Audit) {
    use crate::obs::event::EventKind;
    while let Some(read) = reader.next().await {
        let crate::control::history::Read::Event(_, event) = read else { continue };
        if matches!(
            event.kind,
            EventKind::AlarmRaised { .. } | EventKind::AlarmCleared { .. } | EventKind::RecordingQuarantined { .. }
        ) && let Some(record) = crate::audit::events::record_of(&event, false)
        {
            audit.note(record);
        }
    }
}

/// Notes that the program runs: its version and hash, and that of its configuration.
pub async fn started(audit: &Audit, configuration: &[u8; 32]) {
    if !audit.is_on() {
        return;
    }
    let hash = || {
        let bytes = std::fs::read(Path::new("/proc/self/exe")).ok()?;
        Some(hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes)))
    };
    let program = tokio::task::spawn_blocking(hash).await.ok().flatten().map(Into::into);
    let (version, configuration) = (env!("CARGO_PKG_VERSION").into(), hex::encode(configuration).into());
    audit.note(Record::node(Action::NodeStarted { version, configuration, program }));
}
