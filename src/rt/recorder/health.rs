//! Whether the storage takes recordings. What a writer's disk refuses, what a writer stands still at, and what a look
//! finds twice a second go in; whether recordings can be written comes out, told once each time it turns. So nobody has to
//! lose a call to learn that the disk is full, nor to learn that it has room again.
//!
//! ```text
//!            a write is refused: full, read-only, no key; a look finds one of these; a writer stands still
//!   taken ────────────────────────────────────────────────────────────────────────────────► not taken
//!     ▲                                                                                         │
//!     └── key, room for [`ROOM`] bytes, no writer stands still, and a chunk written and synced ◄┘
//! ```
//!
//! While the storage takes recordings a look asks for the key, the room and the mount. Some disks turn read-only and say so
//! to nobody who does not write, so when no chunk was synced for five seconds a look writes one too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::files::probe;
use super::{Counters, Failure, FailureKind};
use crate::record::sealed::CHUNK_SIZE;
use crate::rt::keys::Keys;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

/// After so many looks without a chunk synced, one writes.
const PROVE: u32 = 10;

/// How long nothing was written.
#[derive(Default)]
struct Quiet {
    looks: u32,
    chunks: u64,
}

impl Quiet {
    /// At a look by which so many chunks were synced: whether it has been quiet for so long that this one writes.
    fn is_over(&mut self, chunks: u64) -> bool {
        let same = std::mem::replace(&mut self.chunks, chunks) == chunks;
        self.looks = if same && self.looks < PROVE { self.looks + 1 } else { 0 };
        self.looks == PROVE
    }
}

/// Bytes that must be free: half a minute of one call. What other files of the node need is on top of that.
pub const ROOM: u64 = 1 << 20;

/// What keeps recordings from being written.
#[derive(Default)]
struct Causes {
    /// The disk or the key refused.
    refused: Option<Failure>,
    /// A writer stands still.
    still: Option<Failure>,
    /// Something failed that may be the disk's fault: the next look tries it.
    doubted: bool,
    /// Refusals so far, so that a look does not clear one that came while it looked.
    refusals: u64,
}

/// How the storage is.
pub(super) struct Health {
    causes: Mutex<Causes>,
    told: watch::Sender<Option<Failure>>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { causes: Mutex::default(), told: watch::Sender::new(None) }
    }

    /// Why no recording can be written, if so; and word when that turns.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Failure>> {
        self.told.subscribe()
    }

    /// A recording failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.change(|causes| match failure.kind {
            FailureKind::DiskFull | FailureKind::NotWritable | FailureKind::NoKey => {
                causes.refusals += 1;
                causes.refused = Some(failure.clone());
            }
            FailureKind::Io => causes.doubted = true,
            // Told by whoever sees the writer stand still.
            FailureKind::TooSlow => {}
        });
    }

    /// How long a writer has stood still, if one does.
    pub(super) fn still(&self, still: Option<Duration>) {
        let failure = |still: Duration| Failure {
            kind: FailureKind::TooSlow,
            text: format!("the disk has not answered for {} s", still.as_secs()),
        };
        self.change(|causes| causes.still = still.map(failure));
    }

    /// Whether the next look is to write, and what it must know to tell what it found.
    fn begin_look(&self) -> (bool, u64) {
        let causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        (causes.refused.is_some() || causes.doubted, causes.refusals)
    }

    /// What a look found that began at so many refusals.
    fn looked(&self, refusals: u64, found: Result<(), Failure>) {
        self.change(|causes| match found {
            Err(failure) => causes.refused = Some(failure),
            Ok(()) if causes.refusals == refusals => (causes.refused, causes.doubted) = (None, false),
            Ok(()) => {}
        });
    }

    fn change(&self, change: impl FnOnce(&mut Causes)) {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut causes);
        let why = causes.refused.as_ref().or(causes.still.as_ref());
        // Told under the lock, so that what comes later is told later.
        self.told.send_if_modified(|told| {
            let turned = told.as_ref().map(|failure| failure.kind) != why.map(|failure| failure.kind);
            if turned {
                match (&told, why) {
                    (_, Some(failure)) => tracing::error!(%failure, "recordings cannot be written"),
                    (_, None) => tracing::warn!("recordings can be written again"),
                }
                *told = why.cloned();
            }
            turned
        });
    }
}

/// Looks as long as there is a recorder. On a thread of its own: a disk that hangs holds up nobody else.
fn watch(health: &Weak<Health>, counters: &Counters, root: &Path, keys: &Arc<Keys>) {
    let mut quiet = Quiet::default();
    loop {
        std::thread::sleep(EVERY);
        let Some(health) = health.upgrade() else { return };
        let prove = quiet.is_over(counters.chunks.load(Relaxed));
        let (write, refusals) = health.begin_look();
        health.looked(refusals, look(root, keys, write || prove));
    }
}

