//! In-band DTMF detection in two stages, for many lines at once. Samples at 8 kHz go in; out come verdicts about
//! stretches of each line's own timeline: here a digit may have begun ([`Verdict::Suspect`]), it is this key
//! ([`Verdict::Confirm`]), it is over ([`Verdict::Clear`]). Fixed size, allocates nothing, never panics, never looks into
//! the future: what it can promise about the recent past is [`Detector::decided`].
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
//! whose inverses are a table per pair of frequencies (`bank`), and a correlation with an even function sees only
//! `x(t) + x(−t)`, one with an odd function only `x(t) − x(−t)`: half the multiplications.
//!
//! The frequencies are a grid over both groups from 3.5 % under the lowest to 3.5 % over the highest, so the first stage
//! needs no key and no tolerance: **anything made of one low-group and one high-group tone is a suspect**, since what is
//! merely out of tolerance for us may still be a digit to somebody's receiver. Which key it is, and whether it is within
//! tolerance, is the second stage's business (`confirm`): a fit over 25 ms whose frequencies are exact, from the turn
//! of phase between its halves. Where one such fit is not enough, because a voice sounds under the tone or part of it was
//! lost, several are weighed (`evidence`).
//!
//! Before all this a band-pass (`bandpass`, 600–1,900 Hz) takes away what lies outside the groups: most of a voice's
//! strength, hum, dial tone and 70 % of white noise.
//!
//! # The screen
//! A fit for each millisecond of each line would cost more than all else a proxy does to a packet, and nearly all of them
//! would find nothing. So a screen goes before it (`screen`), which works on 16 lines at a time, one per lane of a
//! register. It asks only whether a fit *could* reach its bar. Be `S` what the strongest of 8 low and of 12 high
//! frequencies explain, each alone. A maximum is at least any weighted mean, a mean of squared correlations is a quadratic
//! form, and so is `E`; so that
//!
//! ```text
//!   S(x) ≥ E(x) − 0.225·Σx²     for every window x and every pair of the grid
//! ```
//!
//! is a statement about the eigenvalues of 384 small matrices, and `proof` shows it by elimination. A window with
//! `S < (θ − 0.225)·Σx²` needs no fit: `E` is below `θ·Σx²`. In speech one window in twenty gets one, on a quiet line
//! none. What the screen lets through it decides nothing about, so verdicts do not depend on it, nor on what other lines
//! share its registers.
//!
//! Its sums are cheap. Within a block of 8 samples a frequency is taken for that of the nearest of 8 *centres* (the
//! functions `proof` examines are these); a block's 8 complex correlations are then turned by each frequency's phase and
//! added to running sums, and a window is the difference of two of them:
//!
//! ```text
//!   block ─ fold ─ 8 centres × (4 + 4) products ─ 20 turns ─ running sums ─┬─ now − 9 blocks ago ─ |·|² ─ strongest of
//!                                                                          └─ kept                        each group
//! ```
//!
//! All arithmetic is additions and multiplications that are rounded one by one (`lanes`), so a line's bits are the same in
//! every lane of every width.
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
//!
//! # Voices
//! A tone that begins over a voice explains 60 or 70 % of a window, and so do many vowels; but the tone makes the line
//! louder at once, and what is not explained is about what was there before. So where a window has more than twice the
//! energy of the one before, an armed detector does not hold part of that one's energy against a tone (`Bar::needed`).

mod bandpass;
mod bank;
mod confirm;
mod evidence;
mod front;
mod lanes;
mod screen;
mod tiles;
mod together;

use crate::base::secret::Digit;
use crate::dsp::level::RMS_0_DBM0;
use bank::Look;
use confirm::Found;
use evidence::{FITTED, Kept, Votes};
use front::Front;
use screen::{Row, Work};

pub use lanes::Width;
pub use together::{Place, Together};

/// Samples per block: the hop, 1 ms.
const BLOCK: usize = 8;
/// Blocks per window.
const BLOCKS: usize = 9;
/// Samples per window.
const WINDOW: usize = BLOCK * BLOCKS;
/// Energy of a window under which nothing is looked at: −47 dBm0.
const WINDOW_GATE: f32 = RMS_0_DBM0 * RMS_0_DBM0 * 2.0e-5 * WINDOW as f32;

/// How much of a window must be explained: `part`, less the part that the line's own noise is, but not less than
/// `least`; or less the part that what sounded before is, where the line has just become louder, but not less than
/// `risen`: a tone that begins over a voice is not alone, and who waits until the voice pauses has let it go.
#[derive(Debug, Clone, Copy)]
struct Bar {
    part: f32,
    least: f32,
    risen: f32,
}

/// What part of the window before sounds on, unexplained, in the next.
const SOUNDS_ON: f32 = 0.6;

impl Bar {
    /// The energy that must be explained of a window of energy `total`, on a line whose noise is `floor` in as long a
    /// window, after a window of energy `before`. The screen does the same sums.
    fn needed(&self, total: f32, floor: f32, before: f32) -> f32 {
        let noisy = (self.part * total - floor).max(self.least * total);
        // Nothing once the window before has half the energy of this one.
        let credit = (SOUNDS_ON * before).min(total - before - before).max(0.0);
        let risen = (self.part * total - credit).max(self.risen * total);
        noisy.min(risen)
    }
}

