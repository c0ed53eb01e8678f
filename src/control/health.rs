//! How the node and its recorders are, as the API shows it. `rt/` fills the types in; nothing here decides anything.

use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{SiprecHealth, SiprecView};

/// Whether the node takes calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It takes calls.
    #[default]
    Running,
    /// It takes no new calls, and ends with its last one.
    Draining,
    /// It ends its calls, then itself.
    Stopping,
}

/// How the node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it takes calls.
    pub state: NodeState,
    /// Milliseconds since it started.
    pub up_ms: u64,
    /// The most calls at once.
    pub max_calls: u32,
    /// SIP messages dropped since the start because too many came.
    pub shed: u64,
}

/// What a recorder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderKind {
    /// Sealed files on a disk of ours.
    Sealed,
    /// A SIPREC recording server (RFC 7866).
    Siprec,
}

/// Whether a recorder works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderHealth {
    /// It takes what it is given.
    Up,
    /// It works, but not well: it fell behind, or failed on a call.
    Ailing,
    /// It takes nothing.
    Down,
}

/// A recorder as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecorderView {
    /// Its name: of the configuration, or `sealed`.
    #[schema(example = "sealed")]
    pub name: String,
    /// What it is.
    pub kind: RecorderKind,
    /// Whether it works.
    pub state: RecorderHealth,
    /// Recordings open now.
    pub open: u64,
    /// Recordings that failed since the node started.
    pub failed: u64,
    /// What only sealed files have.
    pub sealed: Option<SealedView>,
    /// What only SIPREC recorders have.
    pub siprec: Option<SiprecView>,
}

impl From<SiprecView> for RecorderView {
    fn from(view: SiprecView) -> Self {
        let state = match view.state {
            SiprecHealth::Up => RecorderHealth::Up,
            SiprecHealth::Ailing => RecorderHealth::Ailing,
            SiprecHealth::Down => RecorderHealth::Down,
        };
        Self {
            name: view.name.clone(),
            kind: RecorderKind::Siprec,
            state,
            open: view.sessions.into(),
            failed: view.failed,
            sealed: None,
            siprec: Some(view),
        }
    }
}

/// The recorder of sealed files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SealedView {
    /// Blocks of 100 ms that wait to be written.
    pub waiting_blocks: u64,
    /// Blocks that may wait; more are dropped and stand as marked silence.
    pub most_waiting_blocks: u64,
    /// Blocks dropped since the node started.
    pub lost_blocks: u64,
    /// Threads that write.
    pub writers: u32,
    /// Chunks synced since the node started.
    pub chunks: u64,
    /// Bytes synced since the node started.
    pub bytes: u64,
    /// The longest write and sync of a chunk so far, in milliseconds.
    pub slowest_ms: u64,
    /// Free bytes of its disk; absent where the system does not say.
    pub disk_free: Option<u64>,
    /// All bytes of its disk.
    pub disk_bytes: Option<u64>,
}
