//! What the engine orders from the recorder and hears back. The shell (`rt/`) carries both.

use crate::base::ids::{CallId, RecordingId, SessionId};
use crate::config::RecordingPolicy;

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
