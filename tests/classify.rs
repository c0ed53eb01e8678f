//! How often `guard = auto` is right: modelled callers key cards and everything else, and what the classifier does with
//! it is counted and printed (`cargo test --test classify -- --nocapture`). `TONEWALL_KEYED=100000` keys that many of
//! each card brand by each habit; without it a seeded part runs.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use tonewall::base::Random;
use tonewall::guard::classify::{Action, Actions, Classifier, LEADING_MOST, Settings};
use tonewall::testkit::keying::{Caller, Habit, Keyed};

/// What became of one thing keyed.
#[derive(Default)]
struct Outcome {
    /// Keys released.
    released: usize,
    /// Of them digits that belong to what was to be keyed: neither `*` or `#` nor a slip.
    right: usize,
    /// Whether holds were taken.
    taken: bool,
    /// From the last key to the last release, in ms, where every key was released.
    delay_ms: Option<u64>,
}

/// Follows keys through the classifier: they leave it in order, released or wiped.
struct Follower<'a> {
    keys: &'a [Keyed],
    next: usize,
    released_at: Option<Instant>,
    outcome: Outcome,
}

impl Follower<'_> {
    fn note(&mut self, at: Instant, actions: Actions) {
        for action in actions {
            match action {
                Action::Release(run) => {
                    let keys = &self.keys[self.next..self.next + run.len()];
                    self.next += run.len();
                    let same = keys.iter().zip(run.expose()).all(|(key, out)| key.digit.expose_char() as u8 == *out);
                    assert!(same, "other keys were released than withheld");
                    let right = |key: &&Keyed| !key.slip && key.digit.expose_char().is_ascii_digit();
                    self.outcome.right += keys.iter().filter(right).count();
                    self.outcome.released += run.len();
                    self.released_at = Some(at);
                }
                Action::Wipe(count) => self.next += count,
                Action::Take => self.outcome.taken = true,
                Action::GiveBack => {}
            }
        }
    }
}

fn run(classifier: &mut Classifier, start: Instant, keys: &[Keyed]) -> Outcome {
    classifier.reset();
    let mut now = start;
    let mut follower = Follower { keys, next: 0, released_at: None, outcome: Outcome::default() };
    for key in keys {
        now += Duration::from_millis(u64::from(key.after_ms));
        while let Some(at) = classifier.poll_timeout().filter(|at| *at <= now) {
            follower.note(at, classifier.handle_timeout(at));
        }
        follower.note(now, classifier.handle_digit(now, now, &key.digit));
    }
    while let Some(at) = classifier.poll_timeout() {
        follower.note(at, classifier.handle_timeout(at));
    }
    assert_eq!(follower.next, keys.len(), "a key was neither released nor wiped");
    let mut outcome = follower.outcome;
    let released_at = follower.released_at.filter(|_| outcome.released == keys.len());
    outcome.delay_ms = released_at.map(|at| at.saturating_duration_since(now).as_millis() as u64);
    outcome
}

/// Name, published test cards and test IINs, length of the number, groups it is printed in.
type Brand = (&'static str, &'static [&'static str], usize, &'static [usize]);

const BRANDS: &[Brand] = &[
    ("Visa 16", &["4242424242424242", "4000056655665556", "4111111111111111"], 16, &[4]),
    ("Visa 13", &["4222222222222", "422222"], 13, &[4, 3]),
    ("Visa 19", &["400000", "424242"], 19, &[4]),
    ("Mastercard", &["5555555555554444", "5105105105105100", "5200828282828210"], 16, &[4]),
    ("Mastercard 2", &["2223003122003222", "222300", "272099"], 16, &[4]),
    ("American Express", &["378282246310005", "371449635398431"], 15, &[4, 6, 5]),
    ("Discover", &["6011111111111117", "6011000990139424", "644564"], 16, &[4]),
    ("Diners Club", &["3056930009020004", "36227206271667", "300000"], 14, &[4, 6, 4]),
    ("JCB", &["3566002020360505", "352800", "358999"], 16, &[4]),
    ("UnionPay", &["6200000000000005", "622126", "810000"], 16, &[4]),
    ("UnionPay 19", &["6205500000000000004", "620550"], 19, &[6, 13]),
    ("Maestro 16", &["6759649826438453", "500000", "677189"], 16, &[4]),
    ("Maestro 12", &["500000", "639000"], 12, &[4]),
    ("Maestro 19", &["676700", "560000"], 19, &[4]),
    ("RuPay", &["608100", "508500", "817200"], 16, &[4]),
    ("Mir", &["220000", "220499"], 16, &[4]),
    ("Troy", &["979200", "979289"], 16, &[4]),
];

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(b'0' + random.random_range(0..10u8))).collect()
}

