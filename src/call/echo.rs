//! What the agent's side keys while the customer's keys are masked. Such a key may be the customer's own that comes back:
//! an echo in a handset or a hybrid, a conference or a third leg that has the customer's voice by another way. Keys of
//! both sides and the time go in; keys that are the agent's own come out, after [`WAIT`]. A key that the customer
//! pressed about then is dropped. Media masks every one of them meanwhile.
//!
//! ```text
//!   customer  ──────5──────────────────────
//!   agent     ─────────5 (echo)──────7─────     5: dropped    7: the agent's own, sent on
//!                  ├─ LATE ─────────────┤ an echo of the 5 would have come by now
//! ```

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::base::secret::Digit;

/// How long a key of the agent's side waits for the customer's that it may repeat: an INFO may tell of that one, and the
/// path from the customer may be the slower one.
const WAIT: Duration = Duration::from_millis(900);
/// How much sooner than the customer's key its echo may be heard: what the ways of both differ by.
const EARLY: Duration = Duration::from_millis(400);
/// How much later: a conference across the world.
pub(super) const LATE: Duration = Duration::from_secs(2);
/// Keys remembered of either side; whoever keys faster than this is no human.
const KEYS: usize = 32;

/// Tells the agent's own keys from echoes.
#[derive(Debug, Default)]
pub(super) struct Echo {
    /// The customer's keys, and when each was pressed.
    customer: ArrayVec<(Instant, Digit), KEYS>,
    /// The agent's side's keys, when each was pressed, and until when it waits.
    waiting: ArrayVec<(Instant, Digit, Instant), KEYS>,
}

impl Echo {
    /// The customer pressed a key at `at`.
    pub(super) fn handle_customer(&mut self, at: Instant, digit: &Digit) {
        if self.customer.is_full() {
            self.customer.remove(0);
        }
        self.customer.push((at, digit.clone()));
    }

    /// A key that was pressed at `at` is heard from the agent's side now.
    pub(super) fn handle_agent(&mut self, now: Instant, at: Instant, digit: Digit) {
        if self.waiting.is_full() {
            self.waiting.remove(0);
        }
        self.waiting.push((at, digit, now + WAIT));
    }

    /// The next key of the agent's own that is due; ask until there is none.
    pub(super) fn due(&mut self, now: Instant) -> Option<Digit> {
        while self.waiting.first().is_some_and(|(.., until)| *until <= now) {
            let (at, digit, _) = self.waiting.remove(0);
            let echo = self.customer.iter().any(|(pressed, key)| {
                key.same_key(&digit)
                    && at.saturating_duration_since(*pressed) <= LATE
                    && pressed.saturating_duration_since(at) <= EARLY
            });
            if !echo {
                return Some(digit);
            }
        }
        self.customer.retain(|(pressed, _)| now.saturating_duration_since(*pressed) <= LATE + WAIT + WAIT);
        None
    }

    /// When [`Echo::due`] is to be asked.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first().map(|(.., until)| *until)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn key(c: char) -> Digit {
        Digit::from_char(c).expect("a key")
    }

    fn passed(echo: &mut Echo, now: Instant) -> String {
        std::iter::from_fn(|| echo.due(now)).map(|digit| digit.expose_char()).collect()
    }

    #[test]
    fn an_echo_is_dropped_however_late_and_the_agents_own_keys_pass_in_order() {
        for delay_ms in [0, 30, 300, 1_900] {
            let (t, mut echo) = (Instant::now(), Echo::default());
            let ms = Duration::from_millis;
            for (n, c) in ['4', '2', '4'].into_iter().enumerate() {
                let at = t + ms(300 * n as u64);
                echo.handle_customer(at, &key(c));
                echo.handle_agent(at + ms(delay_ms) + ms(160), at + ms(delay_ms), key(c));
            }
            let at = t + ms(delay_ms + 900);
            echo.handle_agent(at, at, key('7'));
            echo.handle_agent(at + ms(1), at, key('1'));
            assert_eq!(passed(&mut echo, at), "");
            assert_eq!(passed(&mut echo, at + WAIT + ms(1)), "71", "{delay_ms}");
            assert_eq!(echo.poll_timeout(), None);
        }
    }

    #[test]
    fn an_echo_that_is_heard_before_the_key_itself_is_dropped_too() {
        let (t, mut echo) = (Instant::now(), Echo::default());
        echo.handle_agent(t, t, key('9'));
        echo.handle_customer(t + Duration::from_millis(200), &key('9'));
        assert_eq!(passed(&mut echo, t + WAIT), "");
    }

    #[test]
    fn more_keys_than_are_remembered_make_it_neither_grow_nor_panic() {
        let (t, mut echo) = (Instant::now(), Echo::default());
        for n in 0..100 {
            let at = t + Duration::from_millis(n);
            echo.handle_customer(at, &key('3'));
            echo.handle_agent(at, at, key('3'));
        }
        assert_eq!(passed(&mut echo, t + Duration::from_secs(9)), "");
    }
}
