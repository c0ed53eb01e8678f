//! RFC 4733 telephone events. Packets go in, key presses come out, each once. [`blocks`] reads the payload,
//! [`Tracker`] remembers which presses it has told. Never looks at RTP markers or sequence numbers: an event is what
//! its (SSRC, timestamp, event) says it is, so a press is known from any one of its packets, the end packet included.
//!
//! ```text
//!   0                   1                   2                   3
//!   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1     section 2.3
//!  +---------------+-+-+-----------+-------------------------------+
//!  |     event     |E|R|  volume   |           duration            |    repeated when a packet
//!  +---------------+-+-+-----------+-------------------------------+    holds several events
//! ```
//!
//! Two things turn one press into several identities, and both are stitched back:
//! - a press longer than 0xFFFF clock units goes on as a new segment whose timestamp is 0xFFFF later (2.5.1.3);
//! - some equipment advances the timestamp with every packet of a press, its duration growing or not.
//!
//! A new identity of the same key is the same press when it begins within what the last one covers (or at most one
//! packet time later) and that one had not ended. The shortest pause a keypad makes (30 ms) is longer than that.

use std::time::{Duration, Instant};

use zeroize::Zeroize;

use crate::base::secret::Digit;

/// One event report of a payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Event code; 0–15 are keys. Secret when it is a key.
    pub event: u8,
    /// The E bit: the event has ended.
    pub end: bool,
    /// Power, −dBm0.
    pub volume: u8,
    /// How long it has lasted, in units of the clock.
    pub duration: u16,
    /// Where it begins after the packet's timestamp: the durations of the reports before it in the same packet.
    pub offset: u32,
}

/// The reports of a telephone-event payload. Bytes after the last whole report are not looked at.
pub fn blocks(payload: &[u8]) -> impl Iterator<Item = Block> + '_ {
    payload.chunks_exact(4).scan(0u32, |offset, bytes| {
        let duration = u16::from_be_bytes([bytes[2], bytes[3]]);
        let block =
            Block { event: bytes[0], end: bytes[1] & 0x80 != 0, volume: bytes[1] & 0x3f, duration, offset: *offset };
        *offset = offset.wrapping_add(u32::from(duration));
        Some(block)
    })
}

/// Writes one report (section 2.3).
pub fn write(block: &Block) -> [u8; 4] {
    let [high, low] = block.duration.to_be_bytes();
    [block.event, if block.end { 0x80 } else { 0 } | (block.volume & 0x3f), high, low]
}

/// A telephone-event packet, or a redundant block of one (RFC 2198), as far as this room needs it.
#[derive(Clone, Copy)]
pub struct EventPacket<'a> {
    /// Synchronisation source.
    pub ssrc: u32,
    /// RTP timestamp of the block (of the redundant block, not of the packet that carries it).
    pub timestamp: u32,
    /// Clock rate of the payload type, Hz.
    pub clock_hz: u32,
    /// Payload.
    pub payload: &'a [u8],
}

/// A key press first seen in events.
#[derive(Debug)]
pub struct EventPress {
    /// Key.
    pub digit: Digit,
    /// When the key went down, on the receiver's clock; presses of one source keep the order of their timestamps.
    pub onset: Instant,
    /// Where in the packet it began: units of the clock after the packet's timestamp.
    pub offset: u32,
}

/// How many presses are remembered: at the fastest keying, more than two seconds of them.
const REMEMBERED: usize = 32;
/// A press whose packets stopped this long ago is over, whatever comes.
const FORGET: Duration = Duration::from_secs(10);
/// A press whose packets stopped this long ago is not continued under another timestamp.
const LIVELY: Duration = Duration::from_millis(500);
/// How far a begin may lie after what is known of a press and still be its continuation, ms.
const SEAM_MS: u32 = 20;
/// How far an end packet's timestamp may be ahead of the last one of an ended press, ms.
const END_SEAM_MS: u32 = 40;
/// How far a segment may be off 0xFFFF, ms.
const SEGMENT_SEAM_MS: u32 = 60;

#[derive(Clone, Copy)]
struct Seen {
    ssrc: u32,
    clock_hz: u32,
    event: u8,
    /// Timestamp of the press's first report, of its newest, and of the end of what it covers.
    origin: u32,
    newest: u32,
    until: u32,
    /// The timestamp its durations count from.
    base: u32,
    duration: u16,
    ended: bool,
    heard: Instant,
}

