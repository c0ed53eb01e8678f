//! `/v1/calls`: list, find, show, hang up.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::call::{Actor, CallView, Find, Reply, Signal};
use crate::control::Api;
use crate::control::extract::{InCall, Params};
use crate::control::problem::{Blame, Part, Problem};
use crate::control::sight::Sight;

/// The most calls one answer holds.
const MOST: usize = 1_000;

/// Which calls are wanted. All conditions that are given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::control) struct Wanted {
    /// Tonewall's id of the call.
    id: Option<String>,
    /// SIP Call-ID of either leg.
    sip_call_id: Option<String>,
    /// The agent's extension.
    agent: Option<String>,
    /// The caller's number.
    caller: Option<String>,
    /// `User-to-User` of either side: its data, the text that it is the hex of, or its UCID in hex or as twenty digits.
    user_to_user: Option<String>,
    /// Value of the trunk's `call_header`.
    reference: Option<String>,
    /// Most calls wanted, 1–1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Calls, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct CallList {
    /// Calls.
    calls: Vec<CallView>,
}

/// List and find calls
///
/// Calls in progress, oldest first. Without conditions: all.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(Wanted),
    responses((status = 200, description = "The calls that match", body = CallList)))]
pub(in crate::control) async fn list(
    State(api): State<Api>,
    sight: Sight,
    Params(wanted): Params<Wanted>,
) -> Result<Answer<CallList>, Problem> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(Blame::field(Part::Query, "limit"), format!("limit must be 1 to {MOST}")));
    }
    // What is no id of ours is no call's.
    let Ok(id) = wanted.id.map(|id| id.parse()).transpose() else { return Ok(Answer(CallList { calls: Vec::new() })) };
    let find = Find {
        id,
        sip_call_id: wanted.sip_call_id,
        agent: wanted.agent,
        caller: wanted.caller,
        user_to_user: wanted.user_to_user,
        reference: wanted.reference,
    };
    match api.calls.signal(Signal::Find { find, limit }).await? {
        Reply::Calls(calls) => {
            let calls = calls.into_iter().map(|call| sight.call(call)).collect();
            Ok(Answer(CallList { calls }))
        }
        _ => Err(unexpected()),
    }
}

/// Show a call
#[utoipa::path(get, path = "/v1/calls/{call}", tag = "calls", params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    responses((status = 200, description = "The call", body = CallView)))]
pub(in crate::control) async fn get(
    State(api): State<Api>,
    sight: Sight,
    InCall(call): InCall,
) -> Result<Answer<CallView>, Problem> {
    match api.calls.signal(Signal::Get { call }).await? {
        Reply::Call(view) => Ok(Answer(sight.call(*view))),
        _ => Err(unexpected()),
    }
}

/// Hang up
///
/// Ends the call on both legs. What a collection had gathered is wiped.
#[utoipa::path(delete, path = "/v1/calls/{call}", tag = "calls",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    responses((status = 204, description = "The call is being ended")))]
pub(in crate::control) async fn hang_up(
    State(api): State<Api>,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
) -> Result<StatusCode, Problem> {
    match api.calls.signal(Signal::HangUp { call, actor }).await? {
        Reply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unexpected()),
    }
}

/// The engine answered something else than was asked: a fault of ours.
pub(in crate::control) fn unexpected() -> Problem {
    let detail = "the engine's answer does not fit the request; this is a fault of Tonewall";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
}
