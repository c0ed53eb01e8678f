//! What is known too late: keys of the customer's that could be heard in the recording before it was decided that they are
//! a card's. Keys that pass or sound, decisions and the time go in; orders for the recording's redaction horizon come
//! out ([`Redaction`]). It masks nothing and holds nothing back: the agent has heard these keys.
//!
//! | guard | what can have been heard | when it is known | what is taken out |
//! |---|---|---|---|
//! | `signal`, `auto` | keys before somebody took a hold | when the hold is taken | the keys that led up to it, and what may begin a card, with what was said |
//! | `signal` | a card nobody took a hold for | at its 12th key, by the classifier of `auto`, which only listens here | the card, and all keys until a minute without one |
//! | `signal` | the beginning of a card whose caller hangs up | at the end of the call, from 7 keys on | these keys |
//! | `auto` | first keys that were sent on, as tones where the PBX takes no events | at the 12th key, up to a minute later | all since the first key |
//! | `always` | nothing | | |
//! | `off` | everything: nobody listens | by the self-audit | the recording is quarantined |

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::secret::Digit;
use crate::config::{Auto, GuardMode};
use crate::guard::classify::{Classifier, LEADING_MOST, MEMORY};
use crate::record::horizon::Redaction;

/// Keys further apart than this do not lead up to a hold together: as long as what is recorded waits unless configured, for
/// a caller may rest after the first keys of a card.
const APART: Duration = Duration::from_secs(12);
/// How long a key that has just been told may still sound.
const SOUNDS: Duration = Duration::from_secs(1);
/// How long a key begun before the mask may sound on.
const RESTS: Duration = Duration::from_millis(300);
/// Audible keys that are remembered.
const REMEMBERED: usize = 64;

/// What one call may have to take back.
#[derive(Debug)]
pub(super) struct Late {
    /// When keys of the customer's could be heard in a recording; those that an order has taken out are not in it.
    audible: VecDeque<Instant>,
    /// Under `signal`: what passes, as `auto` would see it.
    watch: Option<Classifier>,
}

impl Late {
    pub(super) fn new(mode: GuardMode, auto: Auto) -> Self {
        Self { audible: VecDeque::new(), watch: (mode == GuardMode::Signal).then(|| Classifier::new(auto)) }
    }

    /// A key of the customer's could be heard at `at`.
    pub(super) fn handle_sounded(&mut self, at: Instant) {
        let oldest = at.checked_sub(2 * MEMORY).unwrap_or(at);
        while self.audible.len() == REMEMBERED || self.audible.front().is_some_and(|first| *first < oldest) {
            self.audible.pop_front();
        }
        self.audible.push_back(at);
    }

    /// A key of the customer's passed, pressed at `at`.
    pub(super) fn handle_passed(&mut self, now: Instant, at: Instant, digit: &Digit) -> Option<Redaction> {
        self.handle_sounded(at);
        let watch = self.watch.as_mut()?;
        // What it would send on, wipe or hold is nothing to us: the keys have passed.
        drop(watch.handle_digit(now, at, digit));
        let from = watch.began().filter(|_| watch.in_payment())?;
        Some(self.take_out(from, now + SOUNDS))
    }

    /// `auto` knows that a card is being keyed, since `began`.
    pub(super) fn handle_card(&mut self, now: Instant, began: Instant) -> Redaction {
        self.take_out(began, now + RESTS)
    }

    /// Somebody takes a hold: what was keyed just before led up to it, and what may be a card's beginning, which under
    /// `auto` its classifier knows of since `began`. Where that is no more than may be shown of a card, what is sealed of
    /// it already may stay.
    pub(super) fn handle_hold(&mut self, now: Instant, began: Option<Instant>) -> Option<Redaction> {
        let card = self.suspected().and_then(|began| self.first_heard(began));
        let watched = self.watch.as_ref().filter(|watch| watch.suspected() > 0);
        let began = began.or(watched.and_then(Classifier::began));
        if let Some(watch) = &mut self.watch {
            watch.reset();
        }
        let mut from = now;
        for at in self.audible.iter().rev() {
            if from.saturating_duration_since(*at) > APART {
                break;
            }
            from = *at;
        }
        let from = began.map_or(from, |began| began.min(from));
        self.audible.clear();
        (from < now).then_some(Redaction { from, to: now + RESTS, heard: card })
    }

    /// The call is over.
    pub(super) fn handle_end(&mut self, now: Instant) -> Option<Redaction> {
        let from = self.suspected()?;
        Some(self.take_out(from, now + RESTS))
    }

    /// When the first key was pressed of what passed and may be a card: more of it than may be shown of one.
    fn suspected(&self) -> Option<Instant> {
        let watch = self.watch.as_ref()?;
        watch.began().filter(|_| watch.in_payment() || watch.suspected() > LEADING_MOST)
    }

