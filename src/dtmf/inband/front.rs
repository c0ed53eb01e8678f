//! What a line keeps from turn to turn of the screen: the filter's memory, the last filtered samples, the samples that
//! wait for their block to be whole, the noise floor.

use super::screen::{HISTORY, MOST, Row};
use super::{BLOCK, BLOCKS, Point, WINDOW, WINDOW_GATE, bandpass};

/// Filtered samples kept for the second stage.
pub(super) const RECENT: usize = 200;

/// Room for [`RECENT`] samples and a few turns.
const KEPT: usize = RECENT + 4 * MOST * BLOCK;

/// One line before the looks.
pub(super) struct Front {
    /// Filtered samples, those of the turn from `at` on. Moved to the front every few turns.
    samples: [f32; KEPT],
    at: usize,
    memory: [f32; bandpass::MEMORY],
    waiting: [i16; BLOCK],
    count: usize,
    /// Whether the last turn was over the gate.
    loud: bool,
    /// The energies of the last windows.
    totals: [f32; BLOCKS],
    floor: Floor,
}

impl Front {
    pub(super) fn new() -> Self {
        Self {
            samples: [0.0; KEPT],
            at: RECENT,
            memory: [0.0; bandpass::MEMORY],
            waiting: [0; BLOCK],
            count: 0,
            loud: false,
            totals: [0.0; BLOCKS],
            floor: Floor::new(),
        }
    }

    /// Samples that wait for their block to be whole.
    pub(super) fn waiting(&self) -> usize {
        self.count
    }

    /// How many of `samples` more fit one turn.
    pub(super) fn fits(&self, samples: usize) -> usize {
        samples.min(MOST * BLOCK - self.count)
    }

    /// Whether `samples` more make a block whole.
    pub(super) fn completes(&self, samples: usize) -> bool {
        self.count + samples >= BLOCK
    }

    /// Keeps samples that make no block whole.
    pub(super) fn wait(&mut self, samples: &[i16]) {
        for sample in samples {
            if let Some(room) = self.waiting.get_mut(self.count) {
                *room = *sample;
                self.count += 1;
            }
        }
    }

    /// Fills a row with the whole blocks that `samples`, no more than fit, make.
    pub(super) fn fill(&self, samples: &[i16], point: Point, row: &mut Row) {
        let whole = (self.count + samples.len()) / BLOCK * BLOCK;
        let parts = (&self.waiting[..self.count], &samples[..whole - self.count]);
        let noise = self.floor.ceiling(whole / BLOCK);
        row.loud = self.loud;
        let before = (&self.samples[self.at - HISTORY..self.at], &self.totals);
        row.fill(parts, before, &self.memory, point.bars(), noise);
    }

    /// Takes a row's samples in before its hops are looked at one by one.
    pub(super) fn begin(&mut self, row: &Row) {
        row.filtered(0, &mut self.samples[self.at..]);
    }

    /// Takes a row with nothing to look at, all at once; `false` when it has to be taken hop by hop. Of its samples only
    /// those are kept that the windows of the next row reach back to, in the place of the same of the row before: the
    /// second stage asks for none from before the first window that was looked at.
    pub(super) fn pass(&mut self, samples: &[i16], row: &Row) -> bool {
        if !self.floor.pass(row.range().0, row.blocks) {
            return false;
        }
        let taken = row.blocks * BLOCK;
        let history = &mut self.samples[self.at - HISTORY..self.at];
        match taken.checked_sub(HISTORY) {
            Some(first) => row.filtered(first, history),
            None => {
                history.copy_within(taken.., 0);
                row.filtered(0, &mut history[HISTORY - taken..]);
            }
        }
        self.end(samples, row);
        true
    }

    /// Takes the total of one hop; the line's noise in as long a window.
    pub(super) fn floor(&mut self, total: f32) -> f32 {
        self.floor.hop(total);
        self.floor.least
    }

    /// The energy of the window before the one that ends with block `hop` of the turn.
    pub(super) fn before(&self, row: &Row, hop: usize) -> f32 {
        row.before(hop, &self.totals)
    }

