//! `/v1/calls/{call}/payments`: card and account numbers keyed by the caller, field by field as the agent asks for them,
//! and given to the payment provider. The API tells how many keys, never which.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::calls::unexpected;
use crate::call::{Actor, PaymentOrder, PaymentRequest, PaymentView, Reply, Signal};
use crate::control::Api;
use crate::control::extract::{InCall, InPayment, Json};
use crate::control::problem::{Blame, Part, Problem};
use crate::control::sight::Sight;
use crate::obs::payment::PaymentField;

/// What is to happen to a payment: a field is captured, or it is completed or cancelled.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"capture": "payment-card-number"}))]
pub(in crate::control) struct PaymentUpdate {
    /// The field that the caller keys next; what was keyed for it before is wiped.
    #[serde(default)]
    capture: Option<PaymentField>,
    /// `complete` submits it, `cancel` gives it up.
    #[serde(default)]
    status: Option<PaymentStatus>,
}

/// How a payment is to end.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::control) enum PaymentStatus {
    /// Submit it to the payment provider.
    Complete,
    /// Give it up; what was keyed is wiped.
    Cancel,
}

/// Payments, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::control) struct PaymentList {
    /// Payments.
    payments: Vec<PaymentView>,
}

/// Begin a payment
///
/// Takes a mask and a pause hold that nothing lifts before the payment is over. Then capture its fields, and complete
/// it. Progress comes as `payment-updated` events, one mark per key. The same `Idempotency-Key` with the same body gets
/// the same answer.
#[utoipa::path(post, path = "/v1/calls/{call}/payments", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"),
           ("Idempotency-Key" = Option<String>, Header, description = "A word that names this request")),
    request_body(content = PaymentRequest,
        example = json!({"charge_amount": "10.50", "currency": "USD", "postal_code": false})),
    responses((status = 201, description = "Open", body = PaymentView,
        headers(("Location" = String, description = "Path of the payment")))))]
pub(in crate::control) async fn start(
    State(api): State<Api>,
    sight: Sight,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
    Json(request): Json<PaymentRequest>,
) -> Result<Response, Problem> {
    let order = PaymentOrder::Start(Box::new(request));
    match api.calls.signal(Signal::Payment { call, order, actor }).await? {
        Reply::Payment(view) => {
            let location = format!("/v1/calls/{call}/payments/{}", view.id);
            let location = HeaderValue::try_from(location).map_err(|_| unexpected())?;
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(sight.payment(*view))).into_response())
        }
        _ => Err(unexpected()),
    }
}

/// List the payments of a call
///
/// Oldest first; also for a while after the call has ended.
#[utoipa::path(get, path = "/v1/calls/{call}/payments", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`")),
    responses((status = 200, description = "The payments", body = PaymentList)))]
pub(in crate::control) async fn list(
    State(api): State<Api>,
    sight: Sight,
    InCall(call): InCall,
    Extension(actor): Extension<Actor>,
) -> Result<Answer<PaymentList>, Problem> {
    match api.calls.signal(Signal::Payment { call, order: PaymentOrder::List, actor }).await? {
        Reply::Payments(payments) => {
            let payments = payments.into_iter().map(|payment| sight.payment(payment)).collect();
            Ok(Answer(PaymentList { payments }))
        }
        _ => Err(unexpected()),
    }
}

/// Show a payment
///
/// Also for a while after its call has ended.
#[utoipa::path(get, path = "/v1/calls/{call}/payments/{payment}", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"), ("payment" = String, Path, description = "Payment id")),
    responses((status = 200, description = "The payment", body = PaymentView)))]
pub(in crate::control) async fn get(
    State(api): State<Api>,
    sight: Sight,
    InPayment(call, payment): InPayment,
    Extension(actor): Extension<Actor>,
) -> Result<Answer<PaymentView>, Problem> {
    one(&api, sight, Signal::Payment { call, order: PaymentOrder::Get(payment), actor }).await
}

/// Capture a field, complete or cancel
///
/// Give `capture` or `status`. Fields are captured in any order, and again to correct them. `complete` needs all that
/// `required` names; the answer of the payment provider comes as a `payment-ended` event, or as `payment-updated` with
/// an `error_type` when a field must be keyed again. The same `Idempotency-Key` with the same body gets the same answer.
#[utoipa::path(post, path = "/v1/calls/{call}/payments/{payment}", tag = "payments",
    params(("call" = String, Path, description = "Call id, or a key of one call, such as `agent:214`"), ("payment" = String, Path, description = "Payment id"),
           ("Idempotency-Key" = Option<String>, Header, description = "A word that names this request")),
    request_body(content = PaymentUpdate),
    responses((status = 200, description = "The payment as it is now", body = PaymentView)))]
pub(in crate::control) async fn update(
    State(api): State<Api>,
    sight: Sight,
    InPayment(call, payment): InPayment,
    Extension(actor): Extension<Actor>,
    Json(update): Json<PaymentUpdate>,
) -> Result<Answer<PaymentView>, Problem> {
    let order = match (update.capture, update.status) {
        (Some(field), None) => PaymentOrder::Capture(payment, field),
        (None, Some(PaymentStatus::Complete)) => PaymentOrder::Complete(payment),
        (None, Some(PaymentStatus::Cancel)) => PaymentOrder::Cancel(payment),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::invalid(Blame::part(Part::Body), "give either capture or status"));
        }
    };
    one(&api, sight, Signal::Payment { call, order, actor }).await
}

async fn one(api: &Api, sight: Sight, signal: Signal) -> Result<Answer<PaymentView>, Problem> {
    match api.calls.signal(signal).await? {
        Reply::Payment(view) => Ok(Answer(sight.payment(*view))),
        _ => Err(unexpected()),
    }
}
