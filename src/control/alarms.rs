//! The alarms of a node: what is wrong and wants a human, raised once and cleared once. Events and once-a-second samples of
//! the node's health go in, as do conditions that others have noticed ([`Board::raise`], [`Board::clear`]); the list that
//! stands, and `alarm-raised` and `alarm-cleared` events come out. It reads no clock and asks nobody.
//!
//! ```text
//!            raise                      again: counted, told once a minute
//!   (none) ─────────► stands ───────────────────────────────┐
//!      ▲                 │  ▲                               │
//!      │                 │  └───────────────────────────────┘
//!      └─────────────────┘
//!        its cause is gone, or somebody settled it by hand (only kinds whose end the node cannot see)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::history::History;
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::call::{TargetState, TrunkState, TrunkView};
use crate::obs::alarm::{Alarm, AlarmEnd, AlarmKind, Severity};
use crate::obs::event::{Event, EventKind, RecorderState, RecordingState};
use crate::obs::metrics::Metrics;
use crate::obs::payment::PaymentResult;
use crate::obs::redact::redact;

/// The most alarms that stand at once; further ones are only counted.
const MOST: usize = 200;

/// Alarms that are over, kept to be looked at.
const KEPT: usize = 100;

/// An alarm raised again is told again no sooner than this after the last time.
const AGAIN_MS: u64 = 60_000;

/// What only shows as something that grows is over when it has not grown for so long.
const QUIET: Duration = Duration::from_secs(60);

/// Days before its end that a certificate is an alarm.
const CERTIFICATE_DAYS: i64 = 14;

/// Longest detail, in bytes.
const LONGEST: usize = 300;

/// The subject under which sealed files stand.
pub const SEALED: &str = "sealed";

/// The health of the node at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Trunks.
    pub trunks: Vec<TrunkView>,
    /// The recorder of sealed files, where there is one.
    pub recorder: Option<RecorderSample>,
    /// Dead letters of each receiver of webhooks.
    pub dead_letters: Vec<(String, usize)>,
    /// SIP messages dropped since the start because too many came.
    pub shed: u64,
    /// When the first of our certificates ends, in seconds since 1970; 0: there is none.
    pub certificate_end_s: i64,
}

/// The recorder of sealed files at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecorderSample {
    /// Blocks that wait to be written.
    pub waiting: u64,
    /// Blocks that may wait.
    pub most_waiting: u64,
    /// Blocks dropped since the start.
    pub lost: u64,
    /// Free and all bytes of its disk, where known.
    pub disk: Option<(u64, u64)>,
    /// Bytes of it that must be free; `None`: 5 %, or 1 GiB if that is less.
    pub least_free: Option<u64>,
}

/// Why an alarm cannot be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// It does not stand.
    #[error("no such alarm; it may be over")]
    NoSuchAlarm,
    /// The node sees by itself when it is over.
    #[error("this alarm ends by itself when its cause is gone")]
    EndsByItself,
}

/// The list as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlarmList {
    /// Alarms that stand: critical ones first, then the newest.
    pub alarms: Vec<Alarm>,
    /// Alarms that are over, the last one first.
    pub cleared: Vec<ClearedAlarm>,
    /// Alarms that were not listed because too many stand.
    pub unlisted: u64,
}

/// An alarm that is over, and when that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClearedAlarm {
    /// What it was.
    #[serde(flatten)]
    pub end: AlarmEnd,
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    #[schema(value_type = u64)]
    pub cleared_ms: WallMs,
}

struct Standing {
    alarm: Alarm,
    told_ms: u64,
}

/// The machine. Feed it, then drain [`Alarms::poll_event`].
#[derive(Default)]
pub struct Alarms {
    standing: BTreeMap<(AlarmKind, String), Standing>,
    cleared: VecDeque<ClearedAlarm>,
    unlisted: u64,
    /// Recordings that began, or went on, after a recorder failed.
    since_failure: BTreeSet<RecordingId>,
    /// Calls that go without a SIPREC recorder they want.
    without: BTreeSet<(String, CallId)>,
    lost: Growing,
    shed: Growing,
    events: VecDeque<EventKind>,
}

/// A counter that is wrong while it grows.
#[derive(Default)]
struct Growing {
    last: u64,
    until: Option<Instant>,
}

impl Growing {
    /// By how much it grew since the last look; whether it has been quiet for long enough.
    fn look(&mut self, now: Instant, value: u64) -> (u64, bool) {
        let grown = value.saturating_sub(self.last);
        self.last = value;
        if grown > 0 {
            self.until = Some(now + QUIET);
        }
        (grown, self.until.is_none_or(|until| until <= now))
    }
}