    fn first_heard(&self, began: Instant) -> Option<Instant> {
        self.audible.iter().copied().find(|at| *at >= began)
    }

    /// All since `from`. Its keys are told once: what the first order for a card was in time for is out of the recording,
    /// and the next one need not reach it again; what it was too late for has been told.
    fn take_out(&mut self, from: Instant, to: Instant) -> Redaction {
        let heard = self.first_heard(from);
        self.audible.retain(|at| *at < from);
        Redaction { from, to, heard }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // One reading, as the origin of virtual time.
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn key(late: &mut Late, at: Instant, keys: &str) -> Vec<Redaction> {
        let digits = keys.chars().filter_map(Digit::from_char);
        let press = |(n, digit): (u32, Digit)| {
            let at = at + 300 * MS * n;
            late.handle_passed(at + 40 * MS, at, &digit)
        };
        (0..).zip(digits).filter_map(press).collect()
    }

    #[test]
    fn a_card_that_passes_is_taken_out_from_its_first_key_and_so_is_its_security_code() {
        let mut late = Late::new(GuardMode::Signal, Auto::default());
        let t = Instant::now();
        assert_eq!(key(&mut late, t, "4242424242"), []);
        let orders = key(&mut late, t + 3_000 * MS, "424242");
        assert_eq!(orders.len(), 5, "from the twelfth on");
        assert!(orders.iter().all(|order| order.from == t));
        // The first is for all that could be heard of it, each of the others for its own key.
        let heard: Vec<Option<Instant>> = orders.iter().map(|order| order.heard).collect();
        let own = |n: u32| Some(t + 3_000 * MS + 300 * MS * n);
        assert_eq!(heard, [Some(t), own(2), own(3), own(4), own(5)]);
        let code = t + 20_000 * MS;
        let orders = key(&mut late, code, "123");
        assert_eq!((orders.len(), orders[0].from, orders[0].heard), (3, code, Some(code)));
    }

    #[test]
    fn what_has_been_taken_out_is_too_late_for_nobody() {
        // A rest in the card: its twelfth key comes within the horizon, what follows does not.
        let t = Instant::now();
        let card = || {
            let mut late = Late::new(GuardMode::Signal, Auto::default());
            key(&mut late, t, "4242");
            assert_eq!(key(&mut late, t + 8_000 * MS, "424242424242").len(), 5);
            late
        };
        let later = t + 14_000 * MS;
        let end = card().handle_end(later).expect("an order");
        assert_eq!((end.from, end.heard), (t, None));
        let hold = card().handle_hold(later, None).expect("an order");
        assert_eq!((hold.from, hold.heard), (t, None));
    }

    #[test]
    fn keys_that_lead_up_to_a_hold_are_taken_out_and_older_ones_are_not() {
        let mut late = Late::new(GuardMode::Signal, Auto::default());
        let t = Instant::now();
        key(&mut late, t, "1");
        let begins = t + 20_000 * MS;
        key(&mut late, begins, "424");
        let order = late.handle_hold(begins + 2_000 * MS, None).expect("an order");
        assert_eq!((order.from, order.heard), (begins, None), "three keys are no card yet");
        assert_eq!(late.handle_hold(begins + 3_000 * MS, None), None);
        key(&mut late, begins, "42424242");
        let order = late.handle_hold(begins + 4_000 * MS, None).expect("an order");
        assert_eq!((order.from, order.heard), (begins, Some(begins)));
        // A group, a long rest, and the hold with the next one: the group belongs to it.
        let mut late = Late::new(GuardMode::Signal, Auto::default());
        key(&mut late, t, "4242");
        key(&mut late, t + 9_000 * MS, "4");
        let order = late.handle_hold(t + 9_500 * MS, None).expect("an order");
        assert_eq!((order.from, order.heard), (t, None));
    }

    #[test]
    fn who_hangs_up_in_the_middle_of_a_card_leaves_none_of_it() {
        let t = Instant::now();
        for (keys, taken) in [("4242424", true), ("424242", false), ("7123456", false), ("", false)] {
            let mut late = Late::new(GuardMode::Signal, Auto::default());
            key(&mut late, t, keys);
            assert_eq!(late.handle_end(t + 3_000 * MS).is_some(), taken, "{} keys", keys.len());
        }
    }

    #[test]
    fn under_auto_only_what_was_sent_on_as_tones_could_be_heard() {
        let mut late = Late::new(GuardMode::Auto, Auto::default());
        let t = Instant::now();
        assert_eq!(late.handle_card(t + 4_000 * MS, t).heard, None);
        late.handle_sounded(t + 6_000 * MS);
        assert_eq!(late.handle_card(t + 9_000 * MS, t).heard, Some(t + 6_000 * MS));
    }
}
