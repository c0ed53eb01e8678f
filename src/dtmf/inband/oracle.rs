//! The naive twin of the bank: the same fit by direct sums in double precision and Gaussian elimination over all four
//! functions at once, without blocks, turns, tables or symmetry. Slow and obviously right; the bank must agree with it.

use super::bandpass::omega;
use super::bank::inside;
use super::front::Front;
use super::screen::{Row, Work, alone};
use super::{Point, WINDOW};
use crate::dsp::noise::Noise;
use proptest::prelude::*;

/// The explained energy of `window` by two frequencies (radians per sample).
fn explained(window: &[f64], row: f64, column: f64) -> f64 {
    let functions: [Box<dyn Fn(f64) -> f64>; 4] = [
        Box::new(move |t| (row * t).cos()),
        Box::new(move |t| (row * t).sin()),
        Box::new(move |t| (column * t).cos()),
        Box::new(move |t| (column * t).sin()),
    ];
    // Augmented normal equations: G | p.
    let mut m = [[0.0f64; 5]; 4];
    for (n, x) in window.iter().enumerate() {
        let values: Vec<f64> = functions.iter().map(|f| f(n as f64)).collect();
        for i in 0..4 {
            for j in 0..4 {
                m[i][j] += values[i] * values[j];
            }
            m[i][4] += values[i] * x;
        }
    }
    let p: Vec<f64> = m.iter().map(|row| row[4]).collect();
    for i in 0..4 {
        let pivot = (i..4).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs())).expect("a row");
        m.swap(i, pivot);
        for j in 0..4 {
            if j != i {
                let factor = m[j][i] / m[i][i];
                let (upper, lower) = (m[i], &mut m[j]);
                lower.iter_mut().zip(upper).for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    (0..4).map(|i| m[i][4] / m[i][i] * p[i]).sum()
}

/// A line of two sines and noise.
fn samples(sines: [(f64, f64, f64); 2], noise_rms: f32, seed: u64) -> Vec<i16> {
    let mut noise = Noise::new(seed);
    (0..400)
        .map(|n| {
            let tones: f64 = sines.iter().map(|(hz, peak, phase)| peak * (omega(*hz) * n as f64 + phase).sin()).sum();
            (tones + f64::from(noise.gaussian() * noise_rms)).clamp(-32_000.0, 32_000.0) as i16
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_bank_agrees_with_the_naive_fit_and_never_passes_over_what_could_be_suspect(
        low in 300.0f64..1100.0,
        high in 1000.0f64..2200.0,
        peaks in (0.0f64..9000.0, 0.0f64..9000.0),
        phases in (0.0f64..6.3, 0.0f64..6.3),
        noise_rms in 10.0f32..1000.0,
        seed in any::<u64>(),
    ) {
        let line = samples([(low, peaks.0, phases.0), (high, peaks.1, phases.1)], noise_rms, seed);
        let mut front = Front::new();
        let (mut row, mut work) = (Row::new(), Work::new());
        for samples in line.chunks(160) {
            front.fill(samples, Point::Armed, &mut row);
            alone(&mut row, &mut work);
            front.begin(&row);
            front.finish(samples, &row);
        }
        // Before the first block of a turn that is never run.
        let last = front.recent(0);
        let window: [f32; WINDOW] = last[last.len() - WINDOW - 8..last.len() - 8].try_into().expect("a window");
        let (lows, highs) = inside::grid();
        let single = window;
        let window = single.map(f64::from);
        let total: f64 = window.iter().map(|y| y * y).sum();
        let all = inside::all_explained(&single);
        let mut most = 0.0f32;
        for (row, columns) in all.iter().enumerate() {
            for (column, fast) in columns.iter().enumerate() {
                most = most.max(*fast);
                if (row * 5 + column) % 7 == 0 {
                    let naive = explained(&window, omega(lows[row]), omega(highs[column]));
                    prop_assert!((f64::from(*fast) - naive).abs() < 2e-3 * total, "{row} {column}");
                }
            }
        }
        // The bound may only pass over windows that no pair explains as well as was asked.
        prop_assert!(inside::bound(&single) >= most);
    }
}
