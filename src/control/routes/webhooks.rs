//! `/v1/webhooks`: who is told of events, what could not be delivered, and trying that again. Bodies are not shown: they
//! are for their receivers.

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::control::Api;
use crate::control::extract::Params;
use crate::control::problem::{Blame, Part, Problem};
use crate::control::webhooks::DeadLetter;

/// The most dead letters one answer holds.
const MOST: usize = 1_000;

/// A receiver of webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct Receiver {
    /// Its name.
    endpoint: String,
    /// Letters that wait for it or are on their way.
    waiting: usize,
    /// Dead letters to it.
    dead: usize,
}

/// Receivers of webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct ReceiverList {
    /// Receivers.
    endpoints: Vec<Receiver>,
}

/// Which dead letters are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::control) struct Wanted {
    /// Receiver.
    endpoint: Option<String>,
    /// Most letters wanted, 1–1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Dead letters, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct DeadLetterList {
    /// Dead letters.
    letters: Vec<DeadLetter>,
}

/// How many letters are tried again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct Replayed {
    /// Letters.
    replayed: usize,
}

/// List receivers of webhooks
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks",
    responses((status = 200, description = "The receivers", body = ReceiverList)))]
pub(in crate::control) async fn receivers(State(api): State<Api>) -> Answer<ReceiverList> {
    let schedule = api.webhooks.schedule();
    let dead = schedule.dead();
    let receiver = |(endpoint, waiting): (String, usize)| {
        let dead = dead.iter().filter(|letter| letter.endpoint == endpoint).count();
        Receiver { endpoint, waiting, dead }
    };
    Answer(ReceiverList { endpoints: schedule.receivers().into_iter().map(receiver).collect() })
}

/// List dead letters
///
/// What nobody took after every try, oldest first.
#[utoipa::path(get, path = "/v1/webhooks/dead", tag = "webhooks", params(Wanted),
    responses((status = 200, description = "Dead letters", body = DeadLetterList)))]
pub(in crate::control) async fn dead(
    State(api): State<Api>,
    Params(wanted): Params<Wanted>,
) -> Result<Answer<DeadLetterList>, Problem> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid(Blame::field(Part::Query, "limit"), format!("limit must be 1 to {MOST}")));
    }
    let mut letters = api.webhooks.schedule().dead();
    letters.retain(|letter| wanted.endpoint.as_ref().is_none_or(|endpoint| letter.endpoint == *endpoint));
    letters.truncate(limit);
    Ok(Answer(DeadLetterList { letters }))
}

/// Try a dead letter again
///
/// Under the same `webhook-id`, with all its tries before it.
#[utoipa::path(post, path = "/v1/webhooks/dead/{letter}", tag = "webhooks",
    params(("letter" = String, Path, description = "Dead letter")),
    responses((status = 202, description = "It is being tried")))]
pub(in crate::control) async fn replay(
    State(api): State<Api>,
    Path(letter): Path<String>,
) -> Result<StatusCode, Problem> {
    if !api.webhooks.schedule().replay((api.clock)(), &letter) {
        return Err(no_such_letter());
    }
    api.webhooks.wake();
    Ok(StatusCode::ACCEPTED)
}

/// Forget a dead letter
#[utoipa::path(delete, path = "/v1/webhooks/dead/{letter}", tag = "webhooks",
    params(("letter" = String, Path, description = "Dead letter")),
    responses((status = 204, description = "It is forgotten")))]
pub(in crate::control) async fn forget(
    State(api): State<Api>,
    Path(letter): Path<String>,
) -> Result<StatusCode, Problem> {
    if !api.webhooks.schedule().forget(&letter) {
        return Err(no_such_letter());
    }
    api.webhooks.wake();
    Ok(StatusCode::NO_CONTENT)
}

/// Try all dead letters of a receiver again
#[utoipa::path(post, path = "/v1/webhooks/{endpoint}/replay", tag = "webhooks",
    params(("endpoint" = String, Path, description = "Receiver")),
    responses((status = 202, description = "They are being tried", body = Replayed)))]
pub(in crate::control) async fn replay_all(
    State(api): State<Api>,
    Path(endpoint): Path<String>,
) -> Result<(StatusCode, Answer<Replayed>), Problem> {
    let replayed = api.webhooks.schedule().replay_all((api.clock)(), &endpoint).ok_or_else(|| {
        let detail = "no receiver of that name is configured";
        Problem::new(StatusCode::NOT_FOUND, "no-such-endpoint", "No such receiver", detail)
            .at(Blame::field(Part::Path, "endpoint"))
    })?;
    api.webhooks.wake();
    Ok((StatusCode::ACCEPTED, Answer(Replayed { replayed })))
}

fn no_such_letter() -> Problem {
    let detail = "no dead letter of that name; it may have been delivered or forgotten";
    Problem::new(StatusCode::NOT_FOUND, "no-such-letter", "No such letter", detail)
        .at(Blame::field(Part::Path, "letter"))
}
