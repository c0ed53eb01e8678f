//! What the API may ask of payments, and what it is told: requests and answers without room for a digit. A request goes
//! in, a checked wish for the capture machine and the payment provider comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::signal::{SignalError, key};
use crate::base::ids::{CallId, PaymentId};
use crate::capture::payment::{Spec, Wish, WishError};
use crate::obs::event::PaymentOutcome;
use crate::obs::payment::{CardType, PaymentField, PaymentMethod, PaymentProgress, PaymentResult, PaymentState};
use crate::obs::redact::redact;
use crate::psp::Operation;

/// The most characters of a description or a parameter.
const MOST_TEXT: usize = 250;

/// The most parameters.
const MOST_PARAMETERS: usize = 16;

/// A payment as asked for. Names and defaults follow the payment API that telephone developers know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentRequest {
    /// Connector to the payment provider; the first of the configuration when absent.
    pub payment_connector: Option<String>,
    /// What is paid with; `credit-card` when absent.
    pub payment_method: PaymentMethod,
    /// Amount in units of the currency, for instance `"10.50"`. Absent, empty or zero: nothing is charged, the card or
    /// account becomes a token.
    #[schema(example = "10.50")]
    pub charge_amount: Option<String>,
    /// ISO 4217 code; `USD` when absent.
    #[schema(example = "USD")]
    pub currency: Option<String>,
    /// What it is for, as the customer's statement may say; at most 250 characters.
    pub description: Option<String>,
    /// Further texts for the connector; at most 16.
    pub parameter: BTreeMap<String, String>,
    /// Whether a security code is wanted; true when absent.
    pub security_code: Option<bool>,
    /// Whether a postal code is wanted; true when absent.
    pub postal_code: Option<bool>,
    /// Fewest digits of the postal code, 1–10; 5 when absent.
    pub min_postal_code_length: Option<u8>,
    /// Brands taken; all when absent or empty.
    pub valid_card_types: Vec<CardType>,
    /// Fields that must be keyed twice, the same.
    pub require_matching_inputs: Vec<PaymentField>,
    /// ISO 3166 code of the bank account's country; `US` when absent.
    #[schema(example = "US")]
    pub bank_country: Option<String>,
    /// Seconds to wait for each further key, 1–600; 5 when absent.
    pub timeout: Option<u16>,
    /// Seconds to wait for the first key of a field, 1–600; 20 when absent.
    pub first_key_timeout: Option<u16>,
    /// Failed entries of one field after which the payment ends, 1–10; 3 when absent.
    pub attempts: Option<u8>,
    /// Key that ends a field; `#` when absent, none when empty.
    pub terminator: Option<String>,
    /// Key that clears a field; `*` when absent, none when empty.
    pub clear: Option<String>,
}

/// What goes to the payment provider beside the digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) connector: String,
    pub(super) operation: Operation,
    pub(super) description: Option<String>,
    pub(super) parameters: BTreeMap<String, String>,
}

impl PaymentRequest {
    /// The checked forms: what is gathered, and what is asked of the provider. `connectors` are those there are.
    pub(super) fn check(&self, connectors: &[String], last_digits: bool) -> Result<(Spec, Bill), SignalError> {
        let usual = Wish::default();
        let seconds = |s: Option<u16>, usual| s.map_or(usual, |s| Duration::from_secs(u64::from(s)));
        let wish = Wish {
            method: self.payment_method,
            security_code: self.security_code.unwrap_or(usual.security_code),
            postal_code: self.postal_code.unwrap_or(usual.postal_code),
            min_postal_code: self.min_postal_code_length.map_or(usual.min_postal_code, usize::from),
            card_types: self.valid_card_types.clone(),
            matching: self.require_matching_inputs.clone(),
            bank_country: self.bank_country.clone().unwrap_or(usual.bank_country),
            terminator: key(self.terminator.as_deref().unwrap_or("#"))
                .map_err(|_| SignalError::BadPayment(WishError::Key))?,
            clear: key(self.clear.as_deref().unwrap_or("*")).map_err(|_| SignalError::BadPayment(WishError::Key))?,
            first_key: seconds(self.first_key_timeout, usual.first_key),
            inter_key: seconds(self.timeout, usual.inter_key),
            attempts: self.attempts.unwrap_or(usual.attempts),
            last_digits,
        };
        let spec = Spec::new(wish)?;
        let connector = match &self.payment_connector {
            None => connectors.first().ok_or(SignalError::NoConnector)?,
            Some(name) => connectors.iter().find(|known| *known == name).ok_or(SignalError::NoConnector)?,
        };
        let texts = self.parameter.iter().flat_map(|(name, value)| [name, value]).chain(&self.description);
        if self.parameter.len() > MOST_PARAMETERS || !texts.into_iter().all(|text| is_harmless(text)) {
            return Err(SignalError::BadText);
        }
        let bill = Bill {
            connector: connector.clone(),
            operation: self.operation()?,
            description: self.description.clone(),
            parameters: self.parameter.clone(),
        };
        Ok((spec, bill))
    }

    fn operation(&self) -> Result<Operation, SignalError> {
        let currency = self.currency.as_deref().unwrap_or("USD");
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(SignalError::BadAmount);
        }
        let amount_minor = match self.charge_amount.as_deref().unwrap_or("") {
            "" => 0,
            text => minor(text, exponent(currency)).ok_or(SignalError::BadAmount)?,
        };
        if amount_minor == 0 {
            return Ok(Operation::Token);
        }
        Ok(Operation::Charge { amount_minor, currency: currency.to_owned() })
    }
}

