//! What the attackers made of one call, and of many: guesses beside the truth per attacker, what decoders read, what is
//! left of the tones, and what was collected. Counts only; no digit stays.

use std::time::Duration;

use super::cases::Case;
use super::evidence::{Evidence, align, came_through};
use super::metadata;
use super::residual::Residual;
use super::shape;
use crate::base::Random;
use crate::config::MaskKind;
use crate::testkit::attack::{BEFORE, LeastSquares, decode, template};
use crate::testkit::keys::Form;
use crate::testkit::lab::Rate;
use crate::testkit::leak::lag;
use crate::testkit::spandsp::Spandsp;

/// Guesses by truth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Truth, then guess.
    counts: [[u32; 10]; 10],
}

impl Tally {
    /// Takes a guess.
    pub fn add(&mut self, truth: u8, guess: u8) {
        self.counts[usize::from(truth % 10)][usize::from(guess % 10)] += 1;
    }

    /// Right guesses.
    pub fn rate(&self) -> Rate {
        let right: u32 = (0..10).map(|n| self.counts[n][n]).sum();
        let all: u32 = self.counts.iter().flatten().sum();
        Rate { hits: u64::from(right), of: u64::from(all) }
    }

    /// What a guess tells of the truth, in bits per digit: mutual information, less what so few counts show of nothing
    /// (Miller and Madow's correction); not below 0.
    pub fn bits(&self) -> f64 {
        let all: f64 = self.counts.iter().flatten().map(|n| f64::from(*n)).sum();
        if all == 0.0 {
            return 0.0;
        }
        let rows: Vec<f64> = self.counts.iter().map(|row| row.iter().map(|n| f64::from(*n)).sum()).collect();
        let columns: Vec<f64> = (0..10).map(|c| self.counts.iter().map(|row| f64::from(row[c])).sum()).collect();
        let mut bits = 0.0;
        for (row, counts) in self.counts.iter().enumerate() {
            for (column, count) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
                let n = f64::from(*count);
                bits += n / all * (n * all / (rows[row] * columns[column])).log2();
            }
        }
        let used = |sums: &[f64]| sums.iter().filter(|n| **n > 0.0).count() as f64;
        let bias = (used(&rows) - 1.0) * (used(&columns) - 1.0) / (2.0 * all * std::f64::consts::LN_2);
        (bits - bias).max(0.0)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (a, b) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *a += b;
        }
    }
}

/// What was collected of what was keyed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Collected {
    /// Keys of calls whose keys were collected or counted.
    pub keyed: u64,
    /// Of them, those the customer's own line let through.
    pub came: u64,
    /// Collected in their place, once; or counted, in calls without a collection.
    pub once: u64,
    /// Came through and were not collected.
    pub missed: u64,
    /// Collected besides or in place of another.
    pub wrong: u64,
    /// Keys told or counted in calls without a collection: too few or too many.
    pub miscounted: u64,
    /// How many may be missed by the detector's bars.
    pub may_miss: f64,
    /// Calls of which this says nothing: the machine held up the caller's packets beyond all that a line does.
    pub disturbed: u64,
}

/// A machine that holds up packets longer than this is busier than any line is bad.
const DISTURBED: Duration = Duration::from_millis(150);

/// What one sink gave away.
#[derive(Debug, Clone, Default)]
pub struct Sink {
    /// Least-squares fit.
    pub least_squares: Tally,
    /// Zero-phase template.
    pub template: Tally,
    /// Digits our own ordinary decoder reads in their place.
    pub decoded: Rate,
    /// Digits SpanDSP reads in their place; `None` where it is not installed.
    pub spandsp: Option<Rate>,
    /// Over speech: digits any decoder reads in their place, of all it reads. Speech sounds like digits now and then.
    pub over_speech: Rate,
    /// What is left of the tones.
    pub residual: Residual,
}