impl Alarms {
    /// Something is wrong.
    pub fn raise(&mut self, at: WallMs, kind: AlarmKind, subject: &str, detail: &str) {
        let detail = clean(detail);
        let key = (kind, clean(subject));
        if let Some(standing) = self.standing.get_mut(&key) {
            standing.alarm.count = standing.alarm.count.saturating_add(1);
            standing.alarm.detail = detail;
            if at.0 >= standing.told_ms + AGAIN_MS {
                standing.told_ms = at.0;
                self.events.push_back(EventKind::AlarmRaised { alarm: standing.alarm.clone() });
            }
            return;
        }
        if self.standing.len() >= MOST {
            self.unlisted += 1;
            return;
        }
        let alarm = Alarm {
            alarm: format!("{}:{}", kind.name(), key.1),
            kind,
            subject: key.1.clone(),
            severity: kind.severity(),
            title: kind.title().into(),
            detail,
            advice: kind.advice().into(),
            since_ms: at,
            count: 1,
            by_hand: kind.by_hand(),
        };
        self.events.push_back(EventKind::AlarmRaised { alarm: alarm.clone() });
        self.standing.insert(key, Standing { alarm, told_ms: at.0 });
    }

    /// It is over.
    pub fn clear(&mut self, at: WallMs, kind: AlarmKind, subject: &str) {
        self.end(at, (kind, clean(subject)), None);
    }

    /// Somebody has dealt with the alarm of this id.
    pub fn settle(&mut self, at: WallMs, id: &str, by: &str) -> Result<(), SettleError> {
        let found = self.standing.iter().find(|(_, standing)| standing.alarm.alarm == id);
        let (key, standing) = found.ok_or(SettleError::NoSuchAlarm)?;
        if !standing.alarm.by_hand {
            return Err(SettleError::EndsByItself);
        }
        self.end(at, key.clone(), Some(by));
        Ok(())
    }

    fn end(&mut self, at: WallMs, key: (AlarmKind, String), by: Option<&str>) {
        let Some(Standing { alarm, .. }) = self.standing.remove(&key) else { return };
        let end = AlarmEnd {
            alarm: alarm.alarm,
            kind: alarm.kind,
            subject: alarm.subject,
            lasted_ms: at.0.saturating_sub(alarm.since_ms.0),
            by: by.map(str::to_owned),
        };
        self.events.push_back(EventKind::AlarmCleared { end: end.clone() });
        self.cleared.truncate(KEPT - 1);
        self.cleared.push_front(ClearedAlarm { end, cleared_ms: at });
    }

    /// An event of the node happened.
    pub fn handle_event(&mut self, event: &Event) {
        let at = event.at_ms;
        match &event.kind {
            EventKind::Recording { recording, state: RecordingState::Failed } => {
                self.since_failure.clear();
                let call = event.call.map_or_else(String::new, |call| format!(" of {call}"));
                self.raise(at, AlarmKind::RecorderFailed, SEALED, &format!("{recording}{call} failed"));
            }
            EventKind::Recording { recording, state: RecordingState::Recording }
                if self.stands(AlarmKind::RecorderFailed, SEALED) && self.since_failure.len() < MOST =>
            {
                self.since_failure.insert(*recording);
            }
            EventKind::Recording { recording, state: RecordingState::Closed }
                if self.since_failure.remove(recording) =>
            {
                self.since_failure.clear();
                self.clear(at, AlarmKind::RecorderFailed, SEALED);
            }
            EventKind::Recorder { recorder, state, reason, .. } => {
                let Some(call) = event.call else { return };
                if *state == RecorderState::Away {
                    if self.without.len() < MOST {
                        self.without.insert((recorder.clone(), call));
                    }
                    let why = reason.as_deref().unwrap_or("it is away");
                    self.raise(
                        at,
                        AlarmKind::RecorderFailed,
                        recorder,
                        &format!("{call} goes without {recorder}: {why}"),
                    );
                } else {
                    self.without.remove(&(recorder.clone(), call));
                    if !self.without.iter().any(|(other, _)| other == recorder) {
                        self.clear(at, AlarmKind::RecorderFailed, recorder);
                    }
                }
            }
            EventKind::PaymentEnded { payment, result: PaymentResult::Unknown, .. } => {
                let call = event.call.map_or_else(String::new, |call| format!(", of {call}"));
                let detail = format!("the provider did not say whether {payment}{call}, was charged");
                self.raise(at, AlarmKind::PaymentUnknown, &payment.to_string(), &detail);
            }
            EventKind::Canary { name, good: false, finding, .. } => {
                self.raise(at, AlarmKind::CanaryFailed, name, finding);
            }
            EventKind::Canary { name, good: true, .. } => self.clear(at, AlarmKind::CanaryFailed, name),
            EventKind::RecordingQuarantined { recording, reason } => {
                self.raise(at, AlarmKind::RecordingQuarantined, &recording.to_string(), reason);
            }
            EventKind::PaymentReconciled { payment, result, .. } if *result != PaymentResult::Unknown => {
                self.clear(at, AlarmKind::PaymentUnknown, &payment.to_string());
            }
            _ => {}
        }
    }

