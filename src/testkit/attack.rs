//! The adversary of the leak tests. It has what a sink got, knows to the sample when each key was pressed, and tries to
//! say which key it was. Two attackers: a least-squares fit of every short stretch around the press, and a template with
//! zero phase near the known onset. Besides them an ordinary, independent tone decoder. None shares code with the detector.

use crate::dsp::tone::{COLUMNS, KEY_AT, ROWS};

/// Where an attacker looks, before the onset.
pub const BEFORE: usize = 40 * 8;
/// Where an attacker looks, after the onset.
pub const AFTER: usize = 200 * 8;

/// An attacker's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// RFC 4733 event code, 0–9.
    pub key: u8,
    /// How sure: the log-likelihood ratio of the best stretch for the least-squares attacker, the correlation for the
    /// template. Comparable only within one attacker.
    pub score: f64,
}

/// Stretch lengths the least-squares attacker tries, samples: 1–40 ms.
const STRETCHES: [usize; 6] = [8, 16, 40, 80, 160, 320];
/// The keys in question: the ten digits use three columns.
const ROW_COUNT: usize = 4;
const COLUMN_COUNT: usize = 3;

struct Stretch {
    length: usize,
    /// cos, sin of rows then columns, about the stretch's centre.
    waves: Vec<[Vec<f64>; 2]>,
    /// Inverse Gram matrices per row and column: even (a, b, c), odd (a, b, c).
    inverse: [[[(f64, f64, f64); 2]; COLUMN_COUNT]; ROW_COUNT],
}

/// Fits each key to every stretch of 1–40 ms from [`BEFORE`] to [`AFTER`] the onset and believes the likeliest.
pub struct LeastSquares {
    stretches: Vec<Stretch>,
}

impl Default for LeastSquares {
    fn default() -> Self {
        Self::new()
    }
}

impl LeastSquares {
    /// Prepares the fits.
    pub fn new() -> Self {
        Self { stretches: STRETCHES.iter().map(|length| Stretch::new(*length)).collect() }
    }

    /// The key pressed at `onset`, from `heard`. Stretches of digital silence say nothing and are passed over; when
    /// nothing else is heard the guess is `fallback` with score 0.
    pub fn guess(&self, heard: &[i16], onset: usize, fallback: u8) -> Guess {
        let from = onset.saturating_sub(BEFORE).min(heard.len());
        let to = (onset + AFTER).min(heard.len());
        let heard: Vec<f64> = heard[from..to].iter().map(|s| f64::from(*s)).collect();
        let mut best = Guess { key: fallback % 10, score: 0.0 };
        for stretch in &self.stretches {
            for start in (0..heard.len().saturating_sub(stretch.length - 1)).step_by((stretch.length / 4).max(2)) {
                stretch.fit(&heard[start..start + stretch.length], &mut best);
            }
        }
        best
    }
}

impl Stretch {
    fn new(length: usize) -> Self {
        let centre = (length as f64 - 1.0) / 2.0;
        let frequencies: Vec<f64> = ROWS
            .iter()
            .chain(&COLUMNS[..COLUMN_COUNT])
            .map(|hz| std::f64::consts::TAU * f64::from(*hz) / 8000.0)
            .collect();
        let wave = |w: f64, f: fn(f64) -> f64| (0..length).map(|n| f(w * (n as f64 - centre))).collect::<Vec<_>>();
        let waves: Vec<[Vec<f64>; 2]> = frequencies.iter().map(|w| [wave(*w, f64::cos), wave(*w, f64::sin)]).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let mut inverse = [[[(0.0, 0.0, 0.0); 2]; COLUMN_COUNT]; ROW_COUNT];
        for (row, columns) in inverse.iter_mut().enumerate() {
            for (column, halves) in columns.iter_mut().enumerate() {
                for (half, slot) in halves.iter_mut().enumerate() {
                    let (r, c) = (&waves[row][half], &waves[ROW_COUNT + column][half]);
                    // A hair of regularisation keeps 8 samples from explaining everything.
                    let ridge = 1.0 + 1e-3;
                    let (rr, rc, cc) = (dot(r, r) * ridge, dot(r, c), dot(c, c) * ridge);
                    let determinant = rr * cc - rc * rc;
                    *slot = (cc / determinant, -rc / determinant, rr / determinant);
                }
            }
        }
        Self { length, waves, inverse }
    }

