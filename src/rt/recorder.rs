//! The recorder: a few threads that write sealed recordings, each recording on one of them. Orders and masked blocks go
//! in through queues that never make a media worker wait; files go to `<root>/<date>/`, each chunk synced before it
//! counts; reports come out through a callback on the writers' threads. More than one thread, because a sync is a wait:
//! file systems put syncs that come together into one journal commit.
//!
//! ```text
//!  engine ── open, close ──►┐                        ┌─► <root>/2026-11-22/rec_….sealed   (0600, append, fdatasync)
//!                           ├─► queue ─► writer ×4 ──┼─► <root>/2026-11-22/rec_….seal     (at close, renamed into place)
//!  media ─── blocks ───────►┘   │                    └─► report(recording, Report)
//!                               └ more than `queue_blocks` waiting: the block is dropped, and counted by its number
//! ```
//!
//! The queue's full policy: orders to open and close always go in; a block that finds the queue full is dropped, the
//! writer puts marked silence in its place, so the timeline holds, and reports [`Report::Behind`]. A recording whose
//! storage failed is over: its blocks are ignored, what was sealed stays readable. Nothing is ever appended to a file
//! of an earlier run.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::BuildHasherDefault;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use rand::{RngExt, SeedableRng};

use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::media::{MaskedBlock, RECORD_RATE};
use crate::record::keys::Kek;
use crate::record::place;
use crate::record::sealed::{Start, Storage, WriteError, Writer};

/// Blocks of 100 ms that may wait before blocks are dropped: 26 MB, or 20 s of 40 calls.
pub const QUEUE_BLOCKS: usize = 8_192;

/// Writer threads. With a sync per second and recording, four keep up with four times as many as one on disks whose
/// syncs take long.
const WRITERS: usize = 4;

/// The most blocks of silence put in for one run of lost ones (10 minutes); a longer run ends the recording.
const LONGEST_LOSS: u64 = 6_000;

/// What the recorder needs.
pub struct Settings {
    /// Directory of sealed recordings; made if it is not there.
    pub root: PathBuf,
    /// Node name, sealed into each recording.
    pub node: String,
    /// Key new recordings are wrapped under.
    pub kek: Kek,
    /// Blocks that may wait; [`QUEUE_BLOCKS`] unless a test wants fewer.
    pub queue_blocks: usize,
    /// Source of data keys and nonces, seeded by the operating system.
    pub random: Random,
}

/// What a recording is of, besides what the recorder knows itself.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Call.
    pub call: CallId,
    /// Trunk the call came in on.
    pub from_trunk: String,
    /// Trunk it goes out on.
    pub to_trunk: String,
}

/// What the recorder reports of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The file is there, its description sealed and synced.
    Opened {
        /// The sealed file.
        file: PathBuf,
    },
    /// So many chunks are synced and safe from kill and power cut.
    Acknowledged {
        /// Chunks, the description included.
        chunks: u64,
    },
    /// The disk did not keep up: blocks were dropped and stand as marked silence.
    Behind {
        /// Blocks of 100 ms.
        blocks: u64,
    },
    /// Sealed and complete.
    Closed {
        /// Milliseconds of sound and silence.
        length_ms: u64,
        /// Bytes of the file.
        bytes: u64,
    },
    /// Over before its end; what was acknowledged stays readable.
    Failed(Failure),
}

/// Why a recording failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// In one word.
    pub kind: FailureKind,
    /// For the log: what, where, and what the system said.
    pub text: String,
}

/// A failure in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No space or quota left.
    DiskFull,
    /// The file system is read-only, or the directory may not be written.
    NotWritable,
    /// The disk stood still for minutes.
    TooSlow,
    /// Anything else the system said.
    Io,
}

impl Failure {
    fn of(error: &io::Error, what: &str, path: &Path) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kind = match error.kind() {
            StorageFull | QuotaExceeded => FailureKind::DiskFull,
            ReadOnlyFilesystem | PermissionDenied => FailureKind::NotWritable,
            _ => FailureKind::Io,
        };
        Self { kind, text: format!("{what} {}: {error}", path.display()) }
    }
}

/// Counters of the recorder, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Recordings being written.
    pub open: AtomicU64,
    /// Chunks synced.
    pub chunks: AtomicU64,
    /// Bytes synced.
    pub bytes: AtomicU64,
    /// Blocks dropped because the queue was full.
    pub lost_blocks: AtomicU64,
    /// Recordings that failed.
    pub failed: AtomicU64,
    /// Longest write and sync of a chunk so far, in microseconds.
    pub slowest_us: AtomicU64,
    waiting: AtomicUsize,
}

