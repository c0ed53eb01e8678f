//! `/v1/recordings`: search, show, labels, legal hold, destroy. What changes something is in the audit log before it is
//! done, and what came of it after.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::audit::{Action, Outcome, Record, Text};
use crate::base::ids::{CallId, RecordingId};
use crate::control::Api;
use crate::control::access::Pass;
use crate::control::audited::{Peer, origin, who};
use crate::control::extract::{InRecording, Json, Params};
use crate::control::problem::{Blame, Part, Problem};
use crate::control::recordings::{Change, Changed, Recordings, RecordingsError};
use crate::record::catalogue::{Asked, Entry, Page, is_label_key, is_label_value};

/// Which recordings are wanted. All conditions that are given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::control) struct Wanted {
    /// Of this call.
    call: Option<String>,
    /// Of a call one of whose legs had this SIP Call-ID.
    sip_call_id: Option<String>,
    /// That came in or went out on this trunk.
    trunk: Option<String>,
    /// Whose caller, called or agent number is this, or ends in it.
    number: Option<String>,
    /// That bear this label: `name=value`.
    label: Option<String>,
    /// That began at this time or later: RFC 3339 in UTC, or milliseconds since 1970.
    from: Option<String>,
    /// That began before this time.
    until: Option<String>,
    /// In this state, or `held`; any but destroyed when absent.
    state: Option<String>,
    /// Where the page before ended: its `next`.
    after: Option<String>,
    /// Most recordings wanted, 1–1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A legal hold.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct HoldOnIt {
    /// Who put it.
    by: String,
    /// Why.
    why: String,
    /// Since when, in milliseconds since 1970.
    since_ms: u64,
}

/// What the last self-audit found.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct SelfAuditView {
    /// `clean`, `hit` or `failed`.
    verdict: String,
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// Where and what kind; never which digits.
    detail: String,
}

/// Who destroyed it, when and why.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct TombstoneView {
    /// Who; `retention` for a deadline.
    by: String,
    /// Why.
    why: String,
    /// When, in milliseconds since 1970.
    at_ms: u64,
}

/// What is known of a recording.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct RecordingView {
    /// Recording.
    #[schema(value_type = String)]
    id: RecordingId,
    /// Its call; absent when the key to read it is not here.
    #[schema(value_type = Option<String>)]
    call: Option<CallId>,
    /// Node that recorded.
    node: String,
    /// `recording`, `finalising`, `sealed`, `interrupted`, `quarantined` or `destroyed`.
    #[schema(example = "sealed")]
    state: &'static str,
    /// Why it is neither played nor exported now; absent: it may be.
    withheld: Option<&'static str>,
    /// Trunk the call came in on.
    from_trunk: String,
    /// Trunk it went out on.
    to_trunk: String,
    /// Calling number or user part.
    caller: String,
    /// Called number or user part.
    called: String,
    /// The agent's extension.
    agent: String,
    /// SIP Call-IDs of its legs.
    sip_call_ids: Vec<String>,
    /// Labels.
    labels: BTreeMap<String, String>,
    /// When it began, in milliseconds since 1970.
    started_ms: u64,
    /// When it was closed.
    ended_ms: Option<u64>,
    /// Milliseconds of sound and silence.
    length_ms: u64,
    /// Marked gaps.
    gaps: u32,
    /// Bytes of the sealed file.
    bytes: u64,
    /// Key-encryption key it is wrapped under.
    kek_id: String,
    /// After this it is destroyed, unless held; absent: kept for good.
    keep_until_ms: Option<u64>,
    /// Legal hold.
    hold: Option<HoldOnIt>,
    /// Where its bytes are: `local`, `both`, `store` or `nowhere`.
    whereabouts: &'static str,
    /// The last self-audit.
    self_audit: Option<SelfAuditView>,
    /// How it ended, when it was destroyed.
    tombstone: Option<TombstoneView>,
}