/// A published card or a random one within a test IIN, with a right Luhn digit.
fn card(random: &mut Random, (_, known, length, _): &Brand) -> String {
    let seed = known[random.random_range(0..known.len())];
    if seed.len() > 6 && random.random_bool(0.1) {
        return seed.to_owned();
    }
    let mut number = seed[..6].to_owned();
    number += &digits(random, length - 7);
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, key)| {
            let value = u32::from(key - b'0') * if place % 2 == 0 { 2 } else { 1 };
            value / 10 + value % 10
        })
        .sum();
    number.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    number
}

/// A payment: the card, often its expiry and security code, each with or without `#`.
fn payment(random: &mut Random, habit: Habit, brand: &Brand) -> Vec<Keyed> {
    let number = card(random, brand);
    let more = random.random_bool(0.7);
    let hash = random.random_bool(0.4);
    let expiry = format!("{:02}{:02}", random.random_range(1..13), random.random_range(26..32));
    let code = if number.len() == 15 { digits(random, 4) } else { digits(random, 3) };
    let mut caller = Caller::new(habit, random).number(&number, brand.3);
    let end = |caller: Caller<'_>, hash: bool| if hash { caller.then('#').keys() } else { caller.keys() };
    if !more {
        return end(caller, hash);
    }
    if hash {
        caller = caller.then('#');
    }
    // What comes after the number is keyed without leaving: the slip and the absence are the number's.
    caller = caller.after(2_000..15_000, &expiry, &[2]);
    if hash {
        caller = caller.then('#');
    }
    end(caller.after(2_000..15_000, &code, &[4]), hash)
}

fn per_brand() -> usize {
    match std::env::var("TONEWALL_KEYED") {
        Ok(text) => text.parse().expect("TONEWALL_KEYED is a number"),
        Err(_) => 1_500,
    }
}

