//! The recorder: a few threads that write sealed recordings, each recording on one of them. Orders and masked blocks go
//! in through queues that never make a media worker wait; files go to `<root>/<date>/`, each chunk synced before it
//! counts; reports come out through a callback on the writers' threads. More than one thread, because a sync is a wait:
//! file systems put syncs that come together into one journal commit.
//!
//! ```text
//!  engine ── open, close,   ┐                        ┌─► <root>/2026-11-22/rec_….sealed   (0600, append, fdatasync)
//!            redact, mark ──┼─► queue ─► writer ×4 ──┼─► <root>/2026-11-22/rec_….seal     (at close, renamed into place)
//!  media ─── blocks ───────►┘   │                    └─► report(recording, Report)
//!                               └ more than `queue_blocks` waiting: the block is dropped, and counted by its number
//! ```
//!
//! What is heard waits in the writer's locked memory for the recording's horizon (`record::horizon`) before it is sealed.
//!
//! Whether recordings can be written at all is known before anybody asks for one (`health`).
//!
//! The queue's full policy: orders to open and close always go in; a block that finds the queue full is dropped, the
//! writer puts marked silence in its place, so the timeline holds, and reports [`Report::Behind`]. A recording whose
//! storage failed is over: its blocks are ignored, what was sealed stays readable. Nothing is ever appended to a file
//! of an earlier run.

mod disk;
pub(super) mod files;
mod health;
mod stall;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use self::disk::Disk;
use self::files::{make_directory, probe};
use self::health::Health;
use self::stall::Stalls;
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::guard::Shelf;
use crate::media::{BLOCK_FRAMES, MaskedBlock};
use crate::record::horizon::Redaction;
use crate::record::sealed::Mark;
use crate::record::siprec::Spill;
use crate::rt::keys::Keys;

/// Blocks of 100 ms that may wait before blocks are dropped: 26 MB, or 20 s of 40 calls.
pub const QUEUE_BLOCKS: usize = 8_192;

/// Bytes of locked memory for what waits to be sealed: 12 s of 680 calls.
pub const HELD_BYTES: usize = 256 << 20;

/// Writer threads. With a sync per second and recording, four keep up with four times as many as one on disks whose
/// syncs take long.
pub const WRITERS: usize = 4;

/// The most blocks of silence put in for one run of lost ones (10 minutes); a longer run ends the recording.
const LONGEST_LOSS: u64 = 6_000;

/// What the recorder needs.
pub struct Settings {
    /// Directory of sealed recordings; made if it is not there.
    pub root: PathBuf,
    /// Node name, sealed into each recording.
    pub node: String,
    /// The keys in force: each new recording is wrapped under the one that is current then.
    pub keys: Arc<Keys>,
    /// Blocks that may wait; [`QUEUE_BLOCKS`] unless a test wants fewer.
    pub queue_blocks: usize,
    /// Most bytes of locked memory for what waits to be sealed; [`HELD_BYTES`] unless a test wants less.
    pub held_bytes: usize,
    /// How long a writer may be at one thing before the disk is told as hanging.
    pub stall: Duration,
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
    /// How long what is heard waits before it is sealed (`record::horizon`).
    pub horizon: Duration,
    /// Calling number or user part.
    pub caller: String,
    /// Called number or user part.
    pub called: String,
    /// The agent's extension.
    pub agent: String,
    /// SIP Call-IDs of the legs, as far as known.
    pub sip_call_ids: Vec<String>,
    /// Labels it begins with.
    pub labels: BTreeMap<String, String>,
    /// What its recorder is told when it is forwarded, of a spill.
    pub spill: Option<Box<Spill>>,
}

impl Meta {
    /// A recording of which only its call and trunks are known.
    pub fn new(call: CallId, from_trunk: &str, to_trunk: &str) -> Self {
        Self {
            call,
            from_trunk: from_trunk.to_owned(),
            to_trunk: to_trunk.to_owned(),
            caller: String::new(),
            called: String::new(),
            agent: String::new(),
            sip_call_ids: Vec::new(),
            labels: BTreeMap::new(),
            horizon: Duration::ZERO,
            spill: None,
        }
    }
}