/// What attackers made of calls.
#[derive(Debug, Clone, Default)]
pub struct Score {
    /// Calls.
    pub calls: u64,
    /// Keys.
    pub keyed: u64,
    /// Keys that the customer's own line let through.
    pub came: u64,
    /// `key-masked` events.
    pub told: u64,
    /// The longest the machine held up a caller's packets.
    pub held_up: Duration,
    /// The agent's ear.
    pub ear: Sink,
    /// The recording, where it was not paused.
    pub tape: Sink,
    /// What events and INFO toward the PBX tell.
    pub messages: Tally,
    /// Event packets and INFO that reached the PBX and tell a key other than the mask's sign.
    pub messages_with_keys: u64,
    /// Texts that hold a run of digits.
    pub texts: u64,
    /// What was collected.
    pub collected: Collected,
    /// Shapes around each key, for the classifier on metadata.
    pub shapes: Vec<(Vec<f64>, u8)>,
}

fn add_rates(a: &mut Option<Rate>, b: Option<Rate>) {
    *a = match (*a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (one, None) | (None, one) => one,
    };
}

impl std::ops::AddAssign<&Sink> for Sink {
    fn add_assign(&mut self, other: &Sink) {
        self.least_squares += other.least_squares;
        self.template += other.template;
        self.decoded += other.decoded;
        add_rates(&mut self.spandsp, other.spandsp);
        self.over_speech += other.over_speech;
        self.residual += &other.residual;
    }
}

impl std::ops::AddAssign<&Score> for Score {
    fn add_assign(&mut self, other: &Score) {
        self.calls += other.calls;
        self.keyed += other.keyed;
        self.came += other.came;
        self.told += other.told;
        self.held_up = self.held_up.max(other.held_up);
        self.ear += &other.ear;
        self.tape += &other.tape;
        self.messages += other.messages;
        self.messages_with_keys += other.messages_with_keys;
        self.texts += other.texts;
        self.collected += other.collected;
        self.shapes.extend_from_slice(&other.shapes);
    }
}

impl std::ops::AddAssign for Collected {
    fn add_assign(&mut self, other: Self) {
        self.keyed += other.keyed;
        self.came += other.came;
        self.once += other.once;
        self.missed += other.missed;
        self.wrong += other.wrong;
        self.miscounted += other.miscounted;
        self.may_miss += other.may_miss;
        self.disturbed += other.disturbed;
    }
}

impl<'a> std::iter::Sum<&'a Score> for Score {
    fn sum<I: Iterator<Item = &'a Score>>(scores: I) -> Self {
        scores.fold(Score::default(), |mut sum, score| {
            sum += score;
            sum
        })
    }
}

impl Score {
    /// The classifier on metadata over all calls of this score.
    pub fn metadata(&self, random: &mut Random) -> Tally {
        let mut tally = Tally::default();
        for (truth, guess) in metadata::guesses(&self.shapes, random) {
            tally.add(truth, guess);
        }
        tally
    }
}

/// The attackers, ready.
pub struct Judge {
    least_squares: LeastSquares,
    spandsp: Option<Spandsp>,
}

impl Judge {
    /// Prepares them; `spandsp` where it is installed.
    pub fn new(spandsp: Option<Spandsp>) -> Self {
        Self { least_squares: LeastSquares::new(), spandsp }
    }

    /// Attacks everything of one call.
    pub fn judge(&self, case: &Case, evidence: &Evidence) -> Score {
        let keyed = &evidence.keyed;
        let mut score = Score { calls: 1, keyed: keyed.len() as u64, texts: evidence.told as u64, ..Score::default() };
        let heard = evidence.agent.samples();
        if let Some(lag) = lag(&evidence.spoken, &heard, 1_600) {
            self.sink(&mut score.ear, case, &heard, evidence, lag);
        }
        if let Some([customer, agent]) = &evidence.tape {
            if let Some(lag) = lag(&evidence.spoken, customer, 1_600) {
                self.sink(&mut score.tape, case, customer, evidence, lag);
            }
            // The agent's side carries nothing of the customer's; whoever reads a digit there reads a leak.
            let told = decode(agent).len() + self.spandsp.as_ref().map_or(0, |library| library.decode(agent).len());
            score.tape.decoded += Rate::new(told, told);
        }
        self.messages(&mut score, case, evidence);
        self.shapes(&mut score, evidence);
        self.collected(&mut score.collected, case, evidence);
        score.came = keyed.iter().filter(|k| came_through(k, &evidence.lost)).count() as u64;
        score.told = evidence.masked.len() as u64;
        score.held_up = evidence.held_up;
        score
    }

