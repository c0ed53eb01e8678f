//! The receivers that are compared, on one line: our detector armed and unarmed, and SpanDSP's where it is installed.
//! Samples and what was lost of them go in; what each receiver told, and when, comes out. Keys are characters here, since
//! they were drawn by a seed and are nobody's.

use super::rate::Rate;
use crate::dtmf::inband::{Detector, Point, Verdict};
use crate::testkit::spandsp::Spandsp;

/// A key as a receiver told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Samples the receiver had been given when it told it.
    pub at: u64,
    /// Keypad character.
    pub key: char,
}

/// A suspect stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First sample.
    pub from: u64,
    /// First sample after it.
    pub to: u64,
    /// Samples the detector had been given when it began to suspect.
    pub at: u64,
}

/// What a receiver made of a line.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Keys in order.
    pub told: Vec<Told>,
    /// Suspect stretches in order; none for a receiver that has no such stage.
    pub stretches: Vec<Stretch>,
}

impl Heard {
    /// The keys alone.
    pub fn keys(&self) -> String {
        self.told.iter().map(|t| t.key).collect()
    }

    /// The stretches as (from, to).
    pub fn spans(&self) -> Vec<(u64, u64)> {
        self.stretches.iter().map(|s| (s.from, s.to)).collect()
    }
}

/// How a line comes: in packets of so many samples, of which some are missing.
#[derive(Debug, Clone, Default)]
pub struct Packets {
    /// Samples per packet; 0 stands for 160.
    pub samples: usize,
    /// Whether each packet is lost; those past the end are not.
    pub lost: Vec<bool>,
}

impl Packets {
    /// Everything arrives, in packets of `samples`.
    pub fn all(samples: usize) -> Self {
        Self { samples, lost: Vec::new() }
    }

    /// The line's packets, and whether each is lost.
    fn of<'a>(&'a self, line: &'a [i16]) -> impl Iterator<Item = (&'a [i16], bool)> {
        let size = if self.samples == 0 { 160 } else { self.samples };
        line.chunks(size).enumerate().map(|(n, packet)| (packet, self.lost.get(n).copied().unwrap_or(false)))
    }

    /// What is missing, in samples.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let size = if self.samples == 0 { 160 } else { self.samples } as u64;
        let lost = self.lost.iter().enumerate().filter(|(_, lost)| **lost);
        lost.map(|(n, _)| (n as u64 * size, (n as u64 + 1) * size)).collect()
    }
}

/// Runs our detector over a line.
pub fn ours(point: Point, line: &[i16], packets: &Packets) -> Heard {
    let mut detector = Detector::new(point);
    let mut heard = Heard::default();
    let mut open: Option<(u64, u64)> = None;
    let mut fed = 0u64;
    for (packet, lost) in packets.of(line) {
        fed += packet.len() as u64;
        let mut verdict = |v: Verdict| match v {
            Verdict::Suspect { from } => open = Some((from, fed)),
            Verdict::Confirm { digit, .. } => heard.told.push(Told { at: fed, key: digit.expose_char() }),
            Verdict::Clear { from } => {
                heard.stretches.extend(open.take().map(|(begin, at)| Stretch { from: begin, to: from, at }));
            }
        };
        if lost {
            detector.gap(packet.len() as u64, &mut verdict);
        } else {
            detector.feed(packet, &mut verdict);
        }
    }
    heard.stretches.extend(open.map(|(from, at)| Stretch { from, to: line.len() as u64, at }));
    heard
}

/// Runs SpanDSP's receiver over a line; what is lost is silence to it, as in a gateway without concealment.
pub fn spandsp(library: &Spandsp, line: &[i16], packets: &Packets) -> Heard {
    let mut receiver = library.receiver();
    let mut heard = Heard::default();
    let mut fed = 0u64;
    for (packet, lost) in packets.of(line) {
        fed += packet.len() as u64;
        let keys = if lost { receiver.feed(&vec![0; packet.len()]) } else { receiver.feed(packet) };
        heard.told.extend(keys.chars().map(|key| Told { at: fed, key }));
    }
    heard
}

