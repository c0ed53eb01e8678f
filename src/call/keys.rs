//! What becomes of the single keys of a call: the customer's go to the open payment or
//! collection, or to `auto`'s classifier, the
//! agent's are star codes, echoes of the customer's, or his own. Key presses and the time go in; what is to be sent on,
//! holds, events and handovers come out. It sends nothing.

use std::time::Instant;

use super::outbox::Outbox;
use super::protection::{Ended, LINGER, LONGEST_LINGER, Lingering, Protection, REMEMBERED};
use crate::base::Random;
use crate::base::ids::{CollectionId, Leg};
use crate::base::secret::Digit;
use crate::capture::{Collection, Spec, Step};
use crate::guard::holds::{HoldError, Owner};
use crate::obs::event::{CollectionEnd, EventKind, HoldKind, StarAction};

impl Protection {
    /// Media reports a key press.
    pub(super) fn handle_digit(
        &mut self,
        now: Instant,
        random: &mut Random,
        (from, digit, at, masked): (Leg, Digit, Instant, bool),
        out: &mut Outbox,
    ) {
        match from {
            Leg::Customer => self.handle_customer_digit(now, random, (digit, at, masked), out),
            // A customer in the agent's place: it goes nowhere, nor does a key that was pressed under a mask just lifted.
            Leg::Agent if self.far.is_some() && (masked || self.masks_far()) => {
                self.keys_masked = self.keys_masked.saturating_add(1);
                out.event(self.call, EventKind::KeyMasked { count: self.keys_masked });
            }
            // Until it is known that it is no echo it counts for nothing, not even for a star code.
            Leg::Agent if self.echo_possible() || (masked && self.star.is_none()) => {
                self.echo.handle_agent(now, at, digit);
            }
            Leg::Agent => self.handle_agent_digit(now, random, digit, out),
        }
    }

    fn handle_customer_digit(
        &mut self,
        now: Instant,
        random: &mut Random,
        (digit, at, masked): (Digit, Instant, bool),
        out: &mut Outbox,
    ) {
        self.echo.handle_customer(at, &digit);
        if !masked {
            let order = self.late.handle_passed(now, at, &digit);
            self.redact(order, out);
        }
        if masked {
            self.keys_masked = self.keys_masked.saturating_add(1);
            out.event(self.call, EventKind::KeyMasked { count: self.keys_masked });
        }
        self.holds.handle_key(now);
        for lingering in &mut self.lingering {
            lingering.until = (now + LINGER).min(lingering.last);
        }
        if self.payment_takes(now, &digit, out) {
            return;
        }
        let Some(collection) = &mut self.collection else {
            return self.classify(now, random, (&digit, at, masked), out);
        };
        if let Some(detector) = &mut self.detector {
            detector.taken_over(now);
        }
        let step = collection.handle_digit(now, &digit);
        let (id, progress) = (collection.id(), collection.progress());
        match step {
            Step::Ignored => {}
            Step::Progress(_) | Step::Ended(_) => {
                let received = u32::try_from(progress.received).unwrap_or(u32::MAX);
                let event = EventKind::CollectionProgress { collection: id, received, mask: progress.mask() };
                out.event(self.call, event);
            }
        }
        if let Step::Ended(end) = step {
            self.end_collection(now, end, out);
        }
    }

    fn handle_agent_digit(&mut self, now: Instant, random: &mut Random, digit: Digit, out: &mut Outbox) {
        let Some(star) = &mut self.star else { return self.passed.push(digit) };
        let outcome = star.handle_digit(now, digit);
        self.passed.extend(outcome.pass);
        let Some(action) = outcome.action else { return };
        out.event(self.call, EventKind::StarCode { action });
        match action {
            StarAction::Begin => {
                let kinds = [HoldKind::Mask, HoldKind::Pause];
                self.take_or_renew(now, random, &kinds, (&Owner::Agent, "star code"), out);
            }
            StarAction::End => self.release_owned(now, &Owner::Agent, out),
        }
    }

    /// What the agent's side keyed and is known now to be no echo, and what is known to be no star code.
    pub(super) fn agent_keys_due(&mut self, now: Instant, random: &mut Random, out: &mut Outbox) {
        while let Some(digit) = self.echo.due(now) {
            self.handle_agent_digit(now, random, digit, out);
        }
        let keys = self.star.as_mut().map(|star| star.handle_timeout(now)).unwrap_or_default();
        self.passed.extend(keys);
    }

    /// A key that is to be sent on now, and to which leg; ask until there is none.
    pub(super) fn poll_released(&mut self, now: Instant) -> Option<(Leg, Digit)> {
        if !self.passed.is_empty() {
            return Some((Leg::Customer, self.passed.remove(0)));
        }
        let digit = self.detector.as_mut()?.due(now)?;
        Some((Leg::Agent, digit))
    }

    /// Opens a collection under its own mask and pause. The caller has checked that none is open.
    pub(super) fn start_collection(
        &mut self,
        now: Instant,
        random: &mut Random,
        (spec, by): (Spec, &str),
        out: &mut Outbox,
    ) -> Result<CollectionId, HoldError> {
        let id = CollectionId::draw(random);
        let owner = Owner::Capture(id);
        for kind in [HoldKind::Mask, HoldKind::Pause] {
            self.take(now, random, (kind, owner.clone()), "collection", Some(crate::capture::collect::LONGEST), out)?;
        }
        self.collection = Some(Collection::new(now, id, spec));
        by.clone_into(&mut self.collector);
        out.event(self.call, EventKind::CollectionStarted { collection: id });
        Ok(id)
    }

    /// Ends the open collection: hands over or wipes, and lets its holds linger.
    pub(super) fn end_collection(&mut self, now: Instant, end: CollectionEnd, out: &mut Outbox) {
        let Some(collection) = self.collection.take() else { return };
        let (id, lengths) = (collection.id(), collection.lengths());
        let (summary, handover) = collection.finish(self.call, end);
        if let Some(handover) = handover {
            out.handover(handover);
        }
        if self.ended.len() == REMEMBERED {
            self.ended.remove(0);
        }
        self.ended.push(Ended { id, summary, lengths });
        let count = u32::try_from(summary.count).unwrap_or(u32::MAX);
        let ended = EventKind::CollectionEnded { collection: id, result: end, count, luhn: summary.luhn };
        out.event(self.call, ended);
        let owner = Owner::Capture(id);
        self.lingering.push(Lingering { owner, until: now + LINGER, last: now + LONGEST_LINGER });
    }
}
