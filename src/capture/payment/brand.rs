//! Brands of cards by issuer identification number (ISO/IEC 7812-1), with the lengths they issue. A number goes in, its
//! brand comes out; the first range that fits is taken, so ranges within another brand's stand before it. What the guard
//! withholds is wider than this (`guard::classify`): it may err, this may not.

use crate::obs::payment::CardType;

/// The shortest card number.
pub(super) const SHORTEST: usize = 12;
/// The longest card number (ISO/IEC 7812-1).
pub(super) const LONGEST: usize = 19;

/// Digits of an IIN that are compared.
const IIN: usize = 6;

/// One range of a brand.
#[derive(Debug)]
pub(super) struct Range {
    low: u32,
    high: u32,
    /// Brand.
    pub(super) brand: CardType,
    /// Lengths issued.
    pub(super) lengths: &'static [usize],
    /// The shortest length that is taken when the caller stops without the terminator: shorter ones are rare, and would
    /// be mistaken for a long number with a pause in it.
    pub(super) usual: usize,
}

const fn range(low: u32, high: u32, brand: CardType, lengths: &'static [usize], usual: usize) -> Range {
    Range { low, high, brand, lengths, usual }
}

use CardType as C;

const LONG: &[usize] = &[16, 17, 18, 19];
const ANY: &[usize] = &[12, 13, 14, 15, 16, 17, 18, 19];

const RANGES: &[Range] = &[
    // Elo, within Visa, Maestro and Discover.
    range(401_178, 401_179, C::Elo, &[16], 16),
    range(431_274, 431_274, C::Elo, &[16], 16),
    range(438_935, 438_935, C::Elo, &[16], 16),
    range(451_416, 451_416, C::Elo, &[16], 16),
    range(457_393, 457_393, C::Elo, &[16], 16),
    range(457_631, 457_632, C::Elo, &[16], 16),
    range(504_175, 504_175, C::Elo, &[16], 16),
    range(506_699, 506_778, C::Elo, &[16], 16),
    range(509_000, 509_999, C::Elo, &[16], 16),
    range(627_780, 627_780, C::Elo, &[16], 16),
    range(636_297, 636_297, C::Elo, &[16], 16),
    range(636_368, 636_368, C::Elo, &[16], 16),
    range(650_031, 650_051, C::Elo, &[16], 16),
    range(650_405, 650_439, C::Elo, &[16], 16),
    range(650_485, 650_598, C::Elo, &[16], 16),
    range(650_700, 650_727, C::Elo, &[16], 16),
    range(650_901, 650_920, C::Elo, &[16], 16),
    range(651_652, 651_679, C::Elo, &[16], 16),
    range(655_000, 655_058, C::Elo, &[16], 16),
    // Verve, within Maestro and Discover.
    range(506_099, 506_198, C::Verve, &[16, 18, 19], 16),
    range(507_865, 507_964, C::Verve, &[16, 18, 19], 16),
    range(650_002, 650_027, C::Verve, &[16, 18, 19], 16),
    // RuPay, within Maestro and Discover.
    range(508_500, 508_999, C::Rupay, &[16], 16),
    range(606_985, 607_984, C::Rupay, &[16], 16),
    range(608_001, 608_500, C::Rupay, &[16], 16),
    range(652_150, 653_149, C::Rupay, &[16], 16),
    range(817_200, 829_999, C::Rupay, &[16], 16),
    range(400_000, 499_999, C::Visa, &[13, 16, 19], 16),
    range(510_000, 559_999, C::Mastercard, &[16], 16),
    range(222_100, 272_099, C::Mastercard, &[16], 16),
    range(340_000, 349_999, C::Amex, &[15], 15),
    range(370_000, 379_999, C::Amex, &[15], 15),
    range(300_000, 305_999, C::DinersClub, &[14, 16, 17, 18, 19], 14),
    range(309_500, 309_599, C::DinersClub, &[14, 16, 17, 18, 19], 14),
    range(360_000, 369_999, C::DinersClub, &[14, 15, 16, 17, 18, 19], 14),
    range(380_000, 399_999, C::DinersClub, &[14, 16, 17, 18, 19], 14),
    range(352_800, 358_999, C::Jcb, LONG, 16),
    range(622_126, 622_925, C::Unionpay, LONG, 16),
    range(601_100, 601_199, C::Discover, LONG, 16),
    range(644_000, 659_999, C::Discover, LONG, 16),
    range(620_000, 629_999, C::Unionpay, LONG, 16),
    range(810_000, 817_199, C::Unionpay, LONG, 16),
    range(220_000, 220_499, C::Mir, LONG, 16),
    range(979_200, 979_299, C::Troy, &[16], 16),
    range(500_000, 509_999, C::Maestro, ANY, 16),
    range(560_000, 699_999, C::Maestro, ANY, 16),
    range(100_000, 199_999, C::Uatp, &[15], 15),
];

impl Range {
    /// Digits on the back (on the front of an American Express).
    pub(super) fn security_code(brand: CardType) -> usize {
        if brand == CardType::Amex { 4 } else { 3 }
    }
}

/// The range of a number of which at least six digits (ASCII) are known.
pub(super) fn range_of(digits: &[u8]) -> Option<&'static Range> {
    let iin = digits.get(..IIN)?;
    let iin = iin.iter().fold(0, |value, key| value * 10 + u32::from(key.wrapping_sub(b'0')));
    RANGES.iter().find(|range| (range.low..=range.high).contains(&iin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_cards_have_their_brands_and_lengths() {
        for (card, brand) in [
            ("4242424242424242", C::Visa),
            ("4222222222222", C::Visa),
            ("5555555555554444", C::Mastercard),
            ("2223003122003222", C::Mastercard),
            ("378282246310005", C::Amex),
            ("6011111111111117", C::Discover),
            ("3056930009020004", C::DinersClub),
            ("36227206271667", C::DinersClub),
            ("3566002020360505", C::Jcb),
            ("6200000000000005", C::Unionpay),
            ("6759649826438453", C::Maestro),
        ] {
            let range = range_of(card.as_bytes()).expect("a range");
            assert_eq!(range.brand, brand);
            assert!(range.lengths.contains(&card.len()), "{brand:?} of {}", card.len());
        }
        assert!(range_of(b"42424").is_none());
        assert!(range_of(b"900000").is_none());
    }

    #[test]
    fn whatever_is_taken_as_a_card_is_withheld_by_the_guard() {
        // UATP begins like every menu choice 1; the guard withholds it by its 13th key.
        for range in RANGES.iter().filter(|range| range.brand != C::Uatp) {
            for iin in [range.low, range.high] {
                for length in range.lengths {
                    let number = format!("{iin:0<length$}");
                    let taken = crate::guard::classify::may_become_card(number.as_bytes());
                    assert!(taken, "{iin} of {length}");
                }
            }
        }
    }

    #[test]
    fn every_range_is_sound() {
        for range in RANGES {
            assert!(range.low <= range.high && range.low >= 100_000 && range.high <= 999_999, "{range:?}");
            assert!(range.lengths.contains(&range.usual), "{range:?}");
            assert!(range.lengths.is_sorted() && range.lengths.iter().all(|n| (SHORTEST..=LONGEST).contains(n)));
        }
    }
}