impl From<Entry> for RecordingView {
    fn from(entry: Entry) -> Self {
        let verdict = |verdict| {
            let word = serde_json::to_value(verdict).ok();
            word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
        };
        Self {
            withheld: entry.withheld(),
            id: entry.recording,
            call: entry.call,
            node: entry.node,
            state: entry.state.word(),
            from_trunk: entry.from_trunk,
            to_trunk: entry.to_trunk,
            caller: entry.caller,
            called: entry.called,
            agent: entry.agent,
            sip_call_ids: entry.sip_call_ids,
            labels: entry.labels,
            started_ms: entry.started_ms.0,
            ended_ms: entry.ended_ms.map(|at| at.0),
            length_ms: entry.length_ms,
            gaps: entry.gaps,
            bytes: entry.bytes,
            kek_id: entry.kek_id,
            keep_until_ms: entry.keep_until_ms.map(|at| at.0),
            hold: entry.hold.map(|hold| HoldOnIt { by: hold.by, why: hold.why, since_ms: hold.since_ms.0 }),
            whereabouts: entry.whereabouts.word(),
            self_audit: entry.self_audit.map(|audit| SelfAuditView {
                verdict: verdict(audit.verdict),
                at_ms: audit.at_ms.0,
                detail: audit.detail,
            }),
            tombstone: entry.tombstone.map(|stone| TombstoneView {
                by: stone.by,
                why: stone.why,
                at_ms: stone.at_ms.0,
            }),
        }
    }
}

/// Recordings, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct RecordingList {
    /// Recordings.
    recordings: Vec<RecordingView>,
    /// To be given as `after` for the next page; absent: this was the last.
    next: Option<String>,
}

impl From<Page> for RecordingList {
    fn from(page: Page) -> Self {
        let next = page.cursor();
        Self { recordings: page.entries.into_iter().map(Into::into).collect(), next }
    }
}

/// A page of recordings as the API answers it, for whoever asks elsewhere.
pub fn listed(page: Page) -> serde_json::Value {
    serde_json::to_value(RecordingList::from(page)).unwrap_or_default()
}

/// Labels to set or take away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"labels": {"case": "A-17", "old": null}}))]
pub(in crate::control) struct Labels {
    /// Each label's new value; `null` takes it away.
    labels: BTreeMap<String, Option<String>>,
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "case A-17"}))]
pub(in crate::control) struct Reason {
    /// In words; they stand in the audit log.
    reason: String,
}

/// Search recordings
///
/// Newest first, a page at a time. Those that were destroyed are found by their state only.
#[utoipa::path(get, path = "/v1/recordings", tag = "recordings", params(Wanted),
    responses((status = 200, description = "A page", body = RecordingList)))]
pub(in crate::control) async fn search(
    State(api): State<Api>,
    Params(wanted): Params<Wanted>,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
) -> Result<Answer<RecordingList>, Problem> {
    let asked = asked(wanted);
    let conditions = asked.conditions().into_iter().map(Text::new).collect();
    let query = asked.query().map_err(|slip| Problem::invalid(Blame::field(Part::Query, slip.field), slip.why))?;
    let page = recordings(&api)?.search(query).await?;
    let action = Action::RecordingsSearched { conditions, found: page.entries.len() as u64 };
    api.audit.note(Record::new(who(&pass), origin(peer.map(|Extension(peer)| peer)), action));
    Ok(Answer(page.into()))
}

/// Show a recording
#[utoipa::path(get, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")),
    responses((status = 200, description = "What is known of it", body = RecordingView)))]
pub(in crate::control) async fn get(State(api): State<Api>, asker: Asker) -> Result<Answer<RecordingView>, Problem> {
    let recording = asker.recording;
    let entry = recordings(&api)?.get(recording).await?;
    api.audit.note(asker.record(Action::RecordingViewed { recording, part: "description".into() }));
    Ok(Answer(entry.into()))
}

/// Label a recording
#[utoipa::path(patch, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Labels,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn label(
    State(api): State<Api>,
    asker: Asker,
    Json(request): Json<Labels>,
) -> Result<Answer<RecordingView>, Problem> {
    let fine =
        |(key, value): (&String, &Option<String>)| is_label_key(key) && value.as_deref().is_none_or(is_label_value);
    if request.labels.is_empty() || !request.labels.iter().all(fine) {
        let detail = "a label's name is 1 to 64 letters, digits, `.`, `_`, `-`; its value up to 256 characters without a run \
                      of more than eleven digits";
        return Err(Problem::invalid(Blame::field(Part::Body, "labels"), detail));
    }
    let (recording, labels) = (asker.recording, request.labels.keys().map(|key| Text::new(key)).collect());
    let change = Change::Label(request.labels.into_iter().collect());
    asker.change(&api, None, Action::RecordingLabelled { recording, labels }, change).await
}

/// Put under legal hold
///
/// Neither a deadline nor anybody destroys the recording until the hold is lifted.
#[utoipa::path(post, path = "/v1/recordings/{recording}/hold", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn hold(
    State(api): State<Api>,
    asker: Asker,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let held = |recording, by, why: &Text| {
        let action = Action::LegalHold { recording, on: true, name: None };
        (action, Change::Hold { by, why: why.to_string() })
    };
    asker.change_because(&api, &request, held).await
}