/// Keys pressed, missed, and told without having been pressed: false, or one press told twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Pressed.
    pub of: usize,
    /// Pressed and not told.
    pub missed: usize,
    /// Told and not pressed.
    pub extra: usize,
}

impl Count {
    /// Compares by the longest common subsequence: a wrong key counts as one missed and one extra.
    pub fn of(truth: &str, told: &str) -> Self {
        let (truth, told): (Vec<char>, Vec<char>) = (truth.chars().collect(), told.chars().collect());
        let mut above = vec![0usize; told.len() + 1];
        for a in &truth {
            let mut row = vec![0usize; told.len() + 1];
            for (j, b) in told.iter().enumerate() {
                row[j + 1] = if a == b { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
            above = row;
        }
        let right = above.last().copied().unwrap_or(0);
        Self { of: truth.len(), missed: truth.len() - right, extra: told.len() - right }
    }

    /// Told as pressed, of all pressed.
    pub fn right(self) -> Rate {
        Rate::new(self.of - self.missed, self.of)
    }

    /// Told at all, rightly or not, of all pressed: what a rejection is measured by.
    pub fn reported(self) -> Rate {
        Rate::new((self.of - self.missed + self.extra).min(self.of), self.of)
    }
}

impl std::ops::Add for Count {
    type Output = Count;
    fn add(self, other: Self) -> Self {
        Self { of: self.of + other.of, missed: self.missed + other.missed, extra: self.extra + other.extra }
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), std::ops::Add::add)
    }
}

/// What the three receivers made of one line or many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Three {
    /// Our detector, armed.
    pub armed: Count,
    /// Our detector, unarmed.
    pub unarmed: Count,
    /// SpanDSP; `None` where it is not installed.
    pub spandsp: Option<Count>,
}

impl Three {
    /// Plays one line to all three.
    pub fn hear(truth: &str, line: &[i16], packets: &Packets, library: Option<&Spandsp>) -> Self {
        Self {
            armed: Count::of(truth, &ours(Point::Armed, line, packets).keys()),
            unarmed: Count::of(truth, &ours(Point::Unarmed, line, packets).keys()),
            spandsp: library.map(|library| Count::of(truth, &spandsp(library, line, packets).keys())),
        }
    }
}

impl std::iter::Sum for Three {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(None, |sum: Option<Self>, one| {
            let Some(sum) = sum else { return Some(one) };
            Some(Self {
                armed: sum.armed + one.armed,
                unarmed: sum.unarmed + one.unarmed,
                spandsp: sum.spandsp.zip(one.spandsp).map(|(a, b)| a + b),
            })
        })
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::tones::{Plan, line};

    #[test]
    fn counts_tell_missed_wrong_and_twice_apart() {
        assert_eq!(Count::of("1234", "1234"), Count { of: 4, missed: 0, extra: 0 });
        assert_eq!(Count::of("1234", "1224"), Count { of: 4, missed: 1, extra: 1 });
        assert_eq!(Count::of("1234", "12334"), Count { of: 4, missed: 0, extra: 1 });
        assert_eq!(Count::of("1234", ""), Count { of: 4, missed: 4, extra: 0 });
        assert_eq!(Count::of("", "7"), Count { of: 0, missed: 0, extra: 1 });
        assert_eq!(Count::of("1234", "1224").reported(), Rate::new(4, 4));
    }

    #[test]
    fn a_clean_line_is_heard_with_times_and_a_lost_one_is_not() {
        let line = line(&Plan::default(), 1);
        let heard = ours(Point::Armed, &line.samples, &Packets::all(8));
        assert_eq!(heard.keys(), line.keys());
        for (press, told) in line.presses.iter().zip(&heard.told) {
            let after = told.at - press.begin as u64;
            assert!((160..400).contains(&after), "{after}");
        }
        assert_eq!(heard.stretches.len(), line.presses.len());
        assert!(heard.stretches.iter().zip(&line.presses).all(|(s, p)| s.at - p.begin as u64 <= 96));
        let lost = Packets { samples: 160, lost: vec![true; 1_000] };
        assert_eq!(ours(Point::Armed, &line.samples, &lost).keys(), "");
        assert_eq!(lost.gaps()[1], (160, 320));
    }
}
