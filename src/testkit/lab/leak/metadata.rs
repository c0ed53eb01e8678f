//! The attacker who sees no sound: only when packets came, how large they were, of which type, and how long the mask
//! lasted. It learns from half of the digits what each key looks like and guesses the other half, then the other way
//! round (naive Bayes over features cut into steps). Observations and keys go in; guesses come out.

use crate::base::Random;
use rand::RngExt;

/// Steps each feature is cut into.
const STEPS: usize = 16;

/// What each key looks like.
struct Learnt {
    /// Step bounds per feature.
    bounds: Vec<Vec<f64>>,
    /// Log-likelihood per feature, key and step.
    tables: Vec<[[f64; STEPS]; 10]>,
}

impl Learnt {
    fn from(observations: &[&(Vec<f64>, u8)]) -> Self {
        let features = observations.first().map_or(0, |(values, _)| values.len());
        let (mut bounds, mut tables) = (Vec::new(), Vec::new());
        for feature in 0..features {
            let mut values: Vec<f64> = observations.iter().map(|(v, _)| v[feature]).collect();
            values.sort_by(f64::total_cmp);
            let mut cuts: Vec<f64> = (1..STEPS).map(|n| values[n * values.len() / STEPS]).collect();
            cuts.dedup();
            let mut counts = [[1.0f64; STEPS]; 10];
            for (values, key) in observations {
                counts[usize::from(*key % 10)][step(&cuts, values[feature])] += 1.0;
            }
            tables.push(counts.map(|row| {
                let sum: f64 = row.iter().sum();
                row.map(|count| (count / sum).ln())
            }));
            bounds.push(cuts);
        }
        Self { bounds, tables }
    }

    fn guess(&self, values: &[f64]) -> u8 {
        let score = |key: u8| -> f64 {
            let each = values.iter().zip(&self.bounds).zip(&self.tables);
            each.map(|((value, cuts), table)| table[usize::from(key)][step(cuts, *value)]).sum()
        };
        (0..10).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0)
    }
}

fn step(cuts: &[f64], value: f64) -> usize {
    cuts.partition_point(|cut| *cut <= value)
}

/// Guesses every observation by what the other half taught; (truth, guess) each.
pub fn guesses(observations: &[(Vec<f64>, u8)], random: &mut Random) -> Vec<(u8, u8)> {
    let half: Vec<bool> = observations.iter().map(|_| random.random_bool(0.5)).collect();
    let learnt = [false, true].map(|side| {
        let own: Vec<_> = observations.iter().zip(&half).filter(|(_, of)| **of == side).map(|(o, _)| o).collect();
        Learnt::from(&own)
    });
    let taught = observations.iter().zip(&half);
    taught.map(|((values, key), of)| (*key, learnt[usize::from(!of)].guess(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn right(shift: f64) -> usize {
        let mut random = Random::seed_from_u64(2);
        let observations: Vec<(Vec<f64>, u8)> = (0..4_000)
            .map(|_| {
                let key = random.random_range(0..10u8);
                let noise: f64 = random.random_range(0.0..10.0);
                (vec![20.0, noise + shift * f64::from(key), random.random_range(0.0..1.0)], key)
            })
            .collect();
        guesses(&observations, &mut random).iter().filter(|(truth, guess)| truth == guess).count()
    }

    #[test]
    fn a_millisecond_per_key_in_ten_of_noise_is_found_and_nothing_where_nothing_is() {
        assert!(right(1.0) > 680, "{}", right(1.0));
        assert!((320..=480).contains(&right(0.0)), "{}", right(0.0));
    }
}