/// Remembers the presses of one leg and tells each once. Fixed size.
#[derive(Default)]
pub struct Tracker {
    seen: [Option<Seen>; REMEMBERED],
    anchor: Option<Anchor>,
}

/// Ties one source's timestamps to the receiver's clock.
#[derive(Clone, Copy)]
struct Anchor {
    ssrc: u32,
    clock_hz: u32,
    timestamp: u32,
    at: Instant,
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // The codes are digits.
        for seen in self.seen.iter_mut().flatten() {
            seen.event.zeroize();
        }
    }
}

impl Tracker {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet heard at `now` and gives out the presses it shows for the first time. Codes above 15 are ignored.
    pub fn handle(&mut self, now: Instant, packet: &EventPacket<'_>, mut press: impl FnMut(EventPress)) {
        if packet.clock_hz == 0 {
            return;
        }
        for block in blocks(packet.payload) {
            let Some(digit) = Digit::from_event(block.event) else { continue };
            let begin = packet.timestamp.wrapping_add(block.offset);
            if self.known(now, packet, &block, begin) {
                continue;
            }
            // The one heard of longest ago makes room: never a press that this very packet repeats.
            let oldest = self.seen.iter_mut().min_by_key(|seen| seen.as_ref().map(|seen| seen.heard));
            let Some(place) = oldest else { continue };
            *place = Some(Seen {
                ssrc: packet.ssrc,
                clock_hz: packet.clock_hz,
                event: block.event,
                origin: begin,
                newest: begin,
                base: begin,
                until: begin.wrapping_add(u32::from(block.duration)),
                duration: block.duration,
                ended: block.end,
                heard: now,
            });
            let onset = self.onset(now, packet, begin, block.duration);
            press(EventPress { digit, onset, offset: block.offset });
        }
    }

    fn known(&mut self, now: Instant, packet: &EventPacket<'_>, block: &Block, begin: u32) -> bool {
        for seen in self.seen.iter_mut().flatten() {
            let same = seen.ssrc == packet.ssrc && seen.clock_hz == packet.clock_hz && seen.event == block.event;
            let silent_for = now.saturating_duration_since(seen.heard);
            if same && silent_for < FORGET && seen.covers(block, begin, silent_for < LIVELY) {
                seen.heard = now;
                return true;
            }
        }
        false
    }

    /// The press's begin on our clock. The anchor keeps the order of timestamps; it follows the least delayed packets
    /// at once and drifts slowly the other way, so neither jitter nor clock skew accumulates.
    fn onset(&mut self, now: Instant, packet: &EventPacket<'_>, begin: u32, duration: u16) -> Instant {
        let clock = u64::from(packet.clock_hz);
        let span = |units: u64| Duration::from_micros(units * 1_000_000 / clock);
        let heard = now.checked_sub(span(u64::from(duration))).unwrap_or(now);
        let fresh = Anchor { ssrc: packet.ssrc, clock_hz: packet.clock_hz, timestamp: begin, at: heard };
        let Some(anchor) = self.anchor.filter(|a| a.ssrc == packet.ssrc && a.clock_hz == packet.clock_hz) else {
            self.anchor = Some(fresh);
            return heard;
        };
        let ahead = begin.wrapping_sub(anchor.timestamp) as i32;
        let predicted = if ahead >= 0 {
            anchor.at.checked_add(span(ahead.unsigned_abs().into()))
        } else {
            anchor.at.checked_sub(span(ahead.unsigned_abs().into()))
        };
        let Some(predicted) = predicted else {
            self.anchor = Some(fresh);
            return heard;
        };
        let (late, early) = (heard.saturating_duration_since(predicted), predicted.saturating_duration_since(heard));
        if late.max(early) > Duration::from_secs(2) {
            // The source restarted its timestamps.
            self.anchor = Some(fresh);
            return heard;
        }
        let onset = if early > Duration::ZERO { heard } else { predicted };
        if ahead >= 0 {
            self.anchor = Some(Anchor { at: onset + late / 8, ..fresh });
        }
        onset
    }
}