    fn fit(&self, heard: &[f64], best: &mut Guess) {
        let total: f64 = heard.iter().map(|x| x * x).sum();
        // Under two units rms it is coding noise of silence.
        if total < 4.0 * self.length as f64 {
            return;
        }
        let mut sums = [[0.0; 2]; ROW_COUNT + COLUMN_COUNT];
        for (sum, waves) in sums.iter_mut().zip(&self.waves) {
            for (half, wave) in sum.iter_mut().zip(waves) {
                *half = wave.iter().zip(heard).map(|(w, x)| w * x).sum();
            }
        }
        for row in 0..ROW_COUNT {
            for column in 0..COLUMN_COUNT {
                let key = KEY_AT[row][column];
                if key > 9 {
                    continue;
                }
                let mut explained = 0.0;
                let products = sums[row].iter().zip(&sums[ROW_COUNT + column]);
                for ((r, s), (a, b, c)) in products.zip(&self.inverse[row][column]) {
                    explained += a * r * r + 2.0 * b * r * s + c * s * s;
                }
                let left = (1.0 - explained / total).max(1e-6);
                let score = -(self.length as f64) / 2.0 * left.ln();
                if score > best.score {
                    *best = Guess { key, score };
                }
            }
        }
    }
}

/// Running sums of a stretch against each key's frequencies, so that any window of it is fitted in no time.
pub struct Spectrum {
    /// Σ x·cos and Σ x·sin up to each sample, rows then columns.
    sums: Vec<[(f64, f64); ROW_COUNT + COLUMN_COUNT]>,
    /// Σ x² up to each sample.
    energy: Vec<f64>,
}

/// Angular frequencies of rows, then columns, per sample.
fn frequencies() -> [f64; ROW_COUNT + COLUMN_COUNT] {
    std::array::from_fn(|n| {
        let hz = if n < ROW_COUNT { ROWS[n] } else { COLUMNS[n - ROW_COUNT] };
        std::f64::consts::TAU * f64::from(hz) / 8_000.0
    })
}

/// The ten digits with their rows and columns, in the order of rows and columns.
fn digits() -> impl Iterator<Item = (u8, usize, usize)> {
    let place = |n: usize| (KEY_AT[n / COLUMN_COUNT][n % COLUMN_COUNT], n / COLUMN_COUNT, n % COLUMN_COUNT);
    (0..ROW_COUNT * COLUMN_COUNT).map(place).filter(|(key, ..)| *key < 10)
}

impl Spectrum {
    /// Of `heard`.
    pub fn new(heard: &[i16]) -> Self {
        let steps = frequencies().map(|w| (w.cos(), w.sin()));
        let mut phases = [(1.0f64, 0.0f64); ROW_COUNT + COLUMN_COUNT];
        let mut sums = vec![[(0.0, 0.0); ROW_COUNT + COLUMN_COUNT]; heard.len() + 1];
        let mut energy = vec![0.0; heard.len() + 1];
        for (n, sample) in heard.iter().enumerate() {
            let x = f64::from(*sample);
            energy[n + 1] = energy[n] + x * x;
            for f in 0..phases.len() {
                let (c, s) = phases[f];
                let (a, b) = sums[n][f];
                sums[n + 1][f] = (a + x * c, b + x * s);
                phases[f] = (c * steps[f].0 - s * steps[f].1, s * steps[f].0 + c * steps[f].1);
            }
        }
        Self { sums, energy }
    }

