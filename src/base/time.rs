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

impl WallMs {
    /// Year, month (1–12) and day (1–31) in UTC.
    pub fn date(self) -> (u64, u64, u64) {
        // Days since 0000-03-01 (proleptic Gregorian), in eras of 400 years that end with their leap day.
        let days = self.0 / 86_400_000 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let (year, month) = (year + era * 400, (5 * day + 2) / 153);
        let day = day - (153 * month + 2) / 5 + 1;
        if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
    }

    /// As RFC 3339 has it, in UTC with milliseconds.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = self.date();
        let (ms, s) = (self.0 % 1_000, self.0 / 1_000);
        let (second, minute, hour) = (s % 60, s / 60 % 60, s / 3_600 % 24);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

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

    #[test]
    fn wall_times_have_their_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_798_761_599_000, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(WallMs(ms).rfc3339(), text);
        }
    }

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
