//! The path while the mask is in force: audio is laid on the delay line, packets leave on our clock, and what is not
//! decided clean is replaced. Entering puts the delay in as noise; leaving takes it out where the line is quiet.

use std::time::{Duration, Instant};

use super::relaying::decode;
use super::{Guarded, LONGEST, Mode, Order, Path};
use crate::config::{Codec, MaskKind};
use crate::dtmf::event::blocks;
use crate::dtmf::inband::Point;
use crate::guard::clock::{Clock, MOST};
use crate::guard::line::{Known, Line};
use crate::guard::relay::Arrival;
use crate::guard::stream::{Sent, samples_in, span_of};

/// The guard stays at least this long after an order to open: a digit begun before the order is known by then, though
/// its event lag.
const STAY: Duration = Duration::from_millis(120);
/// Quiet is within this factor of the background's rms; ten times more for each second of waiting.
const QUIET: f32 = 2.0;
/// Samples this far beyond the next one to go out are not waited for (350 ms).
const TOO_FAR: u64 = 2_800;
/// The guard stays this long after the last masked sample, in samples: an event may lag behind its tone by 100 ms.
const CALM: u64 = 1_200;
/// The line's steady delay beyond the look-ahead, in samples: what is left of one packet time, 3–8 ms.
const SPARE: std::ops::RangeInclusive<u64> = 24..=64;
/// The longest an event is believed to have lasted by one report, in samples: the longest segment at 8 kHz.
const LONGEST_EVENT: u64 = 0xffff;
/// The most of quiet that is left out from one packet to shorten the delay, in samples.
const SHORTEN: u64 = 40;

impl Path {
    /// Puts the mask in force. `heard`: the detector already listens to this line and goes on.
    pub(super) fn enter(&mut self, now: Instant, kind: MaskKind, heard: bool) {
        if heard {
            self.line.set_point(Point::Armed);
        } else {
            self.line.restart(self.timeline.edge(), Point::Armed);
        }
        self.relay.rebase();
        self.keyer_due = None;
        self.mode = Mode::Guarded(Guarded::new(Some(now), kind));
        if self.timeline.started() {
            self.start_clock(now);
        }
    }

    /// Fixes when packets leave and what the first one holds: the samples up to one look-ahead before the newest that
    /// will then have come. What was sent before stands in it as noise.
    fn start_clock(&mut self, now: Instant) {
        let frame = self.sink.frame();
        let length = self.timeline.length();
        let spare = ((length.min(frame as u64)).saturating_sub(Line::look_ahead())).clamp(*SPARE.start(), *SPARE.end());
        let late = self.timeline.unsteady().min(MOST) + spare;
        let earliest = self.next_slot(now);
        // The first packet that comes no sooner than our next one is due.
        let (mut needed, mut due) = (self.timeline.edge(), earliest);
        if let Some(there) = self.timeline.arrives(needed) {
            let there = there + span_of(late);
            let packets = u64::from(samples_in(earliest.saturating_duration_since(there))).div_ceil(length);
            needed += packets * length;
            due = (there + span_of(packets * length)).min(earliest + span_of(length + late));
        }
        // Packet lengths that do not divide one another meet at worst this much apart.
        let uneven = length - gcd(length, frame as u64);
        self.line.set_play(needed - Line::look_ahead() - frame as u64 - uneven);
        if let Mode::Guarded(guarded) = &mut self.mode {
            guarded.clock = Some(Clock::new(due, frame, spare));
        }
    }

    pub(super) fn guard_audio(&mut self, now: Instant, arrival: &Arrival, codec: Codec, payload: &[u8], primary: bool) {
        let position = if primary {
            self.timeline.locate(now, arrival, payload.len())
        } else {
            let known = self.timeline.position_of(arrival.generation, arrival.timestamp);
            let Some(position) = known else { return };
            position
        };
        let Mode::Guarded(guarded) = &mut self.mode else { return };
        match &mut guarded.clock {
            None => self.start_clock(now),
            Some(clock) if primary => {
                let play = self.line.play() - guarded.insert;
                let delay = self.timeline.delay(play, clock.due());
                guarded.insert += clock.arrived(now, position, play, delay);
                let end = position + payload.len() as u64;
                if end > play + TOO_FAR {
                    // We are behind by more than any jitter: what lies between is not worth the delay.
                    self.line.set_play(end - Line::look_ahead() - self.sink.frame() as u64);
                    guarded.insert = 0;
                }
            }
            Some(_) => {}
        }
        self.line.lay(position, payload.iter().map(|byte| decode(codec, *byte)));
        self.hear(now, 0);
        self.drain_presses();
    }

