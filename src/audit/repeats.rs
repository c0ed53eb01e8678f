//! Puts records together that come again and again: a page that asks every two seconds, a flood of wrong keys. The first
//! of its kind goes through at once; those that follow within a minute are counted, and told as one entry with their
//! number when the minute is over. What changes something is never put together.

use std::collections::HashMap;

use super::{Action, Origin, Record, Who};
use crate::base::time::WallMs;

/// How long records of one kind are counted together, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Kinds counted at once. Beyond them refusals of all sources are counted as one kind, so that a flood from many
/// addresses stays bounded too.
const KINDS: usize = 4_096;

/// What is being counted.
#[derive(Debug, Default)]
pub struct Repeats {
    kinds: HashMap<Record, Count>,
}

#[derive(Debug)]
struct Count {
    since: WallMs,
    first: Option<WallMs>,
    times: u64,
}

impl Repeats {
    /// The record if it is to be written now; nothing if it is counted.
    pub fn take(&mut self, at: WallMs, record: Record) -> Option<Record> {
        if !record.action.repeats() {
            return Some(record);
        }
        let kind = if self.kinds.len() < KINDS || self.kinds.contains_key(&record) { record } else { crowd(record) };
        match self.kinds.get_mut(&kind) {
            Some(count) => {
                count.first.get_or_insert(at);
                count.times += 1;
                None
            }
            None => {
                self.kinds.insert(kind.clone(), Count { since: at, first: None, times: 0 });
                Some(kind)
            }
        }
    }

    /// What was counted long enough; with `all`, everything.
    pub fn due(&mut self, now: WallMs, all: bool) -> Vec<Record> {
        let mut told = Vec::new();
        self.kinds.retain(|record, count| {
            // A clock that was set back ends the window as well.
            let over = all || now.0.abs_diff(count.since.0) >= WINDOW_MS;
            if over && count.times > 0 {
                let mut record = record.clone();
                record.times = Some(count.times);
                record.since = count.first;
                told.push(record);
            }
            !over
        });
        told
    }

    /// When something becomes due, in milliseconds from `now`.
    pub fn next_ms(&self, now: WallMs) -> Option<u64> {
        self.kinds.values().map(|count| (count.since.0 + WINDOW_MS).saturating_sub(now.0)).min()
    }
}

/// The kind of a record when there are too many: what is left is what was done, and that there were many.
fn crowd(mut record: Record) -> Record {
    record.actor = Who::Nobody;
    record.origin = Origin::Host("several".into());
    record.purpose = None;
    if let Action::AccessDenied { method, route } = &mut record.action {
        *method = "several".into();
        *route = "several".into();
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Outcome;

    fn denied(ip: u32) -> Record {
        let action = Action::AccessDenied { method: "GET".into(), route: "/v1/calls".into() };
        let origin = Origin::Address(std::net::Ipv4Addr::from(ip).into());
        Record::new(Who::Nobody, origin, action).outcome(Outcome::of_status(401))
    }

    #[test]
    fn the_first_goes_through_and_the_rest_become_one_with_their_number() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.take(WallMs(1_000), denied(1)), Some(denied(1)));
        (1..=500).for_each(|n| assert_eq!(repeats.take(WallMs(1_000 + n), denied(1)), None));
        assert!(repeats.take(WallMs(1_000), denied(2)).is_some(), "another source is another kind");
        assert!(repeats.due(WallMs(60_999), false).is_empty());
        assert_eq!(repeats.next_ms(WallMs(60_999)), Some(1));
        let told = repeats.due(WallMs(61_000), false);
        assert_eq!(told.len(), 1, "what came once is told already");
        assert_eq!((told[0].times, told[0].since), (Some(500), Some(WallMs(1_001))));
        assert_eq!(repeats.take(WallMs(61_001), denied(1)), Some(denied(1)), "a new window");
    }

    #[test]
    fn a_flood_from_everywhere_stays_bounded() {
        let mut repeats = Repeats::default();
        let written = (0..100_000).filter(|n| repeats.take(WallMs(5), denied(*n)).is_some()).count();
        assert!(written <= KINDS + 1, "{written}");
        let told = repeats.due(WallMs(5), true);
        let times: u64 = told.iter().filter_map(|record| record.times).sum();
        assert_eq!(times as usize + written, 100_000);
    }

    #[test]
    fn what_changes_something_is_never_put_together() {
        let mut repeats = Repeats::default();
        let record = Record::node(Action::NodeStopping);
        assert!((0..10).all(|at| repeats.take(WallMs(at), record.clone()).is_some()));
    }
}