/// Whether a recording could be written below `root` now; with `write` it is tried.
fn look(root: &Path, keys: &Arc<Keys>, write: bool) -> Result<(), Failure> {
    keys.current().map_err(|down| super::disk::no_key(&down))?;
    let of = |error: &io::Error| Failure::of(error, "cannot write into", root);
    let disk = rustix::fs::statvfs(root).map_err(|error| of(&error.into()))?;
    if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(of(&io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    // What is kept back for root is free for root only.
    let free = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
    if free.saturating_mul(disk.f_frsize) < ROOM {
        return Err(of(&io::ErrorKind::StorageFull.into()));
    }
    if write { probe(root, CHUNK_SIZE).map_err(|error| of(&error)) } else { Ok(()) }
}

/// Starts looking at the storage below `root`, for as long as there is a recorder.
pub(super) fn start(health: &Arc<Health>, counters: Arc<Counters>, root: PathBuf, keys: Arc<Keys>) -> io::Result<()> {
    let watched = Arc::downgrade(health);
    let thread = std::thread::Builder::new().name("recorder-health".into());
    thread.spawn(move || watch(&watched, &counters, &root, &keys)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure { kind, text: "x".into() }
    }

    #[test]
    fn a_look_ends_what_was_refused_before_it_began_and_nothing_that_came_since() {
        let health = Health::new();
        let mut told = health.watch();
        let why = |told: &mut watch::Receiver<Option<Failure>>| {
            told.has_changed().expect("told").then(|| told.borrow_and_update().clone().map(|failure| failure.kind))
        };
        health.failed(&failure(FailureKind::TooSlow));
        assert_eq!((why(&mut told), health.begin_look()), (None, (false, 0)));
        // What may be anybody's fault is tried, and is no refusal.
        health.failed(&failure(FailureKind::Io));
        assert_eq!((why(&mut told), health.begin_look()), (None, (true, 0)));
        health.looked(0, Ok(()));
        assert_eq!(health.begin_look(), (false, 0));
        health.failed(&failure(FailureKind::DiskFull));
        assert_eq!(why(&mut told), Some(Some(FailureKind::DiskFull)));
        let (write, refusals) = health.begin_look();
        assert!(write);
        health.failed(&failure(FailureKind::DiskFull));
        assert_eq!(why(&mut told), None, "told once");
        health.looked(refusals, Ok(()));
        assert_eq!(why(&mut told), None, "refused again while it looked");
        health.still(Some(Duration::from_secs(11)));
        assert_eq!(why(&mut told), None);
        health.looked(health.begin_look().1, Ok(()));
        assert_eq!(why(&mut told), Some(Some(FailureKind::TooSlow)), "one cause less");
        health.still(None);
        assert_eq!(why(&mut told), Some(None));
        health.looked(health.begin_look().1, Err(failure(FailureKind::NotWritable)));
        assert_eq!(why(&mut told), Some(Some(FailureKind::NotWritable)), "no call had to find it out");
    }

    #[test]
    fn a_chunk_is_written_when_nothing_was_for_so_long_and_never_beside_others() {
        let mut quiet = Quiet::default();
        let looks = |quiet: &mut Quiet, chunks: u64| (0..).position(|_| quiet.is_over(chunks));
        assert_eq!(looks(&mut quiet, 0), Some(PROVE as usize - 1));
        assert_eq!(looks(&mut quiet, 0), Some(PROVE as usize), "and again");
        assert!((1..1_000).all(|chunks| !quiet.is_over(chunks)), "recordings prove it");
        assert_eq!(looks(&mut quiet, 999), Some(PROVE as usize - 1));
    }

    #[test]
    fn a_look_finds_room_key_and_a_place_to_write() {
        let root = tempfile::tempdir().expect("a directory");
        let text: String = (10..42).map(|byte| format!("{byte:02x}")).collect();
        let kek = crate::record::keys::Kek::parse("test", &text).expect("a key");
        let ring = |kek| crate::record::keys::KeyRing::new(kek, Vec::new()).expect("a ring");
        let (good, none) = (Keys::fixed(ring(Some(kek))), Keys::fixed(ring(None)));
        look(root.path(), &good, false).expect("taken");
        look(root.path(), &good, true).expect("written");
        assert_eq!(std::fs::read_dir(root.path()).expect("the root").count(), 0, "nothing is left behind");
        assert_eq!(look(root.path(), &none, false).expect_err("no key").kind, FailureKind::NoKey);
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("a file");
        look(&file, &good, true).expect_err("no directory");
    }
}
