//! The thread that writes the log: takes what waits in one go, writes and syncs it once, answers who waits, signs a
//! checkpoint when one is due. When the disk refuses, records wait in memory, once a second it tries again, and a record
//! of how many were lost comes first.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::book::{Book, Writer};
use super::ship::Port;
use super::{Done, Item, Shown};
use crate::audit::note::Signer;
use crate::audit::{Action, Record, Repeats, Unwritable};
use crate::base::time::WallMs;
use crate::config::{Audit, AuditSync};
use crate::rt::recorder::wall;

/// Records written in one go.
const BATCH: usize = 1_024;

/// Records kept in memory while the disk refuses.
const BACKLOG: usize = 10_000;

/// How long until the disk is tried again, and how often it is synced with `sync = "second"`.
const SECOND: Duration = Duration::from_secs(1);

/// The longest the thread sleeps.
const LONGEST: Duration = Duration::from_secs(3_600);

pub(super) struct Thread {
    pub(super) settings: Audit,
    pub(super) node: String,
    pub(super) signer: Signer,
    pub(super) book: io::Result<Book>,
    pub(super) items: Receiver<Item>,
    pub(super) ports: Vec<Port>,
    pub(super) shown: Arc<Shown>,
    pub(super) changed: Box<dyn Fn(bool) + Send>,
}

/// Tells those who wait. Who waits no longer needs no answer.
fn answer(waiting: Vec<Done>, result: Result<(), Unwritable>) {
    for done in waiting {
        let _ = done.send(result);
    }
}

/// What the thread keeps between turns.
#[derive(Default)]
struct State {
    repeats: Repeats,
    backlog: VecDeque<(WallMs, Record)>,
    /// Entries could not be written when that was tried last.
    refused: bool,
    /// The newest checkpoint could not be kept. Entries may be written all the same, and are as long as they are, but a log
    /// that nothing signs is none to capture under.
    unsigned: bool,
    /// When the disk is tried again.
    retry: Option<Instant>,
    /// When what was written without a sync is synced.
    sync: Option<Instant>,
    /// When the first entry without a checkpoint gets one.
    sign: Option<Instant>,
    /// Lost records that were told.
    told_lost: u64,
    stopping: bool,
}

