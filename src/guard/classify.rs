//! `guard = auto`: which of the customer's keys the PBX may have. Key presses and the time go in; runs to be sent on,
//! and orders to take and give back the detector's holds, come out. Media masks every key meanwhile: nothing reaches
//! any sink but what is released here. It sends nothing, knows no call, and never releases because of a doubt.
//!
//! ```text
//!            key                    quiet long enough for what the run may be: Release
//!   idle ──────────► withheld ──────────────────────────────────────────────────────────► remembered ──► idle
//!    ▲                │  │  ▲ key                                  key (joins what it may continue) │
//!    │    Wipe        │  │  └────────────────────────────────────────────────────────────────────┘
//!    ├────────────────┘  │ 12 keys of a card, or 13 of anything: Take
//!    │  no end, too long ▼
//!    └───────────────── payment      every key is swallowed; over after a long quiet, or by signal: GiveBack
//! ```
//!
//! # The rules and why
//!
//! **What can be a card.** Keys that begin like a card of any brand (`brands.rs`), counted without `*` and `#`, from the
//! first key of the run, from the key after a `*`, a `#` or a pause of `quiet`, or of [`BREAK`] behind one or two keys:
//! callers choose from a menu, clear and begin again. Luhn never acquits: one slip, and fifteen right keys of sixteen
//! would be let go. It only convicts. Neither does a wrong first key acquit for good: 13 keys in a row are a card
//! whatever they begin with. No brand is shorter than 12.
//!
//! **Rhythm.** Only the keys that follow show whether "4242" is a PIN or a quarter of a card; nobody can tell earlier.
//! So the quiet that ends a run depends on what it may be:
//!
//! | the run | released after the last key by |
//! |---|---|
//! | one key that begins no card; up to `leading` keys of anything | `quiet`, at once if it ends with `#` |
//! | is no card, ends with `#` | nothing |
//! | may be a card, 1–6 keys but not a printed group's, ends with `#` | `quiet` |
//! | may be a card, a printed group's keys, ends with `#` | `number_quiet` |
//! | is no card; or may be one, 1–6 keys | `number_quiet` |
//! | may be a card, 7–11 keys, ends with `#` (no brand is that short) | `number_quiet` |
//! | may be the next printed group of a card whose first group ended with `#` too | never: wiped after [`MEMORY`] |
//! | may be a card, 7–11 keys, and no printed group ends there | `long_quiet`, if there is one; else never |
//! | may be a card, 7–11 keys | never: wiped after [`MEMORY`] |
//! | may be a card, 12 keys; or 13 keys of any kind | never: the holds are taken |
//!
//! `number_quiet` is longer than a caller pauses within a number, even at the gaps between its groups. What is no card
//! has to wait for it too, if it is more than one key: it may be a card whose first digit was mistyped. Who sets
//! `leading` lets menu choices and PINs through at once, and accepts that up to so many first digits of a card pass.
//!
//! **Memory.** A caller who is called away, or led by an agent from group to group, pauses longer than any quiet time
//! that an answering machine would bear. What was released is therefore remembered for [`MEMORY`], and a run that
//! continues it is judged together with it: of 4–4–4–4 at most the first group is out, and never more than
//! [`LEADING_MOST`] digits. One or two keys long before a number are a menu choice: with it they are a card only if
//! the Luhn sum of a whole card says so, or a number that pauses where a printed group of both together would end: else
//! nobody could key a number after choosing 4.
//!
//! **`#` after each group.** What ended with `#` is a whole entry to most callers and a group of the card to some. These
//! give themselves away by the groups: a card is read as it is printed, 4–4–4–4, 4–6–5, 4–6–4 or 6–13, and another entry
//! seldom fits the brand's next group. So a first entry of 4 or 6 keys waits for `number_quiet` in spite of its `#`, and
//! what fits behind it within [`MEMORY`] is never released. The second of two PINs that look like this is lost.
//!
//! **Called away in the middle of a group** is the one thing that no rule but counting sees, so a number of 7–11 keys
//! that may begin a card stays back. Who sets `long_quiet` has those released that do not pause where a card is printed
//! with a gap (phone numbers, mostly), and accepts that such a caller's first digits, up to eleven, are out.
//!
//! **Payment.** After a card its expiry and security code follow. They look like nothing, so every key is swallowed
//! until nothing has been keyed for `payment`, or somebody ends it. `payment` is at least [`MEMORY`]: what is no whole
//! card yet may be continued as late as anything else.
//!
//! What this cannot do: tell a security code that is keyed alone, a 12-digit card with a wrong first key, or (without
//! `long_quiet`) a number of 7–12 digits without `#` that begins like a card. The first two need a collection or a hold;
//! the last is lost, and that is the safe side. `tests/classify.rs` prints how often each happens.

