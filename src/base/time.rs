//! Time for sans-IO cores: timers are a table, not callbacks and not sleeping tasks. The clock is an argument.

use std::time::Instant;

/// The earlier of two optional instants; `None` means "never".
pub fn soonest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// A wall-clock time in milliseconds since 1970-01-01 UTC. Only for people and files; nothing decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct WallMs(pub u64);

/// A fixed table of timers, one slot per variant of `T`. Setting a timer replaces it; the owner asks for the soonest
/// and, when it is due, takes it out.
///
/// `T` turns into its slot by `Into<usize>`; `N` is the number of variants.
#[derive(Debug, Clone)]
pub struct TimerTable<T, const N: usize> {
    slots: [Option<Instant>; N],
    _kind: std::marker::PhantomData<T>,
}

impl<T: Copy + Into<usize>, const N: usize> Default for TimerTable<T, N> {
    fn default() -> Self {
        Self { slots: [None; N], _kind: std::marker::PhantomData }
    }
}

impl<T: Copy + Into<usize>, const N: usize> TimerTable<T, N> {
    /// Arms `timer` to fire at `at`, replacing what was set.
    pub fn set(&mut self, timer: T, at: Instant) {
        self.slots[timer.into()] = Some(at);
    }

    /// Disarms `timer`.
    pub fn stop(&mut self, timer: T) {
        self.slots[timer.into()] = None;
    }

    /// When `timer` fires, if it is armed.
    pub fn get(&self, timer: T) -> Option<Instant> {
        self.slots[timer.into()]
    }

    /// The soonest armed timer.
    pub fn soonest(&self) -> Option<Instant> {
        self.slots.iter().copied().fold(None, soonest)
    }

    /// Disarms `timer` and says so if it is due at `now`.
    pub fn take_due(&mut self, timer: T, now: Instant) -> bool {
        let slot = &mut self.slots[timer.into()];
        let due = slot.is_some_and(|at| at <= now);
        if due {
            *slot = None;
        }
        due
    }

    /// Disarms every timer.
    pub fn clear(&mut self) {
        self.slots = [None; N];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(Clone, Copy)]
    enum Kind {
        A,
        B,
    }
    impl From<Kind> for usize {
        fn from(k: Kind) -> usize {
            k as usize
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_soonest_fires_first_and_once() {
        let t0 = Instant::now();
        let mut table = TimerTable::<Kind, 2>::default();
        table.set(Kind::A, t0 + Duration::from_millis(20));
        table.set(Kind::B, t0 + Duration::from_millis(10));
        assert_eq!(table.soonest(), Some(t0 + Duration::from_millis(10)));
        assert!(!table.take_due(Kind::A, t0 + Duration::from_millis(15)));
        assert!(table.take_due(Kind::B, t0 + Duration::from_millis(15)));
        assert!(!table.take_due(Kind::B, t0 + Duration::from_millis(15)));
        assert_eq!(table.soonest(), Some(t0 + Duration::from_millis(20)));
    }
}
