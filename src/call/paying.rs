//! The payment of one call: takes its mask and pause when it begins and keeps them until it is over, gives it the keys
//! that the customer presses, and turns it into a charge. Orders, keys, answers and the time go in; events, the charge
//! and holds come out. Nothing that happens to the call's legs reaches it: only its own end lifts its mask.

use std::time::Instant;

use super::SignalError;
use super::outbox::Outbox;
use super::payment_signal::{Bill, PaymentView};
use super::protection::{LINGER, LONGEST_LINGER, Lingering, Protection};
use crate::base::Random;
use crate::base::ids::{CallId, PaymentId};
use crate::base::payment::{Brand, Field};
use crate::base::secret::Digit;
use crate::capture::payment::{ANSWER, Answer, Captured, LONGEST, Month, Payment, Refusal, Spec, Step};
use crate::guard::holds::Owner;
use crate::obs::event::{EventKind, HoldKind, PaymentOutcome};
use crate::obs::payment::{CardType, PaymentField, PaymentResult};
use crate::psp::{Charge, Fields, Outcome};

/// A payment, and what the payment provider is asked and says about it.
#[derive(Debug)]
pub(super) struct Paying {
    call: CallId,
    payment: Payment,
    bill: Bill,
    by: String,
    /// Times it was submitted.
    attempt: u32,
    outcome: PaymentOutcome,
}

impl Paying {
    pub(super) fn id(&self) -> PaymentId {
        self.payment.id()
    }

    pub(super) fn view(&self) -> PaymentView {
        let (charge_amount, currency) = self.bill.shown();
        PaymentView {
            id: self.payment.id(),
            call: self.call,
            state: self.payment.state(),
            payment_connector: self.bill.connector.clone(),
            payment_method: self.payment.spec().method(),
            charge_amount,
            currency,
            by: self.by.clone(),
            result: self.payment.result(),
            progress: self.payment.progress(),
            outcome: self.outcome.clone(),
        }
    }

