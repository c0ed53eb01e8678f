//! The delay line with the detector on it: samples laid by position, heard in order, given out only when decided.
//! Audio and events go in; samples with what is known of each come out. What is not known clean is never given out:
//! a hole, a suspicion, an event's span, a sample the detector has not finished with.
//!
//! ```text
//!        play                 decided      fed            edge
//!  ───────┃─────────────────────┃───────────┃───··hole··───┃
//!  given  │ may go out when due │ look-     │ waits for    │
//!  out    │ (unless marked)     │ ahead     │ the hole     │
//! ```

use crate::base::secret::Digit;
use crate::dtmf::inband::{Detector, LOOK_AHEAD, Place, Point, Together, Verdict};

/// Samples kept: half a second.
pub(super) const RING: usize = 4_096;
const PRESENT: u8 = 1;
const MARKED: u8 = 2;
/// Audio masked before the begin and after the end of an event, in samples (60 ms).
pub(super) const AROUND: u64 = 480;
/// An event of which nothing more is heard is over after this long, in samples (250 ms).
const PENDING: u64 = 2_000;

/// What is known of a sample that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It may go out.
    Clean,
    /// It never came, came late, or has not been decided.
    No,
    /// It lies where a digit may be.
    Digit,
}

/// A key the detector has named.
pub(super) struct Named {
    /// Where it began.
    pub(super) place: u64,
    /// How long before the newest sample that is, in samples.
    pub(super) lag: u64,
    pub(super) digit: Digit,
}

/// The span of the events being heard.
#[derive(Debug, Clone, Copy, Default)]
struct Shadow {
    from: u64,
    until: u64,
    /// Where the newest event began.
    onset: u64,
}

