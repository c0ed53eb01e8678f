//! The timer values of RFC 3261 table 4.

use std::time::Duration;

/// Base values all transaction timers follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate; 500 ms.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses; 4 s.
    pub t2: Duration,
    /// Longest time a message stays in the network; 5 s.
    pub t4: Duration,
    /// How long an INVITE may wait for our user before the endpoint sends 100 (section 17.2.1); 200 ms.
    pub trying: Duration,
}

impl Timers {
    /// 64×T1: how long anybody waits for an answer that does not come.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D: how long a client absorbs repeated final responses; at least 32 s (section 17.1.1.2), or 64×T1 where
    /// T1 was lowered for a fast network.
    pub fn absorb(&self) -> Duration {
        self.give_up()
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying: Duration::from_millis(200),
        }
    }
}
