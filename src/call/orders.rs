//! What the engine orders from the recorder and hears back. The shell (`rt/`) carries both.

use std::time::{Duration, Instant};

use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::config::RecordingPolicy;
use crate::record::horizon::Redaction;
use crate::record::sealed::Mark;

/// An order to the recorder. Blocks of `session` belong to `recording` between `Open` and `Close`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOrder {
    /// Starts a recording.
    Open {
        /// Recording; also its file name.
        recording: RecordingId,
        /// Call.
        call: CallId,
        /// The media session whose blocks it takes.
        session: SessionId,
        /// `BestEffort` or `Required`; never `Off`.
        policy: RecordingPolicy,
        /// How long what is heard waits before it is sealed.
        horizon: Duration,
    },
    /// Takes out of a recording what was heard, as far as it is not sealed.
    Redact {
        /// Recording.
        recording: RecordingId,
        /// What, and what of it is a key that could be heard.
        order: Redaction,
    },
    /// Notes in a recording what is known of keys.
    Mark {
        /// Recording.
        recording: RecordingId,
        /// Since when, or when.
        at: Instant,
        /// What.
        mark: Mark,
    },
    /// Seals and closes a recording.
    Close {
        /// Recording.
        recording: RecordingId,
    },
}

/// What the recorder reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecorderReport {
    /// Nothing more can be written; what was sealed stays readable.
    Failed,
    /// Sealed and complete.
    Closed,
}
