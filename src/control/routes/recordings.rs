//! `/v1/recordings`: search, show, labels, legal hold, destroy. What changes something is in the audit log before it is
//! done.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::audit::{Action, Outcome, Record, Text};
use crate::base::ids::{CallId, RecordingId};
use crate::base::time::WallMs;
use crate::control::access::Pass;
use crate::control::audited::{Peer, origin, who};
use crate::control::extract::{InRecording, Json, Params};
use crate::control::problem::{Blame, Part, Problem};
use crate::control::recordings::Change;
use crate::control::{Api, recordings::Recordings};
use crate::record::catalogue::{Entry, Query, State as Stage, is_label_key, is_label_value};

/// The shortest and longest a reason or purpose may be, in characters.
const WORDS: std::ops::RangeInclusive<usize> = 3..=200;

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
    let (query, conditions) = query(wanted)?;
    let page = recordings(&api)?.search(query).await?;
    let action = Action::RecordingsSearched { conditions, found: page.entries.len() as u64 };
    api.audit.note(Record::new(who(&pass), origin(peer.map(|Extension(peer)| peer)), action));
    Ok(Answer(RecordingList {
        recordings: page.entries.into_iter().map(Into::into).collect(),
        next: page.next.map(|(at, id)| format!("{}.{id}", at.0)),
    }))
}

/// Show a recording
#[utoipa::path(get, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")),
    responses((status = 200, description = "What is known of it", body = RecordingView)))]
pub(in crate::control) async fn get(
    State(api): State<Api>,
    InRecording(recording): InRecording,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
) -> Result<Answer<RecordingView>, Problem> {
    let entry = recordings(&api)?.get(recording).await?;
    let action = Action::RecordingViewed { recording, part: "description".into() };
    api.audit.note(Record::new(who(&pass), origin(peer.map(|Extension(peer)| peer)), action));
    Ok(Answer(entry.into()))
}

/// Label a recording
#[utoipa::path(patch, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Labels,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn label(
    State(api): State<Api>,
    InRecording(recording): InRecording,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<Labels>,
) -> Result<Answer<RecordingView>, Problem> {
    let fine =
        |(key, value): (&String, &Option<String>)| is_label_key(key) && value.as_deref().is_none_or(is_label_value);
    if request.labels.is_empty() || !request.labels.iter().all(fine) {
        let detail = "a label's name is 1 to 64 letters, digits, `.`, `_`, `-`; its value up to 256 characters without a run \
                      of more than eleven digits";
        return Err(Problem::invalid(Blame::field(Part::Body, "labels"), detail));
    }
    let labels = request.labels.keys().map(|key| Text::new(key)).collect();
    let asked = Asked { pass, peer: peer.map(|Extension(peer)| peer), purpose: None };
    let change = Change::Label(request.labels.into_iter().collect());
    changed(&api, asked, recording, Action::RecordingLabelled { recording, labels }, change).await
}

/// Put under legal hold
///
/// Neither a deadline nor anybody destroys the recording until the hold is lifted.
#[utoipa::path(post, path = "/v1/recordings/{recording}/hold", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn hold(
    State(api): State<Api>,
    InRecording(recording): InRecording,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let why = words(&request.reason, Blame::field(Part::Body, "reason"))?;
    let change = Change::Hold { by: owner(&pass), why: why.to_string() };
    let asked = Asked { pass, peer: peer.map(|Extension(peer)| peer), purpose: Some(why) };
    changed(&api, asked, recording, Action::LegalHold { recording, on: true, name: None }, change).await
}

/// Lift the legal hold
#[utoipa::path(delete, path = "/v1/recordings/{recording}/hold", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "The recording as it is now", body = RecordingView)))]
pub(in crate::control) async fn release(
    State(api): State<Api>,
    InRecording(recording): InRecording,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let why = words(&request.reason, Blame::field(Part::Body, "reason"))?;
    let asked = Asked { pass, peer: peer.map(|Extension(peer)| peer), purpose: Some(why) };
    changed(&api, asked, recording, Action::LegalHold { recording, on: false, name: None }, Change::Release).await
}

/// Destroy a recording
///
/// For good: its key goes, and nothing opens it any more. What is under legal hold stays.
#[utoipa::path(delete, path = "/v1/recordings/{recording}", tag = "recordings",
    params(("recording" = String, Path, description = "Recording id")), request_body = Reason,
    responses((status = 200, description = "Its tombstone", body = RecordingView)))]
pub(in crate::control) async fn destroy(
    State(api): State<Api>,
    InRecording(recording): InRecording,
    Extension(pass): Extension<Pass>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<Reason>,
) -> Result<Answer<RecordingView>, Problem> {
    let why = words(&request.reason, Blame::field(Part::Body, "reason"))?;
    let change = Change::Destroy { by: owner(&pass), why: why.to_string() };
    let action = Action::RecordingDestroyed { recording, reason: why.clone(), proof: None };
    let asked = Asked { pass, peer: peer.map(|Extension(peer)| peer), purpose: Some(why) };
    changed(&api, asked, recording, action, change).await
}

/// Who asks for a change, and what for.
struct Asked {
    pass: Pass,
    peer: Option<Peer>,
    purpose: Option<Text>,
}

