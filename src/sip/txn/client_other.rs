//! The non-INVITE client transaction (RFC 3261 figure 6).
//!
//! ```text
//!            request sent
//!                v         E: resend
//!  F, error  +--------+ <----+
//! <----------| Trying |------+
//!  timeout   +--------+
//!       ^     |  | 1xx: deliver
//!     F |     |  v                E (every T2): resend
//!       |     | +------------+ <----+
//!       +-----|-| Proceeding |------+ 1xx: deliver
//!             | +------------+
//!             v     v  200-699: deliver
//!            +-----------+   K (none on a reliable one)
//!            | Completed |--------------> (Terminated)
//!            +-----------+
//! ```

use std::time::Instant;

use super::{Pause, Timers};
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
    /// Resend the request; doubles up to T2. Unreliable transports only.
    E,
    /// No final answer.
    F,
    /// Repeated final responses have died out.
    K,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> usize {
        timer as usize
    }
}

/// What to do with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Give it to the user.
    Deliver,
    /// Nothing.
    Ignore,
}

/// What to do when time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherDue {
    /// Nothing is due.
    Nothing,
    /// Send the request again.
    Resend,
    /// No final answer in time: tell the user. The transaction is over.
    TimedOut,
    /// The transaction ended quietly.
    Over,
}

/// The non-INVITE client transaction.
#[derive(Debug)]
pub struct ClientOther {
    state: State,
    timers: TimerTable<Timer, 3>,
    pause: Pause,
    reliable: bool,
}

impl ClientOther {
    /// The request has just been sent.
    pub fn start(now: Instant, t: &Timers, reliable: bool) -> Self {
        let mut timers = TimerTable::default();
        if !reliable {
            timers.set(Timer::E, now + t.t1);
        }
        timers.set(Timer::F, now + t.give_up());
        Self { state: State::Trying, timers, pause: Pause::new(t.t1, Some(t.t2)), reliable }
    }

    /// Takes a response by its status.
    pub fn handle_response(&mut self, now: Instant, t: &Timers, status: u16) -> Answer {
        match (self.state, status) {
            (State::Trying, 100..200) => {
                self.state = State::Proceeding;
                self.pause.stretch();
                Answer::Deliver
            }
            (State::Proceeding, 100..200) => Answer::Deliver,
            (State::Trying | State::Proceeding, _) => {
                self.timers.clear();
                if self.reliable {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Completed;
                    self.timers.set(Timer::K, now + t.t4);
                }
                Answer::Deliver
            }
            (State::Completed | State::Terminated, _) => Answer::Ignore,
        }
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> OtherDue {
        if self.timers.take_due(Timer::F, now) {
            self.end();
            return OtherDue::TimedOut;
        }
        if self.timers.take_due(Timer::K, now) {
            self.end();
            return OtherDue::Over;
        }
        if self.timers.take_due(Timer::E, now) {
            self.timers.set(Timer::E, now + self.pause.grow());
            return OtherDue::Resend;
        }
        OtherDue::Nothing
    }

    /// The request could not be sent. `true`: tell the user; the transaction is over.
    pub fn handle_transport_error(&mut self) -> bool {
        let waiting = self.state == State::Trying;
        if waiting {
            self.end();
        }
        waiting
    }

    fn end(&mut self) {
        self.state = State::Terminated;
        self.timers.clear();
    }

    /// Whether no final answer has come yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.state == State::Terminated
    }

    /// When [`ClientOther::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.soonest()
    }
}
