//! What protects a call when another becomes part of it: it carries the holds of both, and the far party, who was a
//! customer there, is one here too. What one call gives goes in; holds, events and orders to mask come out. Nothing here
//! ever lifts a mask.

use std::time::Instant;

use super::outbox::Outbox;
use super::protection::{Lingering, Protection};
use crate::config::GuardMode;
use crate::guard::holds::Hold;
use crate::obs::event::{EventKind, HoldKind};

/// What one call takes over from another that becomes part of it.
#[derive(Debug)]
pub(super) struct Inherited {
    holds: Vec<Hold>,
    lingering: Vec<Lingering>,
    far: GuardMode,
}

impl Protection {
    /// What the call gives to one it becomes part of; `far` is the guard of the trunk of the party that goes there.
    pub(super) fn give(&mut self, far: GuardMode) -> Inherited {
        Inherited { holds: self.holds.give_all(), lingering: std::mem::take(&mut self.lingering), far }
    }

    /// Takes over what protected another call: the holds of both are in force, and the far party is a customer too.
    pub(super) fn inherit(&mut self, now: Instant, inherited: Inherited, out: &mut Outbox) {
        let Inherited { holds, lingering, far } = inherited;
        self.far = Some(far);
        self.lingering.extend(lingering);
        for hold in holds {
            if hold.kind == HoldKind::Mask {
                self.hush(now, out);
            }
            let taken = EventKind::HoldTaken {
                hold: hold.id,
                kind: hold.kind,
                owner: hold.owner.to_string(),
                reason: hold.reason.clone(),
                ttl_ms: hold.ttl_ms(now),
            };
            self.holds.adopt(hold);
            self.settle(now, out);
            out.event(self.call, taken);
        }
        self.settle(now, out);
    }

    /// Whether the keys of a customer in the agent's place are masked now.
    pub(super) fn masks_far(&self) -> bool {
        match self.far {
            Some(GuardMode::Always | GuardMode::Auto) => true,
            Some(GuardMode::Off | GuardMode::Signal) => self.masked(),
            None => false,
        }
    }

    /// Whether keys of anybody are masked now, so that nothing may be agreed on that cannot be.
    pub(super) fn masks(&self) -> bool {
        self.masked() || self.masks_far()
    }
}
