//! Who has paused one recorder of a call, each until when. A lease like a hold: whoever took it renews and releases it, and
//! whoever may override releases all. Owners and times go in; whether it is paused comes out.

use std::time::Instant;

use smallvec::SmallVec;

use crate::base::time::soonest;
use crate::guard::holds::Owner;

/// The leases of one recorder's own pause.
#[derive(Debug, Default)]
pub(super) struct Leases(SmallVec<[(Owner, Instant); 1]>);

/// It is somebody else's.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::call) struct NotYours;

impl Leases {
    /// Whether it is paused.
    pub(super) fn is_taken(&self) -> bool {
        !self.0.is_empty()
    }

    /// When the last ends, unless renewed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.iter().map(|(_, until)| *until).max()
    }

    /// When the next ends, unless renewed.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.iter().fold(None, |soon, (_, until)| soonest(soon, Some(*until)))
    }

    /// Who has paused it.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.0.iter().map(|(owner, _)| owner)
    }

    /// `owner` pauses it, or renews its pause.
    pub(super) fn take(&mut self, owner: &Owner, until: Instant) {
        match self.0.iter_mut().find(|(known, _)| known == owner) {
            Some((_, ends)) => *ends = until,
            None => self.0.push((owner.clone(), until)),
        }
    }

    /// `owner` ends its pause; with `all`, everybody's.
    ///
    /// # Errors
    /// It is paused, and not by `owner`.
    pub(super) fn release(&mut self, owner: &Owner, all: bool) -> Result<(), NotYours> {
        let before = self.0.len();
        self.0.retain(|(known, _)| !all && known != owner);
        if before > 0 && self.0.len() == before { Err(NotYours) } else { Ok(()) }
    }

    /// Time passed: what is over ends.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|(_, until)| *until > now);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_took_it_ends_it_and_it_is_paused_until_the_last_has() {
        let (now, sec) = (Instant::now(), Duration::from_secs(1));
        let (crm, other) = (Owner::Key("crm".into()), Owner::Key("other".into()));
        let mut leases = Leases::default();
        assert_eq!(leases.release(&crm, false), Ok(()), "what is not paused needs no resume");
        leases.take(&crm, now + 10 * sec);
        leases.take(&Owner::Pbx, now + 5 * sec);
        assert_eq!(leases.release(&other, false), Err(NotYours));
        assert_eq!((leases.next_end(), leases.until()), (Some(now + 5 * sec), Some(now + 10 * sec)));
        leases.take(&Owner::Pbx, now + 20 * sec);
        leases.expire(now + 10 * sec);
        assert_eq!(leases.owners().collect::<Vec<_>>(), [&Owner::Pbx], "renewed by whom it is");
        assert_eq!(leases.release(&crm, false), Err(NotYours));
        assert_eq!(leases.release(&Owner::Pbx, false), Ok(()));
        assert!(!leases.is_taken());
        leases.take(&crm, now + sec);
        assert_eq!((leases.release(&other, true), leases.is_taken()), (Ok(()), false), "whoever may override");
    }
}