    fn sink(&self, sink: &mut Sink, case: &Case, heard: &[i16], evidence: &Evidence, lag: i64) {
        let Evidence { spoken, keyed, .. } = evidence;
        let truth: Vec<u8> = keyed.iter().map(|k| k.press.digit.expose_char() as u8).collect();
        let told: Vec<u8> = decode(heard).iter().map(|(_, key)| b"0123456789*#ABCD"[usize::from(*key % 16)]).collect();
        let in_place = |told: &[u8]| align(&truth, told).0.iter().filter(|r| **r).count();
        let library = self.spandsp.as_ref().map(|library| library.decode(heard));
        if case.grade.speaks() {
            for told in std::iter::once(told.as_slice()).chain(library.as_ref().map(String::as_bytes)) {
                sink.over_speech += Rate::new(in_place(told), told.len());
            }
        } else {
            sink.decoded += Rate::new(in_place(&told), truth.len());
            let rate = library.map(|told| Rate::new(in_place(told.as_bytes()), truth.len()));
            add_rates(&mut sink.spandsp, rate);
        }
        let mut lag = lag;
        for (count, key) in keyed.iter().enumerate().filter(|(_, k)| k.press.form != Form::Info) {
            // Only a pause can show the lag; between keys of one group there is none.
            let before = count.checked_sub(1).and_then(|n| keyed.get(n)).map_or(0, |k| k.end);
            if key.onset.saturating_sub(before) > COMPARED as u64 + 640 {
                lag = follow(spoken, heard, key.onset, lag);
            }
            let Ok(onset) = usize::try_from(key.onset as i64 - lag) else { continue };
            if onset < BEFORE || onset >= heard.len() {
                continue;
            }
            let truth = key.press.digit.expose_event();
            // Where nothing at all is left, any answer is as good as another: they take turns.
            let fallback = (count % 10) as u8;
            let length = (key.end - key.onset) as usize;
            let late = case.late();
            // What comes later is the next key's; it would only lead astray.
            let own = &heard[..heard.len().min(onset + length + late)];
            sink.least_squares.add(truth, self.least_squares.guess(own, onset, fallback).key);
            sink.template.add(truth, template(own, onset, length, late, fallback).key);
            if key.press.form.sounds() {
                let to = (onset + 1_600 + length).min(heard.len());
                sink.residual.add(&heard[onset - BEFORE..to], length, truth);
            }
        }
    }

    /// Reads events and INFO as the PBX would, each for the key it came with.
    fn messages(&self, score: &mut Score, case: &Case, evidence: &Evidence) {
        let codes = evidence.agent.event_codes();
        let sign = case.guarded && case.mask == MaskKind::Substitute && codes.iter().all(|code| *code == 0);
        let infos: Vec<u8> = evidence.infos.iter().filter_map(|key| *key).collect();
        score.messages_with_keys += infos.len() as u64 + if sign { 0 } else { codes.len() as u64 };
        let truth: Vec<u8> = evidence.keyed.iter().map(|k| k.press.digit.expose_event()).collect();
        // One form may be lossy, the other whole: the attacker believes the longer one.
        let read = if infos.len() >= codes.len() { &infos } else { &codes };
        let (right, _) = align(&truth, read);
        let complete = right.iter().filter(|r| **r).count() * 2 >= truth.len();
        for (count, (key, right)) in truth.iter().zip(right).enumerate() {
            let in_order = read.get(count).copied().unwrap_or((count % 10) as u8);
            score.messages.add(*key, if complete && right { *key } else { in_order });
        }
    }

    fn shapes(&self, score: &mut Score, evidence: &Evidence) {
        for key in &evidence.keyed {
            let shape = shape::around(evidence.agent.packets(), evidence.began, key.onset as f64 / 8.0);
            score.shapes.extend(shape.map(|shape| (shape.to_vec(), key.press.digit.expose_event())));
        }
    }

