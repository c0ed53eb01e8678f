//! `/v1/calls/{call}/panel`: an address for the agent's browser, good for one call and for a short time.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Actor, Signal};
use crate::control::Api;
use crate::control::extract::{InCall, Json};
use crate::control::panels::{LONGEST_LIFE, USUAL_LIFE};
use crate::control::problem::{Blame, Part, Problem};

/// What the panel may do, and how long.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"ttl_s": 900}))]
pub(in crate::control) struct PanelRequest {
    /// Seconds until the address is void; 900 when absent.
    #[schema(minimum = 1, maximum = 3600)]
    ttl_s: Option<u32>,
    /// Whether the agent may begin a payment and say its amount; else only steer what was begun through the API.
    may_begin: bool,
}

/// The panel's address.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct PanelAddress {
    /// Path of the page on this node, with all it needs in the fragment, which browsers send to nobody.
    #[schema(
        example = "/panel#call=call_5b43ab733cb8a27e81c498f53f44eafd&token=pnl_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"
    )]
    url: String,
    /// Seconds until it is void.
    expires_in_s: u64,
}

/// Open a panel
///
/// An address for the agent's browser, to be shown in a frame of the CRM: it follows this call and steers its payment,
/// nothing else, until its time is over or it is taken back. Show it to the agent of the call only.
#[utoipa::path(post, path = "/v1/calls/{call}/panel", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")), request_body = PanelRequest,
    responses((status = 201, description = "The address", body = PanelAddress)))]
pub(in crate::control) async fn open(
    State(api): State<Api>,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
    Json(request): Json<PanelRequest>,
) -> Result<(StatusCode, Answer<PanelAddress>), Problem> {
    let life = request.ttl_s.map_or(USUAL_LIFE, |s| Duration::from_secs(u64::from(s)));
    if life.is_zero() || life > LONGEST_LIFE {
        let detail = format!("ttl_s must be 1 to {}", LONGEST_LIFE.as_secs());
        return Err(Problem::invalid(Blame::field(Part::Body, "ttl_s"), detail));
    }
    api.calls.signal(Signal::Get { call }).await?;
    let token = api.access.open_panel((api.clock)(), actor, call, request.may_begin, life);
    let begin = if request.may_begin { "&begin=1" } else { "" };
    let url = format!("/panel#call={call}&token={token}{begin}");
    Ok((StatusCode::CREATED, Answer(PanelAddress { url, expires_in_s: life.as_secs() })))
}

/// Take panels back
///
/// Every panel of the call is void at once.
#[utoipa::path(delete, path = "/v1/calls/{call}/panel", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    responses((status = 204, description = "None is left")))]
pub(in crate::control) async fn close(State(api): State<Api>, InCall(call): InCall) -> StatusCode {
    api.access.close_panels(call);
    StatusCode::NO_CONTENT
}
