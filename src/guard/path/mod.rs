//! One direction of a call, from what a leg sent to what the other leg is sent. Arrivals, orders and the time go in;
//! [`Sent`] packets and key presses come out. Unguarded, packets go on at once with their own bytes. Guarded, audio
//! goes through the delay line and leaves on our clock: one packet each packet time, all of one size and type, whatever
//! comes in; events and INFO never leave. It never sends a sample that has not been decided clean while guarded.
//!
//! ```text
//!              Masked                         order to open
//!   Relaying ─────────► Guarded ─────────────────────────────► Guarded, leaving ───► Relaying
//!                          ▲      order to mask                    │          when no digit sounds, none is
//!                          └───────────────────────────────────────┘          in the line, and it is quiet
//! ```

mod digits;
mod guarded;
mod hearing;
mod relaying;

use std::time::Instant;

use arrayvec::ArrayVec;
use rand::RngExt;

use super::clock::Clock;
use super::coder::{self, Ear, Voice};
use super::keyer::{Job, Keyer};
use super::line::Line;
use super::mask::Mask;
use super::masked::Masked;
use super::relay::{Arrival, Relay};
use super::splice::Heard;
use super::stream::{Sent, Sink, Stream};
use super::timeline::Timeline;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::base::time::soonest;
use crate::config::{Codec, MaskKind};
use crate::dsp::opus;
use crate::dtmf::event::Tracker;
use crate::dtmf::inband::Point;
use crate::dtmf::merge::Merger;

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
    /// When the key went down, as well as the forms tell.
    pub at: Instant,
    /// Whether the mask was in force for it.
    pub masked: bool,
}

/// Samples in the longest packet we generate: 60 ms.
const LONGEST: usize = 480;
/// Key presses kept for [`Path::poll_press`].
const PRESSES: usize = 16;

enum Mode {
    Relaying,
    Guarded(Guarded),
}

/// The guard in force.
struct Guarded {
    /// Since when; `None`: from the beginning.
    since: Option<Instant>,
    kind: MaskKind,
    /// When the order to open came.
    leaving: Option<Instant>,
    /// Runs from the first packet of the source on.
    clock: Option<Clock>,
    /// Samples of noise still to be put in before the line goes on.
    insert: u64,
}

impl Guarded {
    fn new(since: Option<Instant>, kind: MaskKind) -> Self {
        Self { since, kind, leaving: None, clock: None, insert: 0 }
    }
}

/// One direction of a call.
pub struct Path {
    order: Order,
    mode: Mode,
    sink: Sink,
    stream: Stream,
    relay: Relay,
    timeline: Timeline,
    line: Line,
    mask: Mask,
    /// What was relayed last, to be heard once more where delay is put in.
    heard: Heard,
    ear: Ear,
    voice: Voice,
    /// Somebody records what is sent.
    tapped: bool,
    /// What came last could be neither heard nor masked.
    foreign: bool,
    keyer: Keyer,
    /// When the next packet of the keyer is due while relaying.
    keyer_due: Option<Instant>,
    tracker: Tracker,
    merger: Merger,
    presses: ArrayVec<Pressed, PRESSES>,
    /// The codec sent last, kept while guarded.
    codec: Option<Codec>,
    /// The last guarded stretch that is over: from, to.
    guarded: Option<(Option<Instant>, Instant)>,
    /// Events that began before this position were withheld, and stay so.
    withheld_before: u64,
    /// Audio before this position belongs to the guarded stretch: it came too late for the line and is never relayed.
    open_from: u64,
    /// The event withheld last while relaying: its code, and when.
    withheld: Option<(u8, Instant)>,
    /// An event of a clock other than the audio's: its timestamp, and ours.
    foreign_event: Option<(u32, u32)>,
    /// What has been laid and not been heard.
    waiting: Option<hearing::Waiting>,
}

