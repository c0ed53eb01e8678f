//! When which letter goes to which receiver. Events, results and the time go in; tries, orders for the disk and the list
//! of dead letters come out. It opens nothing and reads no clock.
//!
//! ```text
//!            event: kept on disk   2xx ─► gone
//!   (none) ────────► waiting ─► sending
//!                       ▲          │ anything else, tries left: waits longer each time
//!                       ├──────────┤
//!                replay │          │ no tries left, or 410 Gone
//!                       └── dead ◄─┘ ── forgotten by the API, or by newer ones ─► gone
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt;

use super::letter::{DeadLetter, Failure, Letter};
use super::sign::sign;
use crate::base::Random;
use crate::base::time::{WallMs, soonest};
use crate::config::Webhook;
use crate::obs::event::Event;

/// How long after each failed try the next one follows, give or take a fifth.
pub const PAUSES: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(6 * 3_600),
    Duration::from_secs(12 * 3_600),
];

/// The longest a receiver may ask us to wait.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);

/// Tries to one receiver at once.
const AT_ONCE: usize = 8;

/// The most letters that wait for one receiver; the oldest beyond them are dead.
pub const MOST_WAITING: usize = 10_000;

/// The most dead letters that are kept.
pub const MOST_DEAD: usize = 10_000;

/// One try, to be made at once.
#[derive(Debug, Clone)]
pub struct Try {
    /// To be given back with the result.
    pub ticket: u64,
    /// Which receiver.
    pub endpoint: usize,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`: seconds since 1970-01-01 UTC.
    pub timestamp_s: u64,
    /// `webhook-signature`.
    pub signature: String,
    /// Body.
    pub body: String,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// 2xx.
    Delivered,
    /// Anything else, and how long the receiver asks us to wait.
    Failed(Failure, Option<Duration>),
}

/// An order for the disk.
#[derive(Debug, Clone)]
pub enum Keep {
    /// Keep this letter, in place of an older version.
    Write(Letter),
    /// Forget the letter of this name.
    Remove(String),
}

enum State {
    Waiting(Instant),
    Sending,
    Dead,
}

struct Entry {
    letter: Letter,
    endpoint: usize,
    state: State,
    /// It lies on disk.
    kept: bool,
}

struct Lane {
    hook: Webhook,
    waiting: BTreeSet<(Instant, u64)>,
    /// The same by age: tickets count up.
    by_age: BTreeMap<u64, Instant>,
    sending: usize,
}

impl Lane {
    fn enter(&mut self, at: Instant, ticket: u64) {
        self.waiting.insert((at, ticket));
        self.by_age.insert(ticket, at);
    }

    fn leave(&mut self, at: Instant, ticket: u64) {
        self.waiting.remove(&(at, ticket));
        self.by_age.remove(&ticket);
    }
}

/// The schedule of all receivers.
pub struct Schedule {
    lanes: Vec<Lane>,
    entries: BTreeMap<u64, Entry>,
    dead: usize,
    next: u64,
    keep: VecDeque<Keep>,
    random: Random,
}

impl Schedule {
    /// A schedule for these receivers.
    pub fn new(hooks: &[Webhook], random: Random) -> Self {
        let lane =
            |hook: &Webhook| Lane { hook: hook.clone(), waiting: BTreeSet::new(), by_age: BTreeMap::new(), sending: 0 };
        Self {
            lanes: hooks.iter().map(lane).collect(),
            entries: BTreeMap::new(),
            dead: 0,
            next: 0,
            keep: VecDeque::new(),
            random,
        }
    }

    /// Takes a letter that an earlier run left on disk: what was alive is tried again. `false`: nobody of that name
    /// receives any more; it is left where it is.
    pub fn restore(&mut self, now: Instant, letter: Letter) -> bool {
        let Some(endpoint) = self.lanes.iter().position(|lane| lane.hook.name == letter.endpoint) else { return false };
        let state = if letter.dead { State::Dead } else { State::Waiting(now) };
        self.insert(Entry { letter, endpoint, state, kept: true });
        true
    }

    /// An event happened; `id` is its id in the event log.
    pub fn handle_event(&mut self, now: Instant, id: &str, event: &Event) {
        let kind = kind_of(event);
        for endpoint in 0..self.lanes.len() {
            let hook = &self.lanes[endpoint].hook;
            if hook.wants(&kind) {
                let letter = Letter::new(&hook.name, id, &kind, event);
                let ticket = self.insert(Entry { letter, endpoint, state: State::Waiting(now), kept: false });
                self.write(ticket);
                self.shed(endpoint);
            }
        }
    }

    /// The next try that is due; ask until there is none.
    pub fn poll_try(&mut self, now: Instant, wall: WallMs) -> Option<Try> {
        for (endpoint, lane) in self.lanes.iter_mut().enumerate() {
            let Some((at, ticket)) = lane.waiting.first().copied() else { continue };
            if at > now || lane.sending >= AT_ONCE {
                continue;
            }
            lane.leave(at, ticket);
            let Some(entry) = self.entries.get_mut(&ticket) else { continue };
            entry.state = State::Sending;
            entry.letter.tries += 1;
            lane.sending += 1;
            let (id, body) = (entry.letter.id.clone(), entry.letter.body.clone());
            let timestamp_s = wall.0 / 1_000;
            let mut signature = sign(&lane.hook.key, &id, timestamp_s, &body);
            if let Some(former) = &lane.hook.former {
                signature = format!("{signature} {}", sign(former, &id, timestamp_s, &body));
            }
            return Some(Try { ticket, endpoint, id, timestamp_s, signature, body });
        }
        None
    }

    /// A try came to its end.
    pub fn handle_result(&mut self, now: Instant, ticket: u64, result: Result) {
        let Some(entry) = self.entries.get_mut(&ticket).filter(|entry| matches!(entry.state, State::Sending)) else {
            return;
        };
        self.lanes[entry.endpoint].sending -= 1;
        match result {
            Result::Delivered => self.remove(ticket),
            Result::Failed(failure, asked) => {
                entry.letter.last = Some(failure);
                let tries = usize::try_from(entry.letter.tries).unwrap_or(usize::MAX);
                let pause = PAUSES.get(tries.saturating_sub(1)).filter(|_| failure != Failure::Status(410));
                match pause {
                    None => self.bury(ticket),
                    Some(pause) => {
                        let pause = pause.mul_f64(self.random.random_range(0.8..1.2));
                        let at = now + asked.unwrap_or_default().min(LONGEST_ASKED).max(pause);
                        self.wait(ticket, at);
                        self.write(ticket);
                    }
                }
            }
        }
    }

    /// When [`Schedule::poll_try`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let open = self.lanes.iter().filter(|lane| lane.sending < AT_ONCE);
        open.fold(None, |soon, lane| soonest(soon, lane.waiting.first().map(|(at, _)| *at)))
    }

    /// The next order for the disk.
    pub fn poll_keep(&mut self) -> Option<Keep> {
        self.keep.pop_front()
    }

    /// The node ends: everything that is not delivered goes to the disk.
    pub fn close(&mut self) {
        let unkept: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| !entry.kept).map(|(ticket, _)| *ticket).collect();
        for ticket in unkept {
            self.write(ticket);
        }
    }

    /// Dead letters, oldest first.
    pub fn dead(&self) -> Vec<DeadLetter> {
        let dead = self.entries.values().filter(|entry| matches!(entry.state, State::Dead));
        dead.map(|entry| DeadLetter::from(&entry.letter)).collect()
    }

    /// Dead letters of each receiver.
    pub fn dead_counts(&self) -> Vec<(String, usize)> {
        let mut counts = vec![0; self.lanes.len()];
        if self.dead > 0 {
            self.entries.values().filter(|entry| is_dead(entry)).for_each(|entry| counts[entry.endpoint] += 1);
        }
        self.lanes.iter().map(|lane| lane.hook.name.clone()).zip(counts).collect()
    }

    /// Names of the receivers, and how many letters wait for each or are on their way.
    pub fn receivers(&self) -> Vec<(String, usize)> {
        self.lanes.iter().map(|lane| (lane.hook.name.clone(), lane.waiting.len() + lane.sending)).collect()
    }

    /// Tries a dead letter again, from the beginning of its pauses.
    pub fn replay(&mut self, now: Instant, name: &str) -> bool {
        let found = self.entries.iter().find(|(_, entry)| is_dead(entry) && entry.letter.name() == name);
        let Some(ticket) = found.map(|(ticket, _)| *ticket) else { return false };
        self.revive(now, ticket);
        true
    }

    /// Tries every dead letter of a receiver again; how many. `None`: there is no such receiver.
    pub fn replay_all(&mut self, now: Instant, endpoint: &str) -> Option<usize> {
        self.lanes.iter().find(|lane| lane.hook.name == endpoint)?;
        let of = |entry: &Entry| is_dead(entry) && entry.letter.endpoint == endpoint;
        let tickets: Vec<u64> = self.entries.iter().filter(|(_, entry)| of(entry)).map(|(ticket, _)| *ticket).collect();
        for ticket in &tickets {
            self.revive(now, *ticket);
        }
        Some(tickets.len())
    }

    /// Forgets a dead letter.
    pub fn forget(&mut self, name: &str) -> bool {
        let found = self.entries.iter().find(|(_, entry)| is_dead(entry) && entry.letter.name() == name);
        let Some(ticket) = found.map(|(ticket, _)| *ticket) else { return false };
        self.remove(ticket);
        true
    }

    fn insert(&mut self, entry: Entry) -> u64 {
        let ticket = self.next;
        self.next += 1;
        match entry.state {
            State::Waiting(at) => {
                self.lanes[entry.endpoint].enter(at, ticket);
            }
            State::Dead => self.dead += 1,
            State::Sending => {}
        }
        self.entries.insert(ticket, entry);
        ticket
    }

    fn wait(&mut self, ticket: u64, at: Instant) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Waiting(at);
            self.lanes[entry.endpoint].enter(at, ticket);
        }
    }

    fn revive(&mut self, now: Instant, ticket: u64) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            (entry.letter.dead, entry.letter.tries) = (false, 0);
            self.dead -= 1;
            self.wait(ticket, now);
            self.write(ticket);
        }
    }

    fn bury(&mut self, ticket: u64) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Dead;
            entry.letter.dead = true;
            self.dead += 1;
            self.write(ticket);
        }
        if self.dead > MOST_DEAD {
            let oldest = self.entries.iter().find(|(_, entry)| is_dead(entry)).map(|(ticket, _)| *ticket);
            oldest.into_iter().for_each(|ticket| self.remove(ticket));
        }
    }

    /// The oldest letters of a receiver for which too many wait are dead.
    fn shed(&mut self, endpoint: usize) {
        while self.lanes[endpoint].waiting.len() > MOST_WAITING {
            let Some((ticket, at)) = self.lanes[endpoint].by_age.first_key_value().map(|(t, at)| (*t, *at)) else {
                return;
            };
            self.lanes[endpoint].leave(at, ticket);
            if let Some(entry) = self.entries.get_mut(&ticket) {
                entry.letter.last = Some(Failure::Overflow);
            }
            self.bury(ticket);
        }
    }

    fn write(&mut self, ticket: u64) {
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.kept = true;
            self.keep.push_back(Keep::Write(entry.letter.clone()));
        }
    }

    fn remove(&mut self, ticket: u64) {
        let Some(entry) = self.entries.remove(&ticket) else { return };
        if is_dead(&entry) {
            self.dead -= 1;
        }
        if entry.kept {
            self.keep.push_back(Keep::Remove(entry.letter.name()));
        }
    }
}

fn is_dead(entry: &Entry) -> bool {
    matches!(entry.state, State::Dead)
}

/// The type of an event as it stands in its JSON.
fn kind_of(event: &Event) -> String {
    let kind = serde_json::to_value(&event.kind).ok();
    kind.and_then(|kind| kind.get("type")?.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
