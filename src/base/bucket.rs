//! Token buckets: so many events a second, with room for a burst of one second. The time goes in; yes or no comes out.
//! [`Buckets`] keeps one per source in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// Tokens are counted in millionths, so that whole numbers suffice.
const WHOLE: u64 = 1_000_000;

/// One bucket. A rate of 0 never says no.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: u32,
    tokens: u64,
    filled: Option<Instant>,
}

impl Bucket {
    /// A full bucket of `rate` tokens a second.
    pub fn new(rate: u32) -> Self {
        Self { rate, tokens: u64::from(rate) * WHOLE, filled: None }
    }

    /// Takes a token, if one is there.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        self.fill(now);
        let there = self.tokens >= WHOLE;
        if there {
            self.tokens -= WHOLE;
        }
        there
    }

    /// Whether nothing was taken for a while.
    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= u64::from(self.rate) * WHOLE
    }

    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(0, |at| now.saturating_duration_since(at).as_micros());
        let gained = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(u64::from(self.rate));
        self.tokens = self.tokens.saturating_add(gained).min(u64::from(self.rate) * WHOLE);
        self.filled = Some(now);
    }
}

/// Buckets by source. When they are too many, those that have been idle are forgotten; while all are busy, a source not
/// yet known is refused.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: u32,
    most: usize,
    by_key: HashMap<K, Bucket>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// No bucket yet; each will have `rate` tokens a second.
    pub fn new(rate: u32, most: usize) -> Self {
        Self { rate, most, by_key: HashMap::new() }
    }

    /// Takes a token of `key`, if one is there.
    pub fn take(&mut self, now: Instant, key: K) -> bool {
        if self.rate == 0 {
            return true;
        }
        if let Some(bucket) = self.by_key.get_mut(&key) {
            return bucket.take(now);
        }
        if self.by_key.len() >= self.most {
            self.by_key.retain(|_, bucket| !bucket.is_full(now));
        }
        if self.by_key.len() >= self.most {
            return false;
        }
        self.by_key.entry(key).or_insert_with(|| Bucket::new(self.rate)).take(now)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_gives_its_rate_and_one_burst() {
        let t = Instant::now();
        let mut bucket = Bucket::new(10);
        assert_eq!((0..50).filter(|_| bucket.take(t)).count(), 10);
        let second = (1..=1_000).filter(|ms| bucket.take(t + Duration::from_millis(*ms))).count();
        assert_eq!(second, 10);
        assert_eq!((0..50).filter(|_| bucket.take(t + Duration::from_secs(60))).count(), 10, "never more than a burst");
        assert!((0..50).all(|_| Bucket::new(0).take(t)));
    }

    #[test]
    fn buckets_are_of_one_source_each_and_bounded() {
        let t = Instant::now();
        let mut buckets = Buckets::new(2, 3);
        for source in 0..3 {
            assert_eq!((0..9).filter(|_| buckets.take(t, source)).count(), 2);
        }
        assert!(!buckets.take(t, 99), "all are busy");
        assert!(buckets.take(t + Duration::from_secs(2), 99), "the idle ones made room");
        assert_eq!(buckets.by_key.len(), 1);
    }
}
