//! What is kept of a payment on disk, before each step that could charge: enough to ask what became of it after a crash,
//! and never a digit.

use std::collections::BTreeMap;

use super::{Failure, Operation, Outcome};
use crate::base::ids::PaymentId;
use crate::base::time::WallMs;

/// One attempt at a payment, as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The payment.
    pub payment: PaymentId,
    /// The attempt.
    pub attempt: u32,
    /// Name of the connector.
    pub connector: String,
    /// What was to be done.
    pub operation: Operation,
    /// How far it has come.
    pub state: State,
    /// The provider's name for it.
    pub reference: Option<String>,
    /// What the connector took from answers for later steps.
    pub values: BTreeMap<String, String>,
    /// When it was submitted.
    pub since: WallMs,
    /// Whether the store has it already.
    pub stored: bool,
}

/// How far an attempt has come.
///
/// ```text
///   open ──► committing ──► done
///              │              ▲
///              └──► unknown ──┘
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing that could charge was sent.
    Open,
    /// A request that charges may have been sent.
    Committing,
    /// One was sent and its answer is lost: the provider is asked.
    Unknown,
    /// It is over.
    Done(Ending),
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Approved.
    Approved,
    /// Declined.
    Declined,
    /// A field is to be captured anew.
    ReEnter,
    /// Not made, for this reason.
    Failed(Failure),
}

impl State {
    /// Its word in the store.
    pub fn word(&self) -> &'static str {
        match self {
            State::Open => "open",
            State::Committing => "committing",
            State::Unknown => "unknown",
            State::Done(Ending::Approved) => "approved",
            State::Done(Ending::Declined) => "declined",
            State::Done(Ending::ReEnter) => "re-enter",
            State::Done(Ending::Failed(_)) => "failed",
        }
    }

    /// Whether more is to come.
    pub fn is_open(&self) -> bool {
        !matches!(self, State::Done(_))
    }
}

impl Ending {
    pub(super) fn of(outcome: &Outcome) -> Ending {
        match outcome {
            Outcome::Approved { .. } => Ending::Approved,
            Outcome::Declined { .. } => Ending::Declined,
            Outcome::ReEnter { .. } => Ending::ReEnter,
            Outcome::Failed { reason } => Ending::Failed(*reason),
            // Not an ending; the caller never asks.
            Outcome::Unknown => Ending::Failed(Failure::Internal),
        }
    }
}