/// A text that may stand in events, logs and the provider's books: one line, bounded, no card number.
fn is_harmless(text: &str) -> bool {
    let clean = redact(&mut text.as_bytes().to_vec()) == 0;
    clean && text.chars().count() <= MOST_TEXT && !text.chars().any(char::is_control)
}

/// Digits after the point of a currency (ISO 4217).
fn exponent(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// An amount in the smallest unit: digits, and at most `exponent` more after a point.
fn minor(text: &str, exponent: usize) -> Option<u64> {
    let (units, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let point = text.contains('.');
    if !(1..=10).contains(&units.len()) || !digits(units) || !digits(rest) || rest.len() > exponent {
        return None;
    }
    if point && rest.is_empty() {
        return None;
    }
    format!("{units}{rest:0<exponent$}").parse().ok()
}

/// The amount as people write it.
fn written(amount_minor: u64, exponent: usize) -> String {
    let scale = 10_u64.pow(u32::try_from(exponent).unwrap_or(0));
    match exponent {
        0 => amount_minor.to_string(),
        _ => format!("{}.{:0exponent$}", amount_minor / scale, amount_minor % scale),
    }
}

/// An order about the payments of a call.
#[derive(Debug, Clone)]
pub enum PaymentOrder {
    /// Begins one. Answered by [`super::Reply::Payment`], as are all but [`PaymentOrder::List`].
    Start(Box<PaymentRequest>),
    /// The call's payments, oldest first. Answered by [`super::Reply::Payments`].
    List,
    /// One payment, also for a while after its call has ended.
    Get(PaymentId),
    /// Captures a field.
    Capture(PaymentId, PaymentField),
    /// Submits it.
    Complete(PaymentId),
    /// Gives it up.
    Cancel(PaymentId),
}

/// A payment as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PaymentView {
    /// Payment.
    #[schema(value_type = String)]
    pub id: PaymentId,
    /// Its call.
    #[schema(value_type = String)]
    pub call: CallId,
    /// How far it is.
    pub state: PaymentState,
    /// Connector to the payment provider; not told to agents, auditors and panels.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub payment_connector: String,
    /// What is paid with.
    pub payment_method: PaymentMethod,
    /// Amount; absent when only a token is made.
    #[schema(example = "10.50")]
    pub charge_amount: Option<String>,
    /// Currency of the amount.
    #[schema(example = "USD")]
    pub currency: Option<String>,
    /// Name of the API key that began it.
    pub by: String,
    /// How it ended.
    pub result: Option<PaymentResult>,
    /// How far its capture is, as marks.
    #[serde(flatten)]
    pub progress: PaymentProgress,
    /// What the payment provider made of it.
    #[serde(flatten)]
    pub outcome: PaymentOutcome,
}

impl Bill {
    /// Amount and currency as shown.
    pub(super) fn shown(&self) -> (Option<String>, Option<String>) {
        match &self.operation {
            Operation::Charge { amount_minor, currency } => {
                (Some(written(*amount_minor, exponent(currency))), Some(currency.clone()))
            }
            Operation::Token => (None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut PaymentRequest)) -> Result<(Spec, Bill), SignalError> {
        let mut request = PaymentRequest::default();
        change(&mut request);
        request.check(&["sandbox".to_owned(), "other".to_owned()], false)
    }

    #[test]
    fn amounts_become_the_smallest_unit_and_back() {
        for (text, currency, amount) in [
            ("10.50", "USD", 1050),
            ("10", "USD", 1000),
            ("0.1", "EUR", 10),
            ("500", "JPY", 500),
            ("1.234", "KWD", 1234),
        ] {
            let asked = |r: &mut PaymentRequest| {
                (r.charge_amount, r.currency) = (Some(text.into()), Some(currency.into()));
            };
            let (_, bill) = check(asked).expect("sane");
            let operation = Operation::Charge { amount_minor: amount, currency: currency.into() };
            assert_eq!(bill.operation, operation, "{text} {currency}");
        }
        for (text, currency) in [
            ("1.505", "USD"),
            ("1.5", "JPY"),
            ("-1", "USD"),
            ("1.", "USD"),
            (".5", "USD"),
            ("1e3", "USD"),
            ("1", "usd"),
        ] {
            let asked = |r: &mut PaymentRequest| {
                (r.charge_amount, r.currency) = (Some(text.into()), Some(currency.into()));
            };
            assert_eq!(check(asked).err(), Some(SignalError::BadAmount), "{text} {currency}");
        }
        assert_eq!((written(1050, 2), written(7, 2), written(7, 0)), ("10.50".into(), "0.07".into(), "7".into()));
        let (_, token) = check(|r| r.charge_amount = Some("0.00".into())).expect("sane");
        assert_eq!((token.operation.clone(), token.shown()), (Operation::Token, (None, None)));
    }

    #[test]
    fn the_connector_is_one_of_the_configuration() {
        assert_eq!(check(|_| ()).expect("sane").1.connector, "sandbox");
        assert_eq!(check(|r| r.payment_connector = Some("other".into())).expect("sane").1.connector, "other");
        assert_eq!(check(|r| r.payment_connector = Some("none".into())).err(), Some(SignalError::NoConnector));
    }

    #[test]
    fn a_card_number_in_a_text_is_refused() {
        assert!(check(|r| r.description = Some("order 1001".into())).is_ok());
        for text in ["4242 4242 4242 4242", "two\nlines"] {
            assert_eq!(check(|r| r.description = Some(text.into())).err(), Some(SignalError::BadText));
            let parameter = |r: &mut PaymentRequest| drop(r.parameter.insert("note".into(), text.into()));
            assert_eq!(check(parameter).err(), Some(SignalError::BadText));
        }
    }
}
