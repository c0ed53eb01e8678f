//! One payment on a call: fields keyed by the caller in whatever order the agent asks for them, checked, and given to a
//! payment provider once. Orders of the agent, key presses, the provider's answer and the time go in; how far it is, as
//! marks, comes out, and at the submission the digits themselves in secret memory. It knows no telephony and no
//! provider, and never prints, logs or keeps a digit: whatever ends a payment wipes it.
//!
//! ```text
//!              capture(field)                 complete(): nothing is missing
//!   ┌─► idle ────────────────► capturing ──► idle ───────────────────────────► submitted
//!   │    ▲ accepted | not accepted, timeout │  ▲      re-enter a field               │
//!   │    └──────────────────────────────────┘  └─────────────────────────────────────┤
//!   │ any of them: cancel | caller hung up | too many failures | too long            │ approved | declined | failed
//!   └────────────────────────────────────────────────► ended ◄───────────────────────┘ | no answer: unknown
//! ```
//! Once submitted it cannot be cancelled, and the end of the call does not end it: what came of it must be known.

mod brand;
mod check;
mod entry;
mod mask;
mod spec;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use crate::base::ids::PaymentId;
use crate::base::payment::FieldError;
use crate::base::secret::{Digit, Digits};
use crate::obs::payment::{CardType, MaskedFields, PaymentField, PaymentProgress, PaymentResult, PaymentState};

use brand::Range;
use entry::{Around, By, Entry, Keyed};

pub use check::Month;
pub use spec::{LONGEST, MOST_ATTEMPTS, MOST_POSTAL, Spec, Wish, WishError};

/// How long the provider's answer is waited for; its connector gives up earlier.
pub const ANSWER: Duration = Duration::from_secs(180);

/// How long a caller has, at least, to key a field again that the provider did not accept.
const AGAIN: Duration = Duration::from_secs(120);

/// What an order, a key or an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing worth telling.
    Ignored,
    /// Tell [`Payment::progress`].
    Changed,
    /// It is over and everything keyed is wiped.
    Ended(PaymentResult),
}

/// Why an order was not obeyed. The asker is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over.
    #[error("the payment is over")]
    Over,
    /// It is with the payment provider.
    #[error("the payment has been submitted")]
    Submitted,
    /// This payment does not gather that field.
    #[error("this payment does not gather that field")]
    NotWanted,
    /// The field must be keyed before it is keyed again.
    #[error("the field itself must be captured before its matcher")]
    MatcherFirst,
    /// Fields are missing.
    #[error("fields are still missing; `required` names them")]
    Missing,
}

/// What a payment provider made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Approved,
    /// A field must be keyed again.
    ReEnter(PaymentField, FieldError),
    /// No.
    Declined,
    /// Nobody knows.
    Unknown,
    /// The provider could not be used; nothing was charged.
    Failed,
}

/// The digits of a submitted payment. Drop it and they are wiped.
#[derive(Debug)]
pub struct Captured {
    /// Fields and their digits, each once.
    pub fields: Vec<(PaymentField, Digits)>,
    /// Brand of the card.
    pub brand: Option<CardType>,
    /// Letters that belong before the account number.
    pub iban_country: Option<[u8; 2]>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Capturing(Entry),
    Submitted { until: Instant },
    Ended(PaymentResult),
}

/// What was told last.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    capture: Option<PaymentField>,
    partial: bool,
    error: Option<FieldError>,
}

const FIELDS: usize = PaymentField::ALL.len();

/// A payment.
#[derive(Debug)]
pub struct Payment {
    id: PaymentId,
    spec: Spec,
    today: Month,
    phase: Phase,
    held: [Option<Digits>; FIELDS],
    /// Which fields were keyed a second time, the same.
    confirmed: [bool; FIELDS],
    failures: [u8; FIELDS],
    brand: Option<CardType>,
    shown: MaskedFields,
    last: Last,
    deadline: Instant,
    /// The caller has gone; only the provider's answer is waited for.
    gone: bool,
}

