//! A key on its way down and up: which tones it lays over the sound, which event packets it makes and when its INFO is
//! due. Times are samples of the sender's clock.

use super::Toward;
use crate::base::secret::Digit;
use crate::testkit::keys::{Form, Sent, frequencies};

/// Level of one tone of a pair: peak amplitude; about −13 dBm0, as telephones send.
pub const TONE_PEAK: f64 = 5_200.0;
/// How many times the last event packet is sent (RFC 4733 section 2.5.1.4).
pub(super) const END_PACKETS: usize = 3;

/// A planned key.
pub(super) struct Down {
    pub(super) sent: Sent,
    event: Option<EventRun>,
    /// When its INFO is due, until it has gone.
    info: Option<u64>,
}

struct EventRun {
    timestamp: u32,
    from: u64,
    started: bool,
    done: bool,
}

/// What one packet time sends of an event.
pub(super) struct Report {
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: [u8; 4],
    pub(super) copies: usize,
    /// The event stands in for the audio.
    pub(super) instead: bool,
}

fn samples(ms: u32) -> u64 {
    u64::from(ms) * 8
}

impl Down {
    pub(super) fn new(sent: Sent) -> Self {
        let info = match sent.press.form {
            Form::Info => Some(sent.end),
            Form::ToneAndInfo { offset_ms } => Some(sent.onset.saturating_add_signed(i64::from(offset_ms) * 8)),
            _ => None,
        };
        Self { sent, event: None, info }
    }

    /// Whether all of it has been sent by `to`.
    pub(super) fn is_over(&self, to: u64, toward: &Toward) -> bool {
        let events = self.sent.press.form.has_events() && toward.events.is_some();
        let pending = events && self.event.as_ref().map_or(self.event_end() > to, |run| !run.done);
        self.sent.end <= to && self.info.is_none() && !pending
    }

    /// The INFO that is due by `to`.
    pub(super) fn info_due(&mut self, to: u64) -> Option<(Digit, u32)> {
        self.info.take_if(|due| *due <= to)?;
        Some((self.sent.press.digit.clone(), self.sent.press.down_ms))
    }

    /// Lays the tone over the samples from `from`, where its form has one.
    pub(super) fn lay_tone(&self, gain: f64, from: u64, samples_of: &mut [i16]) {
        let Sent { press, onset, end, .. } = &self.sent;
        let end = match press.form {
            Form::Event | Form::EventWithoutEnd | Form::Info => return,
            Form::ToneThenEvent { lead_ms } => (*end).min(onset + samples(lead_ms)),
            Form::Tone | Form::ToneAndEvent | Form::ToneAndLateEvent { .. } | Form::ToneAndInfo { .. } => *end,
        };
        let (row, column) = frequencies(&press.digit);
        let waves = [(0, row), (1, column)].map(|(n, hz)| {
            let hz = hz * (1.0 + press.tone.offset[n] / 100.0);
            (TONE_PEAK * gain * press.tone.gain[n], hz * std::f64::consts::TAU / 8_000.0, press.tone.phase[n])
        });
        let hole = press.tone.hole.map_or(0..0, |(after, long)| onset + samples(after)..onset + samples(after + long));
        for (place, sample) in samples_of.iter_mut().enumerate() {
            let clock = from + place as u64;
            if clock < *onset || clock >= end || hole.contains(&clock) {
                continue;
            }
            let t = (clock - onset) as f64;
            let tone: f64 = waves.iter().map(|(peak, step, phase)| peak * (step * t + phase).sin()).sum();
            *sample = (f64::from(*sample) + tone).clamp(-32_768.0, 32_767.0) as i16;
        }
    }

    /// When the event begins.
    fn event_begin(&self) -> u64 {
        match self.sent.press.form {
            Form::ToneThenEvent { lead_ms } => self.sent.onset + samples(lead_ms),
            Form::ToneAndLateEvent { lag_ms } => self.sent.onset + samples(lag_ms),
            _ => self.sent.onset,
        }
    }

    fn event_end(&self) -> u64 {
        match self.sent.press.form {
            Form::ToneAndLateEvent { lag_ms } => self.sent.end + samples(lag_ms),
            _ => self.sent.end,
        }
    }

    /// What goes out of the event in the packet time from `from` to `to`, whose timestamp is `now`.
    pub(super) fn event(&mut self, now: u32, from: u64, to: u64, clock_rate: u32) -> Option<Report> {
        let form = self.sent.press.form;
        let instead = match form {
            Form::Event | Form::EventWithoutEnd | Form::ToneThenEvent { .. } => true,
            Form::ToneAndEvent | Form::ToneAndLateEvent { .. } => false,
            Form::Tone | Form::Info | Form::ToneAndInfo { .. } => return None,
        };
        let (begins, ends) = (self.event_begin(), self.event_end());
        // An event starts with the packet in which its key went down, and no sooner than its lead has sounded.
        let after_lead = matches!(form, Form::ToneThenEvent { .. });
        if to <= begins || begins >= ends || (from < begins && after_lead) {
            return None;
        }
        let run = self.event.get_or_insert(EventRun { timestamp: now, from, started: false, done: false });
        if run.done {
            return None;
        }
        let last = ends <= to;
        let long = if last { ends.max(run.from + 1) - run.from } else { to - run.from };
        let duration = (long * u64::from(clock_rate) / 8_000).min(0xffff) as u16;
        let marker = !run.started;
        (run.started, run.done) = (true, last);
        let says_end = last && form != Form::EventWithoutEnd;
        let [high, low] = duration.to_be_bytes();
        let payload = [self.sent.press.digit.expose_event(), if says_end { 0x8a } else { 0x0a }, high, low];
        let copies = if says_end { END_PACKETS } else { 1 };
        Some(Report { timestamp: run.timestamp, marker, payload, copies, instead })
    }
}