impl Counters {
    /// Blocks waiting in the queue now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}

enum Order {
    Open(RecordingId, Meta),
    Block { recording: RecordingId, number: u64, block: MaskedBlock },
    Close { recording: RecordingId, blocks: u64 },
    Stop,
}

/// The running recorder. Dropping it without [`Recorder::stop`] leaves its threads to finish what is queued.
pub struct Recorder {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

/// A door to the recorder; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    writers: Arc<[Sender<Order>]>,
    counters: Arc<Counters>,
    queue_blocks: usize,
}

/// The way of one recording's blocks into the queue. Give it to the media worker; it never waits.
#[derive(Clone)]
pub struct Feed {
    orders: Sender<Order>,
    counters: Arc<Counters>,
    queue_blocks: usize,
    recording: RecordingId,
    next: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the writers. Fails when the directory cannot be made or written.
    pub fn start(
        mut settings: Settings,
        report: impl Fn(RecordingId, Report) + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        make_directory(&settings.root).map_err(|e| Failure::of(&e, "cannot make", &settings.root))?;
        probe(&settings.root).map_err(|e| Failure::of(&e, "cannot write into", &settings.root))?;
        let counters = Arc::new(Counters::default());
        let report: Arc<dyn Fn(RecordingId, Report) + Send + Sync> = Arc::new(report);
        let (mut writers, mut threads) = (Vec::new(), Vec::new());
        for number in 0..WRITERS {
            let (orders, queue) = mpsc::channel();
            let disk = Disk {
                root: settings.root.clone(),
                node: settings.node.clone(),
                kek: settings.kek.clone(),
                // Each draws its own keys and nonces.
                random: Random::from_seed(settings.random.random()),
                open: HashMap::new(),
                report: report.clone(),
                counters: counters.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("recorder-{number}"))
                .spawn(move || disk.run(&queue))
                .map_err(|e| Failure::of(&e, "cannot start the recorder for", &settings.root))?;
            writers.push(orders);
            threads.push(thread);
        }
        let handle = Handle { writers: writers.into(), counters, queue_blocks: settings.queue_blocks };
        Ok(Self { handle, threads })
    }

    /// A door to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Seals and closes what is open, after all that is queued, and ends the threads.
    pub fn stop(self) {
        for orders in self.handle.writers.iter() {
            // A thread that is gone has nothing left to close.
            let _ = orders.send(Order::Stop);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a recorder thread ended by a panic; its open recordings are left interrupted");
            }
        }
    }
}

impl Handle {
    /// Begins a recording; its blocks go through the feed. Failure comes back as a report.
    pub fn open(&self, recording: RecordingId, meta: Meta) -> Feed {
        let at = std::hash::BuildHasher::hash_one(&BuildHasherDefault::<DefaultHasher>::new(), recording);
        let orders = self.writers[at as usize % self.writers.len()].clone();
        // The channel closes only after `stop`; there is nobody left to report to.
        let _ = orders.send(Order::Open(recording, meta));
        Feed {
            orders,
            counters: self.counters.clone(),
            queue_blocks: self.queue_blocks,
            recording,
            next: Arc::default(),
        }
    }

    /// Counters, for metrics.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Feed {
    /// The recording it feeds.
    pub fn recording(&self) -> RecordingId {
        self.recording
    }

