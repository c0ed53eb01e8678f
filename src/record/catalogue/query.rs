//! What may be asked of the catalogue, and a page of what it answers.

use super::{Entry, State};
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;

/// Which recordings are wanted; what is `None` does not matter. Newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Of this call.
    pub call: Option<CallId>,
    /// Of a call one of whose legs had this SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// That came in or went out on this trunk.
    pub trunk: Option<String>,
    /// Whose caller, called or agent number is this, or ends in it.
    pub number: Option<String>,
    /// That bear all of these labels.
    pub labels: Vec<(String, String)>,
    /// That began at this time or later.
    pub from: Option<WallMs>,
    /// That began before this time.
    pub until: Option<WallMs>,
    /// In one of these states; empty: any but destroyed.
    pub states: Vec<State>,
    /// Held (`true`) or not held (`false`).
    pub held: Option<bool>,
    /// Wrapped under this key.
    pub kek_id: Option<String>,
    /// Wrapped under any key but this.
    pub other_kek: Option<String>,
    /// Whose deadline is at this time or before.
    pub due: Option<WallMs>,
    /// With sound that is nowhere but on this node's disk.
    pub only_local: bool,
    /// With sound on this node's disk and in the object store.
    pub in_both: bool,
    /// Spills that were not forwarded yet.
    pub spilled: bool,
    /// The last entry of the page before, as [`Page::next`] tells it.
    pub after: Option<(WallMs, RecordingId)>,
    /// Most entries in a page; 0 stands for [`Query::USUAL`], and more than [`Query::MOST`] for that.
    pub limit: usize,
}

impl Query {
    /// Entries of a page when nobody says.
    pub const USUAL: usize = 100;
    /// Most entries of a page.
    pub const MOST: usize = 1_000;

    /// Entries of a page.
    pub fn page(&self) -> usize {
        match self.limit {
            0 => Self::USUAL,
            some => some.min(Self::MOST),
        }
    }
}

/// Entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// For [`Query::after`], when there are more.
    pub next: Option<(WallMs, RecordingId)>,
}
