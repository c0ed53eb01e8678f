//! Permutation tests: does a feature tell whether a key was pressed, or which? Values and labels go in, p-values come
//! out. Labels are shuffled within strata (a call, say), so that what differs between calls for other reasons counts for
//! nothing. No assumption on the feature is made: packet times have odd distributions.
//!
//! Whether: the largest distance between the two distributions (Kolmogorov and Smirnov's statistic). Which: the spread of
//! the keys' mean ranks (Kruskal and Wallis's). Over many features the p-values are adjusted after Holm, so that one
//! false alarm in a whole run has the probability of the bar; how many raw ones to expect is told beside.

use rand::RngExt;

use crate::base::Random;

/// How often labels are shuffled: the smallest p-value is one in a hundred thousand, so that one of some hundred features
/// can still be told apart from chance.
pub const SHUFFLES: usize = 99_999;
/// A feature that has been reached by chance so often is shuffled no more (Besag and Clifford's sequential test).
const ENOUGH: usize = 30;
/// A feature whose adjusted p-value is below this tells something.
pub const BAR: f64 = 0.01;

/// What one feature tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The feature.
    pub feature: String,
    /// The p-value of its own test.
    pub p: f64,
    /// Adjusted for all features of its family.
    pub adjusted: f64,
    /// Distinct values it has; with one it can tell nothing.
    pub distinct: usize,
}

/// Labelled values of several features.
#[derive(Debug, Clone, Default)]
pub struct Family {
    names: Vec<String>,
    /// By feature.
    columns: Vec<Vec<f64>>,
    labels: Vec<u8>,
    strata: Vec<u32>,
}

impl Family {
    /// Features of these names, without values.
    pub fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            columns: vec![Vec::new(); names.len()],
            labels: Vec::new(),
            strata: Vec::new(),
        }
    }

    /// Takes one observation; `values` in the order of the names.
    pub fn add(&mut self, stratum: u32, label: u8, values: &[f64]) {
        debug_assert_eq!(values.len(), self.columns.len());
        for (column, value) in self.columns.iter_mut().zip(values) {
            // A nanosecond is no difference; sums of floats must not make one.
            column.push((value * 1e6).round() / 1e6);
        }
        self.labels.push(label);
        self.strata.push(stratum);
    }

    /// Takes all of another family of the same names.
    pub fn extend(&mut self, other: &Family) {
        for (column, more) in self.columns.iter_mut().zip(&other.columns) {
            column.extend(more);
        }
        self.labels.extend(&other.labels);
        self.strata.extend(&other.strata);
    }

    /// How many observations.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The observations of one feature and their labels, for a classifier.
    pub fn observations(&self) -> impl Iterator<Item = (Vec<f64>, u8)> {
        (0..self.len()).map(|n| (self.columns.iter().map(|c| c[n]).collect(), self.labels[n]))
    }

    /// Tests every feature: with labels 0 and 1 for a difference of distributions, with `keys` for one of mean ranks.
    pub fn test(&self, keys: bool, shuffles: usize, random: &mut Random) -> Vec<Finding> {
        let orders: Vec<Ranks> = self.columns.iter().map(|column| Ranks::of(column)).collect();
        let live: Vec<bool> = orders.iter().map(|ranks| ranks.distinct > 1).collect();
        let statistic = |ranks: &Ranks, labels: &[u8]| if keys { ranks.spread(labels) } else { ranks.distance(labels) };
        let seen: Vec<f64> = orders.iter().map(|ranks| statistic(ranks, &self.labels)).collect();
        let mut reached = vec![(0usize, 0usize); orders.len()];
        let mut labels = self.labels.clone();
        let strata = self.places();
        for _ in 0..shuffles {
            let open = |n: usize| live[n] && reached[n].0 < ENOUGH;
            if !(0..orders.len()).any(open) {
                break;
            }
            shuffle(&strata, &mut labels, random);
            for (n, ranks) in orders.iter().enumerate() {
                if live[n] && reached[n].0 < ENOUGH {
                    // A hair of tolerance, for sums taken in another order.
                    reached[n].0 += usize::from(statistic(ranks, &labels) >= seen[n] - 1e-9);
                    reached[n].1 += 1;
                }
            }
        }
        let p = |n: usize| match reached[n] {
            _ if !live[n] => 1.0,
            (ENOUGH, of) => ENOUGH as f64 / of as f64,
            (hits, of) => (hits + 1) as f64 / (of + 1) as f64,
        };
        let all: Vec<f64> = (0..orders.len()).map(p).collect();
        let adjusted = holm(&all);
        let finding = |n: usize| Finding {
            feature: self.names[n].clone(),
            p: all[n],
            adjusted: adjusted[n],
            distinct: orders[n].distinct,
        };
        (0..orders.len()).map(finding).collect()
    }

    /// The observations of each stratum.
    fn places(&self) -> Vec<Vec<usize>> {
        let mut by: std::collections::BTreeMap<u32, Vec<usize>> = std::collections::BTreeMap::new();
        for (at, stratum) in self.strata.iter().enumerate() {
            by.entry(*stratum).or_default().push(at);
        }
        by.into_values().collect()
    }
}

