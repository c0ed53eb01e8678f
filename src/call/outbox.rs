//! What the engine has decided and the shell has not yet fetched: media orders, recorder orders, events, handovers,
//! each in the order of decision. Bounded by the work of one turn: the shell drains it after every `handle_*`.

use std::collections::VecDeque;
use std::time::Instant;

use super::RecordOrder;
use super::paying::Paying;
use super::payment_signal::PaymentView;
use crate::base::ids::CallId;
use crate::capture::Handover;
use crate::media::Command;
use crate::obs::event::EventKind;
use crate::psp::Charge;

/// Decisions on their way out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) media: VecDeque<Command>,
    pub(super) record: VecDeque<RecordOrder>,
    pub(super) events: VecDeque<(Option<CallId>, EventKind)>,
    pub(super) handovers: VecDeque<Handover>,
    pub(super) charges: VecDeque<Charge>,
    /// Payments that ended; the engine keeps what is shown of them.
    pub(super) payments_over: Vec<(Instant, PaymentView)>,
    /// Submitted payments whose call ended; the engine keeps them until they are answered.
    pub(super) orphans: Vec<Paying>,
}

impl Outbox {
    pub(super) fn media(&mut self, order: Command) {
        self.media.push_back(order);
    }

    pub(super) fn record(&mut self, order: RecordOrder) {
        self.record.push_back(order);
    }

    pub(super) fn event(&mut self, call: CallId, event: EventKind) {
        self.events.push_back((Some(call), event));
    }

    pub(super) fn handover(&mut self, handover: Handover) {
        self.handovers.push_back(handover);
    }
}