    /// Samples in it.
    pub fn len(&self) -> usize {
        self.energy.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Σ x² of `from..to`.
    pub fn energy(&self, from: usize, to: usize) -> f64 {
        (self.energy[to] - self.energy[from]).max(0.0)
    }

    /// Σ x·cos and Σ x·sin of `from..to`, with phase 0 at `origin`.
    fn product(&self, f: usize, from: usize, to: usize, origin: f64) -> (f64, f64) {
        let (a, b) = (self.sums[to][f].0 - self.sums[from][f].0, self.sums[to][f].1 - self.sums[from][f].1);
        let (s, c) = (frequencies()[f] * origin).sin_cos();
        (a * c + b * s, b * c - a * s)
    }

    /// The energy that a least-squares fit of each digit's two tones explains of `from..to`, by digit.
    pub fn explained(&self, from: usize, to: usize) -> [f64; 10] {
        let length = (to - from) as f64;
        let centre = from as f64 + (length - 1.0) / 2.0;
        let w = frequencies();
        // Σ cos(a·m) over a window about its centre.
        let kernel = |a: f64| if a.abs() < 1e-12 { length } else { (a * length / 2.0).sin() / (a / 2.0).sin() };
        let products: Vec<(f64, f64)> = (0..w.len()).map(|f| self.product(f, from, to, centre)).collect();
        let mut explained = [0.0; 10];
        for (key, row, column) in digits() {
            let (a, b) = (w[row], w[ROW_COUNT + column]);
            let (near, far) = (kernel(a - b) / 2.0, kernel(a + b) / 2.0);
            let fit = |x: f64, y: f64, xx: f64, xy: f64, yy: f64| {
                let (xx, yy) = (xx * (1.0 + 1e-3), yy * (1.0 + 1e-3));
                (yy * x * x - 2.0 * xy * x * y + xx * y * y) / (xx * yy - xy * xy)
            };
            let ((rc, rs), (cc, cs)) = (products[row], products[ROW_COUNT + column]);
            let even = |a: f64| length / 2.0 + kernel(2.0 * a) / 2.0;
            let odd = |a: f64| length / 2.0 - kernel(2.0 * a) / 2.0;
            explained[usize::from(key)] =
                fit(rc, cc, even(a), near + far, even(b)) + fit(rs, cs, odd(a), near - far, odd(b));
        }
        explained
    }
}

/// Window lengths the template tries besides the whole key, samples: 3, 10 and 20 ms.
const TEMPLATES: [usize; 3] = [24, 80, 160];

/// Correlates with each key's tones as a source that starts them at phase zero sends them. The attacker knows the onset;
/// by how much the way delayed it, between [`BEFORE`] and `late` samples, it tries out.
pub fn template(heard: &[i16], onset: usize, length: usize, late: usize, fallback: u8) -> Guess {
    let from = onset.saturating_sub(BEFORE).min(heard.len());
    let to = (onset + late + length).min(heard.len());
    let spectrum = Spectrum::new(&heard[from..to]);
    let last = (onset + late).min(heard.len()).saturating_sub(from);
    let w = frequencies();
    let mut best = Guess { key: fallback % 10, score: 0.0 };
    let turns: Vec<(f64, f64)> = w.iter().map(|w| (w.sin(), w.cos())).collect();
    let mut phases = [(0.0f64, 1.0f64); ROW_COUNT + COLUMN_COUNT];
    for start in 0..=last {
        for wanted in TEMPLATES.into_iter().filter(|t| *t < length).chain([length]) {
            let end = (start + wanted).min(spectrum.len());
            let size = (end - start) as f64;
            let total = spectrum.energy(start, end);
            if end < start + 24 || total < 4.0 * size {
                continue;
            }
            let mut tones = [0.0; ROW_COUNT + COLUMN_COUNT];
            for (f, tone) in tones.iter_mut().enumerate() {
                let (c, s) = {
                    let (to, from) = (spectrum.sums[end][f], spectrum.sums[start][f]);
                    (to.0 - from.0, to.1 - from.1)
                };
                // Σ x·sin(w·(n − start)).
                *tone = s * phases[f].1 - c * phases[f].0;
            }
            for (key, row, column) in digits() {
                let share = (tones[row] + tones[ROW_COUNT + column]) / (size * total).sqrt();
                if share <= 0.0 {
                    continue;
                }
                let score = -size / 2.0 * (1.0 - (share * share).min(0.999_999)).ln();
                if score > best.score {
                    best = Guess { key, score };
                }
            }
        }
        for (phase, (s, c)) in phases.iter_mut().zip(&turns) {
            *phase = (phase.0 * c + phase.1 * s, phase.1 * c - phase.0 * s);
        }
    }
    best
}

/// An ordinary tone decoder, of another design than the product's: Goertzel filters over separate 13 ms blocks, peak and
/// twist rules, a digit when two blocks in a row agree. Returns (sample position, RFC 4733 event code) per digit.
pub fn decode(heard: &[i16]) -> Vec<(usize, u8)> {
    const BLOCK: usize = 105;
    let mut told = Vec::new();
    let (mut last, mut current) = (None, None);
    for (n, block) in heard.chunks_exact(BLOCK).enumerate() {
        let hit = block_key(block);
        if hit.is_some() && hit == last && hit != current {
            if let Some(key) = hit {
                told.push((n.saturating_sub(1) * BLOCK, key));
            }
            current = hit;
        } else if hit.is_none() && last.is_none() {
            current = None;
        }
        last = hit;
    }
    told
}

fn block_key(block: &[i16]) -> Option<u8> {
    let total: f32 = block.iter().map(|x| f32::from(*x) * f32::from(*x)).sum();
    // −42 dBm0 at least.
    if total < 15_700.0 * block.len() as f32 {
        return None;
    }
    let power = |hz: f32| {
        let coefficient = 2.0 * (std::f32::consts::TAU * hz / 8000.0).cos();
        let (mut s1, mut s2) = (0.0f32, 0.0f32);
        for x in block {
            let s = f32::from(*x) + coefficient * s1 - s2;
            (s2, s1) = (s1, s);
        }
        s1 * s1 + s2 * s2 - coefficient * s1 * s2
    };
    let strongest = |group: &[f32; 4]| {
        let powers = group.map(power);
        let best = (0..4).max_by(|a, b| powers[*a].total_cmp(&powers[*b])).unwrap_or(0);
        let clear = (0..4).all(|n| n == best || powers[n] * 6.3 < powers[best]);
        (best, powers[best], clear)
    };
    let (row, low, low_clear) = strongest(&ROWS);
    let (column, high, high_clear) = strongest(&COLUMNS);
    let twist = high < low * 6.3 && low < high * 8.0;
    // A sine's Goertzel power is its energy times half the block.
    let share = (low + high) / (total * block.len() as f32 / 2.0);
    (low_clear && high_clear && twist && share > 0.5).then_some(KEY_AT[row][column])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tones::{Plan, line, silence};

    #[test]
    fn two_milliseconds_of_tone_are_enough_for_the_least_squares_attacker() {
        let attacker = LeastSquares::new();
        let plan = Plan { presses: 40, snr_db: Some(20.0), ..Plan::default() };
        let line = line(&plan, 4);
        let mut right = 0;
        for press in &line.presses {
            let mut heard = vec![0i16; line.samples.len()];
            heard[press.begin + 300..press.begin + 316]
                .copy_from_slice(&line.samples[press.begin + 300..press.begin + 316]);
            right += usize::from(attacker.guess(&heard, press.begin, 0).key == press.digit.expose_event());
        }
        assert!(right >= 38, "{right} of 40");
    }

    #[test]
    fn where_nothing_is_left_nothing_is_learnt() {
        let plan = Plan { presses: 40, ..Plan::default() };
        let line = line(&plan, 5);
        let mut heard = line.samples.clone();
        let all: Vec<_> = line.presses.iter().map(|p| (p.begin as u64, p.end as u64)).collect();
        silence(&mut heard, &all);
        let attacker = LeastSquares::new();
        assert!(line.presses.iter().all(|p| attacker.guess(&heard, p.begin, 3) == Guess { key: 3, score: 0.0 }));
        assert!(decode(&heard).is_empty());
    }

    #[test]
    fn the_template_knows_a_source_that_starts_at_phase_zero() {
        for key in 0..10u8 {
            let digit = crate::base::secret::Digit::from_event(key).expect("a key");
            let mut heard = [0i16; 800];
            crate::dsp::tone::TwoTone::key(&digit, -20.0).fill(&mut heard[100..]);
            // Short or whole, and delayed on the way.
            assert_eq!(template(&heard, 100, 24, 0, 0).key, key);
            assert_eq!(template(&heard, 60, 700, 80, 0).key, key);
        }
    }

    #[test]
    fn the_fit_of_any_window_is_that_of_the_waves_themselves() {
        let line = line(&Plan { presses: 4, snr_db: Some(10.0), ..Plan::default() }, 9);
        let spectrum = Spectrum::new(&line.samples);
        let w = frequencies();
        for (from, to) in [(700, 780), (1_000, 1_400), (1_333, 1_357)] {
            let fast = spectrum.explained(from, to);
            for (key, row, column) in digits() {
                // The slow way: orthonormalise the four waves, one after the other.
                let mut waves: Vec<Vec<f64>> = [w[row], w[ROW_COUNT + column]]
                    .iter()
                    .flat_map(|w| {
                        let wave = |f: fn(f64) -> f64| (from..to).map(|n| f(w * n as f64)).collect::<Vec<_>>();
                        [wave(f64::cos), wave(f64::sin)]
                    })
                    .collect();
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
                let mut slow = 0.0;
                let x: Vec<f64> = line.samples[from..to].iter().map(|s| f64::from(*s)).collect();
                for n in 0..4 {
                    let (done, rest) = waves.split_at_mut(n);
                    for other in done {
                        let along = dot(&rest[0], other);
                        rest[0].iter_mut().zip(other).for_each(|(a, b)| *a -= along * *b);
                    }
                    let size = dot(&rest[0], &rest[0]).sqrt();
                    rest[0].iter_mut().for_each(|a| *a /= size);
                    slow += dot(&rest[0], &x).powi(2);
                }
                let total = spectrum.energy(from, to);
                let off = (fast[usize::from(key)] - slow).abs() / total;
                // The fast one has a hair of regularisation, which shows where two tones can hardly be told apart.
                assert!(
                    off < if to - from < 40 { 0.2 } else { 0.01 },
                    "{key} {from}: {} {slow} of {total}",
                    fast[usize::from(key)]
                );
            }
        }
    }

    #[test]
    fn the_ordinary_decoder_reads_an_unmasked_line() {
        let line = line(&Plan { presses: 50, ..Plan::default() }, 6);
        let told: Vec<u8> = decode(&line.samples).into_iter().map(|(_, key)| key).collect();
        let truth: Vec<u8> = line.presses.iter().map(|p| p.digit.expose_event()).collect();
        assert_eq!(told, truth);
    }
}
