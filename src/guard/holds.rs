//! The holds of one call: leases on its mask and on its recording pause. Each kind is in force while its set is not
//! empty. Requests and the time go in; the holds taken, released or expired come out, for the caller to announce and
//! act on. Never without a deadline, never infinite, and it decides nothing about media.
//!
//! ```text
//!            take                    renew: deadline moves, never past now + max
//!   (none) ───────► held ◄─────────┐ key pressed: deadline moves to a moment after it, at most 10 s past its own
//!                    │  └──────────┘
//!                    ├── release by its owner, or by one who may override ──► (none)
//!                    └── deadline reached ──► expired ──► (none)
//! ```
//! A hold of [`Owner::Capture`] or [`Owner::Payment`] is pinned: it neither expires nor can be released by hand while its
//! collection or payment is open, so a pause never lapses under a card being keyed. Both are themselves bounded in time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::base::Random;
use crate::base::ids::{CollectionId, HoldId, PaymentId};
use crate::base::time::soonest;
use crate::obs::event::HoldKind;

/// The most holds a call may carry at once, of both kinds and all owners.
pub const MAX_HOLDS: usize = 32;

/// The most characters of a reason that are kept.
pub const MAX_REASON: usize = 120;

/// The shortest lease, so that a careless taker's zero is not an instant expiry.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// Who took a hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A digit collection on the call; pinned until the collection ends.
    Capture(CollectionId),
    /// A payment on the call; pinned until the payment provider has answered.
    Payment(PaymentId),
    /// `guard = auto`, which heard a card being keyed.
    Detector,
    /// The agent, by star code.
    Agent,
    /// The PBX, by a SIP INFO or header.
    Pbx,
    /// An API key, by its name.
    Key(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Capture(_) => f.write_str("capture"),
            Owner::Payment(_) => f.write_str("payment"),
            Owner::Detector => f.write_str("detector"),
            Owner::Agent => f.write_str("agent"),
            Owner::Pbx => f.write_str("pbx"),
            Owner::Key(name) => write!(f, "key:{name}"),
        }
    }
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Id.
    pub id: HoldId,
    /// Mask or pause.
    pub kind: HoldKind,
    /// Who took it.
    pub owner: Owner,
    /// The taker's words, shortened to [`MAX_REASON`] characters, control characters and long digit runs removed.
    pub reason: String,
    /// When it was taken.
    pub since: Instant,
    /// When it expires unless renewed.
    pub deadline: Instant,
    /// The latest that keys can move the deadline to.
    last: Instant,
}

/// How long a hold whose deadline is near stays after a key of the customer: whoever took it may be gone, and the customer
/// is keying still.
const AFTER_KEY: Duration = Duration::from_millis(1_500);

/// How far keys can move a deadline.
const LONGEST_AFTER: Duration = Duration::from_secs(10);

impl Hold {
    /// Milliseconds left at `now`.
    pub fn ttl_ms(&self, now: Instant) -> u64 {
        millis(self.deadline.saturating_duration_since(now))
    }

    fn pinned(&self) -> bool {
        matches!(self.owner, Owner::Capture(_) | Owner::Payment(_))
    }
}

/// Why a hold was not given, moved or given back. The asker is to blame, but for [`HoldError::Full`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The call has no such hold (it may have expired).
    #[error("the call has no such hold; it may have expired")]
    Unknown,
    /// Only the owner, or a supervisor or administrator, may do this.
    #[error("the hold belongs to another owner")]
    NotOwner,
    /// The hold belongs to an open collection or payment: end that.
    #[error("the hold belongs to an open collection or payment; cancel that instead")]
    Pinned,
    /// [`MAX_HOLDS`] are held.
    #[error("the call already carries {MAX_HOLDS} holds")]
    Full,
}

/// The holds of one call.
#[derive(Debug, Clone)]
pub struct Holds {
    held: Vec<Hold>,
    default: Duration,
    max: Duration,
}