impl Payment {
    /// Opens a payment at `now`, in the month of `today`.
    pub fn new(now: Instant, id: PaymentId, spec: Spec, today: Month) -> Self {
        Self {
            id,
            spec,
            today,
            phase: Phase::Idle,
            held: Default::default(),
            confirmed: Default::default(),
            failures: Default::default(),
            brand: None,
            shown: MaskedFields::default(),
            last: Last::default(),
            deadline: now + LONGEST,
            gone: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> PaymentId {
        self.id
    }

    /// What it gathers.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How far it is.
    pub fn state(&self) -> PaymentState {
        match self.phase {
            Phase::Idle | Phase::Capturing(_) => PaymentState::Open,
            Phase::Submitted { .. } => PaymentState::Submitted,
            Phase::Ended(_) => PaymentState::Ended,
        }
    }

    /// How it ended.
    pub fn result(&self) -> Option<PaymentResult> {
        match self.phase {
            Phase::Ended(result) => Some(result),
            Phase::Idle | Phase::Capturing(_) | Phase::Submitted { .. } => None,
        }
    }

    /// How far its capture is, as marks.
    pub fn progress(&self) -> PaymentProgress {
        PaymentProgress {
            capture: self.last.capture,
            partial_result: self.last.partial,
            required: if self.result().is_some() { Vec::new() } else { self.required() },
            error_type: self.last.error,
            fields: self.shown.clone(),
        }
    }

    /// Whether a digit is held: never after the end.
    pub fn holds_digits(&self) -> bool {
        self.held.iter().flatten().any(|digits| !digits.is_empty())
            || matches!(&self.phase, Phase::Capturing(entry) if entry.len() > 0)
    }

    /// The agent asks for a field: what was keyed for it before is wiped. A field being keyed is given up.
    pub fn capture(&mut self, now: Instant, field: PaymentField) -> Result<(), Refusal> {
        self.is_open()?;
        if !self.spec.wants(field) {
            return Err(Refusal::NotWanted);
        }
        if field.is_matcher() && self.held[field.index()].is_none() {
            return Err(Refusal::MatcherFirst);
        }
        self.give_up_entry();
        if field.is_matcher() {
            self.confirmed[field.index()] = false;
        } else {
            self.wipe(field);
        }
        self.phase = Phase::Capturing(Entry::new(now, field, &self.spec));
        self.last = Last { capture: Some(field), partial: true, error: None };
        Ok(())
    }

    /// The caller pressed a key.
    pub fn handle_digit(&mut self, now: Instant, digit: &Digit) -> Step {
        let Self { spec, brand, today, .. } = self;
        let around = Around { spec, brand: *brand, today: *today };
        let Phase::Capturing(entry) = &mut self.phase else { return Step::Ignored };
        match entry.handle_digit(now, digit, around) {
            Keyed::Ignored => Step::Ignored,
            Keyed::Changed => {
                let field = entry.field();
                *self.shown.place(field) = Some(mask::partial(field, entry.len()));
                self.last = Last { capture: Some(field), partial: true, error: None };
                Step::Changed
            }
            Keyed::Finished => self.finish_entry(By::Key),
        }
    }

    /// Everything is there: the digits, to be submitted. A copy stays until the provider has answered, because it may ask
    /// for a field again. A field being keyed is judged as if the caller had pressed the terminator; that may end the
    /// payment, so look at [`Payment::result`] after a refusal.
    pub fn complete(&mut self, now: Instant) -> Result<Captured, Refusal> {
        self.is_open()?;
        match &self.phase {
            Phase::Capturing(entry) if entry.len() > 0 => {
                self.finish_entry(By::Key);
            }
            Phase::Capturing(_) => self.give_up_entry(),
            Phase::Idle | Phase::Submitted { .. } | Phase::Ended(_) => {}
        }
        self.is_open()?;
        if !self.required().is_empty() {
            return Err(Refusal::Missing);
        }
        self.phase = Phase::Submitted { until: now + ANSWER };
        self.last = Last::default();
        let copied = |field: PaymentField| Some((field, copy(self.held[field.index()].as_ref()?)));
        Ok(Captured {
            fields: PaymentField::ALL.into_iter().filter_map(copied).collect(),
            brand: self.brand,
            iban_country: self.spec.iban_country(),
        })
    }

    /// The provider answered.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) -> Step {
        if !matches!(self.phase, Phase::Submitted { .. }) {
            return Step::Ignored;
        }
        match answer {
            Answer::Approved => self.end(PaymentResult::Success),
            Answer::Declined => self.end(PaymentResult::Declined),
            Answer::Unknown => self.end(PaymentResult::Unknown),
            Answer::Failed => self.end(PaymentResult::PaymentConnectorError),
            // Nobody is left to key it, or it was never asked for: as good as a refusal.
            Answer::ReEnter(..) if self.gone => self.end(PaymentResult::Declined),
            Answer::ReEnter(field, _) if !self.spec.wants(field.base()) => self.end(PaymentResult::Declined),
            Answer::ReEnter(field, error) => {
                let field = field.base();
                self.phase = Phase::Idle;
                self.deadline = self.deadline.max(now + AGAIN);
                self.wipe(field);
                self.failed(field, error)
            }
        }
    }

    /// Whoever runs it gives it up.
    pub fn cancel(&mut self) -> Result<Step, Refusal> {
        self.is_open()?;
        Ok(self.end(PaymentResult::Cancelled))
    }

    /// The call is over. What is submitted goes on, without its digits.
    pub fn hang_up(&mut self) -> Step {
        match self.phase {
            Phase::Idle | Phase::Capturing(_) => self.end(PaymentResult::CallerHungUp),
            Phase::Submitted { .. } => {
                self.gone = true;
                self.wipe_all();
                Step::Ignored
            }
            Phase::Ended(_) => Step::Ignored,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Step {
        match &self.phase {
            Phase::Submitted { until } if *until <= now => self.end(PaymentResult::Unknown),
            Phase::Submitted { .. } | Phase::Ended(_) => Step::Ignored,
            Phase::Idle | Phase::Capturing(_) if self.deadline <= now => self.end(PaymentResult::Expired),
            Phase::Capturing(entry) if entry.poll_timeout() <= now => self.finish_entry(By::Silence),
            Phase::Idle | Phase::Capturing(_) => Step::Ignored,
        }
    }

    /// When [`Payment::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => Some(self.deadline),
            Phase::Capturing(entry) => Some(entry.poll_timeout().min(self.deadline)),
            Phase::Submitted { until } => Some(*until),
            Phase::Ended(_) => None,
        }
    }

    fn is_open(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Idle | Phase::Capturing(_) => Ok(()),
            Phase::Submitted { .. } => Err(Refusal::Submitted),
            Phase::Ended(_) => Err(Refusal::Over),
        }
    }

