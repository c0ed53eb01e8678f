//! One digit collection. Key presses and the time go in; progress that tells how many keys are held, and at the end
//! the digits themselves in secret memory, come out. It never prints, copies or keeps a digit: what is not handed over
//! is wiped.
//!
//! ```text
//!              key                        key, last of `max` | terminator, ≥ `min` held
//!   first ───────────► more ──────────────────────────────────────────────► complete
//!    ▲  │                │ │  key timeout: complete with ≥ `min` held, else input timeout
//!    │  └ first timeout  │ └──────────────────────────────────────────────► complete | input timeout
//!    └──── clear key ────┘
//!   either: `longest` passed ─► as key timeout;  cancel() ─► cancelled;  caller hung up ─► caller-hung-up
//! ```

use std::time::{Duration, Instant};

use crate::base::ids::{CallId, CollectionId};
use crate::base::secret::{Digit, Digits, MAX_DIGITS};
use crate::obs::event::CollectionEnd;

/// The longest a collection stays open, whatever is keyed.
pub const LONGEST: Duration = Duration::from_secs(600);

/// Fewest keys whose Luhn check is told: the shortest card number.
pub const LUHN_FROM: usize = 12;

/// What is to be collected. Checked by [`Spec::new`].
#[derive(Debug, Clone)]
pub struct Spec {
    min: usize,
    max: usize,
    terminator: Option<Digit>,
    clear: Option<Digit>,
    first_key: Duration,
    inter_key: Duration,
}

/// Why a collection cannot be as asked. The asker is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Lengths are not 1 ≤ min ≤ max ≤ [`MAX_DIGITS`].
    #[error("lengths must be 1 <= min <= max <= {MAX_DIGITS}")]
    Length,
    /// Terminator and clear key must be different, and neither a decimal digit.
    #[error("terminator and clear key must differ and be one of * # A B C D")]
    Key,
    /// A timeout is not within 1 s … [`LONGEST`].
    #[error("timeouts must be between 1 s and 600 s")]
    Timeout,
}

impl Spec {
    /// Checks what is asked for. `min == max` is an exact length, which needs no terminator.
    pub fn new(
        (min, max): (usize, usize),
        terminator: Option<Digit>,
        clear: Option<Digit>,
        first_key: Duration,
        inter_key: Duration,
    ) -> Result<Self, SpecError> {
        if min == 0 || min > max || max > MAX_DIGITS {
            return Err(SpecError::Length);
        }
        let decimal = |key: &Option<Digit>| key.as_ref().is_some_and(is_decimal);
        let same = matches!((&terminator, &clear), (Some(a), Some(b)) if a.same_key(b));
        if decimal(&terminator) || decimal(&clear) || same {
            return Err(SpecError::Key);
        }
        let sane = Duration::from_secs(1)..=LONGEST;
        if !sane.contains(&first_key) || !sane.contains(&inter_key) {
            return Err(SpecError::Timeout);
        }
        Ok(Self { min, max, terminator, clear, first_key, inter_key })
    }
}

/// How far a collection has come: a count, and nothing that tells which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Keys held now.
    pub received: usize,
}

impl Progress {
    /// One mark per key held.
    pub fn mask(self) -> String {
        "•".repeat(self.received)
    }
}

/// What a key press did to the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing worth telling: the key has no meaning here.
    Ignored,
    /// The number of keys held changed.
    Progress(Progress),
    /// It is over: call [`Collection::finish`].
    Ended(CollectionEnd),
}

/// Digits on their way to the recipient; drop it and they are wiped.
#[derive(Debug)]
pub struct Handover {
    /// The call they were keyed on.
    pub call: CallId,
    /// The collection they came from.
    pub collection: CollectionId,
    /// The digits.
    pub digits: Digits,
}

/// What is known of a collection after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub end: CollectionEnd,
    /// Keys collected.
    pub count: usize,
    /// Whether they are complete, at least [`LUHN_FROM`], and pass the Luhn check.
    pub luhn: bool,
}

/// An open collection.
#[derive(Debug)]
pub struct Collection {
    id: CollectionId,
    spec: Spec,
    digits: Digits,
    /// When the state now waited in times out.
    key_deadline: Instant,
    /// When the whole is over.
    last_deadline: Instant,
}

