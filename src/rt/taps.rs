//! Joins media sessions to recordings: blocks of a session go to the recording that was opened for it, from the media
//! worker's thread straight into the recorder's queue. Orders of the engine go in; the recorder's reports come back as
//! what the engine understands.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::catalogue::{Catalogue, Clerk};
use super::forks::{Counters as ForkCounters, Door, Forks};
use super::forward::{self, Forward};
use super::recorder::{Failure, Feed, Handle, Meta, Recorder, Report, Settings, wall};
use super::rescan::Rescan;
use crate::audit::{Action, Audit, Record};
use crate::base::ids::{RecordingId, SessionId};
use crate::call::{ForkId, ForkReport, RecordOrder, RecorderReport};
use crate::control::history::History;
use crate::media::MaskedBlock;
use crate::obs::event::EventKind;
use crate::obs::metrics::RecorderTotals;
use crate::record::horizon::Redaction;
use crate::record::sealed::Mark;

type Feeds = Arc<RwLock<HashMap<SessionId, Vec<Sink>>>>;

/// The oldest sound a block can hold when it is given out, and some.
const OLDEST: Duration = Duration::from_millis(600);

/// Who takes the blocks of a session.
enum Sink {
    /// A sealed file; what comes before the time was heard in a pause and is left out.
    File(Feed, Option<Instant>),
    /// The sender to a recording server.
    Fork(ForkId, Door),
}

/// What the recorder told the engine.
pub(super) type Reports = UnboundedSender<(RecordingId, RecorderReport)>;

/// The recorder of a node, if it records, and which session feeds which recording.
pub(super) struct Taps {
    recorder: Option<(Recorder, Handle)>,
    clerk: Option<Clerk>,
    rescan: Option<Rescan>,
    feeds: Feeds,
    open: HashMap<RecordingId, SessionId>,
    reports: Reports,
    forks: Option<Forks>,
    forked: HashMap<ForkId, SessionId>,
    forward: Option<Forward>,
}

/// The media workers' way to the recorder.
#[derive(Clone)]
pub(super) struct Intake(Feeds);

impl Intake {
    /// Takes a block; a session that is not recorded (any more) has nowhere to put it.
    pub(super) fn block(&self, session: SessionId, block: MaskedBlock) {
        let feeds = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some((last, others)) = feeds.get(&session).and_then(|sinks| sinks.split_last()) else { return };
        for sink in others {
            sink.take(block.share());
        }
        last.take(block);
    }
}

impl Sink {
    #[allow(clippy::disallowed_methods)] // The shell's clock.
    fn take(&self, block: MaskedBlock) {
        match self {
            Sink::File(_, Some(from)) if Instant::now() < *from => {}
            Sink::File(feed, _) => feed.block(block),
            Sink::Fork(fork, door) => door.block(*fork, block),
        }
    }
}

impl Taps {
    /// Starts the recorder if there are `settings` for one, and the clerk that keeps the catalogue of it and hands what is
    /// over to the self-audit.
    pub(super) fn start(
        settings: Option<Settings>,
        kept: Option<(Arc<Catalogue>, Rescan)>,
        reports: Reports,
        history: Arc<History>,
        audit: Audit,
    ) -> Result<Self, Failure> {
        let (catalogue, rescan) = kept.unzip();
        let clerk = match (&settings, catalogue) {
            (Some(settings), Some(catalogue)) => {
                let clerk = Clerk::start(catalogue, &settings.node, rescan.as_ref().map(Rescan::desk));
                Some(clerk.map_err(|error| Failure::of(&error, "cannot keep the catalogue of", &settings.root))?)
            }
            _ => None,
        };
        let desk = clerk.as_ref().map(Clerk::desk);
        let recorder = match settings {
            None => None,
            Some(settings) => {
                let reports = reports.clone();
                let recorder = Recorder::start(settings, move |recording, report| {
                    if let Some(desk) = &desk {
                        desk.report(recording, &report);
                    }
                    tell(&reports, &history, &audit, recording, report);
                })?;
                let handle = recorder.handle();
                Some((recorder, handle))
            }
        };
        let (feeds, open, forked) = (Feeds::default(), HashMap::new(), HashMap::new());
        Ok(Self { recorder, clerk, rescan, feeds, open, reports, forks: None, forked, forward: None })
    }

