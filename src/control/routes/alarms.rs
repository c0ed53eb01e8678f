//! `/v1/alarms`: what is wrong and wants a human.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json as Answer};

use crate::call::Actor;
use crate::control::Api;
use crate::control::alarms::{AlarmList, SettleError};
use crate::control::problem::{Blame, Part, Problem};

/// List alarms
///
/// What is wrong now and what to do about it, critical ones first, and the last hundred that are over. Changes are also
/// told by the events `alarm-raised` and `alarm-cleared`.
#[utoipa::path(get, path = "/v1/alarms", tag = "system",
    responses((status = 200, description = "The alarms", body = AlarmList)))]
pub(in crate::control) async fn list(State(api): State<Api>) -> Answer<AlarmList> {
    Answer(api.alarms.list())
}

/// Settle an alarm
///
/// Clears an alarm that somebody has dealt with. Only those with `by_hand`; others end when their cause does.
#[utoipa::path(delete, path = "/v1/alarms/{alarm}", tag = "system",
    params(("alarm" = String, Path, description = "Alarm id")),
    responses((status = 204, description = "It is settled")))]
pub(in crate::control) async fn settle(
    State(api): State<Api>,
    Path(alarm): Path<String>,
    Extension(actor): Extension<Actor>,
) -> Result<StatusCode, Problem> {
    let place = || Blame::field(Part::Path, "alarm");
    api.alarms.settle(&alarm, &format!("key:{}", actor.name)).map_err(|error| match error {
        SettleError::NoSuchAlarm => {
            Problem::new(StatusCode::NOT_FOUND, "no-such-alarm", "No such alarm", error.to_string()).at(place())
        }
        SettleError::EndsByItself => {
            Problem::new(StatusCode::CONFLICT, "alarm-lasts", "Alarm lasts", error.to_string()).at(place())
        }
    })?;
    Ok(StatusCode::NO_CONTENT)
}
