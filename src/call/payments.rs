//! The payments of the node: whose orders about them are obeyed, which wait for the payment provider although their call
//! is over, and what became of those that ended. Orders, answers and the time go in; replies, charges and events come
//! out. What is over is kept for an hour, as marks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::outbox::Outbox;
use super::paying::{Paying, found_out};
use super::payment_signal::{PaymentOrder, PaymentView};
use super::signals::{may_capture, may_steer};
use super::{Actor, Reply, SignalError};
use crate::base::ids::{CallId, PaymentId};
use crate::base::time::{WallMs, soonest};
use crate::capture::payment::{Month, Step};
use crate::obs::event::EventKind;
use crate::obs::payment::{PaymentResult, PaymentState};
use crate::psp::{Answer, Charge, SANDBOX};

/// How long a payment that is over is remembered.
const KEPT: Duration = Duration::from_secs(3_600);

/// The most that are remembered.
const MOST_KEPT: usize = 4_096;

/// Payments that no call holds.
#[derive(Debug)]
pub(super) struct Payments {
    connectors: Vec<String>,
    last_digits: bool,
    /// The wall clock at an instant; before it is known no card is young enough.
    wall: Option<(Instant, WallMs)>,
    /// The calls of submitted payments.
    submitted: HashMap<PaymentId, CallId>,
    /// Submitted, and their call is over.
    orphans: BTreeMap<PaymentId, Paying>,
    /// Oldest first.
    over: VecDeque<(Instant, PaymentView)>,
}

impl Default for Payments {
    fn default() -> Self {
        Self {
            connectors: vec![SANDBOX.to_owned()],
            last_digits: false,
            wall: None,
            submitted: HashMap::new(),
            orphans: BTreeMap::new(),
            over: VecDeque::new(),
        }
    }
}

impl Payments {
    /// The month it is.
    fn today(&self, now: Instant) -> Month {
        let (at, wall) = self.wall.unwrap_or((now, WallMs(0)));
        let since = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        Month::at(wall.0.saturating_add(since))
    }

    /// Takes over what calls have left: payments that ended, and those whose call did.
    pub(super) fn note(&mut self, out: &mut Outbox) {
        for paying in out.orphans.drain(..) {
            self.submitted.remove(&paying.id());
            self.orphans.insert(paying.id(), paying);
        }
        for (at, view) in out.payments_over.drain(..) {
            self.submitted.remove(&view.id);
            self.over.push_back((at, view));
        }
        let surplus = self.over.len().saturating_sub(MOST_KEPT);
        self.over.drain(..surplus);
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.step_orphans(now, out, |paying| paying.handle_timeout(now));
        let old = |(at, _): &(Instant, PaymentView)| now.saturating_duration_since(*at) >= KEPT;
        while self.over.front().is_some_and(old) {
            self.over.pop_front();
        }
    }

    fn step_orphans(&mut self, now: Instant, out: &mut Outbox, mut step: impl FnMut(&mut Paying) -> Step) {
        self.orphans.retain(|_, paying| {
            let step = step(paying);
            !paying.tell(now, step, out)
        });
        self.note(out);
    }

    /// When [`Payments::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.orphans.values().fold(None, |soon, paying| soonest(soon, paying.poll_timeout()))
    }

    /// Whether no payment waits for its provider without a call.
    pub(super) fn is_quiet(&self) -> bool {
        self.orphans.is_empty()
    }

    fn of_call(&self, call: CallId) -> Vec<PaymentView> {
        let over = self.over.iter().map(|(_, view)| view).filter(|view| view.call == call).cloned();
        let orphans = self.orphans.values().map(Paying::view).filter(|view| view.call == call);
        over.chain(orphans).collect()
    }

    /// An answer that no call waits for.
    fn handle_answer(&mut self, now: Instant, answer: Answer, out: &mut Outbox) {
        let Answer { payment, attempt, outcome } = answer;
        if self.orphans.contains_key(&payment) {
            let mut outcome = Some(outcome);
            return self.step_orphans(now, out, |paying| match outcome.take_if(|_| paying.id() == payment) {
                Some(outcome) => paying.handle_answer(now, attempt, outcome),
                None => Step::Ignored,
            });
        }
        let Some((result, outcome)) = found_out(outcome) else { return };
        let known = self.over.iter_mut().map(|(_, view)| view).find(|view| view.id == payment);
        let call = match known {
            Some(view) if view.result == Some(PaymentResult::Unknown) => {
                (view.result, view.outcome) = (Some(result), outcome.clone());
                Some(view.call)
            }
            // It is known already how it ended.
            Some(_) => return,
            // Of an earlier run of this node, or long ago.
            None => None,
        };
        out.events.push_back((call, EventKind::PaymentReconciled { payment, result, outcome }));
    }
}

