//! Which digits begin a card number: issuer identification numbers (ISO/IEC 7812-1) of the brands keyed on telephones,
//! with the lengths they issue. Ranges are written as six digits; a shorter beginning is compared as far as it goes.
//!
//! Brands that lie within another's range and lengths need no line of their own: Elo and Hipercard (within Visa,
//! Maestro, Diners Club), Verve (506, 650), Dankort (5019, 4571), Cirrus. UATP (first digit 1, airlines among
//! themselves) is left out: it would make every menu choice 1 wait. 13 keys in a row are withheld without it.

/// The longest card number (ISO/IEC 7812-1).
pub(super) const LONGEST: usize = 19;

/// First and last IIN, as six digits; fewest and most digits of the number.
type Range = (u32, u32, usize, usize);

const RANGES: &[Range] = &[
    (400_000, 499_999, 13, 19), // Visa
    (510_000, 559_999, 16, 16), // Mastercard
    (222_100, 272_099, 16, 16), // Mastercard, 2-series
    (340_000, 349_999, 15, 15), // American Express
    (370_000, 379_999, 15, 15), // American Express
    (300_000, 305_999, 14, 19), // Diners Club
    (309_500, 309_599, 14, 19), // Diners Club
    (360_000, 369_999, 14, 19), // Diners Club
    (380_000, 399_999, 14, 19), // Diners Club, Hipercard
    (352_800, 358_999, 16, 19), // JCB, RuPay
    (601_100, 601_199, 16, 19), // Discover
    (644_000, 659_999, 16, 19), // Discover, RuPay, Elo, Verve, Troy
    (620_000, 629_999, 16, 19), // UnionPay
    (810_000, 829_999, 16, 19), // UnionPay, RuPay
    (500_000, 509_999, 12, 19), // Maestro, Verve, RuPay, Dankort
    (560_000, 699_999, 12, 19), // Maestro
    (220_000, 220_599, 16, 19), // Mir, Borica
    (979_200, 979_299, 16, 16), // Troy
];

/// Digits of an IIN that are compared.
const IIN: usize = 6;

fn begins(digits: &[u8], (low, high, ..): &Range) -> bool {
    let known = digits.len().min(IIN);
    let begin = digits[..known].iter().fold(0, |value, key| value * 10 + u32::from(key - b'0'));
    let scale = 10_u32.pow((IIN - known) as u32);
    begin * scale <= *high && begin * scale + (scale - 1) >= *low
}

/// Whether `digits` (ASCII) are a card number or the beginning of one, by brand and length.
pub(crate) fn may_become_card(digits: &[u8]) -> bool {
    !digits.is_empty() && RANGES.iter().any(|range| digits.len() <= range.3 && begins(digits, range))
}

/// Whether `digits` (ASCII) are a whole card number by brand, length and Luhn sum.
pub(super) fn is_card(digits: &[u8]) -> bool {
    digits.len() <= LONGEST
        && RANGES.iter().any(|range| (range.2..=range.3).contains(&digits.len()) && begins(digits, range))
        && luhn(digits)
}

/// How the numbers of a range are printed.
fn printed(range: &Range) -> &'static [&'static [usize]] {
    match range {
        (.., 15, 15) => &[&[4, 6, 5]],
        (.., 14, _) => &[&[4, 6, 4], &[4, 4, 4, 4, 3]],
        (620_000, ..) => &[&[4, 4, 4, 4, 3], &[6, 13]],
        _ => &[&[4, 4, 4, 4, 3]],
    }
}

/// The ways in which a number that begins with `digits` may be printed.
fn prints(digits: &[u8]) -> impl Iterator<Item = &'static [usize]> {
    let ranges = RANGES.iter().filter(move |range| digits.len() <= range.3 && begins(digits, range));
    ranges.flat_map(|range| printed(range).iter().copied())
}

/// Whether `digits` (ASCII), keyed in groups of these lengths, may be a card read group by group as it is printed; the
/// last group may still be unfinished unless `whole`.
pub(super) fn may_be_read_from_a_card(digits: &[u8], groups: &[usize], whole: bool) -> bool {
    let Some((last, before)) = groups.split_last() else { return false };
    prints(digits).any(|print| {
        let closed = before.iter().zip(print).all(|(a, b)| a == b) && before.len() < print.len();
        closed && print.get(before.len()).is_some_and(|room| if whole { last == room } else { last <= room })
    })
}

/// Whether a pause after `digits` (ASCII) is one between two printed groups of a card.
pub(super) fn ends_a_group(digits: &[u8]) -> bool {
    prints(digits).any(|print| {
        let mut end = 0;
        print.iter().any(|group| {
            end += group;
            end == digits.len()
        })
    })
}

/// The Luhn check (ISO/IEC 7812-1 annex B).
fn luhn(digits: &[u8]) -> bool {
    let value = |(place, key): (usize, &u8)| match (place % 2, u32::from(key - b'0')) {
        (0, value) => value,
        (_, value) if value > 4 => value * 2 - 9,
        (_, value) => value * 2,
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_cards_are_cards_and_all_their_beginnings_may_become_one() {
        for card in [
            "4242424242424242",
            "4000056655665556",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011111111111117",
            "3056930009020004",
            "36227206271667",
            "3566002020360505",
            "6200000000000005",
            "6759649826438453",
        ] {
            assert!(is_card(card.as_bytes()), "{}", card.len());
            for length in 1..=card.len() {
                assert!(may_become_card(&card.as_bytes()[..length]), "{length} of {}", card.len());
            }
        }
    }

    #[test]
    fn what_no_brand_begins_with_is_told_as_soon_as_it_can_be() {
        for digits in ["0", "1", "7", "21", "28", "32", "80", "90", "3094", "2720990", "979300"] {
            let known = if digits == "2720990" { "272100" } else { digits };
            assert!(!may_become_card(known.as_bytes()), "{known}");
        }
        for digits in ["2", "3", "22", "27", "2720", "309", "9", "97"] {
            assert!(may_become_card(digits.as_bytes()), "{digits}");
        }
    }

    #[test]
    fn cards_are_read_in_the_groups_they_are_printed_in() {
        for (digits, groups, whole) in [
            ("4242", &[4][..], true),
            ("42424242", &[4, 4], true),
            ("424242424", &[4, 4, 1], false),
            ("3782822463", &[4, 6], true),
            ("3056930009", &[4, 6], true),
            ("6205500000", &[6, 4], false),
        ] {
            assert!(may_be_read_from_a_card(digits.as_bytes(), groups, whole), "{groups:?}");
        }
        for (digits, groups, whole) in [
            ("42424", &[5][..], true),
            ("42425551234", &[4, 7], true),
            ("4242424242", &[4, 6], true),
            ("424242424", &[4, 4, 1], true),
            ("7777", &[4], true),
            ("1234", &[4], false),
        ] {
            assert!(!may_be_read_from_a_card(digits.as_bytes(), groups, whole), "{groups:?}");
        }
        assert!(ends_a_group(b"42424242") && ends_a_group(b"3782822463") && ends_a_group(b"4242"));
        assert!(!ends_a_group(b"424242424") && !ends_a_group(b"5555555555") && !ends_a_group(b"12345678"));
    }

    #[test]
    fn a_slip_breaks_the_proof_and_not_the_suspicion() {
        assert!(!is_card(b"4242424242424241"));
        assert!(may_become_card(b"4242424242424241"));
        assert!(!may_become_card(b"37828224631000555"));
    }
}
