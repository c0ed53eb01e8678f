//! When the detector hears what has been laid on the line: not at once, but before anything else happens to the path, so
//! that a worker can let the packets of many calls be heard together. What waits is not decided clean, so none of it can
//! go out meanwhile; whether it is heard together or alone changes nothing but the time it takes.

use std::time::Instant;

use super::{Mode, Order, Path};
use crate::dtmf::inband::{Place, Together};
use crate::guard::line::Named;

/// What waits to be heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// When it came.
    at: Instant,
    /// Holes before this position are given up.
    needed: u64,
}

impl Path {
    /// Leaves what has been laid to be heard.
    pub(super) fn hear_later(&mut self, at: Instant, needed: u64) {
        self.waiting = Some(Waiting { at, needed });
    }

    /// Whether something waits to be heard. It is heard at the latest when the path is next told anything.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Hears what waits, alone.
    pub fn hear_waiting(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.hear(waiting.at, waiting.needed);
            self.after_hearing();
        }
    }

    /// Puts what waits in to be heard together with other lines; `None` where it has to be heard alone.
    pub fn put_in(&self, together: &mut Together) -> Option<Place> {
        self.waiting.and_then(|_| self.line.put_in(together))
    }

    /// Hears what was put in. Nothing else may have been done to the path meanwhile.
    pub fn take_out(&mut self, place: Place, together: &Together) {
        if let Some(waiting) = self.waiting.take() {
            let Self { line, merger, .. } = self;
            let mut named = |named: Named| {
                merger.handle_inband(waiting.at, named.lag, named.place, named.digit);
            };
            line.take_out(place, together, waiting.needed, &mut named);
            self.after_hearing();
        }
    }

    fn after_hearing(&mut self) {
        if matches!(self.mode, Mode::Relaying) && self.order == Order::Listen {
            // Nothing is delayed, and what was just relayed teaches the mask.
            self.line.pass();
            if self.line.is_clear() {
                self.mask.learn(self.ear.low());
            } else {
                self.mask.overhear(self.ear.low());
            }
        }
        self.drain_presses();
    }
}
