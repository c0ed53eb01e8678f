//! How long recordings are kept: rules by trunk and by label. Of the rules that fit, the longest counts, so that a rule
//! for everything cannot shorten what a narrower one promises.

use super::Entry;
use crate::base::time::WallMs;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Recordings of this trunk only.
    pub trunk: Option<String>,
    /// Recordings with this label only.
    pub label: Option<(String, String)>,
    /// Days from the end of the recording; 0: for good.
    pub keep_days: u32,
}

impl Rule {
    fn fits(&self, entry: &Entry) -> bool {
        let trunk = self.trunk.as_ref().is_none_or(|name| *name == entry.from_trunk || *name == entry.to_trunk);
        let label = self.label.as_ref().is_none_or(|(key, value)| entry.labels.get(key) == Some(value));
        trunk && label
    }
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// The rules, in any order.
    pub rules: Vec<Rule>,
}

impl Retention {
    /// After which time `entry` is to be destroyed; `None`: kept for good, also when no rule fits.
    pub fn deadline(&self, entry: &Entry) -> Option<WallMs> {
        let fitting: Vec<u32> = self.rules.iter().filter(|rule| rule.fits(entry)).map(|rule| rule.keep_days).collect();
        let longest = fitting.iter().copied().max()?;
        if fitting.contains(&0) || !entry.state.is_over() {
            return None;
        }
        let ended = entry.ended_ms.unwrap_or(WallMs(entry.started_ms.0 + entry.length_ms));
        Some(WallMs(ended.0.saturating_add(u64::from(longest) * DAY_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use crate::base::ids::RecordingId;
    use crate::record::catalogue::State;
    use rand::SeedableRng;

    fn entry(trunk: &str, label: Option<&str>) -> Entry {
        let mut entry = Entry::unread(RecordingId::draw(&mut Random::seed_from_u64(1)), WallMs(0));
        entry.from_trunk = trunk.into();
        entry.state = State::Sealed;
        entry.ended_ms = Some(WallMs(DAY_MS));
        entry.labels.extend(label.map(|value| ("team".to_owned(), value.to_owned())));
        entry
    }

    #[test]
    fn the_longest_rule_that_fits_counts_and_nothing_means_for_good() {
        let rule = |trunk: Option<&str>, label: Option<&str>, keep_days| Rule {
            trunk: trunk.map(str::to_owned),
            label: label.map(|value| ("team".to_owned(), value.to_owned())),
            keep_days,
        };
        let rules =
            vec![rule(None, None, 30), rule(Some("a"), None, 90), rule(None, Some("x"), 0), rule(Some("b"), None, 1)];
        let retention = Retention { rules };
        let days = |entry: &Entry| retention.deadline(entry).map(|at| at.0 / DAY_MS - 1);
        assert_eq!(days(&entry("c", None)), Some(30));
        assert_eq!(days(&entry("a", None)), Some(90));
        assert_eq!(days(&entry("b", None)), Some(30), "a rule for everything is not shortened");
        assert_eq!(days(&entry("a", Some("x"))), None);
        assert_eq!(Retention::default().deadline(&entry("a", None)), None);
        let running = Entry { state: State::Recording, ..entry("a", None) };
        assert_eq!(retention.deadline(&running), None);
    }
}
