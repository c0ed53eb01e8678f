//! The path while it relays: payload bytes go on as they came, at once; only their place is ours. Also here: digits
//! that are sent by us in between, and events that are withheld.

use std::time::Instant;

use super::{LONGEST, Mode, Order, Path};
use crate::config::Codec;
use crate::dsp::g711;
use crate::dtmf::event::blocks;
use crate::guard::keyer::Slot;
use crate::guard::relay::Arrival;
use crate::guard::stream::{MAX_PAYLOAD, Place, Sent, span_of};

/// An event that goes on within this time of a withheld packet of the same key is the same press.
const SAME_EVENT: std::time::Duration = std::time::Duration::from_millis(120);

/// How far an event may begin ahead of what has come of the audio, in samples (150 ms).
const EVENT_AHEAD: u64 = 1_200;

impl Path {
    pub(super) fn relay_audio(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        codec: Codec,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let position = self.timeline.locate(now, arrival, payload.len());
        if position < self.open_from {
            return self.relay.leave_out(arrival);
        }
        let linear = payload.iter().map(|byte| decode(codec, *byte));
        let mut frame = [0i16; LONGEST];
        for (to, from) in frame.iter_mut().zip(linear.clone()) {
            *to = from;
        }
        if self.order == Order::Listen {
            self.line.reach(position);
            self.line.lay(position, linear);
            self.hear(now, self.timeline.edge());
            self.line.pass();
            self.drain_presses();
        }
        let frame = &frame[..payload.len().min(LONGEST)];
        if self.order == Order::Listen && !self.line.is_clear() {
            self.mask.overhear(frame);
        } else {
            self.mask.learn(frame);
        }
        self.heard.note(position, frame);
        let Some((to, payload_type)) = self.target(codec) else { return self.relay.leave_out(arrival) };
        let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
        self.codec = Some(to);
        let fill = |room: &mut [u8]| {
            let length = payload.len().min(MAX_PAYLOAD);
            for (to_byte, byte) in room.iter_mut().zip(payload) {
                *to_byte = if to == codec { *byte } else { encode(to, decode(codec, *byte)) };
            }
            length
        };
        self.stream.send(now, place, payload_type, Some(to), payload.len() as u32, fill, out);
    }

    /// Codec and payload type for audio that came as `codec`; `None` when nothing may be sent now.
    fn target(&self, codec: Codec) -> Option<(Codec, u8)> {
        if !self.sink.open || self.keyer_due.is_some() {
            return None;
        }
        let same = self.sink.payload_type(codec).map(|payload_type| (codec, payload_type));
        same.or_else(|| self.sink.audio.first().copied())
    }

    pub(super) fn relay_event(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        clock: u32,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let pass = self.sink.open && self.keyer_due.is_none() && clock > 0;
        if pass && self.order == Order::Withhold && blocks(payload).next().is_some() {
            return self.silence_event(now, arrival, payload, out);
        }
        let format = self.sink.event.filter(|_| pass && !self.is_withheld(now, arrival, clock, payload));
        let Some((payload_type, sink_clock)) = format else { return self.relay.leave_out(arrival) };
        if clock != 8_000 && !self.relay.knows(arrival) {
            // Its timestamps say nothing of the audio's: wait for audio to fix the map.
            return;
        }
        let Some(mut place) = self.relay.place(now, arrival, &self.stream) else { return };
        if clock != 8_000 {
            let ours = match self.foreign_event {
                Some((theirs, ours)) if theirs == arrival.timestamp => ours,
                _ => self.stream.edge(),
            };
            self.foreign_event = Some((arrival.timestamp, ours));
            place.timestamp = ours;
        }
        let scale = |duration: u16, from: u32, to: u32| {
            u16::try_from(u64::from(duration) * u64::from(to) / u64::from(from)).unwrap_or(u16::MAX)
        };
        let reach: u32 = blocks(payload).map(|block| u32::from(scale(block.duration, clock, 8_000))).sum();
        let fill = |room: &mut [u8]| {
            let length = payload.len().min(MAX_PAYLOAD);
            room[..length].copy_from_slice(&payload[..length]);
            if clock != sink_clock {
                for block in room[..length].as_chunks_mut::<4>().0 {
                    let duration = scale(u16::from_be_bytes([block[2], block[3]]), clock, sink_clock);
                    block[2..].copy_from_slice(&duration.to_be_bytes());
                }
            }
            length
        };
        self.stream.send(now, place, payload_type, None, reach, fill, out);
    }

    /// Whether an event belongs to a press that was masked: it began before the guard was left, or it goes on from one
    /// that did.
    fn is_withheld(&mut self, now: Instant, arrival: &Arrival, clock: u32, payload: &[u8]) -> bool {
        let Some(first) = blocks(payload).next() else { return true };
        let onset = self.event_position(now, arrival, clock, first.duration);
        let goes_on = self
            .withheld
            .is_some_and(|(code, at)| code == first.event && now.saturating_duration_since(at) < SAME_EVENT);
        let withheld = onset < self.withheld_before || goes_on;
        if withheld {
            self.withheld = Some((first.event, now));
        }
        withheld
    }

