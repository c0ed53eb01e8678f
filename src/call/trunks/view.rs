//! What the API is shown of the trunks: each one's state, calls, limits, targets and registration, built fresh for each
//! question. Nothing in it comes from a message: addresses are those of the configuration, or of the names in it.

use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Spot, Trunks};
use crate::call::register::Registration;
use crate::call::shared::Shared;
use crate::config::{Side, TrunkId};

/// Whether calls can go somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrunkState {
    /// Calls go there.
    Up,
    /// No target takes calls now.
    Down,
}

/// Whether calls go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetState {
    /// They do.
    Up,
    /// It is tried last for a while: a call met silence there.
    Last,
    /// It asked for peace by 503 and Retry-After, and is left alone until then.
    Resting,
    /// It answers no probes.
    Down,
}

/// A trunk as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TrunkView {
    /// Its name in the configuration.
    pub name: String,
    /// `carrier` or `pbx`.
    #[schema(value_type = String, example = "carrier")]
    pub side: Side,
    /// Whether calls can go there.
    pub state: TrunkState,
    /// Calls on it now, either way.
    pub calls: u32,
    /// The most calls at once.
    pub max_calls: u32,
    /// The most new calls a second, each way; absent: as many as come.
    pub max_calls_per_s: Option<u32>,
    /// Seconds between probes of a target; absent: targets are not probed, and count as up.
    pub probe_s: Option<u64>,
    /// Targets in the order of their priority.
    pub targets: Vec<TargetView>,
    /// Our registration with it; absent where none is wanted.
    pub registration: Option<RegistrationView>,
}

/// A target of a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TargetView {
    /// Address and port.
    pub address: String,
    /// Whether calls go there.
    pub state: TargetState,
    /// Share among those of its priority.
    pub weight: u16,
    /// Probes unanswered in a row.
    pub probes_lost: u32,
    /// Milliseconds until its state is over by itself: of `last` and `resting`.
    pub for_ms: Option<u64>,
}

/// A registration of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RegistrationView {
    /// The registrar knows us.
    pub registered: bool,
    /// Milliseconds until it forgets us unless we refresh.
    pub expires_ms: Option<u64>,
    /// Attempts that failed since the last good one.
    pub failures: u32,
}

/// Every trunk, in the order of the configuration; recorders are shown elsewhere.
pub(in crate::call) fn views(now: Instant, s: &Shared) -> Vec<TrunkView> {
    let carries = |at: &usize| s.config.trunks[*at].side != Side::Recorder;
    (0..s.config.trunks.len()).filter(carries).map(|at| view(now, s, TrunkId(at))).collect()
}

/// The targets of a trunk or recorder.
pub(in crate::call) fn targets(now: Instant, s: &Shared, id: TrunkId) -> Vec<TargetView> {
    s.trunks.targets_shown(now, id)
}

fn view(now: Instant, s: &Shared, id: TrunkId) -> TrunkView {
    let trunk = &s.config.trunks[id.0];
    let targets = s.trunks.targets_shown(now, id);
    let reachable = targets.iter().any(|target| matches!(target.state, TargetState::Up | TargetState::Last));
    TrunkView {
        name: trunk.name.clone(),
        side: trunk.side,
        state: if reachable { TrunkState::Up } else { TrunkState::Down },
        calls: s.load[id.0],
        max_calls: trunk.max_calls,
        max_calls_per_s: Some(trunk.link.max_calls_per_s).filter(|most| *most > 0),
        probe_s: Some(trunk.link.probe.every.as_secs()).filter(|every| *every > 0),
        targets,
        registration: s.registrations[id.0].as_ref().map(|one| registration(now, one)),
    }
}

fn registration(now: Instant, one: &Registration) -> RegistrationView {
    let (until, failures) = one.standing(now);
    RegistrationView { registered: until.is_some(), expires_ms: until.map(|until| millis(now, until)), failures }
}

impl Trunks {
    fn targets_shown(&self, now: Instant, id: TrunkId) -> Vec<TargetView> {
        self.states[id.0].spots.iter().map(|spot| spot.shown(now)).collect()
    }
}

impl Spot {
    fn shown(&self, now: Instant) -> TargetView {
        let later = |until: Option<Instant>| until.filter(|until| now < *until);
        let (state, until) = match (self.up, later(self.peace), later(self.penalty)) {
            (false, ..) => (TargetState::Down, None),
            (true, Some(until), _) => (TargetState::Resting, Some(until)),
            (true, None, Some(until)) => (TargetState::Last, Some(until)),
            (true, None, None) => (TargetState::Up, None),
        };
        TargetView {
            address: self.at.to_string(),
            state,
            weight: self.weight,
            probes_lost: self.lost,
            for_ms: until.map(|until| millis(now, until)),
        }
    }
}

fn millis(now: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)
}
