//! The pool of media ports. A session takes a pair (RTP even, RTCP the next odd) per leg; what it gives back rests
//! before another may have it, so that a late packet of one call never reaches the next (faults: port exhaustion).
//! Pure; the sockets are bound elsewhere.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// RTP ports of a session: customer, agent.
pub(super) type Pair = [u16; 2];

/// How long ports rest that another program has.
const TAKEN: Duration = Duration::from_secs(60);

/// Free and resting RTP ports.
#[derive(Debug)]
pub(super) struct Ports {
    free: VecDeque<u16>,
    /// Oldest first.
    resting: VecDeque<(Instant, u16)>,
    quarantine: Duration,
    /// How many there are.
    all: usize,
}

impl Ports {
    /// Every even port of `first..=last` whose odd neighbour is in the range too.
    pub(super) fn new((first, last): (u16, u16), quarantine: Duration) -> Self {
        let free: VecDeque<u16> = (first..last).filter(|port| port % 2 == 0).collect();
        Self { all: free.len(), free, resting: VecDeque::new(), quarantine }
    }

    /// Takes the ports of a session, the longest unused first; `None` when fewer than two are left.
    pub(super) fn take(&mut self, now: Instant) -> Option<Pair> {
        while self.resting.front().is_some_and(|(until, _)| *until <= now) {
            self.free.extend(self.resting.pop_front().map(|(_, port)| port));
        }
        if self.free.len() < 2 {
            return None;
        }
        Some([self.free.pop_front()?, self.free.pop_front()?])
    }

    /// Whether so much is free that what can wait may take some: a quarter of all.
    pub(super) fn is_ample(&self, now: Instant) -> bool {
        let rested = self.resting.iter().take_while(|(until, _)| *until <= now).count();
        let free = self.free.len() + rested;
        free >= 2 && free * 4 >= self.all
    }

    /// Gives ports back to rest.
    pub(super) fn give_back(&mut self, now: Instant, pair: Pair) {
        let until = now + self.quarantine;
        // Behind those that are free earlier.
        let at = self.resting.iter().rposition(|(other, _)| *other <= until).map_or(0, |at| at + 1);
        pair.iter().rev().for_each(|port| self.resting.insert(at, (until, *port)));
    }

    /// Another program has them: they rest for long.
    pub(super) fn leave(&mut self, now: Instant, pair: Pair) {
        self.resting.extend(pair.map(|port| (now + TAKEN, port)));
        // The soonest come first, or none would be found free behind these.
        self.resting.make_contiguous().sort_by_key(|(until, _)| *until);
    }

    /// Ports neither free nor resting.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.free.len() + self.resting.len()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn only_even_ports_with_their_odd_neighbour_are_given() {
        let t = Instant::now();
        let mut ports = Ports::new((30_001, 30_006), Duration::ZERO);
        assert_eq!(ports.take(t), Some([30_002, 30_004]));
        assert_eq!(ports.take(t), None);
    }

    #[test]
    fn a_port_rests_before_it_serves_another_call() {
        let t = Instant::now();
        let rest = Duration::from_secs(2);
        let mut ports = Ports::new((30_000, 30_003), rest);
        let pair = ports.take(t).expect("free");
        ports.give_back(t, pair);
        assert_eq!(ports.take(t + rest / 2), None);
        assert_eq!(ports.take(t + rest), Some(pair));
    }

    #[test]
    fn what_can_wait_leaves_ports_to_the_calls() {
        let t = Instant::now();
        let mut ports = Ports::new((30_000, 30_015), Duration::from_secs(2));
        let taken: Vec<_> = (0..3).map(|_| ports.take(t).expect("free")).collect();
        assert!(ports.is_ample(t), "two of eight are left");
        ports.give_back(t, taken[0]);
        let _ = ports.take(t);
        assert!(!ports.is_ample(t), "those that rest do not count");
        assert!(ports.is_ample(t + Duration::from_secs(2)));
    }

    #[test]
    fn the_longest_unused_port_is_taken_first() {
        let t = Instant::now();
        let mut ports = Ports::new((30_000, 30_007), Duration::ZERO);
        let first = ports.take(t).expect("free");
        ports.give_back(t, first);
        assert_ne!(ports.take(t), Some(first));
    }

    #[test]
    fn the_top_of_the_range_does_not_overflow() {
        assert_eq!(Ports::new((65_530, u16::MAX), Duration::ZERO).idle(), 3);
    }
}