impl Path {
    /// A path that sends nothing yet.
    pub fn new(random: &mut Random, order: Order) -> Self {
        let timeline = Timeline::new();
        let mut line = Line::new();
        let (mode, point) = match order {
            Order::Masked(kind) => (Mode::Guarded(Guarded::new(None, kind)), Point::Armed),
            _ => (Mode::Relaying, Point::Unarmed),
        };
        line.restart(timeline.edge(), point);
        Self {
            order,
            mode,
            sink: Sink::closed(),
            stream: Stream::new(random),
            relay: Relay::new(),
            timeline,
            line,
            mask: Mask::new(random.random()),
            heard: Heard::new(),
            ear: Ear::new(),
            voice: Voice::new(),
            tapped: false,
            foreign: false,
            keyer: Keyer::new(),
            keyer_due: None,
            tracker: Tracker::new(),
            merger: Merger::new(),
            presses: ArrayVec::new(),
            codec: None,
            guarded: None,
            withheld_before: 0,
            open_from: 0,
            withheld: None,
            foreign_event: None,
            waiting: None,
        }
    }

    /// Our stream toward the sink, for reports.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Makes room for the codecs the source may use.
    pub fn set_source(&mut self, codecs: impl Iterator<Item = Codec>) {
        self.hear_waiting();
        for codec in codecs {
            self.ear.prepare(codec);
            if codec.is_wide() {
                self.line.widen();
            }
        }
    }

    /// Whether what is sent is recorded, and so has to be known as sound.
    pub fn set_tapped(&mut self, tapped: bool) {
        self.tapped = tapped;
    }

    /// Replaces what the sink takes. A guard in force stays in force.
    pub fn set_sink(&mut self, sink: Sink) {
        if let Mode::Guarded(Guarded { clock: Some(clock), .. }) = &mut self.mode {
            clock.set_frame(sink.frame());
        }
        for (codec, _) in &sink.audio {
            self.voice.prepare(*codec, if sink.opus_bitrate == 0 { opus::BITRATE } else { sink.opus_bitrate });
        }
        self.codec = self.codec.filter(|codec| sink.payload_type(*codec).is_some());
        self.sink = sink;
    }

    /// Replaces the order. An order to mask is in force when this returns: nothing leaves any more but what has been
    /// through the line. An order to open is carried out when no digit can slip through.
    pub fn set_order(&mut self, now: Instant, order: Order) {
        self.hear_waiting();
        let before = std::mem::replace(&mut self.order, order);
        match (&mut self.mode, order) {
            (Mode::Guarded(guarded), Order::Masked(kind)) => {
                guarded.kind = kind;
                guarded.leaving = None;
            }
            (Mode::Guarded(guarded), Order::Open | Order::Listen | Order::Withhold) => {
                guarded.leaving.get_or_insert(now);
                if guarded.clock.is_none() {
                    // Nothing has come yet.
                    self.leave(now);
                }
            }
            (Mode::Relaying, Order::Masked(kind)) => self.enter(now, kind, before == Order::Listen),
            (Mode::Relaying, Order::Listen) if before != Order::Listen => {
                self.line.restart(self.timeline.edge(), Point::Unarmed);
            }
            (Mode::Relaying, Order::Open | Order::Listen | Order::Withhold) => {}
        }
    }

    /// Whether the mask is in force, or not yet safely gone.
    fn is_guarding(&self) -> bool {
        match (&self.mode, self.order) {
            (Mode::Relaying, Order::Open | Order::Listen | Order::Withhold) => false,
            (Mode::Relaying, Order::Masked(_)) | (Mode::Guarded(_), _) => true,
        }
    }

