//! The INVITE server transaction (RFC 3261 figure 7, RFC 6026 section 7.1), with the user's duty to repeat a 2xx until
//! it is acknowledged (RFC 3261 section 13.3.1.4) taken over.
//!
//! ```text
//!             INVITE taken
//!                 v              INVITE again: send the last response again
//!           +------------+ <----+ 1xx from the user: send
//!           | Proceeding |------+ no answer in 200 ms: send 100
//!           +------------+
//!    300-699 |         \ 2xx: send
//!    send    v          v
//!     +-----------+   +----------+ <---+ R: send the 2xx again (T1 doubling to T2) until its ACK
//!  +->| Completed |   | Accepted |-----+ INVITE again: absorbed
//!  +--+-----------+   +----------+
//!  G, INVITE: |  |         | L: over; without an ACK the user is told
//!  send again |  | H: no   v
//!         ACK |  +----> (Terminated) <--+
//!             v    ACK                  | I (none on a reliable one)
//!     +-----------+                     |
//!     | Confirmed |---------------------+
//!     +-----------+
//! ```

use std::time::Instant;

use super::{Pause, Timers};
use crate::base::time::TimerTable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Proceeding,
    Completed,
    Confirmed,
    Accepted { acknowledged: bool },
    Terminated,
}

/// Timers of the machine.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// The user has not answered: send 100.
    Trying,
    /// Send the final non-2xx response again; doubles up to T2. Unreliable transports only.
    G,
    /// No ACK for the final non-2xx response.
    H,
    /// Repeated ACKs have died out.
    I,
    /// Repeated INVITEs have died out after a 2xx (RFC 6026).
    L,
    /// Send the 2xx again; doubles up to T2. Every transport.
    R,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> usize {
        timer as usize
    }
}

/// What to do when time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerDue {
    /// Nothing is due.
    Nothing,
    /// Send 100 Trying.
    SendTrying,
    /// Send the last response again.
    Resend,
    /// No ACK in time: tell the user. The transaction is over.
    NoAck,
    /// The transaction ended quietly.
    Over,
}

/// The INVITE server transaction.
#[derive(Debug)]
pub struct ServerInvite {
    state: State,
    timers: TimerTable<Timer, 6>,
    pause: Pause,
    reliable: bool,
}

impl ServerInvite {
    /// The INVITE has just come.
    pub fn start(now: Instant, t: &Timers, reliable: bool) -> Self {
        let mut timers = TimerTable::default();
        timers.set(Timer::Trying, now + t.trying);
        Self { state: State::Proceeding, timers, pause: Pause::new(t.t1, Some(t.t2)), reliable }
    }

    /// Takes the user's response by its status. `true`: send it. `false`: it comes too late.
    pub fn handle_answer(&mut self, now: Instant, t: &Timers, status: u16) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        self.timers.stop(Timer::Trying);
        match status {
            ..200 => {}
            200..300 => {
                self.state = State::Accepted { acknowledged: false };
                self.timers.set(Timer::L, now + t.give_up());
                self.timers.set(Timer::R, now + t.t1);
            }
            300.. => {
                self.state = State::Completed;
                self.timers.set(Timer::H, now + t.give_up());
                if !self.reliable {
                    self.timers.set(Timer::G, now + t.t1);
                }
            }
        }
        true
    }

    /// The INVITE came again. `true`: send the last response again.
    pub fn handle_again(&self) -> bool {
        match self.state {
            State::Proceeding | State::Completed => true,
            State::Accepted { .. } | State::Confirmed | State::Terminated => false,
        }
    }

    /// The ACK for a final non-2xx response came, by branch. `false`: it acknowledges no such response.
    pub fn handle_ack(&mut self, now: Instant, t: &Timers) -> bool {
        match self.state {
            State::Completed => {
                self.timers.clear();
                if self.reliable {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Confirmed;
                    self.timers.set(Timer::I, now + t.t4);
                }
                true
            }
            State::Confirmed => true,
            State::Proceeding | State::Accepted { .. } | State::Terminated => false,
        }
    }

    /// The ACK for a 2xx came, by dialog. `true`: the first; give it to the user.
    pub fn handle_ack_2xx(&mut self) -> bool {
        let first = self.state == State::Accepted { acknowledged: false };
        if first {
            self.state = State::Accepted { acknowledged: true };
            self.timers.stop(Timer::R);
        }
        first
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> ServerDue {
        if self.timers.take_due(Timer::H, now) {
            self.end();
            return ServerDue::NoAck;
        }
        if self.timers.take_due(Timer::L, now) {
            let acknowledged = self.state == State::Accepted { acknowledged: true };
            self.end();
            return if acknowledged { ServerDue::Over } else { ServerDue::NoAck };
        }
        if self.timers.take_due(Timer::I, now) {
            self.end();
            return ServerDue::Over;
        }
        if self.timers.take_due(Timer::Trying, now) {
            return ServerDue::SendTrying;
        }
        for timer in [Timer::G, Timer::R] {
            if self.timers.take_due(timer, now) {
                self.timers.set(timer, now + self.pause.grow());
                return ServerDue::Resend;
            }
        }
        ServerDue::Nothing
    }

    fn end(&mut self) {
        self.state = State::Terminated;
        self.timers.clear();
    }

    /// Whether the user has not given its final answer.
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.state == State::Terminated
    }

    /// When [`ServerInvite::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.soonest()
    }
}
