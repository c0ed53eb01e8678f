//! Whether what was keyed can be what it should: check digits, dates, lengths. Digits (ASCII) go in, a verdict comes
//! out; nothing is kept.

use super::brand;
use crate::base::time::WallMs;
use crate::obs::payment::CardType;

/// A month of a year, as on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// Year, for instance 2026.
    pub year: u16,
    /// Month, 1–12.
    pub month: u8,
}

/// Cards are issued for less than this many years ahead.
const YEARS_AHEAD: u16 = 20;

impl Month {
    /// The month at `ms` milliseconds after 1970-01-01 UTC, wherever on earth it is still the earliest: a card is good
    /// to the end of its month.
    pub fn at(ms: u64) -> Self {
        let (year, month, _) = WallMs(ms.saturating_sub(12 * 3_600_000)).date();
        Self { year: u16::try_from(year).unwrap_or(u16::MAX), month: u8::try_from(month).unwrap_or(12) }
    }
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, key| value * 10 + u32::from(key.wrapping_sub(b'0') % 10))
}

/// Whether MMYY is a month that is neither past nor too far ahead.
pub(super) fn expiry(digits: &[u8], today: Month) -> bool {
    let [a, b, c, d] = digits else { return false };
    let month = number(&[*a, *b]);
    let short = number(&[*c, *d]);
    let century = u32::from(today.year) / 100 * 100;
    let year = century + short;
    // In the last years of a century cards run into the next one.
    let year = if year + 50 < u32::from(today.year) { year + 100 } else { year };
    let Ok(year) = u16::try_from(year) else { return false };
    let Ok(month) = u8::try_from(month) else { return false };
    (1..=12).contains(&month) && Month { year, month } >= today && year <= today.year.saturating_add(YEARS_AHEAD)
}

/// The brand of a whole card number, if length and check digit are right; `luhn` is known already.
pub(super) fn card(digits: &[u8], luhn: bool) -> Option<CardType> {
    let range = brand::range_of(digits)?;
    (luhn && range.lengths.contains(&digits.len())).then_some(range.brand)
}

/// The checksum of an ABA routing number (nine digits, weights 3 7 1).
pub(super) fn aba(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().zip([3, 7, 1].iter().cycle()).map(|(key, weight)| number(&[*key]) * weight).sum();
    digits.len() == 9 && sum.is_multiple_of(10) && sum > 0
}

/// The checksum of an IBAN (ISO 13616, ISO 7064 mod 97-10) whose digits after the country's letters are given.
pub(super) fn iban(country: [u8; 2], digits: &[u8]) -> bool {
    let Some((check, account)) = digits.split_at_checked(2) else { return false };
    let push = |rest: u32, value: u32| if value > 9 { (rest * 100 + value) % 97 } else { (rest * 10 + value) % 97 };
    let mut rest = account.iter().fold(0, |rest, key| push(rest, number(&[*key])));
    for letter in country {
        rest = push(rest, u32::from(letter.to_ascii_uppercase().wrapping_sub(b'A')) + 10);
    }
    check.iter().fold(rest, |rest, key| push(rest, number(&[*key]))) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Month = Month { year: 2026, month: 11 };

    #[test]
    fn months_of_the_calendar_are_found() {
        let day = 86_400_000;
        assert_eq!(Month::at(0), Month { year: 1970, month: 1 });
        assert_eq!(Month::at(31 * day + day), Month { year: 1970, month: 2 });
        // 2024-02-29 12:00 and 2024-03-01 12:00 UTC.
        assert_eq!(Month::at(1_709_208_000_000), Month { year: 2024, month: 2 });
        assert_eq!(Month::at(1_709_294_400_000), Month { year: 2024, month: 3 });
        // 2026-12-31 23:00 UTC and 2027-01-01 06:00 UTC, when the old year lasts elsewhere.
        assert_eq!(Month::at(1_798_758_000_000), Month { year: 2026, month: 12 });
        assert_eq!(Month::at(1_798_783_200_000), Month { year: 2026, month: 12 });
        assert_eq!(Month::at(1_798_815_600_000), Month { year: 2027, month: 1 });
    }

    #[test]
    fn an_expiry_is_a_month_from_now_on() {
        assert!(expiry(b"1126", NOW) && expiry(b"1226", NOW) && expiry(b"0127", NOW) && expiry(b"1246", NOW));
        assert!(!expiry(b"1026", NOW) && !expiry(b"1225", NOW) && !expiry(b"0047", NOW) && !expiry(b"1347", NOW));
        assert!(!expiry(b"0030", NOW) && !expiry(b"113", NOW) && !expiry(b"0147", NOW));
        assert!(expiry(b"0103", Month { year: 2099, month: 5 }));
        assert!(!expiry(b"1230", Month { year: 1970, month: 1 }), "a node without a date takes none");
    }

    #[test]
    fn routing_numbers_and_ibans_are_summed() {
        assert!(aba(b"021000021") && aba(b"110000000"));
        assert!(!aba(b"021000022") && !aba(b"000000000") && !aba(b"02100002"));
        // The published examples of the registry.
        assert!(iban(*b"DE", b"89370400440532013000"));
        assert!(iban(*b"ES", b"9121000418450200051332"));
        assert!(iban(*b"BE", b"68539007547034"));
        assert!(!iban(*b"DE", b"89370400440532013001"));
        assert!(!iban(*b"DE", b"8"));
    }
}
