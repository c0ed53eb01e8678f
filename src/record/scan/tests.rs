//! The scan against what is in recordings by right, and against what is not.
#![allow(clippy::disallowed_methods)] // One reading, as the origin of virtual time.

use super::*;
use crate::base::secret::Digit;
use crate::dsp::noise::Noise;
use crate::dsp::tone::TwoTone;
use crate::record::sealed::Mark;

const S: usize = RECORD_RATE as usize;
const CARD: &str = "4242424242424242";

/// A quiet line of 26 s in both channels, with keys.
struct Tape([Vec<i16>; 2]);

impl Tape {
    fn new() -> Self {
        Self([1, 2].map(|seed| {
            let mut line = vec![0i16; 26 * S];
            Noise::new(seed).fill(15.0, &mut line);
            line
        }))
    }

    /// Keys of `ms` each, 300 ms apart, from `at_s` on.
    fn key(mut self, channel: Channel, at_s: usize, keys: &str, ms: usize, dbm0: f32) -> Self {
        for (n, digit) in keys.chars().filter_map(Digit::from_char).enumerate() {
            let from = at_s * S + n * S * 3 / 10;
            let mut tone = vec![0i16; ms * 8];
            TwoTone::key(&digit, dbm0).fill(&mut tone);
            let line = &mut self.0[channel as usize][from..from + tone.len()];
            line.iter_mut().zip(tone).for_each(|(line, tone)| *line = line.saturating_add(tone));
        }
        self
    }

    fn scan(&self, marks: &[(usize, Mark)]) -> Findings {
        let mut scan = Scan::new(Instant::now());
        for (at_s, mark) in marks {
            scan.handle_item(&Item::Mark { frame: (at_s * S) as u64, mark: *mark });
        }
        let [left, right] = &self.0;
        let bytes: Vec<u8> =
            left.iter().zip(right).flat_map(|(l, r)| [l.to_le_bytes(), r.to_le_bytes()]).flatten().collect();
        // Items as the writer makes them: a second each, some cut by a gap.
        for (n, second) in bytes.chunks(S * 4).enumerate() {
            let (first, rest) = second.split_at(if n % 7 == 3 { 1_600 * 4 } else { second.len() });
            scan.handle_item(&Item::Audio(first));
            if !rest.is_empty() {
                scan.handle_item(&Item::Audio(rest));
            }
        }
        scan.finish()
    }
}

fn kinds(findings: &Findings) -> Vec<(Kind, Option<Channel>)> {
    let mut kinds: Vec<_> = findings.hits.iter().map(|hit| (hit.kind, hit.channel)).collect();
    kinds.dedup();
    kinds
}

const PASS: &[(usize, Mark)] = &[(0, Mark::CustomerKeysPass), (0, Mark::AgentKeysPass)];
const MASKED: &[(usize, Mark)] = &[(0, Mark::CustomerKeysMasked), (0, Mark::AgentKeysMasked)];

#[test]
fn a_quiet_line_is_clean() {
    let findings = Tape::new().scan(MASKED);
    assert_eq!((findings.is_clean(), findings.stray, findings.frames), (true, 0, 26 * S as u64));
    assert_eq!(findings.text(), "clean");
}

#[test]
fn keys_that_pass_by_right_are_no_hit_and_a_card_always_is() {
    let menu = Tape::new().key(Channel::Customer, 5, "1", 80, -10.0).key(Channel::Customer, 12, "7123456", 80, -10.0);
    assert_eq!((menu.scan(PASS).is_clean(), menu.scan(PASS).keys, menu.scan(PASS).stray), (true, 8, 0));
    for channel in Channel::ALL {
        let card = Tape::new().key(channel, 5, CARD, 80, -10.0);
        assert_eq!(kinds(&card.scan(PASS)), [(Kind::Card, Some(channel))]);
    }
}

#[test]
fn three_keys_that_nothing_explains_are_a_hit_and_two_are_told() {
    let code = Tape::new().key(Channel::Customer, 12, "123", 60, -12.0);
    assert!(kinds(&code.scan(MASKED)).contains(&(Kind::Keys, Some(Channel::Customer))));
    assert!(kinds(&code.scan(&[])).contains(&(Kind::Keys, Some(Channel::Customer))), "no marks explain nothing");
    let two = Tape::new().key(Channel::Customer, 12, "12", 60, -12.0).scan(MASKED);
    assert!(two.is_clean() && two.keys == 2 && two.stray >= 2, "{two:?}");
    assert!(two.text().starts_with("clean; "), "{}", two.text());
}

#[test]
fn keys_that_were_sent_on_are_explained_where_they_were_and_nowhere_else() {
    let marks = [&[(8, Mark::CustomerKeySentOn), (9, Mark::CustomerKeySentOn)], MASKED].concat();
    assert!(Tape::new().key(Channel::Customer, 8, "7123", 100, -10.0).scan(&marks).is_clean());
    assert!(!Tape::new().key(Channel::Customer, 20, "7123", 100, -10.0).scan(&marks).is_clean());
}

#[test]
fn a_faint_echo_and_pieces_of_a_mask_that_opens_late_are_hits() {
    let echo = Tape(Tape::new().0.map(|line| line.iter().map(|s| s / 8).collect()));
    let echo = echo.key(Channel::Agent, 10, "4242", 80, -54.0);
    assert!(kinds(&echo.scan(MASKED)).contains(&(Kind::Keys, Some(Channel::Agent))));
    let pieces = Tape::new().key(Channel::Customer, 10, "42424242", 13, -15.0);
    assert_eq!(kinds(&pieces.scan(MASKED)), [(Kind::Fragments, Some(Channel::Customer))]);
    assert!(pieces.scan(PASS).is_clean());
}

#[test]
fn a_card_in_a_description_is_a_hit_and_a_telephone_number_is_none() {
    let said = |text: &str| {
        let mut scan = Scan::new(Instant::now());
        scan.handle_text(text);
        scan.finish()
    };
    assert_eq!(kinds(&said("4242 4242 4242 4242")), [(Kind::Described, None)]);
    assert_eq!(said("4242 4242 4242 4242").text(), "described");
    assert!(said("+4915112345678").is_clean() && said("carrier-2").is_clean());
}