    fn collected(&self, collected: &mut Collected, case: &Case, evidence: &Evidence) {
        if !case.guarded {
            return;
        }
        if evidence.held_up > DISTURBED {
            collected.disturbed += 1;
            return;
        }
        let keyed = &evidence.keyed;
        let came: Vec<bool> = keyed.iter().map(|k| came_through(k, &evidence.lost)).collect();
        let count = |flags: &[bool]| flags.iter().filter(|f| **f).count() as u64;
        collected.may_miss = case.grade.may_miss() * count(&came) as f64;
        match &evidence.collected {
            Some(told) => {
                let truth: Vec<u8> = keyed.iter().map(|k| k.press.digit.expose_char() as u8).collect();
                let (right, wrong) = align(&truth, told);
                collected.keyed += keyed.len() as u64;
                collected.came += count(&came);
                collected.once += count(&right);
                collected.missed += came.iter().zip(&right).filter(|(came, right)| **came && !**right).count() as u64;
                collected.wrong += wrong as u64;
            }
            None => {
                let (least, most) = (count(&came), keyed.len() as u64);
                let told = evidence.masked.len() as u64;
                collected.missed += least.saturating_sub(told);
                collected.miscounted += told.saturating_sub(most);
                collected.keyed += most;
                collected.came += least;
                collected.once += told.min(most);
            }
        }
    }
}

/// Samples compared to follow a lag: 150 ms of pause before a key.
const COMPARED: usize = 1_200;
/// How far a lag is looked for from where it was, in samples: 250 ms.
const FURTHEST: i64 = 2_000;

/// The lag at a key, where it was `lag` before: a guard's delay grows and shrinks, and a recording is laid on real time.
/// Only a pause before the key can show it; where the old one still fits, or nothing does, it stays.
fn follow(spoken: &[i16], heard: &[i16], onset: u64, lag: i64) -> i64 {
    let Some(from) = usize::try_from(onset).ok().and_then(|at| at.checked_sub(COMPARED + 80)) else { return lag };
    let Some(said) = spoken.get(from..from + COMPARED) else { return lag };
    let energy = |samples: &[i16]| samples.iter().map(|s| f32::from(*s) * f32::from(*s)).sum::<f32>();
    let likeness = |lag: i64| {
        let at = usize::try_from(from as i64 - lag).ok()?;
        let other = heard.get(at..at + COMPARED)?;
        let product: f32 = said.iter().zip(other).map(|(a, b)| f32::from(*a) * f32::from(*b)).sum();
        let size = (energy(said) * energy(other)).sqrt();
        (size > 0.0).then(|| product / size)
    };
    if likeness(lag).is_none_or(|old| old > 0.3) {
        return lag;
    }
    let others = (lag - FURTHEST..=lag + FURTHEST).filter_map(|lag| Some((lag, likeness(lag)?)));
    others.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, likeness)| *likeness > 0.4).map_or(lag, |(lag, _)| lag)
}

/// The probability of at least as many right guesses by blind chance, one in ten each.
pub fn by_chance(rate: Rate) -> f64 {
    rate.at_least(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn bits_are_those_of_theory() {
        let mut random = Random::seed_from_u64(1);
        let (mut blind, mut sure, mut half) = (Tally::default(), Tally::default(), Tally::default());
        for _ in 0..20_000 {
            let (truth, other) = (random.random_range(0..10u8), random.random_range(0..10u8));
            blind.add(truth, other);
            sure.add(truth, truth);
            half.add(truth, if random.random_bool(0.5) { truth } else { other });
        }
        assert!(blind.bits() < 0.004, "{}", blind.bits());
        assert!((sure.bits() - 10f64.log2()).abs() < 0.01);
        assert!((half.bits() - 0.956).abs() < 0.06, "{}", half.bits());
        assert!((blind.rate().share() - 0.1).abs() < 0.01);
    }

    #[test]
    fn chance_is_that_of_the_binomial() {
        assert!((by_chance(Rate::new(1, 1)) - 0.1).abs() < 1e-9);
        assert!((by_chance(Rate::new(0, 50)) - 1.0).abs() < 1e-9);
        assert!((by_chance(Rate::new(3, 10)) - 0.070_190_8).abs() < 1e-6);
        assert!(by_chance(Rate::new(300, 2_000)) < 1e-11);
    }
}
