//! The path while the mask is in force: audio is laid on the delay line, packets leave on our clock, and what is not
//! decided clean is replaced. Entering puts the delay in by letting the last of what was relayed be heard once more;
//! leaving takes it out where the line is quiet or like itself. Neither is done with what may hold a digit.

use std::time::{Duration, Instant};

use super::{Guarded, LONGEST, Mode, Order, Path};
use crate::config::{Codec, MaskKind};
use crate::dtmf::event::blocks;
use crate::dtmf::inband::{Detector, LOOK_AHEAD, Point, Verdict};
use crate::guard::clock::{Clock, MOST};
use crate::guard::coder::{self, Turn};
use crate::guard::line::{Known, RING};
use crate::guard::relay::Arrival;
use crate::guard::splice::{best_cut, lead_in, leave_out};
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
const SPARE: std::ops::RangeInclusive<u64> = 8..=64;
/// The look-ahead where packets are too short for the usual one to fit into 12 ms with some time to spare, in samples.
const SHORT_LOOK_AHEAD: u64 = 88;
/// Samples in a packet that is short (10 ms).
const SHORT: u64 = 80;
/// How alike the line must be before and after what is left out on leaving, where it is not quiet.
const ALIKE: f32 = 0.8;
/// After so long the best place there is will do.
const ENOUGH: Duration = Duration::from_millis(1_500);
/// Samples of what was relayed that a new detector hears (20 ms).
const WARM: usize = 160;
/// The longest stretch that is heard twice, in samples (50 ms).
const AGAIN: usize = 400;
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
            self.warm_up(now);
        }
        self.relay.rebase();
        self.keyer_due = None;
        self.mode = Mode::Guarded(Guarded::new(Some(now), kind));
        if let Some((codec, _)) = self.own_format() {
            self.voice.take_up(codec, &self.ear);
        }
        if self.timeline.started() {
            self.start_clock(now);
            self.hear_again();
        }
        self.heard.clear();
    }

    /// Lets a detector that has heard nothing hear the last of what was relayed: a line that begins in the middle of a
    /// wave looks like anything, and a key may be down already. Too little for a key that is over to be named.
    fn warm_up(&mut self, now: Instant) {
        let edge = self.timeline.edge();
        let heard = self.heard.until(edge);
        let heard = &heard[heard.len().saturating_sub(WARM)..];
        let from = edge - heard.len() as u64;
        self.line.restart(from, Point::Armed);
        self.line.lay(from, heard, &[]);
        self.hear(now, edge);
        self.line.set_play(edge);
    }

    /// Puts the delay in: what was relayed last is heard once more, if nothing in it or before it is suspect and the
    /// line has not paused. Otherwise the delay is filled with noise.
    fn hear_again(&mut self) {
        let edge = self.timeline.edge();
        let heard = self.heard.until(edge);
        let mut again = [0i16; AGAIN];
        let Some(again) = again.get_mut(..edge.saturating_sub(self.line.play()) as usize) else { return };
        let mut clean = true;
        Detector::new(Point::Armed).feed(heard, &mut |verdict| clean &= !matches!(verdict, Verdict::Suspect { .. }));
        if clean && lead_in(heard, again) {
            self.line.lay_again(again);
        }
    }

    /// Fixes when packets leave and what the first one holds: the samples up to one look-ahead before the newest that
    /// will then have come. What was sent before stands in it as noise.
    pub(super) fn start_clock(&mut self, now: Instant) {
        let (frame, length) = (self.sink.frame(), self.timeline.length());
        let ahead = if length.min(frame as u64) <= SHORT { SHORT_LOOK_AHEAD } else { LOOK_AHEAD };
        self.line.set_look_ahead(ahead);
        let spare = ((length.min(frame as u64)).saturating_sub(ahead)).clamp(*SPARE.start(), *SPARE.end());
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
        self.line.set_play(needed - ahead - frame as u64 - uneven);
        if let Mode::Guarded(guarded) = &mut self.mode {
            guarded.clock = Some(Clock::new(due, frame, spare));
        }
    }

    pub(super) fn guard_audio(&mut self, now: Instant, arrival: &Arrival, codec: Codec, payload: &[u8], primary: bool) {
        let length = coder::length(codec, payload);
        let position = if primary {
            self.timeline.locate(now, arrival, length)
        } else if codec.is_wide() {
            // A copy cannot be put between what its decoder has heard.
            return;
        } else {
            let known = self.timeline.position_of(arrival.generation, arrival.at);
            let Some(position) = known else { return };
            position
        };
        let ahead = self.line.look_ahead();
        let Mode::Guarded(guarded) = &mut self.mode else { return };
        match &mut guarded.clock {
            None => self.start_clock(now),
            Some(clock) if primary => {
                let play = self.line.play() - guarded.insert;
                let delay = self.timeline.delay(play, clock.due());
                guarded.insert += clock.arrived(now, position, play, delay, ahead);
                let end = position + length as u64;
                if end > play + TOO_FAR {
                    // We are behind by more than any jitter: what lies between is not worth the delay.
                    self.line.set_play(end - ahead - self.sink.frame() as u64);
                    guarded.insert = 0;
                }
            }
            Some(_) => {}
        }
        self.lay(position, arrival, codec, payload);
        self.hear_later(now, 0);
    }

    /// Lays a packet on the line, or keeps it until those that its codec needs before it are there.
    fn lay(&mut self, position: u64, arrival: &Arrival, codec: Codec, payload: &[u8]) {
        match self.ear.turn(arrival, codec) {
            Turn::Late => return,
            Turn::Now => {
                self.ear.decode(arrival, codec, payload);
                self.line.lay(position, self.ear.low(), self.ear.high());
            }
            Turn::Early(_) => {
                while !self.ear.keep(arrival, position, payload) {
                    if !self.lay_waiting(true) {
                        return;
                    }
                }
            }
        }
        while self.lay_waiting(false) {}
    }

    /// Lays the next waiting packet, if its turn has come or is not waited for.
    fn lay_waiting(&mut self, at_once: bool) -> bool {
        let Some(position) = self.ear.decode_waiting(at_once) else { return false };
        self.line.lay(position, self.ear.low(), self.ear.high());
        true
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
            if self.may_leave(now) {
                match self.last_cut(now) {
                    Some(cut) => {
                        self.send_last(now, cut, out);
                        return self.leave(now);
                    }
                    None if self.line.edge() <= self.line.play() => return self.leave(now),
                    None => {}
                }
            }
            self.send_one(now, out);
            let frame = self.sink.frame();
            let Mode::Guarded(Guarded { clock: Some(clock), .. }) = &mut self.mode else { return };
            let left_out = clock.advance(now);
            if left_out > 0 {
                self.line.skip(left_out as usize * frame);
                self.stream.skip(now, (left_out as usize * frame) as u32);
            }
        }
    }

    fn send_one(&mut self, now: Instant, out: &mut impl FnMut(Sent<'_>)) {
        self.shorten();
        let Mode::Guarded(guarded) = &mut self.mode else { return };
        let length = self.sink.frame().min(LONGEST);
        let (mut frame, mut high, mut known) = ([0i16; LONGEST], [[0i16; 2]; LONGEST], [Known::No; LONGEST]);
        let (frame, high, known) = (&mut frame[..length], &mut high[..length], &mut known[..length]);
        let noise = guarded.insert.min(length as u64);
        guarded.insert -= noise;
        let kind = guarded.kind;
        let needed = self.line.play() + (length as u64 - noise) + self.line.look_ahead();
        while self.line.edge() < needed && self.lay_waiting(true) {}
        self.hear(now, needed);
        let noise = noise as usize;
        self.line.take(&mut frame[noise..], &mut high[noise..], &mut known[noise..]);
        let mut before = [0i16; LONGEST];
        before[..length].copy_from_slice(frame);
        self.mask.apply(kind, frame, known);
        for ((above, known), (was, is)) in high.iter_mut().zip(known).zip(before.iter().zip(frame.iter())) {
            if *known != Known::Clean || was != is {
                *above = [0; 2];
            }
        }
        self.fill_slot(now, frame, high, out);
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

    /// Where in the last guarded packet the delay can be taken out: the line is quiet, or alike before and after.
    fn last_cut(&self, now: Instant) -> Option<usize> {
        let Mode::Guarded(Guarded { leaving: Some(since), insert: 0, .. }) = &self.mode else { return None };
        let waited = now.saturating_duration_since(*since);
        let mut said = [0i16; RING];
        let said = said.get_mut(..self.line.edge().checked_sub(self.line.play())? as usize)?;
        let frame = self.sink.frame().min(LONGEST);
        let gap = said.len().checked_sub(frame)?;
        if !self.line.peek(said) {
            return None;
        }
        let loosened = QUIET * 10f32.powf(waited.as_secs_f32());
        // A line without any background is quiet below −60 dBm0.
        let quiet = self.line.loudness(u64::MAX / 2) <= (loosened * self.mask.background().max(16.0)).powi(2);
        let (cut, likeness) = best_cut(said, frame, gap);
        (quiet || likeness >= ALIKE || waited >= ENOUGH).then_some(cut)
    }

    /// Sends the packet that goes over from the delayed line to the line as it comes.
    fn send_last(&mut self, now: Instant, cut: usize, out: &mut impl FnMut(Sent<'_>)) {
        let Mode::Guarded(Guarded { kind, .. }) = self.mode else { return };
        let mut said = [0i16; RING];
        let count = ((self.line.edge() - self.line.play()) as usize).min(RING);
        let said = &mut said[..count];
        let length = self.sink.frame().min(LONGEST);
        if !self.line.peek(said) || said.len() < length {
            return;
        }
        let mut frame = [0i16; LONGEST];
        let frame = &mut frame[..length];
        leave_out(said, count - length, cut, frame);
        self.line.skip(count);
        self.mask.apply(kind, frame, &[Known::Clean; LONGEST][..length]);
        self.fill_slot(now, frame, &mut [], out);
    }

    /// Whether the guard may be left now.
    fn may_leave(&self, now: Instant) -> bool {
        let Mode::Guarded(Guarded { leaving: Some(since), .. }) = &self.mode else { return false };
        let waited = now.saturating_duration_since(*since);
        let clear = self.line.is_clear() && self.mask.calm() >= CALM && self.keyer.is_idle();
        // Of what cannot be heard nothing is on the line, and never will be.
        waited >= STAY && (clear || (self.foreign && self.keyer.is_idle()))
    }

    pub(super) fn leave(&mut self, now: Instant) {
        let Mode::Guarded(guarded) = std::mem::replace(&mut self.mode, Mode::Relaying) else { return };
        self.guarded = Some((guarded.since, now));
        self.withheld_before = self.timeline.edge().max(self.timeline.reached(now));
        self.open_from = self.timeline.edge();
        self.withheld = None;
        self.ear.forget();
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