    /// Takes a block of 100 ms. Never waits; a block that finds the queue full is dropped and marked.
    pub fn block(&self, block: MaskedBlock) {
        let number = self.next.fetch_add(1, Relaxed);
        let counters = &self.counters;
        if counters.waiting.fetch_add(1, Relaxed) >= self.queue_blocks {
            counters.waiting.fetch_sub(1, Relaxed);
            counters.lost_blocks.fetch_add(1, Relaxed);
            return;
        }
        let order = Order::Block { recording: self.recording, number, block };
        if self.orders.send(order).is_err() {
            counters.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// Seals and closes the recording after the blocks given so far.
    pub fn close(&self) {
        let blocks = self.next.load(Relaxed);
        // As in `open`.
        let _ = self.orders.send(Order::Close { recording: self.recording, blocks });
    }
}

/// One writer's thread.
struct Disk {
    root: PathBuf,
    node: String,
    kek: Kek,
    random: Random,
    open: HashMap<RecordingId, Recording>,
    report: Arc<dyn Fn(RecordingId, Report) + Send + Sync>,
    counters: Arc<Counters>,
}

struct Recording {
    writer: Writer<SealedFile>,
    file: PathBuf,
    /// Number of the next block in order.
    next: u64,
}

impl Disk {
    fn run(mut self, queue: &Receiver<Order>) {
        while let Ok(order) = queue.recv() {
            match order {
                Order::Open(recording, meta) => self.open(recording, meta),
                Order::Block { recording, number, block } => {
                    self.counters.waiting.fetch_sub(1, Relaxed);
                    self.block(recording, number, &block);
                }
                Order::Close { recording, blocks } => self.close(recording, blocks),
                Order::Stop => break,
            }
        }
        for recording in self.open.keys().copied().collect::<Vec<_>>() {
            let blocks = self.open.get(&recording).map_or(0, |open| open.next);
            self.close(recording, blocks);
        }
    }

    fn open(&mut self, recording: RecordingId, meta: Meta) {
        let started_at_ms = wall();
        let directory = place::directory(&self.root, started_at_ms);
        let file = place::sealed_file(&directory, recording);
        let made = make_directory(&directory)
            .and_then(|()| OpenOptions::new().append(true).create_new(true).mode(0o600).open(&file));
        let storage = match made {
            Ok(file) => SealedFile { file, counters: self.counters.clone(), since: Instant::now() },
            Err(error) => return self.fail(recording, Failure::of(&error, "cannot make", &file)),
        };
        let start = Start {
            recording,
            call: meta.call,
            node: self.node.clone(),
            from_trunk: meta.from_trunk,
            to_trunk: meta.to_trunk,
            started_at_ms,
            rate: RECORD_RATE,
            channels: 2,
        };
        let writer = match Writer::create(storage, &self.kek, start, &mut self.random) {
            Ok(writer) => writer,
            Err(error) => return self.fail(recording, failure(&error, &file)),
        };
        if let Err(error) = sync_directory(&directory) {
            return self.fail(recording, Failure::of(&error, "cannot sync", &directory));
        }
        self.counters.open.fetch_add(1, Relaxed);
        self.open.insert(recording, Recording { writer, file: file.clone(), next: 0 });
        (self.report)(recording, Report::Opened { file });
    }

    fn block(&mut self, recording: RecordingId, number: u64, block: &MaskedBlock) {
        if !self.catch_up(recording, number) {
            return;
        }
        let Some(open) = self.open.get_mut(&recording) else { return };
        open.next = number + 1;
        let done = open.writer.block(block);
        self.done(recording, done);
    }

    /// Puts marked silence where blocks before `number` were dropped; `false` when the recording is over.
    fn catch_up(&mut self, recording: RecordingId, number: u64) -> bool {
        let Some(open) = self.open.get_mut(&recording) else { return false };
        let lost = number.saturating_sub(open.next);
        if lost == 0 {
            return true;
        }
        if lost > LONGEST_LOSS {
            let text = format!("{}: the disk stood still for {} s", open.file.display(), lost / 10);
            self.fail(recording, Failure { kind: FailureKind::TooSlow, text });
            return false;
        }
        (self.report)(recording, Report::Behind { blocks: lost });
        for _ in 0..lost {
            let Some(open) = self.open.get_mut(&recording) else { return false };
            let done = open.writer.lost();
            self.done(recording, done);
        }
        self.open.contains_key(&recording)
    }

    fn done(&mut self, recording: RecordingId, done: Result<Option<u64>, WriteError>) {
        match done {
            Ok(None) => {}
            Ok(Some(chunks)) => (self.report)(recording, Report::Acknowledged { chunks }),
            Err(error) => {
                let file = self.open.get(&recording).map(|open| open.file.clone()).unwrap_or_default();
                self.fail(recording, failure(&error, &file));
            }
        }
    }

    fn close(&mut self, recording: RecordingId, blocks: u64) {
        if !self.catch_up(recording, blocks) {
            return;
        }
        let Some(Recording { mut writer, file, .. }) = self.open.remove(&recording) else { return };
        self.counters.open.fetch_sub(1, Relaxed);
        let (seal, text) = match writer.close(wall()) {
            Ok(closed) => closed,
            Err(error) => return self.fail(recording, failure(&error, &file)),
        };
        if let Err(error) = write_seal(&file, &text) {
            // The recording itself is complete; without its seal a later cut would look like a crash.
            return self.fail(recording, Failure::of(&error, "cannot write the seal of", &file));
        }
        let length_ms = seal.frames * 1_000 / u64::from(RECORD_RATE);
        (self.report)(recording, Report::Closed { length_ms, bytes: seal.bytes });
    }

    fn fail(&mut self, recording: RecordingId, failure: Failure) {
        if self.open.remove(&recording).is_some() {
            self.counters.open.fetch_sub(1, Relaxed);
        }
        self.counters.failed.fetch_add(1, Relaxed);
        (self.report)(recording, Report::Failed(failure));
    }
}

fn failure(error: &WriteError, file: &Path) -> Failure {
    match error {
        WriteError::Storage { error: io, .. } => Failure::of(io, "cannot write", file),
        WriteError::Failed | WriteError::Full => {
            Failure { kind: FailureKind::Io, text: format!("{}: {error}", file.display()) }
        }
    }
}

/// A file whose writes are measured.
struct SealedFile {
    file: File,
    counters: Arc<Counters>,
    since: Instant,
}

impl Storage for SealedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.since = Instant::now();
        self.file.write_all(bytes)?;
        self.counters.bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.counters.chunks.fetch_add(1, Relaxed);
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.slowest_us.fetch_max(took, Relaxed);
        Ok(())
    }
}

/// The seal appears whole or not at all: written beside, synced, renamed.
fn write_seal(sealed: &Path, text: &str) -> io::Result<()> {
    let seal = place::seal_file(sealed);
    let new = sealed.with_extension("seal.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &seal)?;
    sync_directory(seal.parent().unwrap_or(Path::new(".")))
}

fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether files can be made here: better to learn at start than at the first call.
fn probe(root: &Path) -> io::Result<()> {
    let path = root.join(format!(".probe-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let written = file.write_all(b"probe").and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}

/// The wall clock.
pub(super) fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