impl Engine {
    /// The connectors there are, the usual one first, and whether the last digits of accepted numbers may be shown.
    pub fn set_payments(&mut self, connectors: Vec<String>, last_digits: bool) {
        self.shared.payments.connectors = connectors;
        self.shared.payments.last_digits = last_digits;
    }

    /// What the wall clock shows at `now`: cards are past or not by it.
    pub fn set_wall(&mut self, now: Instant, wall: WallMs) {
        self.shared.payments.wall = Some((now, wall));
        self.shared.recorders.set_wall(now, wall);
    }

    /// The payment provider answered.
    pub fn handle_payment(&mut self, now: Instant, answer: Answer) {
        let of = (answer.payment, answer.attempt);
        let call = self.shared.payments.submitted.get(&answer.payment).copied();
        let outcome = answer.outcome.clone();
        let taken = call.and_then(|call| {
            self.with_call(call, |call, s| call.core.protection.handle_payment_answer(now, of, outcome, &mut s.out))
        });
        if taken != Some(true) {
            self.shared.payments.handle_answer(now, answer, &mut self.shared.out);
        }
        self.tell_recorders(now);
    }

    /// The next charge; give it to the payment provider.
    pub fn poll_charge(&mut self) -> Option<Charge> {
        self.shared.out.charges.pop_front()
    }

    /// Obeys or refuses an order about payments.
    pub(super) fn handle_payment_order(
        &mut self,
        now: Instant,
        call: CallId,
        order: PaymentOrder,
        actor: &Actor,
    ) -> Result<Reply, SignalError> {
        if !matches!(order, PaymentOrder::List | PaymentOrder::Get(_)) {
            may_steer(actor)?;
        }
        match order {
            PaymentOrder::Start(request) => {
                let payments = &self.shared.payments;
                let (spec, bill) = request.check(&payments.connectors, payments.last_digits)?;
                let today = payments.today(now);
                self.signal(call, |call, s| {
                    let protection = may_capture(call)?;
                    let wanted = (spec, bill, actor.name.as_str(), today);
                    let view = protection.start_payment(now, &mut s.random, wanted, &mut s.out)?;
                    Ok(Reply::Payment(Box::new(view)))
                })
            }
            PaymentOrder::List => {
                let mut views = self.shared.payments.of_call(call);
                let open = self.signal(call, |call, _| Ok(call.core.protection.payment().map(Paying::view)));
                match open {
                    Ok(open) => views.extend(open),
                    Err(why) if views.is_empty() => return Err(why),
                    Err(_) => {}
                }
                Ok(Reply::Payments(views))
            }
            PaymentOrder::Get(payment) => {
                let Reply::Payments(views) = self.handle_payment_order(now, call, PaymentOrder::List, actor)? else {
                    return Err(SignalError::NoSuchPayment);
                };
                let view = views.into_iter().find(|view| view.id == payment).ok_or(SignalError::NoSuchPayment)?;
                Ok(Reply::Payment(Box::new(view)))
            }
            PaymentOrder::Capture(payment, field) => {
                self.steer(call, payment, actor, |p, out| p.capture_field(now, field, out))
            }
            PaymentOrder::Complete(payment) => {
                let reply = self.steer(call, payment, actor, |p, out| p.complete_payment(now, out))?;
                self.shared.payments.submitted.insert(payment, call);
                Ok(reply)
            }
            PaymentOrder::Cancel(payment) => self.steer(call, payment, actor, |p, out| p.cancel_payment(now, out)),
        }
    }

    /// Lets `actor` steer a payment that is not over.
    fn steer(
        &mut self,
        call: CallId,
        payment: PaymentId,
        actor: &Actor,
        act: impl FnOnce(&mut super::protection::Protection, &mut Outbox) -> Result<PaymentView, SignalError>,
    ) -> Result<Reply, SignalError> {
        let over = self.shared.payments.of_call(call).into_iter().find(|view| view.id == payment);
        if let Some(view) = over {
            let submitted = view.state == PaymentState::Submitted;
            return Err(if submitted { SignalError::PaymentSubmitted } else { SignalError::PaymentOver });
        }
        self.signal(call, |call, s| {
            let protection = &mut call.core.protection;
            let open = protection.payment().filter(|open| open.id() == payment).ok_or(SignalError::NoSuchPayment)?;
            if !open.is_steered_by(actor) {
                return Err(SignalError::Forbidden);
            }
            act(protection, &mut s.out).map(|view| Reply::Payment(Box::new(view)))
        })
    }
}