impl Collection {
    /// Opens a collection at `now`.
    pub fn new(now: Instant, id: CollectionId, spec: Spec) -> Self {
        let key_deadline = now + spec.first_key;
        Self { id, spec, digits: Digits::new(), key_deadline, last_deadline: now + LONGEST }
    }

    /// Its id.
    pub fn id(&self) -> CollectionId {
        self.id
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress { received: self.digits.len() }
    }

    /// Fewest and most keys wanted.
    pub fn lengths(&self) -> (usize, usize) {
        (self.spec.min, self.spec.max)
    }

    /// The customer pressed a key.
    pub fn handle_digit(&mut self, now: Instant, digit: &Digit) -> Step {
        let is = |key: &Option<Digit>| key.as_ref().is_some_and(|k| k.same_key(digit));
        if is(&self.spec.clear) {
            self.digits.clear();
            self.key_deadline = now + self.spec.first_key;
            return Step::Progress(self.progress());
        }
        if is(&self.spec.terminator) {
            // Pressed too early it means nothing: the caller may go on keying.
            return if self.digits.len() >= self.spec.min {
                Step::Ended(CollectionEnd::Complete)
            } else {
                Step::Ignored
            };
        }
        if !is_decimal(digit) || !self.digits.push(digit) {
            return Step::Ignored;
        }
        self.key_deadline = now + self.spec.inter_key;
        if self.digits.len() == self.spec.max {
            return Step::Ended(CollectionEnd::Complete);
        }
        Step::Progress(self.progress())
    }

    /// Time passed; tells whether the collection is over: then call [`Collection::finish`].
    pub fn handle_timeout(&mut self, now: Instant) -> Option<CollectionEnd> {
        if now < self.key_deadline.min(self.last_deadline) {
            return None;
        }
        let enough = self.digits.len() >= self.spec.min;
        Some(if enough { CollectionEnd::Complete } else { CollectionEnd::InputTimeout })
    }

    /// When [`Collection::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.key_deadline.min(self.last_deadline)
    }

    /// Ends it. The digits are handed over only when complete; else they are wiped here.
    pub fn finish(self, call: CallId, end: CollectionEnd) -> (Summary, Option<Handover>) {
        // Of a few keys the check would tell which: a single one passes only if it is 0.
        let luhn = end == CollectionEnd::Complete && self.digits.len() >= LUHN_FROM && self.digits.luhn();
        let summary = Summary { end, count: self.digits.len(), luhn };
        let handover =
            (end == CollectionEnd::Complete).then_some(Handover { call, collection: self.id, digits: self.digits });
        (summary, handover)
    }
}

