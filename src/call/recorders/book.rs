//! The book of the recording sessions: every line of the node and by what it is found, what became of each recorder, and the
//! calls that something is to be done about. It decides nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use smallvec::SmallVec;

use super::line::{Line, LineId};
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::{WallMs, soonest};
use crate::call::orders::ForkId;
use crate::config::{Recorder, RecorderId};
use crate::record::siprec::forward::Spills;
use crate::sip::{ClientId, ServerId};

/// What an answer is to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Invite(LineId),
    Alive(LineId),
}

/// What came of a recorder since the node started.
#[derive(Debug, Default)]
pub(in crate::call) struct Tally {
    pub(super) started: u64,
    pub(super) failed: u64,
    pub(super) last_error: Option<(Instant, String)>,
    /// Until when a required recorder that took nothing keeps new calls away.
    pub(super) shut_until: Option<Instant>,
}

impl Tally {
    pub(super) fn shut(&self, now: Instant) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }
}

/// Every line of the node.
#[derive(Debug, Default)]
pub(in crate::call) struct Recorders {
    pub(super) lines: HashMap<LineId, Line>,
    pub(super) of_call: HashMap<CallId, SmallVec<[LineId; 2]>>,
    pub(super) tags: HashMap<String, LineId>,
    pub(super) asked: HashMap<ClientId, Asked>,
    pub(super) servers: HashMap<ServerId, LineId>,
    pub(super) forks: HashMap<ForkId, LineId>,
    pub(super) spills: HashMap<RecordingId, LineId>,
    /// What was spilled and waits to be forwarded.
    pub(super) waiting: Spills,
    /// Lines by which spills are being forwarded.
    pub(super) forwards: HashMap<RecordingId, LineId>,
    /// Spills that a recorder has got and that are being marked.
    pub(super) marking: HashMap<RecordingId, (RecorderId, CallId, SocketAddr)>,
    pub(super) due: BTreeSet<(Instant, LineId)>,
    pub(super) tallies: Vec<Tally>,
    /// Calls that may not go on without a recorder they have lost.
    pub(super) doomed: Vec<CallId>,
    pub(super) wall: Option<(Instant, WallMs)>,
    /// Calls on which something may have changed.
    pub(super) touched: Vec<CallId>,
    /// Calls a leg of which has another end now, and may be on another trunk.
    pub(super) moved: Vec<CallId>,
    pub(super) last_line: u64,
    pub(super) last_fork: u64,
}

impl Recorders {
    pub(in crate::call) fn new(recorders: &[Recorder]) -> Self {
        let tallies = recorders.iter().map(|_| Tally::default()).collect();
        let waiting = Spills::new(recorders.iter().map(|recorder| recorder.forward_sessions));
        Self { tallies, waiting, ..Self::default() }
    }

    /// What the wall clock shows at `now`.
    pub(in crate::call) fn set_wall(&mut self, now: Instant, wall: WallMs) {
        self.wall = Some((now, wall));
    }

    pub(super) fn wall(&self, now: Instant) -> WallMs {
        let (at, wall) = self.wall.unwrap_or((now, WallMs(0)));
        let since = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        WallMs(wall.0.saturating_add(since))
    }

    /// Something may have changed on a call.
    pub(in crate::call) fn touch(&mut self, call: CallId) {
        if self.of_call.contains_key(&call) {
            self.touched.push(call);
        }
    }

    /// The next call on which something may have changed.
    pub(in crate::call) fn poll_touched(&mut self) -> Option<CallId> {
        self.touched.pop()
    }

    /// A leg of a call has another end.
    pub(in crate::call) fn moves(&mut self, call: CallId) {
        if !self.tallies.is_empty() {
            self.moved.push(call);
        }
    }

    /// The next call whose trunks may name recorders that it has no line to.
    pub(in crate::call) fn poll_moved(&mut self) -> Option<CallId> {
        self.moved.pop()
    }

    /// The next call that may not go on.
    pub(in crate::call) fn poll_doomed(&mut self) -> Option<CallId> {
        self.doomed.pop()
    }

    /// When a line wants to be woken.
    pub(in crate::call) fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.due.first().map(|(at, _)| *at), self.waiting.poll_timeout())
    }

    /// Whether no recording session is left to be ended.
    pub(in crate::call) fn is_quiet(&self) -> bool {
        self.lines.is_empty()
    }

    /// Spills that wait to be forwarded to a recorder, those included that are being sent, and how many these are.
    pub(in crate::call) fn spilled(&self, recorder: RecorderId) -> (usize, usize) {
        self.waiting.counts(recorder.0)
    }

    /// Sessions up and calls that go without, by recorder.
    pub(in crate::call) fn counts(&self, recorder: RecorderId) -> (u32, u32) {
        let lines = self.lines.values().filter(|line| line.recorder == recorder && line.counts());
        lines.fold((0, 0), |(up, away), line| (up + u32::from(line.is_up()), away + u32::from(line.is_away())))
    }
}