    /// What is missing, in the order in which it is asked for.
    fn required(&self) -> Vec<PaymentField> {
        let missing = |field: PaymentField| {
            if self.held[field.index()].is_none() {
                Some(field)
            } else if self.spec.matches(field) && !self.confirmed[field.index()] {
                Some(field.matcher())
            } else {
                None
            }
        };
        PaymentField::ALL.into_iter().filter(|field| self.spec.wants(*field)).filter_map(missing).collect()
    }

    /// The field being keyed is at its end.
    fn finish_entry(&mut self, by: By) -> Step {
        let entry = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Capturing(entry) => entry,
            phase => {
                self.phase = phase;
                return Step::Ignored;
            }
        };
        let (field, keys) = (entry.field(), entry.len());
        *self.shown.place(field) = None;
        let around = Around { spec: &self.spec, brand: self.brand, today: self.today };
        match entry.finish(by, around) {
            Err(error) if keys == 0 => {
                // Nobody keyed anything wrong.
                self.last = Last { capture: Some(field), partial: false, error: Some(error) };
                Step::Changed
            }
            Err(error) => self.failed(field, error),
            Ok((digits, _)) if field.is_matcher() => self.confirm(field, &digits),
            Ok((digits, brand)) => self.accept(field, digits, brand),
        }
    }

    fn accept(&mut self, field: PaymentField, digits: Digits, brand: Option<CardType>) -> Step {
        *self.shown.place(field) = Some(mask::accepted(field, &digits, self.spec.wish.last_digits));
        self.held[field.index()] = Some(digits);
        self.last = Last { capture: Some(field), partial: false, error: None };
        if let Some(brand) = brand {
            self.brand = Some(brand);
            self.shown.payment_card_type = Some(brand);
            // A security code keyed before the card was known may have the wrong length for it.
            let code = PaymentField::SecurityCode;
            let held = self.held[code.index()].as_ref().map(Digits::len);
            if held.is_some_and(|length| length != Range::security_code(brand)) {
                self.wipe(code);
                return self.failed(code, FieldError::InvalidSecurityCode);
            }
        }
        Step::Changed
    }

    fn confirm(&mut self, field: PaymentField, again: &Digits) -> Step {
        let first = self.held[field.index()].as_ref();
        if first.is_some_and(|first| bool::from(first.expose().ct_eq(again.expose()))) {
            self.confirmed[field.index()] = true;
            self.last = Last { capture: Some(field), partial: false, error: None };
            return Step::Changed;
        }
        // Nobody knows which of the two was wrong.
        self.wipe(field.base());
        self.failed(field, FieldError::InputMatchingFailed)
    }

    fn failed(&mut self, field: PaymentField, error: FieldError) -> Step {
        self.last = Last { capture: Some(field), partial: false, error: Some(error) };
        let failures = &mut self.failures[field.index()];
        *failures = failures.saturating_add(1);
        if *failures >= self.spec.wish.attempts {
            return self.end(PaymentResult::TooManyFailedAttempts);
        }
        Step::Changed
    }

    fn give_up_entry(&mut self) {
        if let Phase::Capturing(entry) = &self.phase {
            *self.shown.place(entry.field()) = None;
            self.phase = Phase::Idle;
        }
    }

    /// Forgets a field, keyed once or twice.
    fn wipe(&mut self, field: PaymentField) {
        let field = field.base();
        self.held[field.index()] = None;
        self.confirmed[field.index()] = false;
        *self.shown.place(field) = None;
        if field == PaymentField::PaymentCardNumber {
            self.brand = None;
            self.shown.payment_card_type = None;
        }
    }

    fn wipe_all(&mut self) {
        self.held = Default::default();
        self.confirmed = Default::default();
    }

    fn end(&mut self, result: PaymentResult) -> Step {
        self.give_up_entry();
        self.wipe_all();
        self.last.partial = false;
        self.phase = Phase::Ended(result);
        Step::Ended(result)
    }
}

/// A second run of the same digits, in locked memory of its own.
fn copy(digits: &Digits) -> Digits {
    let mut copy = Digits::new();
    for key in digits.expose().iter().filter_map(|key| Digit::from_char(char::from(*key))) {
        // Both have room for the same number.
        let _ = copy.push(&key);
    }
    copy
}
