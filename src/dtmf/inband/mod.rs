//! In-band DTMF detection in two stages. Samples at 8 kHz go in; out come verdicts about stretches of the line's own
//! timeline: here a digit may have begun ([`Verdict::Suspect`]), it is this key ([`Verdict::Confirm`]), it is over
//! ([`Verdict::Clear`]). Fixed size, allocates nothing, never panics, never looks into the future: what it can promise
//! about the recent past is [`Detector::decided`].
//!
//! # The mathematics
//! In a window of `W` samples a key is `a·cos ωr t + b·sin ωr t + c·cos ωc t + d·sin ωc t` plus whatever else the line
//! carries. Given the two frequencies, least squares finds the four amplitudes, and the *explained energy*
//! `E = pᵀ G⁻¹ p` (`p`: correlations with the four functions, `G`: their inner products) is what an optimal detector can
//! know about this key. The statistic is `ρ = E / Σx²`: 1 for a pure key, near 0.3 for noise.
//!
//! Time counted from the window's centre makes cosines even and sines odd, so `G` falls into two 2×2 blocks,
//!
//! ```text
//!   Σcos²ωt = (W + D(2ω))/2    Σcos ωr t·cos ωc t = (D(ωr−ωc) + D(ωr+ωc))/2       D(ω) = sin(Wω/2) / sin(ω/2)
//!   Σsin²ωt = (W − D(2ω))/2    Σsin ωr t·sin ωc t = (D(ωr−ωc) − D(ωr+ωc))/2
//! ```
//!
//! whose inverses are a table per pair of frequencies (`bank`). Correlations are kept per block of 8 samples and
//! turned to the window's centre when they are added, so a hop of 1 ms costs one block, not one window.
//!
//! The frequencies are a grid over both groups from 3.5 % under the lowest to 3.5 % over the highest, so the first stage
//! needs no key and no tolerance: **anything made of one low-group and one high-group tone is a suspect**, since what is
//! merely out of tolerance for us may still be a digit to somebody's receiver. Which key it is, and whether it is within
//! tolerance, is the second stage's business (`confirm`): a fit over 25 ms whose frequencies are exact, from the turn
//! of phase between its halves.
//!
//! Before all this a band-pass (600–1,900 Hz) takes away what lies outside the groups: most of a voice's strength, hum,
//! dial tone and 70 % of white noise.
//!
//! # Time
//! ```text
//!             onset                                   end
//!   ───────────┃■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■■┃──────────────────────
//!              ├─ window ─┤                                                       ρ ≥ θ once
//!        ├─ look-ahead ───┤ Suspect.from is everything not yet let go
//!              ├──────── 26 ms ────────┤ Confirm
//!                                                     last ├ hold ─┤ Clear      TAIL after the last suspicion
//! ```
//! The look-ahead (96 samples armed) is longer than window + hop, so the masked stretch begins before the onset.

mod bank;
mod confirm;

use crate::base::secret::Digit;
use bank::{BLOCK, Bank, Look, WINDOW};

/// How a detector weighs a missed digit against a false one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Look-ahead on, sensitive: nothing that could be a digit passes.
    Armed,
    /// No delay, strict: for counting, star codes and policy.
    Unarmed,
}

/// What the detector says. Positions are samples since the detector was made, lost ones included.
#[derive(Debug)]
pub enum Verdict {
    /// From here on there may be a digit.
    Suspect {
        /// First sample. Armed: never before what [`Detector::decided`] last was. Unarmed: an estimate, in the past.
        from: u64,
    },
    /// A key press is certain; told once per press, inside a suspect stretch.
    Confirm {
        /// Where the tone began, as well as can be told.
        from: u64,
        /// Key.
        digit: Digit,
    },
    /// The stretch is over.
    Clear {
        /// First sample after it. Armed: never before what [`Detector::decided`] last was.
        from: u64,
    },
}

