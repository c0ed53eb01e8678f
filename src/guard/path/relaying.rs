//! The path while it relays: payload bytes go on as they came, at once; only their place is ours. Also here: digits
//! that are sent by us in between, and events that are withheld.

use std::time::Instant;

use super::{LONGEST, Mode, Order, Path};
use crate::config::Codec;
use crate::dtmf::event::blocks;
use crate::guard::coder::{self, Turn};
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
        let length = coder::length(codec, payload);
        let position = self.timeline.locate(now, arrival, length);
        if position < self.open_from {
            return self.relay.leave_out(arrival);
        }
        let target = self.target(codec);
        let same = target.is_none_or(|(to, _)| to == codec);
        // What nobody listens to need not be known as sound, if finding out is dear.
        let heard = codec != Codec::Opus || !same || self.tapped || self.order != Order::Open;
        let turn = if heard { self.ear.turn(arrival, codec) } else { Turn::Late };
        if turn != Turn::Late {
            self.ear.decode(arrival, codec, payload);
            if self.order == Order::Listen {
                self.line.reach(position);
                self.line.lay(position, self.ear.low(), &[]);
                self.hear_later(now, self.timeline.edge());
            } else {
                self.mask.learn(self.ear.low());
            }
            self.heard.note(position, self.ear.low());
        }
        let Some((to, payload_type)) = target else { return self.relay.leave_out(arrival) };
        self.codec = Some(to);
        if same {
            let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
            let sound = if turn == Turn::Late { &[] } else { self.ear.low() };
            let fill = |room: &mut [u8]| {
                let length = payload.len().min(MAX_PAYLOAD);
                room[..length].copy_from_slice(&payload[..length]);
                length
            };
            self.voice.rest();
            self.stream.send(now, place, payload_type, Some(codec), length as u32, sound, fill, out);
        } else if turn != Turn::Late {
            self.transcode(now, arrival, (to, payload_type), out);
        }
    }

    /// Sends what was heard last in another codec.
    fn transcode(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        (to, payload_type): (Codec, u8),
        out: &mut impl FnMut(Sent<'_>),
    ) {
        self.voice.take_up(to, &self.ear);
        let Self { ear, voice, relay, stream, sink, .. } = self;
        if to != Codec::Opus {
            let Some(place) = relay.place(now, arrival, stream) else { return };
            let (low, high) = (ear.low(), ear.high());
            let fill = |room: &mut [u8]| voice.encode(to, low, high, room);
            return stream.send(now, place, payload_type, Some(to), low.len() as u32, low, fill, out);
        }
        // Opus has frames of its own lengths, and ours are all of one: what does not fill it waits for the next packet.
        let frame = sink.frame();
        let waited = voice.queued();
        voice.queue(ear.low(), ear.high());
        let mut sent = None;
        while voice.queued() >= frame {
            let next = match sent {
                Some(Place { sequence, timestamp, .. }) => Place { sequence: sequence + 1, timestamp, marker: false },
                None => {
                    let Some(place) = relay.place(now, arrival, stream) else { return };
                    Place { timestamp: place.timestamp.wrapping_sub(waited as u32), ..place }
                }
            };
            let fill = |room: &mut [u8]| voice.encode_queued(frame, room);
            // The recorder lays the packet's sound where it came in; what waited is a few milliseconds.
            let sound = if sent.is_none() { ear.low() } else { &[] };
            stream.send(now, next, payload_type, Some(to), frame as u32, sound, fill, out);
            if sent.is_some() {
                relay.put_in();
            }
            sent = Some(Place { timestamp: next.timestamp.wrapping_add(frame as u32), ..next });
        }
        if sent.is_none() {
            relay.leave_out(arrival);
        }
    }

    /// Sends on what can be neither heard nor masked, where the sink takes it.
    pub(super) fn relay_foreign(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        codec: Codec,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let format = self.sink.payload_type(codec).filter(|_| self.sink.open && self.keyer_due.is_none());
        let Some(payload_type) = format else { return self.relay.leave_out(arrival) };
        self.relay_bytes(now, arrival, payload_type, Some(codec), payload, out);
    }

    pub(super) fn relay_comfort_noise(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let format = self.sink.comfort_noise.filter(|_| self.sink.open && self.keyer_due.is_none());
        let Some(payload_type) = format else { return self.relay.leave_out(arrival) };
        self.relay_bytes(now, arrival, payload_type, None, payload, out);
    }

    /// Sends a payload on whose length in time nobody knows.
    fn relay_bytes(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        payload_type: u8,
        codec: Option<Codec>,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
        self.voice.rest();
        let fill = |room: &mut [u8]| {
            let length = payload.len().min(MAX_PAYLOAD);
            room[..length].copy_from_slice(&payload[..length]);
            length
        };
        self.stream.send(now, place, payload_type, codec, 0, &[], fill, out);
    }

    /// Codec and payload type for audio that came as `codec`; `None` when nothing may be sent now.
    fn target(&self, codec: Codec) -> Option<(Codec, u8)> {
        if !self.sink.open || self.keyer_due.is_some() {
            return None;
        }
        let same = self.sink.payload_type(codec).map(|payload_type| (codec, payload_type));
        same.or_else(|| self.sink.own())
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
        if !arrival.in_step && !self.relay.knows(arrival) {
            // Its timestamps say nothing of the audio's: wait for audio to fix the map.
            return;
        }
        let Some(mut place) = self.relay.place(now, arrival, &self.stream) else { return };
        if !arrival.in_step {
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
        self.stream.send(now, place, payload_type, None, reach, &[], fill, out);
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
        let Some((codec, payload_type)) = self.own_format() else { return self.relay.leave_out(arrival) };
        let due = self
            .relay
            .time_of(arrival)
            .is_some_and(|begin| begin.wrapping_add(reach).wrapping_sub(self.stream.edge()) as i32 >= 0);
        if !due {
            return self.relay.leave_out(arrival);
        }
        let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
        let place = Place { timestamp: self.stream.edge(), marker: false, ..place };
        self.voice.take_up(codec, &self.ear);
        let Self { voice, stream, .. } = self;
        let silence = &[0; LONGEST][..frame.min(LONGEST)];
        let fill = |room: &mut [u8]| voice.encode(codec, silence, &[], room);
        stream.send(now, place, payload_type, Some(codec), frame as u32, silence, fill, out);
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
            self.fill_slot(now, &mut frame[..length], &mut [], out);
            self.keyer_due = Some((due + span_of(length as u64)).max(now));
        }
    }

    /// The format of what we generate: the one in use, else the first the sink takes.
    pub(super) fn own_format(&self) -> Option<(Codec, u8)> {
        let in_use = self.codec.and_then(|codec| Some((codec, self.sink.payload_type(codec)?)));
        in_use.or_else(|| self.sink.own())
    }

    /// Sends one packet of ours: the keyer's, or `frame` with what is above it as it is.
    pub(super) fn fill_slot(
        &mut self,
        now: Instant,
        frame: &mut [i16],
        high: &mut [[i16; 2]],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        let length = frame.len() as u32;
        let edge = self.stream.resume_at(now);
        let Some((codec, payload_type)) = self.own_format().filter(|_| self.sink.open) else {
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
                self.stream.send(now, place, event_type, None, reach, &[], fill, out);
            }
            (slot, _) => {
                if let Slot::Written = slot {
                    high.fill([0; 2]);
                }
                let place = Place { sequence, timestamp: edge, marker: false };
                self.voice.take_up(codec, &self.ear);
                let Self { voice, stream, .. } = self;
                let fill = |room: &mut [u8]| voice.encode(codec, frame, high, room);
                stream.send(now, place, payload_type, Some(codec), length, frame, fill, out);
            }
        }
    }

    /// Lets the detector hear what is there.
    pub(super) fn hear(&mut self, now: Instant, needed: u64) {
        let Self { line, merger, .. } = self;
        line.hear(needed, &mut |named| merger.handle_inband(now, named.lag, named.place, named.digit));
    }

    /// Where an event began on the line.
    pub(super) fn event_position(&self, now: Instant, arrival: &Arrival, clock: u32, duration: u16) -> u64 {
        let known = arrival.in_step.then(|| self.timeline.position_of(arrival.generation, arrival.at)).flatten();
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
