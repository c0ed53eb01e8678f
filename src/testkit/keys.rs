//! Key presses as a peer makes them: which key, in which form or mix of forms, how long. A plan of them goes in, laid
//! out on the sender's media clock; [`super::rtp_peer::RtpPeer`] and [`super::ua::UserAgent`] put them on the wire.
//!
//! ```text
//! form              audio packets                 event packets            INFO
//! Tone              ▁▁▁██████▁▁▁
//! Event             ▁▁▁      ▁▁▁ (none meanwhile)    ······EEE
//! EventWithoutEnd   ▁▁▁      ▁▁▁ (none meanwhile)    ······
//! ToneThenEvent     ▁▁▁██    ▁▁▁                       ····EEE
//! ToneAndEvent      ▁▁▁██████▁▁▁                     ······EEE
//! ToneAndLateEvent  ▁▁▁██████▁▁▁                        ······EEE
//! Info              ▁▁▁▁▁▁▁▁▁▁▁▁                                            one at the end
//! ToneAndInfo       ▁▁▁██████▁▁▁                                            one, before, within or after
//! ```

use rand::RngExt;

use crate::base::Random;
use crate::base::secret::Digit;

/// How a key press travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In-band tones only.
    Tone,
    /// RFC 4733 events only; no audio packets meanwhile.
    Event,
    /// A gateway that lets the first `lead_ms` of the tone through before its detector starts the event.
    ToneThenEvent {
        /// Audible tone before the event, in ms.
        lead_ms: u32,
    },
    /// A gateway that sends tones and events together.
    ToneAndEvent,
    /// SIP INFO only.
    Info,
    /// Tones, and the event behind them: it begins and ends so much later.
    ToneAndLateEvent {
        /// The event behind the tone, in ms.
        lag_ms: u32,
    },
    /// Tones, and an INFO at some time around them.
    ToneAndInfo {
        /// From the key's onset to the INFO, in ms; negative when the INFO goes first.
        offset_ms: i32,
    },
    /// RFC 4733 events that never end: no packet carries the end bit.
    EventWithoutEnd,
}

impl Form {
    /// Whether the key is in the audio.
    pub fn sounds(self) -> bool {
        !matches!(self, Form::Event | Form::EventWithoutEnd | Form::Info)
    }

    /// Whether the key is in event packets.
    pub fn has_events(self) -> bool {
        !matches!(self, Form::Tone | Form::Info | Form::ToneAndInfo { .. })
    }

    /// Whether the key is in an INFO.
    pub fn has_info(self) -> bool {
        matches!(self, Form::Info | Form::ToneAndInfo { .. })
    }
}

/// How the two tones of a key press sound; the default is a good telephone's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Amplitude of row and column as factors of the usual.
    pub gain: [f64; 2],
    /// Deviation of row and column from their frequencies, in percent.
    pub offset: [f64; 2],
    /// Phase of row and column at the onset, in radians.
    pub phase: [f64; 2],
    /// An interruption: ms from the onset to it, and its length in ms.
    pub hole: Option<(u32, u32)>,
}

impl Default for Tone {
    fn default() -> Self {
        Self { gain: [1.0; 2], offset: [0.0; 2], phase: [0.0; 2], hole: None }
    }
}

/// One key press.
#[derive(Clone)]
pub struct KeyPress {
    /// Key.
    pub digit: Digit,
    /// Form on the wire.
    pub form: Form,
    /// Key-down time in ms.
    pub down_ms: u32,
    /// Pause after it in ms.
    pub gap_ms: u32,
    /// Its tones, where its form has any.
    pub tone: Tone,
}

/// The key presses of the characters of `text` (`0`–`9`, `*`, `#`, `A`–`D`; others are left out), all alike.
pub fn typed(text: &str, form: Form, down_ms: u32, gap_ms: u32) -> Vec<KeyPress> {
    let press = |digit| KeyPress { digit, form, down_ms, gap_ms, tone: Tone::default() };
    text.chars().filter_map(Digit::from_char).map(press).collect()
}

/// `count` random digits 0–9, each `down_ms` long with a pause of `gap_ms`, both drawn from their ranges.
pub fn random_digits(
    random: &mut Random,
    count: usize,
    form: Form,
    down_ms: std::ops::RangeInclusive<u32>,
    gap_ms: std::ops::RangeInclusive<u32>,
) -> Vec<KeyPress> {
    (0..count)
        .filter_map(|_| {
            let digit = Digit::from_event(random.random_range(0..10))?;
            Some(KeyPress {
                digit,
                form,
                down_ms: random.random_range(down_ms.clone()),
                gap_ms: random.random_range(gap_ms.clone()),
                tone: Tone::default(),
            })
        })
        .collect()
}

/// A key press as it was sent: what an attacker with the best knowledge would know of its place.
#[derive(Clone)]
pub struct Sent {
    /// The key press.
    pub press: KeyPress,
    /// First sample of the key on the sender's media clock (8 kHz, from the start of its stream).
    pub onset: u64,
    /// The sample after the last.
    pub end: u64,
    /// Its event packets: sent, and not lost on the peer's own line.
    pub events: [u32; 2],
}

/// Keypad rows and columns in Hz (ITU-T Q.23).
const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];

/// The row and column frequency of a key in Hz (ITU-T Q.23).
pub fn frequencies(digit: &Digit) -> (f64, f64) {
    let (row, column) = match digit.expose_event() {
        0 => (3, 1),
        10 => (3, 0),
        11 => (3, 2),
        letter @ 12..=15 => (usize::from(letter) - 12, 3),
        number => ((usize::from(number) - 1) / 3, (usize::from(number) - 1) % 3),
    };
    (ROWS[row], COLUMNS[column])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keypad_is_laid_out_as_q23_says() {
        let of = |c| frequencies(&Digit::from_char(c).unwrap());
        assert_eq!(of('1'), (697.0, 1209.0));
        assert_eq!(of('5'), (770.0, 1336.0));
        assert_eq!(of('9'), (852.0, 1477.0));
        assert_eq!(of('*'), (941.0, 1209.0));
        assert_eq!(of('0'), (941.0, 1336.0));
        assert_eq!(of('#'), (941.0, 1477.0));
        assert_eq!(of('A'), (697.0, 1633.0));
        assert_eq!(of('D'), (941.0, 1633.0));
    }

    #[test]
    fn what_is_not_a_key_is_left_out() {
        assert_eq!(typed("42 42-x#", Form::Tone, 80, 80).len(), 5);
    }
}
