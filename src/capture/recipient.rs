//! Who the digits of a finished collection go to. They leave this node's hands here and nowhere else.

use super::Handover;

/// Who gets the digits of finished collections. Called on the engine's task: it must take them and return.
pub trait Recipient: Send {
    /// Takes the digits; they are wiped when `handover` is dropped.
    fn receive(&mut self, handover: Handover);
}

/// The recipient of a node without a payment provider: digits have been counted and checked, and are wiped.
pub struct Discard;

impl Recipient for Discard {
    fn receive(&mut self, handover: Handover) {
        drop(handover);
    }
}
