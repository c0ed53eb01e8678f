//! Digits of ours in packet slots: replayed keys, and the one sign that stands for every masked key. Jobs go in; for
//! each packet that is due, out comes what it shall hold. One slot, one packet: cadence never changes.
//!
//! ```text
//!  slot     ┊ audio ┊ event ┊ event ┊ event E ┊ E again ┊ E again ┊ audio (pause) ┊ audio ┊ next job ...
//! duration             n       2n      3n
//! ```

use arrayvec::ArrayVec;

use crate::base::secret::Digit;
use crate::dsp::tone::{Tone, TwoTone};
use crate::dtmf::event::{Block, write};

/// Jobs kept; further ones are left out, for the sign of a key carries nothing.
const JOBS: usize = 16;
/// Shortest pause between two jobs, in samples (60 ms).
const PAUSE: u32 = 480;
/// The event that stands for every key: 0, the most harmless of them.
const SIGN: u8 = 0;
/// Length of the sign for a masked key, in samples (100 ms).
const SIGN_LENGTH: u32 = 800;
/// The flat tone, Hz: midway between the groups of Q.23, so that no receiver takes it for half a key.
const FLAT_HZ: f32 = 1_060.0;
/// Its level, and that of each tone of a replayed key, dBm0.
const FLAT_DBM0: f32 = -20.0;
const KEY_DBM0: f32 = -9.0;
/// Power in our events (RFC 4733 section 2.3.3), −dBm0.
const VOLUME: u8 = 10;
/// How often the last packet of an event is sent again (section 2.5.1.4).
const REPEATS: u8 = 2;

/// What to send.
pub(super) enum Job {
    /// A key, as it is, for this many samples.
    Key(Digit, u32),
    /// The sign that stands for any masked key: an event where that is possible.
    SubstituteSign,
    /// The sign that stands for any masked key, as a tone.
    ToneSign,
}

enum Running {
    Idle,
    /// Audio as usual, for this many samples.
    Pause(u32),
    Event {
        code: u8,
        /// Our timestamp of its begin; known with its first packet.
        timestamp: Option<u32>,
        done: u32,
        total: u32,
        repeats: u8,
    },
    Flat(Tone, u32),
    Pair(TwoTone, u32),
}

/// What a packet that is due shall hold.
pub(super) enum Slot {
    /// Whatever it would hold without us.
    Usual,
    /// An event packet: RTP timestamp, marker, payload.
    Event(u32, bool, [u8; 4]),
    /// Audio that has been written to the frame.
    Written,
}

/// Sends digits of ours into one stream.
pub(super) struct Keyer {
    jobs: ArrayVec<Job, JOBS>,
    running: Running,
}

impl Keyer {
    pub(super) fn new() -> Self {
        Self { jobs: ArrayVec::new(), running: Running::Idle }
    }

    /// Queues a job.
    pub(super) fn push(&mut self, job: Job) {
        let _ = self.jobs.try_push(job);
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && matches!(self.running, Running::Idle)
    }

    /// Whether the next packet is ours, or a pause between two of ours.
    pub(super) fn forget(&mut self) {
        self.jobs.clear();
        self.running = Running::Idle;
    }

    /// Decides on the next packet: `frame` samples, beginning at our timestamp `at`. `event_clock` is the sink's
    /// telephone-event clock in Hz, `None` where it takes no events.
    pub(super) fn slot(&mut self, at: u32, event_clock: Option<u32>, frame: &mut [i16]) -> Slot {
        let length = frame.len() as u32;
        if matches!(self.running, Running::Idle) && !self.jobs.is_empty() {
            self.running = begin(self.jobs.remove(0), event_clock.is_some(), length);
        }
        match &mut self.running {
            Running::Idle => Slot::Usual,
            Running::Pause(left) => {
                *left = left.saturating_sub(length);
                if *left == 0 {
                    self.running = Running::Idle;
                }
                Slot::Usual
            }
            Running::Event { code, timestamp, done, total, repeats } => {
                let marker = timestamp.is_none();
                let timestamp = *timestamp.get_or_insert(at);
                let again = *done >= *total;
                *repeats -= u8::from(again);
                *done = (*done + length).min(*total);
                let end = *done >= *total;
                let clock = event_clock.unwrap_or(8_000);
                let duration = u64::from(*done) * u64::from(clock) / 8_000;
                let duration = u16::try_from(duration).unwrap_or(u16::MAX);
                let payload = write(&Block { event: *code, end, volume: VOLUME, duration, offset: 0 });
                if end && *repeats == 0 {
                    self.running = Running::Pause(PAUSE);
                }
                Slot::Event(timestamp, marker, payload)
            }
            Running::Flat(tone, left) => {
                tone.fill(frame);
                *left = left.saturating_sub(length);
                if *left == 0 {
                    self.running = Running::Pause(PAUSE);
                }
                Slot::Written
            }
            Running::Pair(tones, left) => {
                tones.fill(frame);
                *left = left.saturating_sub(length);
                if *left == 0 {
                    self.running = Running::Pause(PAUSE);
                }
                Slot::Written
            }
        }
    }
}

