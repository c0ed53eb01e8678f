//! The last net under the log: a run of digits that can be a card number is blanked before a line is written. Nothing
//! above should ever put one there (digits are a secret type); this catches what a peer wrote into a header we quote.
//!
//! A run is 13–19 digits, single spaces or dashes between them allowed, that has a card brand's leading digits and
//! length and passes the Luhn check (ISO/IEC 7812-1 annex B), and is not a telephone number written with a plus sign.
//! It cannot be switched off.

/// Blanks every card-like run in `line` in place, keeping its first and last characters' places and its length.
/// Returns how many runs were blanked.
pub fn redact(line: &mut [u8]) -> usize {
    let mut found = 0;
    let mut at = 0;
    while at < line.len() {
        if !line[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (end, digits, count) = run(&line[at..]);
        // E.164 allows 15 digits after the plus sign; many have a card brand's first digits.
        let telephone = at > 0 && line[at - 1] == b'+' && count <= 15;
        if let Some(hit) = card_in(&digits[..count]).filter(|_| !telephone) {
            blank(&mut line[at..at + end], hit);
            found += 1;
            // Blanked digits end the run: what is left of it is looked at anew.
            continue;
        }
        // A longer run is looked at again from where a card could straddle the edge.
        at += if count == RUN { end.saturating_sub(2 * LONGEST_CARD).max(1) } else { end };
    }
    found
}

/// Longest run looked at; longer runs are searched window by window inside it.
const RUN: usize = 64;

/// Digits of the longest card number.
const LONGEST_CARD: usize = 19;

/// The digit run at the start of `bytes`: its length in bytes, its digits and how many they are.
fn run(bytes: &[u8]) -> (usize, [u8; RUN], usize) {
    let mut digits = [0u8; RUN];
    let mut count = 0;
    let mut end = 0;
    let mut at = 0;
    while at < bytes.len() && count < RUN {
        match bytes[at] {
            digit @ b'0'..=b'9' => {
                digits[count] = digit - b'0';
                count += 1;
                at += 1;
                end = at;
            }
            b' ' | b'-' if at == end => at += 1,
            _ => break,
        }
    }
    (end, digits, count)
}

/// The first window of `digits` that can be a card number: its start and length.
fn card_in(digits: &[u8]) -> Option<(usize, usize)> {
    (0..digits.len()).find_map(|start| {
        let rest = &digits[start..];
        lengths(rest).iter().copied().find(|len| rest.len() >= *len && luhn(&rest[..*len])).map(|len| (start, len))
    })
}

/// The lengths a card with these leading digits can have.
fn lengths(digits: &[u8]) -> &'static [usize] {
    match digits {
        [4, ..] => &[16, 13, 19],
        [5, 1..=5, ..] | [2, 2..=7, ..] => &[16],
        [3, 4 | 7, ..] => &[15],
        [3, 0 | 6 | 8 | 9, ..] => &[14],
        [3, 5, ..] => &[16],
        [6, 0 | 2 | 4 | 5, ..] => &[16, 17, 18, 19],
        [5, 0 | 6..=8, ..] => &[16],
        _ => &[],
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 } {
            value @ 10.. => value - 9,
            value => value,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Overwrites the `hit` digits of the run in `bytes` with `x`.
fn blank(bytes: &mut [u8], (start, len): (usize, usize)) {
    for byte in bytes.iter_mut().filter(|b| b.is_ascii_digit()).skip(start).take(len) {
        *byte = b'x';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut line = text.as_bytes().to_vec();
        redact(&mut line);
        String::from_utf8(line).expect("ASCII stays ASCII")
    }

    #[test]
    fn a_test_card_is_blanked_however_it_is_written() {
        for card in
            ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "378282246310005", "6011111111111117"]
        {
            let line = redacted(&format!("{{\"to\":\"{card}\"}}"));
            assert!(!line.bytes().any(|b| b.is_ascii_digit()), "{line}");
        }
    }

    #[test]
    fn a_card_inside_a_longer_run_is_blanked() {
        assert_eq!(redacted("99424242424242424200"), "99xxxxxxxxxxxxxxxx00");
    }

    #[test]
    fn every_card_of_a_run_is_blanked_also_across_the_edge_of_what_is_looked_at() {
        assert_eq!(redacted("4242424242424242 5555555555554444"), "xxxxxxxxxxxxxxxx xxxxxxxxxxxxxxxx");
        for before in 40..80 {
            let line = redacted(&format!("{}4242424242424242", "9".repeat(before)));
            assert!(!line.contains("4242424242424242"), "{before}");
        }
    }

    #[test]
    fn a_plus_sign_hides_no_card() {
        assert_eq!(redacted("+4242424242424242"), "+xxxxxxxxxxxxxxxx");
    }

    #[test]
    fn times_ids_and_numbers_that_fail_luhn_stay() {
        for text in ["1763787000000", "4242424242424241", "+4915112345678", "a=rtpmap:101 8000", "10.0.0.1:5060"] {
            assert_eq!(redacted(text), text);
        }
    }
}
