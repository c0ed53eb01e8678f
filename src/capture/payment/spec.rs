//! What a payment is to gather: which fields, keyed how. Wishes go in; a checked [`Spec`] comes out.

use std::time::Duration;

use crate::base::secret::Digit;
use crate::obs::payment::{CardType, PaymentField, PaymentMethod};

/// The longest a payment stays open, whatever is keyed; submitting comes on top.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The most failed entries of one field that can be asked for.
pub const MOST_ATTEMPTS: u8 = 10;

/// The most digits of a postal code.
pub const MOST_POSTAL: usize = 10;

/// A wish for a payment, not yet checked.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What is paid with.
    pub method: PaymentMethod,
    /// Whether the security code of a card is wanted.
    pub security_code: bool,
    /// Whether a postal code is wanted.
    pub postal_code: bool,
    /// Fewest digits of it.
    pub min_postal_code: usize,
    /// Brands taken; none named: all.
    pub card_types: Vec<CardType>,
    /// Fields to be keyed twice.
    pub matching: Vec<PaymentField>,
    /// ISO 3166 letters of the bank account's country.
    pub bank_country: String,
    /// Key that ends a field.
    pub terminator: Option<Digit>,
    /// Key that clears a field.
    pub clear: Option<Digit>,
    /// How long to wait for the first key of a field.
    pub first_key: Duration,
    /// How long to wait for each further key.
    pub inter_key: Duration,
    /// Failed entries of one field after which the payment ends.
    pub attempts: u8,
    /// Whether the last digits of card and account numbers may be shown.
    pub last_digits: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            method: PaymentMethod::CreditCard,
            security_code: true,
            postal_code: true,
            min_postal_code: 5,
            card_types: Vec::new(),
            matching: Vec::new(),
            bank_country: "US".to_owned(),
            terminator: Digit::from_char('#'),
            clear: Digit::from_char('*'),
            first_key: Duration::from_secs(20),
            inter_key: Duration::from_secs(5),
            attempts: 3,
            last_digits: false,
        }
    }
}

/// Why a payment cannot be as asked. The asker is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Terminator and clear key must be different, and neither a decimal digit.
    #[error("terminator and clear key must differ and be one of * # A B C D")]
    Key,
    /// A timeout is not within 1 s … 600 s.
    #[error("timeouts must be between 1 s and 600 s")]
    Timeout,
    /// Attempts are not within 1 … [`MOST_ATTEMPTS`].
    #[error("attempts must be between 1 and {MOST_ATTEMPTS}")]
    Attempts,
    /// The postal code's length is not within 1 … [`MOST_POSTAL`].
    #[error("min_postal_code_length must be between 1 and {MOST_POSTAL}")]
    Postal,
    /// A field to be keyed twice is a matcher itself, or not wanted at all.
    #[error("require_matching_inputs must name fields that this payment wants")]
    Matching,
    /// Accounts of the country cannot be keyed.
    #[error("bank_country must be US, GB, or a country whose IBAN has digits only: {COUNTRIES_WORDS}")]
    Country,
}

/// How the bank accounts of a country are keyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accounts {
    /// Nine-digit routing number with ABA checksum, account of 4–17 digits.
    Us,
    /// Six-digit sort code, account of 6–8 digits.
    Gb,
    /// An IBAN: so many digits after the two letters.
    Iban([u8; 2], usize),
}

/// Digits after the letters of IBANs without further letters (ISO 13616 registry).
const IBANS: &[(&str, usize)] = &[
    ("AT", 18),
    ("BE", 14),
    ("CZ", 22),
    ("DE", 20),
    ("DK", 16),
    ("EE", 18),
    ("ES", 22),
    ("FI", 16),
    ("HR", 19),
    ("HU", 26),
    ("LT", 18),
    ("NO", 13),
    ("PL", 26),
    ("PT", 23),
    ("SE", 22),
    ("SI", 17),
    ("SK", 22),
];

const COUNTRIES_WORDS: &str = "AT BE CZ DE DK EE ES FI HR HU LT NO PL PT SE SI SK";

/// A checked wish.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(super) wish: Wish,
    pub(super) accounts: Accounts,
}

