//! What these tests share: a configuration around a connector, charges with test cards, and a running gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use tonewall::base::Random;
use tonewall::base::ids::PaymentId;
use tonewall::base::payment::Brand;
use tonewall::base::secret::{Digit, Digits};
use tonewall::config::{Checked, Config, Faults, SecretSource, Surroundings};
use tonewall::psp::{Answer, Charge, Fields, Gateway, Operation, Outcome};
use tonewall::rt::psp::Psp;

pub const BASE: &str = include_str!("../../config/small.toml");

/// What every secret of these tests is.
pub const KEY: &str = "sk_test_only-for-tests";

/// A connector of one's own: one request charges and cannot be repeated, another asks what came of it.
pub const OWN: &str = r#"[[connector]]
name = "own"
url = "https://psp.example"
[[connector.step]]
of = "charge"
name = "pay"
url = "/pay"
headers = ["Authorization: Bearer ${secret.key}"]
json = '{"card": "${card.number}"}'
commits = true
[[connector.step.answer]]
status = "200"
outcome = "approved"
[[connector.step]]
of = "query"
name = "ask"
method = "GET"
url = "/pay/${idempotency}"
[[connector.step.answer]]
outcome = "nothing"
[[connector.secret]]
name = "key"
env = "PSP_KEY"
"#;

/// A configuration with this text behind the small example; its secrets are [`KEY`].
pub fn parse(text: &str) -> Result<Config, Faults> {
    let secret = |_: &SecretSource| Ok(KEY.to_owned());
    let around = Surroundings { directory: Path::new(""), secret: &secret };
    Checked::parse("t.toml", &format!("{BASE}{text}"), &around).map(|checked| checked.config)
}

/// The same, with its payments kept in `directory`.
pub fn config(text: &str, directory: &Path) -> Config {
    let mut config = parse(text).unwrap_or_else(|faults| panic!("{faults}"));
    config.storage.payments = directory.join("payments.db");
    config
}

/// A connector by preset, at `url`.
pub fn preset(name: &str, url: &str, more: &str) -> String {
    format!(
        "\n[[connector]]\nname = \"it\"\npreset = \"{name}\"\nurl = \"{url}\"\ntimeout_ms = 2000\n{more}\n\
         [[connector.secret]]\nname = \"key\"\nenv = \"K\"\n"
    )
}

pub fn digits(text: &str) -> Option<Digits> {
    let mut digits = Digits::new();
    for c in text.chars() {
        assert!(digits.push(&Digit::from_char(c).expect("a key")));
    }
    Some(digits)
}

pub fn payment(seed: u64) -> PaymentId {
    PaymentId::draw(&mut Random::seed_from_u64(seed))
}

/// A charge of 12.50 EUR.
pub fn charge(seed: u64, card: &str) -> Charge {
    Charge {
        payment: payment(seed),
        attempt: 1,
        connector: None,
        operation: Operation::Charge { amount_minor: 1250, currency: "EUR".into() },
        fields: Fields {
            card: digits(card),
            expiry: digits("0534"),
            security_code: digits("737"),
            ..Fields::default()
        },
        brand: Some(Brand::Visa),
        description: None,
        parameters: BTreeMap::new(),
    }
}

/// A gateway and its answers.
pub struct Desk {
    pub psp: Psp,
    answers: mpsc::Receiver<Answer>,
}

impl Desk {
    pub fn open(config: &Config) -> Self {
        let (tx, answers) = mpsc::channel();
        let psp = Psp::start(config, move |answer| drop(tx.send(answer))).unwrap_or_else(|error| panic!("{error}"));
        Self { psp, answers }
    }

    pub fn next(&self) -> Answer {
        self.answers.recv_timeout(Duration::from_secs(30)).expect("an answer in time")
    }

    /// What comes of a charge in the end.
    pub fn pay(&mut self, charge: Charge) -> Outcome {
        self.psp.submit(charge);
        loop {
            match self.next().outcome {
                Outcome::Unknown => {}
                outcome => return outcome,
            }
        }
    }

    /// Waits until nothing is under way or unknown; gives all answers that came meanwhile.
    pub fn settle(&self, patience: Duration) -> Vec<Answer> {
        let end = Instant::now() + patience;
        let mut answers = Vec::new();
        loop {
            answers.extend(self.answers.try_iter());
            if self.psp.under_way() == 0 {
                std::thread::sleep(Duration::from_millis(50));
                answers.extend(self.answers.try_iter());
                if self.psp.under_way() == 0 {
                    return answers;
                }
            }
            assert!(Instant::now() < end, "{} payments are still under way", self.psp.under_way());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
