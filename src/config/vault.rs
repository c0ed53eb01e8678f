//! `[storage]`: where recordings are kept, how long, and what is watched of the disk.

use std::path::PathBuf;
use std::time::Duration;

use super::net::Secret;

/// `[storage]`.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Directory of sealed recordings.
    pub recordings: PathBuf,
    /// The file that holds how far each payment has come.
    pub payments: PathBuf,
    /// What is watched of the disk.
    pub disk: DiskWatch,
    /// How long recordings are kept.
    pub retention: Vec<KeepRule>,
    /// The object store closed recordings go to.
    pub s3: Option<S3>,
}

impl Storage {
    /// Everything on this disk, kept for good, watched as usual.
    pub fn local(recordings: PathBuf, payments: PathBuf) -> Self {
        Self { recordings, payments, disk: DiskWatch::default(), retention: Vec::new(), s3: None }
    }
}

/// What is watched of the recordings' disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskWatch {
    /// How long one write may take before the disk is told as hanging, and its recordings as failed.
    pub stall: Duration,
    /// Bytes that must be free; fewer are told. `None`: 5 % of the disk, or 1 GiB if that is less.
    pub least_free: Option<u64>,
}

impl Default for DiskWatch {
    fn default() -> Self {
        Self { stall: Duration::from_secs(10), least_free: None }
    }
}

/// `[[storage.retention]]`: how long recordings of a trunk, with a label, or all of them are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepRule {
    /// Of this trunk only.
    pub trunk: Option<String>,
    /// With this label only.
    pub label: Option<(String, String)>,
    /// Days from the end of the recording; 0: for good.
    pub keep_days: u32,
}

/// `[storage.s3]`: an S3-compatible object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// Region.
    pub region: String,
    /// Address of the store; `None`: that of AWS for the region.
    pub endpoint: Option<String>,
    /// What keys of objects begin with; ends in `/` or is empty.
    pub prefix: String,
    /// Access key id.
    pub access_key: Secret,
    /// Secret access key.
    pub secret_key: Secret,
    /// Certificate authorities trusted for it beside those of the system.
    pub ca: Option<PathBuf>,
    /// How long the local copy stays once the store has acknowledged the recording; `None`: as long as the recording.
    pub keep_local: Option<Duration>,
}
