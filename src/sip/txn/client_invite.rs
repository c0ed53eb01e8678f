//! The INVITE client transaction (RFC 3261 figure 5, RFC 6026 section 7.2). Responses and the time come in; whether to
//! resend, acknowledge, deliver or give up comes out.
//!
//! ```text
//!            INVITE sent
//!                v            A: resend
//!  B, error  +---------+ <----+
//! <----------| Calling |------+
//!  timeout   +---------+
//!             |  |1xx   \ 2xx
//!             |  v       \________________
//!             | +------------+    2xx     \
//!             | | Proceeding |-----------> +----------+ 2xx: deliver (first of its tag) or ACK again
//!             | +------------+             | Accepted |----+
//!      300+   |     | 300+: ACK, deliver   +----------+ <--+
//!             v     v                           | M
//!            +-----------+ 300+: ACK            v
//!            | Completed |----+            (Terminated)
//!            +-----------+ <--+                 ^
//!                 | D (none on a reliable one)  |
//!                 +-----------------------------+
//! ```
//! Cancelling adds one timer, X: 64×T1 after the CANCEL without a final answer the transaction is given up
//! (section 9.1).

use std::time::Instant;

use super::{Pause, Timers};
use crate::base::time::TimerTable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
    Terminated,
}

/// Timers of the machine.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// Resend the INVITE; doubles. Unreliable transports only.
    A,
    /// No answer to the INVITE.
    B,
    /// Repeated final responses have died out.
    D,
    /// Repeated 2xx have died out (RFC 6026).
    M,
    /// No final answer after CANCEL.
    X,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> usize {
        timer as usize
    }
}

/// What to do with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteAnswer {
    /// Give it to the user: the first provisional. A CANCEL that waited may go now.
    FirstProvisional,
    /// Give it to the user: a further provisional.
    Provisional,
    /// A 2xx: give it to the user if its To tag is new, else send its ACK again.
    Success,
    /// The final non-2xx answer: send its ACK and give it to the user.
    Failure,
    /// The final answer again: send the ACK again.
    Again,
    /// Nothing.
    Ignore,
}

/// What to do when time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteDue {
    /// Nothing is due.
    Nothing,
    /// Send the INVITE again.
    Resend,
    /// No answer in time (timer B, or X after CANCEL): tell the user. The transaction is over.
    TimedOut,
    /// The transaction ended quietly.
    Over,
}

/// When a CANCEL may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelWhen {
    /// Now.
    Now,
    /// With the first provisional response.
    Later,
    /// Never: a final answer came.
    Never,
}

/// The INVITE client transaction.
#[derive(Debug)]
pub struct ClientInvite {
    state: State,
    timers: TimerTable<Timer, 5>,
    pause: Pause,
    reliable: bool,
}

impl ClientInvite {
    /// The INVITE has just been sent.
    pub fn start(now: Instant, t: &Timers, reliable: bool) -> Self {
        let mut timers = TimerTable::default();
        if !reliable {
            timers.set(Timer::A, now + t.t1);
        }
        timers.set(Timer::B, now + t.give_up());
        Self { state: State::Calling, timers, pause: Pause::new(t.t1, None), reliable }
    }

    /// Takes a response by its status.
    pub fn handle_response(&mut self, now: Instant, t: &Timers, status: u16) -> InviteAnswer {
        match (self.state, status) {
            (State::Calling, 100..200) => {
                self.state = State::Proceeding;
                self.timers.stop(Timer::A);
                self.timers.stop(Timer::B);
                InviteAnswer::FirstProvisional
            }
            (State::Proceeding, 100..200) => InviteAnswer::Provisional,
            (State::Calling | State::Proceeding, 200..300) => {
                self.state = State::Accepted;
                self.timers.clear();
                self.timers.set(Timer::M, now + t.give_up());
                InviteAnswer::Success
            }
            (State::Calling | State::Proceeding, _) => {
                self.timers.clear();
                if self.reliable {
                    self.state = State::Terminated;
                } else {
                    self.state = State::Completed;
                    self.timers.set(Timer::D, now + t.absorb());
                }
                InviteAnswer::Failure
            }
            (State::Completed, 300..) => InviteAnswer::Again,
            (State::Accepted, 200..300) => InviteAnswer::Success,
            (State::Completed | State::Accepted | State::Terminated, _) => InviteAnswer::Ignore,
        }
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> InviteDue {
        if self.timers.take_due(Timer::B, now) || self.timers.take_due(Timer::X, now) {
            self.end();
            return InviteDue::TimedOut;
        }
        if self.timers.take_due(Timer::D, now) || self.timers.take_due(Timer::M, now) {
            self.end();
            return InviteDue::Over;
        }
        if self.timers.take_due(Timer::A, now) {
            self.timers.set(Timer::A, now + self.pause.grow());
            return InviteDue::Resend;
        }
        InviteDue::Nothing
    }

    /// The INVITE could not be sent. `true`: tell the user; the transaction is over.
    pub fn handle_transport_error(&mut self) -> bool {
        let waiting = self.state == State::Calling;
        if waiting {
            self.end();
        }
        waiting
    }

    /// Whether a CANCEL may go (section 9.1).
    pub fn cancel_when(&self) -> CancelWhen {
        match self.state {
            State::Calling => CancelWhen::Later,
            State::Proceeding => CancelWhen::Now,
            State::Completed | State::Accepted | State::Terminated => CancelWhen::Never,
        }
    }

    /// A CANCEL has just been sent.
    pub fn cancelled(&mut self, now: Instant, t: &Timers) {
        if self.state == State::Proceeding {
            self.timers.set(Timer::X, now + t.give_up());
        }
    }

    fn end(&mut self) {
        self.state = State::Terminated;
        self.timers.clear();
    }

    /// Whether no final answer has come yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// Whether it can be forgotten.
    pub fn is_over(&self) -> bool {
        self.state == State::Terminated
    }

    /// When [`ClientInvite::handle_timeout`] is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.soonest()
    }
}
