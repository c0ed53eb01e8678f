//! `/v1/calls/{call}/recorders`: a call's SIPREC recorders, each paused and stopped by itself.

use axum::extract::State;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::calls::unexpected;
use super::holds::checked_ttl;
use crate::call::{Actor, LineView, Reply, Signal, Steer};
use crate::control::Api;
use crate::control::extract::{InCall, InRecorder, Json};
use crate::control::problem::Problem;

/// The SIPREC recorders of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct LineList {
    /// Recorders, in the order of the configuration.
    recorders: Vec<LineView>,
}

/// What is to become of a recorder on a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"action": "pause", "ttl_s": 120}))]
pub(in crate::control) struct SteerRequest {
    /// `pause`, `resume`, `stop` or `start`.
    action: Steer,
    /// Seconds until a pause ends unless renewed; the trunk's default when absent, shortened to its maximum.
    #[schema(minimum = 1, maximum = 86400)]
    ttl_s: Option<u32>,
}

/// List a call's recorders
///
/// How far each SIPREC recorder's session is.
#[utoipa::path(get, path = "/v1/calls/{call}/recorders", tag = "recorders",
    params(("call" = String, Path, description = "Call id")),
    responses((status = 200, description = "The call's recorders", body = LineList)))]
pub(in crate::control) async fn of_call(
    State(api): State<Api>,
    InCall(call): InCall,
) -> Result<Answer<LineList>, Problem> {
    match api.calls.signal(Signal::CallRecorders { call }).await? {
        Reply::Lines(recorders) => Ok(Answer(LineList { recorders })),
        _ => Err(unexpected()),
    }
}

/// Steer a call's recorder
///
/// Pauses, resumes, stops or starts one recorder. A pause cuts the sound before the recorder is told, and is in force when
/// the answer arrives. Pause holds of the call stay in force whatever is asked here.
#[utoipa::path(post, path = "/v1/calls/{call}/recorders/{recorder}", tag = "recorders",
    params(("call" = String, Path, description = "Call id"),
        ("recorder" = String, Path, description = "Name of the recorder")),
    request_body = SteerRequest,
    responses((status = 200, description = "The call's recorders", body = LineList)))]
pub(in crate::control) async fn steer(
    State(api): State<Api>,
    InRecorder(call, recorder): InRecorder,
    Extension(actor): Extension<Actor>,
    Json(request): Json<SteerRequest>,
) -> Result<Answer<LineList>, Problem> {
    let ttl = checked_ttl(request.ttl_s)?;
    let wish = request.action;
    match api.calls.signal(Signal::SteerRecorder { call, recorder, wish, ttl, actor }).await? {
        Reply::Lines(recorders) => Ok(Answer(LineList { recorders })),
        _ => Err(unexpected()),
    }
}
