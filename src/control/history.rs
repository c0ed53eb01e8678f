//! The events of this node in order, the last few thousand kept, for any number of readers that come and go. `rt/`
//! publishes; server-sent event streams read from where they stopped. A reader that falls behind what is kept is told
//! how much it missed; it never holds anybody up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::base::ids::CallId;
use crate::base::time::WallMs;
use crate::obs::event::{Event, EventKind, RecordingState};
use crate::obs::metrics::Metrics;

/// Events kept for readers that reconnect.
pub const KEPT: usize = 8_192;

/// The event log of a running node. Share it in an `Arc`.
pub struct History {
    /// Distinguishes this run's event ids from those of an earlier one.
    boot: u64,
    kept: usize,
    ring: Mutex<Ring>,
    /// Number of the newest event; the channel closes when the node ends.
    newest: watch::Sender<Newest>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Newest {
    seq: u64,
    closed: bool,
}

struct Ring {
    events: VecDeque<Arc<Event>>,
    next: u64,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Read {
    /// An event, and its id for resuming.
    Event(String, Arc<Event>),
    /// Events that are no longer kept: so many were missed.
    Missed(u64),
}

impl History {
    /// An empty log of a node started at `boot`.
    pub fn new(boot: WallMs, kept: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let ring = Mutex::new(Ring { events: VecDeque::with_capacity(kept.min(KEPT)), next: 1 });
        let newest = watch::Sender::new(Newest { seq: 0, closed: false });
        Arc::new(Self { boot: boot.0, kept: kept.max(1), ring, newest, metrics })
    }