mod brands;
mod replay;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::base::secret::{Digit, Digits, MAX_DIGITS};

pub use crate::config::Auto as Settings;
#[cfg(test)]
pub(crate) use brands::may_become_card;
pub use replay::{Replay, TONE_MS};

/// The most first digits of a card that can get out, whatever the settings.
pub const LEADING_MOST: usize = 6;
/// A pause after which a card may begin behind a menu choice.
pub const BREAK: Duration = Duration::from_millis(800);
/// How long a released or a never-to-be-released run is remembered after its last key.
pub const MEMORY: Duration = Duration::from_secs(60);

/// The longest a key is believed to have taken from the finger to here.
const LAG_MOST: Duration = Duration::from_secs(1);

/// Keys of a card at which the holds are taken: the shortest card.
const LIKELY: usize = 12;
/// Keys in a row that are taken for a card whatever they begin with.
const LONG: usize = 13;
/// Keys of the longest menu choice.
const MENU: usize = 2;

/// Keys to be sent on, in order, with the pauses they were keyed with.
#[derive(Debug)]
pub struct Run {
    keys: Digits,
    gaps_ms: [u16; MAX_DIGITS],
}

impl Run {
    /// How many keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys as characters. Exposes the secret.
    pub fn expose(&self) -> &[u8] {
        self.keys.expose()
    }

    /// From the key before to this one, in ms.
    pub fn gap_ms(&self, place: usize) -> u16 {
        self.gaps_ms.get(place).copied().unwrap_or_default()
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// These keys are no card: send them on.
    Release(Run),
    /// A card is being keyed: take the detector's holds.
    Take,
    /// The payment is over: give them back.
    GiveBack,
    /// So many withheld keys were wiped: they might have been a card.
    Wipe(usize),
}

/// What came of a key or of time.
pub type Actions = SmallVec<[Action; 2]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Keys are withheld until they are known.
    Watching,
    /// Holds are taken; keys are swallowed.
    Payment,
}

/// What the remembered and withheld keys may be.
#[derive(Debug, Clone, Copy, Default)]
struct Suspicion {
    /// Digits of the longest card that may be under way.
    card: usize,
    /// Digits keyed without a pause of `number_quiet`.
    row: usize,
    /// Digits of a card that may be under way in groups that end with `#`, two at least.
    grouped: usize,
    /// Whether the first group of such a card may just have ended.
    first_group: bool,
    /// Whether menu choices and what came after them would together be more first digits of a card than may get out.
    long: bool,
    /// Whether a pause now is one between two printed groups of a card that may be under way, menu choices included.
    gap: bool,
}

/// The classifier of one call.
#[derive(Debug)]
pub struct Classifier {
    settings: Settings,
    state: State,
    /// Remembered keys, then withheld ones.
    keys: Digits,
    gaps_ms: [u16; MAX_DIGITS],
    suspicion: Suspicion,
    /// How many of them are remembered only.
    remembered: usize,
    /// How long the remembered keys are, after the last key.
    memory: Duration,
    /// Whether the remembered keys are menu choices.
    menu: bool,
    /// How many of the first keys are menu choices before a number.
    choices: usize,
    /// How many of the first keys are entries that ended with `#` and may be a card's first groups.
    groups: usize,
    /// When the first of the keys was pressed.
    began: Option<Instant>,
    /// When the last key was pressed.
    last: Option<Instant>,
    /// The longest a key took from the finger to here; so much longer is waited for the next one.
    lag: Duration,
}

impl Classifier {
    /// A classifier that has heard nothing.
    pub fn new(settings: Settings) -> Self {
        let leading = settings.leading.min(LEADING_MOST);
        let number_quiet = settings.number_quiet.max(settings.quiet);
        let payment = settings.payment.max(MEMORY);
        Self {
            settings: Settings { leading, number_quiet, payment, ..settings },
            state: State::Watching,
            keys: Digits::new(),
            gaps_ms: [0; MAX_DIGITS],
            suspicion: Suspicion::default(),
            remembered: 0,
            memory: Duration::ZERO,
            menu: false,
            choices: 0,
            groups: 0,
            began: None,
            last: None,
            lag: Duration::ZERO,
        }
    }

    /// Whether a payment is under way, and the detector's holds are wanted.
    pub fn in_payment(&self) -> bool {
        self.state == State::Payment
    }

    /// When the first of the keys was pressed that are judged together, remembered ones included.
    pub fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Digits of the longest card that may be under way.
    pub fn suspected(&self) -> usize {
        self.suspicion.card.max(self.suspicion.grouped)
    }

