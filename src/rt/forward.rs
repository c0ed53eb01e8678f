//! Forwarding of spills: the disk's and the clock's part of it. The catalogue is asked for what waits, a spill that is to be
//! sent is opened and proven, its sound is given to the sender of packets in real time, and what a recorder has got is
//! marked. Orders of the engine and clean self-audits go in; [`SpillReport`]s come out. Which spill is sent when, and to whom,
//! is decided in `call`; nothing here can make sound that `record::reopen` does not give out.
//!
//! ```text
//!  rescan ── clean ──┐                       ┌─► All, One, Marked ─► engine
//!  every minute ─────┴─► thread "forward" ───┤
//!                            │ OpenSpill     └─► catalogue: spill-forwarded
//!                            ▼
//!                        a thread each: open, prove ─► Opened ─► PlaySpill: a block each 100 ms ─► sender of packets
//! ```
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::catalogue::CatalogueError;
use super::forks::Door;
use super::recorder::wall;
use super::vault::{Reading, Vault, VaultError};
use crate::base::ids::RecordingId;
use crate::call::{ForkId, OpenedSpill, SpillReport, WaitingSpill};
use crate::media::MaskedBlock;
use crate::record::catalogue::{Entry, Query, State};
use crate::record::horizon::BLOCK;
use crate::record::reopen::{Cleared, Proven, Unfit};
use crate::record::sealed::Fault;

/// How often the catalogue is asked for all that waits: what commands and other processes changed.
const LIST: Duration = Duration::from_secs(60);
/// How soon a mark that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How soon a way that is cut, or has enough waiting, is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a spill is played to.
pub(super) struct Way {
    pub(super) fork: ForkId,
    pub(super) door: Door,
    /// No sound flows now.
    pub(super) cut: Arc<AtomicBool>,
}

/// What it is to do.
pub(super) enum Order {
    /// A recording's self-audit was clean.
    Clean(RecordingId),
    /// Opens a spill.
    Open(RecordingId),
    /// Plays one that was opened.
    Play(RecordingId, Way),
    /// Gives one up.
    Leave(RecordingId),
    /// Marks one as forwarded.
    Mark(RecordingId),
    /// Ends the thread.
    Stop,
}

/// The running thread.
pub(super) struct Forward {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Forward {
    /// Starts the thread, which hears `queue`; `orders` is the way into it. `known`: the recorders that get what was spilled.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(
        vault: Arc<Vault>,
        known: Vec<String>,
        (orders, queue): (Sender<Order>, Receiver<Order>),
        reports: UnboundedSender<SpillReport>,
    ) -> io::Result<Self> {
        let (players, unmarked, strange) = Default::default();
        let work = Work { vault, reports, players, unmarked, known, strange };
        let thread = std::thread::Builder::new().name("forward".into()).spawn(move || {
            // The calls come first. Where the kernel refuses, the pace still bounds it.
            let _ = rustix::process::nice(19);
            work.run(&queue);
        })?;
        Ok(Self { orders, thread })
    }

    /// Carries out an order.
    pub(super) fn order(&self, order: Order) {
        // The thread ends only by `stop`.
        let _ = self.orders.send(order);
    }

    /// Ends it: what is being played is left.
    pub(super) fn stop(self) {
        let _ = self.orders.send(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that forwards spills ended by a panic");
        }
    }
}

struct Work {
    vault: Arc<Vault>,
    reports: UnboundedSender<SpillReport>,
    /// Threads of spills that are open; who is dropped ends.
    players: HashMap<RecordingId, (Sender<Way>, JoinHandle<()>)>,
    /// Got by their recorders, and not yet marked.
    unmarked: BTreeSet<RecordingId>,
    /// Recorders that get what was spilled.
    known: Vec<String>,
    /// Others for which spills wait, as far as told.
    strange: BTreeSet<String>,
}

