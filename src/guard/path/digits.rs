//! What the path makes of digits: events and INFO are heard whatever the order, presses are reported when somebody
//! asked for them, and each masked press is shown by the sign that the mask has for it.

use std::time::Instant;

use super::{Guarded, Mode, Order, Path, Pressed};
use crate::base::secret::Digit;
use crate::config::MaskKind;
use crate::dtmf::event::{EventPacket, Tracker};
use crate::dtmf::merge::{Form, Moment, Press};
use crate::guard::keyer::Job;
use crate::guard::relay::Arrival;

impl Path {
    /// Takes events into the account of presses, in every mode: a press begun before an order is known after it.
    pub(super) fn hear_event(&mut self, now: Instant, arrival: &Arrival, ssrc: u32, clock: u32, payload: &[u8]) {
        let packet = EventPacket { ssrc, timestamp: arrival.timestamp, clock_hz: clock, payload };
        let began = arrival.in_step.then(|| self.timeline.position_of(arrival.generation, arrival.at)).flatten();
        let Self { tracker, merger, .. } = self;
        Tracker::handle(tracker, now, &packet, |press| {
            let offset = u64::from(press.offset) * 8_000 / u64::from(clock.max(1));
            let onset = Moment { at: press.onset, place: began.map(|began| began + offset) };
            merger.handle_event(now, onset, press.digit);
        });
        self.drain_presses();
    }

    /// Takes a digit that came by SIP INFO; `duration_ms` is how long the key was down, 0 if unsaid.
    pub fn handle_info(&mut self, now: Instant, digit: Digit, duration_ms: u32) {
        self.hear_waiting();
        if let Mode::Guarded(_) = self.mode {
            // The key's tone, if there is one, is near: an INFO comes up to half a second before or after it.
            let reached = self.timeline.reached(now);
            self.line.shade(reached, u64::from(duration_ms.min(500)) * 8, true, reached);
        }
        self.merger.handle_info(now, digit);
        self.drain_presses();
    }

    pub(super) fn drain_presses(&mut self) {
        while let Some(press) = self.merger.poll_press() {
            let masked = self.was_masked(&press);
            if let (Mode::Guarded(Guarded { kind, .. }), true) = (&self.mode, masked) {
                match kind {
                    MaskKind::Tone => self.keyer.push(Job::ToneSign),
                    MaskKind::Substitute => self.keyer.push(Job::SubstituteSign),
                    MaskKind::Silence | MaskKind::ComfortNoise => {}
                }
            }
            let wanted = masked || self.order != Order::Open;
            if wanted && self.presses.is_full() {
                // Nobody asks: keep the newest.
                self.presses.remove(0);
            }
            if wanted {
                self.presses.push(Pressed { digit: press.digit, at: press.onset, masked });
            }
        }
    }

    /// Whether the mask was in force when a key went down.
    fn was_masked(&self, press: &Press) -> bool {
        let within = |since: Option<Instant>| since.is_none_or(|since| press.onset >= since);
        match &self.mode {
            Mode::Guarded(guarded) if within(guarded.since) => true,
            _ => {
                let before = self.guarded.is_some_and(|(since, until)| within(since) && press.onset < until);
                before || (self.order == Order::Withhold && press.first != Form::Inband)
            }
        }
    }
}
