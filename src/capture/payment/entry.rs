//! One field being keyed. Keys and the time go in; whether it goes on or is finished comes out, and at the end the digits
//! or what is wrong with them.

use std::time::{Duration, Instant};

use super::brand::{self, Range};
use super::check::{self, Month};
use super::spec::{Accounts, MOST_POSTAL, Spec};
use crate::base::payment::FieldError;
use crate::base::secret::{Digit, Digits};
use crate::obs::payment::{CardType, PaymentField};

/// How long is waited for more when what is held is whole already but could be longer.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// What a field is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) spec: &'a Spec,
    /// Brand of the card, once its number is known.
    pub(super) brand: Option<CardType>,
    pub(super) today: Month,
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyed {
    /// It has no meaning here.
    Ignored,
    /// The number of keys held changed.
    Changed,
    /// The field is at its end: judge it.
    Finished,
}

/// How a field came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Its last possible key, or the terminator.
    Key,
    /// No further key came in time.
    Silence,
}

/// A field being keyed; drop it and its digits are wiped.
#[derive(Debug)]
pub(super) struct Entry {
    field: PaymentField,
    digits: Digits,
    deadline: Instant,
}

impl Entry {
    /// Opens `field` at `now`.
    pub(super) fn new(now: Instant, field: PaymentField, spec: &Spec) -> Self {
        Self { field, digits: Digits::new(), deadline: now + spec.wish.first_key }
    }

    /// Which field.
    pub(super) fn field(&self) -> PaymentField {
        self.field
    }

    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.digits.len()
    }

    /// When silence ends it.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    /// The caller pressed a key.
    pub(super) fn handle_digit(&mut self, now: Instant, digit: &Digit, around: Around<'_>) -> Keyed {
        let wish = &around.spec.wish;
        let is = |key: &Option<Digit>| key.as_ref().is_some_and(|key| key.same_key(digit));
        if is(&wish.clear) {
            self.digits.clear();
            self.deadline = now + wish.first_key;
            return Keyed::Changed;
        }
        if is(&wish.terminator) {
            // Before the first key it is one too many for the field before.
            return if self.digits.is_empty() { Keyed::Ignored } else { Keyed::Finished };
        }
        if digit.expose_event() >= 10 || !self.digits.push(digit) {
            return Keyed::Ignored;
        }
        if self.digits.len() >= self.lengths(around).1 {
            return Keyed::Finished;
        }
        let wait = if self.is_whole(around) { wish.inter_key.min(SETTLE) } else { wish.inter_key };
        self.deadline = now + wait;
        Keyed::Changed
    }

    /// Ends it: the digits, with the brand of a card number, or what is wrong.
    pub(super) fn finish(self, by: By, around: Around<'_>) -> Result<(Digits, Option<CardType>), FieldError> {
        if by == By::Silence && self.digits.len() < self.usual(around) {
            return Err(FieldError::InputTimeout);
        }
        let brand = self.judge(around)?;
        Ok((self.digits, brand))
    }

    /// Fewest and most keys.
    fn lengths(&self, around: Around<'_>) -> (usize, usize) {
        match (self.field.base(), around.spec.accounts) {
            (PaymentField::ExpirationDate, _) => (4, 4),
            (PaymentField::SecurityCode, _) => match around.brand {
                Some(brand) => (Range::security_code(brand), Range::security_code(brand)),
                None => (3, 4),
            },
            (PaymentField::PostalCode, _) => (around.spec.wish.min_postal_code, MOST_POSTAL),
            (PaymentField::BankRoutingNumber, Accounts::Gb) => (6, 6),
            (PaymentField::BankRoutingNumber, _) => (9, 9),
            (PaymentField::BankAccountNumber, Accounts::Us) => (4, 17),
            (PaymentField::BankAccountNumber, Accounts::Gb) => (6, 8),
            (PaymentField::BankAccountNumber, Accounts::Iban(_, digits)) => (digits, digits),
            _ => match brand::range_of(self.digits.expose()).map(|range| range.lengths) {
                Some([first, .., last]) => (*first, *last),
                Some([only]) => (*only, *only),
                Some([]) | None => (brand::SHORTEST, brand::LONGEST),
            },
        }
    }

    /// Fewest keys that silence can end.
    fn usual(&self, around: Around<'_>) -> usize {
        match self.field.base() {
            PaymentField::PaymentCardNumber => brand::range_of(self.digits.expose()).map_or(16, |range| range.usual),
            _ => self.lengths(around).0,
        }
    }

    /// Whether nothing need follow, although something may.
    fn is_whole(&self, around: Around<'_>) -> bool {
        match self.field.base() {
            PaymentField::PaymentCardNumber => self.digits.len() >= self.usual(around) && self.judge(around).is_ok(),
            PaymentField::PostalCode => self.digits.len() >= self.usual(around),
            _ => false,
        }
    }

    fn judge(&self, around: Around<'_>) -> Result<Option<CardType>, FieldError> {
        let digits = self.digits.expose();
        let (min, max) = self.lengths(around);
        let fits = (min..=max).contains(&digits.len());
        let verdict = |fine: bool, error| if fine { Ok(None) } else { Err(error) };
        match self.field.base() {
            PaymentField::ExpirationDate => verdict(check::expiry(digits, around.today), FieldError::InvalidDate),
            PaymentField::SecurityCode => verdict(fits, FieldError::InvalidSecurityCode),
            PaymentField::PostalCode => verdict(fits, FieldError::InvalidPostalCode),
            PaymentField::BankRoutingNumber => {
                let fine = fits && (around.spec.accounts != Accounts::Us || check::aba(digits));
                verdict(fine, FieldError::InvalidBankRoutingNumber)
            }
            PaymentField::BankAccountNumber => {
                let fine = fits
                    && match around.spec.accounts {
                        Accounts::Iban(country, _) => check::iban(country, digits),
                        Accounts::Us | Accounts::Gb => true,
                    };
                verdict(fine, FieldError::InvalidBankAccountNumber)
            }
            _ => {
                let luhn = self.digits.luhn();
                if luhn && fits && brand::range_of(digits).is_none() {
                    return Err(FieldError::InvalidCardType);
                }
                let brand = check::card(digits, luhn).ok_or(FieldError::InvalidCardNumber)?;
                let taken = &around.spec.wish.card_types;
                if taken.is_empty() || taken.contains(&brand) {
                    Ok(Some(brand))
                } else {
                    Err(FieldError::InvalidCardType)
                }
            }
        }
    }
}
