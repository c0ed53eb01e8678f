#![allow(clippy::disallowed_methods)]

use super::*;

const MS: Duration = Duration::from_millis(1);

struct Bench {
    classifier: Classifier,
    now: Instant,
    started: Instant,
    /// What happened: `+1234` released, `take`, `give`, `wipe n`, with ms since the start.
    log: Vec<(u64, String)>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { classifier: Classifier::new(settings), now, started: now, log: Vec::new() }
    }

    fn note(&mut self, actions: Actions) {
        for action in actions {
            let word = match action {
                Action::Release(run) => format!("+{}", String::from_utf8_lossy(run.expose())),
                Action::Take => "take".into(),
                Action::GiveBack => "give".into(),
                Action::Wipe(keys) => format!("wipe {keys}"),
            };
            self.log.push(((self.now - self.started).as_millis() as u64, word));
        }
    }

    fn wait(&mut self, ms: u32) {
        let until = self.now + MS * ms;
        while let Some(at) = self.classifier.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            let actions = self.classifier.handle_timeout(at);
            self.note(actions);
        }
        self.now = until;
    }

    /// Keys `text`, 300 ms apart; a space is two seconds, `_` ten.
    fn key(&mut self, text: &str) -> &mut Self {
        for key in text.chars() {
            match key {
                ' ' => self.wait(2_000),
                '_' => self.wait(10_000),
                key => {
                    let digit = Digit::from_char(key).expect("a key");
                    let actions = self.classifier.handle_digit(self.now, self.now, &digit);
                    self.note(actions);
                    self.wait(300);
                }
            }
        }
        self
    }

    fn words(&self) -> Vec<&str> {
        self.log.iter().map(|(_, word)| word.as_str()).collect()
    }
}

fn after(text: &str) -> Vec<String> {
    after_with(Settings::default(), text)
}

fn after_with(settings: Settings, text: &str) -> Vec<String> {
    let mut bench = Bench::new(settings);
    bench.key(text);
    bench.wait(120_000);
    assert_eq!(bench.classifier.poll_timeout(), None, "something is left");
    assert_eq!(bench.classifier.keys.len(), 0, "a key is left in memory");
    bench.words().into_iter().map(String::from).collect()
}

#[test]
fn a_menu_choice_that_begins_no_card_goes_after_the_quiet_time() {
    let mut bench = Bench::new(Settings::default());
    bench.key("1").wait(5_000);
    assert_eq!(bench.log, [(1_200, "+1".to_owned())]);
}

#[test]
fn a_menu_choice_that_begins_a_card_waits_longer_unless_it_is_allowed_out() {
    let mut bench = Bench::new(Settings::default());
    bench.key("4").wait(5_000);
    assert_eq!(bench.log, [(4_000, "+4".to_owned())]);
    let mut bench = Bench::new(Settings { leading: 1, ..Settings::default() });
    bench.key("4").wait(5_000);
    assert_eq!(bench.log, [(1_200, "+4".to_owned())]);
}

#[test]
fn a_hash_lets_go_at_once_of_what_is_no_card() {
    let mut bench = Bench::new(Settings::default());
    bench.key("7312#");
    assert_eq!(bench.log, [(1_200, "+7312#".to_owned())]);
}

#[test]
fn a_hash_after_too_few_keys_for_a_card_shortens_the_wait() {
    let mut bench = Bench::new(Settings::default());
    bench.key("4312#").wait(9_000);
    assert_eq!(bench.log, [(1_200 + 1_200, "+4312#".to_owned())]);
    assert_eq!(after("4155550123#"), ["+4155550123#"]);
    assert_eq!(after("4155550123"), ["wipe 10"]);
}

#[test]
fn a_card_is_never_released_and_takes_the_holds_until_the_payment_is_over() {
    for card in ["4242424242424242", "5555555555554444", "378282246310005", "6759649826438453", "36227206271667"] {
        for spoken in [card.to_owned(), format!("{card}#"), format!("{} {}", &card[..4], &card[4..])] {
            let text = format!("{spoken} 1227 123#");
            let words = after(&text);
            assert_eq!(words.iter().filter(|word| *word == "take").count(), 1);
            assert_eq!(words.last().map(String::as_str), Some("give"));
            assert!(words.iter().all(|word| !word.starts_with('+')), "{words:?}");
        }
    }
}

#[test]
fn the_payment_is_over_a_minute_after_the_last_key() {
    for text in ["4242424242424242", "4242424242424242 1227", "7000000000000001"] {
        let mut bench = Bench::new(Settings::default());
        bench.key(text);
        let last = (bench.now - bench.started).as_millis() as u64 - 300;
        bench.wait(100_000);
        let give = bench.log.iter().find(|(_, word)| word == "give").map(|(at, _)| at - last);
        assert_eq!(give, Some(60_000));
    }
}

