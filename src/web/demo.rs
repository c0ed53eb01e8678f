//! What the demonstration shows beside the live call: key presses as marks without their keys, the level of what the
//! agent hears, and the verdict. `rt/` fills it; the page polls it. No field can hold a digit.

use std::sync::Arc;

use axum::Json;
use axum::routing::{MethodRouter, get};
use serde::Serialize;

use crate::base::ids::CallId;

/// Where the state comes from.
pub type Source = Arc<dyn Fn() -> DemoState + Send + Sync>;

/// The state of the demonstration. Times are milliseconds since it began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoState {
    /// How far it is.
    pub phase: Phase,
    /// One line for people: what happens now.
    pub note: String,
    /// The call, once there is one.
    pub call: Option<CallId>,
    /// Now.
    pub now_ms: u64,
    /// Keys the customer has pressed, in order.
    pub keyed: Vec<Keyed>,
    /// Length of one slot of `heard`.
    pub level_ms: u32,
    /// What the agent heard, slot by slot from the beginning.
    pub heard: Vec<Heard>,
    /// The end of it.
    pub verdict: Option<Verdict>,
}

/// How far the demonstration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Sockets, trunks, the call.
    Starting,
    /// Both talk.
    Talking,
    /// The customer keys the card.
    Keying,
    /// The call is over; everything that left is searched for digits.
    Checking,
    /// The verdict stands.
    Done,
}

/// A key press: when, how long, and how it travelled. Not which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Keyed {
    /// When it was pressed.
    pub at_ms: u64,
    /// How long.
    pub ms: u32,
    /// How it travelled.
    pub form: KeyForm,
}

/// How a key press travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyForm {
    /// In-band tone.
    Tone,
    /// RFC 4733 event.
    Event,
    /// SIP INFO.
    Info,
}

/// One slot of what the agent heard.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Heard {
    /// Level in dBm0, −60 for silence and below.
    pub dbm0: f32,
    /// The mask was in force.
    pub masked: bool,
}

/// The end of the demonstration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Nothing leaked, and all was collected.
    pub passed: bool,
    /// One sentence.
    pub summary: String,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What, for instance "Agent's ear".
    pub name: String,
    /// Well or not.
    pub passed: bool,
    /// What was found, for instance "0 of 16 digits recovered".
    pub found: String,
}

pub(super) fn route(source: Source) -> MethodRouter {
    get(move || {
        let state = source();
        async move { Json(state) }
    })
}
