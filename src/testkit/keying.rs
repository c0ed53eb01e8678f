//! How people key numbers: when each key of a text goes down. A caller's habits and a text with its groups go in; keys
//! with the time since the one before come out. Times are from key-down to key-down.
//!
//! Within a group the times are log-normal around the caller's tempo, as inter-key times of people are; between groups
//! of a printed number there is a look at the paper. A pause longer than [`LONGEST_MS`] is no keying any more: the
//! caller was called away, which [`Habit::CalledAway`] does once in each number.

use std::ops::Range;

use rand::RngExt;

use crate::base::Random;
use crate::base::secret::Digit;

/// The longest pause within a number of a caller who is at it, in ms.
pub const LONGEST_MS: u32 = 3_500;

/// How a caller keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// By heart, in one go.
    Fast,
    /// Reading along.
    Normal,
    /// Searching for each key.
    Slow,
    /// Slow, and at a loss now and then, at any key.
    Hesitant,
    /// Group by group, looking up between them.
    Grouped,
    /// Mistyping: half of the numbers have a slip, which is cleared with `*`, begun again, overtyped or not noticed.
    Corrects,
    /// Called away once in each number, for 4 to 40 s.
    CalledAway,
}

impl Habit {
    /// All of them.
    pub const ALL: [Habit; 7] =
        [Habit::Fast, Habit::Normal, Habit::Slow, Habit::Hesitant, Habit::Grouped, Habit::Corrects, Habit::CalledAway];

    /// Tempo within a group: median in ms and spread (σ of the logarithm).
    fn tempo(self) -> (f64, f64) {
        match self {
            Habit::Fast => (190.0, 0.25),
            Habit::Normal | Habit::Grouped | Habit::Corrects | Habit::CalledAway => (340.0, 0.35),
            Habit::Slow => (700.0, 0.35),
            Habit::Hesitant => (800.0, 0.45),
        }
    }

    /// Pause between groups: median in ms and spread.
    fn look_up(self) -> (f64, f64) {
        match self {
            Habit::Fast => (230.0, 0.3),
            Habit::Normal | Habit::Corrects | Habit::CalledAway => (600.0, 0.4),
            Habit::Slow => (1_100.0, 0.4),
            Habit::Hesitant => (1_800.0, 0.45),
            Habit::Grouped => (1_300.0, 0.4),
        }
    }
}

/// One key and how long after the one before it went down.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// Key.
    pub digit: Digit,
    /// Since the key before, in ms.
    pub after_ms: u32,
    /// A slip: this key does not belong to the number.
    pub slip: bool,
}

/// A caller at the keypad.
pub struct Caller<'a> {
    habit: Habit,
    random: &'a mut Random,
    keys: Vec<Keyed>,
}

impl<'a> Caller<'a> {
    /// A caller of this habit.
    pub fn new(habit: Habit, random: &'a mut Random) -> Self {
        Self { habit, random, keys: Vec::new() }
    }

    /// Keys `text`, printed in groups of these lengths (the last one repeats).
    #[must_use]
    pub fn number(mut self, text: &str, groups: &[usize]) -> Self {
        let away = (self.habit == Habit::CalledAway).then(|| self.below(1..text.len().max(2)));
        let slip = (self.habit == Habit::Corrects && self.random.random_bool(0.5)).then(|| self.below(0..text.len()));
        let mut place = 0;
        while place < text.len() {
            let key = text.as_bytes()[place] as char;
            if Some(place) == away {
                let pause = self.random.random_range(4_000..40_000);
                self.key(key, pause);
                place += 1;
                continue;
            }
            let after = self.pause(begins_group(place, groups));
            if Some(place) != slip {
                self.key(key, after);
                place += 1;
                continue;
            }
            let wrong = self.another(key);
            self.key(wrong, after);
            if let Some(wrong) = self.keys.last_mut() {
                wrong.slip = true;
            }
            match self.random.random_range(0..4) {
                // Noticed: cleared, and begun again.
                0 => {
                    let noticed = self.random.random_range(500..2_000);
                    self.key('*', noticed);
                    return self.again(text, groups);
                }
                // Begun again without a word.
                1 => return self.again(text, groups),
                // The right key after it.
                2 => {
                    let noticed = self.random.random_range(400..1_500);
                    self.key(key, noticed);
                }
                // Not noticed.
                _ => {}
            }
            place += 1;
        }
        self
    }

