//! Packet indexes: the rollover counter guessed from 16 bits (RFC 3711 section 3.3.1, appendix A), and the window of
//! indexes already used. A pure function and a bitmap.
//!
//! ```text
//!  bit 127 … 2 1 0        highest = 1 000 005, sequence number 3 of the next cycle:
//!          1 1 0 1        the nearest index that ends so
//!                └ highest
//! ```

/// How far behind the highest index a packet is still taken.
pub(super) const WINDOW: u64 = u128::BITS as u64;

/// The index nearest to `highest` that ends in `sequence`; `None` before the first cycle.
pub(super) fn nearest(highest: u64, sequence: u16) -> Option<u64> {
    let step = sequence.wrapping_sub(highest as u16) as i16;
    highest.checked_add_signed(i64::from(step))
}

/// Which of the newest [`WINDOW`] indexes have been used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    highest: u64,
    /// Bit n: index `highest - n` has been used.
    used: u128,
}

impl Window {
    /// A window in which `first` has been used, and nothing before it counts as used.
    pub(super) fn new(first: u64) -> Self {
        Self { highest: first, used: 1 }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `index` has not been used and is not too old to tell.
    pub(super) fn is_fresh(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.used & (1 << behind) == 0,
        }
    }

    /// Notes `index` as used; call only when it is fresh.
    pub(super) fn use_up(&mut self, index: u64) {
        match self.highest.checked_sub(index) {
            None => {
                let ahead = index - self.highest;
                self.used = if ahead < WINDOW { self.used << ahead | 1 } else { 1 };
                self.highest = index;
            }
            Some(behind) if behind < WINDOW => self.used |= 1 << behind,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_index_crosses_the_wrap_both_ways() {
        assert_eq!(nearest(0x1_ffff, 0), Some(0x2_0000));
        assert_eq!(nearest(0x2_0000, 0xffff), Some(0x1_ffff));
        assert_eq!(nearest(0x2_1000, 0x0fff), Some(0x2_0fff));
        assert_eq!(nearest(3, 0xffff), None);
    }

    proptest! {
        #[test]
        fn the_nearest_index_is_what_the_rfc_guesses(highest in 0u64..1 << 40, sequence: u16) {
            // RFC 3711 appendix A.
            let (roc, s_l, seq) = ((highest >> 16) as i64, (highest & 0xffff) as i64, i64::from(sequence));
            let v = if s_l < 32_768 {
                if seq - s_l > 32_768 { roc - 1 } else { roc }
            } else if s_l - 32_768 > seq { roc + 1 } else { roc };
            let guess = u64::try_from(v).ok().map(|v| v << 16 | u64::from(sequence));
            // Exactly half a cycle away both readings are allowed.
            if (seq - s_l).rem_euclid(65_536) != 32_768 {
                prop_assert_eq!(nearest(highest, sequence), guess);
            }
        }

        #[test]
        fn the_window_takes_each_index_once_as_a_set_would(start in 0u64..1000, steps in proptest::collection::vec(-200i64..200, 1..300)) {
            let mut window = Window::new(start);
            let mut seen = std::collections::HashSet::from([start]);
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                let fresh = !seen.contains(&at) && window.highest().saturating_sub(at) < WINDOW;
                prop_assert_eq!(window.is_fresh(at), fresh);
                if fresh {
                    window.use_up(at);
                    seen.insert(at);
                }
            }
        }
    }
}
