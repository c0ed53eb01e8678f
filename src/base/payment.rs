//! The words of a payment that several rooms share: its fields, what can be wrong with one, and card brands, named as
//! telephony payment APIs name them. Words only: nothing here can hold a digit.

use serde::{Deserialize, Serialize};

/// A field of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The card number.
    PaymentCardNumber,
    /// Month and year of expiry.
    ExpirationDate,
    /// The card's security code.
    SecurityCode,
    /// The postal code of the card's billing address.
    PostalCode,
    /// The routing number of a bank account.
    BankRoutingNumber,
    /// The number of a bank account.
    BankAccountNumber,
}

impl Field {
    /// Every field.
    pub const ALL: [Field; 6] = [
        Field::PaymentCardNumber,
        Field::ExpirationDate,
        Field::SecurityCode,
        Field::PostalCode,
        Field::BankRoutingNumber,
        Field::BankAccountNumber,
    ];

    /// Its word in the API and in connectors.
    pub const fn name(self) -> &'static str {
        match self {
            Field::PaymentCardNumber => "payment-card-number",
            Field::ExpirationDate => "expiration-date",
            Field::SecurityCode => "security-code",
            Field::PostalCode => "postal-code",
            Field::BankRoutingNumber => "bank-routing-number",
            Field::BankAccountNumber => "bank-account-number",
        }
    }
}

/// What is wrong with what was keyed, or why a field was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldError {
    /// Not enough keys in time.
    InputTimeout,
    /// Length, first digits or check digit make no card number, or the provider does not know the card.
    InvalidCardNumber,
    /// A card of a brand that is not taken.
    InvalidCardType,
    /// No month and year, or one that is past.
    InvalidDate,
    /// Not the brand's length, or the provider says it does not belong to the card.
    InvalidSecurityCode,
    /// Too short or too long, or the provider says it does not belong to the card.
    InvalidPostalCode,
    /// The check digit or the provider refuses it.
    InvalidBankRoutingNumber,
    /// The length or the provider refuses it.
    InvalidBankAccountNumber,
    /// A kind of account that is not taken.
    InvalidBankAccountType,
    /// The security code was asked for before the card number, whose brand says its length.
    InvalidCardNumberSecurityCodeCaptureSequence,
    /// The second entry is not the first one.
    InputMatchingFailed,
    /// Another field is being captured.
    SessionInProgress,
    /// A fault of ours.
    InternalError,
}

impl FieldError {
    /// Its word in the API and in connectors.
    pub const fn name(self) -> &'static str {
        match self {
            FieldError::InputTimeout => "input-timeout",
            FieldError::InvalidCardNumber => "invalid-card-number",
            FieldError::InvalidCardType => "invalid-card-type",
            FieldError::InvalidDate => "invalid-date",
            FieldError::InvalidSecurityCode => "invalid-security-code",
            FieldError::InvalidPostalCode => "invalid-postal-code",
            FieldError::InvalidBankRoutingNumber => "invalid-bank-routing-number",
            FieldError::InvalidBankAccountNumber => "invalid-bank-account-number",
            FieldError::InvalidBankAccountType => "invalid-bank-account-type",
            FieldError::InvalidCardNumberSecurityCodeCaptureSequence => {
                "invalid-card-number-security-code-capture-sequence"
            }
            FieldError::InputMatchingFailed => "input-matching-failed",
            FieldError::SessionInProgress => "session-in-progress",
            FieldError::InternalError => "internal-error",
        }
    }
}

/// The brand of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Brand {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
    /// American Express.
    Amex,
    /// Discover.
    Discover,
    /// Diners Club.
    DinersClub,
    /// JCB.
    Jcb,
    /// Maestro.
    Maestro,
    /// China UnionPay.
    UnionPay,
    /// Any other.
    Other,
}

impl Brand {
    /// Its word in the API and in connectors.
    pub const fn name(self) -> &'static str {
        match self {
            Brand::Visa => "visa",
            Brand::Mastercard => "mastercard",
            Brand::Amex => "amex",
            Brand::Discover => "discover",
            Brand::DinersClub => "diners-club",
            Brand::Jcb => "jcb",
            Brand::Maestro => "maestro",
            Brand::UnionPay => "union-pay",
            Brand::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_is_serialised() {
        for field in Field::ALL {
            assert_eq!(serde_json::to_string(&field).ok(), Some(format!("\"{}\"", field.name())));
        }
        let error = FieldError::InvalidCardNumberSecurityCodeCaptureSequence;
        assert_eq!(serde_json::to_string(&error).ok(), Some(format!("\"{}\"", error.name())));
        for brand in [Brand::DinersClub, Brand::UnionPay, Brand::Amex] {
            assert_eq!(serde_json::to_string(&brand).ok(), Some(format!("\"{}\"", brand.name())));
        }
    }
}