fn begin(job: Job, events: bool, length: u32) -> Running {
    let whole = |samples: u32| samples.div_ceil(length) * length;
    let event = |code, samples| Running::Event {
        code,
        timestamp: None,
        done: 0,
        total: whole(samples).min(0xffff / length * length),
        repeats: REPEATS,
    };
    match job {
        Job::Key(digit, samples) if events => event(digit.expose_event(), samples),
        Job::Key(digit, samples) => Running::Pair(TwoTone::key(&digit, KEY_DBM0), whole(samples)),
        Job::SubstituteSign if events => event(SIGN, SIGN_LENGTH),
        Job::SubstituteSign | Job::ToneSign => Running::Flat(Tone::new(FLAT_HZ, FLAT_DBM0), whole(SIGN_LENGTH)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(keyer: &mut Keyer, events: bool) -> Vec<Option<(u32, bool, [u8; 4])>> {
        let mut frame = [0; 160];
        let mut all = Vec::new();
        let mut at = 1_000;
        while !keyer.is_idle() {
            let slot = keyer.slot(at, events.then_some(8_000), &mut frame);
            all.push(match slot {
                Slot::Event(timestamp, marker, payload) => Some((timestamp, marker, payload)),
                Slot::Written | Slot::Usual => None,
            });
            at += 160;
        }
        all
    }

    #[test]
    fn an_event_grows_packet_by_packet_and_its_end_is_sent_three_times() {
        let mut keyer = Keyer::new();
        let digit = Digit::from_char('7').expect("a key");
        keyer.push(Job::Key(digit, 480));
        let sent: Vec<_> = packets(&mut keyer, true).into_iter().flatten().collect();
        let of = |end: u8, duration: u16| [7, end | VOLUME, (duration >> 8) as u8, duration as u8];
        let expected = [of(0, 160), of(0, 320), of(0x80, 480), of(0x80, 480), of(0x80, 480)];
        assert_eq!(sent.iter().map(|(.., payload)| *payload).collect::<Vec<_>>(), expected);
        assert!(sent.iter().all(|(timestamp, ..)| *timestamp == 1_000));
        assert_eq!(sent.iter().filter(|(_, marker, _)| *marker).count(), 1);
    }

    #[test]
    fn the_sign_of_a_masked_key_is_always_the_same() {
        for events in [true, false] {
            let mut keyer = Keyer::new();
            keyer.push(Job::SubstituteSign);
            let first = packets(&mut keyer, events);
            keyer.push(Job::SubstituteSign);
            assert_eq!(first, packets(&mut keyer, events));
        }
    }

    #[test]
    fn two_jobs_have_a_pause_between_them() {
        let mut keyer = Keyer::new();
        keyer.push(Job::SubstituteSign);
        keyer.push(Job::SubstituteSign);
        let sent = packets(&mut keyer, true);
        assert_eq!(sent.iter().filter(|p| p.is_none()).count(), 6);
        assert!(sent[7..10].iter().all(Option::is_none));
    }

    #[test]
    fn jobs_are_bounded() {
        let mut keyer = Keyer::new();
        (0..100).for_each(|_| keyer.push(Job::ToneSign));
        assert_eq!(keyer.jobs.len(), JOBS);
    }
}
