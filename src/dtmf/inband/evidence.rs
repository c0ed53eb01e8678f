//! What speaks for a candidate when no single fit of 25 ms is enough. [`Votes`]: fits that agree over time, for a tone
//! under speech. [`Kept`]: what a loss has left of a tone on its two sides. Fits and positions go in; that the key is
//! certain comes out. Neither looks at samples.
//!
//! ```text
//!  tone under speech  ────■■■■■■■■■■■■■■■■■■■■■────      tone with a loss  ────■■■■■■■▒▒▒▒▒▒▒▒▒▒■■■■■────
//!                       ├ 25 ms ┤ ½…¼ vote                                     ├ kept ┤  lost    ├seen┤
//!                         ├ 12 ├ 25 ms ┤ another …                             26 ms at least from end to end
//! ```

use super::confirm::Found;

/// How much later a fit counts again: it then holds 12 ms that the one before did not.
const AGAIN_AFTER: u64 = 96;
/// Part of the energy that two votes must explain each, and the least that counts at all.
const HALF_A_VOTE: f32 = 0.80;
const LEAST: f32 = 0.65;
/// What a fit that explains the least is worth.
const LEAST_VOTE: f32 = 0.25;

/// Fits that agree.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Votes {
    /// The last fit counted, with the average of all frequencies, and where.
    last: Option<(Found, u64)>,
    count: f32,
    weight: f32,
}

impl Votes {
    /// Whether any fit has counted.
    pub(super) fn any(&self) -> bool {
        self.last.is_some()
    }

    /// Counts a plain fit that ended at `position`; whether they are enough. One that disagrees starts anew.
    pub(super) fn count(&mut self, found: &Found, position: u64) -> bool {
        if !found.plain() || found.explained < LEAST {
            return false;
        }
        if self.last.is_some_and(|(before, _)| !before.agrees(found)) {
            *self = Self::default();
        }
        if self.last.is_some_and(|(_, at)| position < at + AGAIN_AFTER) {
            return false;
        }
        let average = self.last.map_or(*found, |(before, _)| found.averaged(&before, self.count));
        let along = ((found.explained - LEAST) / (HALF_A_VOTE - LEAST)).clamp(0.0, 1.0);
        self.last = Some((average, position));
        self.count += 1.0;
        self.weight += LEAST_VOTE + (0.5 - LEAST_VOTE) * along;
        self.weight >= 0.999
    }
}

/// The least of a tone, in samples, that is fitted beside a loss: 10 ms.
pub(super) const FITTED: u64 = 80;
/// What a fit must have had, in samples, if the other side of the loss is too short for one: 15 ms.
const WHOLE: u64 = 120;
/// The least that must be seen after a loss: 3 ms.
const SEEN: u64 = 24;
/// How much later than the loss ends a tone that goes on is seen at the latest: the band-pass has to fill.
const AT_ONCE: u64 = 48;

/// What there was of a tone before a loss (and before the losses before it).
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    place: (u8, u8),
    found: Option<Found>,
    /// Samples of tone.
    length: u64,
    /// Where the first loss begins and the last ends.
    lost: (u64, u64),
}

impl Kept {
    /// What `length` samples of tone up to `position` leave to know when `samples` are lost then. `before`: what was kept
    /// of the same tone at an earlier loss.
    pub(super) fn new(
        place: (u8, u8),
        found: Option<Found>,
        length: u64,
        (position, samples): (u64, u64),
        before: Option<Kept>,
    ) -> Self {
        let same = |k: &Kept| match (&k.found, &found) {
            _ if k.place != place || !k.goes_on(position.saturating_sub(length)) => false,
            (Some(a), Some(b)) => a.agrees(b),
            _ => true,
        };
        let before = before.filter(same);
        Self {
            place,
            found: found.or(before.and_then(|k| k.found)),
            length: length + before.map_or(0, |k| k.length),
            lost: (before.map_or(position, |k| k.lost.0), position + samples),
        }
    }

    /// The same when more is lost before anything was heard again; `None` past `most` samples.
    pub(super) fn lengthened(self, position: u64, samples: u64, most: u64) -> Option<Self> {
        let lost = (self.lost.0, position + samples);
        (self.goes_on(position) && lost.1 - lost.0 <= most).then_some(Self { lost, ..self })
    }

    /// First sample after the loss.
    pub(super) fn resumed(&self) -> u64 {
        self.lost.1
    }

    /// Whether what begins at `from` can be the same tone.
    fn goes_on(&self, from: u64) -> bool {
        from <= self.lost.1 + AT_ONCE
    }

