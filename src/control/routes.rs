//! The endpoints. One file per subject; this one says what there is.

pub(super) mod alarms;
pub(super) mod calls;
pub(super) mod collections;
pub(super) mod events;
pub(super) mod health;
pub(super) mod holds;
pub(super) mod panels;
pub(super) mod payments;
pub(super) mod recorders;
pub(super) mod recordings;
pub(super) mod sound;
pub(super) mod system;
pub(super) mod trunks;
pub(super) mod webhooks;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

/// Endpoints that want a key (`control::access::ENDPOINTS`).
pub(super) fn closed() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(calls::list))
        .routes(routes!(calls::get, calls::hang_up))
        .routes(routes!(holds::list, holds::take))
        .routes(routes!(holds::renew, holds::release))
        .routes(routes!(collections::start))
        .routes(routes!(collections::get, collections::cancel))
        .routes(routes!(payments::list, payments::start))
        .routes(routes!(payments::get, payments::update))
        .routes(routes!(panels::open, panels::close))
        .routes(routes!(events::of_call))
        .routes(routes!(events::all))
        .routes(routes!(events::ticket))
        .routes(routes!(webhooks::receivers))
        .routes(routes!(webhooks::dead))
        .routes(routes!(webhooks::replay, webhooks::forget))
        .routes(routes!(webhooks::replay_all))
        .routes(routes!(trunks::list))
        .routes(routes!(health::node))
        .routes(routes!(health::recorders))
        .routes(routes!(alarms::list))
        .routes(routes!(alarms::settle))
        .routes(routes!(recorders::of_call))
        .routes(routes!(recorders::steer))
        .routes(routes!(recordings::search))
        .routes(routes!(recordings::get, recordings::label, recordings::destroy))
        .routes(routes!(recordings::hold, recordings::release))
        .routes(routes!(sound::access))
        .routes(routes!(sound::waveform))
        .routes(routes!(sound::audio))
        .routes(routes!(sound::export))
        .routes(routes!(system::me))
        .routes(routes!(system::metrics))
}

/// Endpoints open to all: they tell nothing of any call.
pub(super) fn open() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(system::health)).routes(routes!(system::ready)).routes(routes!(system::openapi))
}