/// Shuffles labels within each stratum.
fn shuffle(strata: &[Vec<usize>], labels: &mut [u8], random: &mut Random) {
    for places in strata {
        for n in (1..places.len()).rev() {
            labels.swap(places[n], places[random.random_range(0..=n)]);
        }
    }
}

/// Holm's step-down adjustment: p-values that hold together.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0f64; p.len()];
    let mut least = 0.0f64;
    for (rank, at) in order.into_iter().enumerate() {
        least = least.max((p[at] * (p.len() - rank) as f64).min(1.0));
        adjusted[at] = least;
    }
    adjusted
}

/// A feature's observations in order of value.
struct Ranks {
    order: Vec<u32>,
    /// Whether the observation at this place of the order is the last of its value.
    last: Vec<bool>,
    /// Rank per observation; equals share their mean.
    rank: Vec<f64>,
    distinct: usize,
}

impl Ranks {
    fn of(values: &[f64]) -> Self {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.sort_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
        let at = |n: usize| values[order[n] as usize];
        let last: Vec<bool> = (0..order.len()).map(|n| n + 1 == order.len() || at(n) != at(n + 1)).collect();
        let mut rank = vec![0.0; values.len()];
        let (mut from, mut distinct) = (0, 0);
        for n in 0..order.len() {
            if last[n] {
                for place in &order[from..=n] {
                    rank[*place as usize] = (from + n) as f64 / 2.0;
                }
                (from, distinct) = (n + 1, distinct + 1);
            }
        }
        Self { order, last, rank, distinct }
    }

    /// The largest distance between the distributions of labels 0 and 1.
    fn distance(&self, labels: &[u8]) -> f64 {
        let ones = labels.iter().filter(|l| **l == 1).count() as f64;
        let noughts = labels.len() as f64 - ones;
        if ones == 0.0 || noughts == 0.0 {
            return 0.0;
        }
        let (mut gap, mut most) = (0.0f64, 0.0f64);
        for (place, last) in self.order.iter().zip(&self.last) {
            gap += if labels[*place as usize] == 1 { 1.0 / ones } else { -1.0 / noughts };
            if *last {
                most = most.max(gap.abs());
            }
        }
        most
    }

    /// How far the labels' mean ranks lie apart.
    fn spread(&self, labels: &[u8]) -> f64 {
        let mut sums = [(0.0f64, 0.0f64); 16];
        for (label, rank) in labels.iter().zip(&self.rank) {
            let (sum, count) = &mut sums[usize::from(*label % 16)];
            *sum += rank;
            *count += 1.0;
        }
        sums.iter().filter(|(_, count)| *count > 0.0).map(|(sum, count)| sum * sum / count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn family(count: usize, shift: f64, seed: u64) -> Family {
        let mut random = Random::seed_from_u64(seed);
        let mut family = Family::new(&["told", "free", "still"]);
        for n in 0..count {
            let call = (n / 20) as u32;
            let label = u8::from(random.random_bool(0.5));
            let noise = |random: &mut Random| random.random_range(0.0..1.0) + f64::from(call) * 10.0;
            let told = noise(&mut random) + shift * f64::from(label);
            let free = noise(&mut random);
            family.add(call, label, &[told, free, 20.0]);
        }
        family
    }

    #[test]
    fn a_difference_is_found_within_calls_that_differ_and_none_where_there_is_none() {
        let mut random = Random::seed_from_u64(1);
        // Within one call the values spread over 1, between calls over 200: only a test within calls sees 0.4.
        let mut told = family(400, 0.4, 2);
        for (column, call) in told.columns[..2].iter_mut().flat_map(|c| c.iter_mut().zip(&told.strata)) {
            *column -= f64::from(*call) * 10.0;
        }
        let findings = told.test(false, 2_000, &mut random);
        assert!(findings[0].adjusted < 0.002, "{findings:?}");
        assert!(
            findings[1].p > 0.01
                && findings[2] == Finding { p: 1.0, adjusted: 1.0, distinct: 1, ..findings[2].clone() }
        );
    }

    #[test]
    fn without_a_difference_p_values_are_even() {
        let mut random = Random::seed_from_u64(3);
        let mut low = 0;
        for seed in 0..200 {
            let findings = family(60, 0.0, 100 + seed).test(false, 199, &mut random);
            low += findings[..2].iter().filter(|f| f.p <= 0.1).count();
        }
        // 40 of 400 are to be expected.
        assert!((20..=62).contains(&low), "{low}");
    }

    #[test]
    fn which_key_is_found_by_mean_ranks() {
        let mut random = Random::seed_from_u64(4);
        let mut family = Family::new(&["told", "free"]);
        for n in 0..400u32 {
            let key = (n % 10) as u8;
            let noise: f64 = random.random_range(0.0..10.0);
            family.add(n / 40, key, &[noise + 0.5 * f64::from(key), random.random_range(0.0..1.0)]);
        }
        let findings = family.test(true, 2_000, &mut random);
        assert!(findings[0].adjusted < 0.002 && findings[1].p > 0.01, "{findings:?}");
    }

    #[test]
    fn holm_adjusts_by_rank_and_never_falls() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        let wanted = [0.03, 0.06, 0.06, 0.02];
        assert!(adjusted.iter().zip(wanted).all(|(a, w)| (a - w).abs() < 1e-12), "{adjusted:?}");
        assert!(holm(&[]).is_empty());
    }
}