impl Work {
    fn run(mut self, queue: &Receiver<Order>) {
        let mut list_at = Instant::now();
        loop {
            let now = Instant::now();
            if list_at <= now {
                list_at = now + LIST;
                self.list();
            }
            let wait = if self.unmarked.is_empty() { list_at - now } else { AGAIN.min(list_at - now) };
            match queue.recv_timeout(wait) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Order::Clean(recording)) => self.clean(recording),
                Ok(Order::Open(recording)) => self.open(recording),
                Ok(Order::Play(recording, way)) => {
                    if let Some((player, _)) = self.players.get(&recording) {
                        // One that has ended has reported why.
                        let _ = player.send(way);
                    }
                }
                Ok(Order::Leave(recording)) => drop(self.players.remove(&recording)),
                Ok(Order::Mark(recording)) => {
                    self.players.remove(&recording);
                    self.unmarked.insert(recording);
                    self.mark();
                }
                Err(RecvTimeoutError::Timeout) => self.mark(),
            }
        }
    }

    fn report(&self, report: SpillReport) {
        // The engine is gone only when the node is.
        let _ = self.reports.send(report);
    }

    fn waiting(&self, entry: &Entry) -> Option<WaitingSpill> {
        let recorder = entry.waits_for().filter(|_| !self.unmarked.contains(&entry.recording))?;
        Some(WaitingSpill { recording: entry.recording, recorder: recorder.to_owned(), started: entry.started_ms })
    }

    /// All that waits.
    fn list(&mut self) {
        // Those that could not open or read theirs have said so and are over.
        self.players.retain(|_, (_, thread)| !thread.is_finished());
        let query = Query { states: vec![State::Sealed, State::Interrupted], spilled: true, ..Query::default() };
        let mut all = Vec::new();
        let listed = self.vault.catalogue().for_each(query, &mut |entry| {
            all.extend(self.waiting(&entry));
            Ok(())
        });
        let others = all.iter().map(|one| &one.recorder).filter(|name| !self.known.contains(name));
        for recorder in others.cloned().collect::<BTreeSet<_>>() {
            if !self.strange.contains(&recorder) {
                tracing::warn!(
                    recorder,
                    "spills wait for a recorder that is not configured, or not to be forwarded to"
                );
                self.strange.insert(recorder);
            }
        }
        match listed {
            Ok(()) => self.report(SpillReport::All(all)),
            Err(error) => tracing::error!(%error, "what waits to be forwarded cannot be looked for"),
        }
    }

    /// A self-audit was clean: that of a spill, perhaps.
    fn clean(&self, recording: RecordingId) {
        match self.vault.catalogue().get(recording) {
            Ok(entry) => {
                if let Some(one) = entry.and_then(|entry| self.waiting(&entry)) {
                    self.report(SpillReport::One(one));
                }
            }
            Err(error) => tracing::error!(%recording, %error, "the catalogue cannot be asked; the next list has it"),
        }
    }

    fn open(&mut self, recording: RecordingId) {
        let (sender, ways) = mpsc::channel();
        let player = Player { recording, vault: self.vault.clone(), reports: self.reports.clone(), ways };
        let started = std::thread::Builder::new().name("forward-play".into()).spawn(move || {
            let _ = rustix::process::nice(19);
            player.run();
        });
        match started {
            Ok(thread) => drop(self.players.insert(recording, (sender, thread))),
            Err(error) => self.report(SpillReport::Unfit(recording, format!("no thread for it: {error}"), false)),
        }
    }

    /// Marks what recorders have got. What cannot be marked now is tried again: it must not be sent twice.
    fn mark(&mut self) {
        for recording in std::mem::take(&mut self.unmarked) {
            match self.vault.catalogue().forwarded(recording, wall()) {
                // Destroyed meanwhile: nobody sends it again.
                Ok(_) | Err(CatalogueError::Refused { .. } | CatalogueError::Unknown(_)) => {
                    self.report(SpillReport::Marked(recording));
                }
                Err(error) => {
                    tracing::error!(%recording, %error, "a spill was forwarded and cannot be marked so yet");
                    self.unmarked.insert(recording);
                }
            }
        }
    }
}