impl Spec {
    /// Checks what is asked for.
    pub fn new(wish: Wish) -> Result<Self, WishError> {
        let decimal = |key: &Option<Digit>| key.as_ref().is_some_and(|key| key.expose_event() < 10);
        let same = matches!((&wish.terminator, &wish.clear), (Some(a), Some(b)) if a.same_key(b));
        if decimal(&wish.terminator) || decimal(&wish.clear) || same {
            return Err(WishError::Key);
        }
        let sane = Duration::from_secs(1)..=Duration::from_secs(600);
        if !sane.contains(&wish.first_key) || !sane.contains(&wish.inter_key) {
            return Err(WishError::Timeout);
        }
        if !(1..=MOST_ATTEMPTS).contains(&wish.attempts) {
            return Err(WishError::Attempts);
        }
        if !(1..=MOST_POSTAL).contains(&wish.min_postal_code) {
            return Err(WishError::Postal);
        }
        let accounts = accounts(&wish.bank_country).ok_or(WishError::Country)?;
        let spec = Self { wish, accounts };
        let fits = |field: &PaymentField| !field.is_matcher() && spec.wants(*field);
        if !spec.wish.matching.iter().all(fits) {
            return Err(WishError::Matching);
        }
        Ok(spec)
    }

    /// What is paid with.
    pub fn method(&self) -> PaymentMethod {
        self.wish.method
    }

    /// Whether the payment gathers `field`, or may gather it as a matcher.
    pub fn wants(&self, field: PaymentField) -> bool {
        use PaymentField as F;
        let base = field.base();
        let wanted = match (self.wish.method, base) {
            (PaymentMethod::CreditCard, F::PaymentCardNumber | F::ExpirationDate) => true,
            (PaymentMethod::CreditCard, F::SecurityCode) => self.wish.security_code,
            (PaymentMethod::CreditCard, F::PostalCode) => self.wish.postal_code,
            (PaymentMethod::AchDebit, F::BankAccountNumber) => true,
            (PaymentMethod::AchDebit, F::BankRoutingNumber) => !matches!(self.accounts, Accounts::Iban(..)),
            _ => false,
        };
        wanted && (!field.is_matcher() || self.wish.matching.contains(&base))
    }

    /// Whether `field` is to be keyed twice.
    pub(super) fn matches(&self, field: PaymentField) -> bool {
        self.wish.matching.contains(&field)
    }

    /// The letters that stand before the keyed digits of an IBAN.
    pub fn iban_country(&self) -> Option<[u8; 2]> {
        match self.accounts {
            Accounts::Iban(country, _) => Some(country),
            Accounts::Us | Accounts::Gb => None,
        }
    }
}

fn accounts(country: &str) -> Option<Accounts> {
    match country {
        "US" => Some(Accounts::Us),
        "GB" => Some(Accounts::Gb),
        _ => {
            let (name, digits) = IBANS.iter().find(|(name, _)| *name == country)?;
            let letters = name.as_bytes();
            Some(Accounts::Iban([letters[0], letters[1]], *digits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Wish)) -> Option<WishError> {
        let mut wish = Wish::default();
        change(&mut wish);
        Spec::new(wish).err()
    }

    #[test]
    fn senseless_wishes_are_refused() {
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|w| w.terminator = Digit::from_char('*')), Some(WishError::Key));
        assert_eq!(with(|w| w.clear = Digit::from_char('5')), Some(WishError::Key));
        assert_eq!(with(|w| w.inter_key = Duration::ZERO), Some(WishError::Timeout));
        assert_eq!(with(|w| w.attempts = 0), Some(WishError::Attempts));
        assert_eq!(with(|w| w.min_postal_code = 11), Some(WishError::Postal));
        assert_eq!(with(|w| w.bank_country = "FR".into()), Some(WishError::Country));
        assert_eq!(with(|w| w.matching = vec![PaymentField::BankAccountNumber]), Some(WishError::Matching));
        assert_eq!(with(|w| w.matching = vec![PaymentField::SecurityCodeMatcher]), Some(WishError::Matching));
    }

    #[test]
    fn every_country_is_named_to_who_asks_for_another() {
        let names: Vec<&str> = IBANS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.join(" "), COUNTRIES_WORDS);
    }

    #[test]
    fn an_iban_needs_no_routing_number() {
        let bank = |country: &str| {
            let wish = Wish { method: PaymentMethod::AchDebit, bank_country: country.into(), ..Wish::default() };
            Spec::new(wish).expect("sane")
        };
        assert!(bank("US").wants(PaymentField::BankRoutingNumber));
        assert!(!bank("DE").wants(PaymentField::BankRoutingNumber));
        assert_eq!(bank("DE").iban_country(), Some(*b"DE"));
        assert!(!bank("US").wants(PaymentField::PaymentCardNumber));
    }
}
