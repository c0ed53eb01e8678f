//! Where a source's audio lies on one endless sample count, and how steadily it arrives. RTP timestamps and arrival
//! times go in; positions come out that never wrap, whatever the source does with its clock: a new source, or one that
//! jumps, goes on where real time says it is.
//!
//! ```text
//!   position ──┬────────────┬────────────┬───     transit = arrival − position, in samples of our clock
//!   arrival  ──┴─ least ─►──┴─ late ───────┴─     least of the last seconds: the steady line; the rest is jitter
//! ```

use std::time::{Duration, Instant};

use super::relay::Arrival;
use super::stream::{samples_in, span_of};

/// Where counting begins; far from zero, so that looking back never goes below it.
const ORIGIN: u64 = 1 << 32;
/// Later than the steady line by more than this is a clock that stood still, not jitter, in samples (300 ms).
const STOOD: i64 = 2_400;
/// Earlier than the steady line by more than this is a clock that jumped, in samples (150 ms).
const JUMPED: i64 = 1_200;
/// How long least and most transit are remembered: between one and two of these.
const WINDOW: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
struct Map {
    generation: u32,
    timestamp: u32,
    position: u64,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    least: i64,
    most: i64,
}

impl Range {
    fn take(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// One source direction's time.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    epoch: Option<Instant>,
    map: Option<Map>,
    /// The sample after the newest heard.
    edge: u64,
    /// Samples in the newest packet.
    length: u64,
    windows: [Option<Range>; 2],
    turned: Option<Instant>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { epoch: None, map: None, edge: ORIGIN, length: 160, windows: [None; 2], turned: None }
    }

    /// The sample after the newest heard.
    pub(super) fn edge(&self) -> u64 {
        self.edge
    }

    /// Samples in the newest packet.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether anything was heard.
    pub(super) fn started(&self) -> bool {
        self.epoch.is_some()
    }

    /// The position of an audio packet of `length` samples that is read `now`. It lies where it belongs by the time it
    /// came: what waited for us unread was not late. For how long to wait for packets, both count.
    pub(super) fn locate(&mut self, now: Instant, arrival: &Arrival, length: usize) -> u64 {
        let length = length as u64;
        let epoch = *self.epoch.get_or_insert(arrival.came);
        let clock_at = |at: Instant| i64::from(samples_in(at.saturating_duration_since(epoch)));
        let clock = clock_at(arrival.came);
        let known = self.map.filter(|map| map.generation == arrival.generation).and_then(|map| {
            let ahead = i64::from(arrival.at.wrapping_sub(map.timestamp) as i32);
            map.position.checked_add_signed(ahead)
        });
        let transit_of = |position: u64| clock - (position + length).wrapping_sub(ORIGIN) as i64;
        let steady = self.least();
        let kept = known.filter(|position| {
            let transit = transit_of(*position);
            // What fills a hole may be as late as it likes, within reason.
            let late = if position + length <= self.edge { 4 * STOOD } else { STOOD };
            steady.is_none_or(|least| (least - JUMPED..=least + late).contains(&transit))
        });
        let position = kept.unwrap_or_else(|| {
            // As if it had come steadily; never over what is there.
            let due = clock - steady.unwrap_or(clock) - length as i64;
            if steady.is_some() { ORIGIN.saturating_add_signed(due).max(self.edge) } else { self.edge }
        });
        self.map = Some(Map { generation: arrival.generation, timestamp: arrival.at, position });
        if position + length > self.edge {
            self.edge = position + length;
            self.length = length.max(1);
            let transit = transit_of(position);
            self.note(now, Range { least: transit, most: transit + clock_at(now) - clock });
        }
        position
    }