/// Makes a change. That it was asked for is on the disk before; if it does not come to it, that follows.
async fn changed(
    api: &Api,
    asked: Asked,
    recording: RecordingId,
    action: Action,
    change: Change,
) -> Result<Answer<RecordingView>, Problem> {
    let mut record = Record::new(who(&asked.pass), origin(asked.peer), action);
    record.purpose = asked.purpose;
    let store = recordings(api)?;
    // What is not there, or cannot be, leaves one entry: that it was refused.
    if let Err(error) = store.get(recording).await {
        api.audit.note(record.outcome(Outcome::refused(error.to_string())));
        return Err(error.into());
    }
    api.audit.confirm(record.clone()).await.map_err(|_| Problem::not_audited())?;
    match store.change(recording, change).await {
        Ok(entry) => Ok(Answer(entry.into())),
        Err(error) => {
            api.audit.note(record.outcome(Outcome::failed(error.to_string())));
            Err(error.into())
        }
    }
}

/// The recordings, where there are any.
pub(in crate::control) fn recordings(api: &Api) -> Result<&dyn Recordings, Problem> {
    api.recordings.as_deref().ok_or_else(|| Problem::unavailable("this node keeps no recordings"))
}

fn owner(pass: &Pass) -> String {
    format!("key:{}", pass.actor.name)
}

/// A reason or a purpose as it goes into the log.
pub(in crate::control) fn words(text: &str, place: Blame) -> Result<Text, Problem> {
    let kept = Text::new(text);
    if WORDS.contains(&text.trim().chars().count()) && WORDS.contains(&kept.as_str().chars().count()) {
        return Ok(kept);
    }
    Err(Problem::invalid(place, format!("say what for, in {} to {} characters", WORDS.start(), WORDS.end())))
}

/// The catalogue's question, and the names of the conditions for the log: their values may be numbers of people.
fn query(wanted: Wanted) -> Result<(Query, Vec<Text>), Problem> {
    let place = |field| Blame::field(Part::Query, field);
    let bad = |field: &'static str, detail: &str| Problem::invalid(place(field), detail.to_owned());
    let mut conditions = Vec::new();
    for (name, given) in [
        ("call", wanted.call.is_some()),
        ("sip_call_id", wanted.sip_call_id.is_some()),
        ("trunk", wanted.trunk.is_some()),
        ("number", wanted.number.is_some()),
        ("label", wanted.label.is_some()),
        ("from", wanted.from.is_some()),
        ("until", wanted.until.is_some()),
        ("state", wanted.state.is_some()),
    ] {
        if given {
            conditions.push(Text::new(name));
        }
    }
    let limit = wanted.limit.unwrap_or(Query::USUAL);
    if !(1..=Query::MOST).contains(&limit) {
        return Err(bad("limit", &format!("limit must be 1 to {}", Query::MOST)));
    }
    let call = wanted.call.map(|call| call.parse().map_err(|_| bad("call", "no id of a call"))).transpose()?;
    let labels = match wanted.label {
        None => Vec::new(),
        Some(label) => {
            let (name, value) = label.split_once('=').ok_or_else(|| bad("label", "a label is name=value"))?;
            vec![(name.to_owned(), value.to_owned())]
        }
    };
    let time = |field, text: Option<String>| {
        let read = |text: String| {
            instant(&text).ok_or_else(|| bad(field, "a time is 2026-11-22T14:00:00Z, or milliseconds since 1970"))
        };
        text.map(read).transpose()
    };
    let (states, held) = match wanted.state.as_deref() {
        None => (Vec::new(), None),
        Some("held") => (Vec::new(), Some(true)),
        Some(word) => (vec![Stage::of(word).ok_or_else(|| bad("state", "no such state"))?], None),
    };
    let after = match wanted.after {
        None => None,
        Some(after) => {
            let read = || {
                let (at, id) = after.split_once('.')?;
                Some((WallMs(at.parse().ok()?), id.parse().ok()?))
            };
            Some(read().ok_or_else(|| bad("after", "not the `next` of a page"))?)
        }
    };
    let query = Query {
        call,
        sip_call_id: wanted.sip_call_id,
        trunk: wanted.trunk,
        number: wanted.number,
        labels,
        from: time("from", wanted.from)?,
        until: time("until", wanted.until)?,
        states,
        held,
        after,
        limit,
        ..Query::default()
    };
    Ok((query, conditions))
}

/// A time: milliseconds, or RFC 3339 in UTC with seconds, or a day.
fn instant(text: &str) -> Option<WallMs> {
    if text.len() > 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(WallMs);
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        text.split(by)
            .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None })
            .collect()
    };
    let (clock, ms) = time.split_once('.').unwrap_or((time, "0"));
    let ms: u64 = format!("{ms:0<3}").get(..3)?.parse().ok()?;
    let ([year, month, day], [hour, minute, second]) =
        (<[u64; 3]>::try_from(numbers(date, '-')?).ok()?, <[u64; 3]>::try_from(numbers(clock, ':')?).ok()?);
    let fine = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fine || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 0000-03-01, as `WallMs::date` counts them back.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(WallMs((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, 951_827_696_789, 1_709_251_199_999, 1_798_761_599_000] {
            assert_eq!(instant(&WallMs(ms).rfc3339()), Some(WallMs(ms)));
        }
        assert_eq!(instant("2026-11-22"), instant("2026-11-22T00:00:00Z"));
        assert_eq!(instant("1795327256000"), Some(WallMs(1_795_327_256_000)));
        for bad in ["", "x", "2026-13-01", "2026-11-22T10:00:00", "2026-11-22T25:00:00Z", "1969-12-31", "-1", "+5"] {
            assert_eq!(instant(bad), None, "{bad}");
        }
    }
}
