//! Payments as events and the API tell of them: names of fields, errors and results, in the words that developers of
//! telephone payments know. Names and masks only: the types have no room for what was keyed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::payment::FieldError;

/// What a caller keys for a payment. A `…-matcher` is the same field keyed a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentField {
    /// Card number: 12–19 digits.
    PaymentCardNumber,
    /// Month and year in which the card expires: MMYY.
    ExpirationDate,
    /// Card security code: 3 digits, 4 with American Express.
    SecurityCode,
    /// Postal code, digits only.
    PostalCode,
    /// Bank routing number; a sort code in Great Britain.
    BankRoutingNumber,
    /// Bank account number; where the country has IBANs, the digits of one after the country's letters.
    BankAccountNumber,
    /// Card number, keyed again.
    PaymentCardNumberMatcher,
    /// Expiry, keyed again.
    ExpirationDateMatcher,
    /// Security code, keyed again.
    SecurityCodeMatcher,
    /// Postal code, keyed again.
    PostalCodeMatcher,
    /// Routing number, keyed again.
    BankRoutingNumberMatcher,
    /// Account number, keyed again.
    BankAccountNumberMatcher,
}

impl PaymentField {
    /// The fields themselves, without matchers, in the order in which they are asked for.
    pub const ALL: [PaymentField; 6] = [
        PaymentField::PaymentCardNumber,
        PaymentField::ExpirationDate,
        PaymentField::SecurityCode,
        PaymentField::PostalCode,
        PaymentField::BankRoutingNumber,
        PaymentField::BankAccountNumber,
    ];

    /// The field that a matcher repeats; every other field is its own.
    pub const fn base(self) -> PaymentField {
        use PaymentField as F;
        match self {
            F::PaymentCardNumber | F::PaymentCardNumberMatcher => F::PaymentCardNumber,
            F::ExpirationDate | F::ExpirationDateMatcher => F::ExpirationDate,
            F::SecurityCode | F::SecurityCodeMatcher => F::SecurityCode,
            F::PostalCode | F::PostalCodeMatcher => F::PostalCode,
            F::BankRoutingNumber | F::BankRoutingNumberMatcher => F::BankRoutingNumber,
            F::BankAccountNumber | F::BankAccountNumberMatcher => F::BankAccountNumber,
        }
    }

    /// The matcher of a field; every matcher is its own.
    pub const fn matcher(self) -> PaymentField {
        use PaymentField as F;
        match self.base() {
            F::ExpirationDate => F::ExpirationDateMatcher,
            F::SecurityCode => F::SecurityCodeMatcher,
            F::PostalCode => F::PostalCodeMatcher,
            F::BankRoutingNumber => F::BankRoutingNumberMatcher,
            F::BankAccountNumber => F::BankAccountNumberMatcher,
            _ => F::PaymentCardNumberMatcher,
        }
    }

    /// Whether it repeats another field.
    pub fn is_matcher(self) -> bool {
        self != self.base()
    }

    /// Its place in [`PaymentField::ALL`], or that of the field it repeats.
    pub fn index(self) -> usize {
        let base = self.base();
        Self::ALL.iter().position(|field| *field == base).unwrap_or(0)
    }
}

/// How a payment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentResult {
    /// Charged, or turned into a token.
    Success,
    /// The payment provider or the bank said no.
    Declined,
    /// No answer of the payment provider: it may have been charged or not. It is never charged again; what came of it is
    /// found out and told by `payment-reconciled`.
    Unknown,
    /// Ended by whoever ran it.
    Cancelled,
    /// The call ended before it was submitted.
    CallerHungUp,
    /// A field was keyed wrongly too often.
    TooManyFailedAttempts,
    /// The payment provider could not be used.
    PaymentConnectorError,
    /// It was open for too long.
    Expired,
}

/// What is paid with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentMethod {
    /// A card.
    #[default]
    CreditCard,
    /// A bank account.
    AchDebit,
}

/// Brand of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum CardType {
    Visa,
    Mastercard,
    Amex,
    DinersClub,
    Discover,
    Jcb,
    Unionpay,
    Maestro,
    Mir,
    Rupay,
    Elo,
    Verve,
    Troy,
    Uatp,
}

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentState {
    /// Fields can be captured.
    Open,
    /// With the payment provider.
    Submitted,
    /// Over; `result` tells how.
    Ended,
}

/// What stands in each field, as marks: `xxxx-xxxx-x` while it is keyed, `xxxx-xxxxxx-x0005` when it is accepted and
/// the configuration allows the last digits to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MaskedFields {
    /// Card number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xxxx-xxxx-xxxx-4242")]
    pub payment_card_number: Option<String>,
    /// Brand, known with the whole number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_card_type: Option<CardType>,
    /// Expiry: marks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xx/xx")]
    pub expiration_date: Option<String>,
    /// Security code: marks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xxx")]
    pub security_code: Option<String>,
    /// Postal code: marks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xxxxx")]
    pub postal_code: Option<String>,
    /// Routing number: marks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xxxxxxxxx")]
    pub bank_routing_number: Option<String>,
    /// Account number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "*******92")]
    pub bank_account_number: Option<String>,
    /// The matcher being keyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "xxx")]
    pub matcher: Option<String>,
}

impl MaskedFields {
    /// The place of a field; matchers share one.
    pub fn place(&mut self, field: PaymentField) -> &mut Option<String> {
        use PaymentField as F;
        match field {
            F::PaymentCardNumber => &mut self.payment_card_number,
            F::ExpirationDate => &mut self.expiration_date,
            F::SecurityCode => &mut self.security_code,
            F::PostalCode => &mut self.postal_code,
            F::BankRoutingNumber => &mut self.bank_routing_number,
            F::BankAccountNumber => &mut self.bank_account_number,
            F::PaymentCardNumberMatcher
            | F::ExpirationDateMatcher
            | F::SecurityCodeMatcher
            | F::PostalCodeMatcher
            | F::BankRoutingNumberMatcher
            | F::BankAccountNumberMatcher => &mut self.matcher,
        }
    }
}

/// How far the capture of a payment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaymentProgress {
    /// The field that the caller keys now, or the one just finished.
    pub capture: Option<PaymentField>,
    /// Whether the field is still being keyed.
    pub partial_result: bool,
    /// What is still missing; nothing: it can be completed.
    pub required: Vec<PaymentField>,
    /// Why the field was not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<FieldError>,
    /// What stands in the fields, as marks.
    #[serde(flatten)]
    pub fields: MaskedFields,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_a_matcher_that_leads_back_to_it() {
        for (place, field) in PaymentField::ALL.into_iter().enumerate() {
            assert_eq!((field.base(), field.is_matcher(), field.index()), (field, false, place));
            let matcher = field.matcher();
            assert_eq!((matcher.base(), matcher.is_matcher(), matcher.index()), (field, true, place));
            let name = |field| serde_json::to_value(field).expect("a name").as_str().expect("text").to_owned();
            assert_eq!(name(matcher), format!("{}-matcher", name(field)));
        }
    }
}
