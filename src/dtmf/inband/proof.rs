//! The screen lets through all that the full fit could find suspect: shown for every pair of the grid, not tried out.
//!
//! Let `x` be a window, `E(x)` what a pair of the grid explains of it, `S(x)` what the strongest of the screen's low and
//! high frequencies explain alone. A maximum is at least any mean, so with the neighbours of the pair's frequencies
//! weighed by nearness, `S(x) ≥ A(x)`, where `A` is a quadratic form. `A(x) ≥ E(x) − k·Σx²` for every `x` if and only if
//! the symmetric matrix of `A − E + k·1` has no negative eigenvalue, that is, if elimination meets no negative pivot. All
//! three forms live in the span of a dozen functions, outside of which only `k·1` is left.

use super::bandpass::omega;
use super::bank::inside;
use super::screen::{HIGH, LOW, SHORT, centre_of, frequencies};
use super::{BLOCK, BLOCKS, WINDOW};

type Function = Vec<f64>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Cosine and sine about the window's centre: `centre_hz` within each block, `hz` from block to block.
fn functions(centre_hz: f64, hz: f64) -> [Function; 2] {
    let angle = |n: usize| {
        let block = (n / BLOCK) as f64 - (BLOCKS as f64 - 1.0) / 2.0;
        let within = (n % BLOCK) as f64 - (BLOCK as f64 - 1.0) / 2.0;
        omega(centre_hz) * within + omega(hz) * BLOCK as f64 * block
    };
    [(0..WINDOW).map(|n| angle(n).cos()).collect(), (0..WINDOW).map(|n| angle(n).sin()).collect()]
}

/// The screen's frequencies of a group with their centres, Hz.
fn screened(group: (f64, f64), each: usize) -> Vec<(f64, f64)> {
    (0..4).flat_map(|c| frequencies(group, each, c).map(move |hz| (centre_of(group, each, c), hz))).collect()
}

/// The frequencies of the screen around `hz` with weights that sum to 1.
fn around(list: &[(f64, f64)], hz: f64) -> Vec<(f64, f64, f64)> {
    let next = list.iter().position(|(_, other)| *other >= hz).unwrap_or(list.len());
    let (Some(before), Some(after)) = (next.checked_sub(1).map(|n| list[n]), list.get(next).copied()) else {
        let (centre, only) = list[next.min(list.len() - 1)];
        return vec![(centre, only, 1.0)];
    };
    let part = (hz - before.1) / (after.1 - before.1);
    vec![(before.0, before.1, 1.0 - part), (after.0, after.1, part)]
}

/// Adds what is new of `function` to an orthonormal basis.
fn extend(basis: &mut Vec<Function>, function: &Function) {
    let mut rest = function.clone();
    for _ in 0..2 {
        for b in basis.iter() {
            let along = dot(b, &rest);
            rest.iter_mut().zip(b).for_each(|(x, y)| *x -= along * y);
        }
    }
    let norm = dot(&rest, &rest).sqrt();
    if norm > 1e-9 * dot(function, function).sqrt() {
        basis.push(rest.into_iter().map(|x| x / norm).collect());
    }
}

/// Whether a symmetric matrix has no negative eigenvalue.
fn is_positive(mut m: Vec<Vec<f64>>) -> bool {
    for i in 0..m.len() {
        let pivot = m[i][i];
        if pivot <= 0.0 {
            return false;
        }
        let row = m[i].clone();
        for lower in m.iter_mut().skip(i + 1) {
            let factor = lower[i] / pivot;
            lower.iter_mut().zip(&row).for_each(|(a, b)| *a -= factor * b);
        }
    }
    true
}

/// Whether `A ≥ E − short·Σx²` for a pair of the grid.
fn holds(low: f64, high: f64, lows: &[(f64, f64)], highs: &[(f64, f64)], short: f64) -> bool {
    let mut basis = Vec::new();
    for hz in [low, high] {
        functions(hz, hz).iter().for_each(|f| extend(&mut basis, f));
    }
    let explained = basis.len();
    let near: Vec<_> = around(lows, low).into_iter().chain(around(highs, high)).collect();
    let near: Vec<_> = near.into_iter().map(|(centre, hz, weight)| (functions(centre, hz), weight)).collect();
    near.iter().flat_map(|(pair, _)| pair).for_each(|f| extend(&mut basis, f));
    let mut m = vec![vec![0.0; basis.len()]; basis.len()];
    for (pair, weight) in &near {
        for f in pair {
            let along: Vec<f64> = basis.iter().map(|b| dot(b, f)).collect();
            for (row, a) in m.iter_mut().zip(&along) {
                row.iter_mut().zip(&along).for_each(|(cell, b)| *cell += weight * 2.0 / WINDOW as f64 * a * b);
            }
        }
    }
    for (n, row) in m.iter_mut().enumerate() {
        row[n] += short - if n < explained { 1.0 } else { 0.0 };
    }
    is_positive(m)
}

#[test]
fn whatever_the_window_no_pair_explains_more_than_the_screen_allows_for() {
    let (lows, highs) = (screened(LOW, 2), screened(HIGH, 3));
    let (grid_low, grid_high) = inside::grid();
    // Rounding gets half a hundredth.
    let short = f64::from(SHORT) - 0.005;
    let mut tight = 0;
    for low in &grid_low {
        for high in &grid_high {
            assert!(holds(*low, *high, &lows, &highs, short), "{low} and {high} Hz");
            tight += usize::from(!holds(*low, *high, &lows, &highs, short - 0.02));
        }
    }
    assert!(tight > 0, "the constant could be smaller: the screen lets more through than it must");
}

#[test]
fn a_negative_eigenvalue_is_seen() {
    assert!(is_positive(vec![vec![2.0, 1.0], vec![1.0, 2.0]]));
    assert!(!is_positive(vec![vec![1.0, 2.0], vec![2.0, 1.0]]));
}
