//! Marks that stand for what was keyed. Counts, and at most the last digits of an accepted number go in; text for events
//! comes out. The only place where a digit can become text: at most four of a card, two of an account, and only where the
//! configuration allows it.

use super::check::card;
use crate::base::secret::Digits;
use crate::obs::payment::PaymentField;

/// How card numbers are printed.
fn groups(length: usize) -> &'static [usize] {
    match length {
        15 => &[4, 6, 5],
        14 => &[4, 6, 4],
        _ => &[4, 4, 4, 4, 3],
    }
}

fn grouped(marks: &str, groups: &[usize]) -> String {
    let mut out = String::with_capacity(marks.len() + groups.len());
    let mut ends = groups.iter().scan(0, |end, group| {
        *end += group;
        Some(*end)
    });
    let mut end = ends.next();
    for (place, mark) in marks.chars().enumerate() {
        if end == Some(place) {
            out.push('-');
            end = ends.next();
        }
        out.push(mark);
    }
    out
}

/// One mark per key held while a field is keyed: tells how many, never which.
pub(super) fn partial(field: PaymentField, keys: usize) -> String {
    let marks = "x".repeat(keys);
    match field {
        PaymentField::PaymentCardNumber | PaymentField::PaymentCardNumberMatcher => grouped(&marks, &[4, 4, 4, 4]),
        _ => marks,
    }
}

/// What is shown of an accepted field. Last digits only if `last` allows it, and of a card only when it is one.
pub(super) fn accepted(field: PaymentField, digits: &Digits, last: bool) -> String {
    let length = digits.len();
    let tail = |most: usize| {
        let shown = if last && length > 2 * most { most } else { 0 };
        (length - shown, String::from_utf8_lossy(&digits.expose()[length - shown..]).into_owned())
    };
    match field {
        PaymentField::PaymentCardNumber => {
            let most = if card(digits.expose(), digits.luhn()).is_some() { 4 } else { 0 };
            let (hidden, tail) = tail(most);
            grouped(&format!("{}{tail}", "x".repeat(hidden)), groups(length))
        }
        PaymentField::BankAccountNumber => {
            let (hidden, tail) = tail(2);
            format!("{}{tail}", "*".repeat(hidden))
        }
        PaymentField::ExpirationDate => "xx/xx".to_owned(),
        _ => "x".repeat(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Digit;

    fn digits(text: &str) -> Digits {
        let mut digits = Digits::new();
        text.chars().for_each(|c| assert!(digits.push(&Digit::from_char(c).expect("a key"))));
        digits
    }

    #[test]
    fn marks_tell_how_many_and_last_digits_only_where_allowed() {
        use PaymentField as F;
        assert_eq!(partial(F::PaymentCardNumber, 9), "xxxx-xxxx-x");
        assert_eq!(partial(F::PaymentCardNumber, 0), "");
        assert_eq!(partial(F::SecurityCode, 2), "xx");
        let amex = digits("378282246310005");
        assert_eq!(accepted(F::PaymentCardNumber, &amex, true), "xxxx-xxxxxx-x0005");
        assert_eq!(accepted(F::PaymentCardNumber, &amex, false), "xxxx-xxxxxx-xxxxx");
        assert_eq!(accepted(F::PaymentCardNumber, &digits("4242424242424242"), true), "xxxx-xxxx-xxxx-4242");
        assert_eq!(accepted(F::BankAccountNumber, &digits("000123492"), true), "*******92");
        assert_eq!(accepted(F::BankAccountNumber, &digits("1234"), true), "****");
        assert_eq!(accepted(F::ExpirationDate, &digits("1230"), true), "xx/xx");
        assert_eq!(accepted(F::SecurityCode, &digits("123"), true), "xxx");
        assert_eq!(accepted(F::PostalCode, &digits("94107"), true), "xxxxx");
        assert_eq!(accepted(F::BankRoutingNumber, &digits("110000000"), true), "xxxxxxxxx");
    }
}