    /// The media workers' way in.
    pub(super) fn intake(&self) -> Intake {
        Intake(self.feeds.clone())
    }

    /// Counters of the recorder, if there is one.
    pub(super) fn counters(&self) -> Option<Handle> {
        self.recorder.as_ref().map(|(_, handle)| handle.clone())
    }

    /// Why no recording can be written, if so, and word when that turns; `None` without a recorder.
    pub(super) fn storage(&self) -> Option<watch::Receiver<Option<Failure>>> {
        self.recorder.as_ref().map(|(_, handle)| handle.storage())
    }

    /// Starts the sender to recording servers.
    pub(super) fn start_forks(&mut self, report: impl Fn(ForkId, ForkReport) + Send + 'static) -> std::io::Result<()> {
        self.forks = Some(Forks::start(report)?);
        Ok(())
    }

    /// Counters of the sender to recording servers, if there is one.
    pub(super) fn fork_counters(&self) -> Option<Arc<ForkCounters>> {
        self.forks.as_ref().map(Forks::counters)
    }

    /// Carries out an order about the sound to a recording server; the report when it cannot be.
    pub(super) fn fork(&mut self, order: RecordOrder) -> Result<(), (ForkId, ForkReport)> {
        let Some(forks) = &mut self.forks else { return Ok(()) };
        let (opened, closed) = match &order {
            RecordOrder::OpenFork { fork, session: Some(session), .. } => (Some((*fork, *session)), None),
            RecordOrder::CloseFork { fork } => (None, Some(*fork)),
            _ => (None, None),
        };
        let door = forks.door();
        forks.order(order)?;
        if let Some((fork, session)) = opened {
            self.forked.insert(fork, session);
            let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
            feeds.entry(session).or_default().push(Sink::Fork(fork, door));
        }
        if let Some((fork, session)) = closed.and_then(|fork| Some((fork, self.forked.remove(&fork)?))) {
            self.remove(session, |sink| matches!(sink, Sink::Fork(other, _) if *other == fork));
        }
        Ok(())
    }

    /// Begins to forward spills by `forward`.
    pub(super) fn start_forward(&mut self, forward: Forward) {
        self.forward = Some(forward);
    }

    /// Carries out an order about a spill.
    pub(super) fn spill(&self, order: &RecordOrder) {
        if let RecordOrder::CallOver { recording, at } = order
            && let Some(clerk) = &self.clerk
        {
            clerk.desk().call_over(*recording, *at);
        }
        let Some(forward) = &self.forward else { return };
        forward.order(match order {
            RecordOrder::OpenSpill { recording } => forward::Order::Open(*recording),
            RecordOrder::LeaveSpill { recording } => forward::Order::Leave(*recording),
            RecordOrder::MarkSpill { recording } => forward::Order::Mark(*recording),
            RecordOrder::PlaySpill { recording, fork } => {
                let Some(forks) = &self.forks else { return };
                // A way that is closed again needs no sound.
                let Some(cut) = forks.cut_of(*fork) else { return };
                forward::Order::Play(*recording, forward::Way { fork: *fork, door: forks.door(), cut })
            }
            _ => return,
        });
    }

    /// Takes a sink of a session out.
    fn remove(&self, session: SessionId, is: impl Fn(&Sink) -> bool) -> Option<Sink> {
        let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
        let sinks = feeds.get_mut(&session)?;
        let at = sinks.iter().position(is)?;
        let sink = sinks.swap_remove(at);
        if sinks.is_empty() {
            feeds.remove(&session);
        }
        Some(sink)
    }

    /// Starts a recording of `session`'s blocks. Without a recorder it fails at once, by report. `hush`: what was heard in a
    /// pause may still be under way and is left out.
    #[allow(clippy::disallowed_methods)] // The shell's clock.
    pub(super) fn open(&mut self, recording: RecordingId, session: SessionId, meta: Meta, hush: bool) {
        let Some((_, handle)) = &self.recorder else {
            let _ = self.reports.send((recording, RecorderReport::Failed));
            return;
        };
        if let Some(clerk) = &self.clerk {
            clerk.desk().open(recording, &meta);
        }
        let feed = handle.open(recording, meta);
        self.open.insert(recording, session);
        let sink = Sink::File(feed, hush.then(|| Instant::now() + OLDEST));
        self.feeds.write().unwrap_or_else(PoisonError::into_inner).entry(session).or_default().push(sink);
    }

