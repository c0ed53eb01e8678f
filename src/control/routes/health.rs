//! `/v1/node` and `/v1/recorders`: how the node and its recorders are.

use axum::Json as Answer;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::calls::unexpected;
use crate::call::{Reply, Signal};
use crate::control::Api;
use crate::control::health::{NodeState, RecorderView, Standing};
use crate::control::problem::Problem;

/// The node.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct NodeView {
    /// Its name.
    name: String,
    /// Program version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Whether it takes calls.
    state: NodeState,
    /// Milliseconds since it started.
    up_ms: u64,
    /// Calls now.
    calls: u64,
    /// The most calls at once.
    max_calls: u32,
    /// Calls whose customer's digits are masked now.
    masked: u64,
    /// Event streams open now.
    event_streams: u64,
    /// SIP messages dropped since the start because too many came.
    shed: u64,
}

/// Recorders.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct RecorderList {
    /// Recorders.
    recorders: Vec<RecorderView>,
}

/// Show the node
///
/// Whether it takes calls, how many there are, and what it had to drop.
#[utoipa::path(get, path = "/v1/node", tag = "system",
    responses((status = 200, description = "The node", body = NodeView)))]
pub(in crate::control) async fn node(State(api): State<Api>) -> Answer<NodeView> {
    let Standing { state, up_ms, max_calls, shed } = api.calls.standing();
    let (calls, masked, event_streams) = api.metrics.now();
    let (name, version) = (api.node.clone(), env!("CARGO_PKG_VERSION"));
    Answer(NodeView { name, version, state, up_ms, calls, max_calls, masked, event_streams, shed })
}

/// List recorders
///
/// Sealed files: what they hold, how far behind they are, what they lost. SIPREC recorders: their sessions, the calls that go
/// without, their targets and last fault.
#[utoipa::path(get, path = "/v1/recorders", tag = "system",
    responses((status = 200, description = "The recorders", body = RecorderList)))]
pub(in crate::control) async fn recorders(State(api): State<Api>) -> Result<Answer<RecorderList>, Problem> {
    let mut recorders = api.calls.recorders();
    match api.calls.signal(Signal::Recorders).await? {
        Reply::Recorders(siprec) => recorders.extend(siprec.into_iter().map(RecorderView::from)),
        _ => return Err(unexpected()),
    }
    Ok(Answer(RecorderList { recorders }))
}