#[test]
fn a_word_from_outside_ends_the_payment() {
    let mut bench = Bench::new(Settings::default());
    bench.key("4242424242424242");
    let actions = bench.classifier.end_payment();
    bench.note(actions);
    assert_eq!(bench.words(), ["take", "give"]);
    assert!(!bench.classifier.in_payment());
    bench.key("1").wait(2_000);
    assert_eq!(bench.words().last(), Some(&"+1"));
}

#[test]
fn groups_with_any_pause_between_them_lose_at_most_the_first() {
    for pause in ["", " ", "  ", "_", "__", "____"] {
        for card in ["4242424242424242", "4000000000000002", "5105105105105100", "2223003122003222"] {
            let groups: Vec<_> = card.as_bytes().chunks(4).map(|g| String::from_utf8_lossy(g).into_owned()).collect();
            let words = after(&groups.join(pause));
            let out: String = words.iter().filter_map(|word| word.strip_prefix('+')).collect();
            assert!(out.len() <= 4 && card.starts_with(&out), "{pause:?} {words:?}");
        }
    }
}

#[test]
fn a_card_begun_again_with_or_without_star_is_still_a_card() {
    for text in ["4243*4242424242424242", "42434242424242424242", "73*4242424242424242", "4243 4242424242424242"] {
        let words = after(text);
        assert!(words.iter().any(|word| word == "take"), "{text} {words:?}");
        assert!(words.iter().all(|word| !word.starts_with('+')), "{text} {words:?}");
    }
}

#[test]
fn a_card_right_after_a_menu_choice_is_a_card() {
    assert_eq!(after("1  4242424242424242"), ["+1", "take", "wipe 16", "give"]);
    assert_eq!(after("14242424242424242"), ["take", "wipe 17", "give"]);
}

#[test]
fn a_card_with_a_wrong_key_is_still_a_card() {
    for text in ["4242424242424241", "7242424242424242", "424242424242424"] {
        let words = after(text);
        assert!(words.iter().all(|word| !word.starts_with('+')), "{text} {words:?}");
    }
}

#[test]
fn a_number_after_a_menu_choice_is_judged_alone() {
    assert_eq!(after("4_71234567"), ["+4", "+71234567"]);
    assert_eq!(after("2_0 71234567#"), ["+2", "+0", "+71234567#"]);
}

#[test]
fn a_number_after_another_that_may_begin_a_card_is_judged_with_it() {
    assert_eq!(after("4711_2345"), ["+4711", "wipe 4"]);
    assert_eq!(after("4711#_2345"), ["+4711#", "+2345"]);
    assert_eq!(after("4711_______2345"), ["+4711", "+2345"]);
}

#[test]
fn nothing_but_stars_and_hashes_goes_at_once_or_after_the_quiet_time_and_never_fills_the_memory() {
    assert_eq!(after("#"), ["+#"]);
    assert_eq!(after("*"), ["+*"]);
    let words = after(&"*".repeat(200));
    assert_eq!(words, ["wipe 64", "wipe 64", "wipe 64", "+********"]);
}

#[test]
fn who_takes_the_keys_over_gets_a_clean_slate() {
    let mut bench = Bench::new(Settings::default());
    bench.key("4242");
    assert_eq!(bench.classifier.withheld(), 4);
    assert_eq!(bench.classifier.reset(), 4);
    bench.wait(60_000);
    assert!(bench.log.is_empty() && bench.classifier.poll_timeout().is_none());
}

#[test]
fn whatever_the_rhythm_at_most_six_digits_of_a_card_get_out() {
    use rand::{RngExt, SeedableRng};
    let mut random = crate::base::Random::seed_from_u64(11);
    for round in 0..4_000 {
        let settings = Settings { leading: round % 7, ..Settings::default() };
        let mut bench = Bench::new(settings);
        let mut grown = 0;
        for (place, key) in "4242424242424242".chars().enumerate() {
            let digit = Digit::from_char(key).expect("a key");
            let actions = bench.classifier.handle_digit(bench.now, bench.now, &digit);
            bench.note(actions);
            grown += 1;
            // Any pause the memory spans, but for one after a single or second key: that is a menu choice.
            let lone = grown <= MENU || place < MENU;
            let pause = random.random_range(50..if lone { 4_000 } else { 59_999 });
            grown = if pause >= 1_200 { 0 } else { grown };
            bench.wait(pause);
        }
        bench.wait(120_000);
        let out: usize = bench.words().iter().filter_map(|word| word.strip_prefix('+')).map(str::len).sum();
        assert!(out <= LEADING_MOST, "{out} digits out with {settings:?}");
    }
}
