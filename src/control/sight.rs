//! Who sees what of a payment. What a provider gave for a card is worth money to whoever holds our credentials there, and
//! how a site is connected to its provider is nobody's business who only talks to customers: both leave the node by
//! webhooks and to keys of systems, never to a browser. Events and views go in; what may be told of them comes out. Every
//! answer and every stream of the API passes here.
//!
//! | | `payment_token` | `payment_connector`, `connector` | the rest |
//! |---|---|---|---|
//! | integration | ✓ | ✓ | ✓ |
//! | admin, supervisor | | ✓ | ✓ |
//! | agent, auditor, panel | | | ✓ |

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::access::Pass;
use super::problem::Problem;
use crate::call::{CallView, PaymentView};
use crate::config::Role;
use crate::obs::event::{Event, EventKind, PaymentOutcome};

/// How much is told to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    tokens: bool,
    connectors: bool,
}

impl Sight {
    /// What the holder of `pass` sees. A panel is a browser, whoever drew it.
    pub fn of(pass: &Pass) -> Self {
        let (tokens, connectors) = match pass.actor.role {
            _ if pass.panel.is_some() => (false, false),
            Role::Integration => (true, true),
            Role::Admin | Role::Supervisor => (false, true),
            Role::Agent | Role::Auditor => (false, false),
        };
        Self { tokens, connectors }
    }

    /// The event as it may be told.
    pub fn event(self, event: &Event) -> Cow<'_, Event> {
        let mut seen = Cow::Borrowed(event);
        match &event.kind {
            EventKind::PaymentStarted { .. } if !self.connectors => {
                if let EventKind::PaymentStarted { connector, .. } = &mut seen.to_mut().kind {
                    connector.clear();
                }
            }
            EventKind::PaymentEnded { outcome, .. } | EventKind::PaymentReconciled { outcome, .. }
                if outcome.payment_token.is_some() && !self.tokens =>
            {
                if let EventKind::PaymentEnded { outcome, .. } | EventKind::PaymentReconciled { outcome, .. } =
                    &mut seen.to_mut().kind
                {
                    self.outcome(outcome);
                }
            }
            _ => {}
        }
        seen
    }

    /// The payment as it may be shown.
    pub fn payment(self, mut view: PaymentView) -> PaymentView {
        if !self.connectors {
            view.payment_connector.clear();
        }
        self.outcome(&mut view.outcome);
        view
    }

    /// The call as it may be shown.
    pub fn call(self, mut view: CallView) -> CallView {
        view.payment = view.payment.map(|payment| self.payment(payment));
        view
    }

    fn outcome(self, outcome: &mut PaymentOutcome) {
        if !self.tokens {
            outcome.payment_token = None;
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Sight {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Who came without a pass got no further than the guard.
        parts.extensions.get::<Pass>().map(Sight::of).ok_or_else(Problem::unauthenticated)
    }
}
