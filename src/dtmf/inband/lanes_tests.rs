//! Lanes against a line alone: the screen's bits, what it may not pass over, and whole detectors.

use super::front::Front;
use super::lanes::Width;
use super::screen::{MOST, Rooms, Row, Work, alone, some};
use super::*;
use crate::dsp::level::{clamp, rms};
use crate::dsp::noise::Noise;
use crate::dsp::tone::{COLUMNS, ROWS};
use proptest::prelude::*;

/// Something to be heard: stretches of silence, noise, one tone, two tones near keys or anywhere, all in noise.
fn line(seed: u64, samples: usize) -> Vec<i16> {
    let mut noise = Noise::new(seed);
    let mut unit = move || (noise.bits() >> 40) as f64 / (1u64 << 24) as f64;
    let mut hiss = Noise::new(!seed);
    let mut out = Vec::with_capacity(samples);
    while out.len() < samples {
        let length = 40 + (unit() * 900.0) as usize;
        let kind = (unit() * 6.0) as u32;
        let level = rms(-50.0 + 50.0 * unit() as f32);
        let off = 1.0 + 0.05 * (unit() - 0.5);
        let (mut low, mut high) = (500.0 + 600.0 * unit(), 1_000.0 + 900.0 * unit());
        if kind < 3 {
            low = f64::from(ROWS[(unit() * 4.0) as usize]) * off;
            high = f64::from(COLUMNS[(unit() * 4.0) as usize]) * off;
        }
        let (twist, phase, under) = (unit() * 1.4, unit() * 6.3, unit());
        let hiss_rms = level * (under * under * under) as f32;
        for n in 0..length {
            let tones = match kind {
                0..=3 => {
                    let row = (bandpass::omega(low) * n as f64).sin();
                    row + twist * (bandpass::omega(high) * n as f64 + phase).sin()
                }
                4 => (bandpass::omega(low) * n as f64).sin(),
                _ => 0.0,
            };
            let loud = if kind == 5 { hiss_rms } else { hiss_rms.min(level / 2.0) };
            out.push(clamp(tones as f32 * level + hiss.gaussian() * loud));
        }
    }
    out.truncate(samples);
    out
}

