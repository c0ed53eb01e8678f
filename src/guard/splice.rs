//! How delay is put into a line and taken out of it without a click: where a stretch is heard twice, or left out, the
//! two sides are laid over one another where they are most alike. Samples go in and come out; it knows no packet and
//! decides nothing. For samples only that may be heard: who calls it has seen to that.
//!
//! ```text
//!   said     a b c d e f g h │ i j k …          put in:    … f g h │(f)(g) h │ i j k       lead_in
//!   said     a b c d e f g h i j k │ l m …      taken out: … c d(e)(h) i j k │ l m         leave_out
//! ```

/// Length of a cross-fade, samples (5 ms).
pub(super) const FADE: usize = 40;
/// Shortest and longest pitch period looked for, samples (400 and 50 Hz).
const PITCH: std::ops::RangeInclusive<usize> = 40..=160;
/// The most samples kept of what was heard last: a stretch to repeat, and enough before it to judge it.
const KEPT: usize = 640;

/// The last samples of a line that were sent on.
pub(super) struct Heard {
    samples: [i16; KEPT],
    count: usize,
    /// The position after the newest.
    end: u64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { samples: [0; KEPT], count: 0, end: 0 }
    }

    /// Takes what was sent on of the line at `position`. What does not follow the last begins anew.
    pub(super) fn note(&mut self, position: u64, samples: &[i16]) {
        if position < self.end {
            // Late: it fills a hole that was heard as one.
            return;
        }
        if position != self.end {
            self.count = 0;
        }
        self.end = position + samples.len() as u64;
        let fresh = samples.len().min(KEPT);
        self.samples.copy_within(fresh.., 0);
        self.samples[KEPT - fresh..].copy_from_slice(&samples[samples.len() - fresh..]);
        self.count = (self.count + fresh).min(KEPT);
    }

    /// What was heard last without a break up to `position`, oldest first.
    pub(super) fn until(&self, position: u64) -> &[i16] {
        &self.samples[KEPT - if position == self.end { self.count } else { 0 }..]
    }

    /// Forgets it.
    pub(super) fn clear(&mut self) {
        self.samples.fill(0);
        self.count = 0;
    }
}

/// How like two stretches are: 1 for the same wave, whatever its strength.
fn likeness(a: &[i16], b: &[i16]) -> f32 {
    let (mut product, mut one, mut other) = (0.0f32, 1.0f32, 1.0f32);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f32::from(*a), f32::from(*b));
        product += a * b;
        one += a * a;
        other += b * b;
    }
    product / (one * other).sqrt()
}

/// Fades from `from` to `to`: the place `n` of [`FADE`].
fn mixed(from: i16, to: i16, n: usize) -> i16 {
    let weight = (n as f32 + 0.5) / FADE as f32;
    (f32::from(from) * (1.0 - weight) + f32::from(to) * weight).round() as i16
}

/// Prepares the last `again.len()` samples of `heard` to be heard once more right after `heard` itself: they begin with
/// what would have followed, a pitch period repeated, and go over into what is said again. `false` when too little was
/// heard.
pub(super) fn lead_in(heard: &[i16], again: &mut [i16]) -> bool {
    let count = heard.len();
    if again.len() < FADE || again.len() > count || count < PITCH.end() + FADE {
        return false;
    }
    again.copy_from_slice(&heard[count - again.len()..]);
    let last = &heard[count - FADE..];
    let alike = |lag: &usize| likeness(last, &heard[count - FADE - lag..count - lag]);
    let lag = PITCH.max_by(|a, b| alike(a).total_cmp(&alike(b))).unwrap_or(FADE);
    for n in 0..FADE {
        again[n] = mixed(heard[count - lag + n], again[n], n);
    }
    true
}

/// Finds where in the first `frame` samples of `said` the `gap` that lies behind them can be left out best: where to
/// begin fading, and how alike the two sides are there.
pub(super) fn best_cut(said: &[i16], frame: usize, gap: usize) -> (usize, f32) {
    let last = frame.min(said.len().saturating_sub(gap)).saturating_sub(FADE);
    (0..=last)
        .step_by(4)
        .map(|at| (at, likeness(&said[at..at + FADE], &said[at + gap..at + gap + FADE])))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap_or((0, 0.0))
}

/// Makes the `out.len()` samples that go over from the begin of `said` to its end with `gap` samples left out, fading
/// from place `at` on.
pub(super) fn leave_out(said: &[i16], gap: usize, at: usize, out: &mut [i16]) {
    for (n, out) in out.iter_mut().enumerate() {
        *out = match n.checked_sub(at) {
            None => said[n],
            Some(place) if place < FADE => mixed(said[n], said[n + gap], place),
            Some(_) => said[n + gap],
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::tone::Tone;

    fn steepest(samples: &[i16]) -> i32 {
        samples.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap_or(0)
    }

    #[test]
    fn a_sine_heard_longer_or_shorter_has_no_click() {
        for hz in [130.0, 200.0, 440.0, 1_000.0, 1_700.0] {
            let mut said = [0i16; 1_600];
            Tone::new(hz, -15.0).fill(&mut said);
            let most = steepest(&said);
            for gap in [FADE, 80, 96, 111, 160, 256, 400] {
                let mut again = vec![0i16; gap];
                assert!(lead_in(&said[..640], &mut again));
                let longer = [&said[..640], &again, &said[640..]].concat();
                assert!(steepest(&longer) * 2 <= most * 3, "{hz} Hz, {gap} more: {}", steepest(&longer));
                let (at, _) = best_cut(&said[640..800 + gap], 160, gap);
                let mut frame = [0i16; 160];
                leave_out(&said[640..800 + gap], gap, at, &mut frame);
                let shorter = [&said[..640], &frame, &said[800 + gap..]].concat();
                assert!(steepest(&shorter) * 2 <= most * 3, "{hz} Hz, {gap} less: {}", steepest(&shorter));
            }
        }
    }

    #[test]
    fn only_what_was_heard_without_a_break_is_there_to_repeat() {
        let mut heard = Heard::new();
        heard.note(1_000, &[1; 160]);
        heard.note(1_160, &[2; 160]);
        assert_eq!(heard.until(1_320).len(), 320);
        assert_eq!(heard.until(1_480).len(), 0, "more has passed since");
        heard.note(1_640, &[3; 160]);
        assert_eq!(heard.until(1_800), [3; 160], "a hole was heard before it");
        (0..10).for_each(|n| heard.note(1_800 + n * 160, &[4; 160]));
        assert_eq!(heard.until(3_400), [4; KEPT]);
        let mut short = [0; 96];
        assert!(!lead_in(&[5; 150], &mut short));
    }
}