/// The delay line of one direction.
pub(super) struct Line {
    samples: [i16; RING],
    /// What wide audio has above each sample ([`crate::dsp::halfband`]); there once any has come.
    high: Option<Box<[[i16; 2]; RING]>>,
    states: [u8; RING],
    /// The next sample to give out.
    play: u64,
    /// The next sample to be heard by the detector.
    fed: u64,
    /// The sample after the newest laid.
    edge: u64,
    detector: Detector,
    /// The most samples the detector holds back.
    look_ahead: u64,
    /// The detector's position 0 on the line.
    shift: u64,
    /// Begin of the suspicion that is open.
    open: Option<u64>,
    shadow: Shadow,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            samples: [0; RING],
            high: None,
            states: [0; RING],
            play: 0,
            fed: 0,
            edge: 0,
            detector: Detector::new(Point::Unarmed),
            look_ahead: LOOK_AHEAD,
            shift: 0,
            open: None,
            shadow: Shadow::default(),
        }
    }

    /// Begins anew at `position`, with nothing laid and nothing heard.
    pub(super) fn restart(&mut self, position: u64, point: Point) {
        self.states.fill(0);
        (self.play, self.fed, self.edge, self.shift) = (position, position, position, position);
        self.detector = Detector::new(point);
        self.set_look_ahead(LOOK_AHEAD);
        self.open = None;
        self.shadow = Shadow::default();
    }

    /// Changes the detector's working point.
    pub(super) fn set_point(&mut self, point: Point) {
        self.detector.set_point(point);
    }

    /// Changes how many samples the detector may hold back when armed. No sample is given out before they have come.
    pub(super) fn set_look_ahead(&mut self, samples: u64) {
        self.detector.set_look_ahead(samples);
        self.look_ahead = samples;
    }

    /// The most samples the detector holds back.
    pub(super) fn look_ahead(&self) -> u64 {
        self.look_ahead
    }

    /// The next sample to give out.
    pub(super) fn play(&self) -> u64 {
        self.play
    }

    /// The sample after the newest laid or lost.
    pub(super) fn edge(&self) -> u64 {
        self.edge
    }

    /// Gives out nothing before `position`; may lie before what was heard (that part then is not there).
    pub(super) fn set_play(&mut self, position: u64) {
        if position > self.play {
            self.skip((position - self.play) as usize);
        } else {
            self.play = position;
        }
    }

    /// Gives up what lies more than half the line before `position`, so that samples there have room.
    pub(super) fn reach(&mut self, position: u64) {
        if position > self.play + RING as u64 / 2 {
            self.set_play(position);
        }
    }

    /// Makes room for wide audio.
    pub(super) fn widen(&mut self) {
        self.high.get_or_insert_with(|| Box::new([[0; 2]; RING]));
    }

    /// Lays samples, with what is above them where the audio is wide. What the detector has passed, what is there already, and what lies too far ahead is left.
    pub(super) fn lay(&mut self, position: u64, samples: &[i16], high: &[[i16; 2]]) {
        let limit = self.play + RING as u64;
        for (n, (at, sample)) in (position..limit).zip(samples).enumerate() {
            let slot = at as usize % RING;
            if at >= self.fed.max(self.play) && self.states[slot] & PRESENT == 0 {
                self.samples[slot] = *sample;
                if let Some(above) = &mut self.high {
                    above[slot] = high.get(n).copied().unwrap_or_default();
                }
                self.states[slot] |= PRESENT;
                self.edge = self.edge.max(at + 1);
            }
        }
    }

    /// Lays samples that have gone out already and are to go out again, up to what the detector hears next; nothing of
    /// them is heard. For samples that are known clean.
    pub(super) fn lay_again(&mut self, samples: &[i16]) {
        for (at, sample) in
            (self.play.max(self.fed.saturating_sub(samples.len() as u64))..self.fed).rev().zip(samples.iter().rev())
        {
            let slot = at as usize % RING;
            self.samples[slot] = *sample;
            if let Some(above) = &mut self.high {
                above[slot] = [0; 2];
            }
            self.states[slot] |= PRESENT;
        }
    }

    /// The samples from the next one on, where as many are there and none of them may be a digit's.
    pub(super) fn peek(&self, out: &mut [i16]) -> bool {
        let all = self.play..self.play + out.len() as u64;
        for (at, sample) in all.clone().zip(out) {
            *sample = self.samples[at as usize % RING];
        }
        self.is_clear()
            && all.end <= self.edge
            && all.into_iter().all(|at| self.state(at) & (MARKED | PRESENT) == PRESENT)
    }

    /// Lets the detector hear what is there in order, up to a hole. Holes before `needed` are given up if something
    /// lies behind them, and holes before `play` in any case.
    pub(super) fn hear(&mut self, needed: u64, named: &mut impl FnMut(Named)) {
        if self.fed < self.play {
            // Given out already, as unknown.
            self.lose(self.play - self.fed, named);
        }
        loop {
            self.feed(self.run(), named);
            // Now at the edge or at a hole.
            match (self.fed..self.edge).find(|at| self.state(*at) & PRESENT != 0) {
                Some(next) if self.fed < needed => self.lose(next - self.fed, named),
                _ => return,
            }
        }
    }

    /// How many samples are there from the next to be heard on, up to a hole or the edge.
    fn run(&self) -> usize {
        let most = self.edge.saturating_sub(self.fed).min(RING as u64) as usize;
        let (wrapped, first) = self.states.split_at(self.fed as usize % RING);
        first.iter().chain(wrapped).take(most).take_while(|state| *state & PRESENT != 0).count()
    }

    /// The next run, if it fits one turn together with other lines; `room` is for one that wraps.
    fn short_run<'a>(&'a self, room: &'a mut [i16; Together::most()]) -> Option<&'a [i16]> {
        let run = self.run();
        if self.fed < self.play || run == 0 || run > room.len() {
            return None;
        }
        let slot = self.fed as usize % RING;
        if let Some(samples) = self.samples.get(slot..slot + run) {
            return Some(samples);
        }
        let (before, after) = room[..run].split_at_mut(RING - slot);
        before.copy_from_slice(&self.samples[slot..]);
        after.copy_from_slice(&self.samples[..after.len()]);
        Some(&room[..run])
    }

    /// Puts what is there in order in to be heard together with other lines; `None` where that cannot be.
    pub(super) fn put_in(&self, together: &mut Together) -> Option<Place> {
        let mut room = [0; Together::most()];
        together.enter(&self.detector, self.short_run(&mut room)?)
    }

    /// Hears what was put in, then whatever [`Line::hear`] finds beside.
    pub(super) fn take_out(&mut self, place: Place, together: &Together, needed: u64, named: &mut impl FnMut(Named)) {
        let mut room = [0; Together::most()];
        let run = match self.short_run(&mut room) {
            Some(run) => run.len(),
            None => return self.hear(needed, named),
        };
        let slot = self.fed as usize % RING;
        if slot + run <= RING {
            room[..run].copy_from_slice(&self.samples[slot..slot + run]);
        }
        let Self { states, play, edge, detector, shift, open, .. } = self;
        together.leave(place, detector, &room[..run], &mut |verdict| {
            judge(verdict, *shift, *play, *edge, open, states, named);
        });
        self.fed += run as u64;
        self.hear(needed, named);
    }

    fn feed(&mut self, mut count: usize, named: &mut impl FnMut(Named)) {
        while count > 0 {
            let slot = self.fed as usize % RING;
            let length = count.min(RING - slot);
            let Self { samples, states, play, edge, detector, shift, open, .. } = self;
            detector.feed(&samples[slot..slot + length], &mut |verdict| {
                judge(verdict, *shift, *play, *edge, open, states, named);
            });
            self.fed += length as u64;
            count -= length;
        }
    }

    fn lose(&mut self, count: u64, named: &mut impl FnMut(Named)) {
        let Self { states, play, edge, detector, shift, open, .. } = self;
        detector.gap(count, &mut |verdict| judge(verdict, *shift, *play, *edge, open, states, named));
        self.fed += count;
        self.edge = self.edge.max(self.fed);
    }

    fn state(&self, at: u64) -> u8 {
        self.states[at as usize % RING]
    }

    /// Takes out the next samples with what is known of each, and what is above those that are clean.
    pub(super) fn take(&mut self, out: &mut [i16], high: &mut [[i16; 2]], known: &mut [Known]) {
        let decided = self.shift + self.detector.decided();
        for ((sample, above), knows) in out.iter_mut().zip(high).zip(known) {
            let slot = self.play as usize % RING;
            let state = std::mem::take(&mut self.states[slot]);
            let suspect = self.open.is_some_and(|from| self.play >= from);
            let shadowed = (self.shadow.from..self.shadow.until).contains(&self.play);
            *knows = if state & MARKED != 0 || suspect || shadowed {
                Known::Digit
            } else if state & PRESENT == 0 || self.play >= decided {
                Known::No
            } else {
                Known::Clean
            };
            let kept = self.high.as_mut().map(|high| std::mem::take(&mut high[slot])).unwrap_or_default();
            (*sample, *above) = if *knows == Known::Clean { (self.samples[slot], kept) } else { (0, [0; 2]) };
            self.samples[slot] = 0;
            self.play += 1;
        }
    }

    /// Leaves out the next samples.
    pub(super) fn skip(&mut self, count: usize) {
        for _ in 0..count.min(RING) {
            let slot = self.play as usize % RING;
            (self.samples[slot], self.states[slot]) = (0, 0);
            self.play += 1;
        }
        self.play += count.saturating_sub(RING) as u64;
    }

    /// Gives up everything heard: nothing is delayed (unguarded listening).
    pub(super) fn pass(&mut self) {
        if self.fed > self.play {
            self.skip((self.fed - self.play) as usize);
        }
    }

    /// How many of the next samples are not there.
    pub(super) fn missing(&self, most: u64) -> u64 {
        (self.play..self.play + most.min(RING as u64)).take_while(|at| self.state(*at) & PRESENT == 0).count() as u64
    }

    /// The mean square of the next samples that are there, up to `most`.
    pub(super) fn loudness(&self, most: u64) -> f32 {
        let (mut sum, mut count) = (0.0f32, 0u32);
        for at in self.play..self.edge.min(self.play + most) {
            let slot = at as usize % RING;
            if self.states[slot] & PRESENT != 0 {
                sum += f32::from(self.samples[slot]).powi(2);
                count += 1;
            }
        }
        if count == 0 { 0.0 } else { sum / count as f32 }
    }

    /// Whether no digit sounds and none is left in the line.
    pub(super) fn is_clear(&self) -> bool {
        self.open.is_none()
            && self.detector.is_clear()
            && self.shadow.until <= self.play
            && (self.play..self.edge.min(self.play + RING as u64)).all(|at| self.state(at) & MARKED == 0)
    }

    /// Whether no digit may be in the next samples.
    pub(super) fn is_clean(&self, most: u64) -> bool {
        self.open.is_none()
            && self.shadow.until <= self.play
            && self.play + most <= self.shift + self.detector.decided()
            && (self.play..self.play + most).all(|at| self.state(at) & (MARKED | PRESENT) == PRESENT)
    }

    /// Takes note of an event: it began at `onset`, lasts `duration` so far, and `now` is where real time is.
    pub(super) fn shade(&mut self, onset: u64, duration: u64, ended: bool, now: u64) {
        let end = if ended { onset + duration + AROUND } else { (onset + duration).max(now) + PENDING };
        let from = onset.saturating_sub(AROUND);
        if self.shadow.until <= self.play {
            self.shadow = Shadow { from, until: end, onset };
        } else if onset >= self.shadow.onset {
            let same = onset == self.shadow.onset;
            self.shadow.from = self.shadow.from.min(from);
            // The end packet of the newest event shortens the wait for it.
            self.shadow.until = if same && ended { end } else { self.shadow.until.max(end) };
            self.shadow.onset = onset;
        } else {
            self.shadow.from = self.shadow.from.min(from);
            self.shadow.until = self.shadow.until.max(onset + duration + AROUND);
        }
    }
}

/// Takes a verdict onto the line.
fn judge(
    verdict: Verdict,
    shift: u64,
    play: u64,
    edge: u64,
    open: &mut Option<u64>,
    states: &mut [u8; RING],
    named: &mut impl FnMut(Named),
) {
    match verdict {
        Verdict::Suspect { from } => {
            let from = shift + from;
            *open = Some(open.map_or(from, |before| before.min(from)));
        }
        Verdict::Confirm { from, digit } => {
            let place = shift + from;
            named(Named { place, lag: edge.saturating_sub(place), digit });
        }
        Verdict::Clear { from } => {
            let until = (shift + from).min(play + RING as u64);
            for at in open.take().unwrap_or(play).max(play)..until {
                states[at as usize % RING] |= MARKED;
            }
        }
    }
}