impl Holds {
    /// No holds; `default` is the lease of a taker who names none, `max` the longest one given.
    pub fn new(default: Duration, max: Duration) -> Self {
        let max = max.max(SHORTEST);
        Self { held: Vec::new(), default: default.clamp(SHORTEST, max), max }
    }

    /// Changes the leases of holds taken from now on, as [`Holds::new`] has them.
    pub fn set_leases(&mut self, default: Duration, max: Duration) {
        self.max = max.max(SHORTEST);
        self.default = default.clamp(SHORTEST, self.max);
    }

    /// Takes a hold of `kind` for `owner`. A lease longer than the maximum is shortened to it, a missing one is the
    /// default: a wish to mask is not turned down for its length. Only a collection's own hold may outlast the
    /// maximum. Fails when [`MAX_HOLDS`] are held, but never for a collection or the agent's first hold.
    pub fn take(
        &mut self,
        now: Instant,
        random: &mut Random,
        kind: HoldKind,
        owner: Owner,
        reason: &str,
        ttl: Option<Duration>,
    ) -> Result<&Hold, HoldError> {
        let reserved = !matches!(owner, Owner::Key(_)) && !self.held.iter().any(|h| h.owner == owner && h.kind == kind);
        if self.held.len() >= MAX_HOLDS && !reserved {
            return Err(HoldError::Full);
        }
        let ttl = match owner {
            Owner::Capture(_) | Owner::Payment(_) => ttl.unwrap_or(self.max),
            _ => self.lease(ttl),
        };
        let (deadline, last) = (now + ttl, now + ttl + LONGEST_AFTER);
        let hold = Hold { id: HoldId::draw(random), kind, owner, reason: tidy(reason), since: now, deadline, last };
        let place = self.held.len();
        self.held.push(hold);
        Ok(&self.held[place])
    }

    /// Moves the deadline of `hold` to `ttl` from `now`.
    pub fn renew(
        &mut self,
        now: Instant,
        hold: HoldId,
        by: &Owner,
        may_override: bool,
        ttl: Option<Duration>,
    ) -> Result<&Hold, HoldError> {
        let lease = self.lease(ttl);
        let held = self.held.iter_mut().find(|h| h.id == hold).ok_or(HoldError::Unknown)?;
        if held.pinned() {
            return Err(HoldError::Pinned);
        }
        if held.owner != *by && !may_override {
            return Err(HoldError::NotOwner);
        }
        held.deadline = now + lease;
        held.last = held.deadline + LONGEST_AFTER;
        Ok(held)
    }

    /// The customer pressed a key: no hold expires under it.
    pub fn handle_key(&mut self, now: Instant) {
        for held in &mut self.held {
            held.deadline = held.deadline.max((now + AFTER_KEY).min(held.last));
        }
    }

    /// Gives `hold` back.
    pub fn release(&mut self, hold: HoldId, by: &Owner, may_override: bool) -> Result<Hold, HoldError> {
        let place = self.held.iter().position(|h| h.id == hold).ok_or(HoldError::Unknown)?;
        let held = &self.held[place];
        if held.pinned() {
            return Err(HoldError::Pinned);
        }
        if held.owner != *by && !may_override {
            return Err(HoldError::NotOwner);
        }
        Ok(self.held.remove(place))
    }

    /// Gives back every hold of `owner`: the end of a collection, the agent's end code, the PBX's resume.
    pub fn release_owned(&mut self, owner: &Owner) -> Vec<Hold> {
        self.held.extract_if(.., |h| h.owner == *owner).collect()
    }

    /// Removes what has reached its deadline. Pinned holds stay.
    pub fn expire(&mut self, now: Instant) -> Vec<Hold> {
        self.held.extract_if(.., |h| !h.pinned() && h.deadline <= now).collect()
    }

    /// Whether any hold of `kind` is held.
    pub fn in_force(&self, kind: HoldKind) -> bool {
        self.held.iter().any(|h| h.kind == kind)
    }

