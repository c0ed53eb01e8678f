//! Everything of one call that attackers may have, and the truth beside it. Whoever played the call fills it in.

use std::time::{Duration, Instant};

use crate::base::secret::Digit;
use crate::testkit::heard::Heard;
use crate::testkit::keys::{Form, Sent};

/// One call, after the fact.
pub struct Evidence {
    /// The customer's sound as sent, keys included.
    pub spoken: Vec<i16>,
    /// The keys with their places in it.
    pub keyed: Vec<Sent>,
    /// Stretches of it whose packets the line lost.
    pub lost: Vec<(u64, u64)>,
    /// When it began.
    pub began: Instant,
    /// The longest the machine held up the caller's packets beyond their time.
    pub held_up: Duration,
    /// What the agent's leg got.
    pub agent: Heard,
    /// The keys that SIP INFO told the PBX, as event codes; `None` for an INFO that tells none.
    pub infos: Vec<Option<u8>>,
    /// The exported recording, customer and agent side.
    pub tape: Option<[Vec<i16>; 2]>,
    /// What the collection handed over, as keypad characters.
    pub collected: Option<Vec<u8>>,
    /// `key-masked` events: when each came.
    pub masked: Vec<Instant>,
    /// Texts (SIP toward the PBX, events) that hold a run of the digits.
    pub told: usize,
}

/// Digits in a row that a text may not hold. Fewer come up by chance in numbers of other meaning.
pub const RUN: usize = 10;

/// Whether `text` holds any [`RUN`] of the keys in a row.
pub fn holds_run(text: &[u8], keyed: &[Sent]) -> bool {
    let keys: Vec<u8> = keyed.iter().map(|k| k.press.digit.expose_char() as u8).collect();
    keys.windows(RUN).any(|run| memchr::memmem::find(text, run).is_some())
}

/// The key an INFO body tells (`Signal=5`), as an event code.
pub fn info_key(body: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(body).ok()?;
    let signal = text.lines().find_map(|line| line.trim().strip_prefix("Signal=")).unwrap_or(text.trim());
    Digit::from_char(signal.trim().chars().next()?).map(|digit| digit.expose_event())
}

/// Whether enough of a key came through the customer's own line to be heard at all: an event packet, an INFO, or 40 ms
/// of tone (the shortest of bar D1) without a hole longer than 10 ms (bar D5).
pub fn came_through(key: &Sent, lost: &[(u64, u64)]) -> bool {
    const SHORTEST: u64 = 320;
    const HOLE: u64 = 80;
    let form = key.press.form;
    if form.has_info() || key.events[1] > 0 {
        return true;
    }
    let end = match form {
        Form::ToneThenEvent { lead_ms } => key.end.min(key.onset + u64::from(lead_ms) * 8),
        _ => key.end,
    };
    if !form.sounds() {
        return false;
    }
    // Packets lost one after the other are one gap.
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    for (from, to) in lost.iter().filter(|(from, to)| *to > key.onset && *from < end) {
        match gaps.last_mut() {
            Some(last) if last.1 == *from => last.1 = *to,
            _ => gaps.push((*from, *to)),
        }
    }
    let (mut from, mut longest) = (key.onset, 0);
    for (gap_from, gap_to) in gaps {
        if gap_to.min(end) - gap_from.max(key.onset) > HOLE {
            longest = longest.max(gap_from.saturating_sub(from));
            from = gap_to;
        }
    }
    longest.max(end.saturating_sub(from)) >= SHORTEST
}

/// How keyed and collected digits differ, by the fewest changes: whether each keyed digit was collected, and how many
/// were collected besides or in place of another.
pub fn align(keyed: &[u8], collected: &[u8]) -> (Vec<bool>, usize) {
    let (rows, columns) = (keyed.len() + 1, collected.len() + 1);
    let mut cost = vec![0usize; rows * columns];
    let at = |row: usize, column: usize| row * columns + column;
    for row in 0..rows {
        for column in 0..columns {
            cost[at(row, column)] = match (row, column) {
                (0, n) | (n, 0) => n,
                _ => {
                    let change = usize::from(keyed[row - 1] != collected[column - 1]);
                    let missing = cost[at(row - 1, column)] + 1;
                    let extra = cost[at(row, column - 1)] + 1;
                    (cost[at(row - 1, column - 1)] + change).min(missing).min(extra)
                }
            };
        }
    }
    let (mut row, mut column) = (keyed.len(), collected.len());
    let (mut right, mut wrong) = (vec![false; keyed.len()], 0);
    while row > 0 || column > 0 {
        let here = cost[at(row, column)];
        if row > 0 && column > 0 {
            let same = keyed[row - 1] == collected[column - 1];
            if here == cost[at(row - 1, column - 1)] + usize::from(!same) {
                right[row - 1] = same;
                wrong += usize::from(!same);
                (row, column) = (row - 1, column - 1);
                continue;
            }
        }
        if row > 0 && here == cost[at(row - 1, column)] + 1 {
            row -= 1;
        } else {
            wrong += 1;
            column -= 1;
        }
    }
    (right, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::keys::typed;

    fn sent(form: Form, onset: u64, end: u64) -> Sent {
        let press = typed("5", form, 50, 50).remove(0);
        Sent { press, onset, end, events: [0; 2] }
    }

    #[test]
    fn digits_are_aligned_by_the_fewest_changes() {
        assert_eq!(align(b"1234", b"1234"), (vec![true; 4], 0));
        assert_eq!(align(b"1234", b"134"), (vec![true, false, true, true], 0));
        assert_eq!(align(b"1234", b"12234").1, 1);
        assert_eq!(align(b"1234", b"1294"), (vec![true, true, false, true], 1));
        assert_eq!(align(b"", b"77"), (vec![], 2));
        assert_eq!(align(b"77", b""), (vec![false; 2], 0));
    }

    #[test]
    fn a_key_that_the_line_broke_has_not_come_through() {
        let tone = sent(Form::Tone, 800, 1_600);
        assert!(came_through(&tone, &[]));
        assert!(came_through(&tone, &[(640, 800), (1_280, 1_440)]), "60 ms in a row are left");
        assert!(!came_through(&tone, &[(960, 1_120), (1_280, 1_440)]), "20, 20 and 20 ms are left");
        assert!(came_through(&tone, &[(1_120, 1_200)]), "a hole of 10 ms");
        let three = [(1_040, 1_120), (1_120, 1_200), (1_200, 1_290)];
        assert!(!came_through(&tone, &three), "30 ms in three packets leave less than 40 ms on either side");
        let event = sent(Form::Event, 800, 1_600);
        assert!(!came_through(&event, &[]) && came_through(&Sent { events: [7, 1], ..event }, &[]));
        assert!(came_through(&sent(Form::Info, 800, 1_600), &[(0, 9_000)]));
    }

    #[test]
    fn a_run_of_digits_is_found_in_a_text() {
        let keyed: Vec<Sent> = typed("424242424242", Form::Tone, 50, 50)
            .into_iter()
            .map(|press| Sent { press, onset: 0, end: 1, events: [0; 2] })
            .collect();
        assert!(holds_run(b"{\"x\":\"2424242424\"}", &keyed));
        assert!(!holds_run(b"{\"x\":\"242424242\"}", &keyed));
    }
}
