//! Payment service providers: what a capture gives (a [`Charge`], with the digits in locked memory) goes in; what came of
//! it (an [`Outcome`]) comes out. Knows neither calls nor telephony, opens no socket (`rt/psp` does), and lets no digit,
//! token or key into a log line, an error or the store.

mod exchange;
mod json;
mod record;
mod render;
pub mod sandbox;
mod submit;

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::base::ids::PaymentId;
use crate::base::payment::{Brand, Field, FieldError};
use crate::base::secret::Digits;

pub use exchange::{Reply, Request};
pub use record::{Ending, Record, State};
pub use submit::Machine;

/// The connector of a configuration that names none: the built-in provider.
pub const SANDBOX: &str = "sandbox";

/// A payment to be made: everything the provider needs, once. Dropped, it is wiped.
#[derive(Debug)]
pub struct Charge {
    /// The payment.
    pub payment: PaymentId,
    /// Counts the times this payment is submitted, from 1: what is keyed anew after [`Outcome::ReEnter`] is another
    /// attempt.
    pub attempt: u32,
    /// Name of the connector; `None`: the first one of the configuration.
    pub connector: Option<String>,
    /// What is to be done.
    pub operation: Operation,
    /// What the customer keyed.
    pub fields: Fields,
    /// The brand of the card, where it is known.
    pub brand: Option<Brand>,
    /// What it is for, as the customer's statement may say.
    pub description: Option<String>,
    /// Further texts for the connector (`{parameter.name}`), such as an order number. Not secret.
    pub parameters: BTreeMap<String, String>,
}

impl Charge {
    /// The key under which the provider recognises this attempt when it comes twice.
    pub fn idempotency(&self) -> IdempotencyKey {
        IdempotencyKey::new(self.payment, self.attempt)
    }
}

/// What a payment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Money is taken.
    Charge {
        /// In the currency's smallest unit (cents).
        amount_minor: u64,
        /// ISO 4217 code, three capital letters.
        currency: String,
    },
    /// The card or account is only exchanged for a token.
    Token,
}

/// What a customer keyed: ASCII digits in locked memory, wiped when dropped. Prints nothing but which are there.
#[derive(Default)]
pub struct Fields {
    /// The card number.
    pub card: Option<Digits>,
    /// Expiry as keyed and checked: month and year, `MMYY`.
    pub expiry: Option<Digits>,
    /// The security code.
    pub security_code: Option<Digits>,
    /// The postal code.
    pub postal_code: Option<Digits>,
    /// The number of a bank account.
    pub bank_account: Option<Digits>,
    /// The routing number of a bank account.
    pub bank_routing: Option<Digits>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields")
            .field("card", &self.card.is_some())
            .field("expiry", &self.expiry.is_some())
            .field("security_code", &self.security_code.is_some())
            .field("postal_code", &self.postal_code.is_some())
            .field("bank_account", &self.bank_account.is_some())
            .field("bank_routing", &self.bank_routing.is_some())
            .finish()
    }
}

/// What came of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it.
    Approved {
        /// What stands for the card from now on.
        token: Option<Token>,
        /// The provider's name for the payment.
        reference: Option<String>,
    },
    /// The provider refuses one field; nothing was charged. Captured anew, the payment may be submitted again.
    ReEnter {
        /// The field.
        field: Field,
        /// What is wrong with it.
        error: FieldError,
    },
    /// The provider refuses the payment; nothing was charged.
    Declined {
        /// Why, in the provider's word (letters, digits, `-`, `_`, `.`), or `declined`.
        code: String,
    },
    /// Nobody knows yet whether it was charged. The provider is asked until it is known; a later [`Answer`] of the same
    /// payment tells. It must not be submitted again meanwhile.
    Unknown,
    /// It was not made and nothing was charged; a fault of ours, of the configuration or of the provider.
    Failed {
        /// Why.
        reason: Failure,
    },
}

/// Why a payment was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is no connector of that name.
    NoConnector,
    /// A value that the connector's templates need is not there.
    MissingField,
    /// The connector cannot do this (it has no steps for it).
    Unsupported,
    /// The provider could not be reached, or answered with an error, before anything was charged.
    Unavailable,
    /// The provider refused our request or our credentials.
    Refused,
    /// An answer that the connector has no words for.
    Misunderstood,
    /// Too many payments are under way.
    Overloaded,
    /// It is certain only now: the provider knows of no charge, or has taken it back.
    NotCharged,
    /// The store of payments cannot be written; nothing is sent without it.
    Store,
    /// The payment was submitted before, under the same attempt.
    Duplicate,
    /// A fault of ours.
    Internal,
}

impl Failure {
    /// Its word in the API and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::NoConnector => "no-connector",
            Failure::MissingField => "missing-field",
            Failure::Unsupported => "unsupported",
            Failure::Unavailable => "unavailable",
            Failure::Refused => "refused",
            Failure::Misunderstood => "misunderstood",
            Failure::Overloaded => "overloaded",
            Failure::NotCharged => "not-charged",
            Failure::Store => "store",
            Failure::Duplicate => "duplicate",
            Failure::Internal => "internal",
        }
    }
}

/// An outcome on its way back. A payment gets one answer for each attempt; after [`Outcome::Unknown`], one more when it is
/// known, be it hours later or after a restart (then nobody may be waiting any more: it is told all the same).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The payment.
    pub payment: PaymentId,
    /// The attempt.
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
}

/// What stands for a card or account at the provider. Worth money to whoever holds our credentials: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Keeps a text as a token.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one who asked for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The key under which a provider recognises a repeated request: the same text for each try of one attempt, also after a
/// crash, and another one for each attempt, because providers refuse a key that comes with other digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key of an attempt.
    pub fn new(payment: PaymentId, attempt: u32) -> Self {
        Self(format!("{payment}-{attempt}"))
    }

    /// Its text: ASCII, at most 48 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where charges go. Called on the engine's task: it must take the charge and return. Every charge gets an [`Answer`],
/// which comes back to the engine as an input.
pub trait Gateway: Send {
    /// Takes a charge.
    fn submit(&mut self, charge: Charge);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use crate::base::secret::Digit;
    use rand::SeedableRng;

    fn digits(text: &str) -> Digits {
        let mut digits = Digits::new();
        for c in text.chars() {
            assert!(digits.push(&Digit::from_char(c).expect("a key")));
        }
        digits
    }

    #[test]
    fn a_charge_and_its_outcome_print_neither_digit_nor_token() {
        let payment = PaymentId::draw(&mut Random::seed_from_u64(1));
        let fields =
            Fields { card: Some(digits("4242424242424242")), expiry: Some(digits("1234")), ..Fields::default() };
        let charge = Charge {
            payment,
            attempt: 1,
            connector: None,
            operation: Operation::Token,
            fields,
            brand: Some(Brand::Visa),
            description: None,
            parameters: BTreeMap::new(),
        };
        let printed = format!("{charge:?}");
        let after = printed.replace(&payment.to_string(), "");
        assert!(!after.contains("4242") && !after.contains("1234"), "{after}");
        let outcome = Outcome::Approved { token: Some(Token::new("tok_secret".into())), reference: None };
        assert!(!format!("{outcome:?}").contains("secret"));
    }

    #[test]
    fn each_attempt_has_a_key_of_its_own_that_stays_the_same() {
        let payment = PaymentId::draw(&mut Random::seed_from_u64(1));
        let key = IdempotencyKey::new(payment, 1);
        assert_eq!(key, IdempotencyKey::new(payment, 1));
        assert_ne!(key, IdempotencyKey::new(payment, 2));
        assert!(key.as_str().len() <= 48);
    }
}