    /// The health of the node, about once a second.
    pub fn handle_sample(&mut self, now: Instant, at: WallMs, sample: &Sample) {
        self.trunks(at, &sample.trunks);
        if let Some(recorder) = sample.recorder {
            self.recorder(now, at, recorder);
        }
        let dead = sample.dead_letters.iter().filter(|(_, count)| *count > 0);
        let dead = dead.map(|(name, count)| (name.clone(), format!("{count} letters to {name} are dead")));
        self.exactly(at, AlarmKind::WebhooksDead, dead.collect());
        let (grown, quiet) = self.shed.look(now, sample.shed);
        if grown > 0 {
            self.raise(at, AlarmKind::Overload, "sip", &format!("{grown} SIP messages dropped within a second"));
        } else if quiet {
            self.clear(at, AlarmKind::Overload, "sip");
        }
        let days = (sample.certificate_end_s - i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX)).div_euclid(86_400);
        let mut ending = BTreeMap::new();
        if sample.certificate_end_s > 0 && days < CERTIFICATE_DAYS {
            let detail = if days < 0 { "it has ended".to_owned() } else { format!("it ends in {days} days") };
            ending.insert("sip".to_owned(), detail);
        }
        self.exactly(at, AlarmKind::CertificateEnds, ending);
    }

    fn trunks(&mut self, at: WallMs, trunks: &[TrunkView]) {
        let (mut down, mut targets, mut unregistered) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for trunk in trunks {
            if trunk.state == TrunkState::Down {
                let count = trunk.targets.len();
                let detail = match count {
                    0 => "it has no targets".to_owned(),
                    1 => "its one target takes no calls".to_owned(),
                    _ => format!("none of its {count} targets takes calls"),
                };
                down.insert(trunk.name.clone(), detail);
            } else {
                for target in trunk.targets.iter().filter(|target| target.state == TargetState::Down) {
                    let detail = format!("{} probes in a row unanswered", target.probes_lost);
                    targets.insert(format!("{} {}", trunk.name, target.address), detail);
                }
            }
            if let Some(registration) = &trunk.registration
                && !registration.registered
                && registration.failures > 0
            {
                unregistered.insert(trunk.name.clone(), format!("{} attempts failed", registration.failures));
            }
        }
        self.exactly(at, AlarmKind::TrunkDown, down);
        self.exactly(at, AlarmKind::TargetDown, targets);
        self.exactly(at, AlarmKind::RegistrationLost, unregistered);
    }

    fn recorder(&mut self, now: Instant, at: WallMs, recorder: RecorderSample) {
        let (grown, quiet) = self.lost.look(now, recorder.lost);
        let half = recorder.waiting > recorder.most_waiting / 2;
        if grown > 0 {
            let detail = format!("{}.{} s of sound were lost and stand as marked silence", grown / 10, grown % 10);
            self.raise(at, AlarmKind::RecorderBehind, SEALED, &detail);
        } else if half && !self.stands(AlarmKind::RecorderBehind, SEALED) {
            let detail = format!("{} of {} blocks wait", recorder.waiting, recorder.most_waiting);
            self.raise(at, AlarmKind::RecorderBehind, SEALED, &detail);
        } else if quiet && recorder.waiting <= recorder.most_waiting / 4 {
            self.clear(at, AlarmKind::RecorderBehind, SEALED);
        }
        let Some((free, all)) = recorder.disk else { return };
        // Over again with a fifth more.
        let low = recorder.least_free.unwrap_or_else(|| (all / 20).min(1 << 30));
        if free < low {
            if !self.stands(AlarmKind::DiskLow, SEALED) {
                let detail = format!("{} MB of {} MB are free", free >> 20, all >> 20);
                self.raise(at, AlarmKind::DiskLow, SEALED, &detail);
            }
        } else if free >= low + low / 5 {
            self.clear(at, AlarmKind::DiskLow, SEALED);
        }
    }

    /// Alarms of `kind` stand for these subjects and no others.
    fn exactly(&mut self, at: WallMs, kind: AlarmKind, wrong: BTreeMap<String, String>) {
        let wrong: BTreeMap<String, String> =
            wrong.into_iter().map(|(subject, detail)| (clean(&subject), detail)).collect();
        let of_kind = self.standing.keys().filter(|(one, _)| *one == kind);
        let over: Vec<_> = of_kind.filter(|(_, subject)| !wrong.contains_key(subject)).cloned().collect();
        over.into_iter().for_each(|key| self.end(at, key, None));
        for (subject, detail) in wrong {
            match self.standing.get_mut(&(kind, subject.clone())) {
                Some(standing) => standing.alarm.detail = clean(&detail),
                None => self.raise(at, kind, &subject, &detail),
            }
        }
    }

    fn stands(&self, kind: AlarmKind, subject: &str) -> bool {
        self.standing.contains_key(&(kind, subject.to_owned()))
    }

    /// The next event to be told.
    pub fn poll_event(&mut self) -> Option<EventKind> {
        self.events.pop_front()
    }

    /// How many alarms of each kind stand.
    pub fn counts(&self) -> impl Iterator<Item = (AlarmKind, usize)> {
        AlarmKind::ALL.into_iter().map(|kind| (kind, self.standing.keys().filter(|(one, _)| *one == kind).count()))
    }

    /// The list.
    pub fn list(&self) -> AlarmList {
        let mut alarms: Vec<Alarm> = self.standing.values().map(|standing| standing.alarm.clone()).collect();
        alarms.sort_by(|a, b| (a.severity, b.since_ms, &a.alarm).cmp(&(b.severity, a.since_ms, &b.alarm)));
        AlarmList { alarms, cleared: self.cleared.iter().cloned().collect(), unlisted: self.unlisted }
    }
}