    pub(super) fn guard_event(&mut self, now: Instant, arrival: &Arrival, clock: u32, payload: &[u8]) {
        let reached = self.timeline.reached(now);
        for block in blocks(payload).filter(|block| block.event < 16) {
            let onset = self.event_position(now, arrival, clock, block.duration) + u64::from(block.offset);
            let duration = (u64::from(block.duration) * 8_000 / u64::from(clock.max(1))).min(LONGEST_EVENT);
            self.line.shade(onset, duration, block.end, reached);
        }
        if matches!(&self.mode, Mode::Guarded(Guarded { clock: None, .. })) {
            self.start_clock(now);
        }
    }

    /// Sends the packets that are due.
    pub(super) fn send_guarded(&mut self, now: Instant, out: &mut impl FnMut(Sent<'_>)) {
        loop {
            let Mode::Guarded(Guarded { clock: Some(clock), .. }) = &mut self.mode else { return };
            if clock.due() > now {
                return;
            }
            self.send_one(now, out);
            let frame = self.sink.frame();
            let Mode::Guarded(Guarded { clock: Some(clock), .. }) = &mut self.mode else { return };
            let left_out = clock.advance(now);
            if left_out > 0 {
                self.line.skip(left_out as usize * frame);
                self.stream.skip(now, (left_out as usize * frame) as u32);
            }
            if self.may_leave(now) {
                return self.leave(now);
            }
        }
    }

    fn send_one(&mut self, now: Instant, out: &mut impl FnMut(Sent<'_>)) {
        self.shorten();
        let Mode::Guarded(guarded) = &mut self.mode else { return };
        let length = self.sink.frame().min(LONGEST);
        let (mut frame, mut known) = ([0i16; LONGEST], [Known::No; LONGEST]);
        let (frame, known) = (&mut frame[..length], &mut known[..length]);
        let noise = guarded.insert.min(length as u64);
        guarded.insert -= noise;
        let kind = guarded.kind;
        let needed = self.line.play() + (length as u64 - noise) + Line::look_ahead();
        self.hear(now, needed);
        let noise = noise as usize;
        self.line.take(&mut frame[noise..], &mut known[noise..]);
        self.mask.apply(kind, frame, known);
        self.fill_slot(now, frame, out);
        self.drain_presses();
    }

    /// Takes out delay that is no longer needed: samples that never came, or a little of a quiet stretch.
    fn shorten(&mut self) {
        let quiet = (QUIET * self.mask.background()).powi(2);
        let Mode::Guarded(Guarded { clock: Some(clock), insert: 0, .. }) = &mut self.mode else { return };
        let excess = clock.excess();
        if excess < SHORTEN {
            return;
        }
        let missing = self.line.missing(excess);
        let skip = if missing > 0 {
            missing
        } else if self.line.is_clean(SHORTEN) && self.line.loudness(SHORTEN) <= quiet {
            SHORTEN
        } else {
            return;
        };
        self.line.skip(skip as usize);
        clock.skipped(skip);
    }

    /// Whether the guard may be left now.
    fn may_leave(&self, now: Instant) -> bool {
        let Mode::Guarded(Guarded { leaving: Some(since), .. }) = &self.mode else { return false };
        let waited = now.saturating_duration_since(*since);
        let clear = self.line.is_clear() && self.mask.calm() >= CALM && self.keyer.is_idle();
        if waited < STAY || !clear {
            return false;
        }
        let loosened = QUIET * 10f32.powf(waited.as_secs_f32());
        // A line without any background is quiet below −60 dBm0.
        self.line.loudness(u64::MAX / 2) <= (loosened * self.mask.background().max(16.0)).powi(2)
    }

    pub(super) fn leave(&mut self, now: Instant) {
        let Mode::Guarded(guarded) = std::mem::replace(&mut self.mode, Mode::Relaying) else { return };
        self.guarded = Some((guarded.since, now));
        self.withheld_before = self.timeline.edge().max(self.timeline.reached(now));
        self.open_from = self.timeline.edge();
        self.withheld = None;
        self.relay.rebase();
        match self.order {
            Order::Listen => {
                self.line.set_point(Point::Unarmed);
                self.line.pass();
            }
            Order::Open | Order::Withhold | Order::Masked(_) => {}
        }
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
