//! Pieces of a key's tone that are too short to be named: 10 ms and more. Samples go in; the place of each piece comes
//! out, once. It knows the frequencies of the keys exactly, so it needs no search for them, and asks for nearly all of a
//! window's energy, so speech seldom is one.
//!
//! In a window of `W` samples about its centre, cosines are even and sines odd, so that the least-squares fit of a row's
//! and a column's tone falls into two 2×2 systems, whose inverses are a table.

use crate::dsp::tone::{COLUMNS, ROWS};

/// Samples of a window: 10 ms.
const WINDOW: usize = 80;
/// Samples between windows: 2.5 ms.
const HOP: usize = 20;
/// Part of a window's energy that two tones must explain.
const PART: f64 = 0.985;
/// Energy of a window under which nothing is looked at: an rms of 30, which is −57 dBm0.
const GATE: f64 = 30.0 * 30.0 * WINDOW as f64;
/// Neither tone may have less than this part of what both have.
const WEAKER: f64 = 0.08;
/// Samples without one, after which the next is another piece: 40 ms.
const APART: u64 = 320;
const GROUP: usize = 4;

/// Finds pieces in one channel.
pub(super) struct Fragments {
    /// The last samples, oldest first.
    window: Vec<i16>,
    /// Samples taken.
    position: u64,
    /// cos, sin of rows, then columns, about the centre.
    waves: Box<[[[f64; WINDOW]; 2]; 2 * GROUP]>,
    /// Inverses per row and column, even and odd: (a, b, c) of [[a, b], [b, c]].
    inverse: [[[(f64, f64, f64); 2]; GROUP]; GROUP],
    /// End of the last window that was a piece, and its key's place.
    last: Option<(u64, (usize, usize))>,
}

impl Fragments {
    pub(super) fn new() -> Self {
        let mut waves = Box::new([[[0.0; WINDOW]; 2]; 2 * GROUP]);
        for (wave, hz) in waves.iter_mut().zip(ROWS.iter().chain(&COLUMNS)) {
            let [cosine, sine] = wave;
            for (n, (cosine, sine)) in cosine.iter_mut().zip(sine).enumerate() {
                let turn = std::f64::consts::TAU * f64::from(*hz) / 8_000.0 * (n as f64 - (WINDOW as f64 - 1.0) / 2.0);
                (*cosine, *sine) = (turn.cos(), turn.sin());
            }
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let inverse = std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                std::array::from_fn(|half| {
                    let (r, c) = (&waves[row][half], &waves[GROUP + column][half]);
                    let (rr, rc, cc) = (dot(r, r), dot(r, c), dot(c, c));
                    let determinant = rr * cc - rc * rc;
                    (cc / determinant, -rc / determinant, rr / determinant)
                })
            })
        });
        Self { window: Vec::with_capacity(2 * WINDOW), position: 0, waves, inverse, last: None }
    }

    /// Takes samples and tells where pieces begin.
    pub(super) fn feed(&mut self, samples: &[i16], piece: &mut impl FnMut(u64)) {
        for part in samples.chunks(HOP) {
            self.position += part.len() as u64;
            self.window.extend_from_slice(part);
            let over = self.window.len().saturating_sub(WINDOW);
            self.window.drain(..over);
            if self.window.len() < WINDOW {
                continue;
            }
            let Some(place) = self.fit() else { continue };
            let new = self.last.is_none_or(|(at, last)| last != place || self.position > at + APART);
            self.last = Some((self.position, place));
            if new {
                piece(self.position - WINDOW as u64);
            }
        }
    }

    /// The key whose tones the window is, if it is one's.
    fn fit(&self) -> Option<(usize, usize)> {
        let mut x = [0.0; WINDOW];
        x.iter_mut().zip(&self.window).for_each(|(x, sample)| *x = f64::from(*sample));
        let total: f64 = x.iter().map(|x| x * x).sum();
        if total < GATE {
            return None;
        }
        let mut sums = [[0.0; 2]; 2 * GROUP];
        for (sum, waves) in sums.iter_mut().zip(self.waves.iter()) {
            for (half, wave) in sum.iter_mut().zip(waves) {
                *half = wave.iter().zip(&x).map(|(w, x)| w * x).sum();
            }
        }
        let strongest = |group: &[[f64; 2]]| {
            let power = |sum: &[f64; 2]| sum[0] * sum[0] + sum[1] * sum[1];
            (0..GROUP).max_by(|a, b| power(&group[*a]).total_cmp(&power(&group[*b]))).unwrap_or(0)
        };
        // In so short a window neighbours run into each other: the strongest of each group and those beside it.
        let (near_row, near_column) = (strongest(&sums[..GROUP]), strongest(&sums[GROUP..]));
        let mut best: Option<(f64, (usize, usize))> = None;
        for row in near_row.saturating_sub(1)..=(near_row + 1).min(GROUP - 1) {
            for column in near_column.saturating_sub(1)..=(near_column + 1).min(GROUP - 1) {
                let (mut explained, mut parts) = (0.0, [0.0; 2]);
                for (half, (a, b, d)) in self.inverse[row][column].into_iter().enumerate() {
                    let (r, c) = (sums[row][half], sums[GROUP + column][half]);
                    let (of_row, of_column) = (a * r + b * c, b * r + d * c);
                    explained += of_row * r + of_column * c;
                    parts[0] += of_row * of_row;
                    parts[1] += of_column * of_column;
                }
                let balanced = parts[0].min(parts[1]) >= WEAKER * (parts[0] + parts[1]);
                if balanced && explained >= PART * total && best.is_none_or(|(most, _)| explained > most) {
                    best = Some((explained, (row, column)));
                }
            }
        }
        best.map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Digit;
    use crate::dsp::noise::Noise;
    use crate::dsp::tone::TwoTone;

    #[test]
    fn twelve_milliseconds_of_each_key_are_one_piece_where_they_are() {
        for code in 0..16 {
            let digit = Digit::from_event(code).expect("a key");
            let mut line = [0i16; 4_000];
            Noise::new(u64::from(code)).fill(20.0, &mut line);
            let mut tone = [0i16; 96];
            TwoTone::key(&digit, -20.0).fill(&mut tone);
            line[2_000..2_096].iter_mut().zip(tone).for_each(|(line, tone)| *line += tone);
            let mut found = Vec::new();
            Fragments::new().feed(&line, &mut |at| found.push(at));
            assert_eq!(found.len(), 1, "{code}: {found:?}");
            assert!(found[0].abs_diff(2_000) <= 20, "{code}: {found:?}");
        }
    }

    #[test]
    fn a_flat_tone_ringback_and_noise_are_none() {
        let tone = |hz: &[f64], level: f64| -> Vec<i16> {
            let at =
                |n: usize| hz.iter().map(|hz| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin()).sum::<f64>();
            (0..16_000).map(|n| (level * at(n)) as i16).collect()
        };
        let mut noise = vec![0i16; 80_000];
        Noise::new(7).fill(500.0, &mut noise);
        for (name, line) in [
            ("the mask's tone", tone(&[1_060.0], 3_000.0)),
            ("ringback", tone(&[440.0, 480.0], 3_000.0)),
            ("ringback, UK", tone(&[400.0, 450.0], 3_000.0)),
            ("busy", tone(&[480.0, 620.0], 3_000.0)),
            ("beep", tone(&[1_400.0], 8_000.0)),
            ("fax", tone(&[1_100.0], 8_000.0)),
            ("noise", noise),
        ] {
            let mut found = 0;
            Fragments::new().feed(&line, &mut |_| found += 1);
            assert_eq!(found, 0, "{name}");
        }
    }
}