    /// Whether a tone of `place` that was heard again from `from` to `position` is long enough together with what was
    /// kept of it, `least` samples from end to end; then by what fit: `fit` is asked for one when there is enough to be
    /// fitted, and has to be certain.
    pub(super) fn together(
        &self,
        place: (u8, u8),
        from: u64,
        position: u64,
        least: u64,
        fit: impl FnOnce(u64) -> Option<Found>,
    ) -> Option<Found> {
        let seen = position.saturating_sub(from.max(self.lost.1));
        let span = self.length + (self.lost.1 - self.lost.0) + seen;
        if self.place != place || !self.goes_on(from) || seen < SEEN || span < least {
            return None;
        }
        if seen < FITTED {
            return self.found.filter(|_| self.length >= WHOLE);
        }
        let found = fit(seen)?;
        let agrees = match &self.found {
            Some(before) => found.agrees(before),
            None => seen >= WHOLE && found.place == place,
        };
        agrees.then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::noise::Noise;
    use crate::dtmf::inband::bank::Look;
    use crate::dtmf::inband::confirm::examine;
    use crate::dtmf::inband::{Point, front::RECENT};

    const FIVE: Look = Look { place: (1, 1), hz: (772.0, 1329.0), pair: (5, 7), noise: 0.0 };

    /// A fit of `length` samples of 5, its row off by `off`, in noise of so much of the energy.
    fn fitted(length: usize, off: f64, noise: f64) -> Option<Found> {
        let mut source = Noise::new(9);
        let wave = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8000.0).sin();
        let rms = (noise / (1.0 - noise)).sqrt();
        let samples: Vec<f32> = (0..length)
            .map(|n| {
                let noise = f64::from(source.gaussian());
                (1_000.0 * (wave(770.0 * (1.0 + off), n) + wave(1336.0, n) + rms * noise)) as f32
            })
            .collect();
        examine(&samples, &FIVE)
    }

    #[test]
    fn a_clean_fit_of_any_length_is_sure_and_a_noisy_one_needs_others() {
        for length in [80, 88, 120, 160, 200] {
            assert!(fitted(length, 0.0, 0.0).is_some_and(|f| f.sure(Point::Unarmed)), "{length}");
            assert!(fitted(length, 0.035, 0.0).is_none(), "{length}");
        }
        let found = fitted(RECENT, 0.0, 0.15).expect("found");
        assert!(!found.sure(Point::Armed) && found.plain(), "{found:?}");
        let mut votes = Votes::default();
        assert!(!votes.count(&found, 1_000) && votes.any());
        assert!(!votes.count(&found, 1_095), "the same samples again");
        assert!(votes.count(&found, 1_096));
        let (low, high) = (fitted(RECENT, -0.009, 0.1).expect("found"), fitted(RECENT, 0.009, 0.1).expect("found"));
        let mut votes = Votes::default();
        assert!(low.plain() && high.plain() && !low.agrees(&high));
        assert!((0..20).all(|n| !votes.count(if n % 2 == 0 { &low } else { &high }, 1_000 + 96 * n)), "they disagree");
        let far = fitted(RECENT, 0.017, 0.15).expect("found");
        assert!((0..20).all(|n| !votes.count(&far, 5_000 + 96 * n)), "far from its nominal frequency");
    }

    #[test]
    fn fits_that_explain_little_have_to_be_many() {
        let mut found = fitted(RECENT, 0.0, 0.1).expect("found");
        found.explained = 0.66;
        let mut votes = Votes::default();
        let enough = (0..8).position(|n| votes.count(&found, 1_000 + 96 * n));
        assert_eq!(enough, Some(3));
        found.explained = 0.60;
        assert!((0..50).all(|n| !votes.count(&found, 5_000 + 96 * n)));
    }

    #[test]
    fn what_a_loss_left_on_either_side_makes_one_key_and_a_burst_does_not() {
        let found = fitted(120, 0.0, 0.0);
        let none = |_| None;
        // 15 ms, 20 ms lost, 3 ms seen again.
        let kept = Kept::new((1, 1), found, 120, (1_000, 160), None);
        assert!(kept.together((1, 1), 1_160, 1_183, 208, none).is_none(), "too little seen");
        assert!(kept.together((1, 1), 1_160, 1_184, 208, none).is_some());
        assert!(kept.together((1, 2), 1_160, 1_184, 208, none).is_none(), "another key");
        assert!(kept.together((1, 1), 1_209, 1_400, 208, none).is_none(), "it began long after the loss");
        // 6 ms and 15 ms: fitted afterwards.
        let kept = Kept::new((1, 1), None, 48, (1_000, 160), None);
        assert!(kept.together((1, 1), 1_160, 1_279, 208, |_| found).is_none());
        assert!(kept.together((1, 1), 1_160, 1_280, 208, |_| found).is_some());
        // A loss within a burst of 18 ms: not 26 from end to end.
        let kept = Kept::new((1, 1), found, 120, (1_000, 24), None);
        assert!(kept.together((1, 1), 1_024, 1_048, 208, none).is_none());
        // Two losses.
        let kept = kept.lengthened(1_024, 160, 640).expect("one loss");
        assert_eq!(kept.resumed(), 1_184);
        assert!(kept.lengthened(1_184, 640, 640).is_none());
        let again = Kept::new((1, 1), None, 48, (1_240, 160), Some(kept));
        assert!(again.together((1, 1), 1_400, 1_424, 208, none).is_some());
    }
}
