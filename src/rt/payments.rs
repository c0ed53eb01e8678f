//! The gateway of a node without a payment provider: every charge is answered at once, as not made.

use tokio::sync::mpsc;

use crate::psp::{Answer, Charge, Failure, Gateway, Outcome};

/// Takes charges and makes none.
pub(super) struct NoProvider(pub(super) mpsc::UnboundedSender<Answer>);

impl Gateway for NoProvider {
    fn submit(&mut self, charge: Charge) {
        let outcome = Outcome::Failed { reason: Failure::NoConnector };
        // The engine is gone only when the node is; then nobody asks any more.
        let _ = self.0.send(Answer { payment: charge.payment, attempt: charge.attempt, outcome });
    }
}
