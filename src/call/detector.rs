//! `guard = auto` on one call: the classifier of what the customer keys, and the released keys on their way to the PBX.
//! Key presses and the time go in; holds, events and the keys that are due come out. The form in which a key travels is
//! the call's.

use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::protection::Protection;
use crate::base::Random;
use crate::base::secret::Digit;
use crate::base::time::soonest;
use crate::config::Auto;
use crate::guard::classify::{Action, Actions, Classifier, Replay, Run};
use crate::guard::holds::Owner;
use crate::obs::event::{EventKind, HoldKind};

/// How much longer than a payment's quiet time its holds are leased, so that they are renewed before they expire.
const SPARE: Duration = Duration::from_secs(30);

/// The detector of one call.
#[derive(Debug)]
pub(super) struct Detector {
    classifier: Classifier,
    replay: Replay,
    payment: Duration,
}

impl Detector {
    pub(super) fn new(auto: Auto) -> Self {
        Self { classifier: Classifier::new(auto), replay: Replay::default(), payment: auto.payment }
    }

    /// The customer pressed a key at `at`, and it is known now.
    pub(super) fn handle_digit(&mut self, now: Instant, at: Instant, digit: &Digit) -> Actions {
        self.classifier.handle_digit(now, at, digit)
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Actions {
        self.classifier.handle_timeout(now)
    }

    /// When [`Detector::handle_timeout`] or [`Detector::due`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.classifier.poll_timeout(), self.replay.poll_timeout())
    }

    /// Keys to be sent on.
    pub(super) fn release(&mut self, now: Instant, run: Run) {
        self.replay.push(now, run);
    }

    /// The released key that is due; ask until there is none.
    pub(super) fn due(&mut self, now: Instant) -> Option<Digit> {
        self.replay.handle_timeout(now)
    }

    /// Whether a payment is under way.
    pub(super) fn in_payment(&self) -> bool {
        self.classifier.in_payment()
    }

    /// When the first key was pressed of what is judged now.
    pub(super) fn began(&self) -> Option<Instant> {
        self.classifier.began()
    }

    /// When the first key was pressed of what may be a card.
    pub(super) fn suspected_since(&self) -> Option<Instant> {
        self.classifier.began().filter(|_| self.classifier.suspected() > 0)
    }

    /// How long the holds of a payment are leased.
    pub(super) fn lease(&self) -> Duration {
        self.payment + SPARE
    }

    /// Whether a lease that ends in `left` should be renewed.
    pub(super) fn is_short(&self, left: Duration) -> bool {
        left < self.payment
    }

    /// Somebody else masks now: wipes what is withheld and what was not sent yet; how many keys. A payment goes on, and
    /// keys that were wiped may have been the beginning of one.
    pub(super) fn hush(&mut self, now: Instant) -> usize {
        let unsent = self.replay.clear();
        if self.in_payment() {
            return unsent;
        }
        let wiped = self.classifier.reset();
        if wiped > 0 {
            self.taken_over(now);
        }
        unsent + wiped
    }

    /// A key went to somebody else: a collection, or under somebody's mask.
    pub(super) fn taken_over(&mut self, now: Instant) {
        self.classifier.taken_over(now);
    }

    /// The payment is over by somebody's word.
    pub(super) fn end_payment(&mut self) -> Actions {
        self.classifier.end_payment()
    }
}

impl Protection {
    /// A key that no collection wants: under `auto`, it may be for the PBX, or a card's.
    pub(super) fn classify(
        &mut self,
        now: Instant,
        random: &mut Random,
        (digit, at, masked): (&Digit, Instant, bool),
        out: &mut Outbox,
    ) {
        let Some(detector) = &mut self.detector else { return };
        let others = self.holds.iter().any(|hold| hold.kind == HoldKind::Mask && hold.owner != Owner::Detector);
        // Under somebody's mask no key is sent on; one that was not masked has been heard already.
        if !masked {
            return;
        }
        if others && !detector.in_payment() {
            return detector.taken_over(now);
        }
        let actions = detector.handle_digit(now, at, digit);
        let (payment, began) = (detector.in_payment(), detector.began());
        if actions.iter().any(|action| matches!(action, Action::Take)) {
            let order = began.map(|began| self.late.handle_card(now, began));
            self.redact(order, out);
        }
        self.obey(now, actions, out);
        if payment {
            self.hold_payment(now, random, out);
        }
    }

    /// Takes the detector's holds, or renews them before they expire.
    fn hold_payment(&mut self, now: Instant, random: &mut Random, out: &mut Outbox) {
        let Some(detector) = &self.detector else { return };
        let ttl = Some(detector.lease());
        for kind in [HoldKind::Mask, HoldKind::Pause] {
            let owned = self.holds.owned(&Owner::Detector).find(|hold| hold.kind == kind);
            let held = owned.map(|hold| (hold.id, hold.deadline.saturating_duration_since(now)));
            // Neither fails: the detector's first hold of a kind has its place reserved, and what it has it may renew.
            let _ = match held {
                None => self.take(now, random, (kind, Owner::Detector), "card number keyed", ttl, out),
                Some((id, left)) if self.detector.as_ref().is_some_and(|d| d.is_short(left)) => {
                    self.renew(now, id, (&Owner::Detector, false), ttl, out)
                }
                Some(_) => continue,
            };
        }
    }

    /// Somebody else masks now: nothing that is withheld, or released and not yet sent, goes on.
    pub(super) fn hush(&mut self, now: Instant, out: &mut Outbox) {
        let wiped = self.detector.as_mut().map_or(0, |detector| detector.hush(now));
        self.wiped(wiped, out);
    }

    fn wiped(&self, keys: usize, out: &mut Outbox) {
        if keys > 0 {
            let count = u32::try_from(keys).unwrap_or(u32::MAX);
            out.event(self.call, EventKind::KeysWiped { count });
        }
    }

    /// Does what the classifier says, but for taking holds, which [`Protection::hold_payment`] does.
    pub(super) fn obey(&mut self, now: Instant, actions: Actions, out: &mut Outbox) {
        for action in actions {
            match action {
                Action::Release(run) => {
                    let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
                    out.event(self.call, EventKind::KeysReleased { count });
                    if let Some(detector) = &mut self.detector {
                        detector.release(now, run);
                    }
                }
                Action::Take => {}
                Action::GiveBack => self.release_owned(now, &Owner::Detector, out),
                Action::Wipe(keys) => self.wiped(keys, out),
            }
        }
    }
}
