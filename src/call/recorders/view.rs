//! What the API is shown of the recorders: each one's health, its sessions and its last fault, and on a call the line to
//! each. Built fresh for each question. Nothing in it comes from a message.

use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::line::Line;
use crate::base::ids::{CallId, RecordingId};
use crate::call::shared::Shared;
use crate::call::trunks::view::{TargetState, TargetView, targets};
use crate::config::{RecorderId, RecordingPolicy};
use crate::obs::event::RecorderState;

/// How a recorder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SiprecHealth {
    /// It takes what it is given.
    Up,
    /// Some of its targets are down, or some calls go without it.
    Ailing,
    /// No call can be recorded by it now.
    Down,
}

/// A SIPREC recorder as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SiprecView {
    /// Its name in the configuration.
    #[serde(skip)]
    pub name: String,
    /// How it is.
    #[serde(skip)]
    pub state: SiprecHealth,
    /// `required` or `best-effort`.
    #[schema(value_type = String, example = "required")]
    pub policy: RecordingPolicy,
    /// Transport of its signalling.
    pub transport: String,
    /// Its dialect.
    pub dialect: String,
    /// Calls it records now, paused ones included.
    pub sessions: u32,
    /// Of these, paused.
    pub paused: u32,
    /// Calls that want it and go without it now.
    pub away: u32,
    /// Of these, spilled to a sealed file.
    pub spilling: u32,
    /// Spills that wait to be forwarded to it, those included that are being sent.
    pub spills_waiting: u32,
    /// Of these, being sent now.
    pub forwarding: u32,
    /// Sessions asked for since the node started.
    pub started: u64,
    /// Sessions that failed, or were not taken, since the node started.
    pub failed: u64,
    /// The last fault; absent when there was none.
    pub last_error: Option<String>,
    /// Milliseconds since.
    pub last_error_ms: Option<u64>,
    /// Where it is, in the order of priority.
    pub targets: Vec<TargetView>,
}

/// A call's line to a recorder as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LineView {
    /// The recorder.
    pub recorder: String,
    /// How far its session is.
    pub state: RecorderState,
    /// Its target, while a session is up or asked for.
    pub target: Option<String>,
    /// Milliseconds until its own pause ends unless renewed; absent while it has none of its own.
    pub pause_ms: Option<u64>,
    /// Who has paused it by itself: `key:<name>`, `pbx`.
    pub pause_owners: Vec<String>,
    /// The sealed file that takes the sound while it is away.
    #[schema(value_type = Option<String>)]
    pub spill: Option<RecordingId>,
    /// Why it is away; absent when it never was.
    pub last_error: Option<String>,
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Every recorder, in the order of the configuration.
pub(in crate::call) fn views(now: Instant, s: &Shared) -> Vec<SiprecView> {
    (0..s.config.recorders.len()).map(|at| view(now, s, RecorderId(at))).collect()
}

fn view(now: Instant, s: &Shared, id: RecorderId) -> SiprecView {
    let recorder = &s.config.recorders[id.0];
    let tally = &s.recorders.tallies[id.0];
    let lines = || s.recorders.lines.values().filter(|line| line.recorder == id && line.counts());
    let count = |is: &dyn Fn(&Line) -> bool| u32::try_from(lines().filter(|line| is(line)).count()).unwrap_or(u32::MAX);
    let targets = targets(now, s, recorder.trunk);
    let usable = |target: &TargetView| matches!(target.state, TargetState::Up | TargetState::Last);
    let away = count(&|line| line.is_away());
    let sessions = count(&|line| line.is_up());
    let state = if !targets.iter().any(usable) || (away > 0 && sessions == 0) || tally.shut(now) {
        SiprecHealth::Down
    } else if away > 0 || targets.iter().any(|target| target.state != TargetState::Up) {
        SiprecHealth::Ailing
    } else {
        SiprecHealth::Up
    };
    let transport = s.listener(recorder.trunk).transport;
    let spilled: (usize, usize) = s.recorders.spilled(id);
    let of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let spilled = (of(spilled.0), of(spilled.1));
    SiprecView {
        name: recorder.name.clone(),
        policy: if recorder.required { RecordingPolicy::Required } else { RecordingPolicy::BestEffort },
        state,
        sessions,
        paused: count(&|line| line.is_up() && line.is_paused()),
        away,
        spilling: count(&|line| line.spill.is_some()),
        spills_waiting: spilled.0,
        forwarding: spilled.1,
        started: tally.started,
        failed: tally.failed,
        last_error: tally.last_error.as_ref().map(|(_, text)| text.clone()),
        last_error_ms: tally.last_error.as_ref().map(|(at, _)| millis(now.saturating_duration_since(*at))),
        dialect: recorder.dialect.name().to_owned(),
        transport: transport.name().to_owned(),
        targets,
    }
}

/// The lines of a call, in the order of the configuration.
pub(in crate::call) fn lines(now: Instant, s: &Shared, call: CallId) -> Vec<LineView> {
    let of = s.recorders.of_call.get(&call).into_iter().flatten();
    let shown = |line: &Line| LineView {
        recorder: s.config.recorders[line.recorder.0].name.clone(),
        state: line.state(),
        target: line.target().map(|at| at.to_string()),
        pause_owners: line.own_pause.owners().map(ToString::to_string).collect(),
        pause_ms: line.own_pause.until().map(|until| millis(until.saturating_duration_since(now))),
        spill: line.spill,
        last_error: line.last_error.clone(),
    };
    of.filter_map(|id| s.recorders.lines.get(id)).map(shown).collect()
}
