//! One direction of a call, from what a leg sent to what the other leg is sent.

use std::time::Instant;

use super::relay::{Arrival, Relay};
use super::stream::{MAX_PAYLOAD, Sent, Sink, Stream};
use crate::base::Random;
use crate::base::secret::Digit;
use crate::config::{Codec, MaskKind};

/// What a path does with digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Digits pass.
    Open,
    /// Digits pass and are reported.
    Listen,
    /// Digits in events are withheld and reported; tones pass.
    Withhold,
    /// Digits are masked and reported.
    Masked(MaskKind),
}

/// A key press as the path reports it.
#[derive(Debug)]
pub struct Pressed {
    /// Key.
    pub digit: Digit,
    /// Whether the mask was in force for it.
    pub masked: bool,
}

/// One direction of a call.
pub struct Path {
    order: Order,
    sink: Sink,
    stream: Stream,
    relay: Relay,
}

impl Path {
    /// A path that sends nothing yet.
    pub fn new(random: &mut Random, order: Order) -> Self {
        Self { order, sink: Sink::closed(), stream: Stream::new(random), relay: Relay::new() }
    }

    /// Our stream toward the sink, for reports.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Replaces what the sink takes.
    pub fn set_sink(&mut self, _now: Instant, sink: Sink) {
        self.sink = sink;
    }

    /// Replaces the order.
    pub fn set_order(&mut self, _now: Instant, order: Order) {
        self.order = order;
    }

    /// Takes audio of the source.
    pub fn handle_audio(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        codec: Codec,
        payload: &[u8],
        primary: bool,
        out: &mut impl FnMut(Sent<'_>),
    ) {
        if !primary || matches!(self.order, Order::Masked(_)) || !self.sink.open {
            return;
        }
        let Some((to, payload_type)) = self.target(codec) else { return };
        let Some(place) = self.relay.place(now, arrival, &self.stream) else { return };
        let fill = |room: &mut [u8]| {
            let length = payload.len().min(MAX_PAYLOAD);
            room[..length].copy_from_slice(&payload[..length]);
            length
        };
        self.stream.send(now, place, payload_type, Some(to), payload.len() as u32, fill, out);
    }

    fn target(&self, codec: Codec) -> Option<(Codec, u8)> {
        let same = self.sink.payload_type(codec).map(|payload_type| (codec, payload_type));
        same.or_else(|| self.sink.audio.first().copied())
    }

    /// Takes an event payload of the source, `clock` in Hz.
    #[allow(clippy::too_many_arguments)]
    pub fn handle_event(
        &mut self,
        _now: Instant,
        arrival: &Arrival,
        _ssrc: u32,
        _clock: u32,
        _payload: &[u8],
        _primary: bool,
        _out: &mut impl FnMut(Sent<'_>),
    ) {
        self.relay.leave_out(arrival);
    }

    /// Takes note of a packet that is not for the sink at all.
    pub fn leave_out(&mut self, arrival: &Arrival) {
        self.relay.leave_out(arrival);
    }

    /// Takes a digit that came by SIP INFO.
    pub fn handle_info(&mut self, _now: Instant, _digit: Digit, _duration_ms: u32) {}

    /// Sends a digit to the sink.
    pub fn send_digit(&mut self, _now: Instant, _digit: Digit, _duration_ms: u32) {}

    /// Lets time pass.
    pub fn handle_timeout(&mut self, _now: Instant, _out: &mut impl FnMut(Sent<'_>)) {}

    /// When time must pass next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next key press.
    pub fn poll_press(&mut self) -> Option<Pressed> {
        None
    }
}
