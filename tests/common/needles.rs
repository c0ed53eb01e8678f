//! What must stand in no file: speech in each form it could be written in, and the digits of a card. What was spoken and
//! keyed goes in; bytes are looked through at every offset, also for one channel of interleaved stereo.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tonewall::dsp::g711::{alaw_decode, alaw_encode, ulaw_decode, ulaw_encode};

/// Samples between two needles: speech that lies bare for 5 ms has one.
const STEP: usize = 40;

/// Eight bytes each, told apart from everything else by a table of bits first.
#[derive(Default)]
struct Set {
    bits: Vec<u64>,
    sorted: Vec<u64>,
}

impl Set {
    fn bit(needle: u64) -> (usize, u64) {
        let at = (needle.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize;
        (at / 64, 1 << (at % 64))
    }

    fn new(mut needles: Vec<u64>) -> Self {
        needles.sort_unstable();
        needles.dedup();
        let mut bits = vec![0; (1 << 20) / 64];
        for needle in &needles {
            let (at, bit) = Self::bit(*needle);
            bits[at] |= bit;
        }
        Self { bits, sorted: needles }
    }

    fn has(&self, needle: u64) -> bool {
        let (at, bit) = Self::bit(needle);
        self.bits[at] & bit != 0 && self.sorted.binary_search(&needle).is_ok()
    }
}

/// What must not be found.
pub struct Needles {
    speech: Set,
    /// Eight digits in a row, of which twelve make a find.
    digits: Set,
    /// A whole card in eight bytes.
    packed: Set,
}

fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

impl Needles {
    /// Needles of these lines and cards of sixteen digits.
    pub fn new(lines: &[Vec<i16>], cards: &[&str]) -> Self {
        let mut speech = Vec::new();
        for line in lines {
            for at in (0..line.len().saturating_sub(8)).step_by(STEP) {
                let window = &line[at..at + 8];
                let loud = window.iter().filter(|sample| sample.unsigned_abs() > 200).count();
                if loud < 6 || window.windows(2).any(|pair| pair[0] == pair[1]) {
                    // A pause, or what could stand anywhere.
                    continue;
                }
                let laws: [fn(i16) -> u8; 2] = [ulaw_encode, alaw_encode];
                for law in laws {
                    speech.push(eight(&window.iter().map(|sample| law(*sample)).collect::<Vec<u8>>()));
                }
                let forms: [fn(i16) -> i16; 3] =
                    [|s| s, |s| ulaw_decode(ulaw_encode(s)), |s| alaw_decode(alaw_encode(s))];
                for form in forms {
                    let four = window[..4].iter().map(|sample| form(*sample));
                    speech.push(eight(&four.clone().flat_map(i16::to_le_bytes).collect::<Vec<u8>>()));
                    speech.push(eight(&four.flat_map(i16::to_be_bytes).collect::<Vec<u8>>()));
                }
            }
        }
        let (mut digits, mut packed) = (Vec::new(), Vec::new());
        for card in cards {
            let values: Vec<u8> = card.bytes().map(|digit| digit - b'0').collect();
            digits.extend(card.as_bytes().windows(8).chain(values.windows(8)).map(eight));
            packed.push(eight(&values.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()));
            packed.push(eight(&values.chunks(2).map(|pair| pair[1] << 4 | pair[0]).collect::<Vec<u8>>()));
        }
        Self { speech: Set::new(speech), digits: Set::new(digits), packed: Set::new(packed) }
    }

    /// How many needles of speech there are.
    pub fn count(&self) -> usize {
        self.speech.sorted.len()
    }

    /// What of it stands in `bytes`, and where.
    pub fn find(&self, bytes: &[u8]) -> Option<(&'static str, usize)> {
        // Four digits before: whether eight in a row ended there.
        let mut row = [false; 4];
        let mut last = 0u64;
        for (at, byte) in bytes.iter().enumerate() {
            last = last >> 8 | u64::from(*byte) << 56;
            if at < 7 {
                continue;
            }
            if self.speech.has(last) {
                return Some(("speech", at));
            }
            if self.packed.has(last) {
                return Some(("a card, two digits a byte", at));
            }
            let eight = self.digits.has(last);
            if eight && row[at % 4] {
                return Some(("twelve digits of a card", at));
            }
            row[at % 4] = eight;
        }
        for phase in 0..4.min(bytes.len()) {
            let mut last = 0u64;
            for (at, four) in bytes[phase..].chunks_exact(4).enumerate() {
                last = last >> 16 | u64::from(four[0]) << 48 | u64::from(four[1]) << 56;
                if at >= 3 && self.speech.has(last) {
                    return Some(("speech of one channel", phase + 4 * at));
                }
            }
        }
        None
    }
}

/// Files below some directories, as they were when they were last looked through.
#[derive(Default)]
pub struct Files(HashMap<PathBuf, (u64, SystemTime)>);

impl Files {
    /// Looks through every file below `place` that has changed since the last time. Gives how many bytes that were.
    pub fn hold_none(&mut self, place: &Path, needles: &Needles) -> u64 {
        let mut seen = 0;
        for entry in fs::read_dir(place).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                seen += self.hold_none(&entry, needles);
                continue;
            }
            let meta = fs::metadata(&entry).expect("a file");
            let now = (meta.len(), meta.modified().expect("a time"));
            if self.0.insert(entry.clone(), now) == Some(now) {
                continue;
            }
            let bytes = fs::read(&entry).expect("a file");
            seen += bytes.len() as u64;
            assert_eq!(needles.find(&bytes), None, "in {}", entry.display());
        }
        seen
    }
}
