//! `[audit]`: the audit log, and where its checkpoints go.

use std::path::PathBuf;
use std::time::Duration;

use super::{S3, Secret, WebhookUrl};

/// `[audit]`.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Directory of the log; one node writes to it.
    pub directory: PathBuf,
    /// File of the key that signs checkpoints.
    pub key: PathBuf,
    /// When entries get to the disk.
    pub sync: AuditSync,
    /// Entries after which a checkpoint is signed.
    pub checkpoint_entries: u64,
    /// How long an entry waits for a checkpoint at most.
    pub checkpoint_every: Duration,
    /// Bytes of a file of the log, beyond which the next one is begun; each UTC day has its own in any case.
    pub file_bytes: u64,
    /// Second places that checkpoints go to.
    pub ships: Vec<Ship>,
}

/// When entries get to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditSync {
    /// Before they count: every batch is synced.
    Always,
    /// Once a second; what must be on the disk first is synced at once all the same.
    Second,
}

/// `[[audit.ship]]`: a second place for checkpoints.
#[derive(Debug, Clone)]
pub struct Ship {
    /// Name, in logs and metrics.
    pub name: String,
    /// Where.
    pub to: ShipTo,
}

/// What kind of place checkpoints go to.
#[derive(Debug, Clone)]
pub enum ShipTo {
    /// A directory, of another machine if it is to be of use.
    Directory(PathBuf),
    /// An address that takes a POST of the checkpoint's text.
    Url {
        /// Address.
        url: WebhookUrl,
        /// Bearer token.
        token: Option<Secret>,
        /// Certificate authorities that are trusted instead of the system's.
        ca: Option<PathBuf>,
    },
    /// A bucket of an S3-compatible object store: each checkpoint becomes an object there.
    Bucket(Box<S3>),
}