/// [`Bar::risen`] where a rise counts for nothing.
const NO_RISE: f32 = 1.0;

/// How a detector weighs a missed digit against a false one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Look-ahead on, sensitive: nothing that could be a digit passes.
    Armed,
    /// No delay, strict: for counting, star codes and policy.
    Unarmed,
}

impl Point {
    /// The bars while no suspicion is open, and while one is: a tone that has been heard is held on to through what
    /// disturbs it.
    fn bars(self) -> [Bar; 2] {
        match self {
            Point::Armed => {
                [Bar { part: 0.80, least: 0.70, risen: 0.62 }, Bar { part: 0.70, least: 0.65, risen: NO_RISE }]
            }
            Point::Unarmed => [Bar { part: 0.90, least: 0.80, risen: NO_RISE }; 2],
        }
    }
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
/// The same when media was lost between them, which counts for neither: a tone that goes on is seen again within 8 ms.
const SPLIT_LOST: u64 = 96;
/// The longest loss across which a press goes on.
const BRIDGED: u64 = 640;
/// Hops a candidate may miss and go on.
const MISSES: u64 = 4 * BLOCK as u64;
/// Tone needed before a key is named: 26 ms.
const NAMED_AFTER: u64 = 208;
/// The same once a fit has spoken for it: a voice over a tone hides it for a while.
const LEEWAY: u64 = 8 * BLOCK as u64;

/// A key being looked at, not yet named.
#[derive(Clone, Copy)]
struct Candidate {
    /// Coarse place on the keypad.
    place: (u8, u8),
    /// Start of its first window, end of its last.
    from: u64,
    last: u64,
    /// Its last look.
    look: Look,
    votes: Votes,
}

/// A key that has been named.
#[derive(Clone, Copy)]
struct Pressed {
    place: (u8, u8),
    last: u64,
    /// Media was lost since.
    lost: bool,
}

/// An in-band detector for one direction of one call.
pub struct Detector {
    front: Front,
    width: Width,
    point: Point,
    look_ahead: u64,
    /// Samples taken, of which the last 0–7 wait for their block to be whole.
    position: u64,
    decided: u64,
    /// End of the last suspect window, while a stretch is open.
    open: Option<u64>,
    /// The open stretch has to be told again (the point changed inside it).
    repeat: bool,
    candidate: Option<Candidate>,
    pressed: Option<Pressed>,
    /// What was heard of an unnamed key before a loss.
    kept: Option<Kept>,
    /// What the last hop's window looked like.
    known: Option<Look>,
    /// Where the last loss ended or, while silence stands for it, will end.
    resumed: u64,
}

impl Detector {
    /// A detector that has heard nothing.
    pub fn new(point: Point) -> Self {
        Self::with(point, Width::widest())
    }

    /// The same with the instruction set of one's choice; where the machine does not have it, without.
    pub fn with(point: Point, width: Width) -> Self {
        Self {
            front: Front::new(),
            width: width.checked(),
            point,
            look_ahead: LOOK_AHEAD,
            position: 0,
            decided: 0,
            open: None,
            repeat: false,
            candidate: None,
            pressed: None,
            kept: None,
            known: None,
            resumed: 0,
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
            let (now, later) = rest.split_at(self.front.fits(rest.len()));
            rest = later;
            if self.front.completes(now.len()) {
                let (mut row, mut work) = (Row::new(), Work::new());
                self.front.fill(now, self.point, &mut row);
                screen::alone(&mut row, &mut work);
                self.take(now, &row, verdict);
            } else {
                self.front.wait(now);
                self.position += now.len() as u64;
            }
        }
        self.settle();
    }