    /// Publishes an event: gives it the next number, counts it in the metrics, wakes the readers.
    pub fn publish(&self, at_ms: WallMs, call: Option<CallId>, kind: EventKind) -> Arc<Event> {
        self.metrics.observe(call, &kind);
        let mut ring = self.ring();
        let event = Arc::new(Event { seq: ring.next, at_ms, call, kind });
        ring.next += 1;
        if ring.events.len() == self.kept {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        let seq = event.seq;
        // Under the lock, so that numbers never go back.
        self.newest.send_modify(|newest| newest.seq = seq);
        drop(ring);
        event
    }

    /// Number of the newest event; 0 when there is none.
    pub fn newest(&self) -> u64 {
        self.newest.borrow().seq
    }

    /// Ends every reader once it has read what there is.
    pub fn close(&self) {
        self.newest.send_modify(|newest| newest.closed = true);
    }

    /// A reader of the events of `call`, or of all. It begins after the event of id `after`; without one, with the
    /// next event that happens. An id of an earlier run, or one that makes no sense, begins with the oldest kept.
    pub fn read(self: &Arc<Self>, call: Option<CallId>, after: Option<&str>) -> Reader {
        let next = match after {
            None => self.ring().next,
            Some(id) => self.seq_of(id).map_or(1, |seq| seq + 1),
        };
        let foreign = after.is_some_and(|id| self.seq_of(id).is_none());
        let ended = call.is_some_and(|call| self.ring().of(call).any(|event| is_end(event)));
        Reader { newest: self.newest.subscribe(), history: self.clone(), call, next, foreign, ended, done: false }
    }

    /// The events of `call` that are kept, oldest first.
    pub fn of_call(&self, call: CallId) -> Vec<Arc<Event>> {
        self.ring().of(call).cloned().collect()
    }

    fn seq_of(&self, id: &str) -> Option<u64> {
        let (boot, seq) = id.split_once('.')?;
        let seq: u64 = seq.parse().ok()?;
        (boot.parse() == Ok(self.boot) && seq < self.ring().next).then_some(seq)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while publishing leaves the ring whole: it is changed in single steps.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn of(&self, call: CallId) -> impl Iterator<Item = &Arc<Event>> {
        self.events.iter().filter(move |event| event.call == Some(call))
    }

    /// Whether nothing more will happen to a call that has ended: its media have been told, its recording is
    /// closed, no payment waits for its provider.
    fn is_over(&self, call: CallId) -> bool {
        let (mut answered, mut media, mut recording, mut paying) = (false, false, false, false);
        for event in self.of(call) {
            match &event.kind {
                EventKind::CallAnswered => answered = true,
                EventKind::CallMedia { .. } => media = true,
                EventKind::PaymentSubmitted { .. } => paying = true,
                EventKind::PaymentUpdated { .. } | EventKind::PaymentEnded { .. } => paying = false,
                EventKind::Recording { state, .. } => {
                    recording = !matches!(state, RecordingState::Closed | RecordingState::Failed);
                }
                _ => {}
            }
        }
        (media || !answered) && !recording && !paying
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.kind, EventKind::CallEnded { .. })
}

/// A place in the log.
pub struct Reader {
    history: Arc<History>,
    newest: watch::Receiver<Newest>,
    call: Option<CallId>,
    next: u64,
    /// The reader came with an id of an earlier run.
    foreign: bool,
    /// The one call it follows has ended; the last things about it may still come.
    ended: bool,
    done: bool,
}

impl Reader {
    /// The next event; waits for it. `None` when the node ends, or when the one call it follows has ended, its media
    /// have been counted and its recording is closed.
    pub async fn next(&mut self) -> Option<Read> {
        loop {
            if self.done {
                return None;
            }
            // Marked as seen before reading: what is published in between wakes us again.
            let newest = *self.newest.borrow_and_update();
            if let Some(read) = self.ready() {
                return Some(read);
            }
            if self.done || newest.closed || self.newest.changed().await.is_err() {
                return None;
            }
        }
    }

    fn ready(&mut self) -> Option<Read> {
        let ring = self.history.ring();
        let oldest = ring.events.front().map_or(ring.next, |event| event.seq);
        if std::mem::take(&mut self.foreign) || self.next < oldest {
            let missed = oldest - self.next.min(oldest);
            self.next = oldest;
            return Some(Read::Missed(missed));
        }
        let skip = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let wanted = |event: &&Arc<Event>| self.call.is_none() || event.call == self.call;
        let Some(event) = ring.events.iter().skip(skip).find(wanted) else {
            self.next = ring.next;
            self.done = self.ended && self.call.is_some_and(|call| ring.is_over(call));
            return None;
        };
        self.next = event.seq + 1;
        self.ended |= self.call.is_some() && is_end(event);
        Some(Read::Event(format!("{}.{}", self.history.boot, event.seq), event.clone()))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::base::Random;

    fn history(kept: usize) -> Arc<History> {
        History::new(WallMs(77), kept, Arc::new(Metrics::new()))
    }

    fn keys(history: &History, call: Option<CallId>, count: std::ops::Range<u32>) {
        for count in count {
            history.publish(WallMs(1), call, EventKind::KeyMasked { count });
        }
    }

    async fn ids(reader: &mut Reader, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            match reader.next().await {
                Some(Read::Event(id, _)) => ids.push(id),
                Some(Read::Missed(missed)) => ids.push(format!("missed {missed}")),
                None => ids.push("end".into()),
            }
        }
        ids
    }

    #[tokio::test]
    async fn a_reader_resumes_after_the_id_it_names() {
        let history = history(100);
        keys(&history, None, 0..5);
        let mut reader = history.read(None, Some("77.3"));
        assert_eq!(ids(&mut reader, 2).await, ["77.4", "77.5"]);
        let mut live = history.read(None, None);
        keys(&history, None, 5..6);
        assert_eq!(ids(&mut live, 1).await, ["77.6"]);
    }

    #[tokio::test]
    async fn what_is_no_longer_kept_is_told_as_missed() {
        let history = history(4);
        keys(&history, None, 0..10);
        let mut reader = history.read(None, Some("77.2"));
        assert_eq!(ids(&mut reader, 3).await, ["missed 4", "77.7", "77.8"]);
        for foreign in ["12.3", "77.999", "x", "77."] {
            let mut reader = history.read(None, Some(foreign));
            assert_eq!(ids(&mut reader, 2).await[1], "77.7", "{foreign}");
        }
    }

    #[tokio::test]
    async fn a_call_reader_sees_its_call_and_ends_with_it() {
        let history = history(100);
        let mut random = Random::seed_from_u64(1);
        let (mine, other) = (CallId::draw(&mut random), CallId::draw(&mut random));
        keys(&history, Some(other), 0..2);
        let mut reader = history.read(Some(mine), Some("77.0"));
        keys(&history, Some(mine), 0..1);
        keys(&history, Some(other), 2..4);
        let cause = crate::obs::event::EndCause::AgentHungUp;
        history.publish(WallMs(1), Some(mine), EventKind::CallEnded { cause, status: None, talk_ms: 0 });
        assert_eq!(ids(&mut reader, 3).await, ["77.3", "77.6", "end"]);
        assert_eq!(history.of_call(mine).len(), 2);
    }

    #[tokio::test]
    async fn a_call_reader_waits_for_the_last_things_of_an_answered_call() {
        let history = history(100);
        let mut random = Random::seed_from_u64(2);
        let call = Some(CallId::draw(&mut random));
        let recording = crate::base::ids::RecordingId::draw(&mut random);
        let publish = |kind| history.publish(WallMs(1), call, kind);
        let mut reader = history.read(call, None);
        publish(EventKind::CallAnswered);
        publish(EventKind::Recording { recording, state: RecordingState::Recording });
        let cause = crate::obs::event::EndCause::AgentHungUp;
        publish(EventKind::CallEnded { cause, status: None, talk_ms: 0 });
        assert_eq!(ids(&mut reader, 3).await, ["77.1", "77.2", "77.3"]);
        let totals = crate::obs::event::LegTotals {
            received: 1,
            sent: 1,
            foreign: 0,
            malformed: 0,
            lost: 0,
            unauthentic: 0,
            replayed: 0,
        };
        publish(EventKind::CallMedia { customer: totals, agent: totals });
        publish(EventKind::Recording { recording, state: RecordingState::Closed });
        assert_eq!(ids(&mut reader, 3).await, ["77.4", "77.5", "end"]);
        let mut late = history.read(call, Some("77.5"));
        assert_eq!(ids(&mut late, 1).await, ["end"]);
    }

    #[tokio::test]
    async fn closing_ends_readers_after_what_they_have_not_read() {
        let history = history(100);
        let mut reader = history.read(None, None);
        keys(&history, None, 0..1);
        history.close();
        assert_eq!(ids(&mut reader, 2).await, ["77.1", "end"]);
    }
}