    /// The window that ends with block `hop` of the turn.
    pub(super) fn window(&self, hop: usize) -> &[f32; WINDOW] {
        const NONE: [f32; WINDOW] = [0.0; WINDOW];
        let end = self.at + (hop + 1) * BLOCK;
        self.samples.get(end - WINDOW..end).and_then(|window| window.try_into().ok()).unwrap_or(&NONE)
    }

    /// The last [`RECENT`] samples up to the end of block `hop` of the turn, oldest first.
    pub(super) fn recent(&self, hop: usize) -> &[f32] {
        let end = self.at + (hop + 1) * BLOCK;
        self.samples.get(end - RECENT..end).unwrap_or(&[])
    }

    /// The last [`RECENT`] samples between two turns.
    pub(super) fn latest(&self) -> &[f32] {
        self.samples.get(self.at - RECENT..self.at).unwrap_or(&[])
    }

    /// Ends a turn that took `samples` hop by hop.
    pub(super) fn finish(&mut self, samples: &[i16], row: &Row) {
        let taken = row.blocks * BLOCK;
        self.at += taken;
        if self.at + MOST * BLOCK > KEPT {
            self.samples.copy_within(self.at - RECENT..self.at, 0);
            self.at = RECENT;
        }
        self.end(samples, row);
    }

    fn end(&mut self, samples: &[i16], row: &Row) {
        self.memory = row.memory();
        self.totals = row.latest(&self.totals);
        self.loud = row.range().1 >= WINDOW_GATE;
        let used = row.blocks * BLOCK - self.count;
        self.count = 0;
        self.wait(&samples[used..]);
    }
}

/// Follows the least energy a window has had lately: the line's noise between tones and words.
struct Floor {
    parts: [f32; FLOOR_PARTS],
    hops: u16,
    least: f32,
}

const FLOOR_PARTS: usize = 4;
const FLOOR_HOPS: u16 = 256;

impl Floor {
    fn new() -> Self {
        Self { parts: [f32::INFINITY; FLOOR_PARTS], hops: 0, least: 0.0 }
    }

    fn hop(&mut self, energy: f32) {
        self.parts[0] = self.parts[0].min(energy);
        self.least = self.least.min(energy);
        self.hops += 1;
        if self.hops == FLOOR_HOPS {
            self.hops = 0;
            self.least = self.of_parts();
            self.parts.rotate_right(1);
            self.parts[0] = f32::INFINITY;
        }
    }

    fn of_parts(&self) -> f32 {
        self.parts.iter().copied().fold(f32::INFINITY, f32::min)
    }

    /// Takes several hops whose least energy is `least`, unless a part ends with them.
    fn pass(&mut self, least: f32, hops: usize) -> bool {
        if usize::from(self.hops) + hops >= usize::from(FLOOR_HOPS) {
            return false;
        }
        self.parts[0] = self.parts[0].min(least);
        self.least = self.least.min(least);
        self.hops += hops as u16;
        true
    }

    /// What the floor can be at most within the next hops.
    fn ceiling(&self, hops: usize) -> f32 {
        let ends = usize::from(self.hops) + hops >= usize::from(FLOOR_HOPS);
        if ends { self.least.max(self.of_parts()) } else { self.least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsp::noise::Noise;

    #[test]
    fn a_floor_that_takes_hops_together_is_the_one_that_takes_them_one_by_one_and_never_over_its_ceiling() {
        let (mut one, mut many) = (Floor::new(), Floor::new());
        let mut noise = Noise::new(3);
        for turn in 0..200 {
            let count = 1 + turn % 20;
            let energies: Vec<f32> = (0..count).map(|_| 1e6 + 1e5 * noise.gaussian()).collect();
            let ceiling = one.ceiling(count);
            for energy in &energies {
                one.hop(*energy);
                assert!(one.least <= ceiling, "turn {turn}");
            }
            if !many.pass(energies.iter().copied().fold(f32::INFINITY, f32::min), count) {
                energies.iter().for_each(|energy| many.hop(*energy));
            }
            assert_eq!((one.least, one.hops, one.parts), (many.least, many.hops, many.parts), "turn {turn}");
        }
        assert!(one.least > 0.0);
    }
}
