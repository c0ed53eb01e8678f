//! Orders on their way to one worker. Bounded by the number of calls, not by time: per call the newest order of each
//! kind is kept, so an order to mask always has room (the policy is in the module above).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Refused, Sockets};
use crate::base::ids::{Leg, SessionId};
use crate::config::Network;
use crate::media::{Command, Guard, LegMedia, Tap};

/// Calls that may wait to be made.
pub const CREATES: usize = 4_096;
/// Digits that may wait per call.
pub const DIGITS: usize = 64;

#[derive(Default)]
struct Pending {
    legs: [Option<LegMedia>; 2],
    allowed: [Option<Vec<Network>>; 2],
    guards: [Option<Guard>; 2],
    tap: Option<Tap>,
    digits: Vec<Command>,
    close: bool,
}

#[derive(Default)]
struct Waiting {
    creates: Vec<(Command, Sockets)>,
    orders: HashMap<SessionId, Pending>,
}

/// The inbox of one worker.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Something waits; spares the lock when nothing does.
    any: AtomicBool,
}

impl Inbox {
    fn with<T>(&self, work: impl FnOnce(&mut Waiting) -> T) -> T {
        // A panic while the lock was held cannot leave the maps half changed: every change is one assignment or push.
        let mut waiting = self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        work(&mut waiting)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Puts a new call in.
    pub(super) fn create(&self, command: Command, sockets: Sockets) -> Result<(), Refused> {
        self.with(|waiting| {
            if waiting.creates.len() >= CREATES {
                return Err(Refused::Full);
            }
            waiting.creates.push((command, sockets));
            self.any.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// Puts an order in.
    pub(super) fn order(&self, command: Command) -> Result<(), Refused> {
        self.with(|waiting| {
            let pending = waiting.orders.entry(command.session()).or_default();
            match command {
                Command::Create { .. } => return Err(Refused::Closed),
                Command::SetLeg { leg, media, .. } => pending.legs[leg.index()] = Some(media),
                Command::SetAllowed { leg, networks, .. } => pending.allowed[leg.index()] = Some(networks),
                Command::SetGuard { from, guard, .. } => pending.guards[from.index()] = Some(guard),
                Command::SetTap { tap, .. } => pending.tap = Some(tap),
                digit @ (Command::InfoDigit { .. } | Command::SendDigit { .. }) => {
                    if pending.digits.len() >= DIGITS {
                        return Err(Refused::Full);
                    }
                    pending.digits.push(digit);
                }
                Command::Close { .. } => pending.close = true,
            }
            self.any.store(true, Ordering::Release);
            Ok(())
        })
    }

    /// All that waits, in one go so that no order overtakes the making of its call: calls to be made, then orders, masks
    /// first, orders to open and to close last.
    pub(super) fn take(&self) -> (Vec<(Command, Sockets)>, Vec<Command>) {
        let (creates, all) = self.with(|waiting| {
            self.any.store(false, Ordering::Release);
            (std::mem::take(&mut waiting.creates), std::mem::take(&mut waiting.orders))
        });
        let mut orders = Vec::new();
        for (session, pending) in &all {
            orders.extend(guards(*session, pending, true));
            // A pause, too, comes before anything that could make sound.
            orders.extend(
                pending.tap.filter(|tap| *tap == Tap::Paused).map(|tap| Command::SetTap { session: *session, tap }),
            );
        }
        for (session, pending) in all {
            let mut pending = pending;
            for leg in [Leg::Customer, Leg::Agent] {
                if let Some(networks) = pending.allowed[leg.index()].take() {
                    orders.push(Command::SetAllowed { session, leg, networks });
                }
                if let Some(media) = pending.legs[leg.index()].take() {
                    orders.push(Command::SetLeg { session, leg, media });
                }
            }
            orders.append(&mut pending.digits);
            orders.extend(pending.tap.filter(|tap| *tap != Tap::Paused).map(|tap| Command::SetTap { session, tap }));
            orders.extend(guards(session, &pending, false));
            if pending.close {
                orders.push(Command::Close { session });
            }
        }
        (creates, orders)
    }
}

/// The guard orders of a call that mask (or withhold), or those that open.
fn guards(session: SessionId, pending: &Pending, closing: bool) -> impl Iterator<Item = Command> {
    let of = |leg: Leg, guard: Option<Guard>| {
        let guard = guard?;
        let closes = matches!(guard, Guard::Masked(_) | Guard::Withhold);
        (closes == closing).then_some(Command::SetGuard { session, from: leg, guard })
    };
    [of(Leg::Customer, pending.guards[0]), of(Leg::Agent, pending.guards[1])].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Digit;
    use crate::config::MaskKind;

    const SESSION: SessionId = SessionId(3);

    fn guard(guard: Guard) -> Command {
        Command::SetGuard { session: SESSION, from: Leg::Customer, guard }
    }

    fn digit() -> Command {
        let digit = Digit::from_char('1').expect("a key");
        Command::SendDigit { session: SESSION, to: Leg::Agent, digit, duration_ms: 100 }
    }

    #[test]
    fn an_order_to_mask_always_has_room_and_comes_first() {
        let inbox = Inbox::default();
        let mut full = 0;
        for _ in 0..10_000 {
            full += u32::from(inbox.order(digit()).is_err());
            inbox.order(guard(Guard::Open)).expect("taken");
        }
        assert_eq!(full as usize, 10_000 - DIGITS);
        inbox.order(guard(Guard::Masked(MaskKind::Silence))).expect("taken");
        let (_, orders) = inbox.take();
        assert!(matches!(orders[0], Command::SetGuard { guard: Guard::Masked(_), .. }));
        assert_eq!(orders.len(), 1 + DIGITS);
        assert!(inbox.is_empty() && inbox.take().1.is_empty());
    }

    #[test]
    fn orders_to_open_and_close_come_last() {
        let inbox = Inbox::default();
        inbox.order(Command::Close { session: SESSION }).expect("taken");
        inbox.order(guard(Guard::Open)).expect("taken");
        inbox.order(digit()).expect("taken");
        inbox.order(Command::SetLeg { session: SESSION, leg: Leg::Agent, media: LegMedia::idle() }).expect("taken");
        let (_, orders) = inbox.take();
        assert!(matches!(orders[0], Command::SetLeg { .. }));
        assert!(matches!(orders[1], Command::SendDigit { .. }));
        assert!(matches!(orders[2], Command::SetGuard { .. }));
        assert!(matches!(orders[3], Command::Close { .. }));
    }
}
