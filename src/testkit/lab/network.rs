//! What a packet network leaves of a line: which packets are there when they are to be played. Loss is random or in
//! bursts (Gilbert's model); jitter, reordering and duplication go through a jitter buffer, whose late packets count as
//! lost. A description and a seed go in; [`Packets`] come out.

use super::hear::Packets;
use crate::testkit::tones::Draw;

/// Which packets never come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// None.
    Nothing,
    /// Each with the same probability (0–1), on its own.
    Random(f32),
    /// Gilbert's two states: this share is lost (0–1), in runs of this mean length.
    Bursts {
        /// Share of all packets.
        share: f32,
        /// Mean packets per run, 1 or more.
        run: f32,
    },
}

/// A path and the buffer behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Samples per packet.
    pub samples: usize,
    /// What is lost on the way.
    pub loss: Loss,
    /// Largest random delay, ms.
    pub jitter_ms: f32,
    /// Share of packets that are held back by 30 ms besides (0–1).
    pub reorder: f32,
    /// Share of packets that come twice (0–1).
    pub duplicate: f32,
    /// How long after the earliest possible arrival a packet is played, ms.
    pub buffer_ms: f32,
}

impl Network {
    /// 20 ms packets that all come in time.
    pub const CLEAN: Network =
        Network { samples: 160, loss: Loss::Nothing, jitter_ms: 0.0, reorder: 0.0, duplicate: 0.0, buffer_ms: 60.0 };

    /// 20 ms packets of which so many are lost.
    pub fn losing(loss: Loss) -> Self {
        Self { loss, ..Self::CLEAN }
    }

    /// The packets of a line of so many samples.
    pub fn packets(&self, line: usize, seed: u64) -> Packets {
        let mut draw = Draw::new(seed ^ 0x6e65_7477_6f72_6b00);
        let mut bad = false;
        let lost = (0..line.div_ceil(self.samples.max(1)))
            .map(|_| {
                let gone = match self.loss {
                    Loss::Nothing => false,
                    Loss::Random(share) => draw.unit() < share,
                    Loss::Bursts { share, run } => {
                        let leave = 1.0 / run.max(1.0);
                        let enter = leave * share / (1.0 - share).max(1e-6);
                        bad = if bad { draw.unit() >= leave } else { draw.unit() < enter };
                        bad
                    }
                };
                let mut delay = || {
                    let held = if draw.unit() < self.reorder { 30.0 } else { 0.0 };
                    held + self.jitter_ms * draw.unit()
                };
                let mut soonest = delay();
                if self.duplicate > 0.0 {
                    let second = delay();
                    if draw.unit() < self.duplicate {
                        soonest = soonest.min(second);
                    }
                }
                gone || soonest > self.buffer_ms
            })
            .collect();
        Packets { samples: self.samples, lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(network: &Network) -> (f32, f32) {
        let lost = network.packets(160 * 200_000, 5).lost;
        let all = lost.iter().filter(|l| **l).count() as f32;
        let runs = lost.windows(2).filter(|w| !w[0] && w[1]).count().max(1) as f32;
        (all / lost.len() as f32, all / runs)
    }

    #[test]
    fn losses_have_the_share_and_the_runs_asked_for() {
        assert_eq!(share(&Network::CLEAN).0, 0.0);
        let (part, run) = share(&Network::losing(Loss::Random(0.05)));
        assert!((part - 0.05).abs() < 0.003 && (run - 1.05).abs() < 0.02, "{part} {run}");
        let (part, run) = share(&Network::losing(Loss::Bursts { share: 0.05, run: 3.0 }));
        assert!((part - 0.05).abs() < 0.005 && (run - 3.0).abs() < 0.15, "{part} {run}");
    }

    #[test]
    fn what_comes_too_late_for_the_buffer_is_lost_and_a_second_copy_may_save_it() {
        let late = Network { jitter_ms: 80.0, ..Network::CLEAN };
        let (part, _) = share(&late);
        assert!((part - 0.25).abs() < 0.01, "{part}");
        let (saved, _) = share(&Network { duplicate: 1.0, ..late });
        assert!((saved - 0.0625).abs() < 0.01, "{saved}");
        assert_eq!(share(&Network { jitter_ms: 25.0, reorder: 0.1, ..Network::CLEAN }).0, 0.0);
    }
}
