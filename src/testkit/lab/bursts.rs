//! Tone bursts one parameter of which is turned until a receiver gives up, for sections 2–7 of the Mitel CM7291 procedure
//! (the usual test of DTMF receivers; its tape drew the same by analogue means). Bursts go in by their parameters; lines
//! come out. [`edge`] finds where a receiver stops.

use crate::base::secret::Digit;
use crate::dsp::level::{clamp, sine_peak};
use crate::dsp::noise::Noise;
use crate::dsp::tone::{COLUMNS, ROWS, place_of};
use crate::testkit::tones::{Draw, Law};

/// Bursts of one key, all alike but for the tones' phases.
#[derive(Debug, Clone, Copy)]
pub struct Bursts {
    /// RFC 4733 event code.
    pub event: u8,
    /// How many.
    pub count: usize,
    /// Tone and pause, ms.
    pub on_ms: f32,
    /// Pause after each, ms.
    pub off_ms: f32,
    /// Level of the row's tone, dBm0.
    pub row_dbm0: f32,
    /// Level of the column's tone, dBm0.
    pub column_dbm0: f32,
    /// Row's frequency against its nominal one, percent.
    pub row_off: f32,
    /// Column's frequency against its nominal one, percent.
    pub column_off: f32,
    /// White noise under the power of both tones, dB.
    pub snr_db: Option<f32>,
}

impl Bursts {
    /// The procedure's usual burst: 50 ms on, 50 ms off, each tone −10 dBm0, nominal.
    pub fn of(event: u8, count: usize) -> Self {
        Self {
            event,
            count,
            on_ms: 50.0,
            off_ms: 50.0,
            row_dbm0: -10.0,
            column_dbm0: -10.0,
            row_off: 0.0,
            column_off: 0.0,
            snr_db: None,
        }
    }

    /// The key as a character.
    pub fn key(&self) -> char {
        Digit::from_event(self.event).map_or('?', |digit| digit.expose_char())
    }

    /// The line: 100 ms of lead and tail around the bursts, µ-law.
    pub fn line(&self, seed: u64) -> Vec<i16> {
        let mut draw = Draw::new(seed);
        let mut noise = Noise::new(seed ^ 0xb0);
        let (row, column) = place_of(self.event);
        let step = |hz: f32, off: f32| std::f64::consts::TAU * f64::from(hz) * (1.0 + f64::from(off) / 100.0) / 8000.0;
        let (row_step, column_step) = (step(ROWS[row], self.row_off), step(COLUMNS[column], self.column_off));
        let (row_peak, column_peak) = (f64::from(sine_peak(self.row_dbm0)), f64::from(sine_peak(self.column_dbm0)));
        let mut sum = vec![0f32; 800 + draw.below(160)];
        for _ in 0..self.count {
            let phase = [0; 2].map(|_| f64::from(draw.unit()) * std::f64::consts::TAU);
            let tone = |n: usize| {
                let n = n as f64;
                row_peak * (row_step * n + phase[0]).sin() + column_peak * (column_step * n + phase[1]).sin()
            };
            sum.extend((0..(self.on_ms * 8.0).round() as usize).map(|n| tone(n) as f32));
            sum.resize(sum.len() + (self.off_ms * 8.0).round() as usize, 0.0);
        }
        sum.resize(sum.len() + 800, 0.0);
        if let Some(snr_db) = self.snr_db {
            let power = (row_peak * row_peak + column_peak * column_peak) / 2.0;
            let rms = power.sqrt() as f32 * 10f32.powf(-snr_db / 20.0);
            sum.iter_mut().for_each(|s| *s += noise.gaussian() * rms);
        }
        let mut line: Vec<i16> = sum.into_iter().map(clamp).collect();
        Law::Mu.through(&mut line);
        line
    }

    /// How many of the bursts `receiver` tells, at most as many as there are.
    pub fn told(&self, seed: u64, receiver: impl Fn(&[i16]) -> String) -> usize {
        let key = self.key();
        receiver(&self.line(seed)).chars().filter(|told| *told == key).count().min(self.count)
    }
}

/// Where a receiver stops as a parameter is turned from 0 up by `step`, at most to `most`: the last value at which it
/// told every burst, and the first at which it told none (`most` if it never stops).
pub fn edge(step: f32, most: f32, told: impl Fn(f32) -> (usize, usize)) -> (f32, f32) {
    let (mut all, mut none) = (None, most);
    let steps = (most / step).round() as usize;
    for n in 0..=steps {
        let value = n as f32 * step;
        let (right, of) = told(value);
        if right < of && all.is_none() {
            all = Some((n as f32 - 1.0).max(0.0) * step);
        }
        if right == 0 {
            none = value;
            break;
        }
    }
    (all.unwrap_or(most), none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtmf::inband::Point;
    use crate::testkit::lab::hear::{Packets, ours};

    #[test]
    fn an_edge_is_where_the_receiver_gives_up() {
        let told = |value: f32| {
            (
                if value <= 2.05 {
                    10
                } else if value < 3.0 {
                    4
                } else {
                    0
                },
                10,
            )
        };
        let (all, none) = edge(0.1, 6.0, told);
        assert!((all - 2.0).abs() < 1e-4 && (none - 3.0).abs() < 1e-4, "{all} {none}");
        assert_eq!(edge(1.0, 5.0, |_| (10, 10)), (5.0, 5.0));
        assert_eq!(edge(1.0, 5.0, |_| (0, 10)), (0.0, 0.0));
    }

    #[test]
    fn nominal_bursts_are_all_told_and_those_far_off_are_not() {
        let receiver = |line: &[i16]| ours(Point::Unarmed, line, &Packets::default()).keys();
        for event in 0..16 {
            assert_eq!(Bursts::of(event, 10).told(1, receiver), 10, "event {event}");
        }
        assert_eq!(Bursts { row_off: 5.0, ..Bursts::of(5, 10) }.told(1, receiver), 0);
        assert_eq!(Bursts { on_ms: 15.0, ..Bursts::of(5, 10) }.told(1, receiver), 0);
    }
}