/// What the recorder reports of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The file is there, its description sealed and synced.
    Opened {
        /// The sealed file.
        file: PathBuf,
        /// Id of the key-encryption key it is wrapped under.
        kek_id: String,
        /// When it began; its directory is of that day.
        started_at: WallMs,
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
    /// A card was recognised late: what had been heard since its first key was taken out before it was sealed.
    Redacted {
        /// Call.
        call: CallId,
        /// Milliseconds.
        ms: u64,
    },
    /// A card was recognised so late that a key of it had been sealed already: the recording is not clean.
    TooLate {
        /// Call.
        call: CallId,
    },
    /// Sealed and complete.
    Closed {
        /// Milliseconds of sound and silence.
        length_ms: u64,
        /// Bytes of the file.
        bytes: u64,
        /// Marked gaps.
        gaps: u32,
        /// Chunks of the file.
        chunks: u64,
        /// SHA-256 of the fixed part of its header.
        header: [u8; 32],
        /// Call.
        call: CallId,
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
    /// The key to seal with cannot be had.
    NoKey,
    /// Anything else the system said.
    Io,
}

impl Failure {
    pub(super) fn of(error: &io::Error, what: &str, path: &Path) -> Self {
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
    /// Bytes of locked memory for what waits to be sealed.
    pub held_bytes: AtomicU64,
    /// Writers whose memory could not be locked against swapping.
    pub unlocked: AtomicU64,
    /// Blocks sealed before their time because the memory was full.
    pub early_blocks: AtomicU64,
    /// Blocks taken out before they were sealed.
    pub redacted_blocks: AtomicU64,
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
    Block { recording: RecordingId, number: u64, came: Instant, block: MaskedBlock },
    Redact(RecordingId, Redaction),
    Mark(RecordingId, Instant, Mark),
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
    stalls: Arc<Stalls>,
    health: Arc<Health>,
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
        probe(&settings.root, 1).map_err(|e| Failure::of(&e, "cannot write into", &settings.root))?;
        let counters = Arc::new(Counters::default());
        let report: Arc<dyn Fn(RecordingId, Report) + Send + Sync> = Arc::new(report);
        let (mut writers, mut threads) = (Vec::new(), Vec::new());
        let stalls = Arc::new(Stalls::new(settings.stall));
        let health = Arc::new(Health::new());
        for number in 0..WRITERS {
            let (orders, queue) = mpsc::channel();
            let disk = Disk {
                number,
                stalls: stalls.clone(),
                health: health.clone(),
                root: settings.root.clone(),
                node: settings.node.clone(),
                keys: settings.keys.clone(),
                // Each draws its own keys and nonces.
                random: Random::from_seed(settings.random.random()),
                open: HashMap::new(),
                report: report.clone(),
                counters: counters.clone(),
                shelf: Shelf::new(settings.held_bytes / WRITERS / (BLOCK_FRAMES * 4)),
                shelf_bytes: 0,
            };
            let thread = std::thread::Builder::new()
                .name(format!("recorder-{number}"))
                .spawn(move || disk.run(&queue))
                .map_err(|e| Failure::of(&e, "cannot start the recorder for", &settings.root))?;
            writers.push(orders);
            threads.push(thread);
        }
        let (watched, counted, told) = (Arc::downgrade(&stalls), counters.clone(), Arc::downgrade(&health));
        std::thread::Builder::new()
            .name("recorder-watch".into())
            .spawn(move || stall::watch(&watched, &told, &counted, &report))
            .map_err(|e| Failure::of(&e, "cannot watch the disk of", &settings.root))?;
        let watching = health::start(&health, counters.clone(), settings.root.clone(), settings.keys);
        watching.map_err(|e| Failure::of(&e, "cannot watch the disk of", &settings.root))?;
        let queue_blocks = settings.queue_blocks;
        let handle = Handle { writers: writers.into(), counters, queue_blocks, stalls, health };
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
        let writer = at as usize % self.writers.len();
        let orders = self.writers[writer].clone();
        self.stalls.opened(recording, writer);
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

    /// How long the disk has stood still, if it does.
    pub fn stalled(&self) -> Option<Duration> {
        self.stalls.stalled()
    }

    /// Why no recording can be written, if so; and word when that turns.
    pub fn storage(&self) -> watch::Receiver<Option<Failure>> {
        self.health.watch()
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
        self.block_at(Instant::now(), block);
    }

    /// The same for a block that came at `came`, where time is virtual.
    pub fn block_at(&self, came: Instant, block: MaskedBlock) {
        let number = self.next.fetch_add(1, Relaxed);
        let counters = &self.counters;
        if counters.waiting.fetch_add(1, Relaxed) >= self.queue_blocks {
            counters.waiting.fetch_sub(1, Relaxed);
            counters.lost_blocks.fetch_add(1, Relaxed);
            return;
        }
        let order = Order::Block { recording: self.recording, number, came, block };
        if self.orders.send(order).is_err() {
            counters.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// Takes out what was heard, as far as it is not sealed, and what is still to come of it.
    pub fn redact(&self, order: Redaction) {
        let _ = self.orders.send(Order::Redact(self.recording, order));
    }

    /// Notes what is known of keys at `at`.
    pub fn mark(&self, at: Instant, mark: Mark) {
        let _ = self.orders.send(Order::Mark(self.recording, at, mark));
    }

    /// Seals and closes the recording after the blocks given so far.
    pub fn close(&self) {
        let blocks = self.next.load(Relaxed);
        // As in `open`.
        let _ = self.orders.send(Order::Close { recording: self.recording, blocks });
    }
}

/// The wall clock.
pub(super) fn wall() -> WallMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