    /// Whether `actor` may steer it: who began it, or who may override.
    pub(super) fn is_steered_by(&self, actor: &super::Actor) -> bool {
        actor.may_override() || self.by == actor.name
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.payment.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Step {
        self.payment.handle_timeout(now)
    }

    /// The provider answered the submission `attempt`.
    pub(super) fn handle_answer(&mut self, now: Instant, attempt: u32, outcome: Outcome) -> Step {
        if attempt != self.attempt {
            return Step::Ignored;
        }
        let (answer, told) = read(outcome);
        let step = self.payment.handle_answer(now, answer);
        if step != Step::Ignored {
            self.outcome = told;
        }
        step
    }

    /// Tells what a step came to, and whether the payment is over.
    pub(super) fn tell(&self, now: Instant, step: Step, out: &mut Outbox) -> bool {
        let payment = self.payment.id();
        let progress = self.payment.progress();
        match step {
            Step::Ignored => false,
            Step::Changed => {
                out.event(self.call, EventKind::PaymentUpdated { payment, progress });
                false
            }
            Step::Ended(result) => {
                if progress.error_type.is_some() {
                    out.event(self.call, EventKind::PaymentUpdated { payment, progress });
                }
                out.event(self.call, EventKind::PaymentEnded { payment, result, outcome: self.outcome.clone() });
                out.payments_over.push((now, self.view()));
                true
            }
        }
    }

    fn charge(&self, captured: Captured) -> Charge {
        let mut fields = Fields::default();
        for (field, digits) in captured.fields {
            *place(&mut fields, field) = Some(digits);
        }
        let mut parameters = self.bill.parameters.clone();
        if let Some(letters) = captured.iban_country {
            parameters.insert("bank_country".to_owned(), String::from_utf8_lossy(&letters).into_owned());
        }
        Charge {
            payment: self.payment.id(),
            attempt: self.attempt,
            connector: Some(self.bill.connector.clone()),
            operation: self.bill.operation.clone(),
            fields,
            brand: captured.brand.map(brand),
            description: self.bill.description.clone(),
            parameters,
        }
    }
}

fn place(fields: &mut Fields, field: PaymentField) -> &mut Option<crate::base::secret::Digits> {
    match field.base() {
        PaymentField::ExpirationDate => &mut fields.expiry,
        PaymentField::SecurityCode => &mut fields.security_code,
        PaymentField::PostalCode => &mut fields.postal_code,
        PaymentField::BankRoutingNumber => &mut fields.bank_routing,
        PaymentField::BankAccountNumber => &mut fields.bank_account,
        _ => &mut fields.card,
    }
}

fn brand(brand: CardType) -> Brand {
    match brand {
        CardType::Visa => Brand::Visa,
        CardType::Mastercard => Brand::Mastercard,
        CardType::Amex => Brand::Amex,
        CardType::DinersClub => Brand::DinersClub,
        CardType::Discover => Brand::Discover,
        CardType::Jcb => Brand::Jcb,
        CardType::Unionpay => Brand::UnionPay,
        CardType::Maestro => Brand::Maestro,
        CardType::Mir | CardType::Rupay | CardType::Elo | CardType::Verve | CardType::Troy | CardType::Uatp => {
            Brand::Other
        }
    }
}

/// What an outcome means to the capture, and what of it is told.
fn read(outcome: Outcome) -> (Answer, PaymentOutcome) {
    let nothing = PaymentOutcome::default();
    match outcome {
        Outcome::Approved { token, reference } => {
            let payment_token = token.map(|token| token.expose().to_owned());
            (Answer::Approved, PaymentOutcome { payment_token, payment_confirmation_code: reference, ..nothing })
        }
        Outcome::ReEnter { field, error } => {
            let field = match field {
                Field::PaymentCardNumber => PaymentField::PaymentCardNumber,
                Field::ExpirationDate => PaymentField::ExpirationDate,
                Field::SecurityCode => PaymentField::SecurityCode,
                Field::PostalCode => PaymentField::PostalCode,
                Field::BankRoutingNumber => PaymentField::BankRoutingNumber,
                Field::BankAccountNumber => PaymentField::BankAccountNumber,
            };
            (Answer::ReEnter(field, error), nothing)
        }
        Outcome::Declined { code } => (Answer::Declined, PaymentOutcome { pay_error_code: Some(code), ..nothing }),
        Outcome::Unknown => (Answer::Unknown, nothing),
        Outcome::Failed { reason } => {
            (Answer::Failed, PaymentOutcome { pay_error_code: Some(reason.name().to_owned()), ..nothing })
        }
    }
}

/// What became of a payment whose result was unknown; `None`: it still is.
pub(super) fn found_out(outcome: Outcome) -> Option<(PaymentResult, PaymentOutcome)> {
    let (answer, told) = read(outcome);
    let result = match answer {
        Answer::Approved => PaymentResult::Success,
        Answer::Declined | Answer::ReEnter(..) => PaymentResult::Declined,
        Answer::Failed => PaymentResult::PaymentConnectorError,
        Answer::Unknown => return None,
    };
    Some((result, told))
}

impl Protection {
    /// The payment that is not over.
    pub(super) fn payment(&self) -> Option<&Paying> {
        self.payment.as_ref()
    }

    /// Opens a payment under its own mask and pause. The caller has checked that neither a payment nor a collection is
    /// open.
    pub(super) fn start_payment(
        &mut self,
        now: Instant,
        random: &mut Random,
        (spec, bill, by, today): (Spec, Bill, &str, Month),
        out: &mut Outbox,
    ) -> Result<PaymentView, SignalError> {
        let id = PaymentId::draw(random);
        let owner = Owner::Payment(id);
        for kind in [HoldKind::Mask, HoldKind::Pause] {
            self.take(now, random, (kind, owner.clone()), "payment", Some(LONGEST + ANSWER), out)?;
        }
        let method = spec.method();
        let connector = bill.connector.clone();
        let paying = Paying {
            call: self.call,
            payment: Payment::new(now, id, spec, today),
            bill,
            by: by.to_owned(),
            attempt: 0,
            outcome: PaymentOutcome::default(),
        };
        let view = paying.view();
        self.payment = Some(paying);
        out.event(self.call, EventKind::PaymentStarted { payment: id, method, connector, by: by.to_owned() });
        Ok(view)
    }

