//! The non-INVITE server transaction (RFC 3261 figure 8).
//!
//! ```text
//!            request taken
//!                v
//!           +--------+  request again: absorbed
//!           | Trying |-----------------+
//!           +--------+                 |
//!    1xx: send |  \ 200-699: send      |  U: 64×T1 without an answer; the client has given up
//!              v   \                   |
//!     +------------+\                  v
//!     | Proceeding |-|------------> (Terminated)
//!     +------------+ |                 ^
//!    200-699: send | |                 |
//!                  v v                 | J (none on a reliable one)
//!            +-----------+             |
//!            | Completed |-------------+   request again: send the last response again
//!            +-----------+
//! ```

use std::time::Instant;

use super::Timers;
use crate::base::time::TimerTable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

/// Timers of the machine.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// Repeated requests have died out.
    J,
    /// Our user never answered.
    U,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> usize {
        timer as usize
    }
}

/// The non-INVITE server transaction.
#[derive(Debug)]
pub struct ServerOther {
    state: State,
    timers: TimerTable<Timer, 2>,
    reliable: bool,
}

impl ServerOther {
    /// The request has just come.
    pub fn start(now: Instant, t: &Timers, reliable: bool) -> Self {
        let mut timers = TimerTable::default();
        timers.set(Timer::U, now + t.give_up());
        Self { state: State::Trying, timers, reliable }
    }

    /// Takes the user's response by its status. `true`: send it. `false`: it comes too late.
    pub fn handle_answer(&mut self, now: Instant, t: &Timers, status: u16) -> bool {
        match (self.state, status) {
            (State::Trying | State::Proceeding, ..200) => {
                self.state = State::Proceeding;
                true
            }
            (State::Trying | State::Proceeding, _) => {
                self.timers.clear();
                if self.reliable {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Completed;
                    self.timers.set(Timer::J, now + t.give_up());
                }
                true
            }
            (State::Completed | State::Terminated, _) => false,
        }
    }

    /// The request came again. `true`: send the last response again.
    pub fn handle_again(&self) -> bool {
        match self.state {
            State::Proceeding | State::Completed => true,
            State::Trying | State::Terminated => false,
        }
    }

    /// Fires what is due; afterwards [`ServerOther::is_over`] may hold.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timers.take_due(Timer::J, now) || self.timers.take_due(Timer::U, now) {
            self.state = State::Terminated;
            self.timers.clear();
        }
    }

    /// Whether the user has not given its final answer.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.state == State::Terminated
    }

    /// When [`ServerOther::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.soonest()
    }
}
