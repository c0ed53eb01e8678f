//! Which spill is forwarded next, and when. What waits for each recorder, what became of each try and the time go in; the next
//! to begin comes out. It knows neither sessions nor sound, and is told whether a recorder can be asked at all. Each spill is
//! given out to one at a time, the oldest first; one that failed comes after those that did not.
//!
//! ```text
//!              ┌────────────── rested ───────────────┐
//!  listed ─► ready ── begun ─► active ── failed ─► resting: 5, 10, … s, at most an hour
//!                                │                    the recorder's fault: it gets none for 5, 10, … 300 s
//!                                └── done, gone ─► forgotten
//! ```

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::base::Random;
use crate::base::ids::RecordingId;
use crate::base::time::{WallMs, soonest};

/// The wait after the first failure; it doubles.
const FIRST: Duration = Duration::from_secs(5);
/// The longest that a recorder gets none.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest that one spill rests.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// How soon a recorder that could not be asked is looked at again.
const CHECK: Duration = Duration::from_secs(1);

/// Whose fault a try was that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The recorder refused or lost the session.
    Recorder,
    /// The recording could not be read.
    Recording,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Active,
    Resting(Instant, Fault),
}

#[derive(Debug)]
struct Item {
    started: WallMs,
    fails: u32,
    state: State,
}

/// What waits for one recorder.
#[derive(Debug, Default)]
struct Queue {
    /// Sessions at once; 0: nothing is forwarded to it.
    most: usize,
    items: HashMap<RecordingId, Item>,
    ready: BTreeSet<(u32, WallMs, RecordingId)>,
    resting: BTreeSet<(Instant, RecordingId)>,
    active: usize,
    fails: u32,
    /// It gets none before.
    rest_until: Option<Instant>,
    /// It could not be asked, and is not looked at before.
    check_at: Option<Instant>,
}

/// What waits for all recorders of a node, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Spills {
    queues: Vec<Queue>,
    of: HashMap<RecordingId, usize>,
    stopped: bool,
}

impl Spills {
    /// Nothing waits. `most`: how many sessions each recorder may have at once; 0: it gets none.
    pub fn new(most: impl IntoIterator<Item = usize>) -> Self {
        let queues = most.into_iter().map(|most| Queue { most, ..Queue::default() }).collect();
        Self { queues, ..Self::default() }
    }

    /// One more waits.
    pub fn handle_one(&mut self, recorder: usize, started: WallMs, recording: RecordingId) {
        let Some(queue) = self.queues.get_mut(recorder).filter(|queue| queue.most > 0) else { return };
        if self.of.contains_key(&recording) {
            return;
        }
        self.of.insert(recording, recorder);
        queue.items.insert(recording, Item { started, fails: 0, state: State::Ready });
        queue.ready.insert((0, started, recording));
    }

    /// All that wait for a recorder now; gives those that do not any more. What is active is left to its end.
    pub fn handle_all(&mut self, recorder: usize, all: &[(WallMs, RecordingId)]) -> Vec<RecordingId> {
        let Some(queue) = self.queues.get(recorder) else { return Vec::new() };
        let there: BTreeSet<RecordingId> = all.iter().map(|(_, recording)| *recording).collect();
        let idle = queue.items.iter().filter(|(_, item)| item.state != State::Active);
        let mut gone: Vec<RecordingId> = idle.map(|(id, _)| *id).filter(|id| !there.contains(id)).collect();
        gone.sort_unstable();
        for recording in &gone {
            self.handle_gone(*recording);
        }
        for (started, recording) in all {
            self.handle_one(recorder, *started, *recording);
        }
        gone
    }

    /// A recorder has got one.
    pub fn handle_done(&mut self, recording: RecordingId) {
        let Some(recorder) = self.of.get(&recording).copied() else { return };
        self.handle_gone(recording);
        let queue = &mut self.queues[recorder];
        (queue.fails, queue.rest_until, queue.check_at) = (0, None, None);
        // It takes them again: nobody rests for its sake any more.
        let theirs = |item: &Item| matches!(item.state, State::Resting(_, Fault::Recorder));
        let rested: Vec<RecordingId> = queue.items.iter().filter(|(_, item)| theirs(item)).map(|(id, _)| *id).collect();
        rested.into_iter().for_each(|recording| queue.wake(recording));
    }