    /// How many keys are withheld.
    pub fn withheld(&self) -> usize {
        self.keys.len() - self.remembered
    }

    /// The customer pressed a key at `at`, and it is known `now`. The rhythm is that of the finger, whatever the way of a
    /// key to here took; that it is known late puts nothing off that was due before.
    pub fn handle_digit(&mut self, now: Instant, at: Instant, digit: &Digit) -> Actions {
        // First the lag, so that nothing is decided that this key came in time for.
        self.lag = self.lag.max(now.saturating_duration_since(at)).min(LAG_MOST);
        let mut actions = self.handle_timeout(now);
        let at = self.last.map_or(at, |last| at.max(last)).min(now);
        let gap = self.last.map_or(Duration::MAX, |last| at.saturating_duration_since(last));
        self.last = Some(at);
        self.began = self.began.or(Some(at));
        if !self.keep(digit, gap) {
            // More keys than any number has, with `*` or `#` between them.
            actions.push(Action::Wipe(self.withheld()));
            self.forget();
            self.began = Some(at);
            let _ = self.keep(digit, gap);
        }
        let suspicion = self.suspicion;
        match self.state {
            State::Payment => {}
            State::Watching if suspicion.card.max(suspicion.grouped) >= LIKELY || suspicion.row >= LONG => {
                self.state = State::Payment;
                actions.push(Action::Take);
            }
            State::Watching => {
                if self.due().is_some_and(|at| at <= now) {
                    self.decide(&mut actions);
                }
            }
        }
        actions
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Actions {
        let mut actions = Actions::new();
        while let Some(due) = self.poll_timeout()
            && due <= now
        {
            self.decide(&mut actions);
        }
        actions
    }

    /// When [`Classifier::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due()
    }

    /// The payment is over by somebody's word; what is withheld is wiped.
    pub fn end_payment(&mut self) -> Actions {
        let mut actions = Actions::new();
        if self.in_payment() {
            actions.push(Action::GiveBack);
        }
        self.reset();
        actions
    }

    /// Somebody else takes the customer's keys now: what is withheld is wiped, nothing is remembered, no payment is
    /// under way. Gives how many keys were wiped.
    pub fn reset(&mut self) -> usize {
        let wiped = self.withheld();
        self.forget();
        self.state = State::Watching;
        self.last = None;
        wiped
    }

    /// Somebody else had the customer's keys: what follows may be the rest of a card, or its security code, and nothing
    /// here can tell. Treated as a payment until it has been quiet long enough.
    pub fn taken_over(&mut self, now: Instant) {
        self.reset();
        self.state = State::Payment;
        self.last = Some(now);
    }

    fn forget(&mut self) {
        self.keys.clear();
        self.began = None;
        self.suspicion = Suspicion::default();
        self.remembered = 0;
        self.menu = false;
        self.choices = 0;
        self.groups = 0;
    }

    /// Appends a key, and tells menu choices from the number that follows them.
    fn keep(&mut self, digit: &Digit, gap: Duration) -> bool {
        let place = self.keys.len();
        if !self.keys.push(digit) {
            return false;
        }
        self.gaps_ms[place] = u16::try_from(gap.as_millis()).unwrap_or(u16::MAX);
        let pause = Duration::from_millis(u64::from(self.gaps_ms[self.remembered]));
        if self.menu && self.withheld() > MENU && pause >= self.settings.number_quiet {
            self.choices = self.remembered;
        }
        self.suspicion = self.suspect();
        true
    }

    /// A copy of the keys from `place` on.
    fn take(&self, place: usize) -> Run {
        let mut run = Run { keys: Digits::new(), gaps_ms: [0; MAX_DIGITS] };
        for (at, key) in self.keys.expose()[place..].iter().enumerate() {
            if let Some(digit) = Digit::from_char(*key as char) {
                let _ = run.keys.push(&digit);
                run.gaps_ms[at] = self.gaps_ms[place + at];
            }
        }
        run
    }

    /// Whether the last key says that the number is over.
    fn ended(&self) -> bool {
        self.keys.expose().last() == Some(&b'#')
    }

