//! The growing pause between two sendings of one message: T1 first, doubled each time, up to a most where there is one
//! (RFC 3261 sections 17.1.1.2, 17.1.2.2 and 17.2.1, RFC 3262 section 3).

use std::time::Duration;

/// A pause that doubles.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    now: Duration,
    most: Option<Duration>,
}

impl Pause {
    /// Begins with `first`; never above `most`.
    pub fn new(first: Duration, most: Option<Duration>) -> Self {
        Self { now: first, most }
    }

    /// The message has been sent again: the pause until the next time.
    pub fn grow(&mut self) -> Duration {
        self.now = self.now.saturating_mul(2);
        self.now = self.most.map_or(self.now, |most| self.now.min(most));
        self.now
    }

    /// The other end is known to be there: from now on only the longest pause.
    pub fn stretch(&mut self) {
        self.now = self.most.unwrap_or(self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_most() {
        let ms = Duration::from_millis;
        let mut pause = Pause::new(ms(500), Some(ms(4_000)));
        assert_eq!([(); 5].map(|()| pause.grow().as_millis()), [1_000, 2_000, 4_000, 4_000, 4_000]);
        let mut pause = Pause::new(ms(500), Some(ms(4_000)));
        pause.stretch();
        assert_eq!(pause.grow(), ms(4_000));
        let mut free = Pause::new(Duration::MAX / 2, None);
        assert_eq!((free.grow(), free.grow()), (Duration::MAX / 2 * 2, Duration::MAX));
    }
}