    /// One is not to be forwarded any more.
    pub fn handle_gone(&mut self, recording: RecordingId) {
        let Some(recorder) = self.of.remove(&recording) else { return };
        let queue = &mut self.queues[recorder];
        let Some(item) = queue.items.remove(&recording) else { return };
        match item.state {
            State::Ready => drop(queue.ready.remove(&(item.fails, item.started, recording))),
            State::Active => queue.active -= 1,
            State::Resting(at, _) => drop(queue.resting.remove(&(at, recording))),
        }
    }

    /// A try failed; gives how long the spill rests.
    pub fn handle_failed(
        &mut self,
        now: Instant,
        random: &mut Random,
        recording: RecordingId,
        fault: Fault,
    ) -> Option<Duration> {
        let queue = self.of.get(&recording).and_then(|recorder| self.queues.get_mut(*recorder))?;
        let item = queue.items.get_mut(&recording).filter(|item| item.state == State::Active)?;
        queue.active -= 1;
        // Those that failed together do not come back together.
        let mut rest = |fails: u32, most: Duration| {
            let wait = FIRST.saturating_mul(1 << fails.saturating_sub(1).min(16)).min(most);
            wait.mul_f64(random.random_range(0.8..1.2))
        };
        if fault == Fault::Recorder {
            queue.fails += 1;
            queue.rest_until = Some(now + rest(queue.fails, LONGEST));
        }
        item.fails += 1;
        let wait = rest(item.fails, LONGEST_REST);
        item.state = State::Resting(now + wait, fault);
        queue.resting.insert((now + wait, recording));
        Some(wait)
    }

    /// Nothing is begun any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next to begin, and its recorder; it counts as active from now on. `may` says whether a recorder can be asked now.
    pub fn poll(&mut self, now: Instant, may: &mut dyn FnMut(usize) -> bool) -> Option<(usize, RecordingId)> {
        if self.stopped {
            return None;
        }
        for (recorder, queue) in self.queues.iter_mut().enumerate() {
            while let Some((at, recording)) = queue.resting.first().copied().filter(|(at, _)| *at <= now) {
                queue.resting.remove(&(at, recording));
                queue.wake(recording);
            }
            let later = |at: Option<Instant>| at.is_some_and(|at| now < at);
            if queue.active >= queue.most || queue.ready.is_empty() || later(queue.rest_until) || later(queue.check_at)
            {
                continue;
            }
            if !may(recorder) {
                queue.check_at = Some(now + CHECK);
                continue;
            }
            let Some((_, _, recording)) = queue.ready.pop_first() else { continue };
            let Some(item) = queue.items.get_mut(&recording) else { continue };
            item.state = State::Active;
            queue.active += 1;
            return Some((recorder, recording));
        }
        None
    }

    /// When [`Spills::poll`] may give one that it did not give before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let open = self.queues.iter().filter(|queue| !self.stopped && queue.active < queue.most);
        let soon = |queue: &Queue| {
            let bar = queue.rest_until.max(queue.check_at);
            let ready = if queue.ready.is_empty() { None } else { bar };
            let rested = queue.resting.first().map(|(at, _)| *at).max(bar).filter(|_| !queue.resting.is_empty());
            soonest(ready, rested)
        };
        open.map(soon).fold(None, soonest)
    }

    /// The recorder of one that was begun and whose end is not known.
    pub fn begun(&self, recording: RecordingId) -> Option<usize> {
        let recorder = self.of.get(&recording).copied()?;
        let item = self.queues.get(recorder)?.items.get(&recording)?;
        (item.state == State::Active).then_some(recorder)
    }

    /// How many wait for a recorder, those included that are being sent; and how many these are.
    pub fn counts(&self, recorder: usize) -> (usize, usize) {
        self.queues.get(recorder).map_or((0, 0), |queue| (queue.items.len(), queue.active))
    }
}

impl Queue {
    /// One has rested.
    fn wake(&mut self, recording: RecordingId) {
        let Some(item) = self.items.get_mut(&recording) else { return };
        if let State::Resting(at, _) = item.state {
            self.resting.remove(&(at, recording));
        }
        item.state = State::Ready;
        self.ready.insert((item.fails, item.started, recording));
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
