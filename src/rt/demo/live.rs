//! What the page shows beside the live call: the customer's key presses as marks, the level at the agent's ear, the
//! verdict. Read from the telephones and the event log whenever a browser asks; it keeps no sound and no digit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::ids::CallId;
use crate::base::time::WallMs;
use crate::control::history::History;
use crate::dsp::level::{dbm0, mean_square};
use crate::obs::event::EventKind;
use crate::rt::peers::Phone;
use crate::rt::recorder::wall;
use crate::testkit::keys::Form;
use crate::web::{DemoState, Heard, KeyForm, Keyed, Phase, Source, Verdict};

/// Length of one slot of what the agent heard, in ms.
const SLOT_MS: u32 = 100;
/// Samples in a slot.
const SLOT: usize = SLOT_MS as usize * 8;
/// The quietest level shown, in dBm0.
const FLOOR: f32 = -60.0;

/// The demonstration as the page sees it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Live(Arc<Mutex<State>>);

struct State {
    began: (Instant, WallMs),
    phase: Phase,
    note: String,
    history: Option<Arc<History>>,
    call: Option<CallId>,
    caller: Option<Phone>,
    agent: Option<Phone>,
    verdict: Option<Verdict>,
    /// When the verdict was given: the time shown stands still from there.
    ended: Option<Instant>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            began: (Instant::now(), wall()),
            phase: Phase::Starting,
            note: "The call begins in a moment.".to_owned(),
            history: None,
            call: None,
            caller: None,
            agent: None,
            verdict: None,
            ended: None,
        })))
    }

    /// What the web room polls.
    pub(super) fn source(&self) -> Source {
        let live = self.clone();
        Arc::new(move || live.state().show())
    }

    pub(super) fn set_history(&self, history: Arc<History>) {
        self.state().history = Some(history);
    }

    /// Time counts from here.
    pub(super) fn begin(&self, caller: &Phone) {
        let mut state = self.state();
        state.began = (Instant::now(), wall());
        state.caller = Some(caller.clone());
        state.agent = None;
        state.call = None;
    }

    pub(super) fn set_agent(&self, agent: &Phone) {
        self.state().agent = Some(agent.clone());
    }

    pub(super) fn set_call(&self, call: CallId) {
        self.state().call = Some(call);
    }

    pub(super) fn step(&self, phase: Phase, note: &str) {
        let mut state = self.state();
        state.phase = phase;
        note.clone_into(&mut state.note);
    }

    pub(super) fn conclude(&self, verdict: Verdict) {
        let mut state = self.state();
        state.phase = Phase::Done;
        verdict.summary.clone_into(&mut state.note);
        state.verdict = Some(verdict);
        state.ended = Some(Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&self) -> DemoState {
        DemoState {
            phase: self.phase,
            note: self.note.clone(),
            call: self.call,
            now_ms: self.since(self.ended.unwrap_or_else(Instant::now)),
            keyed: self.keyed(),
            level_ms: SLOT_MS,
            heard: self.heard(),
            verdict: self.verdict.clone(),
        }
    }

    /// Milliseconds from the beginning to `at`.
    fn since(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began.0).as_millis()).unwrap_or(u64::MAX)
    }

    fn keyed(&self) -> Vec<Keyed> {
        let Some(caller) = &self.caller else { return Vec::new() };
        let (keys, started) = caller.with(|phone, _| (phone.rtp.keyed().to_vec(), phone.rtp.started()));
        let Some(started) = started else { return Vec::new() };
        let form = |form| match form {
            Form::Event | Form::EventWithoutEnd => KeyForm::Event,
            Form::Info => KeyForm::Info,
            Form::Tone
            | Form::ToneThenEvent { .. }
            | Form::ToneAndEvent
            | Form::ToneAndLateEvent { .. }
            | Form::ToneAndInfo { .. } => KeyForm::Tone,
        };
        keys.iter()
            .map(|key| Keyed {
                at_ms: self.since(started) + key.onset / 8,
                ms: key.press.down_ms,
                form: form(key.press.form),
            })
            .collect()
    }

    fn heard(&self) -> Vec<Heard> {
        let Some(agent) = &self.agent else { return Vec::new() };
        let stream = agent.with(|phone, _| phone.rtp.heard.streams().into_iter().next());
        let Some(stream) = stream else { return Vec::new() };
        let masks = self.masks();
        let masked = |at_ms: u64| masks.iter().rev().find(|(since, _)| *since <= at_ms).is_some_and(|(_, on)| *on);
        let lead = self.since(stream.began) / u64::from(SLOT_MS);
        let level = |slot: &[i16]| dbm0(mean_square(slot)).max(FLOOR);
        let levels = std::iter::repeat_n(FLOOR, lead as usize).chain(stream.samples.chunks(SLOT).map(level));
        levels
            .enumerate()
            .map(|(slot, dbm0)| Heard { dbm0, masked: masked(slot as u64 * u64::from(SLOT_MS)) })
            .collect()
    }

    /// When the mask went on and off, in order.
    fn masks(&self) -> Vec<(u64, bool)> {
        let (Some(history), Some(call)) = (&self.history, self.call) else { return Vec::new() };
        let events = history.of_call(call);
        let of = events.iter().filter_map(|event| match event.kind {
            EventKind::Mask { on } => Some((event.at_ms.0.saturating_sub(self.began.1.0), on)),
            _ => None,
        });
        of.collect()
    }
}
