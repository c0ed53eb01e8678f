//! When keys may be heard, by the marks of the file. Marks go in, in any order of their frames but ahead of the sound they
//! are about; whether a key at a frame is explained comes out.

use super::Channel;
use crate::media::RECORD_RATE;
use crate::record::sealed::Mark;

/// How far beside a mark a key may sound: an order takes its time, a tone begun before it sounds on, and one that was sent
/// on waits for the one before it. 2 s.
const BESIDE: u64 = 2 * RECORD_RATE as u64;

/// The marks of a recording so far.
#[derive(Debug, Default)]
pub(super) struct Marks {
    channels: [Of; 2],
}

#[derive(Debug, Default)]
struct Of {
    /// From which frame on keys pass, or do not.
    states: Vec<(u64, bool)>,
    /// About which frame one was sent on.
    sent: Vec<u64>,
}

impl Marks {
    pub(super) fn add(&mut self, frame: u64, mark: Mark) {
        let [customer, agent] = &mut self.channels;
        match mark {
            Mark::CustomerKeysPass => customer.states.push((frame, true)),
            Mark::CustomerKeysMasked => customer.states.push((frame, false)),
            Mark::CustomerKeySentOn => customer.sent.push(frame),
            Mark::AgentKeysPass => agent.states.push((frame, true)),
            Mark::AgentKeysMasked => agent.states.push((frame, false)),
            Mark::AgentKeySentOn => agent.sent.push(frame),
        }
    }

    /// Whether a key that sounds at `frame` may be there.
    pub(super) fn explain(&self, channel: Channel, frame: u64) -> bool {
        let Of { states, sent } = &self.channels[channel as usize];
        let near = |other: u64| other.abs_diff(frame) <= BESIDE;
        if sent.iter().rev().any(|at| near(*at)) {
            return true;
        }
        // The state at the frame, or one that began or ended beside it.
        let at = states.iter().rev().find(|(from, _)| *from <= frame);
        at.is_some_and(|(_, pass)| *pass)
            || states.iter().enumerate().any(|(n, (from, pass))| {
                let ended = states.get(n + 1).map(|(end, _)| *end);
                *pass && (near(*from) || ended.is_some_and(near))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_marks_nothing_is_explained_and_with_them_what_is_near() {
        let mut marks = Marks::default();
        let s = u64::from(RECORD_RATE);
        assert!(!marks.explain(Channel::Customer, 5 * s));
        marks.add(0, Mark::CustomerKeysPass);
        marks.add(10 * s, Mark::CustomerKeysMasked);
        marks.add(30 * s, Mark::CustomerKeySentOn);
        marks.add(40 * s, Mark::CustomerKeysPass);
        for (at, explained) in [
            (0, true),
            (9, true),
            (11, true),
            (13, false),
            (27, false),
            (31, true),
            (36, false),
            (39, true),
            (90, true),
        ] {
            assert_eq!(marks.explain(Channel::Customer, at * s), explained, "{at} s");
            assert!(!marks.explain(Channel::Agent, at * s), "{at} s");
        }
    }
}
