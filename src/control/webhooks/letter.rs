//! One event on its way to one receiver, as it is sent and as it is kept.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::time::WallMs;
use crate::obs::event::Event;

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "reason", content = "status")]
pub enum Failure {
    /// The receiver answered, but not with 2xx. Redirects are not followed.
    Status(u16),
    /// Its name has no address.
    NoAddress,
    /// Its address is private, loopback, link-local or our own, and that is not allowed.
    AddressForbidden,
    /// No connection, or it broke off.
    NoConnection,
    /// Its certificate is not trusted.
    Untrusted,
    /// It did not answer in time.
    Timeout,
    /// Too many letters waited for it.
    Overflow,
}

/// A letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Letter {
    /// Name of the receiver.
    pub endpoint: String,
    /// `webhook-id`: the same on every try, another for each event.
    pub id: String,
    /// Type of the event.
    pub kind: String,
    /// When the event happened.
    pub at_ms: WallMs,
    /// What is sent.
    pub body: String,
    /// Tries so far.
    pub tries: u32,
    /// Why the last one failed.
    pub last: Option<Failure>,
    /// Nobody tries any more.
    pub dead: bool,
}

/// The body of a webhook.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: &'a Event,
}

impl Letter {
    /// A letter about `event`, whose id in the event log is `id`.
    pub fn new(endpoint: &str, id: &str, kind: &str, event: &Event) -> Self {
        let body = Body { kind, timestamp: event.at_ms.rfc3339(), data: event };
        Self {
            endpoint: endpoint.to_owned(),
            id: format!("evt_{id}"),
            kind: kind.to_owned(),
            at_ms: event.at_ms,
            body: serde_json::to_string(&body).unwrap_or_default(),
            tries: 0,
            last: None,
            dead: false,
        }
    }

    /// What names it in the API and on disk: safe as a file name, because both parts are.
    pub fn name(&self) -> String {
        format!("{}~{}", self.endpoint, self.id)
    }
}

/// A letter that nobody tries any more, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Letter.
    #[schema(example = "crm~evt_1795305600000.42")]
    pub id: String,
    /// Receiver.
    pub endpoint: String,
    /// Its `webhook-id`.
    pub webhook_id: String,
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the event happened, in milliseconds since 1970-01-01 UTC.
    #[schema(value_type = u64)]
    pub at_ms: WallMs,
    /// Tries.
    pub tries: u32,
    /// Why the last one failed.
    pub last: Option<Failure>,
}

impl From<&Letter> for DeadLetter {
    fn from(letter: &Letter) -> Self {
        Self {
            id: letter.name(),
            endpoint: letter.endpoint.clone(),
            webhook_id: letter.id.clone(),
            kind: letter.kind.clone(),
            at_ms: letter.at_ms,
            tries: letter.tries,
            last: letter.last,
        }
    }
}
