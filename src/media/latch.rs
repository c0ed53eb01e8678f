//! Learning where a peer behind an address translator really sends from, where its trunk allows it (threats R1). Sources
//! of well-formed (on an encrypted leg: authentic) packets go in; the learnt address comes out. The signalled address is
//! preferred: one packet from it ends the learning, and takes back what was learnt. It never learns again before the
//! peer signals another address.
//!
//! ```text
//!  Off ── latch, an address signalled ──► Learning ── 5 packets in a row, one source, one SSRC ──► Learnt
//!                                            └──── a packet from the signalled address ──► Settled ◄──┘
//! ```

use std::net::SocketAddr;

/// Packets in a row that a source must show.
const PROOF: u8 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Latch {
    /// Only the signalled address counts.
    #[default]
    Settled,
    /// Nothing came from the signalled address yet; the newest other source, its SSRC, its packets in a row.
    Learning(Option<(SocketAddr, u32, u8)>),
    /// The peer sends from here.
    Learnt(SocketAddr),
}

impl Latch {
    /// Begins to learn.
    pub(super) fn begin() -> Self {
        Latch::Learning(None)
    }

    /// Whether packets of a source that was not signalled are worth a look.
    pub(super) fn is_learning(&self) -> bool {
        matches!(self, Latch::Learning(_))
    }

    /// The address learnt.
    pub(super) fn learnt(&self) -> Option<SocketAddr> {
        match self {
            Latch::Learnt(at) => Some(*at),
            Latch::Settled | Latch::Learning(_) => None,
        }
    }

    /// A good packet came from `source`, which is the signalled one or lies within the leg's networks; whether it is the
    /// peer's.
    pub(super) fn hear(&mut self, source: SocketAddr, signalled: bool, ssrc: u32) -> bool {
        if signalled {
            *self = Latch::Settled;
            return true;
        }
        match self {
            Latch::Settled => false,
            Latch::Learnt(at) => *at == source,
            Latch::Learning(candidate) => {
                let seen = match candidate {
                    Some((at, known, seen)) if (*at, *known) == (source, ssrc) => *seen + 1,
                    _ => 1,
                };
                *candidate = Some((source, ssrc, seen));
                if seen >= PROOF {
                    *self = Latch::Learnt(source);
                }
                seen >= PROOF
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn five_in_a_row_are_learnt_and_the_signalled_address_takes_back() {
        let mut latch = Latch::begin();
        for (source, ssrc) in [(1, 1), (1, 1), (2, 1), (1, 1), (1, 2), (1, 1), (1, 1), (1, 1), (1, 1)] {
            assert!(!latch.hear(at(source), false, ssrc));
        }
        assert!(latch.hear(at(1), false, 1));
        assert_eq!(latch.learnt(), Some(at(1)));
        assert!(!latch.is_learning() && !latch.hear(at(2), false, 1) && latch.hear(at(1), false, 9));
        assert!(latch.hear(at(7), true, 1));
        assert_eq!(latch, Latch::Settled);
        assert!((0..20).all(|_| !latch.hear(at(1), false, 1)), "never again");
    }
}
