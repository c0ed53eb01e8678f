//! One writer's thread: orders and masked blocks come in from its queue, wait for their horizon in locked memory, and go
//! out as sealed recordings to files, reports to the recorder's callback. It never waits for anything but its queue and the disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use super::files::{make_directory, sync_directory, write_seal};
use super::health::Health;
use super::stall::Stalls;
use super::{Counters, Failure, FailureKind, LONGEST_LOSS, Meta, Order, Report, wall};
use crate::base::Random;
use crate::base::ids::{CallId, RecordingId};
use crate::guard::Shelf;
use crate::media::{MaskedBlock, RECORD_RATE};
use crate::record::horizon::{Horizon, Piece, Redacted, Redaction};
use crate::record::keys::KeyDown;
use crate::record::place;
use crate::record::sealed::{Start, Storage, WriteError, Writer};
use crate::rt::keys::Keys;

/// One writer's thread.
pub(super) struct Disk {
    /// Which of the writers it is.
    pub(super) number: usize,
    pub(super) stalls: Arc<Stalls>,
    pub(super) health: Arc<Health>,
    pub(super) root: PathBuf,
    pub(super) node: String,
    pub(super) keys: Arc<Keys>,
    pub(super) random: Random,
    pub(super) open: HashMap<RecordingId, Recording>,
    pub(super) report: Arc<dyn Fn(RecordingId, Report) + Send + Sync>,
    pub(super) counters: Arc<Counters>,
    /// What waits to be sealed, of all recordings of this writer.
    pub(super) shelf: Shelf,
    /// Bytes it had when they were last counted.
    pub(super) shelf_bytes: usize,
}

pub(super) struct Recording {
    writer: Writer<SealedFile>,
    file: PathBuf,
    call: CallId,
    horizon: Horizon,
    /// Number of the next block in order.
    next: u64,
}

impl Disk {
    pub(super) fn run(mut self, queue: &Receiver<Order>) {
        while let Ok(order) = queue.recv() {
            self.stalls.begin(self.number);
            match order {
                Order::Open(recording, meta) => self.open(recording, meta),
                Order::Block { recording, number, came, block } => {
                    self.counters.waiting.fetch_sub(1, Relaxed);
                    self.block(recording, (number, came), block);
                }
                Order::Redact(recording, order) => self.redact(recording, order),
                Order::Mark(recording, at, mark) => {
                    if let Some(open) = self.open.get_mut(&recording) {
                        open.horizon.handle_mark(at, mark);
                    }
                }
                Order::Close { recording, blocks } => self.close(recording, blocks),
                Order::Stop => break,
            }
            self.stalls.end(self.number);
        }
        for recording in self.open.keys().copied().collect::<Vec<_>>() {
            let blocks = self.open.get(&recording).map_or(0, |open| open.next);
            self.close(recording, blocks);
        }
        self.stalls.end(self.number);
    }