/// Opens one spill and plays it.
struct Player {
    recording: RecordingId,
    vault: Arc<Vault>,
    reports: UnboundedSender<SpillReport>,
    ways: Receiver<Way>,
}

impl Player {
    fn run(self) {
        let (proven, mut reading) = match self.open() {
            Ok(opened) => opened,
            Err((why, for_good)) => return self.unfit(why, for_good),
        };
        let opened =
            OpenedSpill { start: proven.start().clone(), ended: proven.ended(), call_ended: proven.call_ended() };
        let _ = self.reports.send(SpillReport::Opened(self.recording, Box::new(opened)));
        let Ok(way) = self.ways.recv() else { return };
        if let Err(error) = reading.rewind() {
            return self.unfit(error.to_string(), false);
        }
        let seal = reading.seal.take();
        // One block ahead, so that the sender never waits for the next.
        let due = Instant::now().checked_sub(BLOCK).unwrap_or_else(Instant::now);
        let mut pace = Pace { ways: &self.ways, way: &way, due, left: false };
        let input = BufReader::with_capacity(1 << 16, &mut reading);
        let ring = self.vault.keys().ring();
        let played = proven.play(input, seal.as_deref(), &ring, &mut |block| pace.give(block));
        match played {
            Ok(()) => way.door.end(way.fork),
            Err(_) if pace.left => {}
            Err(error) => self.unfit(error.to_string(), false),
        }
    }

    fn unfit(&self, why: String, for_good: bool) {
        let _ = self.reports.send(SpillReport::Unfit(self.recording, why, for_good));
    }

    /// Opens it, fetched from the object store if it is only there, and proves every byte; or why not, and whether it never
    /// will be.
    fn open(&self) -> Result<(Proven, Reading), (String, bool)> {
        let mut reading = self.vault.open(self.recording).map_err(|error| {
            let gone =
                matches!(error, VaultError::Catalogue(CatalogueError::Refused { .. } | CatalogueError::Unknown(_)));
            (error.to_string(), gone)
        })?;
        let told = |error: Unfit| {
            let why = match &error {
                Unfit::Fault(Fault::Key(key)) => format!("it cannot be opened: {key}"),
                other => other.to_string(),
            };
            (why, matches!(error, Unfit::Withheld(_)))
        };
        let cleared = Cleared::of(&reading.entry).map_err(told)?;
        let seal = reading.seal.clone();
        let ring = self.vault.keys().ring();
        let input = BufReader::with_capacity(1 << 16, &mut reading);
        let proven = cleared.prove(input, seal.as_deref(), &ring).map_err(told)?;
        Ok((proven, reading))
    }
}

/// The pace of a call: a block each 100 ms, and none while no sound flows.
struct Pace<'a> {
    /// Nothing comes by it any more; it ends when the spill is left.
    ways: &'a Receiver<Way>,
    way: &'a Way,
    due: Instant,
    left: bool,
}

impl Pace<'_> {
    fn give(&mut self, mut block: MaskedBlock) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if self.due > now {
                self.wait(self.due - now)?;
            } else if self.way.cut.load(Ordering::SeqCst) {
                self.wait(PAUSE)?;
            } else {
                match self.way.door.offer(self.way.fork, block) {
                    Ok(()) => break,
                    Err(back) => block = back,
                }
                self.wait(PAUSE)?;
            }
        }
        // Whoever came late goes on from now: nothing is sent faster than it was said.
        self.due = (self.due + BLOCK).max(Instant::now().checked_sub(BLOCK).unwrap_or(self.due));
        Ok(())
    }

    fn wait(&mut self, span: Duration) -> io::Result<()> {
        match self.ways.recv_timeout(span) {
            Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                self.left = true;
                Err(io::ErrorKind::Interrupted.into())
            }
        }
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
