//! `/v1/trunks`: how the peers are.

use axum::Json as Answer;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::calls::unexpected;
use crate::call::{Reply, Signal, TrunkView};
use crate::control::Api;
use crate::control::problem::Problem;

/// Trunks, in the order of the configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct TrunkList {
    /// Trunks.
    trunks: Vec<TrunkView>,
}

/// List trunks
///
/// Each trunk's state, calls, limits, targets and registration.
#[utoipa::path(get, path = "/v1/trunks", tag = "system",
    responses((status = 200, description = "The trunks", body = TrunkList)))]
pub(in crate::control) async fn list(State(api): State<Api>) -> Result<Answer<TrunkList>, Problem> {
    match api.calls.signal(Signal::Trunks).await? {
        Reply::Trunks(trunks) => Ok(Answer(TrunkList { trunks })),
        _ => Err(unexpected()),
    }
}