    /// A datagram that nobody here can read (fax), for the sink as it is; `None` while the mask is in force.
    pub fn pass<'a>(&mut self, datagram: &'a [u8]) -> Option<Masked<&'a [u8]>> {
        self.foreign = true;
        (!self.is_guarding()).then(|| Masked::new(datagram))
    }

    /// Takes audio of the source. A redundant copy (not `primary`) fills what is missing in the line, no more. What is to be
    /// heard of it waits: call [`Path::hear_waiting`], or let it be heard together with others.
    pub fn handle_audio(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        codec: Codec,
        payload: &[u8],
        primary: bool,
        out: &mut impl FnMut(Sent<'_>),
    ) {
        self.hear_waiting();
        if primary {
            self.foreign = !codec.can_be_masked();
        }
        if self.foreign && primary {
            return self.handle_foreign(now, arrival, codec, payload, out);
        }
        if coder::length(codec, payload) == 0 {
            return self.leave_out(arrival);
        }
        if !codec.is_wide() && primary {
            self.ear.pass(arrival);
        }
        match (&self.mode, primary) {
            (Mode::Relaying, true) => self.relay_audio(now, arrival, codec, payload, out),
            (Mode::Guarded(_), _) => self.guard_audio(now, arrival, codec, payload, primary),
            (Mode::Relaying, false) => {}
        }
    }

    /// Takes an event payload of the source `ssrc`; `clock` in Hz. Redundant copies (not `primary`) count for what they
    /// tell, but are never sent on.
    #[allow(clippy::too_many_arguments)]
    pub fn handle_event(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        ssrc: u32,
        clock: u32,
        payload: &[u8],
        primary: bool,
        out: &mut impl FnMut(Sent<'_>),
    ) {
        self.hear_waiting();
        self.hear_event(now, arrival, ssrc, clock, payload);
        if primary {
            self.ear.pass(arrival);
        }
        match (&self.mode, primary) {
            (Mode::Relaying, true) => self.relay_event(now, arrival, clock, payload, out),
            (Mode::Guarded(_), _) => self.guard_event(now, arrival, clock, payload),
            (Mode::Relaying, false) => {}
        }
    }

    /// Takes a packet of a codec that is known by name only: it passes or it does not.
    fn handle_foreign(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        codec: Codec,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        self.ear.pass(arrival);
        match &self.mode {
            Mode::Relaying => self.relay_foreign(now, arrival, codec, payload, out),
            Mode::Guarded(guarded) => {
                // What the sink hears instead runs on our clock, as ever.
                if guarded.clock.is_none() {
                    self.start_clock(now);
                }
            }
        }
    }

    /// Takes comfort noise of the source (RFC 3389): a pause in its audio, of which nothing goes on while guarded.
    pub fn handle_comfort_noise(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        payload: &[u8],
        out: &mut impl FnMut(Sent<'_>),
    ) {
        self.hear_waiting();
        self.ear.pass(arrival);
        if let Mode::Relaying = self.mode {
            self.relay_comfort_noise(now, arrival, payload, out);
        }
    }

    /// Takes note of a packet that is not for the sink at all.
    pub fn leave_out(&mut self, arrival: &Arrival) {
        self.ear.pass(arrival);
        self.relay.leave_out(arrival);
    }

    /// Sends a digit to the sink: an event where it takes events, else its tones. Other media to it rests meanwhile.
    pub fn send_digit(&mut self, now: Instant, digit: Digit, duration_ms: u32) {
        let samples = duration_ms.clamp(40, 8_000) * 8;
        self.keyer.push(Job::Key(digit, samples));
        if matches!(self.mode, Mode::Relaying) && self.keyer_due.is_none() {
            self.keyer_due = Some(self.next_slot(now));
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl FnMut(Sent<'_>)) {
        self.hear_waiting();
        match self.mode {
            Mode::Relaying => self.key_while_relaying(now, out),
            Mode::Guarded(_) => self.send_guarded(now, out),
        }
        self.merger.handle_timeout(now);
        self.drain_presses();
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.mode {
            Mode::Relaying => self.keyer_due,
            Mode::Guarded(guarded) => guarded.clock.as_ref().map(Clock::due),
        };
        soonest(own, self.merger.poll_timeout())
    }

    /// The next key press to report.
    pub fn poll_press(&mut self) -> Option<Pressed> {
        self.presses.pop_at(0)
    }
}