impl Seen {
    /// Whether a report that begins at `begin` belongs to this press; if so, takes it in. `lively`: its last packet is
    /// recent enough for a new identity to continue it.
    fn covers(&mut self, block: &Block, begin: u32, lively: bool) -> bool {
        let ms = self.clock_hz / 1000;
        let ahead = begin.wrapping_sub(self.newest) as i32;
        let from_origin = begin.wrapping_sub(self.origin) as i32;
        if ahead == 0 {
            self.duration = self.duration.max(block.duration);
            self.until = later(self.until, self.base.wrapping_add(u32::from(self.duration)));
            self.ended |= block.end;
            return true;
        }
        if ahead < 0 && from_origin >= 0 {
            // An older packet of a press that advances.
            return true;
        }
        if !lively {
            return false;
        }
        if ahead < 0 {
            // Before all that is known of it: a reordered packet of an advancing press reaches up to it, unended.
            let reach = begin.wrapping_add(u32::from(block.duration)).wrapping_sub(self.origin) as i32;
            let joins = !block.end && (0..=(SEAM_MS * ms) as i32).contains(&reach);
            if joins {
                self.origin = begin;
            }
            return joins;
        }
        let ahead = ahead.unsigned_abs();
        if self.ended {
            // End packets resent under advancing timestamps.
            let resent = block.end && block.duration >= self.duration && ahead <= END_SEAM_MS * ms;
            if resent {
                self.newest = begin;
            }
            return resent;
        }
        let beyond = begin.wrapping_sub(self.until) as i32;
        let segment = ahead.abs_diff(0xffff) <= SEGMENT_SEAM_MS * ms;
        if beyond > (SEAM_MS * ms) as i32 && !segment {
            return false;
        }
        let grown = u32::from(block.duration.saturating_sub(self.duration));
        if grown < ahead / 2 {
            // The duration counts from this timestamp; otherwise timestamp and duration grow together and it still
            // counts from where it did.
            self.base = begin;
        }
        self.newest = begin;
        self.duration = block.duration;
        self.until = later(self.until, self.base.wrapping_add(u32::from(block.duration)));
        self.ended = block.end;
        true
    }
}

