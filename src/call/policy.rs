//! What a call's trunks ask for, and what follows from it for guard and recorder: the only place that decides whether
//! a direction is masked. Pure functions of policy and holds.

use std::time::Duration;

use crate::config::{Auto, GuardMode, MaskKind, RecordingPolicy, StarCodes, Trunk};
use crate::media::{Guard, Tap};

/// What the trunks of a call want.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) mode: GuardMode,
    pub(super) auto: Auto,
    pub(super) mask: MaskKind,
    pub(super) hold_default: Duration,
    pub(super) hold_max: Duration,
    pub(super) star: Option<StarCodes>,
    pub(super) recording: RecordingPolicy,
    pub(super) horizon: Duration,
}

impl Wishes {
    /// The carrier trunk's guard, the PBX trunk's star codes, the stricter recording policy and the longer horizon of both.
    pub(super) fn of(carrier: &Trunk, pbx: &Trunk) -> Self {
        Self {
            mode: carrier.guard,
            auto: carrier.auto,
            mask: carrier.mask,
            hold_default: carrier.hold_default,
            hold_max: carrier.hold_max,
            star: pbx.star_codes.clone(),
            recording: carrier.recording.max(pbx.recording),
            horizon: recorded(carrier).max(recorded(pbx)),
        }
    }
}

/// How long what a trunk records waits.
fn recorded(trunk: &Trunk) -> Duration {
    if trunk.recording == RecordingPolicy::Off { Duration::ZERO } else { trunk.redaction_horizon }
}

/// The customer→agent guard that policy and holds demand. Anything but a plain "pass" masks. Keys that may yet be sent
/// on are not announced by a sign: a PBX that hears one would take it for a key.
pub(super) fn guard_in_force(mode: GuardMode, mask_held: bool, mask: MaskKind) -> Guard {
    match (mode, mask_held) {
        (GuardMode::Always, _) | (GuardMode::Off | GuardMode::Signal | GuardMode::Auto, true) => Guard::Masked(mask),
        (GuardMode::Auto, false) => match mask {
            MaskKind::ComfortNoise => Guard::Masked(MaskKind::ComfortNoise),
            MaskKind::Silence | MaskKind::Tone | MaskKind::Substitute => Guard::Masked(MaskKind::Silence),
        },
        (GuardMode::Signal, false) => Guard::Listen,
        (GuardMode::Off, false) => Guard::Open,
    }
}

/// The agent→customer guard: keys of star codes never reach the customer unasked, and while the customer's keys are
/// masked, or an echo of one may be on its way, nothing that may be one comes back.
pub(super) fn guard_back(star: Option<&StarCodes>, echo: bool) -> Guard {
    match star {
        _ if echo => Guard::Masked(MaskKind::ComfortNoise),
        None => Guard::Open,
        Some(codes) if codes.in_band => Guard::Masked(MaskKind::Silence),
        Some(_) => Guard::Withhold,
    }
}

/// What the recorder tap must do.
pub(super) fn tap_in_force(recording: bool, paused: bool) -> Tap {
    match (recording, paused) {
        (false, _) => Tap::Off,
        (true, true) => Tap::Paused,
        (true, false) => Tap::On,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Digit;

    const TONE: MaskKind = MaskKind::Tone;

    #[test]
    fn only_an_unheld_off_or_signal_lets_digits_pass() {
        assert_eq!(guard_in_force(GuardMode::Off, false, TONE), Guard::Open);
        assert_eq!(guard_in_force(GuardMode::Signal, false, TONE), Guard::Listen);
        for mode in [GuardMode::Off, GuardMode::Signal, GuardMode::Always] {
            assert_eq!(guard_in_force(mode, true, TONE), Guard::Masked(TONE));
        }
        assert_eq!(guard_in_force(GuardMode::Always, false, TONE), Guard::Masked(TONE));
    }

    #[test]
    fn star_codes_withhold_the_agents_keys_from_the_customer() {
        let codes = |in_band| StarCodes {
            begin: "*71".chars().filter_map(Digit::from_char).collect(),
            end: "*72".chars().filter_map(Digit::from_char).collect(),
            in_band,
        };
        assert_eq!(guard_back(None, false), Guard::Open);
        assert_eq!(guard_back(Some(&codes(false)), false), Guard::Withhold);
        assert_eq!(guard_back(Some(&codes(true)), false), Guard::Masked(MaskKind::Silence));
        for star in [None, Some(&codes(false)), Some(&codes(true))] {
            assert_eq!(guard_back(star, true), Guard::Masked(MaskKind::ComfortNoise));
        }
    }

    #[test]
    fn a_pause_is_a_gap_and_no_recording_is_nothing() {
        assert_eq!(tap_in_force(true, true), Tap::Paused);
        assert_eq!(tap_in_force(true, false), Tap::On);
        assert_eq!(tap_in_force(false, true), Tap::Off);
        assert_eq!(tap_in_force(false, false), Tap::Off);
    }
}