    /// Sends silence in the place of an event, as far as no audio has covered its time.
    fn silence_event(&mut self, now: Instant, arrival: &Arrival, payload: &[u8], out: &mut impl FnMut(Sent<'_>)) {
        let reach: u32 = blocks(payload).map(|block| u32::from(block.duration)).sum();
        let frame = self.sink.frame();
        let codec = self.codec.or(self.sink.audio.first().map(|(codec, _)| *codec));
        let Some((codec, payload_type)) = codec.and_then(|codec| Some((codec, self.sink.payload_type(codec)?))) else {
            return self.relay.leave_out(arrival);
        };
        let due = self
            .relay
            .time_of(arrival)
            .is_some_and(|begin| begin.wrapping_add(reach).wrapping_sub(self.stream.edge()) as i32 >= 0);
        if !due {
            return self.relay.leave_out(arrival);
        }
        let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
        let place = Place { timestamp: self.stream.edge(), marker: false, ..place };
        let fill = |room: &mut [u8]| {
            room[..frame].fill(encode(codec, 0));
            frame
        };
        self.stream.send(now, place, payload_type, Some(codec), frame as u32, fill, out);
    }

    /// When a packet of ours would follow the last one in step.
    pub(super) fn next_slot(&self, now: Instant) -> Instant {
        let step = span_of(self.sink.frame() as u64);
        self.stream.last_sent().map_or(now, |last| (last + step).clamp(now, now + step))
    }

    pub(super) fn key_while_relaying(&mut self, now: Instant, out: &mut impl FnMut(Sent<'_>)) {
        while let Some(due) = self.keyer_due.filter(|due| *due <= now) {
            if self.keyer.is_idle() || !self.sink.open {
                self.keyer.forget();
                self.keyer_due = None;
                self.relay.rebase();
                return;
            }
            let mut frame = [0i16; LONGEST];
            let length = self.sink.frame().min(LONGEST);
            self.fill_slot(now, &mut frame[..length], out);
            self.keyer_due = Some((due + span_of(length as u64)).max(now));
        }
    }

    /// Sends one packet of ours: the keyer's, or `frame` as it is.
    pub(super) fn fill_slot(&mut self, now: Instant, frame: &mut [i16], out: &mut impl FnMut(Sent<'_>)) {
        let length = frame.len() as u32;
        let edge = self.stream.resume_at(now);
        let codec = self.codec.or(self.sink.audio.first().map(|(codec, _)| *codec));
        let Some((codec, payload_type)) =
            codec.and_then(|codec| Some((codec, self.sink.payload_type(codec)?))).filter(|_| self.sink.open)
        else {
            // Time goes on for a sink that takes nothing now.
            self.keyer.forget();
            return self.stream.skip(now, length);
        };
        self.codec = Some(codec);
        let slot = self.keyer.slot(edge, self.sink.event.map(|(_, clock)| clock), frame);
        let sequence = self.stream.next_sequence();
        match (slot, self.sink.event) {
            (Slot::Event(timestamp, marker, bytes), Some((event_type, _))) => {
                let place = Place { sequence, timestamp, marker };
                let reach = edge.wrapping_add(length).wrapping_sub(timestamp);
                let fill = |room: &mut [u8]| {
                    room[..4].copy_from_slice(&bytes);
                    4
                };
                self.stream.send(now, place, event_type, None, reach, fill, out);
            }
            _ => {
                let place = Place { sequence, timestamp: edge, marker: false };
                let fill = |room: &mut [u8]| {
                    for (byte, sample) in room.iter_mut().zip(frame.iter()) {
                        *byte = encode(codec, *sample);
                    }
                    frame.len()
                };
                self.stream.send(now, place, payload_type, Some(codec), length, fill, out);
            }
        }
    }

    /// Lets the detector hear what is there.
    pub(super) fn hear(&mut self, now: Instant, needed: u64) {
        let Self { line, merger, .. } = self;
        line.hear(needed, &mut |named| merger.handle_inband(now, named.lag, named.digit));
    }

    /// Where an event began on the line.
    pub(super) fn event_position(&self, now: Instant, arrival: &Arrival, clock: u32, duration: u16) -> u64 {
        let known =
            (clock == 8_000).then(|| self.timeline.position_of(arrival.generation, arrival.timestamp)).flatten();
        // A timestamp far ahead of the audio's is of a clock that was set anew: it must not mask what comes for hours.
        let ahead = self.timeline.reached(now) + EVENT_AHEAD;
        known.map(|at| at.min(ahead)).unwrap_or_else(|| {
            let lasted = u64::from(duration) * 8_000 / u64::from(clock.max(1));
            self.timeline.reached(now).saturating_sub(lasted)
        })
    }

    /// Whether the mask is in force.
    pub fn is_guarded(&self) -> bool {
        matches!(self.mode, Mode::Guarded(_))
    }
}

pub(super) fn decode(codec: Codec, byte: u8) -> i16 {
    match codec {
        Codec::Pcmu => g711::ulaw_decode(byte),
        Codec::Pcma => g711::alaw_decode(byte),
    }
}

fn encode(codec: Codec, sample: i16) -> u8 {
    match codec {
        Codec::Pcmu => g711::ulaw_encode(sample),
        Codec::Pcma => g711::alaw_encode(sample),
    }
}