    fn note(&mut self, now: Instant, fresh: Range) {
        if self.turned.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW) {
            self.turned = Some(now);
            self.windows = [None, self.windows[0]];
        }
        self.windows[0] = Some(self.windows[0].map_or(fresh, |range| range.take(fresh)));
    }

    fn range(&self) -> Option<Range> {
        match self.windows {
            [Some(a), Some(b)] => Some(a.take(b)),
            [one, None] | [None, one] => one,
        }
    }

    fn least(&self) -> Option<i64> {
        self.range().map(|range| range.least)
    }

    /// How much later than the steady line packets come at worst, in samples.
    pub(super) fn unsteady(&self) -> u64 {
        self.range().map_or(0, |range| range.most.abs_diff(range.least))
    }

    /// How long after `position` has come, in samples, is `at`, if the line is steady; 0 when it is before.
    pub(super) fn delay(&self, position: u64, at: Instant) -> u64 {
        let since = self.arrives(position).map(|there| samples_in(at.saturating_duration_since(there)));
        u64::from(since.unwrap_or(0))
    }

    /// When the samples before `position` are there if the line is steady.
    pub(super) fn arrives(&self, position: u64) -> Option<Instant> {
        let epoch = self.epoch?;
        let clock = position.wrapping_sub(ORIGIN) as i64 + self.least()?;
        if clock >= 0 {
            epoch.checked_add(span_of(clock.unsigned_abs()))
        } else {
            epoch.checked_sub(span_of(clock.unsigned_abs()))
        }
    }

    /// The sample after the last that is there at `now` if the line is steady.
    pub(super) fn reached(&self, now: Instant) -> u64 {
        let (Some(epoch), Some(least)) = (self.epoch, self.least()) else { return self.edge };
        let clock = i64::from(samples_in(now.saturating_duration_since(epoch)));
        ORIGIN.saturating_add_signed(clock - least)
    }

    /// Where what began at `timestamp`, in samples at 8 kHz, lies, if its clock is the audio's.
    pub(super) fn position_of(&self, generation: u32, timestamp: u32) -> Option<u64> {
        let map = self.map.filter(|map| map.generation == generation)?;
        map.position.checked_add_signed(i64::from(timestamp.wrapping_sub(map.timestamp) as i32))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn packet(came: Instant, generation: u32, timestamp: u32) -> Arrival {
        Arrival { came, generation, number: 0, timestamp, at: timestamp, in_step: true, marker: false }
    }

    /// A packet that is read as it comes.
    fn read(line: &mut Timeline, at: Instant, generation: u32, timestamp: u32) -> u64 {
        line.locate(at, &packet(at, generation, timestamp), 160)
    }

    #[test]
    fn positions_follow_timestamps_across_their_wrap() {
        let (t, mut line) = (Instant::now(), Timeline::new());
        let first = read(&mut line, t, 1, u32::MAX - 79);
        let second = read(&mut line, t + Duration::from_millis(20), 1, 80);
        assert_eq!(second - first, 160);
        assert_eq!(line.unsteady(), 0);
    }

    #[test]
    fn a_new_source_goes_on_where_real_time_is() {
        let (t, mut line) = (Instant::now(), Timeline::new());
        let first = read(&mut line, t, 1, 0);
        let other = read(&mut line, t + Duration::from_millis(100), 2, 777_777);
        assert_eq!(other - first, 800);
        let jumped = read(&mut line, t + Duration::from_millis(120), 2, 5);
        assert_eq!(jumped - first, 960);
    }

    #[test]
    fn what_a_stalled_reader_reads_late_lies_where_it_belongs() {
        let (t, mut line) = (Instant::now(), Timeline::new());
        let at = |k: u32| t + Duration::from_millis(20) * k;
        let first = line.locate(t, &packet(t, 1, 0), 160);
        // A second of packets is read at once.
        for k in 1..50u32 {
            assert_eq!(line.locate(at(49), &packet(at(k), 1, 160 * k), 160) - first, 160 * u64::from(k));
        }
        assert_eq!(line.arrives(line.edge()), Some(at(49)));
        assert!(line.unsteady() > 7_000, "but it has to be waited for");
    }

    #[test]
    fn jitter_is_the_spread_of_arrivals() {
        let (t, mut line) = (Instant::now(), Timeline::new());
        for k in 0..50u32 {
            let late = Duration::from_millis(if k % 5 == 0 { 10 } else { 0 });
            read(&mut line, t + Duration::from_millis(20) * k + late, 1, 160 * k);
        }
        assert_eq!(line.unsteady(), 80);
        assert_eq!(line.arrives(line.edge()), Some(t + Duration::from_millis(20) * 49));
    }
}
