//! `guard = auto` on one call: the classifier of what the customer keys, and the released keys on their way to the PBX.
//! Key presses and the time go in; the classifier's actions and the keys that are due come out. What the actions mean
//! for holds and events is `protection`'s, the form in which a key travels is the call's.

use std::time::{Duration, Instant};

use crate::base::secret::Digit;
use crate::base::time::soonest;
use crate::config::Auto;
use crate::guard::classify::{Actions, Classifier, Replay, Run};

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

    /// The customer pressed a key.
    pub(super) fn handle_digit(&mut self, now: Instant, digit: &Digit) -> Actions {
        self.classifier.handle_digit(now, digit)
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
