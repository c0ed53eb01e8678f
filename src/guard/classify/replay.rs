//! Released keys on their way to the PBX, one by one. Runs go in; each key comes out when it is due: in order, not
//! closer than a receiver can tell apart, not further than the caller's own rhythm.

use std::time::{Duration, Instant};

use super::Run;
use crate::base::secret::Digit;

/// Length of a replayed key, in ms (receivers need 40, Q.24).
pub const TONE_MS: u32 = 100;
/// Least time from key to key: the tone, the repeated ends of its event and the pause after it.
const CLOSEST: Duration = Duration::from_millis(200);
/// Most time from key to key: what was withheld has waited long enough.
const FURTHEST: Duration = Duration::from_millis(300);
/// Runs that wait behind the one being sent.
const WAITING: usize = 8;

#[derive(Debug)]
struct Sending {
    run: Run,
    next: usize,
}

/// The queue of one call.
#[derive(Debug, Default)]
pub struct Replay {
    runs: Vec<Sending>,
    /// When the next key may be sent.
    due: Option<Instant>,
}

impl Replay {
    /// Queues a run; what does not fit any more is not sent (nobody keys so much).
    pub fn push(&mut self, now: Instant, run: Run) {
        if run.is_empty() || self.runs.len() > WAITING {
            return;
        }
        self.runs.push(Sending { run, next: 0 });
        self.due = Some(self.due.map_or(now, |due| due.max(now)));
    }

    /// The key that is due, if one is. Ask until there is none.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Digit> {
        let sending = self.runs.first_mut()?;
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let digit = sending.run.expose().get(sending.next).and_then(|key| Digit::from_char(*key as char));
        sending.next += 1;
        let gap = Duration::from_millis(u64::from(sending.run.gap_ms(sending.next)));
        if sending.next >= sending.run.len() {
            self.runs.remove(0);
        }
        self.due = Some(now + gap.clamp(CLOSEST, FURTHEST));
        digit
    }

    /// When [`Replay::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.runs.is_empty())
    }

    /// Wipes what was not sent yet; how many keys.
    pub fn clear(&mut self) -> usize {
        let left = self.runs.iter().map(|sending| sending.run.len() - sending.next).sum();
        self.runs.clear();
        left
    }
}

impl Run {
    /// A run of `keys`, each `gap_ms` after the one before.
    #[cfg(test)]
    pub(super) fn of(keys: &str, gap_ms: u16) -> Run {
        let mut digits = crate::base::secret::Digits::new();
        for key in keys.chars().filter_map(Digit::from_char) {
            assert!(digits.push(&key));
        }
        Run { keys: digits, gaps_ms: [gap_ms; crate::base::secret::MAX_DIGITS] }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn sent(replay: &mut Replay, from: Instant) -> Vec<(u64, char)> {
        let mut all = Vec::new();
        while let Some(at) = replay.poll_timeout() {
            while let Some(digit) = replay.handle_timeout(at) {
                all.push(((at - from).as_millis() as u64, digit.expose_char()));
            }
        }
        all
    }

    #[test]
    fn keys_leave_in_order_and_neither_too_close_nor_too_far() {
        let t = Instant::now();
        for (gap, apart) in [(120, 200), (250, 250), (900, 300)] {
            let mut replay = Replay::default();
            replay.push(t, Run::of("12", gap));
            replay.push(t, Run::of("3", gap));
            let times = [(0, '1'), (apart, '2')];
            let all = sent(&mut replay, t);
            assert_eq!(all[..2], times);
            assert_eq!(all[2].1, '3');
            assert!((200..=300).contains(&(all[2].0 - all[1].0)));
        }
    }

    #[test]
    fn what_is_cleared_is_not_sent() {
        let t = Instant::now();
        let mut replay = Replay::default();
        replay.push(t, Run::of("1234", 250));
        assert!(replay.handle_timeout(t).is_some());
        assert_eq!(replay.clear(), 3);
        assert!(replay.handle_timeout(t + Duration::from_secs(9)).is_none());
        assert_eq!(replay.poll_timeout(), None);
    }
}