/// Look-ahead of an armed detector, samples: 12 ms.
pub const LOOK_AHEAD: u64 = 96;
/// The shortest look-ahead: a window and a hop, 10 ms. A tone on a clear line is suspected within 9 ms of its onset.
pub const LEAST_LOOK_AHEAD: u64 = (WINDOW + BLOCK) as u64;
/// How far back a suspicion reaches at most, when the caller looks ahead further than [`LOOK_AHEAD`]: 16 ms.
const REACH: u64 = 128;
/// A stretch is cleared when nothing was suspected for this long: 20 ms.
const HOLD: u64 = 160;
/// What is masked after the end of the last suspect window: 9 ms.
const TAIL: u64 = 72;
/// Two sightings of one key further apart than this are two presses: between the 10 ms dropout that must not split and
/// the 30 ms pause that must (each seen about 7 ms longer through the window).
const SPLIT: u64 = 208;
/// The longest loss across which a press goes on.
const BRIDGED: u64 = 640;
/// Hops a candidate may miss and go on.
const MISSES: u64 = 4 * BLOCK as u64;
/// Tone needed before a key is named: 26 ms.
const NAMED_AFTER: u64 = 208;
/// How much later a likely key is looked at again to make it certain.
const SECOND_AFTER: u64 = 96;

/// A key being looked at, not yet named.
#[derive(Clone, Copy)]
struct Candidate {
    /// Coarse place on the keypad.
    place: (u8, u8),
    /// Start of its first window, end of its last.
    from: u64,
    last: u64,
    /// The first fit that found it likely but not certain, and where.
    likely: Option<(u64, confirm::Named)>,
}

/// A key that has been named.
#[derive(Clone, Copy)]
struct Pressed {
    place: (u8, u8),
    last: u64,
}

/// An in-band detector for one direction of one call.
pub struct Detector {
    bank: Bank,
    point: Point,
    look_ahead: u64,
    /// Samples taken, of which the last 0–7 are in an unfinished block.
    position: u64,
    decided: u64,
    /// End of the last suspect window, while a stretch is open.
    open: Option<u64>,
    /// The open stretch has to be told again (the point changed inside it).
    repeat: bool,
    candidate: Option<Candidate>,
    pressed: Option<Pressed>,
}

impl Detector {
    /// A detector that has heard nothing.
    pub fn new(point: Point) -> Self {
        Self {
            bank: Bank::new(),
            point,
            look_ahead: LOOK_AHEAD,
            position: 0,
            decided: 0,
            open: None,
            repeat: false,
            candidate: None,
            pressed: None,
        }
    }

    /// Changes the operating point. Going to [`Point::Armed`] inside a stretch tells its [`Verdict::Suspect`] again with
    /// the next samples; before going to [`Point::Unarmed`], wait for [`Detector::is_clear`].
    pub fn set_point(&mut self, point: Point) {
        if point == Point::Armed && self.point == Point::Unarmed {
            self.repeat = self.open.is_some();
        }
        self.point = point;
    }

    /// The operating point.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Sets how far the caller holds samples back when armed; at least [`LEAST_LOOK_AHEAD`], at most 20 ms is of use.
    pub fn set_look_ahead(&mut self, samples: u64) {
        self.look_ahead = samples.max(LEAST_LOOK_AHEAD);
    }

    /// Samples taken so far, lost ones included.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Every sample before this position is final: inside a told stretch, or clean for ever. Armed it is at most the
    /// look-ahead behind [`Detector::position`]; unarmed it is the position itself. Never goes back.
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// Whether no stretch is open.
    pub fn is_clear(&self) -> bool {
        self.open.is_none()
    }

    /// Takes samples, any number, and tells what they decide.
    pub fn feed(&mut self, samples: &[i16], verdict: &mut impl FnMut(Verdict)) {
        let mut rest = samples;
        while !rest.is_empty() {
            let (taken, complete) = self.bank.push(rest);
            rest = &rest[taken..];
            self.position += taken as u64;
            if complete {
                self.hop(verdict);
            }
        }
        self.settle();
    }