/// The later of two timestamps, modulo 2³².
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// Plays (ms at which heard, timestamp, clock, event, end, duration) and returns the keys told.
    fn play(packets: &[(u64, u32, u32, u8, bool, u16)]) -> String {
        let start = Instant::now();
        let mut tracker = Tracker::new();
        let mut told = Vec::new();
        for (at, timestamp, clock_hz, event, end, duration) in packets {
            let block = Block { event: *event, end: *end, volume: 10, duration: *duration, offset: 0 };
            let payload = write(&block);
            let packet = EventPacket { ssrc: 7, timestamp: *timestamp, clock_hz: *clock_hz, payload: &payload };
            let now = start + Duration::from_millis(*at);
            tracker.handle(now, &packet, |p| told.push((p.onset, p.digit.expose_char())));
        }
        told.sort_by_key(|(onset, _)| *onset);
        told.into_iter().map(|(_, key)| key).collect()
    }

    #[test]
    fn a_press_is_told_once_whatever_is_repeated() {
        let press: Vec<_> = (1..=5u16).map(|n| (20 * u64::from(n), 1000, 8000, 5, n == 5, 160 * n)).collect();
        let mut all = press.clone();
        all.extend_from_slice(&press[4..]);
        all.extend_from_slice(&press[4..]);
        assert_eq!(play(&all), "5");
        assert_eq!(play(&press[4..]), "5", "from its end packet alone");
    }

    #[test]
    fn the_same_key_after_thirty_milliseconds_is_another_press_even_when_every_end_is_lost() {
        let first = [(20, 1000, 8000, 5, false, 160), (40, 1000, 8000, 5, false, 320)];
        let second = [(90, 1000 + 560, 8000, 5, false, 160), (110, 1000 + 560, 8000, 5, true, 320)];
        assert_eq!(play(&[first, second].concat()), "55");
        assert_eq!(play(&[&first[..1], &second[1..]].concat()), "55");
        assert_eq!(play(&[(60, 1000, 8000, 5, true, 320), (130, 1560, 8000, 5, true, 320)]), "55", "only end packets");
    }

    #[test]
    fn presses_heard_out_of_order_have_onsets_in_timestamp_order() {
        let packets = [
            (20, 1000, 8000, 1, false, 160),
            (200, 3000, 8000, 3, false, 160),
            (205, 2000, 8000, 2, true, 480),
            (400, 4000, 8000, 4, true, 480),
        ];
        assert_eq!(play(&packets), "1234");
    }

    #[test]
    fn a_press_longer_than_a_segment_is_one_press_at_every_clock() {
        for clock in [8_000, 16_000, 48_000] {
            let (start, mut packets) = (0xffff_f000u32, Vec::new());
            let step = (clock / 50) as u64;
            for n in 1..900u64 {
                let total = n * step;
                let segment = (total - 1) / 0xffff;
                let timestamp = start.wrapping_add((segment * 0xffff) as u32);
                packets.push((n * 20, timestamp, clock, 9, n == 899, (total - segment * 0xffff) as u16));
            }
            assert_eq!(play(&packets), "9", "{clock}");
            let thinned: Vec<_> = packets.iter().copied().step_by(3).collect();
            assert_eq!(play(&thinned), "9", "{clock} with loss");
        }
    }

    #[test]
    fn equipment_that_advances_the_timestamp_gives_one_press() {
        for grows in [true, false] {
            let press = |at: u64, timestamp: u32| {
                let mut packets = Vec::new();
                for n in 0..5u32 {
                    let duration = if grows { 160 * (n + 1) } else { 160 };
                    let end = n >= 3;
                    let duration = if end && grows { 640 } else { duration };
                    packets.push((at + 20 * u64::from(n), timestamp + 160 * n, 8000, 6, end, duration as u16));
                }
                packets
            };
            let two = [press(20, 8000), press(20 + 140, 8000 + 1120)].concat();
            assert_eq!(play(&two), "66", "grows: {grows}");
            let mut lossy = two.clone();
            lossy.remove(6);
            lossy.remove(1);
            assert_eq!(play(&lossy), "66", "grows: {grows}, with loss");
            let mut swapped = two;
            swapped.swap(0, 1);
            assert_eq!(play(&swapped), "66", "grows: {grows}, reordered");
        }
    }

    #[test]
    fn several_events_in_one_packet_are_all_told_and_other_codes_are_not() {
        let mut tracker = Tracker::new();
        let mut payload = Vec::new();
        for (event, duration) in [(1, 400), (1, 400), (16, 80), (2, 400)] {
            payload.extend(write(&Block { event, end: true, volume: 0, duration, offset: 0 }));
        }
        let mut told = Vec::new();
        let packet = EventPacket { ssrc: 1, timestamp: 0, clock_hz: 8000, payload: &payload };
        let now = Instant::now();
        tracker.handle(now, &packet, |p| told.push(p.digit.expose_char()));
        tracker.handle(now, &packet, |p| told.push(p.digit.expose_char()));
        assert_eq!(told, ['1', '1', '2']);
    }

    /// Found by libFuzzer: an old press, still repeated, was forgotten for a new one in the same packet and told again.
    #[test]
    fn a_press_that_is_still_heard_is_not_forgotten_for_new_ones() {
        let mut tracker = Tracker::new();
        let start = Instant::now();
        let mut told = 0;
        for n in 0..2 * REMEMBERED as u16 {
            // The first press goes on; a new one of another key follows it in each packet.
            let held = write(&Block { event: 1, end: false, volume: 0, duration: 4_000, offset: 0 });
            let skipped = write(&Block { event: 99, end: false, volume: 0, duration: 600 * n, offset: 0 });
            let new = write(&Block { event: 2, end: true, volume: 0, duration: 80, offset: 0 });
            let payload = [held, skipped, new].concat();
            let packet = EventPacket { ssrc: 1, timestamp: 0, clock_hz: 8000, payload: &payload };
            let now = start + Duration::from_millis(20 * u64::from(n));
            for _ in 0..2 {
                tracker.handle(now, &packet, |p| told += usize::from(p.digit.expose_char() == '1'));
            }
        }
        assert_eq!(told, 1);
    }

    #[test]
    fn no_payload_makes_it_panic() {
        let mut noise = crate::dsp::noise::Noise::new(11);
        let mut tracker = Tracker::new();
        let start = Instant::now();
        for round in 0..5_000u64 {
            let payload: Vec<u8> = (0..round % 23).map(|_| (noise.bits() >> 9) as u8 & 0x8f).collect();
            let clock_hz = [0, 1, 999, 8000, 48_000, u32::MAX][(noise.bits() % 6) as usize];
            let timestamp = noise.bits() as u32;
            let packet = EventPacket { ssrc: 1, timestamp, clock_hz, payload: &payload };
            tracker.handle(start + Duration::from_millis(noise.bits() % 60_000), &packet, |_| {});
        }
    }
}