    fn again(mut self, text: &str, groups: &[usize]) -> Self {
        for (place, key) in text.chars().enumerate() {
            let after = if place == 0 { self.random.random_range(800..3_000) } else { 0 };
            let after = after.max(self.pause(begins_group(place, groups)));
            self.key(key, after);
        }
        self
    }

    /// Keys one more key, for instance `#`.
    #[must_use]
    pub fn then(mut self, key: char) -> Self {
        let after = self.pause(true);
        self.key(key, after);
        self
    }

    /// Waits before what comes next, at least this long.
    #[must_use]
    pub fn after(self, ms: Range<u32>, next: &str, groups: &[usize]) -> Self {
        let pause = self.random.random_range(ms);
        let before = self.keys.len();
        let mut caller = self.number(next, groups);
        if let Some(first) = caller.keys.get_mut(before) {
            first.after_ms = first.after_ms.max(pause);
        }
        caller
    }

    /// The keys.
    pub fn keys(self) -> Vec<Keyed> {
        self.keys
    }

    fn key(&mut self, key: char, after_ms: u32) {
        self.keys.extend(Digit::from_char(key).map(|digit| Keyed { digit, after_ms, slip: false }));
    }

    fn below(&mut self, range: Range<usize>) -> usize {
        self.random.random_range(range)
    }

    fn another(&mut self, key: char) -> char {
        let off = self.random.random_range(1..10);
        let value = (key.to_digit(10).unwrap_or_default() + off) % 10;
        char::from_digit(value, 10).unwrap_or('0')
    }

    fn pause(&mut self, group: bool) -> u32 {
        if self.habit == Habit::Hesitant && self.random.random_bool(0.08) {
            return self.random.random_range(1_000..LONGEST_MS);
        }
        let (median, spread) = if group { self.habit.look_up() } else { self.habit.tempo() };
        let ms = median * (spread * self.normal()).exp();
        (ms as u32).clamp(100, LONGEST_MS)
    }

    /// A standard normal variate (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.random.random_range(1e-12..1.0), self.random.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

fn begins_group(place: usize, groups: &[usize]) -> bool {
    let mut at = 0;
    for length in groups.iter().chain(std::iter::repeat(groups.last().unwrap_or(&4))) {
        if at >= place {
            break;
        }
        at += (*length).max(1);
    }
    at == place && place > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn callers_key_what_they_are_told_in_their_tempo() {
        let mut random = Random::seed_from_u64(3);
        for habit in Habit::ALL.into_iter().filter(|habit| *habit != Habit::Corrects) {
            let keys = Caller::new(habit, &mut random).number("4242424242424242", &[4]).keys();
            assert_eq!(keys.iter().map(|k| k.digit.expose_char()).collect::<String>(), "4242424242424242");
            let longest = keys.iter().map(|k| k.after_ms).max().unwrap_or_default();
            assert_eq!(longest > LONGEST_MS, habit == Habit::CalledAway, "{habit:?} {longest}");
        }
    }

    #[test]
    fn pauses_stand_between_groups() {
        let places: Vec<_> = (0..15).filter(|place| begins_group(*place, &[4, 6, 5])).collect();
        assert_eq!(places, [4, 10]);
        let places: Vec<_> = (0..16).filter(|place| begins_group(*place, &[4])).collect();
        assert_eq!(places, [4, 8, 12]);
    }
}
