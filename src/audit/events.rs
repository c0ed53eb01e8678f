//! What the engine tells as events, as the log has it: holds, collections, payments and recordings, one record each.
//! Calls coming and going, keys masked and progress are not who did what to what, and stay in the event log.

use super::{Action, Origin, Outcome, Record, Text, Who};
use crate::obs::event::{Event, EventKind, RecorderState, RecordingState, SpillState};
use crate::obs::payment::PaymentResult;

/// The word of something that serialises as a word.
fn word(value: impl serde::Serialize) -> Text {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(Text::new)).unwrap_or_default()
}

/// The record of an event; `None` when it belongs elsewhere. `paused` says whether the recording of the event's call was
/// paused before it.
pub fn record_of(event: &Event, paused: bool) -> Option<Record> {
    use EventKind as E;
    let by_node = |action| Some(Record::node(action));
    match &event.kind {
        E::AlarmRaised { alarm } => return by_node(Action::Alarm { alarm: alarm.alarm.as_str().into(), on: true }),
        E::AlarmCleared { end } => {
            let who = end.by.as_deref().map_or(Who::Node, Who::owner);
            return Some(Record::new(who, Origin::Node, Action::Alarm { alarm: end.alarm.as_str().into(), on: false }));
        }
        E::RecorderTarget { recorder, target, up } => {
            let recorder = format!("{recorder} {target}").into();
            return match up {
                true => by_node(Action::RecorderRecovered { recorder }),
                false => by_node(Action::RecorderFailed { recorder, recording: None, call: event.call })
                    .map(|record| record.outcome(Outcome::failed("it does not answer"))),
            };
        }
        E::Spill { recorder, recording, state, reason, .. } => {
            let action = Action::RecordingForwarded {
                recording: *recording,
                recorder: recorder.as_str().into(),
                call: event.call,
            };
            let why = || reason.as_deref().unwrap_or("see the log");
            return match state {
                SpillState::Forwarding => None,
                SpillState::Forwarded => by_node(action),
                SpillState::Failed => by_node(action).map(|record| record.outcome(Outcome::failed(why()))),
                SpillState::Dropped => by_node(action).map(|record| record.outcome(Outcome::refused(why()))),
            };
        }
        E::RecordingQuarantined { recording, reason } => {
            return by_node(Action::RecordingQuarantined { recording: *recording, finding: reason.as_str().into() });
        }
        _ => {}
    }
    let call = event.call?;
    let by = |who: &str, action| Some(Record::new(Who::owner(who), Origin::Node, action));
    match &event.kind {
        E::HoldTaken { hold, kind, owner, reason, ttl_ms } => {
            let reason = reason.as_str().into();
            by(owner, Action::HoldTaken { call, hold: *hold, kind: *kind, reason, ttl_ms: *ttl_ms })
        }
        E::HoldRenewed { hold, kind, ttl_ms } => {
            by_node(Action::HoldRenewed { call, hold: *hold, kind: *kind, ttl_ms: *ttl_ms })
        }
        E::HoldReleased { hold, kind, by: who } => by(who, Action::HoldReleased { call, hold: *hold, kind: *kind }),
        E::HoldExpired { hold, kind } => by_node(Action::HoldExpired { call, hold: *hold, kind: *kind }),
        E::CollectionStarted { collection } => by_node(Action::CollectionBegun { call, collection: *collection }),
        E::CollectionEnded { collection, result, .. } => {
            by_node(Action::CollectionEnded { call, collection: *collection, how: word(result) })
        }
        E::PaymentStarted { payment, method, connector, by: who } => {
            let connector = connector.as_str().into();
            let action = Action::PaymentBegun { call, payment: *payment, method: *method, connector };
            Some(Record::new(Who::Key { name: who.as_str().into(), role: None }, Origin::Node, action))
        }
        E::PaymentSubmitted { payment } => by_node(Action::PaymentSubmitted { call, payment: *payment }),
        E::PaymentEnded { payment, result, .. } => {
            let action = Action::PaymentEnded { call, payment: *payment, payment_result: *result };
            by_node(action).map(|record| record.outcome(outcome(*result)))
        }
        E::PaymentReconciled { payment, result, .. } => {
            let action = Action::PaymentReconciled { call, payment: *payment, payment_result: *result };
            by_node(action).map(|record| record.outcome(outcome(*result)))
        }
        E::Recorder { recorder, state: RecorderState::Away, reason, spill, .. } => {
            let action =
                Action::RecorderFailed { recorder: recorder.as_str().into(), recording: *spill, call: Some(call) };
            let why = reason.as_deref().unwrap_or("away");
            by_node(action).map(|record| record.outcome(Outcome::failed(why)))
        }
        E::Recorder { state: RecorderState::Connecting, .. } => None,
        E::Recorder { recorder, state, .. } => {
            by_node(Action::RecorderSession { recorder: recorder.as_str().into(), call, state: word(state) })
        }
        E::Recording { recording, state } => {
            let recording = *recording;
            match state {
                RecordingState::Recording if paused => by_node(Action::RecordingResumed { recording, call }),
                RecordingState::Recording => by_node(Action::RecordingBegun { recording, call }),
                RecordingState::Paused => by_node(Action::RecordingPaused { recording, call }),
                // Told by the recorder, which knows what was sealed.
                RecordingState::Closed => None,
                RecordingState::Failed => {
                    let (recording, call) = (Some(recording), Some(call));
                    let action = Action::RecorderFailed { recorder: "sealed".into(), recording, call };
                    by_node(action).map(|record| record.outcome(Outcome::failed("see the log")))
                }
            }
        }
        _ => None,
    }
}

fn outcome(result: PaymentResult) -> Outcome {
    match result {
        PaymentResult::Success => Outcome::DONE,
        PaymentResult::Declined | PaymentResult::Cancelled | PaymentResult::TooManyFailedAttempts => {
            Outcome::refused(word(result))
        }
        PaymentResult::Unknown
        | PaymentResult::CallerHungUp
        | PaymentResult::PaymentConnectorError
        | PaymentResult::Expired => Outcome::failed(word(result)),
    }
}