/// One bounded line without what could be a card number.
fn clean(text: &str) -> String {
    let mut bytes: Vec<u8> = text.bytes().map(|b| if b.is_ascii_graphic() || b == b' ' { b } else { b'?' }).collect();
    bytes.truncate(LONGEST);
    redact(&mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// The alarms, shared: who notices something tells it here, the API shows it, and its events go into the event log.
pub struct Board {
    alarms: Mutex<Alarms>,
    history: Arc<History>,
    metrics: Arc<Metrics>,
    wall: fn() -> WallMs,
}

impl Board {
    /// A board without alarms; `wall` tells the time of day.
    pub fn new(history: Arc<History>, metrics: Arc<Metrics>, wall: fn() -> WallMs) -> Arc<Self> {
        Arc::new(Self { alarms: Mutex::default(), history, metrics, wall })
    }

    /// Something is wrong with `subject`. The same again is one alarm, counted.
    pub fn raise(&self, kind: AlarmKind, subject: &str, detail: &str) {
        self.change(|alarms, at| alarms.raise(at, kind, subject, detail));
    }

    /// It is over. Does nothing when no such alarm stands.
    pub fn clear(&self, kind: AlarmKind, subject: &str) {
        self.change(|alarms, at| alarms.clear(at, kind, subject));
    }

    /// Somebody has dealt with an alarm.
    pub fn settle(&self, id: &str, by: &str) -> Result<(), SettleError> {
        self.change(|alarms, at| alarms.settle(at, id, by))
    }

    /// An event of the node happened.
    pub fn handle_event(&self, event: &Event) {
        self.change(|alarms, _| alarms.handle_event(event));
    }

    /// The health of the node.
    pub fn handle_sample(&self, now: Instant, sample: &Sample) {
        self.change(|alarms, at| alarms.handle_sample(now, at, sample));
    }

    /// The list.
    pub fn list(&self) -> AlarmList {
        self.alarms().list()
    }

    fn change<R>(&self, change: impl FnOnce(&mut Alarms, WallMs) -> R) -> R {
        let mut alarms = self.alarms();
        let result = change(&mut alarms, (self.wall)());
        let mut changed = false;
        // Told under the lock, so that raised and cleared are in order.
        while let Some(kind) = alarms.poll_event() {
            changed = true;
            log(&kind);
            self.history.publish((self.wall)(), None, kind);
        }
        if changed {
            alarms.counts().for_each(|(kind, count)| self.metrics.set_alarms(kind, count));
        }
        result
    }

    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        // A panic leaves an alarm more or less; the others are worth going on for.
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(kind: &EventKind) {
    match kind {
        EventKind::AlarmRaised { alarm } if alarm.severity == Severity::Critical => {
            tracing::error!(alarm = %alarm.alarm, detail = %alarm.detail, "alarm-raised");
        }
        EventKind::AlarmRaised { alarm } => {
            tracing::warn!(alarm = %alarm.alarm, detail = %alarm.detail, "alarm-raised");
        }
        EventKind::AlarmCleared { end } => {
            tracing::info!(alarm = %end.alarm, lasted_ms = end.lasted_ms, by = end.by, "alarm-cleared");
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "alarms_tests.rs"]
mod tests;
