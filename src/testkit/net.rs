//! A network in virtual time. Datagrams go in with a time; they come out later, perhaps in another order, twice or
//! never, as the link's [`Conditions`] and the seed say. The same seed gives the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::base::Random;

/// What a path does to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// One-way delay in ms.
    pub delay_ms: u32,
    /// Most delay added at random, in ms; more than a packet time reorders.
    pub jitter_ms: u32,
    /// Probability of loss.
    pub loss: f64,
    /// Mean length of a loss in datagrams; 1 when each is lost by itself (Gilbert's model: the path is good or bad).
    pub burst: f64,
    /// Probability that a datagram comes twice.
    pub duplicate: f64,
    /// Probability that a datagram is held back by 30 ms, behind its successors.
    pub reorder: f64,
}

impl Conditions {
    /// A local network: 1 ms, nothing lost.
    pub const CLEAN: Conditions =
        Conditions { delay_ms: 1, jitter_ms: 0, loss: 0.0, burst: 1.0, duplicate: 0.0, reorder: 0.0 };

    /// A poor access line: 20–45 ms, 5 % lost, 3 % twice, 5 % out of order.
    pub const POOR: Conditions =
        Conditions { delay_ms: 20, jitter_ms: 25, loss: 0.05, burst: 1.0, duplicate: 0.03, reorder: 0.05 };
}

/// How far a reordered datagram is held back.
const HELD_BACK: Duration = Duration::from_millis(30);

/// A datagram that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// Content.
    pub bytes: Vec<u8>,
}

/// The network.
#[derive(Debug)]
pub struct Net {
    random: Random,
    flying: BinaryHeap<Reverse<(Instant, u64)>>,
    contents: std::collections::HashMap<u64, Datagram>,
    next: u64,
    lost: u64,
    /// Paths that are losing everything now.
    bad: std::collections::HashSet<(SocketAddr, SocketAddr)>,
}

impl Net {
    /// A network whose accidents `random` decides.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            flying: BinaryHeap::new(),
            contents: std::collections::HashMap::new(),
            next: 0,
            lost: 0,
            bad: std::collections::HashSet::new(),
        }
    }

    /// Whether the next datagram of a path is lost.
    fn loses(&mut self, ends: (SocketAddr, SocketAddr), path: &Conditions) -> bool {
        if path.burst <= 1.0 || path.loss >= 1.0 {
            return self.random.random_bool(path.loss);
        }
        // In the long run a share of `loss` is spent in the bad state, `burst` datagrams at a time.
        let stay = if self.bad.contains(&ends) {
            1.0 - 1.0 / path.burst
        } else {
            (path.loss / (path.burst * (1.0 - path.loss))).min(1.0)
        };
        let lost = self.random.random_bool(stay);
        if lost {
            self.bad.insert(ends);
        } else {
            self.bad.remove(&ends);
        }
        lost
    }

    /// Puts a datagram on a path; `false` when it is lost.
    pub fn send(&mut self, now: Instant, datagram: Datagram, path: &Conditions) -> bool {
        if self.loses((datagram.from, datagram.to), path) {
            self.lost += 1;
            return false;
        }
        let copies = if self.random.random_bool(path.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.random.random_range(0..=path.jitter_ms * 1_000);
            let mut at =
                now + Duration::from_millis(u64::from(path.delay_ms)) + Duration::from_micros(u64::from(jitter));
            if self.random.random_bool(path.reorder) {
                at += HELD_BACK;
            }
            self.flying.push(Reverse((at, self.next)));
            self.contents.insert(self.next, datagram.clone());
            self.next += 1;
        }
        true
    }

    /// The next datagram that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Datagram> {
        let Reverse((at, _)) = self.flying.peek()?;
        if *at > now {
            return None;
        }
        let Reverse((_, id)) = self.flying.pop()?;
        self.contents.remove(&id)
    }

    /// When the next datagram arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((at, _))| *at)
    }

    /// Datagrams lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn arrivals(seed: u64, path: &Conditions) -> Vec<u8> {
        let t0 = Instant::now();
        let mut net = Net::new(Random::seed_from_u64(seed));
        let address = "10.0.0.1:5060".parse().unwrap();
        for n in 0..200u8 {
            let datagram = Datagram { from: address, to: address, bytes: vec![n] };
            net.send(t0 + Duration::from_millis(20 * u64::from(n)), datagram, path);
        }
        let mut seen = Vec::new();
        while let Some(at) = net.poll_timeout() {
            seen.extend(net.receive(at).map(|d| d.bytes[0]));
        }
        seen
    }

    #[test]
    fn a_clean_network_changes_nothing() {
        assert_eq!(arrivals(1, &Conditions::CLEAN), (0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn losses_come_in_bursts_of_the_mean_length_asked_for() {
        let path = Conditions { loss: 0.05, burst: 3.0, ..Conditions::CLEAN };
        let mut net = Net::new(Random::seed_from_u64(4));
        let address = "10.0.0.1:5060".parse().unwrap();
        let datagram = Datagram { from: address, to: address, bytes: Vec::new() };
        let fate: Vec<bool> = (0..60_000).map(|_| net.send(Instant::now(), datagram.clone(), &path)).collect();
        let lost = fate.iter().filter(|came| !**came).count() as f64;
        let bursts = fate.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
        assert!((lost / 60_000.0 - 0.05).abs() < 0.008, "{lost}");
        assert!((lost / bursts - 3.0).abs() < 0.4, "{}", lost / bursts);
    }

    #[test]
    fn a_poor_network_loses_doubles_and_reorders_and_a_seed_repeats_it() {
        let once = arrivals(2, &Conditions::POOR);
        assert_eq!(once, arrivals(2, &Conditions::POOR));
        assert_ne!(once, arrivals(3, &Conditions::POOR));
        let distinct: std::collections::BTreeSet<_> = once.iter().collect();
        assert!(distinct.len() < 200 && distinct.len() > 170);
        assert!(once.len() > distinct.len());
        assert!(!once.is_sorted());
    }
}
