//! A source's RTP timestamps as samples at 8 kHz, whatever its codec's clock: endless inside, so that neither the wrap of
//! 32 bits nor a division makes a jump. Timestamps go in with their clock rate; samples come out, modulo 2³².

/// Samples per second of what comes out.
const RATE: u32 = 8_000;

/// The clock of one source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    /// Ticks per sample.
    per_sample: u32,
    /// The last timestamp of audio, and where it stands on the endless count; `None` before the first.
    last: Option<(u32, u64)>,
}

impl Ticks {
    pub(super) fn new() -> Self {
        Self { per_sample: 1, last: None }
    }

    /// Forgets the source.
    pub(super) fn restart(&mut self) {
        self.last = None;
    }

    /// Counts by `clock_rate` from now on; `true` when the source has counted otherwise until now.
    pub(super) fn set_clock(&mut self, clock_rate: u32) -> bool {
        let per_sample = per_sample(clock_rate);
        let changed = self.per_sample != per_sample && self.last.is_some();
        if self.per_sample != per_sample {
            self.per_sample = per_sample;
            self.last = None;
        }
        changed
    }

    /// Whether `clock_rate` is the audio's.
    pub(super) fn is_in_step(&self, clock_rate: u32) -> bool {
        self.per_sample == per_sample(clock_rate)
    }

    /// Where a timestamp of the audio's clock stands, in samples.
    pub(super) fn at(&self, timestamp: u32) -> u32 {
        (self.endless(timestamp) / u64::from(self.per_sample)) as u32
    }

    /// The same, of an audio packet, which later ones are counted from.
    pub(super) fn take(&mut self, timestamp: u32) -> u32 {
        self.last = Some((timestamp, self.endless(timestamp)));
        self.at(timestamp)
    }

    fn endless(&self, timestamp: u32) -> u64 {
        match self.last {
            Some((last, endless)) => endless.saturating_add_signed(i64::from(timestamp.wrapping_sub(last) as i32)),
            // Far from zero, so that older timestamps do not pass below it.
            None => (1 << 40) * u64::from(self.per_sample) + u64::from(timestamp),
        }
    }
}

/// Ticks per sample; 1 for clocks that are no multiple.
fn per_sample(clock_rate: u32) -> u32 {
    (clock_rate / RATE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_go_on_across_the_wrap_of_any_clock() {
        for clock in [8_000, 48_000] {
            let mut ticks = Ticks::new();
            assert!(!ticks.set_clock(clock));
            let step = clock / 50;
            let mut timestamp = u32::MAX - 3 * step - 7;
            let mut before = ticks.take(timestamp);
            for _ in 0..10 {
                timestamp = timestamp.wrapping_add(step);
                let at = ticks.take(timestamp);
                assert_eq!(at.wrapping_sub(before), 160);
                before = at;
            }
            assert_eq!(before.wrapping_sub(ticks.at(timestamp.wrapping_sub(2 * step))), 320);
        }
    }

    #[test]
    fn a_source_that_changes_its_clock_is_told_of_once() {
        let mut ticks = Ticks::new();
        ticks.take(160);
        assert!(ticks.is_in_step(8_000) && !ticks.is_in_step(48_000));
        assert!(ticks.set_clock(48_000));
        ticks.take(960);
        assert!(!ticks.set_clock(48_000));
        assert!(ticks.is_in_step(48_000));
    }
}
