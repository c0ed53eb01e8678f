//! When the guarded path sends, and how far behind the line it is. Arrivals go in; the next packet's time comes out,
//! and how many samples of noise to put in, or of pause to leave out. Packets leave evenly whatever arrives: the clock
//! follows the sender's by parts in ten thousand, and delay grows only by samples, never by a late packet.
//!
//! ```text
//!  arrivals   ▼      ▼      ▼         ▼▼     ▼      spare = time from an arrival to the packet that needs it
//!  packets      ▲      ▲      ▲      ▲      ▲       least spare of the last seconds is held near its target
//! ```

use std::time::{Duration, Instant};

use super::stream::span_of;

/// A packet with less to spare than this makes the delay grow, in µs.
const TIGHT: i64 = 500;
/// How long the least spare is remembered: between one and two of these.
const WINDOW: Duration = Duration::from_secs(2);
/// The clock leaves its nominal rate by at most this much, in parts per million.
const PULL: i64 = 300;
/// After a stall of ours longer than this, what is overdue is left out.
const STALL: Duration = Duration::from_millis(200);
/// The most that jitter may add to the delay, in samples (160 ms).
pub(super) const MOST: u64 = 1_280;
/// The longest delay, packet time and look-ahead included, in samples (250 ms).
const LONGEST_DELAY: u64 = 2_000;

/// The clock of one guarded direction.
pub(super) struct Clock {
    /// When the next packet is due.
    due: Instant,
    /// Samples per packet.
    frame: u64,
    /// The least spare in µs, this window and the one before.
    least: [Option<i64>; 2],
    turned: Instant,
    /// What the least spare shall be, µs.
    target: i64,
}

impl Clock {
    /// A clock whose first packet is due at `due`, each `frame` samples long, to hold `target` samples to spare.
    pub(super) fn new(due: Instant, frame: usize, target: u64) -> Self {
        let target = (target * 125) as i64;
        Self { due, frame: frame as u64, least: [None; 2], turned: due, target }
    }

    /// When the next packet is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Changes the samples per packet.
    pub(super) fn set_frame(&mut self, frame: usize) {
        self.frame = frame as u64;
    }

    /// Takes note that a packet laid at `position` has arrived, where `play` is the next sample to go out and goes out
    /// `delay` samples after it came, if the line is steady; the detector looks `ahead` so many. Returns how many samples of noise to put in so that the
    /// next packet like this one is in time.
    pub(super) fn arrived(&mut self, now: Instant, position: u64, play: u64, delay: u64, ahead: u64) -> u64 {
        // The packets from the next (0) on until one needs this arrival; negative when it went without.
        let beyond = position as i64 - (play + self.frame + ahead) as i64;
        let packets = beyond.div_euclid(self.frame as i64) + 1;
        let until = match self.due.checked_duration_since(now) {
            Some(left) => left.as_micros() as i64,
            None => -(now.saturating_duration_since(self.due).as_micros() as i64),
        };
        let spare = until + packets * self.frame as i64 * 125;
        let mut grow = 0;
        if spare < TIGHT {
            let missing = ((2 * TIGHT - spare) / 125).unsigned_abs();
            grow = missing.min(LONGEST_DELAY.saturating_sub(delay));
            self.shift(grow as i64);
        }
        let spare = spare + grow as i64 * 125;
        self.least[0] = Some(self.least[0].map_or(spare, |least| least.min(spare)));
        grow
    }

    /// The samples that could be left out with every packet still in time.
    pub(super) fn excess(&self) -> u64 {
        let least = match self.least {
            [Some(a), Some(b)] => a.min(b),
            // One window is not enough to know.
            _ => return 0,
        };
        ((least - self.target) / 125).max(0).unsigned_abs().min(LONGEST_DELAY)
    }

    /// Takes note that `samples` were left out.
    pub(super) fn skipped(&mut self, samples: u64) {
        self.shift(-(samples as i64));
    }

    fn shift(&mut self, samples: i64) {
        for least in self.least.iter_mut().flatten() {
            *least += samples * 125;
        }
    }

    /// Sets the time of the packet after the one just sent. Returns how many packets are left out because we were
    /// stalled.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.turned) >= WINDOW {
            self.turned = now;
            self.least = [None, self.least[0]];
        }
        let nominal = span_of(self.frame);
        let known = self.least[0].into_iter().chain(self.least[1]).min();
        let pull = known.map_or(0, |least| ((least - self.target) / 10).clamp(-PULL, PULL));
        // More to spare than wanted: a little faster.
        let micros = nominal.as_micros() as i64;
        let adjusted = micros * 1_000 - micros * pull / 1_000;
        self.due += Duration::from_nanos(adjusted.unsigned_abs());
        if now.saturating_duration_since(self.due) < STALL {
            return 0;
        }
        let left_out = (now.saturating_duration_since(self.due).as_micros() / nominal.as_micros().max(1)) as u64;
        self.due += span_of(self.frame * left_out);
        left_out
    }
}
