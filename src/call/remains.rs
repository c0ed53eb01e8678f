//! What remains of a call for a while after its end: a BYE that must wait for the ACK (RFC 3261 section 15), tags whose
//! crossing BYE still gets its 200, and the media session whose last blocks belong into the recording before that is
//! closed. Every remainder has a deadline.
//!
//! ```text
//!  media:  Close ordered ─► Closed reported | MEDIA_GRACE ─► recording Close ordered ─► reported | RECORDER_GRACE ─► gone
//!  ACK:    2xx sent, call over ─► ACK | ServerTimeout ─► BYE ─► gone
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::RecordOrder;
use super::outbox::Outbox;
use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::base::time::soonest;
use crate::sip::{Dest, Dialog, ServerId};

/// How long a media session may take to report its end.
const MEDIA_GRACE: Duration = Duration::from_secs(2);

/// How long a recorder may take to report a closed file.
const RECORDER_GRACE: Duration = Duration::from_secs(60);

/// How long a crossing BYE is still answered 200 (64 × T1).
const TAG_GRACE: Duration = Duration::from_secs(32);

/// A dialog whose BYE waits for the ACK.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) dialog: Dialog,
    pub(super) dest: Dest,
}

/// A media session that is closing.
#[derive(Debug)]
struct Closing {
    call: CallId,
    recording: Option<RecordingId>,
    until: Instant,
}

/// What remains of ended calls.
#[derive(Debug, Default)]
pub(super) struct Remains {
    farewells: HashMap<ServerId, Farewell>,
    tags: HashMap<String, Instant>,
    /// Oldest first.
    tag_order: VecDeque<(Instant, String)>,
    sessions: BTreeMap<SessionId, Closing>,
    recordings: BTreeMap<RecordingId, (CallId, Instant)>,
}

impl Remains {
    /// Keeps a BYE until the ACK of `invite` comes or is given up.
    pub(super) fn await_ack(&mut self, invite: ServerId, farewell: Farewell) {
        self.farewells.insert(invite, farewell);
    }

    /// The ACK of `invite` came, or never will: the BYE may go now.
    pub(super) fn take_farewell(&mut self, invite: ServerId) -> Option<Farewell> {
        self.farewells.remove(&invite)
    }

    /// Keeps an ended dialog's tag, so that a crossing BYE is understood.
    pub(super) fn bury_tag(&mut self, now: Instant, tag: String) {
        let until = now + TAG_GRACE;
        self.tags.insert(tag.clone(), until);
        self.tag_order.push_back((until, tag));
    }

    /// A BYE for an ended dialog: whether it is one of ours. A BYE of ours that still waits is not needed any more.
    pub(super) fn takes_bye(&mut self, tag: &str) -> bool {
        self.farewells.retain(|_, farewell| farewell.dialog.id().local_tag != tag);
        self.tags.contains_key(tag)
    }

    /// A media session was told to close; `recording` is to be closed after its last block.
    pub(super) fn close_session(
        &mut self,
        now: Instant,
        session: SessionId,
        call: CallId,
        recording: Option<RecordingId>,
    ) {
        self.sessions.insert(session, Closing { call, recording, until: now + MEDIA_GRACE });
    }

    /// A recording beside the call's own is being closed.
    pub(super) fn expect_recording(&mut self, now: Instant, recording: RecordingId, call: CallId) {
        self.recordings.insert(recording, (call, now + RECORDER_GRACE));
    }

    /// A media session reports its end: its call, when it was one we closed.
    pub(super) fn session_closed(&mut self, now: Instant, session: SessionId, out: &mut Outbox) -> Option<CallId> {
        let closing = self.sessions.remove(&session)?;
        if let Some(recording) = closing.recording {
            out.record(RecordOrder::Close { recording });
            self.recordings.insert(recording, (closing.call, now + RECORDER_GRACE));
        }
        Some(closing.call)
    }

    /// A recorder reports on a recording whose call is over: the call.
    pub(super) fn recording_reported(&mut self, recording: RecordingId) -> Option<CallId> {
        if let Some((call, _)) = self.recordings.remove(&recording) {
            return Some(call);
        }
        // It failed before the session's end was reported: nothing is left to close.
        let closing = self.sessions.values_mut().find(|c| c.recording == Some(recording))?;
        closing.recording = None;
        Some(closing.call)
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let late: Vec<SessionId> = self.sessions.iter().filter(|(_, c)| c.until <= now).map(|(id, _)| *id).collect();
        for session in late {
            self.session_closed(now, session, out);
        }
        self.recordings.retain(|_, (_, until)| *until > now);
        while self.tag_order.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, tag)) = self.tag_order.pop_front() {
                self.tags.remove(&tag);
            }
        }
    }

    /// When [`Remains::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // Sessions are numbered in the order they were made, not closed; few are closing at a time.
        let session = self.sessions.values().fold(None, |soon, c| soonest(soon, Some(c.until)));
        let recording = self.recordings.values().fold(None, |soon, (_, until)| soonest(soon, Some(*until)));
        let tag = self.tag_order.front().map(|(until, _)| *until);
        [session, recording, tag].into_iter().fold(None, soonest)
    }

    /// Whether media or recorders still owe a report.
    pub(super) fn is_quiet(&self) -> bool {
        self.sessions.is_empty() && self.recordings.is_empty() && self.farewells.is_empty()
    }
}
