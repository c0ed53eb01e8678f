//! A call's line to one recorder: which target is asked, what pauses it, when it is tried again. Facts in, facts out; what is
//! done about them is in `recorders`.
//!
//! ```text
//!  Connecting ─ accepted ─► Recording ⇄ Paused / Waiting ─ lost ─► Away ─ next target, or later ─► Recording …
//!      └── no target takes it ──────────────────────────────────────┘         (spilled to a sealed file meanwhile)
//!  any ── stop ─► Stopped ── start ─► Connecting          any ── the call ends ─► Closed
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::forward::Forward;
use super::lease::Leases;
use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::base::time::soonest;
use crate::call::orders::ForkId;
use crate::call::ports::Pair;
use crate::config::RecorderId;
use crate::obs::event::RecorderState;
use crate::record::siprec::Session;
use crate::record::siprec::metadata;
use crate::sip::{ClientId, Dest};

/// Names a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::call) struct LineId(pub(super) u64);

/// A target that was asked for a session.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) session: Session,
    /// The last INVITE, until it is answered.
    pub(super) client: Option<ClientId>,
    pub(super) dest: Dest,
    pub(super) fork: ForkId,
    /// `None`: somebody else has them.
    pub(super) ports: Option<Pair>,
    /// The target has taken the session.
    pub(super) accepted: bool,
    /// Our tag.
    pub(super) tag: String,
    pub(super) call_id: String,
    pub(super) began: Instant,
}

/// A line.
#[derive(Debug)]
pub(in crate::call) struct Line {
    pub(super) id: LineId,
    pub(super) call: CallId,
    /// Whose sound goes there; `None`: a spill is played.
    pub(super) media: Option<SessionId>,
    /// It forwards a spill of a call.
    pub(super) forward: Option<Forward>,
    pub(super) recorder: RecorderId,
    /// What the recorder is told of the call.
    pub(super) told: metadata::Call,
    /// Further headers of its INVITE.
    pub(super) headers: Vec<(String, String)>,
    /// Targets still to be tried in this round.
    pub(super) rest: VecDeque<SocketAddr>,
    pub(super) attempt: Option<Attempt>,
    /// When the next round begins.
    pub(super) retry_at: Option<Instant>,
    /// Rounds and short sessions that failed in a row.
    pub(super) failures: u32,
    /// It was lost or refused, and no session has been up since.
    pub(super) away: bool,
    /// A pause hold is in force on the call.
    pub(super) held: bool,
    /// Who has paused it by itself.
    pub(super) own_pause: Leases,
    /// When a pause was last in force.
    pub(super) last_paused: Option<Instant>,
    /// How long what is spilled waits before it is sealed.
    pub(super) horizon: Duration,
    pub(super) hold_default: Duration,
    pub(super) hold_max: Duration,
    pub(super) stopped: bool,
    /// The call is over: when its last sound is out.
    pub(super) ending: Option<Instant>,
    pub(super) spill: Option<RecordingId>,
    /// A spill failed: none is tried again on this call.
    pub(super) spill_broken: bool,
    pub(super) last_error: Option<String>,
    /// What was announced last.
    pub(super) announced: Option<RecorderState>,
    /// When it is in the order of those to be woken.
    pub(super) due: Option<Instant>,
    pub(super) over: bool,
}

impl Line {
    /// A line that asks nobody yet and carries nothing: neither a call's sound nor a spill.
    pub(super) fn new(id: LineId, call: CallId, recorder: RecorderId, told: metadata::Call) -> Self {
        Self {
            id,
            call,
            media: None,
            forward: None,
            recorder,
            told,
            headers: Vec::new(),
            rest: VecDeque::new(),
            attempt: None,
            retry_at: None,
            failures: 0,
            away: false,
            held: false,
            own_pause: Leases::default(),
            last_paused: None,
            horizon: Duration::ZERO,
            hold_default: Duration::ZERO,
            hold_max: Duration::ZERO,
            stopped: false,
            ending: None,
            spill: None,
            spill_broken: false,
            last_error: None,
            announced: None,
            due: None,
            over: false,
        }
    }

    /// Whether sound may not go to the recorder.
    pub(super) fn is_paused(&self) -> bool {
        self.held || self.own_pause.is_taken()
    }

    /// Whether a recorder has taken the session.
    pub(super) fn is_up(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.session.is_up())
    }

    /// Whether the call goes without the recorder, against its wish.
    pub(super) fn is_away(&self) -> bool {
        self.away && !self.stopped && !self.is_up()
    }

    /// Whether it is of a call that goes on.
    pub(super) fn counts(&self) -> bool {
        self.ending.is_none() && !self.over && self.forward.is_none()
    }

    pub(super) fn target(&self) -> Option<SocketAddr> {
        self.attempt.as_ref().map(|attempt| attempt.dest.remote)
    }

    /// How far it is, in one word.
    pub(super) fn state(&self) -> RecorderState {
        match &self.attempt {
            _ if self.over => RecorderState::Closed,
            _ if self.stopped => RecorderState::Stopped,
            Some(attempt) if attempt.session.is_up() && self.is_paused() => RecorderState::Paused,
            Some(attempt) if attempt.session.is_flowing() => RecorderState::Recording,
            Some(attempt) if attempt.session.is_up() => RecorderState::Waiting,
            _ if self.away => RecorderState::Away,
            _ => RecorderState::Connecting,
        }
    }

    /// When it wants to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let session = self.attempt.as_ref().and_then(|attempt| attempt.session.poll_timeout());
        let session = soonest(session, self.forward.as_ref().and_then(|forward| forward.idle_until));
        let own = if self.ending.is_none() { soonest(self.own_pause.next_end(), self.retry_at) } else { self.ending };
        soonest(session, own)
    }
}