    /// Takes out of a recording what was heard.
    pub(super) fn redact(&self, recording: RecordingId, order: Redaction) {
        // What stands in for an absent recorder holds the same sound.
        for feed in self.feeds_beside(recording) {
            feed.redact(order);
        }
    }

    /// Notes in a recording what is known of keys.
    pub(super) fn mark(&self, recording: RecordingId, at: Instant, mark: Mark) {
        for feed in self.feeds_beside(recording) {
            feed.mark(at, mark);
        }
    }

    /// The sealed files of the session that a recording is of, itself included.
    fn feeds_beside(&self, recording: RecordingId) -> Vec<Feed> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let sinks = self.open.get(&recording).and_then(|session| feeds.get(session));
        let file = |sink: &Sink| match sink {
            Sink::File(feed, _) => Some(feed.clone()),
            Sink::Fork(..) => None,
        };
        sinks.into_iter().flatten().filter_map(file).collect()
    }

    /// Seals and closes a recording after the blocks it has.
    pub(super) fn close(&mut self, recording: RecordingId) {
        let Some(session) = self.open.remove(&recording) else { return };
        let of = |sink: &Sink| matches!(sink, Sink::File(feed, _) if feed.recording() == recording);
        if let Some(Sink::File(feed, _)) = self.remove(session, of) {
            feed.close();
        }
    }

    /// Closes what is open and waits for the recorder to have written it.
    pub(super) fn shutdown(mut self) {
        for recording in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(recording);
        }
        if let Some(forward) = self.forward.take() {
            forward.stop();
        }
        if let Some(forks) = self.forks.take() {
            self.feeds.write().unwrap_or_else(PoisonError::into_inner).clear();
            forks.stop();
        }
        if let Some((recorder, handle)) = self.recorder {
            drop(handle);
            recorder.stop();
        }
        if let Some(clerk) = self.clerk {
            clerk.stop();
        }
        if let Some(rescan) = self.rescan {
            rescan.stop();
        }
    }
}

/// Passes on what the engine must know and logs the rest.
fn tell(reports: &Reports, history: &History, audit: &Audit, recording: RecordingId, report: Report) {
    let told = match report {
        Report::Opened { .. } | Report::Acknowledged { .. } => return,
        Report::Behind { blocks } => {
            tracing::warn!(%recording, blocks, "the disk is too slow: blocks of 100 ms were lost, marked as silence");
            return;
        }
        Report::Redacted { call, ms } => {
            history.publish(wall(), Some(call), EventKind::RecordingRedacted { recording, ms });
            tracing::warn!(%recording, ms, "a card was recognised late: it was taken out before it was sealed");
            return;
        }
        Report::TooLate { call } => {
            let reason = "a card was recognised after its first keys had been sealed".to_owned();
            history.publish(wall(), Some(call), EventKind::RecordingQuarantined { recording, reason });
            tracing::error!(%recording, "a card was recognised after its first keys had been sealed");
            return;
        }
        Report::Closed { length_ms, bytes, chunks, header, call, .. } => {
            // What was sealed: without its seal, a file that is cut later is told from a killed one by this.
            let (chunks, bytes, header) = (Some(chunks), Some(bytes), Some(hex::encode(header).into()));
            let action = Action::RecordingSealed { recording, call: Some(call), chunks, bytes, header };
            audit.note(Record::node(action));
            tracing::info!(%recording, length_ms, bytes, "recording closed");
            RecorderReport::Closed
        }
        Report::Failed(failure) => {
            tracing::error!(%recording, %failure, "recording failed");
            RecorderReport::Failed
        }
    };
    // The engine is gone only when the node is.
    let _ = reports.send((recording, told));
}

/// The recorder's totals as metrics take them.
pub(super) fn totals(handle: &Handle) -> RecorderTotals {
    let counters = handle.counters();
    RecorderTotals {
        open: counters.open.load(Relaxed),
        waiting: u64::try_from(counters.waiting()).unwrap_or(u64::MAX),
        chunks: counters.chunks.load(Relaxed),
        bytes: counters.bytes.load(Relaxed),
        lost_blocks: counters.lost_blocks.load(Relaxed),
        held_bytes: counters.held_bytes.load(Relaxed),
        early_blocks: counters.early_blocks.load(Relaxed),
        writable: handle.storage().borrow().is_none(),
    }
}