/// Lift the legal hold
#[utoipa::path(delete, path = "/v1/recordings/{recording}/hold", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn release(
    State(api): State<Api>,
    asker: Asker,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let released = |recording, _, _: &Text| {
        let action = Action::LegalHold { recording, on: false, name: None };
        (action, Change::Release)
    };
    asker.change_because(&api, &request, released).await
}

/// Destroy a recording
///
/// For good: its key goes, and nothing opens it any more. What is under legal hold stays.
#[utoipa::path(delete, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "Its tombstone", body = RecordingView)))]
pub(in crate::control) async fn destroy(
    State(api): State<Api>,
    asker: Asker,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let destroyed = |recording, by, why: &Text| {
        let action = Action::RecordingDestroyed { recording, reason: why.clone(), proof: None };
        (action, Change::Destroy { by, why: why.to_string() })
    };
    asker.change_because(&api, &request, destroyed).await
}

/// Who asks something of the recording of the path.
pub(in crate::control) struct Asker {
    pub(super) recording: RecordingId,
    pub(super) pass: Pass,
    pub(super) peer: Option<Peer>,
}

impl FromRequestParts<Api> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let InRecording(recording) = InRecording::from_request_parts(parts, api).await?;
        // Whoever gets here was let in.
        let pass = parts.extensions.get::<Pass>().cloned().ok_or_else(Problem::unauthenticated)?;
        Ok(Self { recording, pass, peer: parts.extensions.get::<Peer>().copied() })
    }
}

impl Asker {
    /// What they do, as the log has it.
    pub(super) fn record(&self, action: Action) -> Record {
        Record::new(who(&self.pass), origin(self.peer), action)
    }

    /// Makes a change that needs a reason: its entry and the order are made of the recording, who, and why.
    async fn change_because(
        self,
        api: &Api,
        request: &Reason,
        change: impl FnOnce(RecordingId, String, &Text) -> (Action, Change),
    ) -> Result<Answer<RecordingView>, Problem> {
        let why = words(&request.reason, Blame::field(Part::Body, "reason"))?;
        let (action, change) = change(self.recording, format!("key:{}", self.pass.actor.name), &why);
        self.change(api, Some(why), action, change).await
    }

    /// Makes a change. That it is asked for is on the disk before; what came of it is the second entry.
    async fn change(
        self,
        api: &Api,
        purpose: Option<Text>,
        action: Action,
        change: Change,
    ) -> Result<Answer<RecordingView>, Problem> {
        let mut record = self.record(action);
        record.purpose = purpose;
        let store = recordings(api)?;
        // What is not there, or cannot be, leaves one entry: that it was refused.
        if let Err(error) = store.get(self.recording).await {
            api.audit.note(record.outcome(Outcome::refused(error.to_string())));
            return Err(error.into());
        }
        let asked = record.clone().outcome(Outcome::ASKED);
        api.audit.confirm(asked).await.map_err(|_| Problem::not_audited())?;
        let audit = api.audit.clone();
        let told = move |made: &Result<Changed, RecordingsError>| match made {
            Ok(made) => {
                if let Action::RecordingDestroyed { proof, .. } = &mut record.action {
                    *proof = made.proof.clone().map(Box::new);
                }
                audit.note(record);
            }
            Err(error) => audit.note(record.outcome(Outcome::failed(error.to_string()))),
        };
        let made = store.change(self.recording, change, Box::new(told)).await?;
        Ok(Answer(made.entry.into()))
    }
}

/// The recordings, where there are any.
pub(in crate::control) fn recordings(api: &Api) -> Result<&dyn Recordings, Problem> {
    api.recordings.as_deref().ok_or_else(|| Problem::unavailable("this node keeps no recordings"))
}

/// A reason or a purpose as it goes into the log.
pub(in crate::control) fn words(text: &str, place: Blame) -> Result<Text, Problem> {
    let (least, most) = (Text::SAID.start(), Text::SAID.end());
    Text::said(text).ok_or_else(|| Problem::invalid(place, format!("say what for, in {least} to {most} characters")))
}

/// What was asked for.
fn asked(wanted: Wanted) -> Asked {
    let Wanted { call, sip_call_id, trunk, number, label, from, until, state, after, limit } = wanted;
    let labels = label.into_iter().collect();
    Asked { call, sip_call_id, trunk, number, labels, day: None, from, until, state, after, limit }
}