    fn open(&mut self, recording: RecordingId, meta: Meta) {
        let started_at_ms = wall();
        let directory = place::directory(&self.root, started_at_ms);
        let file = place::sealed_file(&directory, recording);
        // Before there is a file: without a key there is nothing to leave behind.
        let kek = match self.keys.current() {
            Ok(kek) => kek,
            Err(error) => return self.fail(recording, no_key(&error)),
        };
        let made = make_directory(&directory)
            .and_then(|()| OpenOptions::new().append(true).create_new(true).mode(0o600).open(&file))
            // Locked until it is closed: whoever would rewrap or destroy it sees that it is being written.
            .and_then(|file| Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)?));
        let storage = match made {
            Ok(file) => SealedFile { file, counters: self.counters.clone(), since: Instant::now() },
            Err(error) => return self.fail(recording, Failure::of(&error, "cannot make", &file)),
        };
        let call = meta.call;
        let start = Start {
            recording,
            call,
            node: self.node.clone(),
            from_trunk: meta.from_trunk,
            to_trunk: meta.to_trunk,
            started_at_ms,
            rate: RECORD_RATE,
            channels: 2,
            caller: meta.caller,
            called: meta.called,
            agent: meta.agent,
            sip_call_ids: meta.sip_call_ids,
            labels: meta.labels,
            spill: meta.spill,
        };
        let writer = match Writer::create(storage, &kek, start, &mut self.random) {
            Ok(writer) => writer,
            Err(error) => return self.fail(recording, failure(&error, &file)),
        };
        let horizon = Horizon::new(meta.horizon);
        if let Err(error) = sync_directory(&directory) {
            return self.fail(recording, Failure::of(&error, "cannot sync", &directory));
        }
        self.counters.open.fetch_add(1, Relaxed);
        let kek_id = writer.opened().kek_id.clone();
        self.open.insert(recording, Recording { writer, file: file.clone(), call, horizon, next: 0 });
        (self.report)(recording, Report::Opened { file, kek_id, started_at: started_at_ms });
    }

    fn block(&mut self, recording: RecordingId, (number, came): (u64, Instant), block: MaskedBlock) {
        if !self.catch_up(recording, number) {
            return;
        }
        let Some(open) = self.open.get_mut(&recording) else { return };
        open.next = number + 1;
        let early = open.horizon.early();
        open.horizon.handle_block(came, block, &mut self.shelf);
        self.counters.early_blocks.fetch_add(open.horizon.early() - early, Relaxed);
        self.note_shelf();
        self.seal(recording);
    }

    /// Seals what has waited for its horizon.
    fn seal(&mut self, recording: RecordingId) {
        while let Some(open) = self.open.get_mut(&recording) {
            let Some(piece) = open.horizon.poll(&mut self.shelf) else { return };
            let done = match piece {
                Piece::Sound(block) | Piece::Paused(block) => open.writer.block(&block),
                Piece::Lost => open.writer.lost(),
                Piece::Redacted => open.writer.redacted(),
                Piece::Mark(frame, mark) => {
                    open.writer.mark(frame, mark);
                    Ok(None)
                }
            };
            self.done(recording, done);
        }
    }

    /// Takes out what was heard. What can no longer be taken out makes the recording one that nobody may hear.
    fn redact(&mut self, recording: RecordingId, order: Redaction) {
        let Some(open) = self.open.get_mut(&recording) else { return };
        let call = open.call;
        let Redacted { blocks, too_late } = open.horizon.redact(order, &mut self.shelf);
        self.counters.redacted_blocks.fetch_add(blocks as u64, Relaxed);
        if blocks > 0 {
            (self.report)(recording, Report::Redacted { call, ms: blocks as u64 * 100 });
        }
        if too_late {
            (self.report)(recording, Report::TooLate { call });
        }
    }

    /// Keeps the numbers of the locked memory.
    fn note_shelf(&mut self) {
        let bytes = self.shelf.bytes();
        if bytes != self.shelf_bytes {
            let change = bytes as i64 - self.shelf_bytes as i64;
            self.shelf_bytes = bytes;
            self.counters.held_bytes.fetch_add(change as u64, Relaxed);
            if !self.shelf.is_locked() && self.counters.unlocked.swap(1, Relaxed) == 0 {
                tracing::warn!("recorded sound waits in memory that may be swapped: raise the limit of locked memory");
            }
        }
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
            open.horizon.handle_lost();
            self.seal(recording);
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
        if let Some(open) = self.open.get_mut(&recording) {
            open.horizon.close();
        }
        self.seal(recording);
        self.note_shelf();
        self.stalls.closed(recording);
        let Some(Recording { mut writer, file, call, .. }) = self.open.remove(&recording) else { return };
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
        let bytes = writer.bytes();
        let (gaps, chunks, header) = (seal.gaps, seal.chunks, seal.header);
        (self.report)(recording, Report::Closed { length_ms, bytes, gaps, chunks, header, call });
    }

    fn fail(&mut self, recording: RecordingId, failure: Failure) {
        if let Some(mut open) = self.open.remove(&recording) {
            open.horizon.wipe(&mut self.shelf);
            self.note_shelf();
            self.counters.open.fetch_sub(1, Relaxed);
        }
        self.counters.failed.fetch_add(1, Relaxed);
        // First: whoever hears of the recording finds the storage as it is.
        self.health.failed(&failure);
        (self.report)(recording, Report::Failed(failure));
    }
}

pub(super) fn no_key(error: &KeyDown) -> Failure {
    Failure { kind: FailureKind::NoKey, text: format!("cannot seal: {error}") }
}

fn failure(error: &WriteError, file: &Path) -> Failure {
    match error {
        WriteError::Storage { error: io, .. } => Failure::of(io, "cannot write", file),
        WriteError::Key(down) => no_key(down),
        WriteError::Failed | WriteError::Full => {
            Failure { kind: FailureKind::Io, text: format!("{}: {error}", file.display()) }
        }
    }
}

/// A file whose writes are measured.
pub(super) struct SealedFile {
    pub(super) file: File,
    pub(super) counters: Arc<Counters>,
    pub(super) since: Instant,
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