/// Everything a row holds after its turn.
fn bits(row: &Row) -> Vec<u32> {
    let mut filtered = [0.0; MOST * BLOCK];
    row.filtered(0, &mut filtered);
    let totals = (0..row.blocks).map(|hop| row.total(hop));
    let (least, most) = row.range();
    let floats = row.memory().into_iter().chain(filtered).chain(totals).chain([least, most]);
    floats.map(f32::to_bits).chain(row.hops()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_width_gives_every_line_the_bits_of_a_line_alone(
        seed in any::<u64>(),
        lines in 1usize..=16,
        blocks in proptest::collection::vec(1usize..=MOST, 16),
        alike in any::<bool>(),
    ) {
        let mut rows = vec![Row::new(); lines];
        for (n, row) in rows.iter_mut().enumerate() {
            let samples = line(seed ^ n as u64, 320);
            let mut front = Front::new();
            front.fill(&samples[..160], Point::Armed, row);
            alone(row, &mut Work::new());
            front.begin(row);
            front.finish(&samples[..160], row);
            let count = if alike { blocks[0] } else { blocks[n] };
            front.fill(&samples[160..160 + count * BLOCK], Point::Armed, row);
        }
        let mut each = rows.clone();
        each.iter_mut().for_each(|row| alone(row, &mut Work::new()));
        for width in Width::all() {
            let mut rooms = Box::new(Rooms::new());
            let mut together = rows.clone();
            for count in 1..=MOST {
                let of_it: Vec<usize> = (0..lines).filter(|n| rows[*n].blocks == count).collect();
                let mut index = &of_it[..];
                while !index.is_empty() {
                    index = &index[some(width, &mut together, index, count, &mut rooms)..];
                }
            }
            for (n, (one, other)) in each.iter().zip(&together).enumerate() {
                prop_assert_eq!(bits(one), bits(other), "{:?}, line {}", width, n);
            }
        }
    }

    #[test]
    fn every_width_fits_a_window_alike(seed in any::<u64>(), bar in 0.3f32..0.95) {
        let samples = line(seed, 3_000);
        for window in samples.chunks_exact(WINDOW) {
            let window: [f32; WINDOW] = std::array::from_fn(|n| f32::from(window[n]));
            let total: f32 = window.iter().map(|y| y * y).sum();
            if total < WINDOW_GATE {
                continue;
            }
            let first = bank::look(Width::Portable, &window, total, 0.0, bar * total);
            for width in Width::all() {
                prop_assert_eq!(&bank::look(width, &window, total, 0.0, bar * total), &first, "{:?}", width);
            }
        }
    }

    #[test]
    fn lines_heard_together_tell_what_each_tells_alone(
        seed in any::<u64>(),
        lines in 1usize..=11,
        frames in proptest::collection::vec((0usize..6, 0usize..16, any::<bool>()), 12),
    ) {
        let heard: Vec<Vec<i16>> = (0..lines).map(|n| line(seed ^ (n as u64) << 20, 12 * 160)).collect();
        for width in Width::all() {
            let mut together = Together::with(width);
            let new = || (0..lines).map(|_| Detector::with(Point::Armed, width)).collect::<Vec<_>>();
            let (mut one, mut other) = (new(), new());
            let mut at = vec![0; lines];
            for (what, who, armed) in &frames {
                let who = who % lines;
                if *what == 5 {
                    for detector in [&mut one[who], &mut other[who]] {
                        detector.gap(160, &mut |_| {});
                        detector.set_point(if *armed { Point::Armed } else { Point::Unarmed });
                    }
                }
                let length = |n: usize| if n == who { [160, 80, 157, 8, 3, 160][*what] } else { 160 };
                let places: Vec<_> = (0..lines)
                    .map(|n| together.enter(&other[n], &heard[n][at[n]..at[n] + length(n)]))
                    .collect();
                together.run();
                for (n, place) in places.into_iter().enumerate() {
                    let samples = &heard[n][at[n]..at[n] + length(n)];
                    let (mut first, mut second) = (Vec::new(), Vec::new());
                    one[n].feed(samples, &mut |v| first.push(format!("{v:?}")));
                    match place {
                        Some(place) => {
                            together.leave(place, &mut other[n], samples, &mut |v| second.push(format!("{v:?}")));
                        }
                        None => other[n].feed(samples, &mut |v| second.push(format!("{v:?}"))),
                    }
                    prop_assert_eq!(first, second, "{:?}, line {}", width, n);
                    prop_assert_eq!(
                        (one[n].decided(), one[n].position(), one[n].is_clear()),
                        (other[n].decided(), other[n].position(), other[n].is_clear())
                    );
                    at[n] += length(n);
                }
                together.clear();
            }
        }
    }
}

#[test]
fn a_detector_that_heard_something_else_meanwhile_hears_its_samples_alone() {
    let samples = line(7, 480);
    let (mut one, mut other) = (Detector::new(Point::Armed), Detector::new(Point::Armed));
    let mut together = Together::new();
    let place = together.enter(&other, &samples[160..320]).expect("room");
    together.run();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    one.feed(&samples[..320], &mut |v| first.push(format!("{v:?}")));
    other.feed(&samples[..160], &mut |v| second.push(format!("{v:?}")));
    together.leave(place, &mut other, &samples[160..320], &mut |v| second.push(format!("{v:?}")));
    assert_eq!(first, second);
    assert_eq!(one.decided(), other.decided());
    assert!(together.enter(&other, &samples[320..]).is_none(), "after the turn nothing fits");
    together.clear();
    assert!(together.enter(&other, &samples[320..323]).is_none(), "no whole block");
    assert!(together.enter(&other, &samples[320..]).is_some() && together.len() == 1);
}

#[test]
fn no_hop_that_the_fit_would_suspect_is_screened_out() {
    let (mut suspects, mut screened) = ([0; 2], 0);
    for seed in 0..40 {
        let point = if seed % 2 == 0 { Point::Armed } else { Point::Unarmed };
        let mut front = Front::new();
        let (mut row, mut work) = (Row::new(), Work::new());
        for samples in line(seed, 8_000).chunks(160) {
            front.fill(samples, point, &mut row);
            alone(&mut row, &mut work);
            front.begin(&row);
            for hop in 0..row.blocks {
                let total = row.total(hop);
                let floor = front.floor(total);
                for (open, bar) in point.bars().into_iter().enumerate() {
                    let needed = bar.needed(total, floor, front.before(&row, hop));
                    let found = bank::look(Width::widest(), front.window(hop), total, floor, needed);
                    let let_through = row.hops()[open] >> hop & 1 != 0;
                    screened += usize::from(!let_through && total >= WINDOW_GATE);
                    suspects[open] += usize::from(found.is_some());
                    assert!(let_through || found.is_none() || total < WINDOW_GATE, "seed {seed}, hop {hop}, {bar:?}");
                }
            }
            front.finish(samples, &row);
        }
    }
    // Otherwise nothing was shown.
    assert!(suspects.iter().all(|count| *count > 5_000) && screened > 5_000, "{suspects:?}, {screened}");
}