    fn suspect(&self) -> Suspicion {
        let keys = self.keys.expose();
        let mut digits = [0u8; MAX_DIGITS];
        let (mut count, mut row, mut grouped) = (0, 0, 0);
        let mut starts: SmallVec<[(usize, bool); 8]> = SmallVec::new();
        let mut groups: SmallVec<[usize; 16]> = SmallVec::new();
        let mut fresh = true;
        for (place, (key, gap)) in keys.iter().zip(self.gaps_ms).enumerate() {
            if place == self.groups {
                (row, grouped) = (0, count);
            }
            if !key.is_ascii_digit() {
                if !fresh && *key != b'#' {
                    // Cleared, or something else: groups begin anew.
                    groups.clear();
                }
                fresh = true;
                continue;
            }
            let gap = Duration::from_millis(u64::from(gap));
            let after_choice = gap >= BREAK && count <= MENU;
            if fresh || gap >= self.settings.quiet || after_choice {
                starts.push((count, place < self.choices));
            }
            match groups.last_mut() {
                Some(group) if !fresh => *group += 1,
                _ => groups.push(1),
            }
            row = if gap >= self.settings.number_quiet { 1 } else { row + 1 };
            fresh = false;
            digits[count] = *key;
            count += 1;
        }
        let mut suspicion = Suspicion { row, ..Suspicion::default() };
        for (start, choice) in starts {
            // Entries of before count by their groups only.
            let digits = &digits[start..count];
            if digits.is_empty() || (start < grouped && self.groups > 0) {
                continue;
            }
            let begins = brands::may_become_card(digits);
            suspicion.long |= begins && choice && digits.len() > LEADING_MOST;
            suspicion.gap |= begins && digits.len() > LEADING_MOST && brands::ends_a_group(digits);
            if brands::is_card(digits) || (!choice && begins) {
                suspicion.card = suspicion.card.max(digits.len());
            }
        }
        let ended = self.ended();
        for first in 0..groups.len() {
            let from = count - groups[first..].iter().sum::<usize>();
            if brands::may_be_read_from_a_card(&digits[from..count], &groups[first..], ended) {
                suspicion.first_group |= groups.len() - first == 1;
                if groups.len() - first > 1 {
                    suspicion.grouped = suspicion.grouped.max(count - from);
                }
            }
        }
        zeroize::Zeroize::zeroize(&mut digits);
        suspicion
    }

    /// How long after the last key the withheld keys are decided on, and whether they may then go.
    fn patience(&self) -> (Duration, bool) {
        let Settings { quiet, number_quiet, leading, long_quiet, .. } = self.settings;
        let short = self.withheld() <= leading.max(1);
        let Suspicion { card, grouped, first_group, long, gap, .. } = self.suspicion;
        let leading = if long { 0 } else { leading };
        match (card, self.ended()) {
            // The next group of a card whose groups end with `#`.
            _ if grouped > LEADING_MOST => (MEMORY, false),
            // Behind menu choices that may have been a card's first keys.
            (_, false) if gap && self.choices > 0 => (MEMORY, false),
            (card, true) if card <= leading => (Duration::ZERO, true),
            (card, false) if card <= leading && short => (quiet, true),
            (1..=LEADING_MOST, true) if first_group || grouped > 0 => (number_quiet, true),
            (1..=LEADING_MOST, true) => (quiet, true),
            (0..=LEADING_MOST, false) | (_, true) => (number_quiet, true),
            (_, false) if !gap && long_quiet > Duration::ZERO => (long_quiet.max(number_quiet), true),
            (_, false) => (MEMORY, false),
        }
    }

    fn due(&self) -> Option<Instant> {
        let last = self.last? + self.lag;
        match self.state {
            State::Payment if !self.keys.is_empty() => Some(last + self.settings.number_quiet),
            State::Payment => Some(last + self.settings.payment),
            State::Watching if self.withheld() > 0 => Some(last + self.patience().0),
            State::Watching if self.remembered > 0 => Some(last + self.memory),
            State::Watching => None,
        }
    }

    /// Does what was due.
    fn decide(&mut self, actions: &mut Actions) {
        match self.state {
            State::Payment if !self.keys.is_empty() => {
                actions.push(Action::Wipe(self.withheld()));
                self.forget();
            }
            State::Payment => {
                self.state = State::Watching;
                actions.push(Action::GiveBack);
            }
            State::Watching if self.withheld() == 0 => self.forget(),
            State::Watching => {
                if self.patience().1 {
                    self.release(actions);
                } else {
                    actions.push(Action::Wipe(self.withheld()));
                    self.forget();
                }
            }
        }
    }

    fn release(&mut self, actions: &mut Actions) {
        let short = self.withheld() <= MENU;
        let menu = short && (self.remembered == 0 || self.menu);
        actions.push(Action::Release(self.take(self.remembered)));
        let group = self.suspicion.first_group || self.suspicion.grouped > 0;
        if self.ended() && !group {
            self.forget();
            return;
        }
        if self.ended() {
            self.groups = self.keys.len();
        }
        self.memory = if self.suspicion.card > 0 || self.ended() { MEMORY } else { self.settings.number_quiet };
        self.remembered = self.keys.len();
        self.menu = menu;
    }
}