fn is_decimal(digit: &Digit) -> bool {
    digit.expose_event() < 10
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::base::Random;
    use rand::SeedableRng;

    const S: Duration = Duration::from_secs(1);

    fn key(c: char) -> Digit {
        Digit::from_char(c).expect("a key")
    }

    fn open(now: Instant, lengths: (usize, usize)) -> Collection {
        let spec = Spec::new(lengths, Some(key('#')), Some(key('*')), 10 * S, 5 * S).expect("sane");
        Collection::new(now, CollectionId::draw(&mut Random::seed_from_u64(2)), spec)
    }

    fn press(c: &mut Collection, now: Instant, keys: &str) -> Step {
        keys.chars().map(|k| c.handle_digit(now, &key(k))).last().expect("a key")
    }

    fn call() -> CallId {
        CallId::draw(&mut Random::seed_from_u64(3))
    }

    #[test]
    fn an_exact_length_ends_with_its_last_key_and_is_handed_over_once() {
        let t = Instant::now();
        let mut c = open(t, (16, 16));
        assert_eq!(press(&mut c, t, "424242424242424"), Step::Progress(Progress { received: 15 }));
        assert_eq!(press(&mut c, t, "2"), Step::Ended(CollectionEnd::Complete));
        let (summary, handover) = c.finish(call(), CollectionEnd::Complete);
        assert_eq!(summary, Summary { end: CollectionEnd::Complete, count: 16, luhn: true });
        assert_eq!(handover.expect("handed over").digits.expose(), b"4242424242424242");
    }

    #[test]
    fn the_terminator_ends_a_field_of_open_length_but_not_too_early() {
        let t = Instant::now();
        let mut c = open(t, (3, 4));
        assert_eq!(press(&mut c, t, "12#"), Step::Ignored);
        assert_eq!(press(&mut c, t, "3#"), Step::Ended(CollectionEnd::Complete));
    }

    #[test]
    fn the_clear_key_wipes_and_the_caller_starts_again() {
        let t = Instant::now();
        let mut c = open(t, (4, 4));
        assert_eq!(press(&mut c, t, "999*"), Step::Progress(Progress { received: 0 }));
        assert_eq!(c.poll_timeout(), t + 10 * S);
        assert_eq!(press(&mut c, t, "1234"), Step::Ended(CollectionEnd::Complete));
        let (_, handover) = c.finish(call(), CollectionEnd::Complete);
        assert_eq!(handover.expect("handed over").digits.expose(), b"1234");
    }

    #[test]
    fn keys_without_meaning_change_nothing() {
        let t = Instant::now();
        let mut c = open(t, (4, 4));
        assert_eq!(press(&mut c, t, "A"), Step::Ignored);
        assert_eq!(c.progress(), Progress { received: 0 });
    }

    #[test]
    fn a_silent_caller_times_out_and_a_slow_one_too() {
        let t = Instant::now();
        let mut c = open(t, (4, 4));
        assert_eq!(c.handle_timeout(t + 9 * S), None);
        assert_eq!(c.handle_timeout(t + 10 * S), Some(CollectionEnd::InputTimeout));
        let mut c = open(t, (4, 4));
        press(&mut c, t + 9 * S, "1");
        assert_eq!(c.poll_timeout(), t + 14 * S);
        assert_eq!(c.handle_timeout(t + 14 * S), Some(CollectionEnd::InputTimeout));
    }

    #[test]
    fn enough_keys_and_then_silence_is_complete() {
        let t = Instant::now();
        let mut c = open(t, (3, 6));
        press(&mut c, t, "123");
        assert_eq!(c.handle_timeout(t + 5 * S), Some(CollectionEnd::Complete));
    }

    #[test]
    fn a_caller_who_clears_for_ever_is_still_bounded() {
        let t = Instant::now();
        let mut c = open(t, (4, 4));
        let mut now = t;
        while c.handle_timeout(now).is_none() {
            now += 4 * S;
            assert!(now <= t + LONGEST + 4 * S);
            press(&mut c, now, "1*");
        }
    }

    #[test]
    fn digits_of_a_collection_that_is_not_complete_are_not_handed_over() {
        for end in [CollectionEnd::Cancelled, CollectionEnd::CallerHungUp, CollectionEnd::InputTimeout] {
            let t = Instant::now();
            let mut c = open(t, (16, 16));
            press(&mut c, t, "4242");
            let (summary, handover) = c.finish(call(), end);
            assert_eq!(summary.count, 4);
            assert!(handover.is_none());
        }
    }

    #[test]
    fn nothing_about_a_collection_prints_a_digit() {
        let t = Instant::now();
        let mut c = open(t, (16, 16));
        press(&mut c, t, "5555");
        assert!(!format!("{c:?}").contains("555"));
        assert_eq!(c.progress().mask(), "••••");
    }

    #[test]
    fn senseless_wishes_are_refused() {
        let ok = 5 * S;
        assert_eq!(Spec::new((0, 4), None, None, ok, ok).err(), Some(SpecError::Length));
        assert_eq!(Spec::new((5, 4), None, None, ok, ok).err(), Some(SpecError::Length));
        assert_eq!(Spec::new((1, MAX_DIGITS + 1), None, None, ok, ok).err(), Some(SpecError::Length));
        assert_eq!(Spec::new((1, 4), Some(key('5')), None, ok, ok).err(), Some(SpecError::Key));
        assert_eq!(Spec::new((1, 4), Some(key('#')), Some(key('#')), ok, ok).err(), Some(SpecError::Key));
        assert_eq!(Spec::new((1, 4), None, None, Duration::ZERO, ok).err(), Some(SpecError::Timeout));
        assert_eq!(Spec::new((1, 4), None, None, ok, 2 * LONGEST).err(), Some(SpecError::Timeout));
    }
}
