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

/// What a recorder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderKind {
    /// A SIPREC recording server.
    Siprec,
    /// The sealed files of this node.
    Sealed,
}

/// How a recorder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecorderHealth {
    /// It takes what it is given.
    Up,
    /// Some of its targets are down, or some calls go without it.
    Degraded,
    /// No call can be recorded by it now.
    Down,
}

/// A recorder as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecorderView {
    /// Its name in the configuration; `sealed` for the sealed files.
    pub name: String,
    /// What it is.
    pub kind: RecorderKind,
    /// `required` or `best-effort`.
    #[schema(value_type = String, example = "required")]
    pub policy: RecordingPolicy,
    /// How it is.
    pub state: RecorderHealth,
    /// Calls it records now, paused ones included.
    pub sessions: u32,
    /// Of these, paused.
    pub paused: u32,
    /// Calls that want it and go without it now.
    pub away: u32,
    /// Of these, spilled to a sealed file.
    pub spilling: u32,
    /// Sessions begun since the node started.
    pub started: u64,
    /// Sessions that failed, or were not taken, since the node started.
    pub failed: u64,
    /// The last fault; absent when there was none.
    pub last_error: Option<LastError>,
    /// Its dialect; absent for sealed files.
    pub dialect: Option<String>,
    /// Transport of its signalling; absent for sealed files.
    pub transport: Option<String>,
    /// Where it is, in the order of priority.
    pub targets: Vec<TargetView>,
}

/// A recorder's last fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastError {
    /// What it was.
    pub text: String,
    /// Milliseconds since.
    pub age_ms: u64,
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
    /// The sealed file that takes the sound while it is away.
    #[schema(value_type = Option<String>)]
    pub spill: Option<RecordingId>,
    /// Why it is away; absent when it never was.
    pub last_error: Option<String>,
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Every recorder: the sealed files, if a trunk has them, then those of the configuration in order.
pub(in crate::call) fn views(now: Instant, s: &Shared) -> Vec<RecorderView> {
    let sealed = s.config.trunks.iter().map(|trunk| trunk.recording).max().unwrap_or(RecordingPolicy::Off);
    let sealed = (sealed != RecordingPolicy::Off).then(|| sealed_view(now, s, sealed));
    let others = (0..s.config.recorders.len()).map(|at| view(now, s, RecorderId(at)));
    sealed.into_iter().chain(others).collect()
}

fn error(now: Instant, last: Option<&(Instant, String)>) -> Option<LastError> {
    last.map(|(at, text)| LastError { text: text.clone(), age_ms: millis(now.saturating_duration_since(*at)) })
}

fn sealed_view(now: Instant, s: &Shared, policy: RecordingPolicy) -> RecorderView {
    let sealed = &s.recorders.sealed;
    RecorderView {
        name: "sealed".to_owned(),
        kind: RecorderKind::Sealed,
        policy,
        state: if sealed.bad { RecorderHealth::Down } else { RecorderHealth::Up },
        sessions: sealed.open,
        paused: 0,
        away: 0,
        spilling: 0,
        started: sealed.started,
        failed: sealed.failed,
        last_error: error(now, sealed.last_error.as_ref()),
        dialect: None,
        transport: None,
        targets: Vec::new(),
    }
}

fn view(now: Instant, s: &Shared, id: RecorderId) -> RecorderView {
    let recorder = &s.config.recorders[id.0];
    let tally = &s.recorders.tallies[id.0];
    let lines = || s.recorders.lines.values().filter(|line| line.recorder == id && line.counts());
    let count = |is: &dyn Fn(&Line) -> bool| u32::try_from(lines().filter(|line| is(line)).count()).unwrap_or(u32::MAX);
    let targets = targets(now, s, recorder.trunk);
    let usable = |target: &TargetView| matches!(target.state, TargetState::Up | TargetState::Last);
    let away = count(&|line| line.is_away());
    let sessions = count(&|line| line.is_up());
    let state = if !targets.iter().any(usable) || (away > 0 && sessions == 0) || tally.shut(now) {
        RecorderHealth::Down
    } else if away > 0 || targets.iter().any(|target| target.state != TargetState::Up) {
        RecorderHealth::Degraded
    } else {
        RecorderHealth::Up
    };
    let transport = s.listener(recorder.trunk).transport;
    RecorderView {
        name: recorder.name.clone(),
        kind: RecorderKind::Siprec,
        policy: if recorder.required { RecordingPolicy::Required } else { RecordingPolicy::BestEffort },
        state,
        sessions,
        paused: count(&|line| line.is_up() && line.is_paused()),
        away,
        spilling: count(&|line| line.spill.is_some()),
        started: tally.started,
        failed: tally.failed,
        last_error: error(now, tally.last_error.as_ref()),
        dialect: Some(recorder.dialect.name().to_owned()),
        transport: Some(transport.name().to_owned()),
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
        pause_ms: line.own_pause.map(|until| millis(until.saturating_duration_since(now))),
        spill: line.spill,
        last_error: line.last_error.clone(),
    };
    of.filter_map(|id| s.recorders.lines.get(id)).map(shown).collect()
}
