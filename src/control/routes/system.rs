//! Health, readiness, metrics, the API's description, and who a key is.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::Actor;
use crate::control::access::{Right, allows, role_name};
use crate::control::problem::Problem;
use crate::control::{Api, openapi, typed};

/// A sign of life.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// Node name.
    node: String,
    /// Program version.
    #[schema(example = "0.1.0")]
    version: &'static str,
}

/// Who a key is and what it may do.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct Me {
    /// Name of the key; holds are owned by `key:<name>`.
    name: String,
    /// Role.
    #[schema(example = "supervisor")]
    role: &'static str,
    /// What the role may do, in words.
    may: Vec<&'static str>,
    /// Node name.
    node: String,
}

/// Sign of life
///
/// Answers as long as the process does.
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = 200, description = "Alive", body = Health)))]
pub(in crate::control) async fn health(State(api): State<Api>) -> Answer<Health> {
    Answer(Health { status: "ok", node: api.node.clone(), version: env!("CARGO_PKG_VERSION") })
}

/// Readiness
///
/// 200 while new calls are taken; 503 while the node starts or drains.
#[utoipa::path(get, path = "/ready", tag = "system", security(()),
    responses((status = 200, description = "Takes new calls", body = Health),
              (status = 503, description = "Does not, and says why", body = Problem,
               content_type = "application/problem+json")))]
pub(in crate::control) async fn ready(State(api): State<Api>) -> Result<Answer<Health>, Problem> {
    match api.calls.ready() {
        Ok(()) => Ok(health(State(api)).await),
        Err(why) => Err(Problem::unavailable(&why)),
    }
}

/// Metrics
///
/// OpenMetrics text for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text")))]
pub(in crate::control) async fn metrics(State(api): State<Api>) -> Response {
    api.calls.refresh(&api.metrics);
    typed("application/openmetrics-text; version=1.0.0; charset=utf-8", api.metrics.print())
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")))]
pub(in crate::control) async fn openapi() -> Response {
    Answer(openapi::document()).into_response()
}

/// Who am I
///
/// Name and role of the key in the Authorization header.
#[utoipa::path(get, path = "/v1/me", tag = "system",
    responses((status = 200, description = "The key", body = Me)))]
pub(in crate::control) async fn me(State(api): State<Api>, Extension(actor): Extension<Actor>) -> Answer<Me> {
    let may = Right::ALL.into_iter().filter(|right| allows(actor.role, *right)).map(Right::words).collect();
    Answer(Me { role: role_name(actor.role), name: actor.name, may, node: api.node.clone() })
}