/// Leaks by brand and habit. Callers who are at it lose no digit; those called away lose at most six, whenever it was.
#[test]
fn no_digit_of_a_card_is_released_by_any_brand_and_caller() {
    let count = per_brand();
    let start = Instant::now();
    let mut table = format!("cards with a digit released, of {count} per brand and caller (most digits of one)\n");
    let _ = write!(table, "{:18}", "");
    for habit in Habit::ALL {
        let _ = write!(table, "{:>13}", format!("{habit:?}"));
    }
    let mut leaks = Vec::new();
    for (index, brand) in BRANDS.iter().enumerate() {
        let _ = write!(table, "\n{:18}", brand.0);
        for habit in Habit::ALL {
            let mut random = Random::seed_from_u64(0xA0_70 + index as u64);
            let mut classifier = Classifier::new(Settings::default());
            let (mut out, mut most, mut unheld) = (0, 0, 0);
            for _ in 0..count {
                let keys = payment(&mut random, habit, brand);
                let outcome = run(&mut classifier, start, &keys);
                out += usize::from(outcome.right > 0);
                most = most.max(outcome.right);
                unheld += usize::from(!outcome.taken);
            }
            let cell = if out == 0 { "0".to_owned() } else { format!("{out} ({most})") };
            let _ = write!(table, "{cell:>13}");
            let bound = match habit {
                // The essay's exception: a 12-digit card with a wrong first key is a 12-digit number.
                Habit::Corrects if brand.2 == 12 => continue,
                Habit::CalledAway => LEADING_MOST,
                _ => 0,
            };
            if most > bound || unheld > 0 {
                leaks.push(format!("{} keyed by {habit:?}: {most} digits, {unheld} without holds", brand.0));
            }
        }
    }
    eprintln!("{table}");
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// A row of the table: what is keyed, and in which groups.
type Kind = (&'static str, fn(&mut Random) -> String, &'static [usize]);

const KINDS: &[Kind] = &[
    ("menu, 1 key", |r| digits(r, 1), &[4]),
    ("menu, 2 keys", |r| digits(r, 2), &[4]),
    ("PIN 4", |r| digits(r, 4), &[4]),
    ("PIN 5", |r| digits(r, 5), &[5]),
    ("PIN 6", |r| digits(r, 6), &[3]),
    ("PIN 8", |r| digits(r, 8), &[4]),
    ("date DDMMYY", |r| date(r, false), &[2]),
    ("date DDMMYYYY", |r| date(r, true), &[2, 2, 4]),
    ("member 7", |r| digits(r, 7), &[3, 4]),
    ("member 8", |r| digits(r, 8), &[4]),
    ("member 9", |r| digits(r, 9), &[3]),
    ("member 10", |r| digits(r, 10), &[3]),
    ("member 11", |r| digits(r, 11), &[4]),
    ("member 12", |r| digits(r, 12), &[4]),
    ("phone, national 0", |r| format!("0{}", digits(r, 9)), &[4, 3]),
    ("phone, NANP 10", nanp, &[3, 3, 4]),
    ("phone, NANP 1+10", |r| format!("1{}", nanp(r)), &[1, 3, 3, 4]),
    ("phone, 00+", |r| format!("00{}", digits(r, 11)), &[4, 3]),
];

fn date(r: &mut Random, century: bool) -> String {
    let (day, month) = (r.random_range(1..29), r.random_range(1..13));
    let year = r.random_range(1940..2006);
    if century { format!("{day:02}{month:02}{year}") } else { format!("{day:02}{month:02}{:02}", year % 100) }
}

fn nanp(r: &mut Random) -> String {
    let (area, exchange) = (r.random_range(201..990), r.random_range(200..1_000));
    format!("{area}{exchange}{}", digits(r, 4))
}

/// Of one kind keyed by every habit that is at it: share never released, share with holds, delays of the released.
struct Rates {
    withheld: f64,
    held: f64,
    p50: u64,
    p99: u64,
}

fn rates(settings: Settings, kind: &Kind, hash: bool, count: usize) -> Rates {
    let start = Instant::now();
    let mut random = Random::seed_from_u64(0x5EED);
    let mut classifier = Classifier::new(settings);
    let (mut withheld, mut held, mut delays) = (0, 0, Vec::new());
    let habits = [Habit::Fast, Habit::Normal, Habit::Slow, Habit::Hesitant, Habit::Grouped];
    for index in 0..count {
        let text = kind.1(&mut random);
        let caller = Caller::new(habits[index % habits.len()], &mut random).number(&text, kind.2);
        let keys = if hash { caller.then('#').keys() } else { caller.keys() };
        let outcome = run(&mut classifier, start, &keys);
        held += usize::from(outcome.taken);
        match outcome.delay_ms {
            Some(delay) => delays.push(delay),
            None => withheld += 1,
        }
    }
    delays.sort_unstable();
    let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or_default();
    let share = |part: usize| 100.0 * part as f64 / count as f64;
    Rates { withheld: share(withheld), held: share(held), p50: at(0.5), p99: at(0.99) }
}

/// What is no card: printed, and held to what the essay of `guard::classify` promises.
#[test]
fn what_is_no_card_goes_on_to_the_pbx_at_the_rates_that_are_documented() {
    let count = per_brand().max(5_000);
    for (leading, hash) in [(0, false), (0, true), (1, false), (LEADING_MOST, false)] {
        let settings = Settings { leading, ..Settings::default() };
        let mut table = format!(
            "\nnever released / holds taken (%), delay p50 / p99 (ms); {count} each, leading = {leading}, {} #\n",
            if hash { "with" } else { "without" }
        );
        for kind in KINDS {
            let Rates { withheld, held, p50, p99 } = rates(settings, kind, hash, count);
            let _ = writeln!(table, "{:18}{withheld:>8.2} {held:>8.2} {p50:>8} {p99:>8}", kind.0);
            let short = kind.0.starts_with("menu") || ["PIN 4", "PIN 5", "PIN 6", "date DDMMYY"].contains(&kind.0);
            if short {
                assert_eq!((withheld, held), (0.0, 0.0), "{}", kind.0);
                // With `#`, what is as long as a card's first group waits longer.
                let group = hash && ["PIN 4", "PIN 6", "date DDMMYY"].contains(&kind.0);
                let most = if leading == LEADING_MOST || (hash && !group) || (leading > 0 && kind.0 == "menu, 1 key") {
                    1_200
                } else {
                    4_000
                };
                assert!(p99 <= most, "{} {p99}", kind.0);
            }
            if ["member", "PIN 8", "phone, national 0"].iter().any(|k| kind.0.starts_with(k)) && kind.0 != "member 12" {
                assert_eq!(held, 0.0, "{}", kind.0);
            }
            if hash && (kind.0 == "phone, NANP 10" || kind.0 == "member 8") {
                assert_eq!(withheld, 0.0, "{}", kind.0);
            }
        }
        eprintln!("{table}");
    }
}

/// Cards keyed with `#` after each printed group, which to most callers ends an entry.
#[test]
fn a_card_keyed_with_a_hash_after_each_group_is_held_by_whoever_keys_it() {
    let (count, start) = (per_brand(), Instant::now());
    let mut table =
        format!("cards keyed with # after each group: digits released, of {count} (most of one)\n{:18}", "");
    let habits = || Habit::ALL.into_iter().filter(|habit| *habit != Habit::Corrects);
    for habit in habits() {
        let _ = write!(table, "{:>13}", format!("{habit:?}"));
    }
    let mut leaks = Vec::new();
    for (index, brand) in BRANDS.iter().enumerate() {
        if brand.3 == [4, 3] || brand.2 == 12 {
            // Not printed so any more, or no longer than three groups.
            continue;
        }
        let _ = write!(table, "\n{:18}", brand.0);
        for habit in habits() {
            let mut random = Random::seed_from_u64(0xA0_71 + index as u64);
            let mut classifier = Classifier::new(Settings::default());
            let (mut out, mut most, mut unheld) = (0, 0, 0);
            for _ in 0..count {
                let number = card(&mut random, brand);
                let mut keys = Vec::new();
                let (mut rest, mut groups) = (number.as_str(), brand.3.iter().copied().chain(std::iter::repeat(4)));
                // A caller who is called away is so once, before one of the groups.
                let mut away = habit == Habit::CalledAway;
                while !rest.is_empty() {
                    let (group, more) = rest.split_at(groups.next().unwrap_or(4).min(rest.len()));
                    rest = more;
                    let usual = if habit == Habit::CalledAway { Habit::Normal } else { habit };
                    let mut said = Caller::new(usual, &mut random).number(group, &[group.len()]).then('#').keys();
                    if let Some(first) = said.first_mut().filter(|_| !keys.is_empty()) {
                        first.after_ms = if away && random.random_bool(0.5) {
                            away = false;
                            random.random_range(4_000..40_000)
                        } else {
                            random.random_range(500..3_500)
                        };
                    }
                    keys.extend(said);
                }
                let outcome = run(&mut classifier, start, &keys);
                out += usize::from(outcome.right > 0);
                most = most.max(outcome.right);
                unheld += usize::from(!outcome.taken);
            }
            let cell = if out == 0 { "0".to_owned() } else { format!("{out} ({most})") };
            let _ = write!(table, "{cell:>13}");
            let bound = if habit == Habit::CalledAway { LEADING_MOST } else { 0 };
            if most > bound || unheld > 0 {
                leaks.push(format!("{} keyed by {habit:?}: {most} digits, {unheld} without holds", brand.0));
            }
        }
    }
    eprintln!("{table}");
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// What `long_quiet` buys and costs.
#[test]
fn a_long_quiet_time_lets_most_numbers_without_hash_go_and_costs_first_digits_of_callers_called_away() {
    let (count, start) = (per_brand().max(5_000), Instant::now());
    let mut table = String::from("never released without # (%), by long_quiet (never, 8 s)\n");
    let without = Settings::default();
    let with = Settings { long_quiet: Duration::from_secs(8), ..without };
    for kind in KINDS.iter().filter(|kind| kind.0.starts_with("member") || kind.0.starts_with("phone")) {
        let (before, after) = (rates(without, kind, false, count), rates(with, kind, false, count));
        let _ =
            writeln!(table, "{:18}{:>8.2}{:>8.2}  p50 {:>6} ms", kind.0, before.withheld, after.withheld, after.p50);
        assert!(after.withheld <= before.withheld && (after.held - before.held).abs() < f64::EPSILON, "{}", kind.0);
        if ["member 7", "member 9", "member 10", "member 11", "phone, NANP 10"].contains(&kind.0) {
            // What is left paused where a card that begins at another pause of theirs has a gap.
            assert!(after.withheld < before.withheld / 4.0, "{} {}", kind.0, after.withheld);
        }
    }
    let _ = writeln!(table, "cards with a digit released (%), and most digits of one");
    for habit in Habit::ALL {
        let mut random = Random::seed_from_u64(8);
        let mut classifier = Classifier::new(with);
        let (mut out, mut most) = (0, 0);
        for _ in 0..count {
            let keys = payment(&mut random, habit, &BRANDS[0]);
            let outcome = run(&mut classifier, start, &keys);
            out += usize::from(outcome.right > 0);
            most = most.max(outcome.right);
        }
        let share = 100.0 * out as f64 / count as f64;
        let _ = writeln!(table, "{:18}{share:>8.2}{most:>8}", format!("{habit:?}"));
        assert!(most == 0 || (habit == Habit::CalledAway && most <= 11), "{habit:?} {most}");
    }
    eprintln!("{table}");
}

/// What the longer quiet time buys: leaks of first digits by the callers who pause most.
#[test]
fn a_longer_quiet_time_loses_fewer_first_digits() {
    let start = Instant::now();
    let count = per_brand().clamp(1_500, 20_000);
    let mut table = String::from("Visa cards with a first digit released (%), by number_quiet\n");
    let mut last = f64::MAX;
    for ms in [1_200, 2_000, 2_500, 3_000, 3_500, 4_000] {
        let settings = Settings { number_quiet: Duration::from_millis(ms), ..Settings::default() };
        let _ = write!(table, "{ms:>6} ms");
        let mut sum = 0.0;
        for habit in [Habit::Normal, Habit::Slow, Habit::Hesitant, Habit::Grouped, Habit::Corrects] {
            let mut random = Random::seed_from_u64(7);
            let mut classifier = Classifier::new(settings);
            let mut out = 0;
            for _ in 0..count {
                let keys = payment(&mut random, habit, &BRANDS[0]);
                out += usize::from(run(&mut classifier, start, &keys).right > 0);
            }
            let share = 100.0 * out as f64 / count as f64;
            sum += share;
            let _ = write!(table, "  {habit:?} {share:.2}");
        }
        let _ = writeln!(table);
        assert!(sum <= last, "{table}");
        last = sum;
    }
    eprintln!("{table}");
}
