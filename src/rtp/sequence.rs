//! One received source: RFC 3550 appendix A.1 checks, extended sequence numbers, loss and jitter for our reports.
//! Sequence numbers and arrival times go in; a verdict per packet comes out. It never sees payload.
//!
//! ```text
//!            first packet of the leg              two in a row of a new SSRC,
//! (nothing) ------------------------> Source      nothing of the old one between
//!                                      | ^ ---------------------------------------> Source (new)
//!                       jump of > 3000 v |  the next in order
//!                                  Resync pending
//! ```

use std::time::Instant;

/// A forward jump below this many packets is loss (appendix A.1 `MAX_DROPOUT`).
const MAX_DROPOUT: u16 = 3_000;
/// A backward step up to this many packets is reordering (appendix A.1 `MAX_MISORDER`).
const MAX_MISORDER: u16 = 100;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it; the number counts packets of this source without wrapping.
    Take(u64),
    /// Seen before, or older than anything still of use.
    Duplicate,
    /// A jump so large that the next packet must confirm it (appendix A.1); drop this one.
    Jump,
    /// The jump is confirmed: the source has restarted, and its timestamps with it. Take it with this number.
    Restarted(u64),
}

/// Accounting of one synchronisation source.
#[derive(Debug, Clone)]
pub struct Source {
    ssrc: u32,
    first: u64,
    highest: u64,
    /// Bit n: packet `highest - n` has been taken.
    seen: u64,
    taken: u64,
    /// The number that would confirm a jump.
    pending: Option<u16>,
    /// Expected and taken at the last report, for the fraction lost.
    reported: (u64, u64),
    /// Packets expected in former stretches of this source, before restarts.
    before: u64,
    jitter: Jitter,
}

/// Interarrival jitter, RFC 3550 section 6.4.1 and appendix A.8.
#[derive(Debug, Clone, Copy, Default)]
struct Jitter {
    last: Option<(Instant, u32)>,
    /// In units of the timestamp, times 16.
    scaled: u64,
}

/// What a report block says of a source (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reception {
    /// The source reported on.
    pub ssrc: u32,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning, clamped to 24 signed bits.
    pub cumulative_lost: i32,
    /// Cycles and highest sequence number.
    pub extended_highest: u32,
    /// Jitter in timestamp units.
    pub jitter: u32,
}

impl Source {
    /// A source known by its first packet, which counts as taken with number `u64::from(sequence)` plus one cycle, so
    /// that reordered packets before it stay countable.
    pub fn new(ssrc: u32, sequence: u16) -> (Self, u64) {
        let number = 0x1_0000 + u64::from(sequence);
        let source = Self {
            ssrc,
            first: number,
            highest: number,
            seen: 1,
            taken: 1,
            pending: None,
            reported: (0, 0),
            before: 0,
            jitter: Jitter::default(),
        };
        (source, number)
    }

    /// The source's SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The highest packet number taken.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Judges a packet by its sequence number.
    pub fn handle(&mut self, sequence: u16) -> Verdict {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead != 0 && ahead < MAX_DROPOUT {
            self.pending = None;
            self.highest += u64::from(ahead);
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.taken += 1;
            return Verdict::Take(self.highest);
        }
        let behind = ahead.wrapping_neg();
        if behind <= MAX_MISORDER {
            let bit = 1u64.checked_shl(u32::from(behind)).unwrap_or(0);
            let number = self.highest - u64::from(behind);
            if bit == 0 || self.seen & bit != 0 || number < self.first {
                return Verdict::Duplicate;
            }
            self.seen |= bit;
            self.taken += 1;
            return Verdict::Take(number);
        }
        if self.pending == Some(sequence) {
            self.before = self.expected();
            let number = (self.highest | 0xffff) + 1 + 0x1_0000 + u64::from(sequence);
            (self.first, self.highest, self.seen) = (number, number, 1);
            self.taken += 1;
            self.pending = None;
            return Verdict::Restarted(number);
        }
        self.pending = Some(sequence.wrapping_add(1));
        Verdict::Jump
    }

    /// Takes a packet's arrival for the jitter estimate. `rate` is the clock of its timestamp in Hz.
    pub fn arrived(&mut self, now: Instant, timestamp: u32, rate: u32) {
        let jitter = &mut self.jitter;
        if let Some((then, before)) = jitter.last {
            let elapsed = time_units(now, then, rate);
            let passed = i64::from(timestamp.wrapping_sub(before) as i32);
            let difference = (elapsed - passed).unsigned_abs().min(u64::from(rate));
            jitter.scaled = jitter.scaled - (jitter.scaled + 8) / 16 + difference;
        }
        jitter.last = Some((now, timestamp));
    }

