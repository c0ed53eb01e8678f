//! `[canary]`: calls that a node places to itself.

use std::time::Duration;

use crate::base::secret::Digit;

/// Cards that payment providers publish for tests: the only ones a canary keys.
pub const TEST_CARDS: [&str; 8] = [
    "4242424242424242",
    "4111111111111111",
    "4012888888881881",
    "5555555555554444",
    "5105105105105100",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
];

/// In what form a canary keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryForm {
    /// Tones.
    Tone,
    /// RFC 4733 events.
    Event,
    /// SIP INFO.
    Info,
}

/// What guards a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryGuard {
    /// A mask hold, taken before the first key.
    Held,
    /// `guard = "auto"`.
    Auto,
    /// Nothing: such a canary must fail. No file can name it; tests do.
    Open,
}

/// `[canary]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Canary {
    /// From one round to the next.
    pub every: Duration,
    /// The test card that is keyed.
    pub card: &'static str,
    /// Forms, each in a call of its own.
    pub forms: Vec<CanaryForm>,
    /// Guards, each with every form.
    pub guards: Vec<CanaryGuard>,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(3_600),
            card: TEST_CARDS[0],
            forms: vec![CanaryForm::Tone, CanaryForm::Event, CanaryForm::Info],
            guards: vec![CanaryGuard::Held, CanaryGuard::Auto],
        }
    }
}

impl Canary {
    /// How many keys the card has.
    pub fn keys(&self) -> usize {
        self.card.chars().filter_map(Digit::from_char).count()
    }
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary").field("every", &self.every).finish_non_exhaustive()
    }
}