    /// Takes samples that have been screened: `row` was filled from `samples` and this detector as it is.
    fn take(&mut self, samples: &[i16], row: &Row, verdict: &mut impl FnMut(Verdict)) {
        let before = self.position - self.front.waiting() as u64;
        let end = self.position + samples.len() as u64;
        let idle = self.open.is_none() && self.candidate.is_none() && self.pressed.is_none();
        if idle && row.hops()[0] == 0 && self.front.pass(samples, row) {
            self.known = None;
        } else {
            self.front.begin(row);
            for hop in 0..row.blocks {
                self.position = before + ((hop + 1) * BLOCK) as u64;
                self.hop(row, hop, verdict);
            }
            self.front.finish(samples, row);
        }
        self.position = end;
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
        self.resumed = self.position + samples;
        self.kept = self.keep(samples);
        if let Some(pressed) = &mut self.pressed {
            pressed.last += samples.min(BRIDGED);
            pressed.lost |= samples > 0;
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

    /// What there is to remember of an unnamed key when `samples` are lost now.
    fn keep(&self, samples: u64) -> Option<Kept> {
        let position = self.position;
        let sounding = self.candidate.filter(|c| c.last + 3 * BLOCK as u64 >= position && !self.is_pressed(c.place));
        let Some(candidate) = sounding else {
            return self.kept.and_then(|kept| kept.lengthened(position, samples, BRIDGED));
        };
        let from = self.kept.map_or(candidate.from, |kept| candidate.from.max(kept.resumed()));
        let length = position.saturating_sub(from);
        let fit = || confirm::examine(within(self.front.latest(), length), &candidate.look);
        let found = if length >= FITTED { fit() } else { None };
        let found = found.filter(|found| found.sure(self.point) && found.place == candidate.place);
        Some(Kept::new(candidate.place, found, length, (position, samples), self.kept))
    }

    fn is_pressed(&self, place: (u8, u8)) -> bool {
        self.pressed.is_some_and(|pressed| pressed.place == place)
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

    /// One block is complete: look at the window that ends here, if the screen let it through.
    fn hop(&mut self, row: &Row, hop: usize, verdict: &mut impl FnMut(Verdict)) {
        self.settle_before_hop();
        let total = row.total(hop);
        let floor = self.front.floor(total);
        let open = usize::from(self.open.is_some());
        let mut look = None;
        if row.hops()[open] >> hop & 1 != 0 {
            let needed = self.point.bars()[open].needed(total, floor, self.front.before(row, hop));
            let window = self.front.window(hop);
            look = self.known.and_then(|known| bank::again(&known, window, total, floor, needed));
            look = look.or_else(|| bank::look(self.width, window, total, floor, needed));
        }
        self.known = look;
        if let Some(look) = &look {
            self.suspect(look, verdict);
        }
        self.consider(look.as_ref(), hop, verdict);
        if self.pressed.is_some_and(|p| self.position > p.last + if p.lost { SPLIT_LOST } else { SPLIT }) {
            self.pressed = None;
        }
        if self.candidate.is_some_and(|c| self.position > c.last + c.leeway()) {
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
            pressed.lost = false;
        }
        let start = self.position.saturating_sub(WINDOW as u64);
        self.candidate = Some(match self.candidate {
            Some(c) if c.place == place => Candidate { last: self.position, look: *look, ..c },
            // A voice throws single looks: what a fit has spoken for stays until it is missed for good.
            Some(c) if c.votes.any() => c,
            _ => Candidate { place, from: start, last: self.position, look: *look, votes: Votes::default() },
        });
    }

    /// Looks at the candidate over more than a window, and names it if that is enough.
    fn consider(&mut self, look: Option<&Look>, hop: usize, verdict: &mut impl FnMut(Verdict)) {
        let Some(candidate) = self.candidate else { return };
        if self.is_pressed(candidate.place) {
            return;
        }
        let own = look.filter(|look| look.place == candidate.place);
        let found = if self.position - candidate.from >= NAMED_AFTER {
            self.fitted(candidate, own, hop)
        } else {
            self.beside_loss(&candidate, own, hop)
        };
        let Some(found) = found else { return };
        // It may be named in the silence of a loss, by what came before.
        let (last, lost) = (self.position.max(self.resumed), self.position < self.resumed);
        self.pressed = Some(Pressed { place: found.place, last, lost });
        self.kept = None;
        let event = crate::dsp::tone::KEY_AT[usize::from(found.place.0)][usize::from(found.place.1)];
        if let Some(digit) = Digit::from_event(event) {
            verdict(Verdict::Confirm { from: candidate.from, digit });
        }
    }

    /// The candidate by a fit of the last 25 ms, if that or several of them make it certain. Armed, one that has been
    /// fitted before is fitted again every other hop, also where a voice hides it from the window.
    fn fitted(&mut self, candidate: Candidate, own: Option<&Look>, hop: usize) -> Option<Found> {
        let again =
            self.point == Point::Armed && candidate.votes.any() && (self.position / BLOCK as u64).is_multiple_of(2);
        let look = own.or(again.then_some(&candidate.look))?;
        let found = confirm::examine(self.front.recent(hop), look)?;
        let candidate = self.candidate.as_mut()?;
        if own.is_none() && found.place == candidate.place {
            candidate.last = candidate.last.max(self.position - BLOCK as u64);
        }
        let enough = self.point == Point::Armed && candidate.votes.count(&found, self.position);
        (enough || found.sure(self.point)).then_some(found)
    }

    /// The candidate by what was kept of it before a loss and what was heard of it since.
    fn beside_loss(&self, candidate: &Candidate, own: Option<&Look>, hop: usize) -> Option<Found> {
        let (kept, look) = (self.kept?, own?);
        let fit = |seen| confirm::examine(within(self.front.recent(hop), seen), look).filter(|f| f.sure(self.point));
        kept.together(candidate.place, candidate.from, self.position, NAMED_AFTER, fit)
    }
}

impl Candidate {
    /// How long it may be missed and go on.
    fn leeway(&self) -> u64 {
        if self.votes.any() { LEEWAY } else { MISSES }
    }
}

/// The last `length` samples but a block, which the tone may have begun in.
fn within(recent: &[f32], length: u64) -> &[f32] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(BLOCK).min(recent.len());
    &recent[recent.len() - length..]
}

#[cfg(test)]
mod lanes_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;