    /// Takes note of lost media. What a tone left before and after the loss is too short to see, so an armed detector
    /// suspects everything it has not let go and a window's length after the loss.
    pub fn gap(&mut self, samples: u64, verdict: &mut impl FnMut(Verdict)) {
        if self.point == Point::Armed && samples > 0 {
            if self.open.is_none() {
                verdict(Verdict::Suspect { from: self.reach() });
            }
            self.open = Some(self.position + samples);
        }
        let armed = self.point == Point::Armed && samples > 0;
        if let Some(pressed) = &mut self.pressed {
            pressed.last += samples.min(BRIDGED);
        }
        // Silence stands for what is missing; more of it than the memory holds changes nothing.
        let mut shown = samples.min(1_024);
        self.position += samples - shown;
        while shown > 0 {
            let part = shown.min(BLOCK as u64);
            self.feed(&[0; BLOCK][..part as usize], verdict);
            shown -= part;
            if armed {
                self.open = Some(self.position);
            }
        }
    }

    /// How far back a suspicion reaches.
    fn reach(&self) -> u64 {
        self.decided.max(self.position.saturating_sub(REACH))
    }

    /// Moves [`Detector::decided`] on.
    fn settle(&mut self) {
        let behind = match self.point {
            // The next hop comes within a block and may still reach back over the whole look-ahead.
            Point::Armed => self.look_ahead,
            Point::Unarmed => 0,
        };
        self.decided = self.decided.max(self.position.saturating_sub(behind));
    }

    /// One block is complete: look at the window that ends here.
    fn hop(&mut self, verdict: &mut impl FnMut(Verdict)) {
        self.settle_before_hop();
        let look = self.bank.look(self.point, self.open.is_some());
        if let Some(look) = look {
            self.suspect(&look, verdict);
        }
        if self.pressed.is_some_and(|p| self.position > p.last + SPLIT) {
            self.pressed = None;
        }
        if self.candidate.is_some_and(|c| self.position > c.last + MISSES) {
            self.candidate = None;
        }
        if let Some(last) = self.open
            && self.position >= last + HOLD
        {
            self.open = None;
            verdict(Verdict::Clear { from: self.decided.max(last + TAIL) });
        }
    }

    /// What was promised before this hop may be let go by now, when the caller feeds block by block.
    fn settle_before_hop(&mut self) {
        if self.point == Point::Armed {
            let before = self.position.saturating_sub(1);
            self.decided = self.decided.max(before.saturating_sub(self.look_ahead));
        }
    }

    fn suspect(&mut self, look: &Look, verdict: &mut impl FnMut(Verdict)) {
        if self.open.is_none() || self.repeat {
            self.repeat = false;
            let from = match self.point {
                Point::Armed => self.reach(),
                Point::Unarmed => self.position.saturating_sub(WINDOW as u64),
            };
            verdict(Verdict::Suspect { from });
        }
        self.open = Some(self.position);
        let place = look.place;
        if let Some(pressed) = &mut self.pressed
            && pressed.place == place
        {
            // A loss has moved it ahead.
            pressed.last = pressed.last.max(self.position);
        }
        let start = self.position.saturating_sub(WINDOW as u64);
        let candidate = match self.candidate {
            Some(c) if c.place == place => Candidate { last: self.position, ..c },
            _ => Candidate { place, from: start, last: self.position, likely: None },
        };
        self.candidate = Some(candidate);
        if self.position - candidate.from < NAMED_AFTER || self.pressed.is_some_and(|p| p.place == place) {
            return;
        }
        let Some(named) = confirm::name(self.bank.recent(), look, self.point) else { return };
        if !named.sure && !self.seconded(named) {
            return;
        }
        self.pressed = Some(Pressed { place: named.place, last: self.position });
        let event = crate::dsp::tone::KEY_AT[usize::from(named.place.0)][usize::from(named.place.1)];
        if let Some(digit) = Digit::from_event(event) {
            verdict(Verdict::Confirm { from: candidate.from, digit });
        }
    }

    /// Whether an earlier fit of the candidate, over mostly other samples, found the same; keeps it otherwise.
    fn seconded(&mut self, named: confirm::Named) -> bool {
        let position = self.position;
        let Some(candidate) = &mut self.candidate else { return false };
        match &candidate.likely {
            Some((at, first)) if first.agrees(&named) => position >= at + SECOND_AFTER,
            _ => {
                candidate.likely = Some((position, named));
                false
            }
        }
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
