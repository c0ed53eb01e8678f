//! What the API is shown of a call: counts, names and times, built fresh for each question.

use std::time::{Duration, Instant};

use super::call::{Call, Phase};
use super::protection::{Ended, Protection};
use super::{CallState, CallView, CodecView, CollectionState, CollectionView, HoldView, RecordingView, SipCallIds};
use crate::base::ids::{CollectionId, Leg};
use crate::capture::{Collection, Progress};
use crate::config::Config;
use crate::guard::holds::Hold;

impl Call {
    /// The call as the API shows it.
    pub(super) fn view(&self, now: Instant, config: &Config) -> CallView {
        let core = &self.core;
        let since = |at: Instant| millis(now.saturating_duration_since(at));
        let (state, talk_ms) = match &self.phase {
            Phase::SettingUp(_) => (CallState::SettingUp, None),
            Phase::Established(up) => (CallState::Answered, Some(since(up.since))),
            Phase::Over => (CallState::Ending, None),
        };
        let trunk = |leg: Leg| config.trunks[core.trunk(leg).0].name.clone();
        let [customer, agent] = core.call_ids.clone();
        CallView {
            id: core.id,
            state,
            from_trunk: trunk(core.caller_leg),
            to_trunk: trunk(core.caller_leg.other()),
            caller: core.facts.caller.clone(),
            called: core.facts.called.clone(),
            agent: core.far_end(Leg::Agent).to_owned(),
            sip_call_ids: SipCallIds { customer, agent },
            reference: core.facts.reference.clone(),
            age_ms: since(core.started),
            talk_ms,
            codecs: CodecView::of([core.codecs[0].get(), core.codecs[1].get()]),
            guard: core.protection.mode(),
            masked: core.protection.masked(),
            paused: core.protection.paused(),
            keys_masked: core.protection.keys_masked(),
            holds: core.protection.holds().map(|hold| hold_view(now, hold)).collect(),
            collection: last_collection(&core.protection),
            payment: core.protection.payment().map(super::paying::Paying::view),
            recording: core.protection.recording().map(|(id, state)| RecordingView { id, state }),
        }
    }
}

/// A hold as the API shows it.
pub(super) fn hold_view(now: Instant, hold: &Hold) -> HoldView {
    HoldView {
        id: hold.id,
        kind: hold.kind,
        owner: hold.owner.to_string(),
        reason: hold.reason.clone(),
        age_ms: millis(now.saturating_duration_since(hold.since)),
        ttl_ms: hold.ttl_ms(now),
    }
}

/// A collection of a call, open or ended.
pub(super) fn collection_view(protection: &Protection, id: CollectionId) -> Option<CollectionView> {
    let open = protection.collection().filter(|open| open.id() == id).map(open_view);
    open.or_else(|| protection.ended().iter().find(|ended| ended.id == id).map(ended_view))
}

fn last_collection(protection: &Protection) -> Option<CollectionView> {
    protection.collection().map(open_view).or_else(|| protection.ended().last().map(ended_view))
}

fn open_view(open: &Collection) -> CollectionView {
    let progress = open.progress();
    let (min, max) = open.lengths();
    CollectionView {
        id: open.id(),
        state: CollectionState::Open,
        received: count(progress.received),
        mask: progress.mask(),
        min: count(min),
        max: count(max),
        result: None,
        luhn: None,
    }
}

fn ended_view(ended: &Ended) -> CollectionView {
    CollectionView {
        id: ended.id,
        state: CollectionState::Ended,
        received: count(ended.summary.count),
        mask: Progress { received: ended.summary.count }.mask(),
        min: count(ended.lengths.0),
        max: count(ended.lengths.1),
        result: Some(ended.summary.end),
        luhn: Some(ended.summary.luhn),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