    /// Packets missing so far.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.taken)
    }

    fn expected(&self) -> u64 {
        self.before + (self.highest - self.first + 1)
    }

    /// The report block for this source; the next one's fraction counts from here.
    pub fn report(&mut self) -> Reception {
        let (expected, taken) = (self.expected(), self.taken);
        let (expected_before, taken_before) = std::mem::replace(&mut self.reported, (expected, taken));
        let due = expected.saturating_sub(expected_before);
        let missing = due.saturating_sub(taken.saturating_sub(taken_before));
        let fraction = (missing * 256).checked_div(due).unwrap_or(0).min(255);
        let lost = i64::try_from(expected).unwrap_or(i64::MAX) - i64::try_from(taken).unwrap_or(i64::MAX);
        Reception {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            extended_highest: self.highest.wrapping_sub(0x1_0000) as u32,
            jitter: u32::try_from(self.jitter.scaled / 16).unwrap_or(u32::MAX),
        }
    }
}

/// `now - then` in timestamp units.
fn time_units(now: Instant, then: Instant, rate: u32) -> i64 {
    let micros = i64::try_from(now.saturating_duration_since(then).as_micros()).unwrap_or(i64::MAX / 1_000_000);
    micros.min(3_600_000_000) * i64::from(rate) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn loss_reordering_and_duplicates_are_told_apart() {
        let (mut source, first) = Source::new(1, 65_534);
        assert_eq!(source.handle(65_535), Verdict::Take(first + 1));
        assert_eq!(source.handle(1), Verdict::Take(first + 3));
        assert_eq!(source.lost(), 1);
        assert_eq!(source.handle(0), Verdict::Take(first + 2));
        assert_eq!(source.handle(0), Verdict::Duplicate);
        assert_eq!(source.lost(), 0);
        assert_eq!(source.report().extended_highest, 0x1_0001);
    }

    #[test]
    fn one_wild_number_is_dropped_and_two_in_a_row_restart_the_source() {
        let (mut source, _) = Source::new(1, 100);
        assert_eq!(source.handle(40_000), Verdict::Jump);
        assert!(matches!(source.handle(101), Verdict::Take(_)));
        assert_eq!(source.handle(40_000), Verdict::Jump);
        let Verdict::Restarted(number) = source.handle(40_001) else { panic!("a restart") };
        assert_eq!(source.handle(40_002), Verdict::Take(number + 1));
        assert_eq!(source.lost(), 0);
    }

    #[test]
    fn the_fraction_lost_counts_from_the_last_report() {
        let (mut source, _) = Source::new(1, 0);
        for sequence in 1..100u16 {
            if sequence % 4 != 0 {
                source.handle(sequence);
            }
        }
        let report = source.report();
        assert_eq!((report.cumulative_lost, report.fraction_lost), (24, (24 * 256 / 100) as u8));
        source.handle(100);
        assert_eq!(source.report().fraction_lost, 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn jitter_is_zero_on_a_steady_line_and_follows_an_unsteady_one() {
        let t0 = Instant::now();
        let (mut source, _) = Source::new(1, 0);
        for k in 0..50u32 {
            source.arrived(t0 + Duration::from_millis(20) * k, 160 * k, 8_000);
        }
        assert_eq!(source.report().jitter, 0);
        for k in 50..400u32 {
            let late = Duration::from_millis(u64::from(k % 2) * 10);
            source.arrived(t0 + Duration::from_millis(20) * k + late, 160 * k, 8_000);
        }
        let jitter = source.report().jitter;
        assert!((60..=90).contains(&jitter), "{jitter}");
    }

    proptest! {
        #[test]
        fn any_sequence_of_numbers_keeps_the_accounts_sane(numbers in proptest::collection::vec(any::<u16>(), 1..400)) {
            let (mut source, _) = Source::new(9, numbers[0]);
            let mut taken = std::collections::HashSet::new();
            for number in &numbers[1..] {
                match source.handle(*number) {
                    Verdict::Take(n) | Verdict::Restarted(n) => prop_assert!(taken.insert(n), "{n} twice"),
                    Verdict::Duplicate | Verdict::Jump => {}
                }
            }
            let _ = source.report();
        }
    }
}
