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
    assert_eq!(bench.log, [(1_200 + 4_000, "+4312#".to_owned())], "as long as a printed group, it waits all the same");
    let mut bench = Bench::new(Settings::default());
    bench.key("43125#").wait(9_000);
    assert_eq!(bench.log, [(1_500 + 1_200, "+43125#".to_owned())]);
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
    assert_eq!(after("4711#_2345"), ["+4711#", "wipe 4"]);
    assert_eq!(after("4711#_2"), ["+4711#", "+2"]);
    assert_eq!(after("4711_______2345"), ["+4711", "+2345"]);
}

#[test]
fn a_card_keyed_with_a_hash_after_each_group_loses_at_most_the_first() {
    for pause in ["", " ", "_", "__"] {
        for (card, groups) in [
            ("4242424242424242", &[4, 4, 4, 4][..]),
            ("5105105105105100", &[4, 4, 4, 4]),
            ("378282246310005", &[4, 6, 5]),
            ("36227206271667", &[4, 6, 4]),
            ("6205500000000000004", &[6, 13]),
            ("6759649826438453000", &[4, 4, 4, 4, 3]),
        ] {
            let mut rest = card;
            let mut text = String::new();
            for length in groups {
                let (group, more) = rest.split_at(*length);
                rest = more;
                text += &format!("{group}#{pause}");
            }
            let words = after(&text);
            let out: usize = words.iter().filter_map(|word| word.strip_prefix('+')).map(|out| out.len() - 1).sum();
            let most = if pause.starts_with('_') { groups[0] } else { 0 };
            assert!(out <= most, "{pause:?} {words:?}");
            assert!(words.iter().any(|word| word == "take"), "{pause:?} {words:?}");
        }
    }
}

#[test]
fn entries_that_fit_no_card_go_on_after_their_hash() {
    assert_eq!(after("4711#_12345678#_5551234#"), ["+4711#", "+12345678#", "+5551234#"]);
    assert_eq!(after("4711#_010170#"), ["+4711#", "+010170#"]);
    assert_eq!(after("1234#_4711#"), ["+1234#", "+4711#"]);
    assert_eq!(after("4711#_2345#"), ["+4711#", "wipe 5"], "two that fit a card's first groups are the price");
    assert_eq!(after("4711#_______2345#"), ["+4711#", "+2345#"]);
}

#[test]
fn a_number_behind_a_choice_that_pauses_where_a_card_has_a_gap_is_kept_back() {
    assert_eq!(after("4_2424242_4242_4242"), ["+4", "take", "wipe 15", "give"]);
    assert_eq!(after("4_1111111_11111111"), ["+4", "take", "wipe 15", "give"]);
    assert_eq!(after("3_782822463_10005"), ["+3", "take", "wipe 14", "give"]);
    assert_eq!(after("4_71234567"), ["+4", "+71234567"], "a number of another length goes on");
}

#[test]
fn with_a_long_quiet_time_numbers_that_pause_where_no_card_does_go_on() {
    let settings = Settings { long_quiet: Duration::from_secs(8), ..Settings::default() };
    let mut bench = Bench::new(settings);
    bench.key("4155550123").wait(20_000);
    assert_eq!(bench.log, [(2_700 + 8_000, "+4155550123".to_owned())]);
    assert_eq!(after_with(settings, "42424242"), ["wipe 8"]);
    assert_eq!(after_with(settings, "3782822463"), ["wipe 10"]);
    assert_eq!(after_with(settings, "5555555"), ["+5555555"]);
    assert_eq!(after_with(settings, "4242424242424242"), ["take", "wipe 16", "give"]);
}

#[test]
fn a_key_that_is_known_late_is_judged_by_when_it_was_pressed() {
    // Rhythm of the finger 300 ms; every key is known 160 ms or 650 ms later, in turn.
    let mut bench = Bench::new(Settings { quiet: Duration::from_millis(400), ..Settings::default() });
    for (n, key) in "71".chars().enumerate() {
        let pressed = bench.started + MS * (300 * n as u32);
        let known = pressed + MS * if n % 2 == 0 { 160 } else { 650 };
        bench.wait((known - bench.now).as_millis() as u32);
        let actions = bench.classifier.handle_digit(known, pressed, &Digit::from_char(key).expect("a key"));
        bench.note(actions);
    }
    bench.wait(9_000);
    // The first was out after its quiet time and lag; the second waits for its own, by the longest lag.
    assert_eq!(bench.words(), ["+7", "+1"]);
    let mut bench = Bench::new(Settings::default());
    for (n, key) in "4242424242424242".chars().enumerate() {
        let pressed = bench.started + MS * (3_300 * n as u32);
        let known = pressed + MS * if n % 2 == 0 { 26 } else { 720 };
        bench.wait((known - bench.now).as_millis() as u32);
        let actions = bench.classifier.handle_digit(known, pressed, &Digit::from_char(key).expect("a key"));
        bench.note(actions);
    }
    bench.wait(100_000);
    assert!(bench.words().iter().all(|word| !word.starts_with('+')), "{:?}", bench.log);
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
            // Any pause the memory spans: anywhere in every other call, but for one after a single or second key, which
            // is a menu choice; and after that first key and between the printed groups in the others.
            let lone = grown <= MENU || place < MENU;
            let free = if round % 2 == 0 { !lone } else { place == 0 || place % 4 == 3 };
            let pause = random.random_range(50..if free { 59_999 } else { 4_000 });
            grown = if pause >= 1_200 { 0 } else { grown };
            bench.wait(pause);
            if round % 3 == 0 && place % 4 == 3 {
                let digit = Digit::from_char('#').expect("a key");
                let actions = bench.classifier.handle_digit(bench.now, bench.now, &digit);
                bench.note(actions);
                bench.wait(random.random_range(50..if round % 2 == 0 { 3_999 } else { 59_999 }));
            }
        }
        bench.wait(120_000);
        let digits = |word: &str| word.chars().filter(char::is_ascii_digit).count();
        let out: usize = bench.words().iter().filter_map(|word| word.strip_prefix('+')).map(digits).sum();
        assert!(out <= LEADING_MOST, "{round}: {out} digits out with {settings:?} {:?}", bench.log);
    }
}
