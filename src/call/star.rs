//! Star codes keyed on the PBX leg. While a sequence may still become a code its keys are withheld from the customer;
//! when it turns out not to be one they are given back in order, to be sent on. Key presses and the time go in; an
//! action or withheld keys come out. It never decides what an action does.
//!
//! ```text
//!            key that starts a code              last key of a code ─► action
//!   empty ───────────────────────────► matching ────────────────────────────► empty
//!     │ any other key: passed at once      │ key that breaks it, or BETWEEN_KEYS passed:
//!     └──────────────────────────────      └ the keys that cannot begin a code any more are passed
//! ```

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::base::secret::Digit;
use crate::config::StarCodes;
use crate::obs::event::StarAction;

/// The longest pause between two keys of a code.
pub(super) const BETWEEN_KEYS: Duration = Duration::from_secs(3);

/// Keys to be sent on to the customer.
pub(super) type Keys = SmallVec<[Digit; 8]>;

/// What came of a key press.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Keys that are no code after all, in order.
    pub(super) pass: Keys,
    /// A code was completed.
    pub(super) action: Option<StarAction>,
}

/// The matcher of one call.
#[derive(Debug)]
pub(super) struct Star {
    codes: StarCodes,
    withheld: Keys,
    deadline: Option<Instant>,
}

impl Star {
    /// A matcher for `codes`.
    pub(super) fn new(codes: StarCodes) -> Self {
        Self { codes, withheld: Keys::new(), deadline: None }
    }

    /// The agent pressed a key.
    pub(super) fn handle_digit(&mut self, now: Instant, digit: Digit) -> Outcome {
        let mut out = Outcome::default();
        self.withheld.push(digit);
        self.deadline = Some(now + BETWEEN_KEYS);
        out.action = self.action();
        if out.action.is_some() {
            self.withheld.clear();
        }
        while !self.withheld.is_empty() && !self.may_become_code() {
            out.pass.push(self.withheld.remove(0));
        }
        if self.withheld.is_empty() {
            self.deadline = None;
        }
        out
    }

    /// Time passed: gives up an unfinished sequence.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Keys {
        if self.deadline.is_none_or(|at| at > now) {
            return Keys::new();
        }
        self.deadline = None;
        std::mem::take(&mut self.withheld)
    }

    /// When [`Star::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn action(&self) -> Option<StarAction> {
        let is = |code: &[Digit]| code.len() == self.withheld.len() && begins(code, &self.withheld);
        match () {
            () if is(&self.codes.begin) => Some(StarAction::Begin),
            () if is(&self.codes.end) => Some(StarAction::End),
            () => None,
        }
    }

    fn may_become_code(&self) -> bool {
        begins(&self.codes.begin, &self.withheld) || begins(&self.codes.end, &self.withheld)
    }
}

/// Whether `code` begins with `keys`.
fn begins(code: &[Digit], keys: &[Digit]) -> bool {
    keys.len() <= code.len() && code.iter().zip(keys).all(|(a, b)| a.same_key(b))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<Digit> {
        text.chars().map(|c| Digit::from_char(c).expect("a key")).collect()
    }

    fn star() -> Star {
        Star::new(StarCodes { begin: keys("*71"), end: keys("*72"), in_band: false })
    }

    fn text(keys: &Keys) -> String {
        keys.iter().map(Digit::expose_char).collect()
    }

    /// Keys passed and actions, in order.
    fn press(star: &mut Star, now: Instant, sequence: &str) -> (String, Vec<StarAction>) {
        let (mut passed, mut actions) = (String::new(), vec![]);
        for digit in keys(sequence) {
            let out = star.handle_digit(now, digit);
            passed += &text(&out.pass);
            actions.extend(out.action);
        }
        (passed, actions)
    }

    #[test]
    fn a_code_acts_and_none_of_it_passes() {
        let t = Instant::now();
        assert_eq!(press(&mut star(), t, "*71"), (String::new(), vec![StarAction::Begin]));
        assert_eq!(press(&mut star(), t, "*72"), (String::new(), vec![StarAction::End]));
    }

    #[test]
    fn other_keys_pass_at_once() {
        assert_eq!(press(&mut star(), Instant::now(), "1234#"), ("1234#".into(), vec![]));
    }

    #[test]
    fn a_broken_code_is_replayed_in_order() {
        assert_eq!(press(&mut star(), Instant::now(), "*73"), ("*73".into(), vec![]));
    }

    #[test]
    fn a_code_right_after_a_false_start_is_still_heard() {
        let t = Instant::now();
        assert_eq!(press(&mut star(), t, "**71"), ("*".into(), vec![StarAction::Begin]));
        assert_eq!(press(&mut star(), t, "*7*72"), ("*7".into(), vec![StarAction::End]));
    }

    #[test]
    fn an_unfinished_code_is_replayed_after_a_pause() {
        let t = Instant::now();
        let mut star = star();
        assert_eq!(press(&mut star, t, "*7"), (String::new(), vec![]));
        assert!(star.handle_timeout(t + BETWEEN_KEYS / 2).is_empty());
        assert_eq!(text(&star.handle_timeout(t + BETWEEN_KEYS)), "*7");
        assert_eq!(star.poll_timeout(), None);
    }
}