impl Thread {
    pub(super) fn run(mut self) {
        let mut state = State::default();
        if let Err(error) = &self.book {
            self.refused(error.to_string());
            (state.refused, state.retry) = (true, Some(Instant::now() + SECOND));
        } else {
            self.show();
            if let Ok(Some(newest)) = self.book.as_ref().map_or(Ok(None), Book::newest_checkpoint) {
                self.ports.iter().for_each(|port| port.send(newest.clone()));
            }
        }
        while !state.stopping {
            let mut waiting = Vec::new();
            let first = self.items.recv_timeout(Self::patience(&state));
            match first {
                Ok(item) => self.take(&mut state, item, &mut waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => state.stopping = true,
            }
            while state.backlog.len() < BATCH && !state.stopping {
                let Ok(item) = self.items.try_recv() else { break };
                self.take(&mut state, item, &mut waiting);
            }
            let now = wall();
            let due = state.repeats.due(now, state.stopping);
            state.backlog.extend(due.into_iter().map(|record| (now, record)));
            self.turn(&mut state, waiting);
        }
    }

    /// How long the thread may sleep.
    fn patience(state: &State) -> Duration {
        let now = Instant::now();
        let timers = [state.retry, state.sync, state.sign].into_iter().flatten();
        let timers = timers.map(|at| at.saturating_duration_since(now));
        let repeats = state.repeats.next_ms(wall()).map(|ms| Duration::from_millis(ms + 1));
        timers.chain(repeats).min().unwrap_or(LONGEST)
    }

    fn take(&self, state: &mut State, item: Item, waiting: &mut Vec<Done>) {
        match item {
            Item::Note(at, record, done) => {
                // What somebody waits for is written as it is.
                let record = if done.is_some() { Some(*record) } else { state.repeats.take(at, *record) };
                waiting.extend(done);
                let Some(record) = record else { return };
                if state.backlog.len() >= BACKLOG {
                    self.shown.lost.fetch_add(1, Relaxed);
                    return;
                }
                state.backlog.push_back((at, record));
            }
            Item::Stop => state.stopping = true,
        }
    }

    /// Writes what waits, if it may; syncs and signs what is due.
    fn turn(&mut self, state: &mut State, waiting: Vec<Done>) {
        let now = Instant::now();
        if state.retry.is_some_and(|at| at > now && !state.stopping) {
            answer(waiting, Err(Unwritable));
            return;
        }
        if let Err(error) = self.write(state, !waiting.is_empty()) {
            self.refused(error.to_string());
            (state.refused, state.retry) = (true, Some(now + SECOND));
            answer(waiting, Err(Unwritable));
            return;
        }
        (state.refused, state.retry) = (false, None);
        self.settle(state);
        answer(waiting, Ok(()));
        if let Err(error) = self.sign(state) {
            self.refused(error.to_string());
            (state.unsigned, state.sign) = (true, Some(now + SECOND));
        }
        self.settle(state);
    }

    /// Tells that the log can be written again, when everything of it can.
    fn settle(&self, state: &State) {
        if !state.refused && !state.unsigned && self.shown.unwritable.swap(false, Relaxed) {
            tracing::info!("the audit log can be written again");
            (self.changed)(true);
        }
    }

    fn write(&mut self, state: &mut State, wait: bool) -> io::Result<()> {
        if self.book.is_err() {
            self.book = Book::open(&self.settings.directory, &self.node, Writer::Node, self.settings.file_bytes);
        }
        let book = match &mut self.book {
            Ok(book) => book,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let now = Instant::now();
        let lost = self.shown.lost.load(Relaxed);
        let gap = state.refused || lost > state.told_lost;
        if gap {
            let gap = Record::node(Action::LogGap { lost: lost - state.told_lost });
            state.backlog.push_front((wall(), gap));
        }
        let always = self.settings.sync == AuditSync::Always || wait || state.stopping;
        while !state.backlog.is_empty() {
            let batch = state.backlog.make_contiguous();
            let batch = &batch[..batch.len().min(BATCH)];
            let count = batch.len();
            if let Err(error) = book.append(batch, always) {
                if gap {
                    // It is told with the number it has then.
                    state.backlog.pop_front();
                }
                return Err(error);
            }
            state.told_lost = lost;
            state.backlog.drain(..count);
            if !always {
                state.sync.get_or_insert(now + SECOND);
            }
        }
        if state.sync.is_some_and(|at| always || at <= now) {
            state.sync = None;
            book.sync()?;
        }
        self.shown.entries.store(book.entries(), Relaxed);
        Ok(())
    }

    fn sign(&mut self, state: &mut State) -> io::Result<()> {
        let now = Instant::now();
        let Ok(book) = &mut self.book else { return Ok(()) };
        let open = book.entries().saturating_sub(book.signed());
        if open == 0 {
            state.unsigned = false;
            return Ok(());
        }
        let due = *state.sign.get_or_insert(now + self.settings.checkpoint_every);
        if open < self.settings.checkpoint_entries && due > now && !state.stopping {
            return Ok(());
        }
        let checkpoint = book.checkpoint(&self.signer, wall())?;
        (state.unsigned, state.sign) = (false, None);
        if let Some(checkpoint) = checkpoint {
            self.ports.iter().for_each(|port| port.send(checkpoint.clone()));
        }
        self.show();
        Ok(())
    }

    fn show(&self) {
        let Ok(book) = &self.book else { return };
        self.shown.entries.store(book.entries(), Relaxed);
        self.shown.signed.store(book.signed(), Relaxed);
        self.shown.signed_at.store(wall().0, Relaxed);
    }

    fn refused(&self, error: String) {
        if !self.shown.unwritable.swap(true, Relaxed) {
            let directory = self.settings.directory.display();
            tracing::error!(%directory, error, "the audit log cannot be written: nothing may be captured or played");
            (self.changed)(false);
        }
    }
}