    /// The agent asks for a field.
    pub(super) fn capture_field(
        &mut self,
        now: Instant,
        field: PaymentField,
        out: &mut Outbox,
    ) -> Result<PaymentView, SignalError> {
        let Some(paying) = &mut self.payment else { return Err(SignalError::NoSuchPayment) };
        paying.payment.capture(now, field)?;
        paying.tell(now, Step::Changed, out);
        Ok(paying.view())
    }

    /// The payment goes to the payment provider.
    pub(super) fn complete_payment(&mut self, now: Instant, out: &mut Outbox) -> Result<PaymentView, SignalError> {
        let Some(paying) = &mut self.payment else { return Err(SignalError::NoSuchPayment) };
        match paying.payment.complete(now) {
            Ok(captured) => {
                paying.attempt += 1;
                let charge = paying.charge(captured);
                out.charges.push_back(charge);
                out.event(self.call, EventKind::PaymentSubmitted { payment: paying.payment.id() });
                Ok(paying.view())
            }
            Err(why) => {
                // What stood in an open field was judged: that may have ended it.
                let step = match (why, paying.payment.result()) {
                    (_, Some(result)) => Step::Ended(result),
                    (Refusal::Missing, None) => Step::Changed,
                    (_, None) => Step::Ignored,
                };
                self.payment_stepped(now, step, out);
                Err(why.into())
            }
        }
    }

    /// Whoever runs the payment gives it up.
    pub(super) fn cancel_payment(&mut self, now: Instant, out: &mut Outbox) -> Result<PaymentView, SignalError> {
        let Some(paying) = &mut self.payment else { return Err(SignalError::NoSuchPayment) };
        let step = paying.payment.cancel()?;
        let view = paying.view();
        self.payment_stepped(now, step, out);
        Ok(view)
    }

    /// The customer pressed a key; `false`: no payment is open, it is somebody else's.
    pub(super) fn payment_takes(&mut self, now: Instant, digit: &Digit, out: &mut Outbox) -> bool {
        let Some(paying) = &mut self.payment else { return false };
        let step = paying.payment.handle_digit(now, digit);
        if let Some(detector) = &mut self.detector {
            detector.taken_over(now);
        }
        self.payment_stepped(now, step, out);
        true
    }

    /// The payment provider answered; `false`: it is not the answer that this call waits for.
    pub(super) fn handle_payment_answer(
        &mut self,
        now: Instant,
        (payment, attempt): (PaymentId, u32),
        outcome: Outcome,
        out: &mut Outbox,
    ) -> bool {
        let Some(paying) = self.payment.as_mut().filter(|paying| paying.id() == payment) else { return false };
        let step = paying.handle_answer(now, attempt, outcome);
        self.payment_stepped(now, step, out);
        step != Step::Ignored
    }

    /// Time passed.
    pub(super) fn payment_due(&mut self, now: Instant, out: &mut Outbox) {
        let step = self.payment.as_mut().map_or(Step::Ignored, |paying| paying.handle_timeout(now));
        self.payment_stepped(now, step, out);
    }

    /// The call is over: what was keyed is wiped. A submitted payment goes on without the call.
    pub(super) fn end_payment(&mut self, now: Instant, out: &mut Outbox) {
        let step = self.payment.as_mut().map_or(Step::Ignored, |paying| paying.payment.hang_up());
        self.payment_stepped(now, step, out);
        out.orphans.extend(self.payment.take());
    }

    /// Tells what a step came to; the holds of a payment that is over linger as those of a collection do.
    fn payment_stepped(&mut self, now: Instant, step: Step, out: &mut Outbox) {
        if self.payment.as_ref().is_some_and(|paying| paying.tell(now, step, out)) {
            let Some(paying) = self.payment.take() else { return };
            let owner = Owner::Payment(paying.id());
            self.lingering.push(Lingering { owner, until: now + LINGER, last: now + LONGEST_LINGER });
        }
    }
}
