//! `/v1/calls/{call}/collections`: gathering digits. The API tells how many, never which.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};

use super::calls::unexpected;
use crate::call::{Actor, CollectionRequest, CollectionView, Reply, Signal};
use crate::control::Api;
use crate::control::extract::{InCall, InCollection, Json};
use crate::control::problem::Problem;

/// Start a collection
///
/// Takes a mask and a pause hold, gathers what the customer keys, and hands the digits to the configured recipient.
/// Progress comes as `collection-progress` events, one mark per key. Give `length`, or `min` and `max`.
#[utoipa::path(post, path = "/v1/calls/{call}/collections", tag = "collections",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    request_body(content = CollectionRequest, example = json!({"length": 16, "terminator": "#"})),
    responses((status = 201, description = "Open", body = CollectionView,
        headers(("Location" = String, description = "Path of the collection")))))]
pub(in crate::control) async fn start(
    State(api): State<Api>,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
    Json(request): Json<CollectionRequest>,
) -> Result<Response, Problem> {
    match api.calls.signal(Signal::StartCollection { call, request, actor }).await? {
        Reply::Collection(view) => {
            let location = format!("/v1/calls/{call}/collections/{}", view.id);
            let location = HeaderValue::try_from(location).map_err(|_| unexpected())?;
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(view)).into_response())
        }
        _ => Err(unexpected()),
    }
}

/// Show a collection
#[utoipa::path(get, path = "/v1/calls/{call}/collections/{collection}", tag = "collections",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"),
           ("collection" = String, Path, description = "Collection id")),
    responses((status = 200, description = "How far it is", body = CollectionView)))]
pub(in crate::control) async fn get(
    State(api): State<Api>,
    InCollection(call, collection): InCollection,
) -> Result<Answer<CollectionView>, Problem> {
    match api.calls.signal(Signal::GetCollection { call, collection }).await? {
        Reply::Collection(view) => Ok(Answer(view)),
        _ => Err(unexpected()),
    }
}

/// Cancel a collection
///
/// What was keyed is wiped, and the collection's holds are released.
#[utoipa::path(delete, path = "/v1/calls/{call}/collections/{collection}", tag = "collections",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"),
           ("collection" = String, Path, description = "Collection id")),
    responses((status = 200, description = "The collection as it ended", body = CollectionView)))]
pub(in crate::control) async fn cancel(
    State(api): State<Api>,
    InCollection(call, collection): InCollection,
    Extension(actor): Extension<Actor>,
) -> Result<Answer<CollectionView>, Problem> {
    match api.calls.signal(Signal::CancelCollection { call, collection, actor }).await? {
        Reply::Collection(view) => Ok(Answer(view)),
        _ => Err(unexpected()),
    }
}