    /// The holds of `owner`, oldest first.
    pub fn owned<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a Hold> {
        self.held.iter().filter(move |h| h.owner == *owner)
    }

    /// Takes in a hold that was taken on another call. There is always room: it was in force there.
    pub fn adopt(&mut self, hold: Hold) {
        self.held.push(hold);
    }

    /// Gives away every hold: the call becomes part of another, which adopts them.
    pub fn give_all(&mut self) -> Vec<Hold> {
        std::mem::take(&mut self.held)
    }

    /// Every hold, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.held.iter()
    }

    /// When the next hold expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.held.iter().filter(|h| !h.pinned()).fold(None, |soon, h| soonest(soon, Some(h.deadline)))
    }

    fn lease(&self, ttl: Option<Duration>) -> Duration {
        ttl.unwrap_or(self.default).clamp(SHORTEST, self.max)
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A taker's words made fit for events and logs: bounded, without control characters, and without runs of digits that
/// could be part of a card number someone typed into a reason.
fn tidy(reason: &str) -> String {
    let mut out = String::new();
    let mut run = 0;
    for c in reason.chars().filter(|c| !c.is_control()).take(MAX_REASON) {
        run = match c {
            '0'..='9' => run + 1,
            ' ' | '-' if run > 0 => run,
            _ => 0,
        };
        out.push(if run > 4 && c.is_ascii_digit() { '•' } else { c });
    }
    out
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const S: Duration = Duration::from_secs(1);

    fn start() -> (Instant, Random, Holds) {
        (Instant::now(), Random::seed_from_u64(1), Holds::new(60 * S, 300 * S))
    }

    fn key(name: &str) -> Owner {
        Owner::Key(name.into())
    }

    #[test]
    fn a_kind_is_in_force_until_its_last_hold_is_gone() {
        let (t, mut r, mut holds) = start();
        let a = holds.take(t, &mut r, HoldKind::Mask, key("crm"), "card", None).expect("taken").id;
        let b = holds.take(t, &mut r, HoldKind::Mask, Owner::Agent, "star code", None).expect("taken").id;
        assert!(holds.in_force(HoldKind::Mask) && !holds.in_force(HoldKind::Pause));
        holds.release(a, &key("crm"), false).expect("released");
        assert!(holds.in_force(HoldKind::Mask));
        holds.release(b, &Owner::Agent, false).expect("released");
        assert!(!holds.in_force(HoldKind::Mask));
    }

    #[test]
    fn a_lease_is_never_longer_than_the_maximum_nor_infinite() {
        let (t, mut r, mut holds) = start();
        let deadline = |holds: &mut Holds, r: &mut Random, ttl| {
            holds.take(t, r, HoldKind::Pause, key("crm"), "", ttl).expect("taken").deadline
        };
        assert_eq!(deadline(&mut holds, &mut r, None), t + 60 * S);
        assert_eq!(deadline(&mut holds, &mut r, Some(3_600 * S)), t + 300 * S);
        assert_eq!(deadline(&mut holds, &mut r, Some(Duration::ZERO)), t + S);
    }

    #[test]
    fn only_the_owner_or_an_override_releases_and_renews() {
        let (t, mut r, mut holds) = start();
        let id = holds.take(t, &mut r, HoldKind::Mask, key("crm"), "", None).expect("taken").id;
        assert_eq!(holds.release(id, &key("other"), false), Err(HoldError::NotOwner));
        assert_eq!(holds.renew(t, id, &Owner::Agent, false, None).err(), Some(HoldError::NotOwner));
        assert!(holds.renew(t + S, id, &key("boss"), true, None).is_ok());
        assert!(holds.release(id, &key("boss"), true).is_ok());
        assert_eq!(holds.release(id, &key("crm"), false), Err(HoldError::Unknown));
    }

    #[test]
    fn a_forgotten_hold_expires_at_its_deadline_and_a_renewed_one_later() {
        let (t, mut r, mut holds) = start();
        let a = holds.take(t, &mut r, HoldKind::Pause, key("crm"), "", Some(10 * S)).expect("taken").id;
        let b = holds.take(t, &mut r, HoldKind::Pause, key("crm"), "", Some(10 * S)).expect("taken").id;
        holds.renew(t + 5 * S, b, &key("crm"), false, Some(10 * S)).expect("renewed");
        assert_eq!(holds.poll_timeout(), Some(t + 10 * S));
        assert!(holds.expire(t + 9 * S).is_empty());
        assert_eq!(holds.expire(t + 10 * S).iter().map(|h| h.id).collect::<Vec<_>>(), [a]);
        assert!(holds.in_force(HoldKind::Pause));
        assert_eq!(holds.expire(t + 15 * S).len(), 1);
        assert!(!holds.in_force(HoldKind::Pause));
    }

    #[test]
    fn a_hold_does_not_expire_between_two_keys_but_keys_do_not_keep_it_for_ever() {
        let (t, mut r, mut holds) = start();
        holds.take(t, &mut r, HoldKind::Mask, key("crm"), "", Some(60 * S)).expect("taken");
        holds.handle_key(t + 30 * S);
        assert_eq!(holds.poll_timeout(), Some(t + 60 * S), "far from its deadline a key changes nothing");
        holds.handle_key(t + 59 * S);
        assert!(holds.expire(t + 60 * S).is_empty());
        assert_eq!(holds.poll_timeout(), Some(t + 59 * S + AFTER_KEY));
        for s in 60..80 {
            holds.handle_key(t + s * S);
        }
        assert_eq!(holds.poll_timeout(), Some(t + 60 * S + LONGEST_AFTER));
        assert_eq!(holds.expire(t + 60 * S + LONGEST_AFTER).len(), 1);
    }

    #[test]
    fn a_pause_does_not_lapse_under_an_open_collection_or_payment() {
        let (t, mut r, mut holds) = start();
        for owner in [Owner::Capture(CollectionId::draw(&mut r)), Owner::Payment(PaymentId::draw(&mut r))] {
            let id = holds.take(t, &mut r, HoldKind::Pause, owner.clone(), "", Some(S)).expect("taken").id;
            assert!(holds.expire(t + 9_000 * S).is_empty());
            assert_eq!(holds.release(id, &key("boss"), true), Err(HoldError::Pinned));
            assert_eq!(holds.renew(t, id, &owner, true, None).err(), Some(HoldError::Pinned));
            assert_eq!(holds.poll_timeout(), None);
            assert_eq!(holds.release_owned(&owner).len(), 1);
            assert!(!holds.in_force(HoldKind::Pause));
        }
    }

    #[test]
    fn a_greedy_key_is_stopped_and_cannot_keep_a_collection_from_masking() {
        let (t, mut r, mut holds) = start();
        for _ in 0..MAX_HOLDS {
            holds.take(t, &mut r, HoldKind::Mask, key("crm"), "", None).expect("taken");
        }
        assert_eq!(holds.take(t, &mut r, HoldKind::Pause, key("crm"), "", None).err(), Some(HoldError::Full));
        let capture = Owner::Capture(CollectionId::draw(&mut r));
        assert!(holds.take(t, &mut r, HoldKind::Pause, capture, "", None).is_ok());
        assert!(holds.take(t, &mut r, HoldKind::Mask, Owner::Agent, "", None).is_ok());
    }

    #[test]
    fn a_card_number_typed_as_reason_is_not_kept() {
        let (t, mut r, mut holds) = start();
        let hold = holds.take(t, &mut r, HoldKind::Mask, key("crm"), "card 4242 4242-42424242\r\n", None);
        assert_eq!(hold.expect("taken").reason, "card 4242 ••••-••••••••");
    }
}
