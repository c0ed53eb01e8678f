//! The adversary of the leak tests. It has what a sink got, knows to the sample when each key was pressed, and tries to
//! say which key it was. Two attackers: a least-squares fit of every short stretch around the press, and a template with
//! zero phase at the known onset. Besides them an ordinary, independent tone decoder. None shares code with the detector.

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

/// Correlates with each key's tones as a source that starts them at phase zero sends them, at the known onset.
pub fn template(heard: &[i16], onset: usize, length: usize, fallback: u8) -> Guess {
    let heard = &heard[onset.min(heard.len())..(onset + length).min(heard.len())];
    let total: f64 = heard.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let mut best = Guess { key: fallback % 10, score: 0.0 };
    if total <= 0.0 {
        return best;
    }
    for (row, hz) in ROWS.iter().enumerate() {
        for (column, other) in COLUMNS[..COLUMN_COUNT].iter().enumerate() {
            let key = KEY_AT[row][column];
            if key > 9 {
                continue;
            }
            let phase = |hz: f32, n: usize| (std::f64::consts::TAU * f64::from(hz) * n as f64 / 8000.0).sin();
            let (mut product, mut own) = (0.0, 0.0);
            for (n, x) in heard.iter().enumerate() {
                // Only what was let through counts for the template's own energy.
                if *x != 0 {
                    let t = phase(*hz, n) + phase(*other, n);
                    product += t * f64::from(*x);
                    own += t * t;
                }
            }
            let score = if own > 0.0 { product / (own * total).sqrt() } else { 0.0 };
            if score > best.score {
                best = Guess { key, score };
            }
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
            assert_eq!(template(&heard, 100, 24, 0).key, key);
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
