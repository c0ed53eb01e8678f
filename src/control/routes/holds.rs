//! `/v1/calls/{call}/holds`: leases on a call's mask and on its recording pause.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::calls::unexpected;
use crate::call::{Actor, HoldView, Reply, Signal};
use crate::control::Api;
use crate::control::extract::{InCall, InHold, Json};
use crate::control::problem::{Blame, Part, Problem};
use crate::guard::holds::MAX_REASON;
use crate::obs::event::HoldKind;
use crate::obs::redact::redact;

/// The longest lease that can be asked for, in seconds; the trunk's `hold_max` shortens it.
const MOST_TTL: u32 = 86_400;

/// What a hold holds.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::control) enum Wanted {
    /// The customer's digits are masked.
    Mask,
    /// The recording is paused.
    Pause,
    /// Both, as two holds.
    Both,
}

/// A hold to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"kind": "both", "reason": "card payment, order 1001", "ttl_s": 120}))]
pub(in crate::control) struct HoldRequest {
    /// Mask, pause or both.
    kind: Wanted,
    /// Why, for people and the log: 1–120 characters.
    #[schema(min_length = 1, max_length = 120)]
    reason: String,
    /// Seconds until it expires unless renewed; the trunk's default when absent, shortened to its maximum.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_s: Option<u32>,
}

/// A lease to prolong.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ttl_s": 120}))]
pub(in crate::control) struct RenewRequest {
    /// Seconds from now until it expires; the trunk's default when absent, shortened to its maximum.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_s: Option<u32>,
}

/// Holds.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct HoldList {
    /// Holds, oldest first.
    holds: Vec<HoldView>,
}

/// List a call's holds
#[utoipa::path(get, path = "/v1/calls/{call}/holds", tag = "holds",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    responses((status = 200, description = "The holds in force", body = HoldList)))]
pub(in crate::control) async fn list(
    State(api): State<Api>,
    InCall(call): InCall,
) -> Result<Answer<HoldList>, Problem> {
    match api.calls.signal(Signal::Get { call }).await? {
        Reply::Call(view) => Ok(Answer(HoldList { holds: view.holds })),
        _ => Err(unexpected()),
    }
}

/// Take a hold
///
/// Masks the customer's digits, pauses the recording, or both, until the hold is released or expires. The mask is in
/// force when the answer arrives.
#[utoipa::path(post, path = "/v1/calls/{call}/holds", tag = "holds",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")), request_body = HoldRequest,
    responses((status = 201, description = "Taken; one hold per kind", body = HoldList)))]
pub(in crate::control) async fn take(
    State(api): State<Api>,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
    Json(request): Json<HoldRequest>,
) -> Result<(StatusCode, Answer<HoldList>), Problem> {
    let reason = checked_reason(request.reason)?;
    let ttl = checked_ttl(request.ttl_s)?;
    let kinds = match request.kind {
        Wanted::Mask => vec![HoldKind::Mask],
        Wanted::Pause => vec![HoldKind::Pause],
        Wanted::Both => vec![HoldKind::Mask, HoldKind::Pause],
    };
    match api.calls.signal(Signal::TakeHolds { call, kinds, reason, ttl, actor }).await? {
        Reply::Holds(holds) => Ok((StatusCode::CREATED, Answer(HoldList { holds }))),
        _ => Err(unexpected()),
    }
}

/// Renew a hold
///
/// Moves its deadline. Own holds; supervisors and admins any.
#[utoipa::path(patch, path = "/v1/calls/{call}/holds/{hold}", tag = "holds",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"), ("hold" = String, Path, description = "Hold id")),
    request_body = RenewRequest,
    responses((status = 200, description = "The hold with its new deadline", body = HoldView)))]
pub(in crate::control) async fn renew(
    State(api): State<Api>,
    InHold(call, hold): InHold,
    Extension(actor): Extension<Actor>,
    Json(request): Json<RenewRequest>,
) -> Result<Answer<HoldView>, Problem> {
    let ttl = checked_ttl(request.ttl_s)?;
    match api.calls.signal(Signal::RenewHold { call, hold, ttl, actor }).await? {
        Reply::Holds(holds) => holds.into_iter().next().map(Answer).ok_or_else(unexpected),
        _ => Err(unexpected()),
    }
}

/// Release a hold
///
/// Own holds; supervisors and admins any. The mask or pause ends when no hold of its kind is left.
#[utoipa::path(delete, path = "/v1/calls/{call}/holds/{hold}", tag = "holds",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"), ("hold" = String, Path, description = "Hold id")),
    responses((status = 204, description = "Released")))]
pub(in crate::control) async fn release(
    State(api): State<Api>,
    InHold(call, hold): InHold,
    Extension(actor): Extension<Actor>,
) -> Result<StatusCode, Problem> {
    match api.calls.signal(Signal::ReleaseHold { call, hold, actor }).await? {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unexpected()),
    }
}

pub(super) fn checked_ttl(ttl_s: Option<u32>) -> Result<Option<Duration>, Problem> {
    match ttl_s {
        Some(ttl) if !(1..=MOST_TTL).contains(&ttl) => {
            let detail = format!("ttl_s must be 1 to {MOST_TTL} seconds");
            Err(Problem::invalid(Blame::field(Part::Body, "ttl_s"), detail))
        }
        ttl => Ok(ttl.map(|ttl| Duration::from_secs(ttl.into()))),
    }
}

/// A reason goes into events and logs: it is bounded, one line, and holds no card number.
fn checked_reason(reason: String) -> Result<String, Problem> {
    let place = || Blame::field(Part::Body, "reason");
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(Problem::invalid(place(), format!("reason must have 1 to {MAX_REASON} characters")));
    }
    if reason.chars().any(char::is_control) {
        return Err(Problem::invalid(place(), "reason must be one line without control characters"));
    }
    if redact(&mut reason.as_bytes().to_vec()) > 0 {
        return Err(Problem::invalid(place(), "reason holds what looks like a card number; it would be kept in logs"));
    }
    Ok(reason.to_owned())
}
