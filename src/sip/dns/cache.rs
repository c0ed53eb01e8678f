//! Answers and how long they hold: positive ones for their time to live, negative ones for a while, stale ones while
//! nobody answers. A question is asked when it is first looked up, again when its answer has run out, and again after a
//! growing pause when nobody answers.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Answer, Question, Records};

/// Bounds of a time to live: no answer is asked for more often, none is trusted longer.
const TTL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3_600));
/// The longest that "nothing" is believed.
const NOTHING: Duration = Duration::from_secs(300);
/// The pause after a failure: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long what was known is used while nobody answers.
const STALE: Duration = Duration::from_secs(86_400);
/// How long a question nobody looks up any more is kept.
const UNUSED: Duration = Duration::from_secs(7_200);
/// How long an answer may take; then the question counts as failed.
const LATE: Duration = Duration::from_secs(30);

/// What is known of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Records.
    Records(Records),
    /// That there are none.
    Nothing,
    /// Not yet anything.
    NotYet,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// When it is to be asked for again.
    ask_at: Instant,
    /// Until when it may be used though nobody answers.
    stale: Instant,
    asked: bool,
    failures: u32,
    used: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, Entry>,
    questions: VecDeque<Question>,
}

impl Cache {
    /// What is known now; asks where nothing is.
    pub(super) fn look_up(&mut self, now: Instant, question: Question) -> Known {
        if let Some(entry) = self.entries.get_mut(&question) {
            entry.used = now;
            if now >= entry.stale {
                entry.known = Known::Nothing;
            }
            return entry.known.clone();
        }
        self.questions.push_back(question.clone());
        let entry =
            Entry { known: Known::NotYet, ask_at: now + LATE, stale: now + STALE, asked: true, failures: 0, used: now };
        self.entries.insert(question, entry);
        Known::NotYet
    }

    pub(super) fn take(&mut self, now: Instant, question: &Question, answer: Answer) {
        // An answer to what was never asked changes nothing.
        let Some(entry) = self.entries.get_mut(question).filter(|entry| entry.asked) else { return };
        entry.asked = false;
        let (known, holds) = match answer {
            Answer::Found(records, ttl) if !records.is_empty() => (Known::Records(records), ttl.clamp(TTL.0, TTL.1)),
            Answer::Found(_, ttl) | Answer::Nothing(ttl) => (Known::Nothing, ttl.clamp(TTL.0, NOTHING)),
            Answer::Failed => {
                let pause = RETRY.0 * 2_u32.pow(entry.failures.min(8));
                entry.failures += 1;
                entry.ask_at = now + pause.min(RETRY.1);
                return;
            }
        };
        entry.known = known;
        entry.failures = 0;
        entry.ask_at = now + holds;
        entry.stale = now + holds + STALE;
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (question, entry) in &mut self.entries {
            if entry.ask_at > now {
                continue;
            }
            if entry.asked {
                // The shell lost it.
                entry.failures += 1;
            }
            entry.asked = true;
            entry.ask_at = now + LATE;
            self.questions.push_back(question.clone());
        }
    }

    /// Forgets what nobody looks up any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.used) < UNUSED);
    }

    pub(super) fn poll_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.ask_at).min()
    }
}
